"""Stationary fields against dense matrices, which know nothing of waves, and what drawing them coarse first costs."""

import numpy as np
import pytest

from reschrom import GaussianField, StationaryField, band_sizes, handover

SIDE = 8
POWER = np.random.default_rng(0).uniform(0.2, 3, (SIDE, SIDE)) / (1 + np.hypot(*np.mgrid[:SIDE, :SIDE])) ** 2
FIELD = StationaryField(POWER, channels=1)
ALPHAS = np.array([1e-4, 0.02, 0.1, 0.3, 0.6, 0.95])


def covariance(field):
    """The covariance of all pixels, a dense matrix: the inverse transform of the power, moved to every place."""
    side = field.shape[-1]
    kernel = np.fft.ifft2(field.power).real
    rows, columns = (each.ravel() for each in np.mgrid[:side, :side])
    apart = (np.subtract.outer(each, each) % side for each in (rows, columns))
    return kernel[tuple(apart)]


def halving(side, level):
    """D^level as a matrix over the pixels of an image."""
    line = np.kron(np.eye(side >> level), np.full((1, 2**level), 0.5**level))
    return np.kron(line, line)


def projector(side, level):
    small = halving(side, level)
    return 4.0**level * small.T @ small


def wiener(signal, alpha):
    """The matrix that makes of x_t the prediction of its noise."""
    return np.sqrt(1 - alpha) * np.linalg.inv(alpha * signal + (1 - alpha) * np.eye(len(signal)))


def test_the_estimate_is_that_of_the_dense_covariance():
    x, alpha = np.random.default_rng(1).standard_normal((3, 1, SIDE, SIDE)), 0.3
    signal = covariance(FIELD)
    gain = np.sqrt(alpha) * signal @ np.linalg.inv(alpha * signal + (1 - alpha) * np.eye(SIDE**2))
    wanted = (x.reshape(3, -1) @ gain.T).reshape(x.shape)
    np.testing.assert_allclose(FIELD.denoise(x, alpha), wanted, atol=1e-12)


def test_bands_and_pooled_images_have_the_variances_of_the_dense_covariance():
    signal = covariance(FIELD)
    energies = [np.trace(projector(SIDE, level) @ signal) for level in range(4)]
    wanted = -np.diff([*energies, 0]) / band_sizes(SIDE)
    np.testing.assert_allclose(FIELD.spectrum, wanted, rtol=1e-12)
    for level in (1, 2, 3):
        small = halving(SIDE, level)
        np.testing.assert_allclose(covariance(FIELD.pooled(level)), small @ signal @ small.T, atol=1e-12)


def test_samples_have_the_power():
    images = StationaryField(POWER).sample(4000, np.random.default_rng(2))
    found = (np.abs(np.fft.fft2(images, norm="ortho")) ** 2).mean(axis=(0, 1))
    np.testing.assert_allclose(found, FIELD.power, rtol=0.06)  # 12,000 squares: 0.9 to 1.3 % each


@pytest.mark.parametrize(
    "spectrum", [[0.5], [2.0, 3.0], [0.01, 0.05, 0.17, 0.6, 2.0, 5.0], [4.0, 3.0, 2.0, 1.0, 0.5]], ids=len
)
def test_a_field_is_found_for_a_spectrum(spectrum):
    np.testing.assert_allclose(StationaryField.of_spectrum(spectrum).spectrum, spectrum, rtol=2e-6)


def test_of_a_spectrum_that_falls_faster_than_waves_can_the_nearest_is_taken():
    field = StationaryField.of_spectrum([0.05, 0.3, 1.5, 9.0])
    assert 0.05 < np.abs(field.spectrum / [0.05, 0.3, 1.5, 9.0] - 1).max() < 0.2


def dense_errors(field, alphas, levels, eta):
    """Both runs as matrices over pixels: what each makes of the first noise and of every later one."""
    side = field.shape[-1]
    signal, identity = covariance(field), np.eye(side**2)
    runs = [[identity], [identity]]
    for alpha, after, level in zip(alphas, [*alphas[1:], 1.0], levels, strict=True):
        fresh = eta * np.sqrt((1 - after) / (1 - alpha) * (1 - alpha / after))
        small, total = halving(side, level), 4.0**level * alpha + 1 - alpha
        low = small @ signal @ small.T
        coarse = wiener(low, 4.0**level * alpha / total) @ small * 2.0**level / np.sqrt(total)
        used = 2.0**-level * 4.0**level * small.T @ coarse
        for m in range(level):
            gain = np.sqrt(1 - alpha) / (alpha * field.spectrum[m] + 1 - alpha)
            used = used + gain * (projector(side, m) - projector(side, m + 1))
        for run, noise in zip(runs, (wiener(signal, alpha), used), strict=True):
            estimate = (identity - np.sqrt(1 - alpha) * noise) / np.sqrt(alpha)
            step = np.sqrt(after) * estimate + np.sqrt(max(1 - after - fresh**2, 0)) * noise
            run[:] = [step @ each for each in run] + [fresh * identity]
    pairs = list(zip(*runs, strict=True))
    held = [
        sum(each @ each.T for each in kind)
        for kind in ([a for a, _ in pairs], [b for _, b in pairs], [b - a for a, b in pairs])
    ]
    energies = [[np.trace(projector(side, level) @ each) for level in range(side.bit_length())] + [0] for each in held]
    direct, coarse, apart = np.sqrt(np.maximum(-np.diff(energies), 0))
    return coarse / direct - 1, apart / direct


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("levels", [(1, 1, 1, 0, 0, 0), (3, 2, 1, 1, 0, 0), (2, 2, 0, 0, 0, 0), (0, 1, 0, 1, 0, 1)])
def test_the_cost_of_coarse_first_is_that_of_dense_matrices(levels, eta):
    found = handover(FIELD, ALPHAS, levels, eta)
    np.testing.assert_allclose(found, dense_errors(FIELD, ALPHAS, levels, eta), rtol=1e-7, atol=1e-7)
    assert found.deviation.max() > 1e-4
    # two distributions are no further apart than any pair of images drawn from them
    assert np.all(np.abs(found.change) <= found.deviation + 1e-9)


def test_there_is_no_cost_where_bands_are_white_or_nothing_is_pooled():
    white = StationaryField(np.ones((SIDE, SIDE)))
    assert np.abs(handover(white, ALPHAS, [2] * 6)).max() < 1e-7
    assert np.abs(handover(FIELD, ALPHAS, [0] * 6)).max() == 0


def test_white_noise_is_the_field_of_both_kinds():
    x = np.random.default_rng(3).standard_normal((2, 3, 4, 4))
    both = StationaryField(np.full((4, 4), 2.0)), GaussianField([2.0, 2.0, 2.0])
    np.testing.assert_allclose(*(each.denoise(x, 0.4) for each in both), atol=1e-14)
