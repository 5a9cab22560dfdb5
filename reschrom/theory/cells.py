"""Cells: how the pixels along one side are joined, halving by halving, where their number is no power of two too.

At level 0 every pixel is a cell. One halving joins neighbouring cells in pairs. Of an odd number the larger of the two
at the ends stays alone, or the last if they are equal. Measured in cells between the ends, the larger end is then
always more than 2/3 and the other more than 1/3: an end e becomes (1 + e) / 2 when it is joined, and e / 2 when it
stays alone.

The two sides of an image are halved by this rule, each by itself, and so are the frames of a video along time.
"""

from functools import lru_cache
from typing import NamedTuple


class Halving(NamedTuple):
    """How one halving joins the cells along a side.

    first, last: whether the first or the last cell stays alone.
    weights: of each cell in its pair, about 1, a cell that stays alone twice; None where all are 1.
    """

    first: bool
    last: bool
    weights: tuple[float, ...] | None


@lru_cache(maxsize=1024)
def cells(side: int, level: int) -> tuple[int, ...]:
    """Return how many of the pixels along one side each cell holds after so many halvings."""
    if level == 0:
        return (1,) * side
    before, joining = cells(side, level - 1), halving(side, level - 1)
    first, end = int(joining.first), len(before) - int(joining.last)
    joined = [a + b for a, b in zip(before[first:end:2], before[first + 1 : end : 2], strict=True)]
    return (*before[:first], *joined, *before[end:])


@lru_cache(maxsize=1024)
def halving(side: int, level: int) -> Halving:
    """Return how the cells of one level are joined into those of the next, along a side of so many pixels."""
    pixels = cells(side, level)
    odd = len(pixels) % 2 == 1
    first = odd and pixels[0] > pixels[-1]
    last = odd and not first
    twice = pixels[: int(first)] + pixels + pixels[len(pixels) - int(last) :]
    weights = [2 * n / (a + b) for a, b in zip(twice[::2], twice[1::2], strict=True) for n in (a, b)]
    return Halving(first, last, None if set(weights) == {1.0} else tuple(weights))
