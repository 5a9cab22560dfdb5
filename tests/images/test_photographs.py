"""Random pieces of the photographs that come with scikit-image and scikit-learn."""

import numpy as np
import pytest

from reschrom import downsample
from reschrom.images import photographs


@pytest.mark.parametrize("collection", ["photographs", "textures", "astronomy", "tissue"])
def test_every_image_of_a_collection_can_be_read(collection):
    names = photographs.image_names(collection)
    images = photographs.photos(collection, len(names), 16, generator=np.random.default_rng(0))
    assert images.shape == (len(names), 3, 16, 16)
    assert images.dtype == np.float64
    assert np.abs(images).max() <= 1
    assert np.all(images.std(axis=(1, 2, 3)) > 0.005)


def test_the_generator_decides_the_pieces():
    first, again, other = (photographs.photos("astronomy", 4, 8, generator=np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_images_take_turns():
    """The grey pictures of tissue (every third) have three equal channels; the coloured ones have not."""
    images = photographs.photos("tissue", 9, 32, generator=np.random.default_rng(0))
    spread = np.abs(images - images.mean(axis=1, keepdims=True)).max(axis=(1, 2, 3))
    assert np.all(spread[2::3] < 1e-12)
    assert np.all(np.delete(spread, [2, 5, 8]) > 0.05)


def test_a_piece_is_a_block_average_of_the_photograph():
    """512 pixels hold 256 once or, averaged over 2x2, twice: then there is only one place, and the piece is D."""
    picture = np.moveaxis(photographs.photograph("astronaut"), -1, 0) / 127.5 - 1
    pieces = photographs.photos("astronaut", 10, 256, generator=np.random.default_rng(0))
    distances = np.abs(pieces - downsample(picture)).max(axis=(1, 2, 3))
    assert np.any(distances < 1e-12)
    assert np.any(distances > 0.1)


def test_unknown_collections_and_sizes_are_refused():
    generator = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"called 'cats'; there are the collections photographs, .* and the images"):
        photographs.photos("cats", 1, generator=generator)
    with pytest.raises(ValueError, match=r"a size is a number of pixels, .* got \(48, 0\)"):
        photographs.photos("moon", 1, (48, 0), generator=generator)
    with pytest.raises(ValueError, match="got 0 of 64 pixels"):
        photographs.photos("moon", 0, generator=generator)
    with pytest.raises(ValueError, match="got 1 of 512 pixels"):
        photographs.photos("moon", 1, 512, generator=generator)
