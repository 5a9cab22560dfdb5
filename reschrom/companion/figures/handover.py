"""What drawing coarse first changes, by the time of its turning point."""

import numpy as np
from jaxtyping import Float

from reschrom.plots._axes import band_colours, time_axis
from reschrom.plots._figure import MEASURED, THEORY, WIDTH, Figure, styled
from reschrom.theory.bands import band_names

Times = Float[np.ndarray, " times"]
Changes = Float[np.ndarray, "times bands"]


@styled
def handover_by_time(times: Times, predicted: Changes, simulated: Changes, pixels: Times, title: str) -> Figure:
    """Draw the change of every band's standard deviation, predicted and simulated, above the pixels that remain.

    times: of the turning points. predicted, simulated: shares of the standard deviation, bands finest first.
    pixels: that the network sees, as a share of the plain run's.
    """
    figure = Figure(figsize=(min(WIDTH, 5.2), 5.2))
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    names = band_names(2 ** (predicted.shape[1] - 1))
    colours = band_colours(2 ** (predicted.shape[1] - 1))
    for band, name, colour in zip(range(len(names) - 1), names, colours, strict=False):
        top.plot(times, 100 * predicted[:, band], color=colour, linestyle=THEORY)
        top.plot(times, 100 * simulated[:, band], color=colour, linestyle="", marker="o", markersize=5, label=name)
    top.set_ylabel("change of the band's\nstandard deviation (%)")
    top.legend(title="dots: simulated", fontsize=8.5, title_fontsize=8.5)
    below.plot(times, pixels, color="#444444", linestyle=MEASURED, marker="o", markersize=4)
    below.set_ylabel("pixels seen")
    below.set_ylim(0, 1)
    time_axis(below, float(times.min()), float(times.max()), "turning point   (noise on the left, image on the right)")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure
