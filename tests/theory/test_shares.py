"""What survives noising and generating again: measured, and predicted from a chromatogram."""

import numpy as np
import pytest

from reschrom import Chromatogram, GaussianField, Schedule, bands, from_bands, predicted_survival, survival

SPECTRUM = [0.02, 0.3, 2.0, 9.0]


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def posterior_sample(field: GaussianField, x_t, alpha: float, generator):
    """Draw x_0 given x_t: the estimate, and a fresh error with the variance of the true one."""
    white = bands(generator.standard_normal(x_t.shape))
    spread = [np.sqrt(s * (1 - alpha) / (alpha * s + 1 - alpha)) * b for s, b in zip(SPECTRUM, white, strict=True)]
    return field.denoise(x_t, alpha) + from_bands(spread)


def test_unchanged_images_survive_and_unrelated_ones_do_not(generator):
    x, other = generator.standard_normal((2, 2000, 1, 4, 4))
    np.testing.assert_allclose(survival(x, x).share, 1)
    np.testing.assert_allclose(survival(x, other).share, 0, atol=0.1)


def test_survival_is_counted_band_by_band_and_whatever_the_mean_image_is(generator):
    x = generator.standard_normal((20, 2, 8, 8))
    kept = [1.0, 0.5, 0.0, -0.25]
    edited = 3.0 + from_bands([k * b for k, b in zip(kept, bands(x), strict=True)])
    np.testing.assert_allclose(survival(x + 1.0, edited).share, kept, atol=1e-12)


@pytest.mark.lasting
def test_what_survives_in_draws_of_the_posterior_is_what_is_decided(generator):
    field, schedule = GaussianField(SPECTRUM), Schedule.cosine()
    x = field.sample(1500, generator)
    chromatogram = Chromatogram.predicted(schedule, 8, SPECTRUM)
    times = np.array([0.2, 0.5, 0.8])
    predicted = predicted_survival(chromatogram, times)
    for t, expected in zip(times, predicted.T, strict=True):
        alpha = float(schedule.alpha(t))
        x_t = np.sqrt(alpha) * x + np.sqrt(1 - alpha) * generator.standard_normal(x.shape)
        measured = survival(x, posterior_sample(field, x_t, alpha, generator))
        assert np.all(np.abs(measured.share - expected) < 5 * measured.replicates.std(axis=0))
        # the mean of all draws, without drawing
        np.testing.assert_allclose(survival(x, field.denoise(x_t, alpha)).share, expected, atol=0.02)


def test_all_survives_at_the_image_and_nothing_at_noise():
    chromatogram = Chromatogram.predicted(Schedule.cosine(), 8, SPECTRUM)
    np.testing.assert_allclose(predicted_survival(chromatogram, np.array([0.0, 1.0])), [[1, 0]] * 4)


def test_the_interval_holds_the_share(generator):
    x = generator.standard_normal((30, 1, 4, 4))
    found = survival(x, 0.5 * x + generator.standard_normal(x.shape))
    low, high = found.interval()
    assert np.all((low < found.share) & (found.share < high))
    assert np.all(np.diff(found.interval(0.5), axis=0) < high - low)


@pytest.mark.parametrize("edited", [np.zeros((3, 1, 4, 4)), np.zeros((2, 1, 8, 8))])
def test_images_before_and_after_must_be_as_many_and_as_large(edited):
    with pytest.raises(ValueError, match=r"of one shape \(N, C, H, W\); got \(2, 1, 4, 4\) and"):
        survival(np.zeros((2, 1, 4, 4)), edited)


def test_originals_that_are_all_the_same_are_refused():
    with pytest.raises(ValueError, match="must differ in every band"):
        survival(np.ones((2, 1, 4, 4)), np.ones((2, 1, 4, 4)))
