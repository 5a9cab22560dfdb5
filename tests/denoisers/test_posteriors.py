"""Exact denoisers against dense linear algebra, direct sums, closed forms and Monte Carlo."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from reschrom import Chromatogram, Schedule, band_energies, band_spectrum, bands, survival, upsample
from reschrom.denoisers.finite import FiniteDataset
from reschrom.denoisers.gaussian import GaussianField, GaussianMixture, channel_covariance
from reschrom.denoisers.losses import band_losses, never_rising, rates_from_losses, rates_from_sampling
from reschrom.denoisers.sampling import ddim, predicted_noise

SIDE, CHANNELS = 4, 2
ALPHAS = np.array([0.02, 0.3, 0.9])
NATURAL, TIMES = Schedule.natural(), -np.log(ALPHAS)


def projectors() -> np.ndarray:
    """The matrix of every band on one flattened channel of 4x4 pixels, from its action on single pixels."""
    units = np.eye(SIDE**2).reshape(-1, 1, SIDE, SIDE)
    return np.stack([upsample(b, m).reshape(SIDE**2, -1) for m, b in enumerate(bands(units))])


def covariances(generator: np.random.Generator) -> np.ndarray:
    roots = generator.standard_normal((3, CHANNELS, CHANNELS))
    return roots @ roots.transpose(0, 2, 1) * 4.0 ** np.arange(3)[:, None, None]


def dense(spectrum: np.ndarray) -> np.ndarray:
    """The covariance matrix of a field over all channels and pixels."""
    return sum(np.kron(c, p) for c, p in zip(spectrum, projectors(), strict=True))


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def field(generator: np.random.Generator) -> GaussianField:
    return GaussianField(covariances(generator), generator.standard_normal((CHANNELS, SIDE, SIDE)))


@pytest.fixture
def mixture(generator: np.random.Generator) -> GaussianMixture:
    means = generator.standard_normal((3, CHANNELS, SIDE, SIDE))
    return GaussianMixture([GaussianField(covariances(generator), mean) for mean in means], [0.5, 0.3, 0.2])


def conditional_mean(x_t, alpha, covariance, mean):
    flat, mu = x_t.reshape(len(x_t), -1), mean.ravel()
    noised = alpha * covariance + (1 - alpha) * np.eye(len(mu))
    gain = np.sqrt(alpha) * covariance @ np.linalg.inv(noised)
    return (mu + (flat - np.sqrt(alpha) * mu) @ gain.T).reshape(x_t.shape)


def field_covariance(field: GaussianField) -> np.ndarray:
    parts = zip(field._directions, field._variances, strict=True)
    return dense(np.stack([(u * s) @ u.T for u, s in parts]))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_gaussian_field_is_the_dense_conditional_mean(field, generator, alpha):
    x_t = generator.standard_normal((5, CHANNELS, SIDE, SIDE))
    expected = conditional_mean(x_t, alpha, field_covariance(field), field.mean)
    np.testing.assert_allclose(field.denoise(x_t, alpha), expected, atol=1e-12)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_mixture_is_the_dense_conditional_mean(mixture, generator, alpha):
    x_t = generator.standard_normal((5, CHANNELS, SIDE, SIDE))
    logs, estimates = [], []
    for field in mixture.fields:
        covariance, mean = field_covariance(field), field.mean.ravel()
        noised = alpha * covariance + (1 - alpha) * np.eye(len(mean))
        logs.append(multivariate_normal(np.sqrt(alpha) * mean, noised).logpdf(x_t.reshape(5, -1)))
        estimates.append(conditional_mean(x_t, alpha, covariance, field.mean))
    joint = np.exp(logs) * mixture.weights[:, None]
    shares = joint / joint.sum(axis=0)
    np.testing.assert_allclose(mixture.responsibilities(x_t, alpha), shares, atol=1e-12)
    expected = np.einsum("kn,kncij->ncij", shares, np.stack(estimates))
    np.testing.assert_allclose(mixture.denoise(x_t, alpha), expected, atol=1e-12)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_finite_dataset_is_the_direct_softmax(generator, alpha):
    images = generator.standard_normal((6, CHANNELS, SIDE, SIDE))
    x_t = generator.standard_normal((5, CHANNELS, SIDE, SIDE))
    expected = np.zeros_like(x_t)
    for n, x in enumerate(x_t):
        weights = [np.exp(-np.sum((x - np.sqrt(alpha) * y) ** 2) / 2 / (1 - alpha)) for y in images]
        expected[n] = sum(w * y for w, y in zip(weights, images, strict=True)) / sum(weights)
    np.testing.assert_allclose(FiniteDataset(images).denoise(x_t, alpha), expected, atol=1e-12)


def test_a_mixture_of_one_field_is_that_field(field, generator):
    x_t, alone = field.sample(3, generator), GaussianMixture([field])
    np.testing.assert_allclose(alone.denoise(x_t, 0.3), field.denoise(x_t, 0.3), rtol=1e-12)
    np.testing.assert_allclose(alone.guidance(x_t, 0.3, 0), 0, atol=1e-12)


def test_a_mixture_of_point_masses_is_a_finite_dataset(generator):
    images = generator.standard_normal((4, CHANNELS, SIDE, SIDE))
    points = GaussianMixture([GaussianField(np.zeros(3), image) for image in images])
    x_t = generator.standard_normal((5, CHANNELS, SIDE, SIDE))
    for alpha in (0.0, 0.4, 1.0):
        np.testing.assert_allclose(points.denoise(x_t, alpha), FiniteDataset(images).denoise(x_t, alpha), atol=1e-12)


@pytest.mark.parametrize("differ", ["strength", "mean"])
def test_a_mixture_is_found_in_its_own_images(differ, generator):
    spectra = [[0.5, 2.0, 1.0, 1.0], [2.0, 0.5, 1.0, 1.0]] if differ == "strength" else [[1.0, 1.0, 1.0, 1.0]] * 2
    means = [0.0, 0.0] if differ == "strength" else [-0.8, 0.8]
    fields = [GaussianField(s, np.full((1, 8, 8), m)) for s, m in zip(spectra, means, strict=True)]
    true = GaussianMixture(fields, [0.3, 0.7])
    found = GaussianMixture.fit(true.sample(800, generator), 2, generator)
    order = np.argsort(found.weights)
    np.testing.assert_allclose(found.weights[order], [0.3, 0.7], atol=0.05)  # 3 standard errors
    for k, field in zip(order, fields, strict=True):
        np.testing.assert_allclose(found.fields[k].spectrum[:2], field.spectrum[:2], rtol=0.1)
        assert found.fields[k].mean.mean() == pytest.approx(field.mean.mean(), abs=0.1)


def test_limits_pure_noise_says_nothing_and_a_clean_image_everything(field, mixture, generator):
    dataset = FiniteDataset(mixture.sample(6, generator))
    overall = sum(w * f.mean for w, f in zip(mixture.weights, mixture.fields, strict=True))
    for posterior, mean in ((field, field.mean), (mixture, overall), (dataset, dataset.images.mean(axis=0))):
        x_0 = posterior.sample(4, generator)
        np.testing.assert_allclose(posterior.denoise(x_0, 0.0), np.broadcast_to(mean, x_0.shape), atol=1e-12)
        np.testing.assert_allclose(posterior.denoise(x_0, 1.0), x_0, atol=1e-11)
        np.testing.assert_allclose(posterior.denoise(x_0, 1 - 1e-12), x_0, atol=1e-10)


def test_samples_have_the_mean_and_covariance_of_the_field(field, generator):
    images = field.sample(4000, generator)
    standard_error = np.sqrt(np.diag(field_covariance(field)).reshape(field.mean.shape) / 4000)
    assert np.max(np.abs(images.mean(axis=0) - field.mean) / standard_error) < 5
    again = GaussianField.fit(images, colour=True)
    np.testing.assert_allclose(field_covariance(again), field_covariance(field), atol=0.1 * 4**2)
    np.testing.assert_allclose(again.spectrum, field.spectrum, rtol=0.08)
    np.testing.assert_allclose(np.trace(channel_covariance(images), axis1=1, axis2=2) / CHANNELS, band_spectrum(images))
    np.testing.assert_allclose(GaussianField.fit(images).spectrum, band_spectrum(images))


def test_mixture_samples_its_classes_by_weight(mixture, generator):
    images = mixture.sample(3000, generator)
    shares = mixture.responsibilities(images, 1 - 1e-9).mean(axis=1)
    np.testing.assert_allclose(shares, mixture.weights, atol=5 * np.sqrt(0.25 / 3000))
    assert mixture.sample(1, generator).shape == (1, CHANNELS, SIDE, SIDE)  # and no image of the other classes


def test_field_losses_are_the_trace_of_the_dense_posterior_covariance(field):
    covariance, identity = field_covariance(field), np.eye(CHANNELS * SIDE**2)
    for alpha in ALPHAS:
        posterior = np.linalg.inv(np.linalg.inv(covariance) + alpha / (1 - alpha) * identity)
        expected = [np.trace(np.kron(np.eye(CHANNELS), p) @ posterior) for p in projectors()]
        np.testing.assert_allclose(field.losses(alpha), expected, rtol=1e-10)
    assert field.losses(ALPHAS).shape == (3, 3)


def test_measured_losses_agree_with_the_closed_form(field, generator):
    measured = band_losses(field.denoise, field.sample(600, generator), NATURAL, TIMES, generator)
    assert np.all(np.abs(measured.mean - field.losses(ALPHAS)) < 5 * measured.standard_error)
    assert np.all(measured.standard_error < 0.2 * measured.mean)


def test_estimate_energy_and_loss_add_up_to_the_energy_of_the_images(mixture, generator):
    """E||b_m E[x_0|x_t]||^2 = E||b_m x_0||^2 - mmse_m, for each exact posterior."""
    for posterior in (*mixture.fields[:1], mixture, FiniteDataset(mixture.sample(5, generator))):
        x_0 = posterior.sample(3000, generator)
        for alpha in ALPHAS:
            x_t = np.sqrt(alpha) * x_0 + np.sqrt(1 - alpha) * generator.standard_normal(x_0.shape)
            estimate = posterior.denoise(x_t, alpha)
            excess = band_energies(estimate) + band_energies(x_0 - estimate) - band_energies(x_0)
            assert np.all(np.abs(excess.mean(axis=1)) <= 5 * excess.std(axis=1) / np.sqrt(3000))


def test_no_other_denoiser_loses_less(mixture, generator):
    images = mixture.sample(2000, generator)
    whole = GaussianField.fit(images, colour=True)
    best = band_losses(mixture.denoise, images, NATURAL, TIMES, np.random.default_rng(1)).mean
    linear = band_losses(whole.denoise, images, NATURAL, TIMES, np.random.default_rng(1)).mean
    assert np.all(best < linear)


def test_predicted_noise_inverts_the_estimate(field, generator):
    x_t = generator.standard_normal((3, CHANNELS, SIDE, SIDE))
    noise = predicted_noise(field.denoise, x_t, 0.36)
    np.testing.assert_allclose((x_t - 0.8 * noise) / 0.6, field.denoise(x_t, 0.36), atol=1e-12)  # Eq. (7)
    np.testing.assert_array_equal(predicted_noise(field.denoise, x_t, 0.0), x_t)


def test_guidance_is_the_difference_of_noise_predictions(mixture, generator):
    x_t = generator.standard_normal((3, CHANNELS, SIDE, SIDE))
    for alpha in (0.0, 0.3, 0.8):
        unconditional = predicted_noise(mixture.denoise, x_t, alpha)
        conditional = predicted_noise(mixture.fields[1].denoise, x_t, alpha)
        np.testing.assert_allclose(mixture.guidance(x_t, alpha, 1), conditional - unconditional, atol=1e-12)


def test_guidance_keeps_its_precision_when_the_class_is_certain():
    """Two classes of one spectrum: guidance is (1 - rho) times a fixed image, also where 1 - rho is far below 1e-16."""
    means = np.stack([np.full((1, 2, 2), 3.0), np.full((1, 2, 2), -3.0)]) * np.array([[1.0, 0.5], [0.2, 1.0]])
    pair = GaussianMixture([GaussianField([0.5, 2.0], mean) for mean in means])
    x_t = np.sqrt(0.9) * means[:1]
    energy = band_energies(pair.guidance(x_t, 0.9, 0))[:, 0]
    expected = pair.guidance_energies(0, np.array([0.9]))[:, 0]
    assert 0 < energy.sum() < 1e-20
    np.testing.assert_allclose(energy / energy.sum(), expected / expected.sum(), rtol=1e-10)


def test_guidance_energies_are_exact_for_fixed_probabilities(mixture, generator):
    weights = np.array([0.2, 0.5, 0.3])
    x_0 = mixture.fields[0].sample(4000, generator)
    for alpha in ALPHAS:
        x_t = np.sqrt(alpha) * x_0 + np.sqrt(1 - alpha) * generator.standard_normal(x_0.shape)
        noises = [predicted_noise(field.denoise, x_t, alpha) for field in mixture.fields]
        energies = band_energies(noises[0] - sum(w * e for w, e in zip(weights, noises, strict=True)))
        expected = mixture.guidance_energies(0, np.array([alpha]), np.outer(weights, weights)[..., None])[:, 0]
        assert np.all(np.abs(energies.mean(axis=1) - expected) < 5 * energies.std(axis=1) / np.sqrt(4000))


def test_guidance_energies_start_from_the_prior_probabilities(mixture):
    moments = np.repeat(np.outer(mixture.weights, mixture.weights)[..., None], len(ALPHAS), axis=2)
    np.testing.assert_allclose(mixture.guidance_energies(2, ALPHAS), mixture.guidance_energies(2, ALPHAS, moments))


def test_ddim_takes_the_step_of_equation_4(field, generator):
    start = generator.standard_normal((2, CHANNELS, SIDE, SIDE))
    first, second = ddim(field.denoise, start, np.array([0.2, 0.5]))
    ratio = np.sqrt(0.2 / 0.5)
    noise = predicted_noise(field.denoise, start, 0.2)
    np.testing.assert_allclose(second.x_t, start / ratio + (np.sqrt(0.5) - np.sqrt(0.8) / ratio) * noise, atol=1e-12)
    np.testing.assert_allclose(second.estimate, field.denoise(second.x_t, 0.5))
    assert (first.alpha, second.alpha) == (0.2, 0.5)


@pytest.mark.slow
def test_ddim_carries_noise_to_the_distribution(generator):
    """Along the exact flow a Gaussian coefficient is only scaled: x_t = sqrt(alpha S + 1 - alpha) x_T."""
    spectrum = np.array([0.1, 3.0, 40.0])
    field = GaussianField(spectrum, channels=1)
    start = generator.standard_normal((3, 1, SIDE, SIDE))
    exact = np.stack([s * e for s, e in zip(spectrum, band_energies(start), strict=True)])
    errors = []
    for steps in (200, 400):
        *_, last = ddim(field.denoise, start, np.cos(np.linspace(np.pi / 2, 0, steps + 1)) ** 2)
        errors.append(np.abs(band_energies(last.x_t) / exact - 1).max())
    assert errors[1] < 0.05
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.1)  # first order


@pytest.mark.slow
def test_both_ways_of_measuring_find_the_rates_of_a_field(generator):
    """Losses on data and energies along sampling give the chromatogram that the spectrum predicts."""
    field, schedule, edges = GaussianField([0.1, 3.0, 40.0]), Schedule.cosine(), np.linspace(0, 1, 41)
    predicted = Chromatogram.predicted(schedule, SIDE, field.spectrum, edges)
    images = field.sample(3000, generator)
    measured = rates_from_losses(field.denoise, images, schedule, edges, generator, "losses")
    sampled = rates_from_sampling(field.denoise, generator.standard_normal(images.shape), schedule, edges, 4, "DDIM")
    for chromatogram, tolerance in ((measured, 0.003), (sampled, 0.01)):
        error = chromatogram.compare(predicted)
        assert error.centroid_distance < tolerance
        assert error.divergence < 0.001
    assert (measured.name, sampled.name) == ("losses", "DDIM")


def test_never_rising_leaves_falling_signals_and_averages_the_rest():
    np.testing.assert_array_equal(never_rising(np.array([[3.0, 2.0, 0.0]])), [[3.0, 2.0, 0.0]])
    np.testing.assert_allclose(never_rising(np.array([[3.0, 1.0, 2.0, 0.0]])), [[3.0, 1.5, 1.5, 0.0]])


PAIR = GaussianMixture([GaussianField([1, 1]), GaussianField([2, 2])])
NOISED = r"shape \(N, 3, 2, 2\) are needed; got "
BAD = {
    "more classes than pairs of images": (
        lambda: GaussianMixture.fit(np.zeros((5, 1, 4, 4)), 3, np.random.default_rng(0)),
        "two or more images; got 5 images for 3 classes",
    ),
    "a spectrum of the wrong shape": (lambda: GaussianField(np.ones((3, 2))), r"one variance, .* got \(3, 2\)"),
    "a spectrum of one number": (lambda: GaussianField(1.0), r"one variance, .* got \(\)"),
    "covariances of other channels": (
        lambda: GaussianField(np.ones((2, 2, 2)), np.zeros((3, 2, 2))),
        "one variance or one 3x3 covariance",
    ),
    "a covariance that is not symmetric": (lambda: GaussianField([[[1, 2], [0, 1]]] * 2), "must be symmetric"),
    "a mean with NaN": (lambda: GaussianField([1, 1], np.nan), "mean image must be finite"),
    "a mean of the wrong size": (lambda: GaussianField(np.ones(3), np.zeros((1, 8, 8))), r"got .*\(1, 8, 8\)"),
    "a negative variance": (lambda: GaussianField([1.0, -1.0]), "none of them negative"),
    "a spectrum with NaN": (lambda: GaussianField([1.0, np.nan]), "must be numbers"),
    "an empty spectrum": (lambda: GaussianField([]), "one variance"),
    "no class": (lambda: GaussianMixture([]), "one or more fields"),
    "classes of two sizes": (lambda: GaussianMixture([GaussianField([1, 1]), GaussianField([1])]), "of one shape"),
    "weights that do not sum to 1": (lambda: GaussianMixture([GaussianField([1, 1])], [0.5]), "of sum 1; got"),
    "an empty dataset": (lambda: FiniteDataset(np.zeros((0, 3, 4, 4))), r"shape \(N, C, H, W\); got \(0, 3, 4, 4\)"),
    "images of another side": (lambda: PAIR.fields[0].denoise(np.zeros((1, 3, 4, 4)), 0.5), NOISED + r"\(1, 3, 4, 4\)"),
    "images of one channel": (lambda: PAIR.fields[0].denoise(np.zeros((1, 1, 2, 2)), 0.5), NOISED + r"\(1, 1, 2, 2\)"),
    "images of another side, mixture": (lambda: PAIR.denoise(np.zeros((1, 3, 4, 4)), 0.5), NOISED),
    "one image without its axis, dataset": (
        lambda: FiniteDataset(np.zeros((2, 3, 2, 2))).denoise(np.zeros((3, 2, 2)), 0.5),
        NOISED + r"\(3, 2, 2\)",
    ),
    "noised images with NaN": (
        lambda: PAIR.denoise(np.full((1, 3, 2, 2), np.nan), 0.5),
        "noised images must be finite",
    ),
    "one alpha for each image": (
        lambda: PAIR.denoise(np.zeros((2, 3, 2, 2)), np.array([0.5, 0.5])),
        r"one number for all images here; got the shape \(2,\)",
    ),
    "a class that is not there": (lambda: PAIR.guidance(np.zeros((1, 3, 2, 2)), 0.5, 2), "classes 0 to 1; got 2"),
    "a class from the end": (lambda: PAIR.guidance_energies(-1, ALPHAS), "classes 0 to 1; got -1"),
    "energies above alpha 1": (lambda: PAIR.guidance_energies(0, np.array([1.5])), "lies in"),
    "moments of three classes": (
        lambda: PAIR.guidance_energies(0, ALPHAS, np.ones((3, 3, 3))),
        r"shape \(2, 2, 3\); got \(3, 3, 3\)",
    ),
    "an image with NaN": (lambda: FiniteDataset(np.full((1, 3, 4, 4), np.nan)), "finite images"),
    "one image for a spectrum": (lambda: channel_covariance(np.zeros((1, 3, 4, 4))), "two or more images"),
    "alpha above 1": (lambda: GaussianField([1, 1]).denoise(np.zeros((1, 3, 2, 2)), 1.5), "lies in"),
    "noise of a clean image": (
        lambda: predicted_noise(GaussianField([1, 1]).denoise, np.zeros((1, 3, 2, 2)), 1.0),
        "below 1",
    ),
    "a spectrum of images with NaN": (
        lambda: channel_covariance(np.full((2, 3, 4, 4), np.nan)),
        "images must be finite",
    ),
    "a loss of one image": (
        lambda: band_losses(PAIR.denoise, np.zeros((1, 3, 2, 2)), NATURAL, TIMES, np.random.default_rng(0)),
        "two or more images; got 1",
    ),
    "a loss at a negative time": (
        lambda: band_losses(PAIR.denoise, np.zeros((2, 3, 2, 2)), NATURAL, -TIMES, np.random.default_rng(0)),
        "runs from 0 to inf",
    ),
    "a denoiser that loses images": (
        lambda: band_losses(lambda x, _: x[:1], np.zeros((2, 3, 2, 2)), NATURAL, TIMES, np.random.default_rng(0)),
        r"shape it is given, \(2, 3, 2, 2\); got the shape \(1, 3, 2, 2\), at alpha = 0\.02",
    ),
    "a denoiser that returns NaN": (
        lambda: predicted_noise(lambda x, _: x * np.nan, np.zeros((1, 3, 2, 2)), 0.5),
        "finite",
    ),
    "a generation without steps": (
        lambda: list(ddim(PAIR.denoise, np.zeros((1, 3, 2, 2)), np.array([]))),
        "alphas must rise",
    ),
    "a generation beyond the image": (
        lambda: list(ddim(PAIR.denoise, np.zeros((1, 3, 2, 2)), np.array([0.5, 1.5]))),
        "lies in",
    ),
    "a step of no steps": (
        lambda: rates_from_sampling(PAIR.denoise, np.zeros((1, 3, 2, 2)), Schedule.cosine(), ALPHAS, 0, "none"),
        "one or more steps of DDIM; got 0",
    ),
    "a generation that goes back": (
        lambda: list(ddim(GaussianField([1, 1]).denoise, np.zeros((1, 3, 2, 2)), np.array([0.5, 0.2]))),
        "alphas must rise",
    ),
}


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("name", BAD)
def test_bad_input_gives_one_clear_error(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.usefixtures("no_type_checks")
def test_tensors_of_torch_are_taken_as_arrays(generator):
    field = GaussianField([1.0, 4.0, 16.0], channels=1)
    images = field.sample(6, generator)
    tensors = torch.tensor(images, requires_grad=True)
    for model in (field, FiniteDataset(images), FiniteDataset(tensors)):
        np.testing.assert_array_equal(model.denoise(tensors, 0.5), model.denoise(images, 0.5))
    np.testing.assert_array_equal(GaussianField.fit(tensors).spectrum, GaussianField.fit(images).spectrum)
    half = torch.tensor(images, dtype=torch.bfloat16)
    np.testing.assert_array_equal(field.denoise(half, 0.5), field.denoise(half.double().numpy(), 0.5))
    np.testing.assert_array_equal(survival(tensors, tensors).share, np.ones(3))
    *_, last = ddim(field.denoise, tensors, torch.linspace(0, 1, 4, dtype=torch.float64))
    *_, other = ddim(field.denoise, images, np.linspace(0, 1, 4))
    np.testing.assert_allclose(last.x_t, other.x_t, atol=1e-12)
