"""Figures of Upsample Guidance: by how much it changes distances to real images."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from reschrom.plots._axes import band_colours
from reschrom.plots._figure import INK, WIDTH, Figure, styled
from reschrom.theory.bands import band_names

_MARKS = ("o", "s", "^", "D", "v", "P")
_COLOURS = (INK["gaussian"], INK["paper"], INK["guidance"], "#c79a2e", "#222222", "#6b8e23")


@styled
def distance_ratios(
    panels: Mapping[str, Mapping[str, tuple[Float[np.ndarray, " bands"], Float[np.ndarray, "2 bands"]]]],
    side: int,
    title: str,
) -> Figure:
    """Draw distances as shares of those of plain sampling, band by band, one panel for each model.

    panels: panel title -> name of a set of samples -> its distances over those of plain sampling, and the ends of the
        interval of each; bands finest first.
    """
    figure = Figure(figsize=(WIDTH, 3.5))
    names = band_names(side)[::-1]
    places = np.arange(len(names))
    columns = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (panel, sets) in zip(columns, panels.items(), strict=True):
        axes.axhline(1, color="#888888", linewidth=1)
        for index, (label, (ratio, interval)) in enumerate(sets.items()):
            at = places + 0.5 * (index - (len(sets) - 1) / 2) / len(sets)
            mark, colour = _MARKS[index % len(_MARKS)], _COLOURS[index % len(_COLOURS)]
            errors = np.abs(interval - ratio)[:, ::-1]
            axes.errorbar(at, ratio[::-1], errors, fmt=mark, color=colour, markersize=5, capsize=2, label=label)
        axes.set_yscale("log")
        axes.set_xticks(places, names, rotation=45, ha="right")
        for tick, shade in zip(axes.get_xticklabels(), band_colours(side)[::-1], strict=True):
            tick.set_color(shade)
            tick.set_fontweight("bold")
        axes.set_title(panel, fontsize=10, fontweight="normal")
        axes.set_xlabel("resolution")
        axes.legend(fontsize=8, loc="best")
    ticks = (0.25, 0.5, 1.0, 2.0, 4.0)
    columns[0].set_ylim(0.2, 5)  # an interval of the mean colour may reach much farther
    columns[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    columns[0].minorticks_off()
    columns[0].set_ylabel("distance to real images,\nplain sampling = 1")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure
