"""Captioned pictures for training: photographs in every style, and how a batch of them is drawn."""

import json
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from reschrom._files import replacing
from reschrom.images.pictures import Picture, photographs
from reschrom.train.recipe import Recipe

# Part of a photograph's side that a second cut of it keeps at least.
_SMALLEST_CUT = 0.75
# The settings of a recipe that decide what its pictures are.
_MADE_WITH = ("contents", "kind", "pieces", "every_style", "size", "level", "seed")
# Pictures are moved by up to so many pixels, and mirrored, each time they are used.
_MOVE = 3


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


def save_gallery(path: Path, recipe: Recipe, source: str) -> None:
    """Write the gallery as an .npy file, and after the pictures, where np.load reads no further, what made them."""
    pictures, made = gallery(recipe, source), np.array(json.dumps(_made_with(recipe, source)))
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, pictures)
            np.save(file, made)
    except OSError as error:  # a full disk, of which NumPy says no more than how many bytes it wrote
        raise OSError(f"{path} cannot be written: {error}") from error


def load_gallery(path: Path, recipe: Recipe, source: str) -> UInt8[np.ndarray, "captions pieces size size 3"]:
    """Return what `save_gallery` wrote, without reading it all.

    Raises ValueError for a file that is damaged or does not say what made it, and for pictures of another recipe or
    source, naming the setting that differs.
    """
    again = "remove it, and it is made anew"
    try:
        pictures = np.lib.format.open_memmap(path, mode="r")
        with path.open("rb") as file:
            file.seek(pictures.offset + pictures.nbytes)
            made = dict(json.loads(str(np.lib.format.read_array(file))))
    # Of a damaged header NumPy says whatever Python says.
    except (ArithmeticError, LookupError, SyntaxError, TokenError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged or does not say what made it ({said}): {again}") from error
    for name, value in _made_with(recipe, source).items():
        if made.get(name) != value:
            raise ValueError(
                f"{path} was made with {name} = {made.get(name)!r}, and this training has {value!r}: choose another "
                f"folder, or {again}"
            )
    shape = (len(recipe.captions), recipe.pieces, recipe.picture_size, recipe.picture_size, 3)
    if pictures.shape != shape or pictures.dtype != np.uint8:
        raise ValueError(
            f"{path} must hold bytes of the shape {shape}; got {pictures.dtype} of {pictures.shape}: {again}"
        )
    return pictures


def _made_with(recipe: Recipe, source: str) -> dict[str, Any]:
    """Return what decides the pictures, in plain types; files by where they are, wherever they are named from."""
    data = str(Path(source).resolve()) if source != "photos" and Path(source).exists() else source
    return {"data": data, **{name: recipe.as_dict()[name] for name in _MADE_WITH}}


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
