"""Figures of the related methods: the time maps of all of them, and a forward path that shrinks on its way."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float

from reschrom.plots._axes import band_colours, show_image, time_axis
from reschrom.plots._figure import PAPER, THEORY, WIDTH, Figure, styled
from reschrom.theory.schedules import Schedule

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


@styled
def shrinking_path(
    times: Times,
    rows: Mapping[str, Sequence[Float[np.ndarray, "channels _ _"]]],
    schedule: Schedule,
    turning_points: Sequence[float],
    attenuation: float,
    title: str,
) -> Figure:
    """Draw noised images that lose pixels at turning points, above the amplitudes of their bands.

    times: falling, the middles of equal slices of the time axis, so that every image stands over its own slice.
    rows: label -> one image for each time, values in [-1, 1]; a pixel has the same size in all of them.
    attenuation: of a band at the turning point at which it is dropped; until one turning point before, it is that of
        the schedule, and then it falls by a constant factor.
    """
    label, chart, gap = 0.95, 2.55, 0.06
    cell = (WIDTH - label) / len(times)
    height = 0.35 + len(rows) * cell + chart
    figure = Figure(figsize=(WIDTH, height), layout="none", raster=True)
    figure.text(0.01, 1 - 0.17 / height, title, fontsize=11, fontweight="bold")
    side = max(image.shape[-1] for images in rows.values() for image in images)
    for line, (name, images) in enumerate(rows.items()):
        centre = height - 0.35 - (line + 0.5) * cell
        figure.text((label - 0.1) / WIDTH, centre / height, name, ha="right", va="center", fontsize=9)
        for column, image in enumerate(images):
            width = (cell - gap) * image.shape[-1] / side
            left, bottom = label + (column + 0.5) * cell - width / 2, centre - width / 2
            show_image(figure.add_axes((left / WIDTH, bottom / height, width / WIDTH, width / height)), image)
    axes = figure.add_axes((label / WIDTH, 0.5 / height, 1 - label / WIDTH, (chart - 0.9) / height))
    edges = [schedule.start, *turning_points, schedule.end]
    for m, colour in enumerate(band_colours(2 ** (len(edges) - 2))):
        last = m == len(turning_points)
        t = np.linspace(schedule.start, edges[m + 1], 400)
        faded = np.clip((t - edges[m]) / (edges[m + 1] - edges[m]), 0, 1)
        amplitude = np.sqrt(schedule.alpha(t)) * (1.0 if last else attenuation**faded)
        name = f"{side >> m}x{side >> m}" + (" and coarser" if last else "")
        axes.plot(t, amplitude, color=colour, label=name)
        if not last:
            axes.plot(t[-1], amplitude[-1], "o", color=colour, markersize=5, markerfacecolor="white", clip_on=False)
            axes.axvline(t[-1], color="#999999", linewidth=0.8)
    for start, end, m in zip(edges[:-1], edges[1:], range(len(edges)), strict=False):
        axes.text((start + end) / 2, 1.03, f"{side >> m}x{side >> m}", ha="center", fontsize=9, fontweight="bold")
    axes.set_ylim(0, 1.0)
    axes.set_ylabel("amplitude of\nthe band")
    axes.legend(loc="upper left")
    time_axis(axes, schedule.start, schedule.end)
    return figure


@styled
def divergences(
    attenuations: Float[np.ndarray, " attenuations"],
    lines: Mapping[str, tuple[Times, Times]],
    title: str,
) -> Figure:
    """Draw a bound of a divergence, dashed, and the exact divergence, dotted, against the attenuation.

    lines: what was dropped and when -> (bound, exact value) at each attenuation, in nats.
    """
    figure = Figure(figsize=(WIDTH, 3.5))
    axes = figure.subplots()
    colours = matplotlib.colormaps["inferno"](np.linspace(0.2, 0.75, len(lines)))
    for colour, (name, (bound, exact)) in zip(colours, lines.items(), strict=True):
        axes.loglog(attenuations, bound, color=colour, linestyle=PAPER, label=f"{name}: bound")
        axes.loglog(attenuations, exact, color=colour, linestyle=THEORY, label="exact")
    axes.axhline(1, color="#999999", linewidth=0.8)
    axes.text(attenuations.min(), 1.3, "1 nat", color="#777777", fontsize=8.5)
    axes.set_xlabel("attenuation at the turning point")
    axes.set_ylabel("divergence [nats per image]")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    axes.set_title(title)
    return figure
