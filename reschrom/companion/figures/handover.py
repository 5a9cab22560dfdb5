"""What drawing coarse first changes: by the time of its turning point, and in every band."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from reschrom.plots._axes import band_axis, band_colours, time_axis
from reschrom.plots._figure import INK, MEASURED, NARROW, THEORY, WIDTH, Figure, styled
from reschrom.theory.bands import band_names
from reschrom.theory.intervals import Interval

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


@styled
def handover_by_band(
    measured: Mapping[str, tuple[Float[np.ndarray, " bands"], Interval]],
    expected: Float[np.ndarray, " bands"],
    names: Sequence[str],
    title: str,
) -> Figure:
    """Draw the change of every band's standard deviation, the coarsest band at the bottom.

    measured: label -> change of every band, as a share of its standard deviation, with its interval.
    expected: how large it may be either way, for exact denoisers.
    names: of the bands, finest first.
    """
    figure = Figure(figsize=(NARROW, 3.9))
    axes = figure.subplots()
    rows = np.arange(len(names))[::-1]
    limits = 100 * expected
    axes.barh(rows, 2 * limits, left=-limits, height=0.8, color=INK["gaussian"], alpha=0.22, label="expected, at most")
    above = 0.2 * (np.arange(len(measured))[::-1] - (len(measured) - 1) / 2)
    looks = zip(measured.items(), (INK["measured"], INK["guidance"]), above, "os", strict=False)
    for (name, (change, interval)), colour, beside, marker in looks:
        axes.hlines(rows + beside, 100 * interval.lower, 100 * interval.upper, color=colour, alpha=0.45, linewidth=3.2)
        axes.plot(100 * change, rows + beside, marker, color=colour, markersize=5, label=name)
    axes.axvline(0, color="#444444", linewidth=0.8)
    band_axis(axes, names, "resolution")
    axes.set_xlabel("change of the band's standard deviation (%)")
    axes.grid(axis="x")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure
