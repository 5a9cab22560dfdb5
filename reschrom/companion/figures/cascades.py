"""Figures of the cascade: one step of it as a diagram, its ablation, blocks of samples, and distances by band."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from reschrom.plots._axes import band_colours, show_image
from reschrom.plots._figure import INK, THEORY, WIDTH, Figure, styled
from reschrom.theory.bands import band_names
from reschrom.theory.intervals import Interval

Image = Float[np.ndarray, "channels _ _"]  # of any size
Images = Float[np.ndarray, "images channels side side"]

# Where the pictures of a step stand, as (left, middle) in inches; a picture of full size is so wide.
_WIDE, _UPPER, _LOWER = 1.05, 2.36, 0.86
_MARKS = ("o", "s", "^", "D", "v", "P")


@styled
def cascade_step(
    images: Mapping[str, Image], t: float, tau: float, scale: float, residual_limit: float, title: str
) -> Figure:
    """Draw one step of a cascade of two levels as a diagram of its own tensors: Eq. (22).

    images: "x_t", "low", "low noise", "up", "residual", "noise", "estimate": the noised image, what the low-resolution
        model is given, what it says, half of that enlarged, what the residual model says, their sum, the new estimate.
    t, tau, scale: the timesteps that the two models are told, and lambda.
    residual_limit: the value that is drawn white in the two parts of the noise; noise itself is drawn up to 3.
    """
    side, small = images["x_t"].shape[-1], images["low"].shape[-1]
    half = _WIDE * small / side
    figure = Figure(figsize=(WIDTH, 3.5), raster=True, layout=None)
    figure.suptitle(title, x=0.01, y=0.985, ha="left", fontweight="bold", fontsize=11)
    upper = f"{side}x{side}"
    # name: (left edge, middle, width, limit, label)
    places = {
        "x_t": (0.08, _UPPER, _WIDE, 3.0, f"$x_t$, {upper}\n$t$ = {t:g}"),
        "low": (0.08 + (_WIDE - half) / 2, _LOWER, half, 3.0, f"$\\lambda_t D[x_t]$, {small}x{small}\n"),
        "low noise": (2.42, _LOWER, half, 3.0, r"$\epsilon_\mathrm{low}$" + "\n"),
        "up": (3.62, _LOWER, _WIDE, residual_limit, r"$\frac{1}{2}U[\epsilon_\mathrm{low}]$"),
        "residual": (2.16, _UPPER, _WIDE, residual_limit, r"$\epsilon_\mathrm{res}$"),
        "noise": (4.88, _UPPER, _WIDE, 3.0, r"$\epsilon_\mathrm{high}$"),
        "estimate": (6.08, _UPPER, _WIDE, 1.0, "estimate of $x_0$"),
    }
    height = figure.get_figheight()
    for name, (left, middle, width, limit, label) in places.items():
        axes = figure.add_axes((left / WIDTH, (middle - width / 2) / height, width / WIDTH, width / height))
        show_image(axes, images[name], limit)
        figure.text(
            (left + width / 2) / WIDTH, (middle - width / 2 - 0.05) / height, label, ha="center", va="top", fontsize=9
        )
    middle_of = 0.08 + _WIDE / 2
    _arrow(figure, (1.2, _UPPER), (2.1, _UPPER), "residual\nmodel, $t$")
    _arrow(figure, (middle_of, _UPPER - _WIDE / 2 - 0.37), (middle_of, _LOWER + half / 2 + 0.04), "")
    figure.text((middle_of + 0.08) / WIDTH, 1.3 / height, f"$D$, times {scale:.2f}", va="center", fontsize=8.5)
    low_end = 0.08 + (_WIDE + half) / 2 + 0.06
    _arrow(figure, (low_end, _LOWER), (2.36, _LOWER), f"low-resolution\nmodel, $\\tau$ = {tau:.0f}")
    _arrow(figure, (2.42 + half + 0.05, _LOWER), (3.56, _LOWER), r"$\frac{1}{2}U$")
    _arrow(figure, (3.27, _UPPER), (4.0, _UPPER), "")
    _arrow(figure, (3.62 + _WIDE / 2, _LOWER + _WIDE / 2 + 0.04), (3.62 + _WIDE / 2, _UPPER - 0.16), "")
    figure.text((3.62 + _WIDE / 2) / WIDTH, _UPPER / height, "+", ha="center", va="center", fontsize=18)
    _arrow(figure, (4.3, _UPPER), (4.83, _UPPER), "")
    _arrow(figure, (5.95, _UPPER), (6.06, _UPPER), "")
    return figure


@styled
def ablation(
    templates: Float[np.ndarray, "images channels _ _"],
    corners: Mapping[tuple[bool, bool], Images],
    columns: int,
    title: str,
) -> Figure:
    """Draw the templates of a cascade and its samples for every way of leaving out its two adjustments.

    templates: small images, one for each sample, drawn at their own size beside the samples.
    corners: (time adjusted, intensity rescaled) -> samples of the same noise.
    columns: images in a row of a block.
    """
    figure = Figure(figsize=(WIDTH, 4.6), raster=True, layout=None)
    figure.suptitle(title, x=0.01, y=0.99, ha="left", fontweight="bold", fontsize=11)
    blocks = {key: mosaic(images, columns) for key, images in corners.items()}
    small = mosaic(templates, columns)
    _, rows, across = next(iter(blocks.values())).shape
    wide = 2.36
    tall, scale = wide * rows / across, wide / across
    lefts = {False: 2.02, True: 4.72}
    bottoms = {True: 0.14, False: 0.14 + tall + 0.2}
    figure.set_figheight(height := 2 * tall + 1.0)
    axes = _place(figure, (0.2, 0.14 + tall + 0.1 - small.shape[-2] * scale / 2), small, scale)
    side = templates.shape[-1]
    axes.set_title(f"templates, {side}x{side}", fontsize=9.5, pad=4, loc="center", fontweight="normal")
    for (time, intensity), block in blocks.items():
        axes = _place(figure, (lefts[intensity], bottoms[time]), block, scale)
        if time and intensity:
            for spine in axes.spines.values():
                spine.set(visible=True, color=INK["gaussian"], linewidth=2.2)
    for intensity, left in lefts.items():
        text = f"intensity {'rescaled' if intensity else 'as it is'}"
        figure.text((left + wide / 2) / WIDTH, (height - 0.56) / height, text, ha="center", fontsize=9.5)
    for time, bottom in bottoms.items():
        text = f"time {'adjusted' if time else 'as it is'}"
        figure.text(
            1.94 / WIDTH, (bottom + tall / 2) / height, text, rotation=90, va="center", ha="right", fontsize=9.5
        )
    return figure


@styled
def sample_blocks(blocks: Mapping[str, Images], columns: int, title: str) -> Figure:
    """Draw sets of samples side by side, each headed by its name."""
    figure = Figure(figsize=(WIDTH, 2.0), raster=True, layout=None)
    figure.suptitle(title, x=0.01, y=0.985, ha="left", fontweight="bold", fontsize=11)
    pictures = {name: mosaic(images, columns) for name, images in blocks.items()}
    gap = 0.12
    wide = (WIDTH - gap * (len(blocks) + 1)) / len(blocks)
    tall = wide * max(each.shape[-2] / each.shape[-1] for each in pictures.values())
    figure.set_figheight(tall + 0.68)
    for index, (name, picture) in enumerate(pictures.items()):
        axes = _place(figure, (gap + index * (wide + gap), 0.08), picture, wide / picture.shape[-1])
        axes.set_title(name, fontsize=9.5, fontweight="normal", loc="center", pad=4)
    return figure


@styled
def band_distances(
    distances: Mapping[str, tuple[Float[np.ndarray, " bands"], Interval]],
    floors: Mapping[str, Float[np.ndarray, " bands"]],
    side: int,
    title: str,
) -> Figure:
    """Draw the distances of several sets of samples from real images in every band, with their intervals.

    distances: name -> distance and its interval; bands finest first.
    floors: name -> distances that something perfect or real has, drawn dotted.
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.subplots()
    names = band_names(side)[::-1]
    places, colours = np.arange(len(names)), _colours(len(distances))
    for index, (label, (distance, interval)) in enumerate(distances.items()):
        at = places + 0.55 * (index / max(len(distances) - 1, 1) - 0.5)
        errors = np.abs(np.stack(interval) - distance)[:, ::-1]
        mark = _MARKS[index % len(_MARKS)]
        axes.errorbar(at, distance[::-1], errors, fmt=mark, color=colours[index], markersize=5, capsize=2, label=label)
    for (label, floor), colour in zip(floors.items(), ("#888888", "#bbbbbb"), strict=False):
        axes.plot(places, floor[::-1], linestyle=THEORY, color=colour, label=label)
    axes.set_yscale("log")
    axes.set_xticks(places, names)
    for tick, shade in zip(axes.get_xticklabels(), band_colours(side)[::-1], strict=True):
        tick.set_color(shade)
        tick.set_fontweight("bold")
    axes.set_xlabel("resolution")
    axes.set_ylabel("distance to real images\n(pixel values in [-1, 1])")
    figure.legend(loc="outside lower center", ncols=3)
    axes.set_title(title)
    return figure


@styled
def variance_ratios(panels: Mapping[str, Mapping[str, Float[np.ndarray, " bands"]]], side: int, title: str) -> Figure:
    """Draw, for several models, the variance of every band as a multiple of what it should be, coarse to fine.

    panels: model -> {"threshold": ratios, drawn solid, "no threshold": ratios, drawn dashed}; bands finest first.
    """
    figure = Figure(figsize=(WIDTH, 3.0))
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    names = band_names(side)[::-1]
    styles = {"threshold": ("-", "o"), "no threshold": ((0, (4, 2)), "D")}
    for axes, (model, ratios) in zip(row, panels.items(), strict=True):
        axes.axhline(1, color="#888888", linewidth=0.8)
        for (label, ratio), colour in zip(ratios.items(), (INK["gaussian"], INK["paper"]), strict=True):
            line, mark = styles[label]
            axes.plot(ratio[::-1], linestyle=line, marker=mark, markersize=4, color=colour, label=label)
        axes.set_title(model, fontsize=9.5, fontweight="normal")
        axes.set_xticks(range(len(names)), names, rotation=60, fontsize=8)
        axes.set_xlabel("resolution")
    row[0].set_yscale("log")
    row[0].set_ylabel("variance without rescaling\n/ with both adjustments")
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


def mosaic(images: Images, columns: int) -> Float[np.ndarray, "channels height width"]:
    """Set images side by side in rows, white lines between them."""
    from skimage.util import montage

    count, channels, side, _ = images.shape
    rows, gap = -(-count // columns), max(1, side // 16)
    pictures, white = np.moveaxis(np.clip(images, -1, 1), 1, -1), [1.0] * channels
    framed = montage(pictures, white, grid_shape=(rows, columns), padding_width=gap, channel_axis=-1)
    return np.moveaxis(framed[gap:-gap, gap:-gap], -1, 0)


def _place(figure: Figure, corner: Sequence[float], picture: np.ndarray, scale: float) -> Axes:
    """Draw a picture with its lower left corner at a place in inches, `scale` inches for a pixel."""
    height, width = (scale * size for size in picture.shape[-2:])
    wide, tall = figure.get_size_inches()
    axes = figure.add_axes((corner[0] / wide, corner[1] / tall, width / wide, height / tall))
    show_image(axes, picture)
    return axes


def _arrow(figure: Figure, start: tuple[float, float], end: tuple[float, float], text: str) -> None:
    from matplotlib.patches import FancyArrowPatch

    wide, tall = figure.get_size_inches()
    points = [(x / wide, y / tall) for x, y in (start, end)]
    figure.add_artist(FancyArrowPatch(*points, arrowstyle="-|>", mutation_scale=10, color="#444444", linewidth=1.2))
    middle = [sum(pair) / 2 for pair in zip(*points, strict=True)]
    figure.text(middle[0], middle[1] + 0.06 / tall, text, ha="center", va="bottom", fontsize=8.5)


def _colours(count: int) -> list[str]:
    return [INK["gaussian"], INK["paper"], INK["guidance"], "#c79a2e", "#222222", "#6b8e23"][:count]
