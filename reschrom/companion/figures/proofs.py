"""Figures of the proofs: one clock for all schedules, the natural process, the noise cascade, thresholding."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from reschrom.plots._axes import band_colours, show_image, time_axis
from reschrom.plots._figure import INK, MEASURED, PAPER, WIDTH, Figure, styled
from reschrom.theory.bands import band_names, depth
from reschrom.theory.chromatogram import Chromatogram
from reschrom.theory.chromatography import chromatography
from reschrom.theory.schedules import Schedule

Image = Float[np.ndarray, "channels _ _"]  # of any size


@styled
def one_chromatogram(schedules: Sequence[Schedule], side: int) -> Figure:
    """Draw the chromatograms of several schedules over their own times, and all of them over signal-to-noise ratio.

    schedules: three of them; the first is drawn as lines on the right, the others as markers.
    """
    levels, colours = depth(side), band_colours(side)
    lowest, highest = -(levels + 2.3) * np.log(4), 2.5 * np.log(4)  # log SNR before the coarsest, after the finest
    figure = Figure(figsize=(WIDTH, 4.4))
    grid = figure.add_gridspec(len(schedules), 2, width_ratios=[1, 1.7])
    together = figure.add_subplot(grid[:, 1])
    for row, (schedule, marker) in enumerate(zip(schedules, ("-", "o", "D"), strict=True)):
        name = schedule.name.replace("_", " ")
        alone = figure.add_subplot(grid[row, 0])
        chromatogram = Chromatogram.predicted(schedule, side)
        log_snr = np.linspace(lowest, highest, 400)
        if marker != "-":
            log_snr = log_snr[12 * row :: 28]
        log_snr = log_snr[log_snr > schedule.log_snr(schedule.end)]  # some schedules keep a little signal to the end
        shares = chromatography(schedule.alpha(schedule.time_at(log_snr)), levels)
        for own, common, colour in zip(chromatogram.shares, shares, colours, strict=True):
            alone.plot(chromatogram.times, own, color=colour, linewidth=1.4)
            together.plot(np.exp(log_snr), common, marker, color=colour, markersize=4, markeredgecolor="white")
        together.plot([], [], marker, color="#666666", markersize=4, label=name)
        time_axis(alone, schedule.start, schedule.end, "time $t$ of each schedule")
        alone.set_ylim(0, 0.82)
        alone.set_yticks([0, 0.4, 0.8])
        alone.text(0.36, 0.96, name, transform=alone.transAxes, ha="center", va="top")
        alone.label_outer()
    figure.supylabel("share of generated signal", fontsize=10)
    together.set_xscale("log", base=4)
    together.set_xlim(np.exp(lowest), np.exp(highest))
    together.set_ylim(0, 0.82)
    together.set_yticks([0, 0.4, 0.8], ["", "", ""])
    together.set_xlabel("signal-to-noise ratio   (noise left, image right)")
    for level, (name, colour) in enumerate(zip(band_names(side), colours, strict=True)):
        # Where each share peaks, in two rows; the two extreme ones level off at the ends instead.
        place, height = 4.0 ** (-level - 0.2 + 0.4 * level / levels), 0.415 + 0.04 * (level % 2)
        if level in (0, levels):
            place, height = 4.0 ** (1.7 if level == 0 else -levels - 1.6), 0.755
        together.text(place, height, name, color=colour, ha="center", va="bottom", fontsize=8.5, fontweight="bold")
    together.legend(loc="upper center", bbox_to_anchor=(0.5, 0.98))
    figure.suptitle("The schedule decides when, not what", x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


@styled
def natural_process(
    times: Float[np.ndarray, " times"], paths: Float[np.ndarray, "times paths"], start: float, schedule: Schedule
) -> Figure:
    """Draw simulated paths of one pixel, in the mean and spread that the schedule predicts (Eqs. 29 and 31)."""
    figure = Figure(figsize=(WIDTH, 2.9))
    axes = figure.subplots()
    mean = np.sqrt(schedule.alpha(times)) * start
    spread = np.sqrt(schedule.noise(times))
    axes.fill_between(times, mean - 2 * spread, mean + 2 * spread, color="#e9eef2", linewidth=0)
    axes.plot(times, paths, color="#2a6f97", linewidth=0.6, alpha=0.45)
    axes.plot(times, mean, color="#c1440e", linestyle=PAPER, label=r"$\sqrt{\alpha_t}\,x_0$")
    axes.plot([], [], color="#c9d5dd", linewidth=8, label=r"$\pm 2\sqrt{1-\alpha_t}$")
    axes.plot([], [], color="#2a6f97", linewidth=1.0, label="simulated")
    axes.set_ylim(bottom=-3)  # room for the legend
    axes.set_ylabel("one pixel, $x_t$")
    axes.legend(loc="lower right", ncols=3)
    axes.set_title("A pixel forgets its value, and fills with noise at the same rate")
    time_axis(axes, times[0], times[-1], "natural time $t$   (noise on the left, image on the right)")
    return figure


@styled
def shifted_bells(side: int, last: float) -> Figure:
    """Draw the generation rate of each resolution over natural time, with the sigmoid derivative that it is.

    last: the natural time at the left end of the axis.
    """
    figure = Figure(figsize=(WIDTH, 3.1))
    axes = figure.subplots()
    times = np.linspace(0, last, 500)
    sparse = np.linspace(0, last, 45)
    for level, (name, colour) in enumerate(zip(band_names(side), band_colours(side), strict=True)):
        power = 4.0**level
        rate = power * np.exp(-times) / (1 + (power - 1) * np.exp(-times)) ** 2
        axes.plot(times, rate, color=colour, linestyle=MEASURED)
        if level == 0:
            axes.text(0.35, 0.72, name, color=colour, ha="right", va="bottom", fontsize=8.5, fontweight="bold")
            continue
        middle = np.log(power - 1)
        bell = power / (power - 1) / 4 / np.cosh((sparse - middle) / 2) ** 2
        axes.plot(sparse, bell, "o", color=colour, markersize=3, markeredgewidth=0)
        top = power / (power - 1) / 4
        axes.text(
            middle + 0.5 * (level == 1),
            top + 0.015,
            name,
            color=colour,
            ha="center",
            va="bottom",
            fontsize=8.5,
            fontweight="bold",
        )
    axes.plot([], [], color="#666666", label=r"rate $-d\alpha_{\tau_m}/dt^*$")
    axes.plot([], [], "o", color="#666666", markersize=3, label=r"$\sigma'(t^* - \ln(4^m - 1))$, scaled")
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("rate")
    axes.legend(loc="upper left")
    axes.set_title(r"Below the finest, every resolution is the same bell, about $\ln 4$ apart")
    time_axis(axes, 0.0, last, r"natural time $t^* = -\ln\alpha$   (noise on the left, image on the right)")
    return figure


@styled
def noise_cascade(residuals: Sequence[Image], noises: Sequence[Image]) -> Figure:
    """Draw the residual noise of each resolution, and below it the noise that it completes (Eqs. 22-24).

    residuals, noises: finest first, each at its own resolution and of unit variance.
    """
    count = len(noises)
    figure = Figure(figsize=(WIDTH, 2.5), layout="none", raster=True)
    rows = figure.subplots(2, count)
    figure.subplots_adjust(left=0.085, right=0.995, top=0.80, bottom=0.01, wspace=0.16, hspace=0.12)
    side = 2 ** (count - 1)
    for level, (name, colour) in enumerate(zip(band_names(side), band_colours(side), strict=True)):
        upper, lower = rows[:, count - 1 - level]
        show_image(upper, residuals[level], 3.0)
        upper.set_title(name, loc="center", fontsize=9.5, color=colour, pad=4)
        show_image(lower, noises[level], 3.0)
        if level < count - 1:
            lower.text(-0.08, 0.5, "\u203a", transform=lower.transAxes, ha="center", va="center", fontsize=14)
    rows[0, 0].set_ylabel("residual", rotation=0, ha="right", va="center")
    rows[1, 0].set_ylabel("noise", rotation=0, ha="right", va="center")
    title = "White noise is half the coarser white noise, enlarged, plus a residual"
    figure.text(0.005, 0.955, title, fontweight="bold", fontsize=11)
    return figure


@styled
def thresholded(
    pictures: Mapping[str, Image], kept: Mapping[str, Float[np.ndarray, " bands"]], side: int, title: str
) -> Figure:
    """Draw estimates of an image, and how much of each resolution of the image two of them keep.

    pictures: titles and images; values outside [-1, 1] are drawn as black or white.
    kept: for the paper's estimate, then for the corrected one, the share of each resolution, finest first; the
        coarsest may be left out.
    """
    figure = Figure(figsize=(WIDTH, 4.4), raster=True)
    grid = figure.add_gridspec(2, len(pictures), height_ratios=[1.25, 1])
    for column, (name, picture) in enumerate(pictures.items()):
        axes = figure.add_subplot(grid[0, column])
        show_image(axes, picture)
        axes.set_title(name, loc="center", fontsize=9.5, fontweight="normal")
    axes = figure.add_subplot(grid[1, :])
    styles = ((INK["paper"], PAPER), (INK["gaussian"], MEASURED))
    for (name, shares), (colour, style) in zip(kept.items(), styles, strict=True):
        names = band_names(side)[: len(shares)][::-1]
        axes.plot(names, shares[::-1], color=colour, linestyle=style, marker="o", markersize=5, label=name)
    axes.axhline(1, color="#bbbbbb", linewidth=0.8)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("resolution")
    axes.set_ylabel("share of the image kept")
    axes.legend(loc="best")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure
