"""What every module needs to treat NumPy arrays and torch tensors alike."""

import math
import sys
from collections.abc import Iterable
from numbers import Integral, Real
from textwrap import shorten
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from jaxtyping import Float

# jaxtyping reads `Any` as "anything with a shape and a dtype": NumPy arrays and torch tensors.
Array = Any
Number = int | float
Images = Float[np.ndarray, "images channels height width"]

# Images of so many pixels along both sides, with so many numbers along their last axis, have their channels there.
_CHANNELS, _SIDE = (1, 3, 4), 8
# No picture in units of the noise is so bright anywhere and negative nowhere; and in files of pictures the darkest
# pixel has no more than so much of the brightest one. Measurements, such as a flux, can be so bright, too, but files
# hold whole values, or what resizing leaves of 0 to 255.
_BRIGHTEST, _DARKEST = 16.0, 0.25


def floating(value: Array) -> tuple[Array, Any]:
    """Return `value` as a floating array with its array namespace (NumPy for plain numbers).

    Floating dtypes are kept; integers take the namespace's default floating dtype.
    Raises TypeError for anything that is not real numbers.
    """
    array, xp = real(value)
    if xp.isdtype(array.dtype, "real floating"):
        return array, xp
    return xp.astype(array, xp.empty(0).dtype), xp


def real(value: Array) -> tuple[Array, Any]:
    """Return `value` as an array with its namespace, after checking that it holds real numbers, else TypeError."""
    array = np.asarray(value) if isinstance(value, (int, float, list, tuple, np.generic)) else value
    try:
        xp = array_namespace(array)
    except TypeError:
        raise TypeError(f"an array of real numbers is needed; got {type(value).__name__}") from None
    if not xp.isdtype(array.dtype, ("bool", "integral", "real floating")):
        raise TypeError(f"an array of real numbers is needed; got one of {array.dtype}")
    return array, xp


def numpy_array(value: Array) -> np.ndarray:
    """Return an array of real numbers, which may be a tensor of torch, as one of NumPy, of its own precision."""
    array, xp = real(value)
    if isinstance(array, np.ndarray):
        return array
    if xp.isdtype(array.dtype, "real floating"):
        array = single(array)  # NumPy has no bfloat16
    return np.asarray(array.detach().cpu() if hasattr(array, "detach") else array)


def single(array: Array) -> Array:
    """Return an array of half precision in single precision, in which it can be computed with; others as they are."""
    xp = array_namespace(array)
    return xp.astype(array, xp.float32) if xp.finfo(array.dtype).bits < 32 else array


def widened(array: Array, factors: Iterable[float]) -> Array:
    """Return an array in double precision where its own dtype cannot hold these factors, else as it is."""
    xp = array_namespace(array)
    known = xp.finfo(array.dtype)
    if all(float(known.smallest_normal) <= factor <= float(known.max) / 2 for factor in factors):
        return array
    return xp.astype(array, xp.float64)


def narrowed(array: Array, dtype: Any) -> Array:
    """Return an array of a narrower dtype, where it can hold it; ValueError otherwise."""
    xp = array_namespace(array)
    if array.dtype == dtype:
        return array
    if not bool(xp.all(xp.abs(array) <= float(xp.finfo(dtype).max))):
        raise ValueError(f"the result is too large for {dtype}: give an array of another dtype; got {_range(array)}")
    return xp.astype(array, dtype)


def like(value: Array, x: Array) -> Array:
    """Return `value` as an array of the library, dtype and device of `x`."""
    return array_namespace(x).asarray(value, dtype=x.dtype, device=device(x))


def signal_power(alpha: Array) -> tuple[Array, Any]:
    """Return `alpha` as a floating array with its namespace, after checking that it lies in [0, 1]."""
    array, xp = floating(alpha)
    if not bool(xp.all((array >= 0) & (array <= 1))):  # NaN fails both comparisons
        raise ValueError(f"alpha is the signal power of the noised image and lies in [0, 1]; got {_range(array)}")
    return array, xp


def one_signal_power(alpha: Number) -> float:
    """Return `alpha` after checking that it is one number in [0, 1]."""
    array, _ = signal_power(alpha)
    if array.ndim:
        raise ValueError(f"alpha is one number for all images here; got the shape {tuple(array.shape)}")
    return float(array)


def whole_level(level: int) -> int:
    """Return `level` after checking that it is a whole number, 0 or more, and that 4^level is a finite number."""
    if isinstance(level, bool) or not isinstance(level, (int, np.integer)) or not 0 <= level <= 500:
        raise ValueError(f"level counts halvings of the side: 0, 1, 2, ..., at most 500; got {level!r}")
    return int(level)


