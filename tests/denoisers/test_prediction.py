"""Times of generation are predicted from pictures alone, within an interval that says how far networks may be."""

import numpy as np
import pytest

from reschrom import (
    Chromatogram,
    GaussianField,
    NearestImage,
    Schedule,
    WindowMixture,
    band_losses,
    predicted_times,
    rates_from_losses,
)
from reschrom.denoisers.prediction import REACH, WORST

FIELD = GaussianField([0.02, 0.2, 1.0, 6.0], channels=1)
COSINE = Schedule.cosine()


def pictures(seed, count):
    return FIELD.sample(count, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def predicted():
    return predicted_times(pictures(0, 600), pictures(1, 60), COSINE, np.random.default_rng(2))


@pytest.mark.lasting
def test_of_a_gaussian_field_the_times_are_those_of_its_exact_denoiser(predicted):
    exact = Chromatogram.predicted(COSINE, 8, FIELD.spectrum).centroids()
    # 600 pictures of 64 numbers tell a covariance to a few hundredths, 60 new ones the mean of the coarsest band
    np.testing.assert_allclose(predicted.times, exact, atol=0.05)
    assert np.all((predicted.interval.lower < exact) & (exact < predicted.interval.upper))
    assert predicted.formula == "windows"


def test_the_loss_is_that_of_the_noise(predicted):
    again = np.random.default_rng(2)
    seed = int(again.integers(2**31))
    known, new = pictures(0, 600), pictures(1, 60)
    times, windows = np.linspace(0, 1, 25), WindowMixture(known, again)
    found = band_losses(windows.denoise, new, COSINE, times, np.random.default_rng(seed)).mean.sum(axis=0)[1:]
    expected = np.trapezoid(COSINE.snr(times[1:]) * found, times[1:]) / (times[-1] - times[1]) / 64
    assert predicted.losses["windows"] == pytest.approx(expected, rel=0.01)  # a loss that falls is mended


@pytest.mark.lasting
def test_pictures_that_are_nearly_copies_widen_the_interval_to_what_windows_tell():
    # Of white pictures windows tell nothing; what was seen before tells all.
    generator = np.random.default_rng(0)
    known = generator.standard_normal((60, 1, 8, 8)) / 3
    new = known[:30] + 0.01 * generator.standard_normal((30, 1, 8, 8))
    found = predicted_times(known, new, COSINE, np.random.default_rng(1))
    assert found.formula == "nearest"
    again, edges = np.random.default_rng(1), np.linspace(0, 1, 25)
    seed = int(again.integers(2**31))
    windows, nearest = (
        rates_from_losses(fit(known, again).denoise, new, COSINE, edges, np.random.default_rng(seed), "")
        for fit in (WindowMixture, NearestImage)
    )
    np.testing.assert_array_equal(found.times, nearest.centroids())
    assert np.all(nearest.centroids()[:3] > windows.centroids()[:3] + 0.1)
    low, high = windows.centroid_interval(simultaneous=True).lower, nearest.centroid_interval(simultaneous=True).upper
    np.testing.assert_allclose(found.interval.lower[:3], np.maximum(low - REACH, 0)[:3])
    np.testing.assert_allclose(found.interval.upper[:3], np.minimum(high + REACH, 1)[:3])


@pytest.mark.lasting
def test_times_and_reach_are_in_the_units_of_the_schedule(predicted):
    slow = Schedule(
        "slow", 0.0, 500.0, lambda t, xp: COSINE._log_snr(t / 500, xp), lambda s, xp: 500 * COSINE._time(s, xp)
    )
    found = predicted_times(pictures(0, 600), pictures(1, 60), slow, np.random.default_rng(2))
    np.testing.assert_allclose(found.times, 500 * predicted.times, rtol=1e-6)
    np.testing.assert_allclose(np.array(found.interval), 500 * np.array(predicted.interval), rtol=1e-6)
    assert found.losses == pytest.approx(predicted.losses, rel=1e-6)


@pytest.mark.lasting
def test_a_network_that_was_not_trained_far_enough_is_refused(predicted):
    least = min(predicted.losses.values())
    few = pictures(0, 600), pictures(1, 60), COSINE
    again = predicted_times(*few, np.random.default_rng(2), loss=0.99 * WORST * least)
    np.testing.assert_array_equal(again.times, predicted.times)
    with pytest.raises(ValueError, match="train it further, or measure it"):
        predicted_times(*few, np.random.default_rng(2), loss=1.01 * WORST * least)


def test_simultaneous_intervals_of_mean_times_are_wider():
    edges = np.linspace(0, 1, 13)
    rates = rates_from_losses(FIELD.denoise, pictures(4, 50), COSINE, edges, np.random.default_rng(5), "")
    each, whole = (np.diff(rates.centroid_interval(simultaneous=wide), axis=0) for wide in (False, True))
    assert np.all(whole > each)
