"""Figures of guidance in nats: its rate over log SNR, and what it adds up to."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from reschrom.plots._axes import band_colours
from reschrom.plots._figure import INK, PAPER, WIDTH, Figure, styled
from reschrom.theory.bands import band_names
from reschrom.theory.information import Information

Values = Float[np.ndarray, " values"]


@styled
def nats(told: Information, log_snr: Values, direct: Values, limit: float, title: str) -> Figure:
    """Draw nats per unit of log SNR beside what they add up to, resolutions stacked, coarse below.

    log_snr, direct: what is told by then, known in another way.
    limit: all that there is to tell.
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    rate, area = figure.subplots(1, 2)
    _stacked_rates(rate, told)
    names, colours, order = band_names(told.size), band_colours(told.size), range(len(told.rates))[::-1]
    area.stackplot(told.log_snr, told.gained[::-1], colors=[colours[m] for m in order], linewidth=0)
    area.plot(log_snr, direct, "o", color="white", markeredgecolor=INK["measured"], markersize=5)
    area.axhline(limit, color=INK["paper"], linestyle=PAPER, linewidth=1.4)
    area.text(told.log_snr[0], limit, r" $-\log p(c)$", color=INK["paper"], va="bottom", fontsize=10)
    area.set_ylabel("nats told so far")
    area.set_ylim(0, 1.12 * limit)
    for axes in (rate, area):
        axes.set_xlim(told.log_snr[0], told.log_snr[-1])
        axes.set_xlabel("log SNR   (noise left, image right)")
    rate.legend([Patch(color=colours[m]) for m in order[::-1]], names, loc="upper right")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def _stacked_rates(axes: Axes, told: Information) -> None:
    colours = band_colours(told.size)
    below = np.zeros(told.rates.shape[1])
    for m in range(len(told.rates))[::-1]:
        axes.stairs(below + told.rates[m], told.log_snr, baseline=below, fill=True, color=colours[m])
        below = below + told.rates[m]
    axes.set_ylabel("nats per unit of log SNR")
    axes.set_ylim(0, None)
