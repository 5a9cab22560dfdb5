"""Pictures from a zip, a folder, a data set on the hub, or the installed packages: by content, or in batches."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, UInt8

from reschrom._extras import naming_extra
from reschrom.images.decoding import decoded
from reschrom.images.photographs import image_names, photos
from reschrom.images.processes import spread
from reschrom.images.sources import SUFFIXES, BrokenPicture, located, of_a_mac, opened, shown, what, words
from reschrom.theory.bands import Size, sides
from reschrom.theory.spectrum import CHUNK

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Picture = UInt8[np.ndarray, "height width 3"]
Batch = Float[np.ndarray, "pictures 3 height width"]
T = TypeVar("T")
# What pictures without classes show, and which of them are held out: one of so many.
ANYTHING, _HELD_OUT = "a picture", 10
# How many broken pictures, and kinds of other files, are named.
_TOLD = 3
# Bytes of a metadata.json: the names of many thousand classes.
_LARGEST_METADATA = 2**24


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
        return [_cut(decoded(read(name), shown(f"{source}/{name}")), size) for name in chosen]


@dataclass
class Tally:
    """What of a source was left out or made larger, to be told once all is read.

    left_out: how many files are no pictures, by kind.
    broken: the pictures that could not be read, and why.
    enlarged: how many pictures were smaller than what was asked for.
    """

    left_out: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    enlarged: int = 0

    def lines(self) -> list[str]:
        """Return what there is to tell, a line for each."""
        said = []
        if self.left_out:
            files = "file that is no picture" if self.left_out.total() == 1 else "files that are no pictures"
            said.append(f"skipped {self.left_out.total():,} {files}: {_most(self.left_out)}")
        if self.broken:
            pictures = "picture" if len(self.broken) == 1 else "pictures"
            more = f"; and {len(self.broken) - _TOLD:,} more" if len(self.broken) > _TOLD else ""
            said.append(f"skipped {len(self.broken):,} broken {pictures}: {'; '.join(self.broken[:_TOLD])}{more}")
        if self.enlarged:
            pictures = "picture, which empties its" if self.enlarged == 1 else "pictures, which empties their"
            said.append(f"enlarged {self.enlarged:,} small {pictures} finest bands")
        return said


def stream(
    source: str, size: Size, count: int | None = None, at_once: int = CHUNK, *, skip_broken: bool = False
) -> Iterator[Batch]:
    """Yield all pictures of a source in the order of their names, in batches (N, 3, H, W), values in [-1, 1].

    No more than one batch is kept. The middle of each picture is cut to the shape that is asked for; one that is
    smaller is enlarged. Pictures are turned upright as their EXIF data say, laid on white where they are transparent,
    and of frames or pages the first is read.

    source: a zip file or a folder of pictures, in folders of any depth; or the id `owner/name` of a data set on the
        Hugging Face hub; or "photos", random pieces of the photographs in `reschrom.images.photographs`.
    size: pixels along one side, or (height, width).
    count: at most so many pictures, and 1,000 photos; None for all.
    skip_broken: leave out what cannot be read, of which the first raises BrokenPicture otherwise.
    """
    batches = mapped(source, size, numbered, count=count, at_once=at_once, skip_broken=skip_broken)
    return (batch for _, batch in batches)


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
    skip_broken: bool = False,
    tally: Tally | None = None,
) -> Iterator[T]:
    """Yield what a function makes of each batch of `stream` and the number of its first picture, in their order.

    each: called in the processes that read, so that it must be found by its name there.
    workers: how many processes read; which one a batch comes from changes nothing.
    shard: which part, counted from 0, of how many: whole batches, those of one part after another.
    skip_broken: make batches smaller by what cannot be read; their limits and first numbers stay.
    tally: what takes down what is left out and enlarged.
    Raises ValueError for photos, which are cut one after another, with more than one worker or part.
    """
    with naming_extra("reading pictures"):
        from tqdm import tqdm

    part, parts = shard
    if min(1 if count is None else count, at_once, workers, parts) < 1 or not 0 <= part < parts:
        raise ValueError(
            "count, at_once and workers must be 1 or more, and shard a part, counted from 0, and how many there are; "
            f"got {count}, {at_once}, {workers} and {shard}"
        )
    if source == "photos":
        if workers > 1 or shard != (0, 1):
            raise ValueError("photos are cut one after another; workers and shards need pictures in files")
        total, generator = count or 1000, np.random.default_rng(0)
        for start in range(0, total, at_once):
            yield each(photos("photographs", min(at_once, total - start), size, generator=generator), start)
        return
    source, tally = located(source), Tally() if tally is None else tally
    with opened(source) as (read, names):
        pictures = _pictures(names, source)
        others = set(names).difference(pictures, ["metadata.json"])
        tally.left_out.update(map(_kind, others))
        wanted = pictures[:count]
        starts = range(0, len(wanted), at_once)
        starts = starts[len(starts) * part // parts : len(starts) * (part + 1) // parts]
        if not starts:
            raise ValueError(
                f"part {part + 1} of {parts} of {shown(source)} is empty: parts are cut between batches of {at_once}, "
                f"and there are {len(wanted)} pictures"
            )
        tasks = [_Task(wanted[start : start + at_once], start, size, skip_broken) for start in starts]
        workers = min(workers, len(tasks))
        if workers > 1:
            outcomes = spread(source, each, tasks, workers)
        else:
            outcomes = (task.done(read, source, each) for task in tasks)
        bar = {"total": len(tasks), "desc": "pictures", "unit": "", "unit_scale": at_once, "disable": None}
        for outcome in tqdm(outcomes, **bar):
            tally.broken += outcome.broken
            tally.enlarged += outcome.enlarged
            yield from outcome.made
    if len(tally.broken) == sum(len(task.names) for task in tasks):
        raise ValueError(f"none of the {len(tally.broken)} pictures can be read: {tally.broken[0]}")


class _Outcome(NamedTuple):
    """What a task made, if any picture of it could be read, and what there is to tell of it."""

    made: list[Any]
    broken: list[str]
    enlarged: int


class _Task(NamedTuple):
    """The pictures of one batch, and the number of the first."""

    names: list[str]
    start: int
    size: Size
    skip_broken: bool

    def done(self, read: Callable[[str], bytes], source: str, each: Callable[[Batch, int], Any]) -> _Outcome:
        height, width = sides(self.size)
        cut, broken, enlarged = [], [], 0
        for name in self.names:
            try:
                picture = decoded(read(name), shown(f"{source}/{name}"))
            except BrokenPicture as error:
                if not self.skip_broken:
                    raise
                broken.append(str(error))
                continue
            enlarged += picture.height < height or picture.width < width
            cut.append(_cut(picture, self.size))
        made = [each(np.moveaxis(np.stack(cut), -1, 1) / 127.5 - 1, self.start)] if cut else []
        return _Outcome(made, broken, enlarged)


def _cut(picture: "PillowImage", size: Size) -> Picture:
    from PIL import Image, ImageOps

    height, width = sides(size)
    return np.asarray(ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS))


def _is_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not of_a_mac(name)


def _pictures(names: list[str], source: str) -> list[str]:
    pictures = sorted(filter(_is_picture, names))
    if not pictures:
        holds = f"; there are {_most(Counter(map(_kind, names)))}" if names else ""
        raise ValueError(f"{shown(source)} holds no pictures: no file ends in {', '.join(SUFFIXES)}{holds}")
    return pictures


def _most(kinds: Counter[str]) -> str:
    ordered = sorted(kinds, key=lambda kind: (-kinds[kind], kind))
    others = ", and others" if len(ordered) > _TOLD else ""
    return ", ".join(f"{kinds[kind]:,} {kind}" for kind in ordered[:_TOLD]) + others


def _kind(name: str) -> str:
    """Return what kind of file one is that is no picture."""
    if name.endswith("/"):
        return "link to a folder"
    if of_a_mac(name):
        return "AppleDouble"
    last = PurePosixPath(name)
    return shown(last.suffix.lower() or (last.name if last.name.startswith(".") else "without an ending"))


def _classified(read: Callable[[str], bytes], names: list[str], source: str, content: str, split: str) -> list[str]:
    try:
        folder = f"{split}/{_classes(read).index(content):03d}/"
    except ValueError as error:
        raise ValueError(
            f"{shown(source)} must have a metadata.json whose classes include {content!r}: {words(error)}"
        ) from error
    pictures = sorted(name for name in names if name.startswith(folder) and _is_picture(name))
    if not pictures:
        raise ValueError(f"{shown(source)} has no pictures of {content} in {folder}")
    return pictures


def _classes(read: Callable[[str], bytes]) -> list[str]:
    """Return the classes of a metadata.json. Raises ValueError that says what it holds instead."""
    content = read("metadata.json")
    if len(content) > _LARGEST_METADATA:
        raise ValueError(f"it holds {len(content):,} bytes, where {_LARGEST_METADATA:,} are read")
    try:
        held = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"it {what(content) or f'is no JSON: {words(error)}'}") from error
    classes = held.get("classes") if isinstance(held, dict) else None
    if not isinstance(classes, list) or not all(isinstance(each, str) for each in classes):
        raise ValueError("it has no list of names under classes")
    return classes
