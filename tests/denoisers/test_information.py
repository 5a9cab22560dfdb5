"""The theorem of guidance in nats, on distributions whose information is known in closed form."""

import numpy as np
import pytest
from scipy.special import logsumexp

from reschrom import Denoiser, GaussianField, GaussianMixture, Schedule, bands
from reschrom.denoisers.information import band_information
from reschrom.theory.bands import band_energies, band_sizes

LOG_SNR = np.linspace(-12, 10, 89)


@pytest.mark.lasting
def test_a_gaussian_condition_tells_of_each_band_what_a_gaussian_channel_carries():
    """x_0 = c + rest, both Gaussian: I(c; x_t) is half a log of a ratio of variances, band by band."""
    rng = np.random.default_rng(0)
    condition, rest = GaussianField([0.3, 2.0, 9.0], channels=1), GaussianField([0.2, 0.5, 1.0], channels=1)
    c = condition.sample(4000, rng)
    whole = GaussianField(condition.spectrum + rest.spectrum, channels=1)
    told = band_information(
        lambda x_t, alpha: c + rest.denoise(x_t - np.sqrt(alpha) * c, alpha),
        whole.denoise,
        c + rest.sample(4000, rng),
        LOG_SNR,
        rng,
    )
    snr = np.exp(LOG_SNR)[:, None]
    ratio = (1 + snr * whole.spectrum) / (1 + snr * rest.spectrum)
    exact = (np.log(ratio) / 2 * band_sizes(4)).T
    exact -= exact[:, :1]  # what was told before the first edge
    np.testing.assert_allclose(told.by_guidance.gained, exact, rtol=0.03, atol=0.01)
    np.testing.assert_allclose(told.by_loss.gained, exact, rtol=0.03, atol=0.1)


def captions(spread, rng):
    """Four captions of unequal probability, each a Gaussian field around a mean of its own."""
    means = spread * rng.standard_normal((4, 1, 4, 4))
    return GaussianMixture([GaussianField([0.5, 1.0, 2.0], mean=mean) for mean in means], [0.4, 0.3, 0.2, 0.1])


@pytest.mark.lasting
@pytest.mark.parametrize(("spread", "evident"), [(4.0, True), (0.4, False)])
def test_the_area_is_the_divergence_of_a_caption_from_all_and_minus_its_log_probability_where_it_is_evident(
    spread, evident
):
    rng = np.random.default_rng(1)
    mixture = captions(spread, rng)
    for label, field in enumerate(mixture.fields):
        images = field.sample(3000, rng)
        told = band_information(field.denoise, mixture.denoise, images, LOG_SNR, rng)
        surprise = -np.log(mixture.weights[label])
        ratios = np.log(mixture.responsibilities(images, 1.0)[label]) + surprise
        divergence, chance = ratios.mean(), ratios.std() / np.sqrt(len(images))
        assert (abs(divergence - surprise) < 1e-3) == evident
        for measured in (told.by_guidance, told.by_loss):
            error = np.ptp(measured.gained_interval(0.95), axis=0)[-1] / 4
            assert abs(measured.total - divergence) < 4 * np.hypot(error, chance)
            assert error < 0.06
        lower, upper = told.gap.gained_interval(0.999)
        assert np.all((lower <= 0) & (upper >= 0))  # exact predictions are orthogonal to their errors


@pytest.mark.lasting
def test_the_mean_over_captions_is_never_more_than_their_entropy():
    rng = np.random.default_rng(2)
    mixture = captions(4.0, rng)
    labels = rng.choice(4, 4000, p=mixture.weights)
    images = np.empty((4000, 1, 4, 4))
    for label, field in enumerate(mixture.fields):
        images[labels == label] = field.sample(int((labels == label).sum()), rng)

    def given(x_t, alpha):
        estimates = np.empty_like(x_t)
        for label, field in enumerate(mixture.fields):
            estimates[labels == label] = field.denoise(x_t[labels == label], alpha)
        return estimates

    told = band_information(given, mixture.denoise, images, LOG_SNR, rng).by_guidance
    entropy = -np.sum(mixture.weights * np.log(mixture.weights))
    assert told.total == pytest.approx(entropy, rel=0.03)


