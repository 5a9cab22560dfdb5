"""Measured losses and rates: streaming, bootstrap replicates, the known answer of a Gaussian field, and networks."""

from dataclasses import replace

import diffusers
import numpy as np
import pytest
import tiny

from reschrom import (
    Chromatogram,
    GaussianField,
    Schedule,
    band_losses,
    rates_from_losses,
    rates_from_sampling,
    survival,
)
from reschrom.denoisers.losses import never_rising
from reschrom.pipelines.adapter import network_denoiser
from reschrom.theory.bands import band_energies

FIELD, COSINE = GaussianField([0.1, 3.0, 40.0]), Schedule.cosine()
EDGES = np.linspace(0, 1, 17)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_the_known_shares_lie_within_the_simultaneous_band_at_every_band_and_step(seed):
    generator = np.random.default_rng(seed)
    images = FIELD.sample(500, generator)
    noise = generator.standard_normal(images.shape)
    known = Chromatogram.predicted(COSINE, 4, FIELD.spectrum, EDGES).shares
    for chromatogram in (
        rates_from_losses(FIELD.denoise, images, COSINE, EDGES, generator, "losses"),
        rates_from_sampling(FIELD.denoise, noise, COSINE, EDGES, 32, "sampling"),
    ):
        interval = chromatogram.interval(0.99, simultaneous=True)
        assert np.all(interval.lower <= known)
        assert np.all(known <= interval.upper)
        # Not by being wide: shares go from 0 to 1.
        assert np.mean(interval.upper - interval.lower) < 0.05
        assert np.max(interval.upper - interval.lower) < 0.1


@pytest.mark.slow
def test_the_known_centroids_lie_within_their_intervals_about_as_often_as_stated():
    known = Chromatogram.predicted(COSINE, 4, FIELD.spectrum, EDGES).centroids()
    inside = []
    for seed in range(20):
        generator = np.random.default_rng(seed)
        images = FIELD.sample(100, generator)
        measured = rates_from_losses(FIELD.denoise, images, COSINE, EDGES, generator, "losses")
        lower, upper = measured.centroid_interval(0.9)
        inside.append((lower <= known) & (known <= upper))
    assert 0.8 < np.mean(inside) < 0.98


@pytest.mark.lasting
@pytest.mark.parametrize("size", [1, 7, 20])
def test_batches_give_what_the_whole_gives(size):
    generator = np.random.default_rng(0)
    images, edges = FIELD.sample(20, generator), EDGES[::4]
    noise = generator.standard_normal(images.shape)

    def measured(size: int) -> list[np.ndarray]:
        def parts(whole: np.ndarray) -> np.ndarray | map:
            return whole if size == 20 else map(np.array, np.split(whole, range(size, 20, size)))

        losses = band_losses(FIELD.denoise, parts(images), COSINE, edges, np.random.default_rng(1))
        rates = rates_from_losses(FIELD.denoise, parts(images), COSINE, edges, np.random.default_rng(1), "losses")
        sampled = rates_from_sampling(FIELD.denoise, parts(noise), COSINE, edges, 1, "sampling")
        return [*losses, rates.rates, rates.replicates, sampled.rates, sampled.replicates]

    for part, whole in zip(measured(size), measured(20), strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-9, atol=1e-9)


def test_replicates_of_losses_spread_like_their_standard_error():
    generator = np.random.default_rng(0)
    losses = band_losses(FIELD.denoise, FIELD.sample(300, generator), COSINE, EDGES[1:], generator)
    assert losses.replicates.shape == (200, *losses.mean.shape)
    np.testing.assert_allclose(losses.replicates.std(axis=0), losses.standard_error, rtol=0.25)


