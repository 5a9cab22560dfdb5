"""Downsampling, upsampling and the orthogonal resolution bands of an image of any size (Eqs. 9, 19 and 22).

One step D averages 2x2 blocks, one step U repeats every pixel 2x2. D undoes U exactly, so `U^m D^m` is a projection
and its successive differences split an image into orthogonal bands, one for each resolution.

Sides that are no powers of two are halved into cells of unequal size (`reschrom.theory.cells`). `D^m` is then the mean
over the pixels of every cell, and `U^m` gives every pixel the value of its cell. The cells of a level are unions of
those before, so `U^m D^m` is still a projection and the bands are still orthogonal.
"""

from collections.abc import Sequence
from numbers import Integral

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float, Num

from reschrom._arrays import (
    Array,
    finite,
    floating,
    image_sides,
    like,
    narrowed,
    real,
    refuse_as_in_files,
    shape_told,
    single,
    whole_level,
)
from reschrom.theory.cells import cells, halving

# Pixels along one side of a square image, or its height and width.
Size = int | tuple[int, int]


def sides(size: Size) -> tuple[int, int]:
    """Return the height and width that a size says. Raises ValueError for what is none."""
    pair = (size, size) if isinstance(size, Integral) else size
    if (
        not isinstance(pair, tuple)
        or len(pair) != 2
        or not all(isinstance(n, Integral) and not isinstance(n, bool) and n > 0 for n in pair)
    ):
        raise ValueError(f"a size is a number of pixels, or (height, width), each one or more; got {size!r}")
    return int(pair[0]), int(pair[1])


def size_of(height: int, width: int) -> Size:
    """Return the size of images of this height and width: one number where they are square."""
    return height if height == width else (height, width)


def depth(size: Size) -> int:
    """Return the level M at which the shorter side of an image has become a single cell, `log2 size` rounded up."""
    return (min(sides(size)) - 1).bit_length()


