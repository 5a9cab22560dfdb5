"""Figures of the theory pages: noising, prompts over time, and the clocks of the resolutions (Paper Figs. 2 and 3)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import ConnectionPatch

from reschrom.plots._axes import band_colours, resolution_axis, show_image, time_axis
from reschrom.plots._figure import INK, PAPER, THEORY, WIDTH, Figure, styled
from reschrom.theory.bands import band_names, depth
from reschrom.theory.chromatography import generated_signal
from reschrom.theory.matching import matched_time
from reschrom.theory.schedules import Schedule

Images = Float[np.ndarray, "times channels _ _"]
Times = Float[np.ndarray, " times"]

_NOISE = "#c8c8c8"
_FIRST, _SECOND = "#8d6a9f", "#d9a441"


@styled
def forward_process(schedule: Schedule, times: Times, noised: Images) -> Figure:
    """Draw noised images above the signal power and the noise power of their times.

    times: falling, the middles of equal slices of the time axis, so that every image stands over its own slice.
    """
    figure = Figure(figsize=(WIDTH, 3.5), layout="none", raster=True)
    left, width, gap = 0.075, 0.905, 0.006
    share = width / len(times)
    for index, image in enumerate(noised):
        axes = figure.add_axes((left + index * share + gap / 2, 0.66, share - gap, (share - gap) * WIDTH / 3.5))
        show_image(axes, image)
    axes = figure.add_axes((left, 0.13, width, 0.51))
    t = np.linspace(schedule.start, schedule.end, 400)
    signal = schedule.alpha(t)
    axes.fill_between(t, 0, signal, color=INK["gaussian"], linewidth=0)
    axes.fill_between(t, signal, 1, color=_NOISE, linewidth=0)
    for time, power in zip(times, schedule.alpha(times), strict=True):
        axes.plot([time, time], [power, 1], color="white", linewidth=0.9, linestyle=THEORY)
        axes.plot(time, power, "o", color="white", markersize=4.5)
    middle: dict[str, Any] = {"fontsize": 12, "ha": "center", "va": "center"}
    axes.text(0.86, 0.62, r"noise  $1 - \alpha_t$", bbox={"facecolor": _NOISE, "edgecolor": "none", "pad": 3}, **middle)
    axes.text(0.22, 0.42, r"signal  $\alpha_t$", color="white", **middle)
    axes.set_ylim(0, 1)
    axes.set_ylabel("share of the power")
    time_axis(axes, schedule.start, schedule.end)
    figure.text(left, 0.965, "Noise takes over the power that the signal gives up", fontsize=11, fontweight="bold")
    return figure


@styled
def ddim_spread(
    steps: Sequence[int], measured: Mapping[int, Sequence[float]], predicted: Mapping[int, Sequence[float]]
) -> Figure:
    """Draw the standard deviation that DDIM generates, as a share of the true one, against the number of steps.

    measured, predicted: one list over `steps` for data of variance 4^m, by m; the largest m is one pixel.
    """
    figure = Figure(figsize=(WIDTH, 3.3))
    axes = figure.subplots()
    colours = band_colours(2 ** max(predicted))
    for m, shares in predicted.items():
        axes.plot(steps, shares, color=colours[m], linestyle=THEORY)
        axes.plot(steps, measured[m], "o", color=colours[m], markersize=5, label=f"$4^{m}$ = {4**m}")
    axes.axhline(1, color="#999999", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xticks(list(steps), [str(count) for count in steps])
    axes.minorticks_off()
    axes.set_ylim(0, 1.04)
    axes.set_xlabel("DDIM steps")
    axes.set_ylabel("generated spread / true spread")
    axes.legend(loc="lower right", title="variance of the data", title_fontsize=9)
    axes.set_title("With few steps, even the exact noise prediction loses contrast")
    return figure


@styled
def prompts_over_time(schedule: Schedule, switch: float, side: int, prompts: tuple[str, str]) -> Figure:
    """Draw which of two prompts acts when, above how much of each resolution is there already.

    switch: the time eta T of Eq. (25).
    prompts: the name of the one that acts first and of the one that acts last.
    """
    figure = Figure(figsize=(WIDTH, 3.9))
    weights, signal = figure.subplots(2, 1, sharex=True, height_ratios=[0.2, 1])
    end, start = schedule.end, max(schedule.start, 0.0)
    for (a, b), prompt, colour in zip([(end, switch), (switch, start)], prompts, (_FIRST, _SECOND), strict=True):
        weights.axvspan(a, b, color=colour, linewidth=0)
        weights.text((a + b) / 2, 0.5, prompt, ha="center", va="center", color="white", fontweight="bold", fontsize=10)
    weights.set_yticks([])
    weights.tick_params(axis="x", length=0, labelbottom=False)
    for spine in weights.spines.values():
        spine.set_visible(False)
    weights.set_title("The weight that the paper calls $w_2$ acts first, on the coarse picture")
    edges = np.linspace(start, end, 301)
    there = generated_signal(schedule.alpha((edges[1:] + edges[:-1]) / 2), depth(side))
    rows = np.arange(len(there) + 1) - 0.5
    mesh = signal.pcolormesh(edges, rows, there[::-1], vmin=0, vmax=1, rasterized=True)
    resolution_axis(signal, side)
    signal.axvline(switch, color="white", linewidth=1.6)
    figure.colorbar(mesh, ax=[weights, signal], label=r"signal there already,  $\alpha_{\tau_m}$", aspect=35, pad=0.01)
    time_axis(signal, start, end)
    return figure


@styled
def pooled_photograph(
    times: Times,
    snr: Times,
    noised: Images,
    noised_then_pooled: Images,
    pooled_then_noised: Images,
) -> Figure:
    """Draw a noised photograph, the same pooled, and the pooled photograph noised, at the same times (Paper Fig. 2).

    Each pooled image has the signal-to-noise ratio of the next image in the row below, and a line to it.
    times, snr: falling times and their rising signal-to-noise ratios at full resolution.
    """
    count, unit = len(times), 0.93
    width, height = 1.25 + count * unit, 3 * unit + 1.72
    figure = Figure(figsize=(width, height), layout="none", raster=True)
    bottoms = [0.55, 0.55 + unit + 0.62, 0.55 + 2 * unit + 0.62 + 0.2]
    side, small = noised.shape[-1], noised_then_pooled.shape[-1]
    labels = [
        f"pool,\nthen noise\n{small}x{small}",
        f"noise,\nthen pool\n{small}x{small}",
        f"noise\n{side}x{side}",
    ]
    rows = []
    for bottom, label, images in zip(bottoms, labels, (pooled_then_noised, noised_then_pooled, noised), strict=True):
        figure.text(1.1 / width, (bottom + unit / 2) / height, label, ha="right", va="center", linespacing=1.35)
        row = [
            figure.add_axes(((1.2 + i * unit) / width, bottom / height, (unit - 0.05) / width, (unit - 0.05) / height))
            for i in range(count)
        ]
        for axes, image in zip(row, images, strict=True):
            show_image(axes, image)
        rows.append(row)
    for above, below in zip(rows[2], rows[1], strict=True):
        figure.add_artist(_link(above, below, arrowstyle="-|>", color="#888888", linewidth=0.9))
    for above, below in zip(rows[1], rows[0][1:], strict=False):
        figure.add_artist(_link(above, below, arrowstyle="-", color=INK["paper"], linewidth=1.6))
    for axes, time, ratio in zip(rows[0], times, snr, strict=True):
        axes.set_xlabel(f"$t = {time:.3f}$\nSNR {_ratio(ratio)}", fontsize=9, linespacing=1.4)
    middle = (bottoms[0] + unit + 0.27) / height
    figure.text(1.1 / width, middle, "same\nSNR", ha="right", va="center", color=INK["paper"], fontweight="bold")
    title = "Pooling a noised photograph sets it back to a cleaner time"
    figure.text(0.01, 1 - 0.2 / height, title, fontsize=11, fontweight="bold")
    return figure


@styled
def measured_snr(
    times: Times,
    predicted: Float[np.ndarray, "levels times"],
    measured: Float[np.ndarray, "levels times"],
    standard_error: Float[np.ndarray, "levels times"],
    side: int,
) -> Figure:
    """Draw the signal-to-noise ratio of pooled noised photographs over time, measured against predicted.

    predicted, measured, standard_error: full resolution first, each level half the side of the one before.
    """
    figure = Figure(figsize=(WIDTH, 4.6))
    ratio, residual = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    spread = 0.011 * np.linspace(1, -1, len(predicted))
    for m, (colour, name) in enumerate(zip(band_colours(side), band_names(side), strict=True)):
        if m == len(predicted):
            break
        ratio.plot(times, predicted[m], color=colour, linestyle=PAPER, linewidth=1.4)
        ratio.plot(times, measured[m], "o", color=colour, markersize=4.5)
        ratio.annotate(name, (times.min(), predicted[m][np.argmin(times)]), color=colour, **_AT_RIGHT)
        relative = 100 * (measured[m] / predicted[m] - 1)
        bars = 200 * standard_error[m] / predicted[m]
        residual.errorbar(times + spread[m], relative, bars, fmt="o", color=colour, markersize=3, linewidth=1)
    ratio.set_yscale("log")
    ratio.set_ylabel("signal-to-noise ratio")
    ratio.set_title("Each halving of the side multiplies the SNR by four")
    residual.axhline(0, color="#222222", linewidth=0.8, linestyle=PAPER)
    residual.set_ylabel("measured is\nhigher by  [%]")
    time_axis(residual, 0.0, 1.0)
    return figure


@styled
def adjusted_times(schedule: Schedule, side: int) -> Figure:
    """Draw the adjusted time of every resolution against time (Paper Fig. 3), and against the log SNR."""
    figure = Figure(figsize=(WIDTH, 3.9))
    clocks, shift = figure.subplots(1, 2, width_ratios=[1.15, 1])
    _clocks(clocks, schedule, side)
    t = np.linspace(schedule.start, schedule.end, 4001)
    last = np.inf
    for m, (colour, name) in enumerate(zip(band_colours(side), band_names(side), strict=True)):
        tau = matched_time(schedule, t, m)
        # Labels stand where the lines are farthest apart: on the diagonal through the corner they all leave.
        at = np.argmin(np.abs((tau - schedule.start) - (schedule.end - t)))
        if last - tau[at] < 0.05 * schedule.end:
            continue  # the names at the right tell which line this is
        last = tau[at]
        clocks.annotate(name, (t[at], last), color=colour, **_LABEL)
    clocks.set_ylabel(r"adjusted time  $\tau_m$")
    clocks.set_title(f"Coarse runs earlier ({schedule.name})")
    before = np.array([-8.0, 8.0])
    for m, (colour, name) in enumerate(zip(band_colours(side), band_names(side), strict=True)):
        shift.plot(before, before + m * np.log(4), color=colour)
        shift.annotate(name, (before[1], before[1] + m * np.log(4)), color=colour, **_AT_RIGHT)
    shift.set_xlim(*before)
    shift.set_xlabel(r"log SNR at $t$")
    shift.set_ylabel(r"log SNR at $\tau_m$")
    shift.set_title(r"Each level adds $\log 4$")
    return figure


@styled
def clocks_of(schedules: Mapping[str, Schedule], side: int) -> Figure:
    """Draw the adjusted times of several schedules side by side, with the last time each resolution reaches.

    schedules: by the title of their panel; time is drawn in units of each schedule's end.
    """
    figure = Figure(figsize=(WIDTH, 3.1))
    panels = figure.subplots(1, len(schedules), sharey=True)
    for axes, (name, schedule) in zip(panels, schedules.items(), strict=True):
        _clocks(axes, schedule, side)
        ends = np.array([float(matched_time(schedule, schedule.end, m)) for m in range(depth(side) + 1)])
        axes.scatter(np.full(len(ends), 1.0), ends / schedule.end, c=band_colours(side), s=22, clip_on=False, zorder=3)
        axes.set_title(name, fontsize=10, fontweight="normal")
        axes.set_xlabel("time $t / T$")
    panels[0].set_ylabel(r"adjusted time  $\tau_m / T$")
    title = "A schedule that stops early leaves the coarse clocks no late times"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    for name, colour, y in zip(
        band_names(side), band_colours(side), np.linspace(0.95, 0.38, len(band_names(side))), strict=True
    ):
        panels[-1].annotate(
            name, (1.02, y), xycoords="axes fraction", color=colour, fontsize=8.5, fontweight="bold", va="center"
        )
    return figure


_LABEL: dict[str, Any] = {
    "ha": "center",
    "va": "center",
    "xytext": (0, 0),
    "textcoords": "offset points",
    "fontsize": 8.5,
    "fontweight": "bold",
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.8},
}
_AT_RIGHT: dict[str, Any] = {
    "ha": "left",
    "va": "center",
    "xytext": (6, 0),
    "textcoords": "offset points",
    "fontsize": 8.5,
    "fontweight": "bold",
    "annotation_clip": False,
}


def _clocks(axes: Axes, schedule: Schedule, side: int) -> None:
    """Draw tau_m over t for every resolution, in units of the schedule's end."""
    t = np.linspace(max(schedule.start, 0.0), schedule.end, 1001)
    for m, colour in enumerate(band_colours(side)):
        tau = np.maximum(matched_time(schedule, t, m), 0)
        axes.plot(t / schedule.end, tau / schedule.end, color=colour)
    time_axis(axes, 0.0, 1.0)
    axes.set_ylim(0, 1)


def _link(above: Axes, below: Axes, **style: Any) -> ConnectionPatch:
    """Join the bottom of one image with the top of another."""
    return ConnectionPatch(
        (0.5, -0.02), (0.5, 1.02), "axes fraction", "axes fraction", axesA=above, axesB=below, **style
    )


def _ratio(value: float) -> str:
    """Write a signal-to-noise ratio as people say it: 16, or 1/16."""
    return f"{value:.0f}" if value >= 1 else f"1/{1 / value:.0f}"
