"""How well models know the colour of a picture near the noise."""

import numpy as np
import pytest

from reschrom.companion.reference.colours import colour_errors

LOG_SNRS = (-6.0, -3.0)


def test_the_posterior_mean_of_gaussian_colours_errs_by_the_posterior_variance():
    generator = np.random.default_rng(0)
    mixing = np.array([[0.4, 0, 0], [0.2, 0.3, 0], [0.1, 0.1, 0.2]])
    colours = generator.standard_normal((4000, 3)) @ mixing.T
    images = np.broadcast_to(colours[:, :, None, None], (4000, 3, 4, 4))
    covariance = np.cov(colours.T)

    def noise(alpha):
        return (1 - alpha) / alpha / 16 * np.eye(3)  # of the mean of sixteen pixels

    def posterior_mean(x_t, alpha):
        seen = x_t.mean(axis=(2, 3)) / np.sqrt(alpha)
        return (seen @ np.linalg.solve(covariance + noise(alpha), covariance))[:, :, None, None] * np.ones((4, 4))

    alphas = 1 / (1 + np.exp(-np.array(LOG_SNRS)))
    variances = [np.trace(covariance @ np.linalg.solve(covariance + noise(a), noise(a))) / 3 for a in alphas]
    measured = colour_errors(posterior_mean, images, LOG_SNRS, generator)
    # 12,000 squares of nearly normal numbers: their mean is off by one or two percent.
    assert measured == pytest.approx(variances, rel=0.06)
    nothing = colour_errors(lambda x_t, alpha: np.zeros_like(x_t), images, LOG_SNRS, generator)
    assert nothing == pytest.approx([np.mean(colours**2)] * 2)
