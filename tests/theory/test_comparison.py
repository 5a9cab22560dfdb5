"""What another way of drawing does to every band."""

import numpy as np
import pytest
import torch

from reschrom import (
    GaussianField,
    Schedule,
    StationaryField,
    band_changes,
    bands,
    coarse_noise,
    ddim,
    from_bands,
    handover,
    predicted_noise,
)

FACTORS = (0.8, 1.0, 1.3)
FIELD = GaussianField([1.0, 4.0, 16.0])


def scaled(images):
    return from_bands([factor * band for factor, band in zip(FACTORS, bands(images), strict=True)])


def test_the_same_images_do_not_change():
    images = FIELD.sample(20, np.random.default_rng(0))
    change, (lower, upper) = band_changes(images, images)
    assert np.all(change == 0)
    assert np.all(lower == 0)
    assert np.all(upper == 0)


def test_bands_that_are_scaled_change_by_their_factors_whatever_is_added():
    images = FIELD.sample(20, np.random.default_rng(0))
    found = band_changes(scaled(images) + 3, torch.tensor(images))
    np.testing.assert_allclose(found.change, np.array(FACTORS) - 1, atol=1e-12)  # rounding
    np.testing.assert_allclose(np.stack(found.interval), [found.change] * 2, atol=1e-12)  # paired, so chance is gone


@pytest.mark.lasting
def test_all_intervals_hold_the_truth_in_so_many_cases_as_they_say():
    held, rng, repetitions = 0, np.random.default_rng(1), 200
    for _ in range(repetitions):  # of images from different noise, so that chance is at its largest
        _, (lower, upper) = band_changes(scaled(FIELD.sample(40, rng)), FIELD.sample(40, rng))
        truth = np.array(FACTORS) - 1
        held += bool(np.all((lower <= truth) & (truth <= upper)))
    # Of 200 at 0.95, fewer than 0.90 are three standard errors of chance away.
    assert held / repetitions > 0.9


@pytest.mark.lasting
def test_coarse_first_on_a_gaussian_field_changes_what_was_predicted():
    field, schedule = StationaryField.of_spectrum([0.1, 0.6, 3.0, 20.0], channels=1), Schedule.cosine()
    pooled, turn = field.pooled(1), 0.4
    alphas = schedule.alpha(np.linspace(0.98, 0, 21))

    def coarse(x, alpha):
        if alpha >= schedule.alpha(turn):
            return field.denoise(x, alpha)
        noise = coarse_noise(lambda low, a: predicted_noise(pooled.denoise, low, a), x, alpha, 1, field.spectrum)
        return (x - np.sqrt(1 - alpha) * noise) / np.sqrt(alpha)

    noises = np.random.default_rng(2).standard_normal((600, *field.shape))
    ends = []
    for denoise in (coarse, field.denoise):
        *_, last = ddim(denoise, noises, alphas)
        ends.append(last.x_t)
    levels = (alphas[:-1] < schedule.alpha(turn)).astype(int).tolist()
    exact = handover(field, alphas[:-1], levels).change
    found = band_changes(*ends)
    assert exact[0] < -0.01  # there is something to find
    assert np.all((found.interval.lower <= exact + 1e-9) & (exact - 1e-9 <= found.interval.upper))
