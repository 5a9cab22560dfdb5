"""Figures of the exact experiments: image sets and their spectra, centroids, memorisation, strips of a generation."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from reschrom.plots._axes import band_colours, show_image, time_axis
from reschrom.plots._figure import INK, MEASURED, PAPER, THEORY, WIDTH, Figure, styled
from reschrom.plots.chromatograms import heat_map
from reschrom.theory.bands import band_names
from reschrom.theory.chromatogram import Chromatogram

Images = Float[np.ndarray, "images channels side side"]

# A colour and a marker for each image set or process, in the order in which they are given.
_SERIES = (("#222222", "o"), ("#4d8a3a", "s"), ("#8a4f9e", "D"), ("#b07d12", "^"))
_STYLES = {"measured": MEASURED, "paper": PAPER, "theory": THEORY}


@styled
def image_sets(sets: Mapping[str, Images], spectra: Mapping[str, Float[np.ndarray, " bands"]], title: str) -> Figure:
    """Draw three images of every set above the band spectra of the sets, with the paper's 4^m dashed."""
    side = next(iter(sets.values())).shape[-1]
    names = band_names(side)[::-1]
    figure = Figure(figsize=(WIDTH, 4.7), raster=True, layout=None)
    figure.suptitle(title, x=0.01, y=0.99, ha="left", fontweight="bold", fontsize=11)
    groups = figure.add_gridspec(1, len(sets), left=0.01, right=0.99, top=0.885, bottom=0.765, wspace=0.07)
    for index, (name, images) in enumerate(sets.items()):
        cells = groups[index].subgridspec(1, 3, wspace=0.04)
        for column, image in enumerate(images[:3]):
            axes = figure.add_subplot(cells[column])
            show_image(axes, image)
            if column == 1:
                axes.set_title(name, fontsize=10, fontweight="normal", loc="center", pad=4)
    axes = figure.add_subplot(figure.add_gridspec(left=0.1, right=0.99, top=0.72, bottom=0.11)[0])
    for (colour, marker), (name, spectrum) in zip(_SERIES, spectra.items(), strict=False):
        axes.semilogy(np.arange(len(names)), spectrum[::-1], color=colour, marker=marker, markersize=4, label=name)
    scale_free = 4.0 ** np.arange(len(names))[::-1]
    axes.semilogy(np.arange(len(names)), scale_free, color=INK["paper"], linestyle=PAPER, label="scale-free, $4^m$")
    axes.axhline(1, color="#999999", linewidth=0.8)
    axes.text(-0.25, 1.25, "white noise", color="#777777", fontsize=8.5)
    axes.set_xticks(np.arange(len(names)), names)
    axes.set_xlabel("resolution")
    axes.set_ylabel("variance per coefficient $S_m$")
    axes.legend(loc="upper right", bbox_to_anchor=(1, 1.04))
    return figure


@styled
def centroid_panels(
    panels: Mapping[str, Mapping[str, tuple[str, Float[np.ndarray, " bands"]]]], side: int, title: str, columns: int = 2
) -> Figure:
    """Draw when each resolution comes, one panel per image set.

    panels: panel title -> label -> (kind, centroid of each band, finest first); the kind is "measured" (markers and a
        solid line), "paper" (dashed) or "theory" (dotted).
    """
    names = band_names(side)[::-1]
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(WIDTH, 0.9 + 2.35 * rows))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (panel, lines) in zip(grid.flat, panels.items(), strict=True):
        _centroid_lines(axes, lines)
        axes.set_title(panel, fontsize=10)
        axes.set_yticks(np.arange(len(names)), names)
        axes.set_ylim(-0.4, len(names) - 0.6)
        axes.grid(axis="x")
        axes.set_xlim(1, 0)
    for axes in grid[-1]:
        axes.set_xlabel("mean time of generation $t$")
    for axes in grid[:, 0]:
        axes.set_ylabel("resolution")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


def _centroid_lines(axes: Axes, lines: Mapping[str, tuple[str, Float[np.ndarray, " bands"]]]) -> None:
    series = iter(_SERIES)
    for label, (kind, centroids) in lines.items():
        times, rows = np.asarray(centroids)[::-1], np.arange(len(centroids))
        if kind == "measured":
            colour, marker = next(series)
            axes.plot(times, rows, color=colour, marker=marker, markersize=4.5, linewidth=1, label=label)
        else:
            ink = INK["paper" if kind == "paper" else "gaussian"]
            axes.plot(times, rows, color=ink, linestyle=_STYLES[kind], label=label)


@styled
def memorisation(
    edges: Float[np.ndarray, " edges"],
    own: Float[np.ndarray, "bands edges"],
    held_out: Float[np.ndarray, "bands edges"],
    spectral: Float[np.ndarray, "bands edges"],
    side: int,
    title: str,
) -> Figure:
    """Draw the loss left in every resolution for images of the set, for images held out and for a Gaussian field.

    Losses are given as shares of what is lost at the last time, pure noise.
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    panels = figure.subplots(1, 3, sharey=True)
    heads = ("the set's own images", "images held out", "Gaussian field, same spectrum")
    for axes, losses, head in zip(panels, (own, held_out, spectral), heads, strict=True):
        for curve, colour, name in zip(losses, band_colours(side), band_names(side), strict=True):
            axes.plot(edges, curve, color=colour, label=name, linestyle=THEORY if losses is spectral else MEASURED)
        axes.axhline(1, color="#999999", linewidth=0.8)
        time_axis(axes, edges[0], edges[-1], "time $t$")
        axes.set_title(head, fontsize=10, fontweight="normal")
    panels[0].set_ylabel("share of the signal that is lost")
    panels[0].set_ylim(0, None)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=len(labels), columnspacing=1.1)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


@styled
def strip(
    rows: Mapping[str, Sequence[Float[np.ndarray, "channels side side"]]],
    chromatogram: Chromatogram,
    title: str,
    quantity: str = "generated signal",
) -> Figure:
    """Draw rows of images above a chromatogram, the shares of a quantity, all on one time axis.

    rows: label -> images with values in [-1, 1], from noise to image, as many in each row. Each stands over its time:
        they belong to the middles of equal parts of the time axis.
    """
    count = len(next(iter(rows.values())))
    size = (WIDTH - 0.95) / count
    heights = [size] * len(rows) + [2.1]
    figure = Figure(figsize=(WIDTH, sum(heights) + 1.1), raster=True, layout=None)
    left, right, top, bottom = 0.125, 0.995, 1 - 0.38 / figure.get_figheight(), 0.75 / figure.get_figheight()
    grid = figure.add_gridspec(
        len(heights), 1, height_ratios=heights, left=left, right=right, top=top, bottom=bottom, hspace=0.03
    )
    for row, (label, images) in enumerate(rows.items()):
        line = grid[row].subgridspec(1, count, wspace=0.03)
        for column, image in enumerate(images):
            axes = figure.add_subplot(line[column])
            show_image(axes, image)
            if column == 0:
                axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    axes = figure.add_subplot(grid[len(rows)])
    mesh = heat_map(axes, chromatogram)
    axes.set_ylabel("")
    start, end = chromatogram.edges[[0, -1]]
    time_axis(axes, start, end, None if start == 0 else "time $t$" if end <= 1 else "timestep")
    inset = axes.inset_axes((0.7, -0.33, 0.3, 0.06))
    figure.colorbar(mesh, cax=inset, orientation="horizontal")
    inset.set_title(f"share of {quantity}, of the largest", fontsize=8.5, fontweight="normal", loc="center", pad=3)
    inset.tick_params(labelsize=8, length=2)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure
