"""The heat map of a measurement with its ridge, and the ridges that theories expect in its place."""

import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.patheffects import Normal, Stroke

from reschrom.plots._axes import time_axis
from reschrom.plots._figure import MEASURED, PAPER, THEORY, WIDTH, Figure, styled
from reschrom.plots.words import words
from reschrom.theory.chromatogram import Chromatogram

# How the ridge of each kind of knowledge is drawn: the paper's, that of a spectrum.
THEORY_STYLES = (PAPER, THEORY)


def ridge_colours() -> Colormap:
    """Return the colours of a share as part of the largest at its time: dark to light, with contrast in the middle."""
    return ListedColormap(matplotlib.colormaps["magma"](np.linspace(0.06, 0.96, 256)))


def scaled_shares(chromatogram: Chromatogram) -> Float[np.ndarray, "bands steps"]:
    """Return every share as part of the largest at its time, 0 where nothing is generated but rounding."""
    shares = np.where(np.isfinite(chromatogram.ridge()), chromatogram.shares, 0.0)
    largest = shares.max(axis=0)
    return shares / np.where(largest > 0, largest, 1)


def scaled_map(axes: Axes, chromatogram: Chromatogram) -> QuadMesh:
    """Draw a heat map in which each time is scaled by its largest share, coarse at the bottom."""
    top = len(chromatogram.rates) - 1
    mesh = axes.pcolormesh(
        chromatogram.edges,
        np.arange(top + 2) - 0.5,
        scaled_shares(chromatogram)[::-1],
        vmin=0,
        vmax=1,
        cmap=ridge_colours(),
        rasterized=True,
    )
    axes.set_yticks(np.arange(top + 1), chromatogram.band_names[::-1])
    axes.set_ylabel(chromatogram.band_kind)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.5, top + 0.5)
    return mesh


@styled
def ridge_map(chromatogram: Chromatogram, theories: Sequence[Chromatogram] = ()) -> Figure:
    """Draw a measurement as a heat map, each time scaled by its largest share, with its ridge and those of theories.

    theories: at most two, the paper's and that of a spectrum (`Chromatogram.expected`).
    The ridge is the share-weighted mean resolution; the band around that of a measurement is its 95 % interval.
    """
    said, top = words(chromatogram), len(chromatogram.rates) - 1
    title = "\n".join(textwrap.wrap(said.headline, 66))
    facts = "\n".join(textwrap.wrap(said.facts[:1].upper() + said.facts[1:], 96))
    lines = title.count("\n") + facts.count("\n")
    figure = Figure(figsize=(WIDTH, 4.1 + 0.2 * lines))
    axes = figure.subplots()
    mesh = scaled_map(axes, chromatogram)
    if chromatogram.replicates is not None:
        low, high = chromatogram.ridge_interval()
        axes.fill_between(chromatogram.times, top - high, top - low, color="white", alpha=0.25, linewidth=0)
    for each, style in zip((*theories[:2], chromatogram), (*THEORY_STYLES[: len(theories)], MEASURED), strict=True):
        draw_ridge(axes, each, style, "measured" if each is chromatogram else each.name)
    time_axis(axes, chromatogram.edges[0], chromatogram.edges[-1], "timestep   (noise on the left, image on the right)")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11.5)
    axes.set_title(facts, fontweight="normal", fontsize=8.5, color="#555555")
    figure.colorbar(mesh, ax=axes, label="share, of the largest at its time", aspect=30, pad=0.02)
    handles, labels = axes.get_legend_handles_labels()
    legend = figure.legend(
        handles[::-1],
        [f"{label}: mean {chromatogram.band_kind}" if label == "measured" else label for label in labels[::-1]],
        loc="outside lower center",
        ncols=3,
        handlelength=3,
    )
    for handle in legend.get_lines():  # on paper a white line would not be seen
        handle.set_color("#222222")
        handle.set_path_effects([])
    return figure


def draw_ridge(axes: Axes, chromatogram: Chromatogram, style: object, label: str) -> None:
    """Draw the mean resolution over time as a white line with a dark edge, to be seen on any heat map."""
    (line,) = axes.plot(
        chromatogram.times,
        len(chromatogram.rates) - 1 - chromatogram.ridge(),
        color="white",
        linestyle=style,
        linewidth=2.4 if style == MEASURED else 1.8,
        label=label,
    )
    line.set_path_effects([Stroke(linewidth=line.get_linewidth() + 2, foreground="#1b1030"), Normal()])
