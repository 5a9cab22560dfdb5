"""Figures of guided models: guidance in bands, measured chromatograms beside theories, many prompts at once."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from reschrom.plots._axes import band_colours, resolution_axis, show_image, time_axis
from reschrom.plots._figure import INK, MEASURED, PAPER, THEORY, WIDTH, Figure, styled
from reschrom.plots.chromatograms import heat_map
from reschrom.theory.chromatogram import Chromatogram

Images = Sequence[Float[np.ndarray, "channels side side"]] | Float[np.ndarray, "images channels side side"]
# A kind of knowledge and what is known.
Kinds = Mapping[str, tuple[str, Chromatogram]]
Energy = tuple[str, Float[np.ndarray, " times"], Float[np.ndarray, " times"]]

# Colours and line style of each kind; where several lines of a kind meet, they take the colours in turn.
_LOOKS = {
    "measured": (("#222222", "#4d8a3a", "#b07d12"), MEASURED),
    "paper": ((INK["paper"],), PAPER),
    "theory": ((INK["gaussian"], INK["guidance"], "#8c564b", "#1b7f79"), THEORY),
}


@styled
def guidance_chromatography(
    theory: Chromatogram,
    measured: Chromatogram,
    rows: Mapping[str, Images],
    title: str,
    time_label: str = "timestep",
) -> Figure:
    """Draw theory at the left and measurement at the right: curves, and images in bands, above heat maps on one scale.

    rows: label -> images with values in [-1, 1], from noise to image; each row has as many, over equal parts of the
        time axis.
    """
    count = len(next(iter(rows.values())))
    start, end = measured.edges[0], measured.edges[-1]
    left, right, wspace = 0.085, 0.99, 0.16
    tall = len(rows) * WIDTH * (right - left) / (2 + wspace) / count  # so that pictures are square
    figure = Figure(figsize=(WIDTH, tall + 3.3), raster=True, layout=None)
    figure.suptitle(title, x=0.01, y=0.99, ha="left", fontweight="bold", fontsize=11)
    height = figure.get_figheight()
    place = {"left": left, "right": right, "top": 1 - 0.72 / height, "bottom": 0.5 / height, "wspace": wspace}
    grid = figure.add_gridspec(2, 2, height_ratios=[tall, 2.0], hspace=0.06, **place)
    curves = figure.add_subplot(grid[0, 0])
    for share, colour in zip(theory.shares, band_colours(theory.size), strict=True):
        curves.plot(theory.times, share, color=colour)
    curves.set_xlim(end, start)
    curves.set_xticks([])
    curves.set_ylim(0, 1)
    curves.set_ylabel("share", labelpad=2)
    curves.set_title(theory.name, fontsize=10, fontweight="normal")
    pictures = grid[0, 1].subgridspec(len(rows), count, wspace=0.05, hspace=0.05)
    for row, (label, images) in enumerate(rows.items()):
        for column, image in enumerate(images):
            axes = figure.add_subplot(pictures[row, column])
            _show(axes, image)
            if column == 0:
                axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=7.5, labelpad=2)
            if row == 0 and column == 0:
                axes.set_title(measured.name, fontsize=10, fontweight="normal")
    for column, (chromatogram, style) in enumerate(((theory, PAPER), (measured, MEASURED))):
        axes = figure.add_subplot(grid[1, column])
        mesh = heat_map(axes, chromatogram, style)
        time_axis(axes, start, end, time_label)
        axes.set_ylabel("")
        if column:
            axes.set_yticklabels([])
    bar = figure.add_axes((0.79, 1 - 0.25 / height, 0.2, 0.08 / height))
    figure.colorbar(mesh, cax=bar, orientation="horizontal")
    bar.tick_params(labelsize=8, length=2, pad=1)
    bar.set_ylabel("share, of largest  ", rotation=0, ha="right", va="center", fontsize=8.5)
    return figure


@styled
def share_panels(
    chromatograms: Kinds, title: str, quantity: str = "generated signal", time_label: str = "timestep"
) -> Figure:
    """Draw the share of every resolution over time, one panel each: measurements in their intervals, and theories.

    chromatograms: label -> (kind, chromatogram); the kind is "measured" (solid, with its simultaneous 95% confidence
        band), "paper" (dashed) or "theory" (dotted). Each on its own time grid.
    quantity: what the shares are shares of.
    """
    first = next(iter(chromatograms.values()))[1]
    names = first.band_names
    columns = 4
    figure = Figure(figsize=(WIDTH, 0.95 + 1.55 * -(-len(names) // columns)))
    grid = figure.subplots(-(-len(names) // columns), columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, band in zip(grid, range(len(names)), strict=False):
        for label, colour, style, each in _looks(chromatograms):
            axes.plot(each.times, each.shares[band], color=colour, linestyle=style, linewidth=1.4, label=label)
            if each.replicates is not None:
                lower, upper = each.interval(simultaneous=True)
                axes.fill_between(each.times, lower[band], upper[band], color=colour, alpha=0.2, linewidth=0)
        axes.set_title(names[band], fontsize=9.5, color=band_colours(first.size)[band])
        axes.grid(axis="y")
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    grid[0].set_xlim(first.edges[-1], first.edges[0])
    grid[0].set_ylim(0, 1)
    for axes in grid[max(len(names) - columns, 0) : len(names)]:
        axes.set_xlabel(time_label)
        axes.tick_params(labelbottom=True)
    for axes in grid[::columns]:
        axes.set_ylabel("share")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 3))
    figure.suptitle(f"{title}  (shares of {quantity})", x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


@styled
def energies(
    lines: Mapping[str, Energy], title: str, energy_label: str, time_label: str = "timestep", least: float = 1e-3
) -> Figure:
    """Draw energies over time on a logarithmic axis, noise at the left.

    lines: label -> (kind as in `share_panels`, times, energies).
    least: what is less is not shown.
    """
    figure = Figure(figsize=(WIDTH, 3.4))
    axes = figure.subplots()
    for label, colour, style, (times, values) in _looks({k: (kind, each) for k, (kind, *each) in lines.items()}):
        axes.semilogy(times, values, color=colour, linestyle=style, label=label)
    everywhen, everything = (np.concatenate(each) for each in list(zip(*lines.values(), strict=True))[1:])
    axes.set_ylim(max(least, 0.5 * float(everything.min())), 2 * float(everything.max()))
    time_axis(axes, float(everywhen.min()), float(everywhen.max()), time_label)
    axes.set_ylabel(energy_label)
    axes.grid(axis="y")
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@styled
def prompt_panels(
    theory: Chromatogram,
    panels: Mapping[str, tuple[Chromatogram, Images]],
    title: str,
    time_label: str = "timestep",
) -> Figure:
    """Draw one measured chromatogram for each prompt, samples under it, below that of the theory."""
    columns = 2
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(WIDTH, 2.3 + 2.85 * lines), raster=True)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    parts: Any = figure.subfigures(1 + lines, 1, height_ratios=[1.75, *[2.85] * lines])
    top, *parts = parts
    first = top.subplots()
    maps = [first]
    mesh = heat_map(first, theory, PAPER)
    first.set_title(theory.name, fontsize=10, fontweight="normal")
    time_axis(first, theory.edges[0], theory.edges[-1], time_label)
    top.colorbar(mesh, ax=first, label="share, of\nthe largest", aspect=12, pad=0.01)
    cells = [cell for part in parts for cell in part.subfigures(1, columns)]
    for cell, (prompt, (measured, images)) in zip(cells, panels.items(), strict=False):
        grid = cell.add_gridspec(2, len(images), height_ratios=[2.1, 1], wspace=0.03)
        axes = cell.add_subplot(grid[0, :])
        heat_map(axes, measured)
        axes.set_title(prompt, fontsize=10, fontweight="normal")
        time_axis(axes, measured.edges[0], measured.edges[-1], time_label)
        axes.set_ylabel("")
        maps.append(axes)
        for column, image in enumerate(images):
            _show(cell.add_subplot(grid[1, column]), image)
    for axes in maps:
        axes.tick_params(axis="y", labelsize=8)
        axes.set_ylabel("")
    return figure


@styled
def centroid_spread(
    spread: Float[np.ndarray, "captions bands"],
    lines: Mapping[str, tuple[str, Float[np.ndarray, " bands"]]],
    side: int,
    span: tuple[float, float],
    title: str,
    time_label: str = "mean timestep",
) -> Figure:
    """Draw the mean time of every resolution for many captions: a dot for each, a bar at the median.

    spread: mean times, finest first; NaN where a resolution never comes.
    lines: label -> (kind, mean time of each band, finest first), as in `share_panels`.
    span: first and last time of the axis, image and noise.
    """
    figure = Figure(figsize=(WIDTH, 3.8))
    axes = figure.subplots()
    colours, rows = band_colours(side)[::-1], np.arange(spread.shape[1])
    offsets = _spread_out(spread)
    for row, (colour, times, offset) in enumerate(zip(colours, spread.T[::-1], offsets.T[::-1], strict=True)):
        axes.scatter(times, row + offset, s=11, color=colour, alpha=0.55, linewidths=0)
        axes.plot([np.nanmedian(times)] * 2, [row - 0.36, row + 0.36], color=colour, linewidth=3)
    for label, colour, style, times in _looks(lines):
        axes.plot(times[::-1], rows, color=colour, linestyle=style, label=label)
    resolution_axis(axes, side)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    time_axis(axes, *span, time_label)
    axes.grid(axis="x")
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _spread_out(values: Float[np.ndarray, "captions bands"]) -> Float[np.ndarray, "captions bands"]:
    """Return how far each dot is moved from its row, within 1/4: dots that follow each other in value lie apart."""
    ranks = np.argsort(np.argsort(values, axis=0), axis=0)
    return 0.5 * (ranks * 7 % len(values) / len(values) - 0.5)


def _looks(kinds: Mapping[str, tuple[str, object]]) -> list:
    """Return label, colour, line style and content of every line."""
    left = {kind: list(colours) for kind, (colours, _) in _LOOKS.items()}
    return [(label, left[kind].pop(0), _LOOKS[kind][1], content) for label, (kind, content) in kinds.items()]


def _show(axes: Axes, image: Float[np.ndarray, "channels side side"]) -> None:
    """Draw an image, or the first three channels of a latent."""
    show_image(axes, image[:3])
