"""Pictures from a zip, a folder, a data set on the hub, or the installed packages: by content, or in batches."""

import contextlib
import io
import itertools
import json
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, UInt8

from reschrom._extras import naming_extra
from reschrom.images.photographs import image_names, photos
from reschrom.images.sources import SUFFIXES, located, opened
from reschrom.theory.bands import Size, sides
from reschrom.theory.spectrum import CHUNK

Picture = UInt8[np.ndarray, "height width 3"]
Batch = Float[np.ndarray, "pictures 3 height width"]
T = TypeVar("T")
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


def stream(source: str, size: Size, count: int | None = None, at_once: int = CHUNK) -> Iterator[Batch]:
    """Yield all pictures of a source in the order of their names, in batches (N, 3, H, W), values in [-1, 1].

    No more than one batch is kept. The middle of each picture is cut to the shape that is asked for.

    source: a zip file or a folder of pictures, in folders of any depth; or the id `owner/name` of a data set on the
        Hugging Face hub; or "photos", random pieces of the photographs in `reschrom.images.photographs`.
    size: pixels along one side, or (height, width).
    count: at most so many pictures, and 1,000 photos; None for all.
    """
    return (batch for _, batch in mapped(source, size, numbered, count=count, at_once=at_once))


def numbered(batch: Batch, first: int) -> tuple[int, Batch]:
    """Return a batch with the number of its first picture."""
    return first, batch


def mapped(
    source: str,
    size: Size,
    each: Callable[[Batch, int], T],
    *,
    count: int | None = None,
    at_once: int = CHUNK,
    workers: int = 1,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[T]:
    """Yield what a function makes of each batch of `stream` and the number of its first picture, in their order.

    each: called in the processes that read, so that it must be found by its name there.
    workers: how many processes read; which one a batch comes from changes nothing.
    shard: which part, counted from 0, of how many: whole batches, those of one part after another.
    Raises ValueError for photos, which are cut one after another, with more than one worker or part.
    """
    with naming_extra("reading pictures"):
        from tqdm import tqdm

    if source == "photos":
        if workers > 1 or shard != (0, 1):
            raise ValueError("photos are cut one after another; workers and shards need pictures in files")
        total, generator = count or 1000, np.random.default_rng(0)
        for start in range(0, total, at_once):
            yield each(photos("photographs", min(at_once, total - start), size, generator=generator), start)
        return
    source = located(source)
    with opened(source) as (read, names):
        wanted = _pictures(names, source)[:count]
        part, parts = shard
        starts = range(0, len(wanted), at_once)
        starts = starts[len(starts) * part // parts : len(starts) * (part + 1) // parts]
        tasks = ((wanted[start : start + at_once], size, start) for start in starts)
        workers = min(workers, len(starts))
        bar = {"total": len(starts), "desc": "pictures", "unit": "", "unit_scale": at_once, "disable": None}
        if workers > 1:
            yield from tqdm(_spread(source, each, tasks, workers), **bar)
        else:
            yield from tqdm((each(_batch(read, *task[:2]), task[2]) for task in tasks), **bar)


def _spread(source: str, each: Callable[[Batch, int], T], tasks: Iterator[Any], workers: int) -> Iterator[T]:
    """Yield what processes make of the tasks, in their order, never more than a few tasks ahead."""
    # A process of its own from the start: a fork of one with threads may hang.
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, fresh, _open_here, (source, each)) as pool:
        ahead = deque(pool.submit(_work, *task) for task in itertools.islice(tasks, 2 * workers))
        while ahead:
            done = ahead.popleft().result()
            ahead.extend(pool.submit(_work, *task) for task in itertools.islice(tasks, 1))
            yield done


# What a worker reads with and what it does, set once when it begins: to open an archive may take long.
_HERE: list[Any] = []


def _open_here(source: str, each: Callable[[Batch, int], Any]) -> None:
    stack = contextlib.ExitStack()
    read, _ = stack.enter_context(opened(source))
    _HERE[:] = read, each, stack  # open until the process ends


def _work(names: list[str], size: Size, start: int) -> Any:
    read, each, _ = _HERE
    return each(_batch(read, names, size), start)


def _batch(read: Callable[[str], bytes], names: list[str], size: Size) -> Batch:
    cut = [_cut(read(name), name, size) for name in names]
    return np.moveaxis(np.stack(cut), -1, 1) / 127.5 - 1


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
