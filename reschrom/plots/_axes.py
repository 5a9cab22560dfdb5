"""Colours and axes of the book's visual grammar: noise at the left, coarse at the bottom, one colour a resolution."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from reschrom.theory.bands import Size, band_names


def band_colours(size: Size) -> list[tuple[float, float, float, float]]:
    """Return one colour for each resolution of images of a size, finest first: coarse is dark, fine is light."""
    return shades(len(band_names(size)))


def shades(count: int) -> list[tuple[float, float, float, float]]:
    """Return the colours of so many bands, finest first."""
    return [matplotlib.colormaps["viridis"](0.86 * (1 - m / max(count - 1, 1))) for m in range(count)]


def time_axis(axes: Axes, start: float, end: float, label: str | None = None) -> None:
    """Let time run as generation does: noise (t = end) at the left, image (t = start) at the right."""
    axes.set_xlim(end, start)
    axes.set_xlabel(label or "time $t$   (noise on the left, image on the right)")


def resolution_axis(axes: Axes, size: Size) -> None:
    """Label heat map rows with resolutions in their colours, the coarsest at the bottom and the finest at the top."""
    band_axis(axes, band_names(size), "resolution")


def band_axis(axes: Axes, names: Sequence[str], kind: str) -> None:
    """Label heat map rows with bands in their colours, as `resolution_axis` does; `kind` says what a band is."""
    axes.set_yticks(np.arange(len(names)), names[::-1])
    for label, colour in zip(axes.get_yticklabels(), shades(len(names))[::-1], strict=True):
        label.set_color(colour)
        label.set_fontweight("bold")
    axes.set_ylabel(kind)
    axes.tick_params(axis="y", length=0)


def show_image(axes: Axes, image: np.ndarray, limit: float = 1.0) -> None:
    """Draw one image, shape (C, H, W) with values in [-limit, limit], enlarged without blurring."""
    picture = np.clip((np.moveaxis(np.asarray(image), 0, -1) / limit + 1) / 2, 0, 1)
    axes.imshow(picture if picture.shape[-1] == 3 else picture[..., 0], cmap="gray", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
