"""Chromatograms: which resolution is generated when, as curves and as the paper's heat map."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh

from reschrom.plots._axes import band_axis, shades, time_axis
from reschrom.plots._figure import WIDTH, Figure, styled
from reschrom.theory.chromatogram import Chromatogram


def heat_map(axes: Axes, chromatogram: Chromatogram, peak: float = 1.0) -> QuadMesh:
    """Draw the shares of a chromatogram as a heat map, rows from the coarsest (bottom) to the finest (top)."""
    mesh = axes.pcolormesh(
        chromatogram.edges,
        np.arange(len(chromatogram.shares) + 1) - 0.5,
        chromatogram.shares[::-1],
        vmin=0,
        vmax=peak,
        rasterized=True,
    )
    band_axis(axes, chromatogram.band_names, chromatogram.band_kind)
    return mesh


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
    mesh = heat_map(heat, chromatogram, float(chromatogram.shares.max()))
    time_axis(heat, chromatogram.edges[0], chromatogram.edges[-1], time_label)
    figure.colorbar(mesh, ax=[lines, heat], label="share of generated signal", aspect=40, pad=0.01)
    return figure


@styled
def heat_maps(chromatograms: Sequence[Chromatogram], title: str, quantity: str = "generated signal") -> Figure:
    """Draw several chromatograms on one time axis and one colour scale, each under its own name.

    quantity: what the shares are shares of, as the colour bar says it.
    """
    figure = Figure(figsize=(WIDTH, 0.6 + 1.75 * len(chromatograms)))
    rows = figure.subplots(len(chromatograms), 1, sharex=True, squeeze=False)[:, 0]
    peak = max(float(c.shares.max()) for c in chromatograms)
    for axes, chromatogram in zip(rows, chromatograms, strict=True):
        mesh = heat_map(axes, chromatogram, peak)
        axes.set_title(chromatogram.name, fontweight="normal", fontsize=10)
    time_axis(rows[-1], chromatograms[0].edges[0], chromatograms[0].edges[-1])
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    figure.colorbar(mesh, ax=list(rows), label=f"share of {quantity}", aspect=35, pad=0.01)
    return figure
