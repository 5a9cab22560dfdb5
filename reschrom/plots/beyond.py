"""Figures of what the paper leaves open: flow matching, survival under editing, prediction of mean times."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from reschrom.plots._figure import INK, PAPER, THEORY, WIDTH, Figure, styled

# A colour, a marker and a line style for each rule, in the order in which they are given.
_RULES = (
    (INK["paper"], "o", "-"),
    (INK["guidance"], "s", PAPER),
    (INK["gaussian"], "D", THEORY),
    ("#777777", "^", "-."),
)


@styled
def shift_rules(
    sides: Int[np.ndarray, " sides"],
    shifts: Mapping[str, Float[np.ndarray, " sides"]],
    times: Mapping[str, Float[np.ndarray, " sides"]],
    title: str,
) -> Figure:
    """Draw how rules of flow matching shift time with the size of the picture, and when one detail comes under each.

    shifts, times: rule -> one value for each side; both have the same rules.
    """
    figure = Figure(figsize=(WIDTH, 3.5))
    left, right = figure.subplots(1, 2)
    for (colour, marker, style), name in zip(_RULES, shifts, strict=False):
        for axes, values in ((left, shifts[name]), (right, times[name])):
            axes.plot(sides, values, color=colour, marker=marker, markersize=4.5, linestyle=style, label=name)
    left.set_yscale("log", base=2)
    left.set_ylabel(r"shift $\rho$, over that of the smallest")
    right.set_ylim(0, 1)
    right.set_ylabel("mean time $t$ of the 16x16 details")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(sides[::2], [str(side) for side in sides[::2]])
        axes.minorticks_off()
        axes.set_xlabel("side of the picture  [pixels]")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure
