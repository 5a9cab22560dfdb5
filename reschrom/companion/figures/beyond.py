"""Figures of what the paper leaves open: flow matching, survival under editing, errors of predicted times."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from reschrom.plots._axes import band_colours, show_image, time_axis
from reschrom.plots._figure import INK, PAPER, THEORY, WIDTH, Figure, styled
from reschrom.theory.bands import band_names

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


@styled
def survival_strip(
    columns: Sequence[Float[np.ndarray, "images channels side side"]],
    times: Sequence[float],
    measured: Mapping[float, Float[np.ndarray, "3 bands"]],
    grid: Float[np.ndarray, " times"],
    predicted: Float[np.ndarray, "bands times"],
    title: str,
) -> Figure:
    """Draw edited images above what survives of each resolution: points with intervals, and predicted lines.

    columns: the images as they are after each edit, all of one shape.
    times: t / T at which each column's edit began, evenly falling, so that each stands over its own time.
    measured: t / T -> lower end of the interval, share that survived, upper end, in rows.
    grid, predicted: lines over t / T.
    """
    count, rows = len(columns), len(columns[0])
    side = columns[0].shape[-1]
    left, right = 0.085, 0.87
    width = WIDTH * (right - left) / count
    figure = Figure(figsize=(WIDTH, 0.45 + rows * width * 0.62 + 3.1), raster=True, layout=None)
    height = figure.get_figheight()
    top, middle = 1 - 0.4 / height, 3.0 / height
    pictures = figure.add_gridspec(
        rows, count, left=left, right=right, top=top, bottom=middle, wspace=0.02, hspace=0.04
    )
    for column, images in enumerate(columns):
        for row, image in enumerate(images):
            show_image(figure.add_subplot(pictures[row, column]), image)
    axes = figure.add_axes((left, 0.5 / height, right - left, 2.35 / height))
    half = (times[0] - times[-1]) / (count - 1) / 2
    for curve, colour, name in zip(predicted, band_colours(side), band_names(side), strict=True):
        axes.plot(grid, curve, color=colour, label=name)
    for time, (low, share, high) in measured.items():
        for band, colour in enumerate(band_colours(side)):
            at = time + half * 0.02 * (band - len(low) / 2)  # side by side
            axes.plot([at, at], [low[band], high[band]], color=colour, linewidth=1)
            axes.plot(at, share[band], "o", color=colour, markersize=4.5)
    axes.axhline(0, color="#999999", linewidth=0.8)
    axes.set_ylim(-0.05, 1.08)
    axes.set_ylabel("share that survives")
    time_axis(axes, times[-1] - half, times[0] + half, "time $t / T$ at which the edit begins   (0: the original)")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


@styled
def worst_errors(
    panels: Mapping[str, Mapping[str, Mapping[str, float]]], title: str, xlabel: str, limit: float
) -> Figure:
    """Draw how far predictions are from networks in their worst band: a row for each network, a mark for each rule.

    panels: title -> network -> rule -> error; one panel above the other, the same rules in all.
    limit: where the axis ends; what is farther stands there.
    """
    rows = [len(panel) for panel in panels.values()]
    figure = Figure(figsize=(5, 1.4 + 0.24 * sum(rows) + 0.3 * len(panels)))
    stacked = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=rows)[:, 0]
    for axes, (name, panel) in zip(stacked, panels.items(), strict=True):
        places = np.arange(len(panel))[::-1]
        for (colour, marker, _), rule in zip(_RULES, next(iter(panel.values())), strict=False):
            errors = [min(each[rule], limit) for each in panel.values()]
            mark = {"color": colour, "marker": marker, "markersize": 5, "clip_on": False}
            axes.plot(errors, places, linestyle="none", label=rule, **mark)
        axes.set_yticks(places, list(panel), fontsize=8)
        axes.set_ylim(-0.6, len(panel) - 0.4)
        axes.set_title(name, fontsize=10, loc="left")
        axes.grid(axis="both")
        axes.set_xlim(0, limit)
    stacked[-1].set_xlabel(xlabel)
    figure.legend(*stacked[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


@styled
def error_by_loss(cases: Mapping[str, Float[np.ndarray, "2 networks"]], limit: float, title: str) -> Figure:
    """Draw how far a formula is from networks, against what they lose over what it loses.

    cases: what networks -> their ratio of losses, and the error of the formula in its worst band, predicted less
        measured.
    limit: the ratio beyond which networks are refused.
    """
    figure = Figure(figsize=(5, 3.6))
    axes = figure.subplots()
    for (colour, marker, _), (name, (ratio, error)) in zip(_RULES, cases.items(), strict=False):
        axes.plot(ratio, error, linestyle="none", color=colour, marker=marker, markersize=5, label=name)
    axes.axhline(0, color="#999999", linewidth=0.8)
    axes.axvline(1, color="#999999", linewidth=0.8)
    axes.set_xscale("log", base=2)
    first, last = 0.5, max(2.1, *(1.1 * ratio.max() for ratio, _ in cases.values()))
    axes.axvspan(limit, last, color="#eeeeee", zorder=0)
    axes.set_xlim(first, last)
    axes.set_xticks([0.5, 0.7, 1, 1.4, 2], ["0.5", "0.7", "1", "1.4", "2"])
    axes.minorticks_off()
    axes.set_xlabel("loss of the network, over that of the formula")
    axes.set_ylabel("error of the worst band\n(above 0: predicted too early)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(cases))
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure
