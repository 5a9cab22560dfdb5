"""Figures of designed timesteps and schedules: where lists put their steps, what error they make, who gets the time."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from jaxtyping import Float

from reschrom.plots._axes import band_colours, time_axis
from reschrom.plots._figure import INK, MEASURED, NARROW, PAPER, THEORY, WIDTH, Figure, styled
from reschrom.plots.chromatograms import SCALE, heat_map
from reschrom.theory.bands import band_names
from reschrom.theory.chromatogram import Chromatogram
from reschrom.theory.schedules import Schedule

# The designed one stands out; the rest are told apart by colour, dash and marker.
_OTHERS = (
    ("#777777", PAPER, "s"),
    ("#b07d12", THEORY, "^"),
    ("#4d8a3a", PAPER, "D"),
    ("#8a4f9e", THEORY, "v"),
    ("#8c564b", PAPER, "P"),
    ("#c1440e", THEORY, "X"),
    ("#222222", PAPER, "*"),
)


@styled
def timestep_lists(lists: Mapping[str, Sequence[int]], chromatogram: Chromatogram, title: str) -> Figure:
    """Draw the timesteps of some lists, a row of ticks for each, below the chromatogram, on the same time axis."""
    figure = Figure(figsize=(NARROW, 2.9 + 0.27 * len(lists)))
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 0.3 * len(lists)))
    mesh = heat_map(top, chromatogram)
    figure.colorbar(mesh, ax=top, label=SCALE, pad=0.01)
    top.tick_params(labelbottom=False)
    for row, (name, timesteps) in enumerate(lists.items()):
        ink = INK["gaussian"] if "designed" in name else "#444444"
        below.vlines(timesteps, -row - 0.38, -row + 0.38, color=ink, linewidth=1.3)
    below.set_yticks(-np.arange(len(lists)), list(lists))
    below.tick_params(axis="y", length=0)
    below.set_ylim(-len(lists) + 0.45, 0.55)
    start, end = chromatogram.edges[[0, -1]]
    time_axis(below, start, end, "timestep   (noise left, image right)")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


@styled
def errors_by_steps(errors: Mapping[str, Mapping[int, float]], quantity: str, title: str) -> Figure:
    """Draw an error against the number of steps, one line for each list; both axes are logarithmic.

    errors: list -> number of steps -> error.
    """
    figure = Figure(figsize=(NARROW, 4.6))
    axes = figure.subplots()
    others, dashes = cycle(_OTHERS), cycle((MEASURED, PAPER))
    for name, by_steps in errors.items():
        steps, values = list(by_steps), list(by_steps.values())
        if "designed" in name:
            axes.plot(
                steps, values, color=INK["gaussian"], linestyle=next(dashes), marker="o", linewidth=2.2, label=name
            )
        else:
            colour, dash, marker = next(others)
            axes.plot(steps, values, color=colour, linestyle=dash, marker=marker, markersize=5, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = sorted({steps for by_steps in errors.values() for steps in by_steps})
    axes.set_xticks(ticks, [str(steps) for steps in ticks])
    axes.minorticks_off()
    shown = [value for value in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if value < 2 * max(axes.get_ylim())]
    axes.set_yticks(shown, [f"{value:.0%}" for value in shown])
    axes.set_xlabel("steps")
    axes.set_ylabel(quantity)
    axes.grid(True)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


@styled
def time_shares(shares: Mapping[str, Float[np.ndarray, " bands"]], side: int, title: str) -> Figure:
    """Draw the share of the time that each schedule gives to each resolution, a bar for each, coarse bands first."""
    figure = Figure(figsize=(WIDTH, 1.5 + 0.36 * len(shares)))
    axes = figure.subplots()
    names, colours = band_names(side), band_colours(side)
    for row, spent in enumerate(shares.values()):
        left = 0.0
        for m in reversed(range(len(names))):
            label = names[m] if row == 0 else None
            axes.barh(-row, spent[m], left=left, color=colours[m], edgecolor="white", height=0.72, label=label)
            if spent[m] > 0.06:
                ink = "white" if m > len(names) / 3 else "black"
                axes.text(left + spent[m] / 2, -row, f"{spent[m]:.0%}", ha="center", va="center", color=ink, fontsize=8)
            left += spent[m]
    axes.set_yticks(-np.arange(len(shares)), list(shares))
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1)
    axes.set_xticks(np.linspace(0, 1, 6), [f"{share:.0%}" for share in np.linspace(0, 1, 6)])
    axes.set_xlabel("share of the time   (noise on the left, image on the right)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(names), columnspacing=1.1)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


@styled
def noise_levels(
    schedules: Mapping[str, Schedule], marks: Float[np.ndarray, " bands"], side: int, title: str
) -> Figure:
    """Draw log SNR over time for schedules from 0 to 1, and where each band has half of its signal.

    marks: log SNR of each band, finest first.
    """
    figure = Figure(figsize=(WIDTH, 3.7))
    axes = figure.subplots()
    t = np.linspace(0.002, 0.998, 400)
    for mark, colour, name in zip(marks, band_colours(side), band_names(side), strict=True):
        axes.axhline(mark, color=colour, linewidth=1)
        axes.text(0.995, mark + 0.12, name, color=colour, fontsize=8, ha="left", fontweight="bold")
    others = cycle(_OTHERS)
    for name, schedule in schedules.items():
        if "designed" in name:
            axes.plot(t, schedule.log_snr(t), color=INK["gaussian"], linewidth=2.4, label=name)
        else:
            ink, dash, _ = next(others)
            axes.plot(t, schedule.log_snr(t), color=ink, linestyle=dash, linewidth=1.4, label=name)
    axes.set_ylim(float(marks.min()) - 3, float(marks.max()) + 3)
    time_axis(axes, 0.0, 1.0)
    axes.set_ylabel("log signal-to-noise ratio")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure
