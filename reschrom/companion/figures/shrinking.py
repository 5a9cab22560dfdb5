"""Figures of images that lose pixels on their way to noise: when they do, and what quality that costs or saves."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from jaxtyping import Float
from matplotlib.patheffects import Normal, withStroke

from reschrom.plots._axes import band_axis, time_axis
from reschrom.plots._figure import INK, THEORY, WIDTH, Figure, styled
from reschrom.plots.chromatograms import SCALE, scaled_map
from reschrom.theory.chromatogram import Chromatogram

_LINES = (("#ffffff", "-"), ("#7fd4ff", (0, (5, 2))), ("#9be58b", (0, (1.5, 1.5))))
_CURVES = (("#777777", "s"), (INK["gaussian"], "o"), (INK["guidance"], "^"))
# What is computed, a distance for each, and the ends of its interval.
Curve = tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"], Float[np.ndarray, "2 points"]]


@styled
def staircases(chromatogram: Chromatogram, turning_points: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Draw the resolution of a shrinking image over time, as a staircase on the chromatogram of the full process.

    turning_points: who set them -> the times at which the side is halved, on the time axis of the chromatogram.
    """
    figure = Figure(figsize=(WIDTH, 3.7))
    axes = figure.subplots()
    # Without its ridge, which would be one more line among the staircases.
    mesh = scaled_map(axes, chromatogram)
    axes.set_ylim(-0.5, len(chromatogram.shares) - 0.5)
    band_axis(axes, chromatogram.band_names, chromatogram.band_kind)
    figure.colorbar(mesh, ax=axes, label=SCALE, pad=0.01)
    start, end = chromatogram.edges[[0, -1]]
    top = len(chromatogram.shares) - 0.5
    for index, ((name, points), (colour, dash)) in enumerate(zip(turning_points.items(), cycle(_LINES), strict=False)):
        times = np.repeat([start, *points, end], 2)[1:-1]
        heights = np.repeat(top - np.arange(len(points) + 1), 2) - 0.06 - 0.09 * index  # side by side where they meet
        outline = [withStroke(linewidth=4, foreground="#222222"), Normal()]
        axes.plot(times, heights, color=colour, linestyle=dash, linewidth=2, label=name, path_effects=outline)
    time_axis(axes, start, end, "timestep   (noise on the left, image on the right)")
    figure.legend(loc="outside lower center", ncols=len(turning_points))
    axes.set_title(title)
    return figure


@styled
def quality_by_compute(
    panels: Mapping[str, Mapping[str, Curve]], floors: Mapping[str, float], quantity: str, title: str
) -> Figure:
    """Draw distances to real images against what they cost, with intervals, one panel for each kind of cost.

    panels: label of the axis of cost -> name -> its curve; nearer to the lower left is better.
    floors: name -> distance that something real has, drawn dotted.
    """
    figure = Figure(figsize=(WIDTH, 3.7))
    columns = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (label, curves) in zip(columns, panels.items(), strict=True):
        for (name, (cost, distance, ends)), (colour, mark) in zip(curves.items(), cycle(_CURVES), strict=False):
            errors = np.abs(ends - distance)
            axes.errorbar(cost, distance, errors, color=colour, marker=mark, markersize=5, capsize=2, label=name)
        for (name, height), shade in zip(floors.items(), cycle(("#888888", "#bbbbbb")), strict=False):
            axes.axhline(height, color=shade, linestyle=THEORY, linewidth=1.2, label=name)
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        ticks = [tick for tick in np.outer(10.0 ** np.arange(-2, 5), (1, 2, 5)).ravel() if low <= tick <= high]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel(label)
        axes.grid(True)
    columns[0].set_ylim(bottom=0)
    columns[0].set_ylabel(quantity)
    figure.legend(*columns[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


@styled
def differences_by_compute(panels: Mapping[str, Mapping[str, Curve]], label: str, quantity: str, title: str) -> Figure:
    """Draw differences of distances against what is computed, with intervals, one panel for each part of the images.

    panels: panel title -> name -> its curve; below zero is better.
    label, quantity: of the axes.
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    columns = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (panel, curves) in zip(columns, panels.items(), strict=True):
        axes.axhline(0, color="#888888", linewidth=1)
        for index, ((name, (cost, less, ends)), (colour, mark)) in enumerate(
            zip(curves.items(), cycle(_CURVES), strict=False)
        ):
            at = np.arange(len(cost)) + 0.16 * (index - (len(curves) - 1) / 2)
            errors = np.abs(ends - less)
            axes.errorbar(at, less, errors, color=colour, fmt=mark, markersize=5, capsize=2, label=name)
        axes.set_xticks(np.arange(len(cost)), [f"{each:g}" for each in cost])
        axes.set_title(panel, fontsize=10, fontweight="normal")
        axes.set_xlabel(label)
        axes.grid(True, axis="y")
    columns[0].set_ylabel(quantity)
    figure.legend(*columns[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure
