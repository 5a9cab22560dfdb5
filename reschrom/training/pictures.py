"""Captioned pictures for training: photographs from a zip, a folder or the installed packages, in every style."""

import io
import json
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, UInt8

from reschrom.data import image_names, photos
from reschrom.training.recipe import Recipe
from reschrom.training.sources import SUFFIXES, opened
from reschrom.training.styles import Picture

# Part of a photograph's side that a second cut of it keeps at least.
_SMALLEST_CUT = 0.75
# Pictures are moved by up to so many pixels, and mirrored, each time they are used.
_MOVE = 3
# What pictures without classes show, and which of them are held out: one of so many.
ANYTHING, _HELD_OUT = "a picture", 10


def photographs(source: str, content: str, split: str, size: int) -> list[Picture]:
    """Return the photographs of one content, `size` pixels square, in the order of their names.

    source: a zip file or a folder that holds `metadata.json` with a list of `classes`, and pictures called
        `split/class number/name`; or any pictures without classes, which all show "a picture", every tenth held out;
        or the id `owner/name` of a data set on the Hugging Face hub that is either; or "photos", whose contents are
        the names of images in `reschrom.data`.
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
        return [_square(read(name), name, size) for name in chosen]


def stream(source: str, size: int, count: int | None = None, at_once: int = 64) -> Iterator[Float[np.ndarray, "..."]]:
    """Yield all pictures of a source in the order of their names, in batches (N, 3, size, size), values in [-1, 1].

    No more than one batch is kept. Each picture is cut to its middle square first.

    source: a zip file or a folder of pictures, in folders of any depth; or the id `owner/name` of a data set on the
        Hugging Face hub; or "photos", random pieces of the photographs in `reschrom.data`.
    count: at most so many pictures, and 1,000 photos; None for all.
    """
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
            squares = [_square(read(name), name, size) for name in wanted[start : start + at_once]]
            yield np.moveaxis(np.stack(squares), -1, 1) / 127.5 - 1


def _square(content: bytes, name: str, size: int) -> Picture:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as picture:
            return np.asarray(ImageOps.fit(picture.convert("RGB"), (size, size), Image.Resampling.LANCZOS))
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


def gallery(recipe: Recipe, source: str) -> UInt8[np.ndarray, "captions pieces size size 3"]:
    """Return the pictures a model is trained on, in the order of `recipe.captions`, before they are halved."""
    size = recipe.picture_size
    pictures = np.empty((len(recipe.styles), len(recipe.contents), recipe.pieces, size, size, 3), np.uint8)
    for index, content in enumerate(recipe.contents):
        generator = np.random.default_rng([recipe.seed, index])
        pieces = _pieces(photographs(source, content, "train", size), recipe.pieces, generator)
        for place, piece in enumerate(pieces):
            for style, draw in enumerate(recipe.styles.values()):
                pictures[style, index, place] = draw(piece, generator)
    return pictures.reshape(-1, *pictures.shape[2:])


def _pieces(whole: list[Picture], count: int, generator: np.random.Generator) -> Iterator[Picture]:
    """Yield some of many photographs, or all of few, and then random cuts of them until there are enough."""
    from PIL import Image

    order = generator.permutation(len(whole))
    for index in range(count):
        picture = whole[order[index % len(whole)]]
        if index >= len(whole):
            size = len(picture)
            side = size * generator.uniform(_SMALLEST_CUT, 1)
            left, top = generator.uniform(0, size - side, 2)
            cut = Image.fromarray(picture).resize(
                (size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
            )
            picture = np.asarray(cut)
        yield picture


def batch(
    pictures: UInt8[np.ndarray, "captions pieces size size 3"], count: int, generator: np.random.Generator
) -> tuple[Float[np.ndarray, "count 3 size size"], np.ndarray]:
    """Draw pictures in [-1, 1], mirrored and moved by chance, and the number of the caption of each."""
    captions = generator.integers(len(pictures), size=count)
    pieces = generator.integers(pictures.shape[1], size=count)
    chosen = np.pad(pictures[captions, pieces], ((0, 0), (_MOVE, _MOVE), (_MOVE, _MOVE), (0, 0)), mode="edge")
    size = pictures.shape[2]
    drawn = np.empty((count, 3, size, size), np.float32)
    for index, (top, left, mirrored) in enumerate(
        generator.integers([0, 0, 0], [2 * _MOVE + 1, 2 * _MOVE + 1, 2], size=(count, 3))
    ):
        cut = chosen[index, top : top + size, left : left + size]
        drawn[index] = np.moveaxis(cut[:, ::-1] if mirrored else cut, -1, 0)
    return drawn / 127.5 - 1, captions
