"""A picture whose prompt changed half-way, between the two pure ones, under the chromatogram."""

import textwrap
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from reschrom.plots._axes import show_image, time_axis
from reschrom.plots._figure import INK, NARROW, Figure, styled
from reschrom.plots.chromatograms import heat_map
from reschrom.theory.chromatogram import Chromatogram


@styled
def switched(
    chromatogram: Chromatogram,
    time: float,
    pictures: Sequence[Float[np.ndarray, "channels height width"]],
    prompts: Sequence[str],
) -> Figure:
    """Draw three pictures of one noise under the chromatogram: the first prompt alone, both, the second alone.

    time: of the switch, in the units of the chromatogram.
    pictures: in that order, values in [-1, 1].
    prompts: the first and the second.
    """
    figure = Figure(figsize=(NARROW, 4.9), raster=True)
    grid = figure.add_gridspec(2, 3, height_ratios=[1.25, 1])
    axes = figure.add_subplot(grid[0, :])
    mesh = heat_map(axes, chromatogram)
    axes.axvline(time, color="white", linewidth=3)
    axes.axvline(time, color=INK["paper"], linewidth=1.6)
    for words, shift, side in (("first prompt", 5, "right"), ("second", -5, "left")):
        axes.annotate(
            words, (time, 1.02), (-shift, 0), ("data", "axes fraction"), "offset points", ha=side, color=INK["paper"]
        )
    time_axis(axes, *chromatogram.edges[[0, -1]])
    figure.suptitle(
        "The second prompt decides what is left to generate", x=0.01, ha="left", fontweight="bold", fontsize=11
    )
    figure.colorbar(mesh, ax=axes, label="share, of the largest", aspect=18, pad=0.02)
    names = (f"{prompts[0]} alone", "the first, then the second", f"{prompts[1]} alone")
    for column, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        panel = figure.add_subplot(grid[1, column])
        show_image(panel, picture)
        panel.set_xlabel("\n".join(textwrap.wrap(name, 19)), fontsize=8.5)
    return figure
