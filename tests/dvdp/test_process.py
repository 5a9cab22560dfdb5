"""Images that become smaller as they become noise: every kernel, one chain, its bound, its units."""

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from reschrom import (
    AttenuatedProcess,
    Schedule,
    attenuation_within,
    band_energies,
    bands,
    downsample,
    error_bound,
    from_bands,
    intensity_scale,
    matched_alpha,
    matched_time,
    spectral_turning_points,
    turning_points_within,
    upsample,
)
from reschrom.theory.chromatography import wiener_gain

COSINE = Schedule.cosine()
TREATMENTS = ("continue", "preserve")
# Kernels act on each block of pixels alone. So draws stand side by side in one wide image, which is quick.
DRAWS = 2**20
# The image of one draw, halved twice down to one pixel.
X_0 = np.random.default_rng(7).uniform(-1, 1, (1, 1, 4, 4)).astype(np.float32)


def process(treatment: str = "continue", attenuation: float = 0.2, points: tuple = (0.3, 0.6)) -> AttenuatedProcess:
    return AttenuatedProcess(COSINE, points, attenuation, treatment)


def averages(side: int) -> np.ndarray:
    """Return the matrix of UD for images of one channel, pixel by pixel."""
    units = np.eye(side * side).reshape(-1, 1, side, side)
    return upsample(downsample(units)).reshape(side * side, -1)


def attenuator(p: AttenuatedProcess, t: float, stage: int, side: int) -> np.ndarray:
    """Return the matrix that makes a small image of a stage the attenuated image of time t."""
    if stage == 2:
        return np.eye(side * side)
    first, last = ((0.0, 0.3), (0.3, 0.6))[stage]
    coarse = averages(side)
    return coarse + p.attenuation ** ((t - first) / (last - first)) * (np.eye(side * side) - coarse)


def decay(p: AttenuatedProcess, s: float, t: float, stage: int, side: int) -> np.ndarray:
    """Return the matrix that takes the signal of time s to that of time t."""
    earlier, later = (attenuator(p, time, stage, side) for time in (s, t))
    return np.sqrt(COSINE.alpha(t) / COSINE.alpha(s)) * later @ np.linalg.inv(earlier)


