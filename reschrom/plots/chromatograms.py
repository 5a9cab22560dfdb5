"""Chromatograms: which resolution is generated when, as curves and as the paper's heat map."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.patheffects import Normal, Stroke

from reschrom.plots._axes import band_axis, shades, time_axis
from reschrom.plots._figure import MEASURED, WIDTH, Figure, styled
from reschrom.theory.chromatogram import Chromatogram

# What the colour of a map is.
SCALE = "share, of the largest at its time"


def ridge_colours() -> Colormap:
    """Return the colours of a share as part of the largest at its time: dark to light, with contrast in the middle."""
    return ListedColormap(matplotlib.colormaps["magma"](np.linspace(0.06, 0.96, 256)))


def scaled_shares(chromatogram: Chromatogram) -> Float[np.ndarray, "bands steps"]:
    """Return every share as part of the largest at its time, 0 where nothing is generated but rounding."""
    shares = np.where(np.isfinite(chromatogram.ridge()), chromatogram.shares, 0.0)
    largest = shares.max(axis=0)
    return shares / np.where(largest > 0, largest, 1)


def scaled_map(axes: Axes, chromatogram: Chromatogram) -> QuadMesh:
    """Draw `scaled_shares` as a map without labels, rows from the coarsest (bottom) to the finest (top)."""
    return axes.pcolormesh(
        chromatogram.edges,
        np.arange(len(chromatogram.shares) + 1) - 0.5,
        scaled_shares(chromatogram)[::-1],
        vmin=0,
        vmax=1,
        cmap=ridge_colours(),
        rasterized=True,
    )


def heat_map(axes: Axes, chromatogram: Chromatogram, style: object = MEASURED) -> QuadMesh:
    """Draw a chromatogram as a map with its ridge, rows from the coarsest (bottom) to the finest (top).

    style: of the ridge, the share-weighted mean resolution: that of a measurement, or `PAPER` or `THEORY`.
    Each time is scaled by its largest share, because shares of 0.2 to 0.4 would all look alike otherwise.
    """
    mesh = scaled_map(axes, chromatogram)
    draw_ridge(axes, chromatogram, style)
    axes.set_ylim(-0.5, len(chromatogram.shares) - 0.5)
    band_axis(axes, chromatogram.band_names, chromatogram.band_kind)
    return mesh


def draw_ridge(axes: Axes, chromatogram: Chromatogram, style: object, label: str = "") -> None:
    """Draw the share-weighted mean resolution over time, white within a dark outline."""
    (line,) = axes.plot(
        chromatogram.times,
        len(chromatogram.rates) - 1 - chromatogram.ridge(),
        color="white",
        linestyle=style,
        linewidth=2.4 if style == MEASURED else 1.8,
        label=label or "_ridge",
    )
    line.set_path_effects([Stroke(linewidth=line.get_linewidth() + 2, foreground="#1b1030"), Normal()])


def share_lines(axes: Axes, chromatogram: Chromatogram, style: object = "-") -> None:
    """Draw the share of every resolution over time, each named at its peak.

    Where peaks crowd together the names climb a staircase, each on a thin line from its peak.
    """
    span = chromatogram.edges[-1] - chromatogram.edges[0]
    last, height, step = -np.inf, 0.0, 0.11 * float(chromatogram.shares.max())
    colours = shades(len(chromatogram.shares))
    for share, colour, name in zip(chromatogram.shares, colours, chromatogram.band_names, strict=True):
        axes.plot(chromatogram.times, share, color=colour, linestyle=style)
        thin = slice(None, None, max(len(share) // 200, 1))  # a pale fill needs no more points, and SVG keeps them all
        axes.fill_between(chromatogram.times[thin], share[thin], color=colour, alpha=0.07, linewidth=0)
        peak = int(np.argmax(share))
        crowded = chromatogram.times[peak] - last < 0.07 * span
        height = max(float(share[peak]), height + step) if crowded else float(share[peak])
        last = float(chromatogram.times[peak])
        if crowded:
            axes.plot([last, last], [share[peak], height + 0.3 * step], color=colour, linewidth=0.8)
        side = "left" if crowded or peak == len(share) - 1 else "right" if peak == 0 else "center"
        axes.annotate(
            name,
            (last, height),
            xytext=(2 if side == "left" else 0, 3),
            textcoords="offset points",
            ha=side,
            fontsize=8.5,
            color=colour,
            fontweight="bold",
        )


@styled
def chromatogram(
    chromatogram: Chromatogram, title: str = "Generation runs from coarse to fine", time_label: str | None = None
) -> Figure:
    """Draw one chromatogram: the share of each resolution over time, above its heat map."""
    figure = Figure(figsize=(WIDTH, 4.6))
    lines, heat = figure.subplots(2, 1, sharex=True, height_ratios=[1.25, 1])
    share_lines(lines, chromatogram)
    lines.set_ylabel("share of generated signal")
    lines.set_ylim(0, 1.12 * max(float(chromatogram.shares.max()), 0.1))
    lines.set_title(title)
    mesh = heat_map(heat, chromatogram)
    time_axis(heat, chromatogram.edges[0], chromatogram.edges[-1], time_label)
    figure.colorbar(mesh, ax=[lines, heat], label=SCALE, aspect=40, pad=0.01)
    return figure


@styled
def heat_maps(chromatograms: Sequence[Chromatogram], title: str) -> Figure:
    """Draw several chromatograms on one time axis and one colour scale, each under its own name."""
    figure = Figure(figsize=(WIDTH, 0.6 + 1.75 * len(chromatograms)))
    rows = figure.subplots(len(chromatograms), 1, sharex=True, squeeze=False)[:, 0]
    for axes, chromatogram in zip(rows, chromatograms, strict=True):
        mesh = heat_map(axes, chromatogram)
        axes.set_title(chromatogram.name, fontweight="normal", fontsize=10)
    time_axis(rows[-1], chromatograms[0].edges[0], chromatograms[0].edges[-1])
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    figure.colorbar(mesh, ax=list(rows), label=SCALE, aspect=35, pad=0.01)
    return figure
