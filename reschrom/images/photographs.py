"""Real photographs that come with the scikit-image and scikit-learn packages, cut into small random images.

Nothing is downloaded and nothing is copied into this repository: the files are read from the installed packages.
Sources and licences as their documentation gives them:

| image | what it shows | source, licence |
| --- | --- | --- |
| astronaut | Eileen Collins, 1999 | NASA, public domain |
| chelsea | a cat | Stefan van der Walt, CC0 |
| coffee | a cup on a table | Rachel Michetti, CC0 |
| rocket | a Falcon 9 launch | SpaceX, public domain |
| motorcycle_left | a motorcycle in a garage | Middlebury 2014 stereo benchmark (Scharstein et al.) |
| china | a temple | danielbuechele, CC BY 2.0 (scikit-learn) |
| flower | a dahlia | vultilion, CC BY 2.0 (scikit-learn) |
| brick, gravel | walls and stones, grey | CC0Textures, CC0 |
| grass | a lawn, grey | linolafett, CC0 |
| hubble_deep_field | galaxies | NASA, public domain |
| moon | lunar surface, grey | no source stated |
| ihc | stained colon tissue | CMMI, no known restrictions |
| retina | the back of an eye | Mikael Häggström, CC0 |
| cell | a cell in saline, phase image, grey | Müller et al. (2018), CC0 |
"""

import functools
import importlib.util
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from reschrom._extras import naming_extra
from reschrom.theory.bands import Size, sides

_COLLECTIONS = {
    "photographs": (
        "astronaut.png",
        "chelsea.png",
        "coffee.png",
        "rocket.jpg",
        "motorcycle_left.png",
        "china.jpg",
        "flower.jpg",
    ),
    "textures": ("brick.png", "grass.png", "gravel.png"),
    "astronomy": ("hubble_deep_field.jpg", "moon.png"),
    "tissue": ("ihc.png", "retina.jpg", "cell.png"),
}
_FILES = {file.split(".")[0]: file for files in _COLLECTIONS.values() for file in files}
_SCIKIT_LEARN = ("china", "flower")


def image_names(collection: str) -> list[str]:
    """Return the names of the images in a collection; an image is a collection of one, itself."""
    if collection in _COLLECTIONS:
        return [file.split(".")[0] for file in _COLLECTIONS[collection]]
    if collection in _FILES:
        return [collection]
    raise ValueError(
        f"no collection or image is called {collection!r}; there are the collections {', '.join(_COLLECTIONS)} "
        f"and the images {', '.join(_FILES)}"
    )


@naming_extra("photos")
def photos(
    collection: str, count: int, size: Size = 64, *, generator: np.random.Generator
) -> Float[np.ndarray, "count 3 height width"]:
    """Return random pieces of real photographs, values in [-1, 1].

    collection: "photographs", "textures", "astronomy" or "tissue", or the name of one image (`image_names`).
    count: how many; the images of the collection take turns.
    size: pixels along one side, or (height, width), each at most 256.

    Each piece is a random part of the photograph, `factor` times as high and wide as `size`, averaged over blocks of
    `factor` x `factor` pixels. The factor is drawn evenly from all that fit, so pieces show objects as well as
    texture. Averages are of stored (gamma-encoded) values. Grey photographs get three equal channels.
    """
    names = image_names(collection)
    height, width = sides(size)
    if count < 1 or max(height, width) > 256:
        raise ValueError(f"one or more pieces of at most 256 pixels can be cut; got {count} of {size} pixels")
    pieces = np.empty((count, 3, height, width))
    for index in range(count):
        picture = photograph(names[index % len(names)])
        rows, columns = picture.shape[:2]
        factor = int(generator.integers(1, min(rows // height, columns // width) + 1))
        top = int(generator.integers(rows - factor * height + 1))
        left = int(generator.integers(columns - factor * width + 1))
        part = picture[top : top + factor * height, left : left + factor * width]
        # Rows first, as whole numbers: summing contiguous bytes is five times quicker than one mean over both axes.
        strips = part.reshape(height, factor, width * factor, 3).sum(axis=1, dtype=np.uint32)
        blocks = strips.reshape(height, width, factor, 3).sum(axis=2)
        pieces[index] = np.moveaxis(blocks, -1, 0) / (127.5 * factor**2) - 1
    return pieces


@functools.cache
def photograph(name: str) -> UInt8[np.ndarray, "height width 3"]:
    """Return one whole image of a collection; a grey one has three equal channels."""
    from PIL import Image

    package, *folder = ("sklearn", "datasets", "images") if name in _SCIKIT_LEARN else ("skimage", "data")
    found = importlib.util.find_spec(package)  # importing it would take longer than all that is done here
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    with Image.open(Path(found.submodule_search_locations[0], *folder, _FILES[name])) as picture:
        return np.asarray(picture.convert("RGB"))