def downsample(
    x: Num[Array, "*batch height width"], level: int = 1
) -> Float[Array, "*batch height//2**{level} width//2**{level}"]:
    """Average an image over blocks of `2^level` x `2^level` pixels: `D^m` of Eqs. (9) and (15).

    Parameters
    ----------
    x : array, shape (..., H, W)
        Images whose sides are multiples of `2^level`, else ValueError.
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
    size = image_sides(x, level)
    for m in range(level):
        x = coarser(x, size, m)
    return x


def upsample(
    x: Num[Array, "*batch height width"], level: int = 1
) -> Num[Array, "*batch height*2**{level} width*2**{level}"]:
    """Repeat every pixel of an image `2^level` x `2^level` times: `U^m` of Eq. (22), nearest neighbour.

    Parameters
    ----------
    x : array, shape (..., H, W)
        Images of any size.
    level : int
        How many times both sides are doubled.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import upsample
    >>> upsample(np.array([[1, 2]])).tolist()
    [[1, 1, 2, 2], [1, 1, 2, 2]]
    """
    (x, xp), n = real(x), 2 ** whole_level(level)
    image_sides(x)
    return xp.repeat(xp.repeat(x, n, axis=-1), n, axis=-2)


def bands(x: Num[Array, "*batch height width"], levels: int | None = None) -> list[Array]:
    """Split images of any size into orthogonal resolution bands, each at its own resolution (Eqs. 19 and 24).

    Parameters
    ----------
    x : array, shape (..., H, W)
        Images. Where a side is no power of two, cells of unequal size take the place of blocks, by the rule of
        `reschrom.theory.cells`.
    levels : int, optional
        How often to halve, at most `depth` times; until the shorter side is one cell unless given.

    Returns
    -------
    list of `levels + 1` arrays
        Band m < levels is `D^m x - U D^(m+1) x`, shape (..., H / 2^m, W / 2^m) rounded up, and the last is
        `D^levels x`. Enlarged to full resolution, `U^m` of each, they are orthogonal and sum to x.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import bands
    >>> fine, mean = bands(np.array([[1.0, 2.0], [3.0, 6.0]]))
    >>> fine.tolist(), mean.tolist()
    ([[-2.0, -1.0], [0.0, 3.0]], [[3.0]])
    >>> [band.shape for band in bands(np.zeros((13, 19)))]
    [(13, 19), (7, 10), (4, 5), (2, 3), (1, 2)]
    """
    fine, _ = floating(x)
    size = image_sides(fine)
    pyramid = []
    for m in range(_levels(size, levels)):
        coarse = coarser(fine, size, m)
        pyramid.append(_beyond(fine, coarse, size, m))
        fine = coarse
    return [*pyramid, fine]


def from_bands(pyramid: Sequence[Array]) -> Float[Array, "*batch height width"]:
    """Sum resolution bands back into images: the inverse of `bands`, `sum_m U^m b_m` (Eq. 24).

    Parameters
    ----------
    pyramid : sequence of arrays
        All bands, finest first, whose shape is that of the images; each half as large as the one before, rounded up,
        else ValueError.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import bands, from_bands
    >>> from_bands(bands(np.array([[1.0, 2.0], [3.0, 6.0]]))).tolist()
    [[1.0, 2.0], [3.0, 6.0]]
    """
    pyramid = [real(band)[0] for band in pyramid]
    if not pyramid:
        raise ValueError("an image is the sum of one or more bands; got none")
    array_namespace(*pyramid)  # refuses bands of two libraries
    size = image_sides(pyramid[0])
    _levels(size, len(pyramid) - 1)
    for m, band in enumerate(pyramid):
        shape = (*pyramid[0].shape[:-2], *_counts(size, m))
        if tuple(band.shape) != shape:
            raise ValueError(
                f"band {m} of images of the shape {tuple(pyramid[0].shape)} has the shape {shape}; "
                f"got {tuple(band.shape)}"
            )
    x = pyramid[-1]
    for m, detail in reversed([*enumerate(pyramid[:-1])]):
        x = detail + finer(x, size, m)
    return x


def band_energies(
    x: Num[Array, "*batch channels height width"], levels: int | None = None
) -> Float[Array, "levels *batch"]:
    """Return the squared norm of every resolution band at full resolution, `||U^m b_m||^2` of Eq. (19).

    x: images of any size, shape (..., C, H, W). Returns shape (levels + 1, ...); the bands are orthogonal, so it sums
    to `||x||^2`.
    """
    x, xp = floating(x)
    if x.ndim < 3:
        raise ValueError(f"images have the shape (..., channels, height, width); got {tuple(x.shape)}")
    size, energies = image_sides(x), []
    for m, band in enumerate(bands(x, levels)):
        pixels = cell_pixels(size, m)
        weighted = band if m == 0 else (pixels if isinstance(pixels, float) else like(pixels, band)) * band
        energies.append(xp.sum(weighted * band, axis=(-3, -2, -1)))
    return xp.stack(energies)


def band_sizes(size: Size, levels: int | None = None) -> list[int]:
    """Return the number of coefficients of every band in one channel of an image: its cells less those of the next.

    White noise of unit variance has this energy in each band. In a `size` x `size` image, `size` a power of two, it is
    3/4 of the pixels at each resolution, and all of the last.

    size: pixels along one side, or (height, width).
    """
    cells = [height * width for height, width in _resolutions(size, levels)]
    return [fine - coarse for fine, coarse in zip(cells, [*cells[1:], 0], strict=True)]


def band_spectrum(x: Num[Array, "images channels height width"], levels: int | None = None) -> Float[Array, " levels"]:
    """Estimate the variance per coefficient of every resolution band of a set of images of any size, `S_m`.

    x: at least two images, shape (N, C, H, W). Returns shape (levels + 1,), about the mean image, unbiased.
    White noise of unit variance has S_m = 1; a scale-free field of unit intensity has S_m = 4^m.
    """
    x, xp = floating(x)
    if x.ndim != 4 or x.shape[0] < 2 or not x.shape[1]:
        raise ValueError(f"a spectrum needs two or more images, shape (N, C, H, W); got {shape_told(x)}")
    finite("images", x)
    refuse_as_in_files(x)
    count, channels = x.shape[:2]
    wide = single(x)  # squares are soon too large for half precision
    with np.errstate(over="ignore", invalid="ignore"):
        energies = xp.sum(band_energies(wide - xp.mean(wide, axis=0), levels), axis=-1) / (count - 1)
    finite("the squares of images", energies)
    sizes = [channels * count for count in band_sizes(image_sides(x), levels)]
    return narrowed(xp.stack([energies[m] / size for m, size in enumerate(sizes)]), x.dtype)


def band_names(size: Size, levels: int | None = None) -> list[str]:
    """Name the resolution bands of an image by their rows and columns of cells, finest first.

    size: pixels along one side, or (height, width); 64 has "64x64", "32x32", ..., "1x1".
    """
    return [f"{height}x{width}" for height, width in _resolutions(size, levels)]


def cell_pixels(size: Size, level: int) -> Float[np.ndarray, "rows columns"] | float:
    """Return how many pixels of an image each cell of a level holds: one number, `4^level`, where all are alike."""
    rows, columns = (cells(side, level) for side in sides(size))
    if len({*rows}) == len({*columns}) == 1:
        return float(rows[0] * columns[0])
    return np.multiply.outer(np.array(rows, float), np.array(columns, float))


def coarser(x: Float[Array, "*batch _ _"], size: Size, level: int) -> Float[Array, "*batch _ _"]:
    """Average the cells of one level into those of the next, by their pixels: one step D of an image of `size`."""
    xp = array_namespace(x)
    rows, columns = (halving(side, level) for side in sides(size))
    # A cell that stays alone is put beside itself, and then is a pair as any other.
    if rows.first or rows.last:
        x = xp.concat([x[..., :1, :], x] if rows.first else [x, x[..., -1:, :]], axis=-2)
    if columns.first or columns.last:
        x = xp.concat([x[..., :1], x] if columns.first else [x, x[..., -1:]], axis=-1)
    if rows.weights:
        x = x * like(rows.weights, x)[:, None]
    if columns.weights:
        x = x * like(columns.weights, x)
    # Sums of pairs, then a product with a power of two: of equal cells DU = I holds to the last bit.
    sums = x[..., 0::2, :] + x[..., 1::2, :]
    return (sums[..., 0::2] + sums[..., 1::2]) * 0.25


def finer(x: Num[Array, "*batch _ _"], size: Size, level: int) -> Num[Array, "*batch _ _"]:
    """Give the cells of one level the values of those of the next that hold them: one step U of an image of `size`."""
    x = upsample(x)
    rows, columns = (halving(side, level) for side in sides(size))
    height, width = x.shape[-2:]
    return x[..., int(rows.first) : height - int(rows.last), int(columns.first) : width - int(columns.last)]


def _beyond(x: Array, coarse: Array, size: Size, level: int) -> Array:
    """Return what the cells of one level have beyond those of the next that hold them, `x - finer(coarse)`."""
    if any(joined.first or joined.last for joined in (halving(side, level) for side in sides(size))):
        return x - finer(coarse, size, level)
    # In blocks of 2x2, without an enlarged copy, to which most of the time would go.
    xp = array_namespace(x)
    blocks = xp.reshape(x, (*coarse.shape[:-1], 2, coarse.shape[-1], 2))
    return xp.reshape(blocks - coarse[..., :, None, :, None], x.shape)


def _counts(size: Size, level: int) -> tuple[int, int]:
    """Return the rows and columns of cells: each side halved and rounded up, `level` times."""
    height, width = sides(size)
    return -(-height >> level), -(-width >> level)


def _resolutions(size: Size, levels: int | None) -> list[tuple[int, int]]:
    return [_counts(size, m) for m in range(_levels(size, levels) + 1)]


def _levels(size: Size, levels: int | None) -> int:
    """Return how often to halve an image: until its shorter side is one cell unless given."""
    deepest = depth(size)
    levels = deepest if levels is None else whole_level(levels)
    if levels > deepest:
        height, width = sides(size)
        raise ValueError(f"a {height}x{width} image has levels 0 to {deepest}; got {levels}")
    return levels
