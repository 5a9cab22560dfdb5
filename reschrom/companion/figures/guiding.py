"""Figures of drawing for less: when the prompt speaks, and what silence and other savings cost."""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from reschrom.plots._axes import band_colours, time_axis
from reschrom.plots._figure import INK, PAPER, THEORY, Figure, styled
from reschrom.theory.bands import Size, band_names

_NARROW = 5.0  # inches: so narrow that a phone shows words that can be read
Ends = tuple[float, float]


class Worth(NamedTuple):
    """What a way to draw costs, and by how much its samples differ from plain ones.

    less: quantity -> mean difference, and the ends of its interval.
    """

    cost: float
    less: Mapping[str, tuple[float, float, float]]


@styled
def told_times(
    bands: Float[np.ndarray, "2 bands"], whole: Mapping[str, Ends], size: Size, end: float, title: str
) -> Figure:
    """Draw when each resolution tells the prompt, one bar above the other, and intervals of all together.

    bands: the times at which each band begins and ends, finest first.
    whole: label -> times at which all together begin and end; their ends are drawn as lines.
    end: the time of noise.
    """
    figure = Figure(figsize=(_NARROW, 3.6))
    axes = figure.subplots()
    names, colours = band_names(size), band_colours(size)
    for m, (begins, ends) in enumerate(bands.T):
        axes.barh(len(names) - 1 - m, begins - ends, left=ends, color=colours[m], height=0.7)
    for (label, (_, ends)), style in zip(whole.items(), (PAPER, THEORY), strict=False):
        axes.axvline(ends, color=INK["paper"], linestyle=style, linewidth=1.6, label=label)
    axes.set_yticks(range(len(names)), names[::-1])
    axes.set_ylabel("resolution")
    time_axis(axes, 0.0, end, "timestep   (noise left, image right)")
    figure.legend(loc="outside lower center", ncols=1)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


@styled
def worth(ways: Mapping[str, Worth], costs: str, title: str) -> Figure:
    """Draw what ways to draw lose against what they cost, one panel above the other for each quantity.

    ways: name -> its worth; above zero is better, and so is the left.
    costs: what is counted as their cost.
    """
    quantities = list(next(iter(ways.values())).less)
    figure = Figure(figsize=(_NARROW, 2.1 * len(quantities) + 1.5))
    panels = figure.subplots(len(quantities), 1, sharex=True, squeeze=False)[:, 0]
    marks = dict(zip(ways, itertools.cycle("osD^vP*X"), strict=False))
    for axes, quantity in zip(panels, quantities, strict=True):
        axes.axhline(0, color="#888888", linewidth=1)
        for name, each in ways.items():
            mean, low, high = each.less[quantity]
            ends = [[mean - low], [high - mean]]
            ink = INK["gaussian"] if low <= 0 <= high else INK["paper"]
            axes.errorbar(each.cost, mean, ends, color=ink, marker=marks[name], markersize=6, capsize=3, label=name)
        axes.set_ylabel(quantity)
        axes.grid(True)
    panels[-1].set_xlabel(f"{costs}   (left is cheaper)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure
