"""Figures of time-dependent prompts: pictures made with two prompts, and what the second one decided."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from reschrom.plots._axes import band_axis, band_colours, show_image, time_axis
from reschrom.plots._figure import INK, MEASURED, NARROW, PAPER, THEORY, WIDTH, Figure, styled
from reschrom.plots.chromatograms import heat_map
from reschrom.theory.chromatogram import Chromatogram
from reschrom.theory.intervals import Interval
from reschrom.theory.shares import DecidedShare

Images = Sequence[Float[np.ndarray, "channels side side"]]

_LOOKS = {
    "paper": ((INK["paper"],), PAPER),
    "theory": ((INK["gaussian"], INK["guidance"], "#8c564b"), THEORY),
}
_MEASURED_INKS = (INK["measured"], "#4d8a3a", "#b07d1a")


@styled
def switched_prompts(
    chromatograms: Sequence[Chromatogram],
    rows: Mapping[str, Images],
    eta: Sequence[float],
    end: float,
    prompts: tuple[str, str],
    title: str,
) -> Figure:
    """Draw rows of pictures, each centred under the time eta T of its switch on the heat maps above (Paper Fig. 7).

    chromatograms: in timesteps.
    rows: label -> images with values in [-1, 1], one for each eta.
    eta: falling, in equal steps, from 1 (the second prompt alone) to 0 (the first alone).
    end: the paper's T, in timesteps.
    prompts: the one that comes first, and the one that comes second.
    """
    left, right = 1.25, 0.52
    apart = (WIDTH - left - right) / (len(eta) - 1)
    side, map_height, gap = 0.95 * apart, 1.15, 0.28
    maps = map_height * len(chromatograms) + gap * (len(chromatograms) - 1)
    tall = 0.6 + maps + 0.57 + (side + 0.06) * len(rows)
    figure = Figure(figsize=(WIDTH, tall), raster=True, layout=None)
    figure.suptitle(title, x=0.01, y=1 - 0.06 / tall, ha="left", va="top", fontweight="bold", fontsize=11)
    low = tall - 0.6
    for chromatogram in chromatograms:
        low -= map_height
        axes = figure.add_axes((left / WIDTH, low / tall, 1 - (left + right) / WIDTH, map_height / tall))
        mesh = heat_map(axes, chromatogram)
        time_axis(axes, 0.0, end)
        axes.set_xlabel("")
        axes.set_facecolor("#e8e8e8")
        axes.set_title(chromatogram.name, fontsize=9.5, fontweight="normal", pad=3)
        axes.tick_params(axis="y", labelsize=7.5)
        axes.set_ylabel("")
        for each in eta:
            axes.axvline(each * end, color="white", linewidth=1.6)
            axes.axvline(each * end, color="black", linewidth=0.8, linestyle=(0, (4, 2)))
        axes.set_xticks([])
        low -= gap
    low += gap
    bar = figure.add_axes((0.72, 1 - 0.54 / tall, 0.25, 0.08 / tall))
    figure.colorbar(mesh, cax=bar, orientation="horizontal")
    bar.tick_params(labelsize=7, length=2, pad=1, labeltop=True, labelbottom=False, top=True, bottom=False)
    bar.set_ylabel("share  ", rotation=0, ha="right", va="center", fontsize=8)
    for index, each in enumerate(eta):
        words = {1.0: prompts[1], 0.0: prompts[0]}.get(each, "")
        words = rf"$\eta$ = {each:g}" + f"\n$t$ = {each * end:g}\n{words}"
        middle = (left + apart * index) / WIDTH
        figure.text(middle, (low - 0.05) / tall, words, ha="center", va="top", fontsize=8, linespacing=1.25)
    low -= 0.57
    for label, images in rows.items():
        low -= side
        for index, image in enumerate(images):
            place = (left + apart * index - side / 2) / WIDTH, low / tall, side / WIDTH, side / tall
            _show(figure.add_axes(place), image)
        words = textwrap.fill(label, 12)
        beside, middle = (left - side / 2 - 0.06) / WIDTH, (low + side / 2) / tall
        figure.text(beside, middle, words, ha="right", va="center", fontsize=8)
        low -= 0.06
    return figure


@styled
def prompt_table(
    rows: Mapping[str, Images], headings: Sequence[str], title: str, notes: Sequence[Sequence[str]] | None = None
) -> Figure:
    """Draw a table of pictures: one row for each subject, one column for each way of using the prompts (Paper Fig. 9).

    rows: label -> images with values in [-1, 1], one for each heading.
    notes: a text under each picture, of at most two lines, row by row.
    """
    left = 1.0
    size = (WIDTH - left) / max(len(headings), 5)
    lines = 1 + max(heading.count("\n") for heading in headings)
    head = 0.42 + 0.15 * lines
    below = 0.32 if notes else 0.0
    tall = head + (size + below) * len(rows) + 0.05
    figure = Figure(figsize=(WIDTH, tall), raster=True, layout=None)
    figure.suptitle(title, x=0.01, y=1 - 0.06 / tall, ha="left", va="top", fontweight="bold", fontsize=11)
    for row, (label, images) in enumerate(rows.items()):
        for column, (image, heading) in enumerate(zip(images, headings, strict=True)):
            low = tall - head - (size + below) * (row + 1) + below
            side = 0.96 * size
            axes = figure.add_axes(((left + size * column) / WIDTH, low / tall, side / WIDTH, side / tall))
            _show(axes, image)
            if notes:
                axes.set_xlabel(notes[row][column], fontsize=8.5, labelpad=2)
            if row == 0:
                axes.set_title(heading, fontsize=8, fontweight="normal", loc="center", pad=3)
            if column == 0:
                axes.set_ylabel(textwrap.fill(label, 15), rotation=0, ha="right", va="center", fontsize=8.5, labelpad=4)
    return figure


@styled
def decided_panels(
    eta: Float[np.ndarray, " switches"],
    measured: Mapping[str, Sequence[DecidedShare]],
    predicted: Mapping[str, tuple[str, Float[np.ndarray, "bands switches"]]],
    names: Sequence[str],
    title: str,
) -> Figure:
    """Draw the share of every band that the second prompt decided, one panel each, switches at noise at the left.

    eta: rising.
    measured: label -> shares for every eta, drawn solid with the 95 % interval of each over images.
    predicted: label -> (kind, shares); the kind is "paper" (dashed) or "theory" (dotted).
    names: of the bands, finest first.
    """
    figure = Figure(figsize=(WIDTH, 4.5))
    grid = figure.subplots(2, -(-len(names) // 2), sharex=True, sharey=True, squeeze=False).ravel()
    colours = band_colours(2 ** (len(names) - 1))
    looks = _looks(predicted)
    for band, axes in zip(range(len(names)), grid, strict=False):
        axes.axhline(0.5, color="#bbbbbb", linewidth=0.8)
        for (label, (_, shares)), (colour, style) in zip(predicted.items(), looks, strict=True):
            axes.plot(eta, shares[band], color=colour, linestyle=style, linewidth=1.4, label=label)
        for (label, decided), colour in zip(measured.items(), _MEASURED_INKS, strict=False):
            axes.plot(eta, [each.share[band] for each in decided], MEASURED, color=colour, linewidth=1.4, label=label)
            bounds = np.transpose([[bound[band] for bound in each.interval()] for each in decided])
            axes.fill_between(eta, *bounds, color=colour, alpha=0.18, linewidth=0)
        axes.set_title(names[band], fontsize=9.5, color=colours[band])
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    columns = len(grid) // 2
    grid[0].set_xlim(1, 0)
    grid[0].set_ylim(-0.05, 1.05)
    for axes in grid[max(len(names) - columns, 0) : len(names)]:
        axes.set_xlabel(r"switch at $\eta$")
        axes.tick_params(labelbottom=True)
    for axes in grid[::columns]:
        axes.set_ylabel("share decided")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


@styled
def times_by_resolution(
    measured: Mapping[str, tuple[Float[np.ndarray, " bands"], Interval]],
    predicted: Mapping[str, tuple[str, Float[np.ndarray, " bands"]]],
    names: Sequence[str],
    label: str,
    title: str,
) -> Figure:
    """Draw one time of every band, as a part of the whole, noise at the left, the coarsest band at the bottom.

    measured: label -> time of every band, with its interval.
    predicted: label -> (kind, time of every band); the kind is "paper" (dashed) or "theory" (dotted).
    names: of the bands, finest first.
    label: what these times are.
    """
    figure = Figure(figsize=(NARROW, 4.6))
    axes = figure.subplots()
    rows = np.arange(len(names))[::-1]
    for (name, (_, times)), (colour, style) in zip(predicted.items(), _looks(predicted), strict=True):
        axes.plot(times, rows, color=colour, linestyle=style, linewidth=1.5, label=name)
    above = 0.18 * (np.arange(len(measured))[::-1] - (len(measured) - 1) / 2)
    inks = zip(measured.items(), _MEASURED_INKS, above, "osD", strict=False)
    for (name, (times, interval)), colour, beside, marker in inks:
        axes.hlines(rows + beside, *interval, color=colour, alpha=0.45, linewidth=3.2)
        axes.plot(times, rows + beside, marker, color=colour, markersize=5, label=name)
    band_axis(axes, names, "resolution")
    time_axis(axes, 0.0, 1.0, f"{label}   (noise left, image right)")
    axes.grid(axis="x")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


def _looks(predicted: Mapping[str, tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return a colour and a style for each prediction: the style of its kind, and colours of that kind in turn."""
    inks = {kind: cycle(colours) for kind, (colours, _) in _LOOKS.items()}
    return [(next(inks[kind]), _LOOKS[kind][1]) for kind, _ in predicted.values()]


def _show(axes: Axes, image: Float[np.ndarray, "channels side side"]) -> None:
    """Draw a picture, or the first three channels of a latent."""
    show_image(axes, image[:3])
