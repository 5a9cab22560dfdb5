"""Figures of samples on their way: estimates, the spectra of their changes, and when each frequency comes."""

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from reschrom.plots._axes import show_image, time_axis
from reschrom.plots._figure import INK, MEASURED, NARROW, THEORY, WIDTH, Figure, styled

Images = Sequence[Float[np.ndarray, "channels side side"]]
# Time of each frequency, with the ends of its interval or None; NaN where nothing is known.
Line = tuple[str, Float[np.ndarray, " frequencies"], Float[np.ndarray, "2 frequencies"] | None]

_LOOKS = {
    "measured": (INK["measured"], MEASURED),
    "raw": ("#a0a0a0", MEASURED),
    "theory": (INK["gaussian"], THEORY),
    "theory with error": (INK["guidance"], THEORY),
}


@styled
def denoising_strip(rows: Mapping[str, Images], timesteps: Float[np.ndarray, " columns"], title: str) -> Figure:
    """Draw rows of images from noise to image, one column per timestep, each headed by its time.

    rows: label -> images with values in [-1, 1], as many as there are timesteps.
    """
    count = len(timesteps)
    size = (WIDTH - 0.95) / count
    figure = Figure(figsize=(WIDTH, size * len(rows) + 0.65), raster=True, layout=None)
    figure.suptitle(title, x=0.01, y=0.99, ha="left", fontweight="bold", fontsize=11)
    top = 1 - 0.6 / figure.get_figheight()
    grid = figure.subplots(
        len(rows),
        count,
        squeeze=False,
        gridspec_kw={"left": 0.125, "right": 0.995, "top": top, "bottom": 0.01, "hspace": 0.04, "wspace": 0.04},
    )
    for line, (label, images) in zip(grid, rows.items(), strict=True):
        for axes, image in zip(line, images, strict=True):
            show_image(axes, image)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    for index, (axes, t) in enumerate(zip(grid[0], timesteps, strict=True)):
        axes.set_title(f"{'$t$ = ' if index == 0 else ''}{t:g}", fontsize=9, fontweight="normal", loc="center", pad=4)
    return figure


@styled
def sample_grid(rows: Mapping[str, Images], columns: Sequence[str], title: str) -> Figure:
    """Draw samples in rows of up to eight, each column headed by its name; longer rows go on in equal blocks below.

    rows: label -> one image for each column, with values in [-1, 1].
    """
    width, label = 8, 0.85
    if len(columns) > width:
        width = math.ceil(len(columns) / math.ceil(len(columns) / width))
    blocks = [columns[first : first + width] for first in range(0, len(columns), width)]
    size = (WIDTH - label) / width
    block = size * len(rows) + 0.3
    figure = Figure(figsize=(WIDTH, 0.4 + block * len(blocks)), raster=True, layout=None)
    figure.suptitle(title, x=0.01, y=0.99, ha="left", fontweight="bold", fontsize=11)
    height = figure.get_figheight()
    for number, names in enumerate(blocks):
        top = height - 0.6 - number * block
        for line, (name, images) in enumerate(rows.items()):
            for column, image in enumerate(images[number * width :][: len(names)]):
                left, bottom = label + column * size, top - (line + 1) * size
                axes = figure.add_axes((left / WIDTH, bottom / height, 0.96 * size / WIDTH, 0.96 * size / height))
                show_image(axes, image)
                if line == 0:
                    heading = names[column].removeprefix("a pair of ").removeprefix("an ").removeprefix("a ")
                    axes.set_title(heading, fontsize=8, fontweight="normal", loc="center", pad=3)
                if column == 0:
                    axes.set_ylabel(name.replace(" ", "\n"), rotation=0, ha="right", va="center", fontsize=8)
    return figure


@styled
def change_spectra(
    panels: Mapping[str, Float[np.ndarray, "changes frequencies"]],
    times: Float[np.ndarray, " changes"],
    title: str,
) -> Figure:
    """Draw the radial power spectra of changes, one line per time, one panel per source, one above the other.

    panels: panel title -> power at 1, 2, 3, ... cycles per image, for every time.
    times: when each change happens, from noise to image.
    """
    figure = Figure(figsize=(NARROW, 0.9 + 1.9 * len(panels)))
    colours, scale = matplotlib.colormaps["viridis"], Normalize(0, float(times.max()))
    rows = figure.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (panel, spectra) in zip(rows, panels.items(), strict=True):
        for t, spectrum in zip(times, spectra, strict=True):
            axes.loglog(np.arange(1, len(spectrum) + 1), spectrum, color=colours(scale(float(t))), linewidth=1.3)
        axes.set_title(panel, fontsize=10, fontweight="normal")
        axes.set_ylabel("power of change")
        octaves = 2 ** np.arange(int(np.log2(spectra.shape[1])) + 1)
        axes.set_xticks(octaves, [str(f) for f in octaves])
        axes.minorticks_off()
    shown = next(iter(panels.values()))  # the measurement: no panel reaches far below it
    axes.set_ylim(0.3 * float(np.quantile(shown, 0.02)), 2 * max(float(each.max()) for each in panels.values()))
    axes.set_xlabel("cycles per image")
    bar = figure.colorbar(ScalarMappable(scale, colours), ax=list(rows), label="timestep", aspect=40, pad=0.01)
    bar.ax.tick_params(labelsize=8)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


@styled
def mean_times(panels: Mapping[str, Mapping[str, Line]], last: float, title: str) -> Figure:
    """Draw when each frequency comes, one panel per quantity, one above the other, noise at the left.

    panels: panel title -> label -> (kind, mean timestep at 1, 2, 3, ... cycles per image, its interval); the kind is
        "measured" or "raw" (solid), "theory" or "theory with error" (dotted).
    last: the timestep of pure noise.
    """
    figure = Figure(figsize=(NARROW, 1.1 + 2.7 * len(panels)))
    rows = figure.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (panel, lines) in zip(rows, panels.items(), strict=True):
        for label, line in lines.items():
            _line(axes, label, line)
        axes.set_title(panel, fontsize=10, fontweight="normal")
        axes.grid(axis="x")
        time_axis(axes, 0.0, last, " ")
        axes.set_ylabel("cycles per image")
    axes.set_xlabel("mean timestep   (noise left, image right)")
    frequencies = len(next(iter(lines.values()))[1])
    octaves = 2 ** np.arange(int(np.log2(frequencies)) + 1)
    axes.set_yscale("log", base=2)
    axes.set_yticks(octaves, [f"{f}  ({2 * f}x{2 * f})" for f in octaves])
    handles = {label: h for axes in rows for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


def _line(axes: Axes, label: str, line: Line) -> None:
    kind, times, interval = line
    colour, style = _LOOKS[kind]
    frequencies = np.arange(1, len(times) + 1)
    axes.plot(times, frequencies, color=colour, linestyle=style, label=label)
    if interval is not None:
        axes.fill_betweenx(frequencies, *interval, color=colour, alpha=0.18, linewidth=0)
