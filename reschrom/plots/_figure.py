"""What every figure shares: style, byte-stable display, and one line style for each kind of knowledge."""

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
import matplotlib.figure
import matplotlib.style

P = ParamSpec("P")
R = TypeVar("R")

STYLE = Path(__file__).with_name("reschrom.mplstyle")
WIDTH = 7.2  # inches: the text column of a page, at 100 points per inch
NARROW = 5.0  # inches: so narrow that a phone shows words that can be read

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