def marginal(p: AttenuatedProcess, t: float, stage: int, x_0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and covariance of q(x_t | x_0)."""
    alpha, small = float(COSINE.alpha(t)), downsample(x_0.astype(np.float64), stage)
    side = small.shape[-1]
    variance = (1 - alpha) / (4**stage if p.treatment == "continue" else 1)
    return np.sqrt(alpha) * attenuator(p, t, stage, side) @ small.reshape(-1), variance * np.eye(side * side)


def many(x: np.ndarray, draws: int = DRAWS) -> np.ndarray:
    return np.tile(x.astype(np.float32), (1, 1, 1, draws))


def normal(seed: int):
    generator = np.random.default_rng(seed)
    return lambda shape: generator.standard_normal(shape, np.float32)


def noised(p: AttenuatedProcess, t: float, stage: int, x_0: np.ndarray, draws: int = DRAWS) -> np.ndarray:
    side = x_0.shape[-1] >> stage
    return p.noised(many(x_0, draws), normal(1)((1, 1, side, side * draws)), t, stage)


def assert_moments(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> None:
    """Check the mean and the covariance of draws, each number within 4 standard errors, and float32 rounding."""
    side = x.shape[-2]
    draws = x.shape[-1] // side
    flat = x.reshape(side, draws, side).swapaxes(0, 1).reshape(draws, side * side).astype(np.float64)
    error = np.sqrt(np.diag(covariance) / draws)
    assert np.all(np.abs(flat.mean(axis=0) - mean) <= 4 * error + 1e-6)
    away = flat - mean
    spread = np.sqrt((np.outer(np.diag(covariance), np.diag(covariance)) + covariance**2) / draws)
    assert np.all(np.abs(away.T @ away / draws - covariance) <= 4 * spread + 1e-6)


# In its first stage the process needs no more than one block of 2x2 pixels.
STAGES = [(0, X_0[..., :2, :2]), (1, X_0), (2, X_0)]
SPANS = {0: (0.1, 0.25), 1: (0.35, 0.6), 2: (0.7, 0.9)}


@pytest.mark.lasting
@pytest.mark.parametrize("treatment", TREATMENTS)
@pytest.mark.parametrize(("stage", "x_0"), STAGES)
def test_noised_images_have_the_marginal_of_their_stage(treatment, stage, x_0):
    p = process(treatment)
    for t in SPANS[stage]:
        assert_moments(noised(p, t, stage, x_0), *marginal(p, t, stage, x_0))


@pytest.mark.parametrize(("stage", "x_0"), STAGES)
def test_a_transition_attenuates_and_keeps_the_noise_white(stage, x_0):
    p, (s, t), small = process(), SPANS[stage], downsample(X_0, stage)[..., : x_0.shape[-1], : x_0.shape[-1]]
    side = small.shape[-1]
    x_t = p.transition(s, t, stage).apply(many(small), None, normal(3))
    matrix = decay(p, s, t, stage, side)
    fresh = marginal(p, t, stage, x_0)[1][0, 0] * np.eye(side * side)
    fresh = fresh - marginal(p, s, stage, x_0)[1][0, 0] * matrix @ matrix.T
    assert_moments(x_t, matrix @ small.reshape(-1), fresh)


def conditioned(p: AttenuatedProcess, stage: int, x_0: np.ndarray, x_t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and covariance of q(x_s | x_t, x_0) by conditioning one Gaussian on another."""
    s, t = SPANS[stage]
    (mean_s, cov_s), (mean_t, cov_t) = (marginal(p, time, stage, x_0) for time in (s, t))
    matrix = decay(p, s, t, stage, x_t.shape[-1])
    gain = cov_s @ matrix.T @ np.linalg.inv(cov_t)
    return mean_s + gain @ (x_t.reshape(-1) - mean_t), cov_s - gain @ matrix @ cov_s


@pytest.mark.parametrize("treatment", TREATMENTS)
@pytest.mark.parametrize(("stage", "x_0"), STAGES)
def test_the_posterior_is_that_of_the_markov_chain(treatment, stage, x_0):
    p, (s, t), side = process(treatment), SPANS[stage], x_0.shape[-1] >> stage
    x_t = np.random.default_rng(4).standard_normal((1, 1, side, side))
    x_s = p.posterior(s, t, stage).apply(many(x_t), many(p.image(x_0, t, stage)), normal(5))
    assert_moments(x_s, *conditioned(p, stage, x_0, x_t))


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_every_share_of_fresh_noise_keeps_the_marginal(eta):
    p, (s, t) = process(), SPANS[1]
    x_s = p.posterior(s, t, 1, eta).apply(noised(p, t, 1, X_0), many(p.image(X_0, t, 1)), normal(7))
    assert_moments(x_s, *marginal(p, s, 1, X_0))


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_a_turning_point_makes_the_larger_image_the_smaller_one(treatment):
    p = process(treatment)
    assert_moments(p.halve(noised(p, 0.6, 1, X_0), 2, normal(8)), *marginal(p, 0.6, 2, X_0))


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_the_chain_through_two_turning_points_has_the_marginal_of_its_end(treatment):
    p = process(treatment)
    x_t = p.forward(noised(p, 0.1, 0, X_0, DRAWS // 8), 0.1, 0.8, normal(9))
    assert x_t.shape == (1, 1, 1, DRAWS // 8)
    assert_moments(x_t, *marginal(p, 0.8, 2, X_0))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("treatment", TREATMENTS)
def test_going_back_through_a_turning_point_adds_only_the_noise_of_the_detail(treatment, eta):
    p, low = process(treatment), downsample(X_0, 2)
    x_t = noised(p, 0.6, 2, X_0)
    x, image = p.double(x_t, many(low), 2, normal(11), eta)
    mean, covariance = marginal(p, 0.6, 1, X_0)
    assert_moments(x, averages(2) @ mean, covariance)
    np.testing.assert_array_equal(image, upsample(many(low)))
    # Given the small image nothing but that is drawn: no average of 2x2 pixels moves, unless noise is taken away.
    moved = np.abs(downsample(x) - x_t).max()
    assert moved < 1e-5 if treatment == "continue" else moved > 0.1


def test_going_back_to_the_finer_stage_adds_noise_of_three_quarters_on_the_diagonal():
    x, _ = process().double(many(np.zeros((1, 1, 1, 1))), many(np.zeros((1, 1, 1, 1))), 2, normal(12))
    variance = (1 - float(COSINE.alpha(0.6))) / 4
    assert_moments(x, np.zeros(4), variance * (np.eye(4) - np.full((4, 4), 0.25)))


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("treatment", TREATMENTS)
def test_one_step_back_through_two_turning_points(treatment, eta):
    p, draws = process(treatment), DRAWS // 8
    image = many(downsample(X_0, 2), draws)
    x_s = p.reverse(noised(p, 0.8, 2, X_0, draws), image, 0.8, 0.1, normal(14), eta)
    # The estimate holds no detail, so that only the mean colour returns, in white noise of time 0.1.
    mean, covariance = marginal(p, 0.1, 0, X_0)
    assert_moments(x_s, np.full(16, mean.mean()), covariance)


@pytest.mark.slow
@pytest.mark.parametrize("treatment", TREATMENTS)
def test_there_and_back_with_the_exact_posterior_a_gaussian_field_keeps_its_spectrum(treatment):
    p, count, generator = process(treatment, attenuation=0.02), 2**17, np.random.default_rng(15)
    spectrum = np.array([0.05, 0.4, 3.0])
    white = bands(generator.standard_normal((1, 1, 4, 4 * count), np.float32), 2)
    x_0 = from_bands([np.float32(np.sqrt(variance)) * band for variance, band in zip(spectrum, white, strict=True)])
    x, t, stage = p.forward(x_0, 0.0, 0.95, normal(16)), 0.95, 2
    assert x.shape == (1, 1, 1, count)

    def image(x: np.ndarray, t: float, stage: int) -> np.ndarray:
        """Draw the attenuated image from its posterior given x_t."""
        drawn, noise = [], bands(generator.standard_normal(x.shape, np.float32), 2 - stage)
        gains = p.gains(t, stage)
        for band, (part, fresh) in enumerate(zip(bands(x, 2 - stage), noise, strict=True)):
            gain = gains.detail if band == 0 else gains.averages
            prior = float(gain) ** 2 * spectrum[stage + band] / 4**stage
            precision = 1 / prior + float(p.alpha(t)) / float(p.deviation(t, stage)) ** 2
            weight = np.sqrt(float(p.alpha(t))) / float(p.deviation(t, stage)) ** 2 / precision
            drawn.append(np.float32(weight) * part + np.float32(precision**-0.5) * fresh)
        return from_bands(drawn)

    for s in (0.8, 0.6, 0.45, 0.3, 0.2, 0.1, 0.0):
        x = p.posterior(s, t, stage).apply(x, image(x, t, stage), normal(int(100 * s)))
        t = s
        if s in p.turning_points:
            x, _ = p.double(x, image(x, t, stage), stage, normal(17))
            stage -= 1
    # Four standard errors of the variance of 131,072 coefficients are 1.6 %. A band has 12, 3 and 1 in a draw.
    energies = band_energies(x.astype(np.float64), 2)[:, 0]
    np.testing.assert_allclose(energies / (count * np.array([12, 3, 1])), spectrum, rtol=0.02)


def test_without_turning_points_the_process_is_that_of_eq_1():
    p = AttenuatedProcess(COSINE)
    noise = normal(18)((5, 1, 4, 4))
    x_0 = normal(19)((5, 1, 4, 4))
    t = np.linspace(0.1, 1, 5)
    alpha = COSINE.alpha(t)[:, None, None, None]
    np.testing.assert_allclose(p.noised(x_0, noise, t), np.sqrt(alpha) * x_0 + np.sqrt(1 - alpha) * noise, rtol=1e-5)
    np.testing.assert_array_equal(p.network_time(t), t)
    np.testing.assert_allclose(p.network_alpha(t), COSINE.alpha(t))
    np.testing.assert_allclose(p.input_scale(t), 1)
    assert p.initial_deviation == 1


def test_without_attenuation_the_network_sees_images_of_eq_1_at_the_matched_time():
    p = process(attenuation=1.0)
    x_0, noise, t = normal(20)((3, 1, 4, 4)), normal(21)((3, 1, 1, 1)), np.array([0.6, 0.7, 0.9])
    alpha = matched_alpha(COSINE.alpha(t), 2)
    seen = p.input_scale(t)[:, None, None, None] * p.noised(x_0, noise, t)
    alone = np.sqrt(alpha)[:, None, None, None] * downsample(x_0, 2) + np.sqrt(1 - alpha)[:, None, None, None] * noise
    np.testing.assert_allclose(seen, alone, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(p.input_scale(t), intensity_scale(COSINE.alpha(t), 2))
    np.testing.assert_allclose(p.network_alpha(t), alpha)
    np.testing.assert_allclose(p.network_time(t), matched_time(COSINE, t, 2))
    np.testing.assert_allclose(COSINE.alpha(p.network_time(t)), alpha)


def test_preserved_signal_to_noise_ratios_ask_for_one_table_of_alpha():
    p, t = process("preserve"), np.array([0.6, 0.7, 0.9])
    np.testing.assert_array_equal(p.network_time(t), t)
    np.testing.assert_allclose(p.network_alpha(t), COSINE.alpha(t))
    np.testing.assert_allclose(p.deviation(t) ** 2, 1 - COSINE.alpha(t))
    assert p.initial_deviation == 1
    assert process().initial_deviation == 1 / 4


def test_a_network_is_told_no_time_before_the_first_timestep():
    p = AttenuatedProcess(Schedule.from_diffusers(DDPMScheduler()), (1, 2))
    assert p.network_time(1.0) == 0
    assert p.network_time(900.0) > 500


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_noise_and_estimate_are_two_ways_to_say_the_same(treatment):
    p, t = process(treatment), np.array([0.31, 0.45, 0.59])
    x_0, noise = torch.rand(3, 2, 8, 8), torch.randn(3, 2, 4, 4)
    x_t = p.noised(x_0, noise, t)
    assert x_t.dtype == torch.float32
    torch.testing.assert_close(p.estimate(x_t, noise, t), p.image(x_0, t))
    # An attenuated image lies in the range of the image.
    assert 0 <= float(p.image(x_0, t).min()) <= float(p.image(x_0, t).max()) <= 1


def divergence(shift: float) -> float:
    """Return KL(p || N(0, 1)) where p is N(shift, 1) or N(-shift, 1), by quadrature."""
    y = np.linspace(-12, 12, 40_001)
    p = (np.exp(-((y - shift) ** 2) / 2) + np.exp(-((y + shift) ** 2) / 2)) / np.sqrt(8 * np.pi)
    log_ratio = np.logaddexp(y * shift, -y * shift) - np.log(2) - shift**2 / 2
    return float(np.sum(p * log_ratio) * (y[1] - y[0]))


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_the_error_is_bounded_and_falls_with_the_attenuation(treatment):
    # Of two images whose details differ in sign, each detail in one number.
    x_0 = np.array([[1.0, -1.0], [1.0, -1.0]]).reshape(1, 1, 2, 2)
    bounds = []
    for attenuation in (1.0, 0.3, 0.1, 0.01):
        p = process(treatment, attenuation, (0.5,))
        bounds.append(float(error_bound(p, band_energies(x_0).mean(axis=1)[:1])[0]))
        signal = p.image(x_0, 0.5, 0) * np.sqrt(p.alpha(0.5))
        exact = divergence(float(np.linalg.norm(signal) / p.deviation(0.5, 0)))
        assert exact <= bounds[-1]
    assert bounds[-1] < 1e-3
    np.testing.assert_allclose(bounds[1], 0.09 * bounds[0])


def test_the_bound_counts_the_noise_that_lies_on_the_detail():
    energies = np.array([2.0, 3.0, 5.0])
    kept, preserved = (error_bound(process(treatment), energies) for treatment in TREATMENTS)
    snr = np.array([float(COSINE.snr(t)) for t in (0.3, 0.6)])
    np.testing.assert_allclose(kept, 0.2**2 * snr * energies[:2] / 2)
    np.testing.assert_allclose(preserved, kept / [1, 4])
    assert error_bound(AttenuatedProcess(COSINE), energies).shape == (0,)


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_attenuation_and_turning_points_keep_within_a_budget(treatment):
    energies = np.array([2.0, 30.0])
    attenuation = attenuation_within(process(treatment), energies, 0.01)
    assert error_bound(process(treatment, attenuation), energies).sum() == pytest.approx(0.01)
    assert attenuation_within(process(treatment), energies, 1e9) == 1
    points = turning_points_within(COSINE, energies, 0.01, 0.1, 2, treatment)
    np.testing.assert_allclose(error_bound(process(treatment, 0.1, points), energies), [0.005, 0.005])


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_spectral_turning_points_wait_for_a_share_of_the_band(treatment):
    spectrum = np.array([0.01, 0.1, 1.0])
    points = spectral_turning_points(COSINE, spectrum, 0.05, 2, treatment)
    p = process(treatment, 1.0, points)
    for stage, (point, variance) in enumerate(zip(points, spectrum, strict=False)):
        noise = float(p.deviation(point, stage)) ** 2
        ratio = float(p.alpha(point)) * variance / 4**stage / noise
        assert ratio / (1 + ratio) == pytest.approx(0.05)
    assert wiener_gain(COSINE.alpha(points[0]), 0.01) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"turning_points": (0.6, 0.3)}, r"turning points must increase between 0 and 1; got \(0.6, 0.3\)"),
        ({"turning_points": (0.3, 0.3)}, "turning points must increase"),
        ({"turning_points": (0.0, 0.3)}, "turning points must increase between 0 and 1"),
        ({"turning_points": (0.3, 1.0)}, "turning points must increase between 0 and 1"),
        ({"turning_points": (float("nan"),)}, "turning points must increase between 0 and 1"),
        ({"attenuation": 0.0}, r"attenuation must lie in \(0, 1\]; got 0.0"),
        ({"attenuation": 1.5}, r"attenuation must lie in \(0, 1\]; got 1.5"),
        ({"attenuation": float("nan")}, r"attenuation must lie in \(0, 1\]; got nan"),
        ({"treatment": "double"}, "treatment must be one of continue, preserve; got 'double'"),
    ],
)
def test_what_is_no_process_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AttenuatedProcess(COSINE, **settings)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, x: p.alpha(1.5), "runs from 0 to 1; got times from 1.5"),
        (lambda p, x: p.image(x, 1.5), "stages 0 to 2 last from one of .* got 1.5"),
        (lambda p, x: p.image(x, 0.5, 0), "stages 0 to 2 last from one of .* got 0.5"),
        (lambda p, x: p.transition(0.2, 0.5), "stages 0 to 2 last from one of .* got 0.2"),
        (lambda p, x: p.stage(np.array([0.2, 0.5])), "times must be of one stage; got stages 0 to 1"),
        (lambda p, x: p.image(x[..., :2, :2], 0.7), r"multiples of 2\^2; got 2x2"),
        (lambda p, x: p.image(x[..., :3, :3], 0.2), r"multiples of 2\^1; got 3x3"),
        (lambda p, x: error_bound(p, np.array([1.0])), "a positive number is needed for each of 2 bands"),
        (lambda p, x: error_bound(p, np.array([1.0, 0.0])), "a positive number is needed for each of 2 bands"),
        (lambda p, x: attenuation_within(p, np.ones(2), 0.0), "budget must be positive and finite; got 0"),
        (lambda p, x: spectral_turning_points(COSINE, np.ones(2), 1.0, 2), "share of the signal must lie between"),
        (lambda p, x: spectral_turning_points(COSINE, np.ones(2), 0.1, 2, "b"), "treatment must be one of"),
    ],
)
def test_bad_arguments_are_refused(no_type_checks, call, message):
    with pytest.raises(ValueError, match=message):
        call(process(), X_0)


@pytest.mark.lasting
@pytest.mark.parametrize("treatment", TREATMENTS)
@pytest.mark.parametrize("points", [(), (0.3, 0.6)])
def test_a_step_that_takes_no_time_changes_nothing(treatment, points):
    p = process(treatment, points=points)
    for t in np.linspace(0, 1, 101):
        decay, image, deviation = p.transition(t, t)
        assert (decay, image, deviation) == ((1, 1), (0, 0), (0, 0))
        if t:
            kept, taken, added = p.posterior(t, t, eta=1)
            np.testing.assert_allclose((*kept, *taken, *added), (1, 1, 0, 0, 0, 0), atol=1e-12)
