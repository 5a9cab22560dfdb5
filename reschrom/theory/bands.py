"""Downsampling, upsampling and the orthogonal resolution bands of an image (Eqs. 9, 19 and 22).

One step D averages 2x2 blocks, one step U repeats every pixel 2x2. D undoes U exactly, so `U^m D^m` is a projection
and its successive differences split an image into orthogonal bands, one for each resolution.
"""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

from array_api_compat import array_namespace
from jaxtyping import Float, Num

from reschrom._arrays import Array, finite, floating, image_sides, whole_level


def size_of(height: int, width: int) -> Any:
    """Return the size of an image as it is told everywhere: one number for a square, else height and width."""
    return height if height == width else (height, width)


def depth(size: int) -> int:
    """Return the level M at which an image of `size` = 2^M pixels has become a single pixel."""
    if not isinstance(size, Integral) or size < 1 or size & (size - 1):
        raise ValueError(f"image sides must be powers of two; got {size!r}")
    return int(math.log2(size))


def downsample(
    x: Num[Array, "*batch height width"], level: int = 1
) -> Float[Array, "*batch height//2**{level} width//2**{level}"]:
    """Average an image over blocks of `2^level` x `2^level` pixels: `D^m` of Eqs. (9) and (15).

    Parameters
    ----------
    x : array, shape (..., H, W)
        Images whose sides are powers of two; other sides, or ones too short to halve `level` times, raise ValueError.
    level : int
        How many times both sides are halved.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import downsample
    >>> downsample(np.arange(16.0).reshape(4, 4)).tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """
    x, _ = floating(x)
    image_sides(x, level)
    for _ in range(level):
        # Sums of pairs, then a product with a power of two: DU = I holds to the last bit.
        rows = x[..., 0::2, :] + x[..., 1::2, :]
        x = (rows[..., 0::2] + rows[..., 1::2]) * 0.25
    return x


def upsample(
    x: Num[Array, "*batch height width"], level: int = 1
) -> Num[Array, "*batch height*2**{level} width*2**{level}"]:
    """Repeat every pixel of an image `2^level` x `2^level` times: `U^m` of Eq. (22), nearest neighbour.

    Parameters
    ----------
    x : array, shape (..., H, W)
        Images whose sides are powers of two, else ValueError.
    level : int
        How many times both sides are doubled.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import upsample
    >>> upsample(np.array([[1, 2]])).tolist()
    [[1, 1, 2, 2], [1, 1, 2, 2]]
    """
    xp, n = array_namespace(x), 2 ** whole_level(level)
    image_sides(x)
    return xp.repeat(xp.repeat(x, n, axis=-1), n, axis=-2)


def bands(x: Num[Array, "*batch height width"], levels: int | None = None) -> list[Array]:
    """Split images into orthogonal resolution bands, each at its own resolution (Eqs. 19 and 24).

    Parameters
    ----------
    x : array, shape (..., H, W)
        Images whose sides are powers of two, else ValueError.
    levels : int, optional
        How often to halve; down to one pixel on the shorter side unless given.

    Returns
    -------
    list of `levels + 1` arrays
        Band m < levels is `D^m x - U D^(m+1) x`, shape (..., H / 2^m, W / 2^m), and the last is `D^levels x`.
        Enlarged to full resolution, `U^m` of each, they are orthogonal and sum to x.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import bands
    >>> fine, mean = bands(np.array([[1.0, 2.0], [3.0, 6.0]]))
    >>> fine.tolist(), mean.tolist()
    ([[-2.0, -1.0], [0.0, 3.0]], [[3.0]])
    """
    fine, _ = floating(x)
    levels = depth(min(image_sides(fine))) if levels is None else levels
    image_sides(fine, levels)
    pyramid = []
    for _ in range(levels):
        coarse = downsample(fine)
        pyramid.append(fine - upsample(coarse))
        fine = coarse
    return [*pyramid, fine]


def from_bands(pyramid: Sequence[Array]) -> Float[Array, "*batch height width"]:
    """Sum resolution bands back into images: the inverse of `bands`, `sum_m U^m b_m` (Eq. 24).

    Parameters
    ----------
    pyramid : sequence of arrays
        Bands, finest first, each twice the size of the next, else ValueError.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import bands, from_bands
    >>> from_bands(bands(np.array([[1.0, 2.0], [3.0, 6.0]]))).tolist()
    [[1.0, 2.0], [3.0, 6.0]]
    """
    if len(pyramid) == 0:
        raise ValueError("an image is the sum of one or more bands; got none")
    x = pyramid[-1]
    for detail in reversed(pyramid[:-1]):
        if tuple(detail.shape) != (*x.shape[:-2], 2 * x.shape[-2], 2 * x.shape[-1]):
            raise ValueError(f"a band twice the size of {tuple(x.shape)} must come next; got {tuple(detail.shape)}")
        x = detail + upsample(x)
    return x


def band_energies(
    x: Num[Array, "*batch channels height width"], levels: int | None = None
) -> Float[Array, "levels *batch"]:
    """Return the squared norm of every resolution band at full resolution, `||U^m b_m||^2` of Eq. (19).

    x: images, shape (..., C, H, W). Returns shape (levels + 1, ...); the bands are orthogonal, so it sums to `||x||^2`.
    """
    if x.ndim < 3:
        raise ValueError(f"images have the shape (..., channels, height, width); got {tuple(x.shape)}")
    xp = array_namespace(x)
    # A pixel of band m covers 4^m pixels of the image.
    energies = [4.0**m * xp.sum(band * band, axis=(-3, -2, -1)) for m, band in enumerate(bands(x, levels))]
    return xp.stack(energies)


def band_sizes(size: int, levels: int | None = None) -> list[int]:
    """Return the number of coefficients of every band in one channel of a `size` x `size` image.

    White noise of unit variance has this energy in each band: 3/4 of the pixels at each resolution, all of the last.
    """
    levels = _levels(size, levels)
    return [3 * (size >> m) ** 2 // 4 for m in range(levels)] + [(size >> levels) ** 2]


def band_spectrum(x: Num[Array, "images channels height width"], levels: int | None = None) -> Float[Array, " levels"]:
    """Estimate the variance per coefficient of every resolution band of a set of square images, `S_m`.

    x: at least two images, shape (N, C, H, W). Returns shape (levels + 1,), about the mean image, unbiased.
    White noise of unit variance has S_m = 1; a scale-free field of unit intensity has S_m = 4^m.
    """
    if x.ndim != 4 or x.shape[0] < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"a spectrum needs two or more square images, shape (N, C, S, S); got {tuple(x.shape)}")
    x, xp = floating(x)
    finite("images", x)
    count, channels, size, _ = x.shape
    energies = xp.sum(band_energies(x - xp.mean(x, axis=0), levels), axis=-1) / (count - 1)
    sizes = [channels * count for count in band_sizes(size, levels)]
    return xp.stack([energies[m] / size for m, size in enumerate(sizes)])


def band_names(size: int, levels: int | None = None) -> list[str]:
    """Name the resolution bands of a `size` x `size` image, finest first: "64x64", "32x32", ..., "1x1"."""
    levels = _levels(size, levels)
    return [f"{size >> m}x{size >> m}" for m in range(levels + 1)]


def _levels(size: int, levels: int | None) -> int:
    """Return how often to halve `size`: down to one pixel unless given."""
    deepest = depth(size)
    levels = deepest if levels is None else whole_level(levels)
    if levels > deepest:
        raise ValueError(f"a {size}x{size} image has levels 0 to {deepest}; got {levels}")
    return levels