def whole_number(what: str, value: Any, least: int = 0) -> int:
    """Return a value after checking that it is a whole number, `least` or more. True and False are none."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{what} must be a whole number; got {told(value)}")
    if value < least:
        raise ValueError(f"{what} must be {least} or more; got {value}")
    return int(value)


def one_number(what: str, value: Any) -> Any:
    """Return a value as a plain number, which may be any, NaN too, after checking that it is one real number."""
    one = value.item() if getattr(value, "ndim", None) == 0 else value
    if isinstance(one, bool) or not isinstance(one, Real):
        raise TypeError(f"{what} must be a number; got {told(value)}")
    return one


def real_number(what: str, value: Any, least: Number = -math.inf, greatest: Number = math.inf) -> float:
    """Return a value after checking that it is one finite real number from `least` to `greatest`."""
    one = one_number(what, value)
    if not (least <= one <= greatest and abs(one) <= sys.float_info.max):
        limits = "be finite" if least == -math.inf else f"lie in [{least:g}, {greatest:g}]"
        raise ValueError(f"{what} must {limits}; got {one}")
    return float(one)


def told(value: Any) -> str:
    """Return what an error says of a value that came: in one line, and not a long one."""
    return shorten(repr(value), 80, placeholder=" ...")


def shape_told(array: Array) -> str:
    """Return what an error says of the shape that came in the place of images (N, C, H, W)."""
    hint = "; images of one channel are images[:, None]" if array.ndim == 3 else ""
    return f"{tuple(array.shape)}{hint}"


def finite(what: str, *arrays: Array) -> None:
    """Raise ValueError when one of the arrays holds NaN or infinity; `what` says what they are."""
    for array in arrays:
        xp = array_namespace(array)
        if not bool(xp.all(xp.isfinite(array))):
            raise ValueError(f"{what} must be finite; got NaN or infinity")


def refuse_channels_last(x: Array) -> None:
    """Refuse images that have their channels last, as files and `output_type="np"` of pipelines have them."""
    if x.ndim == 4 and x.shape[-1] in _CHANNELS and min(x.shape[1:3]) >= _SIDE:
        raise ValueError(
            f"images have the shape (N, C, H, W); got {shape_told(x)}, channels last: np.moveaxis(images, -1, 1)"
        )


def refuse_as_in_files(x: Array) -> None:
    """Refuse images as files have them: channels last, or values up to 255 or 65535, beside which noise is nothing."""
    refuse_channels_last(x)
    xp = array_namespace(x)
    least, greatest = (float(xp.min(x)), float(xp.max(x))) if math.prod(x.shape) else (0.0, 0.0)
    if not (0 <= least < _DARKEST * greatest and greatest > _BRIGHTEST):
        return
    if 127.5 < greatest < 255.5 or bool(xp.all(x == xp.round(x))):
        half = 127.5 if greatest < 255.5 else 32767.5
        raise ValueError(
            f"images have values from -1 to 1, or 0 to 1; got values from {least:g} to {greatest:g}: "
            f"images / {half} - 1"
        )


def image_sides(x: Array, level: int = 0) -> tuple[int, int]:
    """Return the height and width of images `(..., H, W)`, after checking that both are multiples of `2^level`.

    Raises ValueError for anything else, and for images without a pixel.
    """
    level = whole_level(level)
    if x.ndim < 2:
        raise ValueError(f"images have the shape (..., height, width); got {tuple(x.shape)}")
    height, width = x.shape[-2:]
    if not height or not width:
        raise ValueError(f"images have one pixel or more; got {height}x{width}")
    if height % 2**level or width % 2**level:
        raise ValueError(f"level {level} of an image needs sides that are multiples of 2^{level}; got {height}x{width}")
    return height, width


def per_image(value: Array, x: Array) -> Array:
    """Return one number per image, shape `x.shape[:-3]` or scalar, so that it multiplies images `(..., C, H, W)`."""
    if value.ndim and tuple(value.shape) != tuple(x.shape[:-3]):
        raise ValueError(
            f"alpha must be one number, or one per image with shape {tuple(x.shape[:-3])}; got {tuple(value.shape)}"
        )
    return like(value, x)[..., None, None, None] if value.ndim else like(value, x)


def _range(array: Array) -> str:
    return f"values from {float(array.min()):.6g} to {float(array.max()):.6g}"
