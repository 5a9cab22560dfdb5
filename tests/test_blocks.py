"""When resolutions come, predicted from the energies of 2x2 blocks."""

import numpy as np
import pytest

from reschrom import Chromatogram, GaussianField, Schedule, bands, from_bands
from reschrom.blocks import BlockEnergies, Recall

SPECTRUM = [0.02, 0.3, 2.0, 9.0]
EDGES = np.linspace(0, 1, 65)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_gaussian_field_is_predicted_as_its_spectrum_says(generator):
    field, schedule = GaussianField(SPECTRUM, channels=2), Schedule.cosine()
    known = BlockEnergies.of(field.sample(6000, generator))
    exact = Chromatogram.predicted(schedule, 8, SPECTRUM, EDGES).centroids()
    np.testing.assert_allclose(known.predicted(schedule, EDGES).centroids(), exact, atol=0.01)
    assert known.certainty.max() < 0.05


def test_blocks_that_are_one_known_pattern_come_when_their_energy_does(generator):
    # in each image one block of the finest band holds all of its energy, in one of many directions
    images = np.zeros((400, 1, 8, 8))
    for image in images:
        row, column = 2 * generator.integers(4, size=2)
        details = generator.standard_normal((2, 2))
        details -= details.mean()
        image[0, row : row + 2, column : column + 2] = details * np.sqrt(0.5 / np.square(details).sum())
    known = BlockEnergies.of(images, np.zeros((1, 8, 8)))
    assert known.certainty[0] > 0.9
    alpha = np.array([0.1, 0.5, 0.9])
    known = BlockEnergies(known.energies, np.ones_like(known.variances) * 1e-9)
    expected = alpha * 0.5 / (alpha * 0.5 + 1 - alpha)
    certain = known.certainty[0]
    np.testing.assert_allclose(known.held(alpha)[0], certain * expected, rtol=0.02, atol=1e-6)


def test_all_is_held_at_the_image_and_nothing_at_noise(generator):
    known = BlockEnergies.of(generator.standard_normal((5, 3, 4, 4)))
    np.testing.assert_allclose(known.held(np.array([0.0, 1.0])), [[0, 1]] * 3, atol=1e-12)


def test_energies_are_those_of_the_bands_however_many_images(generator):
    for count in (3, 50):
        x = generator.standard_normal((count, 2, 8, 8))
        known = BlockEnergies.of(x)
        centred = x - x.mean(axis=0)
        for m, band in enumerate(bands(centred)):
            blocks = max((8 >> m) // 2, 1) ** 2
            energy = 4.0**m * np.square(band).sum() / count / blocks
            np.testing.assert_allclose(known.energies[m].mean(), energy)
            np.testing.assert_allclose(known.variances[m].sum(), energy)
        rates = known.predicted(Schedule.cosine(), EDGES)
        total = [4.0**m * np.square(band).sum() / count for m, band in enumerate(bands(centred))]
        np.testing.assert_allclose((rates.rates * np.diff(EDGES)).sum(axis=1), total)


def test_contrast_brings_every_band_forward(generator):
    x = from_bands([s * b for s, b in zip([1, 2, 4, 8], bands(generator.laplace(size=(40, 1, 8, 8))), strict=True)])
    weak, strong = (BlockEnergies.of(k * x).predicted(Schedule.cosine(), EDGES).centroids() for k in (0.1, 1.0))
    assert np.all(strong > weak)


def test_one_image_tells_nothing_of_what_varies():
    with pytest.raises(ValueError, match=r"two or more square images .* got \(1, 3, 4, 4\)"):
        BlockEnergies.of(np.zeros((1, 3, 4, 4)))


def test_copies_of_training_images_are_recalled_all_at_once(generator):
    field, schedule = GaussianField([0.02, 0.05, 0.1, 0.1], channels=2), Schedule.cosine()
    training = field.sample(30, generator)
    recall = Recall.of(training, training[:10, :, :, ::-1])  # as in a mirror
    np.testing.assert_allclose(recall.left, 0, atol=1e-9)
    found, known = recall.predicted(schedule, EDGES), float(schedule.time_at(recall.log_snr))
    np.testing.assert_allclose(found.rates[:, EDGES[1:] < known], 0, atol=1e-6)
    # what is held before is what the blocks tell without a neighbour
    alone = recall.fresh.predicted(schedule, EDGES)
    np.testing.assert_allclose(found.rates[:, EDGES[:-1] > known], alone.rates[:, EDGES[:-1] > known])


def test_images_unlike_the_training_set_are_predicted_from_their_blocks(generator):
    field, schedule = GaussianField([1.0, 1.0, 1.0, 1.0], channels=2), Schedule.cosine()
    recall = Recall.of(field.sample(20, generator), field.sample(200, generator))
    assert recall.left[0] > 0.9
    found = recall.predicted(schedule, EDGES).centroids()[0]
    assert found == pytest.approx(recall.fresh.predicted(schedule, EDGES).centroids()[0], abs=0.03)