@pytest.mark.lasting
def test_each_broken_condition_shows_in_the_gap():
    """The conditional prediction of another caption; images of another caption; an unconditional one that is wrong."""
    rng = np.random.default_rng(3)
    mixture = captions(1.0, rng)
    one, other = mixture.fields[:2]
    images = one.sample(2000, rng)
    wrong = GaussianMixture([one, other])  # which forgets two captions
    kept = band_information(one.denoise, mixture.denoise, images, LOG_SNR, rng).gap
    assert np.abs(kept.gained.sum(axis=0)).max() < 0.1
    for conditional, unconditional, shown in (
        (other.denoise, mixture.denoise, images),
        (one.denoise, mixture.denoise, other.sample(2000, rng)),
    ):
        told = band_information(conditional, unconditional, shown, LOG_SNR, rng)
        assert told.gap.total > 1
        assert told.by_loss.total < 0  # the condition makes the prediction worse
    # Orthogonality asks of the conditional prediction alone: a wrong unconditional one tells the wrong nats unnoticed.
    told = band_information(one.denoise, wrong.denoise, images, LOG_SNR, rng)
    assert np.abs(told.gap.gained.sum(axis=0)).max() < 0.1
    logs = wrong._logs(bands(images), 1.0)
    assert told.by_guidance.total == pytest.approx(np.mean(logs[0] - logsumexp(logs, axis=0)) + np.log(2), abs=0.1)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction", "flow"])
def test_networks_tell_what_the_estimates_tell_that_they_stand_for(prediction):
    rng = np.random.default_rng(4)
    schedule = Schedule.flow_matching() if prediction == "flow" else Schedule.cosine()
    mixture = captions(1.0, rng)
    field, images = mixture.fields[0], mixture.fields[0].sample(20, rng)

    def network(denoise):
        def output(x, t):
            alpha = float(schedule.alpha(t[0]))
            signal, noise = np.sqrt(alpha), np.sqrt(1 - alpha)
            x_t = x / np.hypot(1 - t[0], t[0]) if prediction == "flow" else x
            estimate = denoise(x_t, alpha)
            epsilon = (x_t - signal * estimate) / noise
            return {
                "epsilon": epsilon,
                "sample": estimate,
                "v_prediction": signal * epsilon - noise * estimate,
                "flow": epsilon - estimate,
            }[prediction]

        return Denoiser(output, prediction, schedule, value_range=(-np.inf, np.inf))

    log_snr = np.linspace(-5, 5, 11)
    pairs = (field.denoise, mixture.denoise), (network(field.denoise), network(mixture.denoise))
    exact, measured = (band_information(*pair, images, log_snr, np.random.default_rng(5)) for pair in pairs)
    for one, two in zip(exact, measured, strict=True):
        np.testing.assert_allclose(one.rates, two.rates, atol=1e-8)
        np.testing.assert_allclose(one.replicates, two.replicates, atol=1e-8)


def test_what_cannot_be_compared_is_refused():
    field, rng = GaussianField([1.0, 4.0]), np.random.default_rng(0)
    noise = Denoiser(lambda x, t: x, "epsilon", Schedule.cosine(), value_range=(-1, 1))
    image = Denoiser(lambda x, t: x, "sample", Schedule.cosine())
    images = field.sample(3, rng)
    with pytest.raises(ValueError, match=r"two or more images are needed.* got \(1, 3, 2, 2\)"):
        band_information(field.denoise, field.denoise, images[:1], LOG_SNR, rng)
    with pytest.raises(ValueError, match="two networks or two exact denoisers"):
        band_information(noise, field.denoise, images, LOG_SNR, rng)
    with pytest.raises(ValueError, match="of one kind; got epsilon and sample"):
        band_information(noise, image, images, LOG_SNR, rng)


def test_of_several_noises_the_nats_of_each_image_are_the_mean():
    """The mean over the noises of each image, apart from the package; one noise is what it was before."""
    rng, log_snr = np.random.default_rng(0), LOG_SNR[::8]
    mixture = captions(4.0, rng)
    field = mixture.fields[0]
    images = field.sample(6, rng)
    told = band_information(field.denoise, mixture.denoise, images, log_snr, np.random.default_rng(1), noises=3)
    noise, expected = np.random.default_rng(1).standard_normal((6, 3, *images.shape[1:])), np.zeros((3, 11))
    for step, alpha in enumerate(1 / (1 + np.exp(-(log_snr[1:] + log_snr[:-1]) / 2))):
        for k in range(3):
            x_t = np.sqrt(alpha) * images + np.sqrt(1 - alpha) * noise[:, k]
            term = np.sqrt(alpha / (1 - alpha)) * (field.denoise(x_t, alpha) - mixture.denoise(x_t, alpha))
            expected[:, step] += band_energies(term).mean(axis=1) / 2 / 3
    np.testing.assert_allclose(told.by_guidance.rates, expected, rtol=1e-12, atol=1e-14)
    assert told.by_guidance.images == 6
    with pytest.raises(ValueError, match="the number of noises must be 1 or more; got 0"):
        band_information(field.denoise, mixture.denoise, images, log_snr, rng, 0)
