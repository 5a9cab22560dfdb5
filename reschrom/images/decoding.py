"""One picture of a file, whatever kind it is of, as the 8-bit RGB that is measured."""

import contextlib
import functools
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

import numpy as np

from reschrom.images.sources import SUFFIXES, BrokenPicture, what, words

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage
    from PIL.ImageFile import ImageFile

# What Pillow logs its errors say too, which name the file here; where nobody listens, a log goes to the terminal.
logging.getLogger("PIL").addHandler(logging.NullHandler())
# Tags of TIFF: bits and sign of the samples, and which of them is white.
_BITS, _SIGN, _WHITE = 258, 339, 262
_SIGNED, _WHITE_IS_ZERO = 2, 0
# PNG files whose transparent colour Pillow compares with samples that it has scaled, by how they are packed.
_SCALED = ("L;2", "L;4", "I;16B", "RGB;16B")


def decoded(content: bytes, place: str) -> "PillowImage":
    """Return a picture in RGB of 8 bits: upright by its EXIF data, on white where it is transparent.

    content: of the file; of frames or pages the first counts.
    place: what the error calls the picture.
    Grey of 16 bits is scaled to 8. Raises BrokenPicture for what is no picture, and for samples without a known range.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Of metadata, which are not measured, and of many pixels, which are read up to twice that number.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=_formats()) as picture:
                _check_transparency(picture, place)
                _load(picture, place)
                deep = _is_deep(picture, place)
                ImageOps.exif_transpose(picture, in_place=True)
                return _on_white(_of_eight_bits(picture) if deep else picture)
    except (BrokenPicture, ImportError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise BrokenPicture(f"{place} {what(content) or 'is no picture of a known kind'}") from error
    except Exception as error:  # whatever Pillow makes of broken bytes
        raise BrokenPicture(f"{place} is no picture that can be read: {words(error)}") from error


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return what the pictures may be, by content: no language of drawing, which Pillow gives to another program."""
    from PIL import Image

    kinds = Image.registered_extensions()
    return tuple(dict.fromkeys(kinds[suffix] for suffix in SUFFIXES if kinds.get(suffix) in Image.OPEN))


def _check_transparency(picture: "ImageFile", place: str) -> None:
    if picture.format == "PNG" and "transparency" in picture.info and picture.tile[0][3] in _SCALED:
        raise BrokenPicture(
            f"{place} says its transparent colour in other bits than Pillow reads: save it with an alpha channel"
        )


def _load(picture: "ImageFile", place: str) -> None:
    if picture.format != "TIFF":
        picture.load()
        return
    with _heard() as said:
        picture.load()
        said.seek(0)
        damage = [line for line in said.read().decode(errors="replace").splitlines() if "Warning" not in line]
    if damage:
        raise BrokenPicture(f"{place} is no picture that can be read: {damage[0]}")


@contextlib.contextmanager
def _heard() -> Iterator[IO[bytes]]:
    """Catch what is written to standard error: there alone libtiff tells of some damage, and names no file."""
    with tempfile.TemporaryFile() as said:
        before = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(before, 2)
            os.close(before)


def _is_deep(picture: "ImageFile", place: str) -> bool:
    """Tell grey of 16 bits, 0 for black. Raises BrokenPicture for other samples that no 8 bits stand for."""
    tags = getattr(picture, "tag_v2", {})
    signed = _SIGNED in tags.get(_SIGN, ())
    deep = picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM"))
    odd = deep and (tags.get(_BITS, (16,)) != (16,) or tags.get(_WHITE) == _WHITE_IS_ZERO)
    if signed or odd or (picture.mode in ("I", "F") and not deep):
        raise BrokenPicture(
            f"{place} has samples whose black and white are not known (mode {picture.mode} of {picture.format}): "
            "save it with unsigned samples of 8 or 16 bits, 0 for black"
        )
    return deep


def _of_eight_bits(picture: "PillowImage") -> "PillowImage":
    from PIL import Image

    # 65535 = 257 · 255, so that a picture of 8 bits comes back from its twin of 16.
    return Image.fromarray(((np.asarray(picture).astype(np.uint32) + 128) // 257).astype(np.uint8))


def _on_white(picture: "PillowImage") -> "PillowImage":
    from PIL import Image

    if not picture.has_transparency_data:
        return picture.convert("RGB")
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture.convert("RGBA"))
    return white.convert("RGB")
