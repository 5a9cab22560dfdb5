"""The temporal bands of videos: what changes from frame to frame, and more slowly.

The frames are halved along time by the rule of `reschrom.theory.cells`, as the sides of an image are.
"""

from numbers import Integral

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float

from reschrom._arrays import Array, like
from reschrom.theory.bands import depth
from reschrom.theory.cells import cells, halving


def frame_names(frames: int) -> list[str]:
    """Name the temporal bands of a video by their cells of frames, finest first: "4 frames", "2 frames", "1 frame".

    Raises ValueError for what is no number of frames.
    """
    if isinstance(frames, bool) or not isinstance(frames, Integral) or frames < 1:
        raise ValueError(f"a video has a whole number of frames, one or more; got {frames!r}")
    counts = [-(-int(frames) >> level) for level in range(depth(int(frames)) + 1)]
    return [f"{count} frame{'s' * (count != 1)}" for count in counts]


def temporal_bands(x: Float[Array, "*batch frames channels height width"]) -> list[Array]:
    """Split videos of any number of frames into the orthonormal coefficients of their temporal bands, finest first.

    The finest band is the change from frame to frame, the last one the mean of all frames. For 2^K frames it is the
    Haar transform along time. All frames are kept as they are in height and width.

    x: videos, shape (..., F, C, H, W). Returns for each band of `frame_names` its coefficients in the place of the
    frames. There are F in all; their squares sum to `||x||^2`, and white noise remains white noise in them.
    """
    xp, frames, pyramid = array_namespace(x), x.shape[-4], []
    for level in range(depth(frames)):
        counts, joining = cells(frames, level), halving(frames, level)
        first, end = int(joining.first), len(counts) - int(joining.last)
        earlier, later = x[..., first:end:2, :, :, :], x[..., first + 1 : end : 2, :, :, :]
        # A cell of n frames is held as its mean times sqrt(n). A pair is turned to its sum and its difference.
        a, b = np.array(counts[first:end:2]), np.array(counts[first + 1 : end : 2])
        one, two = (like(np.sqrt(n / (a + b)), x)[:, None, None, None] for n in (a, b))
        pyramid.append(two * earlier - one * later)
        x = xp.concat([x[..., :first, :, :, :], one * earlier + two * later, x[..., end:, :, :, :]], axis=-4)
    return [*pyramid, x]
