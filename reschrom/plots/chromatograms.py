"""Chromatograms: which resolution is generated when, as curves and as the paper's heat map."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from reschrom.chromatogram import Chromatogram
from reschrom.plots._figure import WIDTH, Figure, band_colours, resolution_axis, styled, time_axis


def heat_map(axes: Axes, chromatogram: Chromatogram, peak: float = 1.0) -> object:
    """Draw the shares of a chromatogram as a heat map, rows from one pixel (bottom) to the finest resolution (top)."""
    mesh = axes.pcolormesh(
        chromatogram.edges,
        np.arange(len(chromatogram.shares) + 1) - 0.5,
        chromatogram.shares[::-1],
        vmin=0,
        vmax=peak,
        rasterized=True,
    )
    resolution_axis(axes, chromatogram.side)
    return mesh


def share_lines(axes: Axes, chromatogram: Chromatogram, style: object = "-") -> None:
    """Draw the share of every resolution over time, each labelled with its name where it peaks."""
    for share, colour, name in zip(
        chromatogram.shares, band_colours(chromatogram.side), chromatogram.band_names, strict=True
    ):
        axes.plot(chromatogram.times, share, color=colour, linestyle=style)
        peak = int(np.argmax(share))
        at_edge = peak in (0, len(share) - 1)
        axes.annotate(
            name,
            (chromatogram.times[peak], share[peak]),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center" if not at_edge else ("left" if peak else "right"),
            fontsize=8.5,
            color=colour,
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
def heat_maps(chromatograms: Sequence[Chromatogram], title: str) -> Figure:
    """Draw several chromatograms on one time axis and one colour scale, each under its own name."""
    figure = Figure(figsize=(WIDTH, 0.6 + 1.75 * len(chromatograms)))
    rows = figure.subplots(len(chromatograms), 1, sharex=True, squeeze=False)[:, 0]
    peak = max(float(c.shares.max()) for c in chromatograms)
    for axes, chromatogram in zip(rows, chromatograms, strict=True):
        mesh = heat_map(axes, chromatogram, peak)
        axes.set_title(chromatogram.name, fontweight="normal", fontsize=10)
    time_axis(rows[-1], chromatograms[0].edges[0], chromatograms[0].edges[-1])
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    figure.colorbar(mesh, ax=list(rows), label="share of generated signal", aspect=35, pad=0.01)
    return figure
