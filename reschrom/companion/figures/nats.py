"""Figures of guidance in nats: its rate over log SNR, and what it adds up to."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from reschrom.plots._axes import band_colours
from reschrom.plots._figure import INK, MEASURED, NARROW, PAPER, THEORY, Figure, styled
from reschrom.theory.bands import band_names
from reschrom.theory.information import Information

Values = Float[np.ndarray, " values"]
Lines = Mapping[str, tuple[str, Any, Values, Values, tuple[Values, Values] | None]]


@styled
def nats(told: Information, log_snr: Values, direct: Values, limit: float, title: str) -> Figure:
    """Draw nats per unit of log SNR above what they add up to, resolutions stacked, the coarsest at the bottom.

    log_snr, direct: what is told by then, known in another way.
    limit: all that there is to tell.
    """
    figure = Figure(figsize=(NARROW, 5.6))
    rate, area = figure.subplots(2, 1, sharex=True)
    _stacked_rates(rate, told)
    names, colours, order = band_names(told.size), band_colours(told.size), range(len(told.rates))[::-1]
    area.stackplot(told.log_snr, told.gained[::-1], colors=[colours[m] for m in order], linewidth=0)
    area.plot(log_snr, direct, "o", color="white", markeredgecolor=INK["measured"], markersize=5)
    area.axhline(limit, color=INK["paper"], linestyle=PAPER, linewidth=1.4)
    area.text(told.log_snr[0], limit, r" $-\log p(c)$", color=INK["paper"], va="bottom", fontsize=10)
    area.set_ylabel("nats told so far")
    area.set_ylim(0, 1.12 * limit)
    area.set_xlim(told.log_snr[0], told.log_snr[-1])
    area.set_xlabel("log SNR   (noise left, image right)")
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


@styled
def limit_passed(lines: Lines, doubts: Mapping[str, tuple[Values, Values]], limit: float, title: str) -> Figure:
    """Draw what is told of a caption against all there is to tell, and below it what is left in doubt.

    lines: label -> colour and style, log SNRs, the nats told by then, and their interval or None.
    doubts: label -> log SNRs, and the nats of doubt that are left; none leaves that panel out.
    limit: all there is to tell; infinite where that is not known.
    """
    figure = Figure(figsize=(NARROW, 6.0 if doubts else 3.2))
    heights = [3, 2] if doubts else [1]
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    _told_so_far(panels[0], lines, limit)
    panels[0].legend(loc="upper left", fontsize=8, frameon=True, framealpha=0.92, edgecolor="none")
    if np.isfinite(limit):
        panels[0].set_ylim(0, 3 * limit)
    for (label, (log_snr, nats_left)), style in zip(doubts.items(), (MEASURED, PAPER, THEORY), strict=False):
        panels[-1].plot(log_snr, nats_left, color=INK["measured"], linestyle=style, label=label)
        panels[-1].set_ylim(0, None)
        panels[-1].set_ylabel("nats of doubt left")
        panels[-1].legend(loc="upper right", fontsize=8)
    panels[-1].set_xlim(*_ends(lines))
    panels[-1].set_xlabel("log SNR   (noise left, image right)")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


@styled
def limits_compared(models: Mapping[str, tuple[Lines, float]], title: str) -> Figure:
    """Draw what is told of a caption by several models, one below the other on the same axes, each against its limit.

    models: name -> lines and limit, as for `limit_passed`.
    """
    figure = Figure(figsize=(NARROW, 0.6 + 2.5 * len(models)))
    panels = figure.subplots(len(models), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for panel, (name, (lines, limit)) in zip(panels, models.items(), strict=True):
        _told_so_far(panel, lines, limit)
        panel.set_title(name, loc="left", fontsize=10)
    ends = [_ends(lines) for lines, _ in models.values()]
    panels[0].set_xlim(min(first for first, _ in ends), max(last for _, last in ends))
    panels[0].set_ylim(0, None)
    panels[0].legend(loc="upper left", fontsize=8, frameon=True, framealpha=0.92, edgecolor="none")
    panels[-1].set_xlabel("log SNR   (noise left, image right)")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def _ends(lines: Lines) -> tuple[float, float]:
    log_snr = next(iter(lines.values()))[2]
    return float(log_snr[0]), float(log_snr[-1])


def _told_so_far(axes: Axes, lines: Lines, limit: float) -> None:
    for label, (ink, style, log_snr, nats_told, interval) in lines.items():
        axes.plot(log_snr, nats_told, color=INK[ink], linestyle=style, linewidth=1.6, label=label)
        if interval is not None:
            axes.fill_between(log_snr, *interval, color=INK[ink], alpha=0.2, linewidth=0)
    if np.isfinite(limit):
        axes.axhline(limit, color=INK["paper"], linestyle=PAPER, linewidth=1.4)
        axes.text(_ends(lines)[0], 1.03 * limit, " all there is to tell", color=INK["paper"], va="bottom", fontsize=9)
    axes.set_ylabel("nats told so far")
