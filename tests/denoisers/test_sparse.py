"""The sparse model of images against a direct sum over scales, its linear bound and its own samples."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from reschrom import Schedule, band_energies, band_spectrum, bands, from_bands
from reschrom.denoisers.gaussian import GaussianField
from reschrom.denoisers.losses import band_losses
from reschrom.denoisers.sparse import ScaleMixture, _from_blocks, _to_blocks


def sparse_images(count: int, generator: np.random.Generator) -> np.ndarray:
    """4x4 images in two channels, a tenth of whose details are strong."""
    pyramid = bands(generator.standard_normal((count, 2, 4, 4)))
    strengths = [np.where(generator.random((count, 1, n, 1, n, 1)) < 0.1, 3.0, 0.1) for n in (2, 1)]
    for m, strength in enumerate(strengths):
        size = pyramid[m].shape[-1]
        spread = np.broadcast_to(strength, (count, 1, size // 2, 2, size // 2, 2)).reshape(count, 1, size, size)
        pyramid[m] = pyramid[m] * spread
    return from_bands(pyramid)


@pytest.fixture(scope="module")
def model() -> ScaleMixture:
    return ScaleMixture(sparse_images(4000, np.random.default_rng(0)))


def test_blocks_are_orthonormal_coordinates_of_a_band():
    images = np.random.default_rng(1).standard_normal((3, 2, 8, 8))
    for m, band in enumerate(bands(images)[:-1]):
        blocks = _to_blocks(band, m)
        np.testing.assert_allclose(_from_blocks(blocks, m, 2), band, atol=1e-14)
        np.testing.assert_allclose(np.square(blocks).sum(axis=(1, 2, 3)), band_energies(images)[m])


def test_every_band_may_have_25_scales_over_six_decades_whose_mean_is_1(model):
    for scales, weights in zip(model.scales, model.weights, strict=True):
        np.testing.assert_allclose(np.diff(np.log10(scales)), 6 / 24)
        assert (len(scales), weights @ scales) == (25, pytest.approx(1))


def test_scales_that_no_block_has_stay_possible():
    """Blocks of many channels tell their scale so well that the likelihood of others is 0 in double precision."""
    model = ScaleMixture(np.random.default_rng(0).standard_normal((50, 16, 4, 4)))
    for weights in model.weights:
        assert 0 < weights.min() < 1e-10
        assert weights.max() > 0.5


@pytest.mark.parametrize("alpha", [0.1, 0.7])
def test_estimate_is_the_direct_sum_over_scales(model, alpha):
    """One block of the coarsest detail band, by Bayes' rule with dense covariance matrices."""
    x_t = np.random.default_rng(2).standard_normal((1, 2, 4, 4))
    y = _to_blocks(bands(x_t - np.sqrt(alpha) * model.mean)[1], 1).ravel()
    covariance = (model._directions[1] * model._variances[1]) @ model._directions[1].T
    total, expected = 0.0, np.zeros(6)
    for scale, weight in zip(model.scales[1], model.weights[1], strict=True):
        noised = alpha * scale * covariance + (1 - alpha) * np.eye(6)
        density = weight * multivariate_normal(np.zeros(6), noised).pdf(y)
        total += density
        expected += density * np.sqrt(alpha) * scale * covariance @ np.linalg.solve(noised, y)
    estimate = _to_blocks(bands(model.denoise(x_t, alpha) - model.mean)[1], 1).ravel()
    np.testing.assert_allclose(estimate, expected / total, atol=1e-12)


def test_limits_are_the_mean_and_the_image(model):
    images = model.sample(3, np.random.default_rng(3))
    np.testing.assert_allclose(model.denoise(images, 0.0), np.broadcast_to(model.mean, images.shape), atol=1e-12)
    np.testing.assert_allclose(model.denoise(images, 1.0), images, atol=1e-10)


def test_samples_have_the_spectrum_and_the_sparsity_of_the_images(model):
    generator = np.random.default_rng(4)
    images, drawn = sparse_images(4000, generator), model.sample(4000, generator)
    np.testing.assert_allclose(band_spectrum(drawn), band_spectrum(images), rtol=0.15)
    for m in (0, 1):
        kurtosis = [np.mean((b[m] - b[m].mean(axis=0)) ** 4) / b[m].var() ** 2 for b in map(bands, (images, drawn))]
        assert kurtosis[0] > 10
        assert kurtosis[1] == pytest.approx(kurtosis[0], rel=0.25)


def test_knowing_the_sparsity_loses_less_than_the_linear_theory(model):
    generator = np.random.default_rng(5)
    images, alphas = sparse_images(2000, generator), np.array([0.3, 0.7])
    linear = GaussianField.fit(images, colour=True)
    sparse = band_losses(model.denoise, images, Schedule.natural(), -np.log(alphas), np.random.default_rng(6))
    plain = band_losses(linear.denoise, images, Schedule.natural(), -np.log(alphas), np.random.default_rng(6))
    assert np.all(sparse.mean[:2] < 0.8 * plain.mean[:2])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 3, 4, 4)), r"need 2 or more square images, .* got \(1, 3, 4, 4\)"),
        (np.zeros((2, 3, 6, 6)), r"S a power of two; got \(2, 3, 6, 6\)"),
        (np.zeros((2, 3, 1, 1)), r"images of two pixels or more; got \(2, 3, 1, 1\)"),
        (np.full((2, 3, 4, 4), np.nan), "images must be finite"),
    ],
)
def test_images_that_hold_no_blocks_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        ScaleMixture(images)


def test_noised_images_of_another_size_are_refused(model):
    with pytest.raises(ValueError, match=r"shape \(N, 2, 4, 4\) are needed; got \(1, 2, 8, 8\)"):
        model.denoise(np.zeros((1, 2, 8, 8)), 0.5)
