"""Figures of the related methods: the time maps of all of them, and a forward path that shrinks on its way."""

from collections.abc import Mapping

import matplotlib
import numpy as np
from jaxtyping import Float

from reschrom.plots._figure import WIDTH, Figure, styled, time_axis

Times = Float[np.ndarray, " times"]


@styled
def time_maps(times: Times, panels: Mapping[str, Mapping[str, Times]], title: str) -> Figure:
    """Draw which time of a small model each method matches with the time of the pooled image.

    panels: panel title -> method -> small model's time at `times`. Methods whose times are equal share one line and
        stand together at its label.
    """
    figure = Figure(figsize=(WIDTH, 4.0))
    columns = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (panel, maps) in zip(columns, panels.items(), strict=True):
        groups = _equal(maps)
        # The noisiest map first: names stand in the order of the lines.
        groups.sort(key=lambda group: -float(group[1].sum()))
        top = 0.99
        for index, (names, tau) in enumerate(groups):
            shared = len(names) > 1
            shade = 0.1 if shared else 0.35 + 0.5 * index / len(groups)
            colour = matplotlib.colormaps["inferno"](shade)
            axes.plot(times, tau, color=colour, linewidth=3 if shared else 1.6)
            for name in names:
                axes.text(
                    1.0,
                    top,
                    name,
                    color=colour,
                    transform=axes.transAxes,
                    fontsize=8.5,
                    fontweight="bold" if shared else "normal",
                    ha="right",
                    va="top",
                )
                top -= 0.055
            top -= 0.02
        time_axis(axes, 0.0, 1.0, "time $t$ of the large image  (noise left)")
        axes.set_ylim(0, 1)
        axes.set_title(panel, fontsize=10, fontweight="normal")
    columns[0].set_ylabel(r"matched time $\tau$ of the small one")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


def _equal(maps: Mapping[str, Times]) -> list[tuple[list[str], Times]]:
    """Return the distinct maps, each with the names of all methods that have it."""
    groups: list[tuple[list[str], Times]] = []
    for name, tau in maps.items():
        for names, other in groups:
            if np.allclose(tau, other, rtol=0, atol=1e-9):
                names.append(name)
                break
        else:
            groups.append(([name], tau))
    return groups
