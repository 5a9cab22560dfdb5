"""What every figure shares: style, byte-stable display, colours and axes of the book's visual grammar."""

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
import matplotlib.figure
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes

from reschrom.theory.bands import band_names

P = ParamSpec("P")
R = TypeVar("R")

STYLE = Path(__file__).with_name("reschrom.mplstyle")
WIDTH = 7.2  # inches: the text column of a page, at 100 points per inch

# One line style for each kind of knowledge.
MEASURED, PAPER, THEORY = "-", (0, (5, 2)), (0, (1, 1.4))
# One colour for each theory where a line does not stand for a band.
INK = {"measured": "#222222", "paper": "#c1440e", "gaussian": "#2a6f97", "guidance": "#7a4fa3"}


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure that displays itself in a notebook as the same bytes every time.

    raster: shown as PNG at twice the page's resolution (pictures); otherwise as SVG (lines).
    """

    def __init__(self, *args: Any, raster: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **{"layout": "constrained", **kwargs})
        self.raster = raster

    def __repr__(self) -> str:
        return "<Figure>"

    @functools.cached_property
    def _bundle(self) -> dict[str, Any]:
        buffer = io.BytesIO()
        with matplotlib.style.context(STYLE):
            if self.raster:
                self.savefig(buffer, format="png", metadata={"Software": None})
                return {"text/plain": repr(self), "image/png": buffer.getvalue()}
            self.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
            return {"text/plain": repr(self), "image/svg+xml": buffer.getvalue().decode()}

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return self._bundle


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw with the book's style, whatever the caller's settings are."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.style.context(STYLE, after_reset=True):
            return draw(*args, **kwargs)

    return wrapper


def band_colours(side: int) -> list[tuple[float, float, float, float]]:
    """Return one colour for each resolution of a `side` x `side` image, finest first: coarse is dark, fine is light."""
    count = len(band_names(side))
    return [matplotlib.colormaps["viridis"](0.86 * (1 - m / max(count - 1, 1))) for m in range(count)]


def time_axis(axes: Axes, start: float, end: float, label: str | None = None) -> None:
    """Let time run as generation does: noise (t = end) at the left, image (t = start) at the right."""
    axes.set_xlim(end, start)
    axes.set_xlabel(label or "time $t$   (noise on the left, image on the right)")


def resolution_axis(axes: Axes, side: int) -> None:
    """Label heat map rows with resolutions in their colours, one pixel at the bottom and the finest at the top."""
    names = band_names(side)[::-1]
    axes.set_yticks(np.arange(len(names)), names)
    for label, colour in zip(axes.get_yticklabels(), band_colours(side)[::-1], strict=True):
        label.set_color(colour)
        label.set_fontweight("bold")
    axes.set_ylabel("resolution")
    axes.tick_params(axis="y", length=0)


def show_image(axes: Axes, image: np.ndarray, limit: float = 1.0) -> None:
    """Draw one image, shape (C, H, W) with values in [-limit, limit], enlarged without blurring."""
    picture = np.clip((np.moveaxis(np.asarray(image), 0, -1) / limit + 1) / 2, 0, 1)
    axes.imshow(picture if picture.shape[-1] == 3 else picture[..., 0], cmap="gray", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