def test_intervals_know_how_many_images_were_measured():
    """Of a few images they are wider than their replicates say."""
    generator = np.random.default_rng(0)
    images, noise = FIELD.sample(6, generator), generator.standard_normal((6, 3, 4, 4))
    by_loss = rates_from_losses(FIELD.denoise, images, COSINE, EDGES, generator, "loss")
    by_growth = rates_from_sampling(FIELD.denoise, noise, COSINE, EDGES, 1, "sampling")
    losses, kept = band_losses(FIELD.denoise, images, COSINE, EDGES, generator), survival(images, images + noise)
    for each in (by_loss, by_growth):
        assert each.images == 6
        known, unknown = (np.ptp(one.interval(0.5), axis=0) for one in (each, replace(each, images=None)))
        assert np.all((known > unknown) | (unknown < 1e-9))
    for each in (losses, kept):
        assert each.images == 6
        assert np.all(np.ptp(each.interval(0.5), axis=0) > np.ptp(each._replace(images=None).interval(0.5), axis=0))


def test_every_replicate_is_made_to_never_rise():
    signal = np.random.default_rng(0).standard_normal((4, 3, 6))
    fitted = never_rising(signal)
    assert np.all(np.diff(fitted) <= 0)
    np.testing.assert_array_equal(fitted[2, 1], never_rising(signal[2, 1]))
    weighted = never_rising(np.array([0.0, 3.0]), np.array([2.0, 1.0]))
    np.testing.assert_allclose(weighted, [1, 1])


def test_no_images_are_too_few():
    with pytest.raises(ValueError, match="two or more images; got 0"):
        band_losses(FIELD.denoise, [], COSINE, EDGES, np.random.default_rng(0))


def test_a_pipeline_is_measured_through_its_network():
    pipeline = tiny.ddim(scheduler=diffusers.DDIMScheduler(beta_schedule="squaredcos_cap_v2"))
    schedule = Schedule.from_diffusers(pipeline.scheduler)
    images = np.random.default_rng(0).uniform(-1, 1, (4, 3, 8, 8))
    times = np.array([-1.0, 100.0, 500.0, 999.0])
    denoise = network_denoiser(pipeline)
    losses, same = (
        band_losses(model, images, schedule, times, np.random.default_rng(1)) for model in (pipeline, denoise)
    )
    np.testing.assert_array_equal(losses.replicates, same.replicates)
    np.testing.assert_allclose(losses.mean[:, 0], 0, atol=1e-20)
    with pytest.raises(ValueError, match="never saw such images"):
        rates_from_losses(pipeline, images, schedule, times, np.random.default_rng(1), "untrained")
    noise = np.random.default_rng(2).standard_normal(images.shape)
    with pytest.raises(ValueError, match="or it is not trained"):
        rates_from_sampling(pipeline, noise, schedule, times, 1, "untrained")


def test_of_several_noises_the_losses_of_each_image_are_the_mean():
    """The same noises, one after the other, give the same losses apart; batches draw what the whole draws."""
    images, schedule, alphas = FIELD.sample(5, np.random.default_rng(0)), COSINE, COSINE.alpha(EDGES[1:])
    together = band_losses(FIELD.denoise, images, schedule, EDGES[1:], np.random.default_rng(1), noises=3)
    expected = np.zeros((5, 3, len(alphas)))
    for noise in np.random.default_rng(1).standard_normal((5, 3, *images.shape[1:])).swapaxes(0, 1):
        for step, alpha in enumerate(alphas):
            missed = images - FIELD.denoise(np.sqrt(alpha) * images + np.sqrt(1 - alpha) * noise, alpha)
            expected[..., step] += band_energies(missed).T / 3
    np.testing.assert_allclose(together.mean, expected.mean(axis=0), rtol=1e-12)
    # Images are what varies, so the error of the mean is theirs, and not that of fifteen noises.
    np.testing.assert_allclose(together.standard_error, expected.std(axis=0, ddof=1) / np.sqrt(5), rtol=1e-12)
    parts = band_losses(FIELD.denoise, iter([images[:2], images[2:]]), schedule, EDGES[1:], np.random.default_rng(1), 3)
    for part, whole in zip(parts, together, strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-12)
