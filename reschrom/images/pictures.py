"""Pictures from a zip, a folder, a data set on the hub, or the installed packages: by content, or in batches."""

import io
import json
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, UInt8

from reschrom._extras import naming_extra
from reschrom.images.photographs import image_names, photos
from reschrom.images.sources import SUFFIXES, opened
from reschrom.theory.bands import Size, sides

Picture = UInt8[np.ndarray, "height width 3"]
# What pictures without classes show, and which of them are held out: one of so many.
ANYTHING, _HELD_OUT = "a picture", 10


def photographs(source: str, content: str, split: str, size: int) -> list[Picture]:
    """Return the photographs of one content, `size` pixels square, in the order of their names.

    source: a zip file or a folder that holds `metadata.json` with a list of `classes`, and pictures called
        `split/class number/name`; or any pictures without classes, which all show "a picture", every tenth held out;
        or the id `owner/name` of a data set on the Hugging Face hub that is either; or "photos", whose contents are
        the names of images in `reschrom.images.photographs`.
    split: "train" or "test".
    """
    if source == "photos":
        names = image_names("photographs")
        if content not in names:
            raise ValueError(f"photos have the contents {', '.join(names)}; got {content!r}")
        cuts = photos(content, 64, size, generator=np.random.default_rng([split == "test", names.index(content)]))
        return list(np.round((np.moveaxis(cuts, 1, -1) + 1) * 127.5).astype(np.uint8))
    with opened(source) as (read, names):
        if "metadata.json" in names:
            chosen = _classified(read, names, source, content, split)
        elif content == ANYTHING:
            every = enumerate(_pictures(names, source), 1)
            chosen = [name for number, name in every if (number % _HELD_OUT == 0) == (split == "test")]
        else:
            raise ValueError(
                f"{source} has no metadata.json with classes: all it shows is {ANYTHING!r}; got {content!r}"
            )
        return [_cut(read(name), name, size) for name in chosen]


def stream(source: str, size: Size, count: int | None = None, at_once: int = 64) -> Iterator[Float[np.ndarray, "..."]]:
    """Yield all pictures of a source in the order of their names, in batches (N, 3, H, W), values in [-1, 1].

    No more than one batch is kept. The middle of each picture is cut to the shape that is asked for.

    source: a zip file or a folder of pictures, in folders of any depth; or the id `owner/name` of a data set on the
        Hugging Face hub; or "photos", random pieces of the photographs in `reschrom.images.photographs`.
    size: pixels along one side, or (height, width).
    count: at most so many pictures, and 1,000 photos; None for all.
    """
    with naming_extra("reading pictures"):
        from tqdm import tqdm

    if source == "photos":
        total, generator = count or 1000, np.random.default_rng(0)
        for start in range(0, total, at_once):
            yield photos("photographs", min(at_once, total - start), size, generator=generator)
        return
    with opened(source) as (read, names):
        wanted = _pictures(names, source)[:count]
        starts = range(0, len(wanted), at_once)
        for start in tqdm(starts, "pictures", unit="", unit_scale=at_once, disable=None):
            cut = [_cut(read(name), name, size) for name in wanted[start : start + at_once]]
            yield np.moveaxis(np.stack(cut), -1, 1) / 127.5 - 1


def _cut(content: bytes, name: str, size: Size) -> Picture:
    from PIL import Image, ImageOps, UnidentifiedImageError

    height, width = sides(size)
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return np.asarray(ImageOps.fit(picture.convert("RGB"), (width, height), Image.Resampling.LANCZOS))
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} is no picture") from error


def _pictures(names: list[str], source: str) -> list[str]:
    pictures = sorted(name for name in names if name.lower().endswith(SUFFIXES))
    if not pictures:
        raise ValueError(f"{source} holds no pictures: no file ends in {', '.join(SUFFIXES)}")
    return pictures


def _classified(read: Callable[[str], bytes], names: list[str], source: str, content: str, split: str) -> list[str]:
    try:
        folder = f"{split}/{json.loads(read('metadata.json'))['classes'].index(content):03d}/"
    except (KeyError, ValueError) as error:
        raise ValueError(f"{source} must have a metadata.json whose classes include {content!r}") from error
    pictures = sorted(name for name in names if name.startswith(folder) and not name.endswith("/"))
    if not pictures:
        raise ValueError(f"{source} has no pictures of {content} in {folder}")
    return pictures
