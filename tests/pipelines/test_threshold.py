"""Static thresholding: Algorithm 1 with its branches corrected, and Eq. (37)."""

import numpy as np
import pytest
import tiny
import torch
from diffusers import DDIMScheduler, DDPMScheduler, IPNDMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from reschrom import (
    downsample,
    estimate_at,
    intensity_scale,
    matched_alpha,
    matched_noise,
    threshold,
    thresholded,
    thresholded_noise,
    upsample,
)


def noised(seed: int, alpha: float, shape: tuple[int, ...] = (2, 3, 16, 16)) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    x_0, eps = rng.uniform(-1, 1, shape), rng.standard_normal(shape)
    return x_0, eps, np.sqrt(alpha) * x_0 + np.sqrt(1 - alpha) * eps


@pytest.mark.lasting
@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 1000), alpha=st.floats(0.2, 1), height=st.integers(0, 5), width=st.integers(0, 5))
def test_exact_noise_gives_back_the_image(seed, alpha, height, width):
    x_0, eps, x_t = noised(seed, alpha, (2, 1, 2**height, 2**width))
    np.testing.assert_allclose(threshold(x_t, eps, alpha), x_0, rtol=0, atol=1e-13)


def test_black_and_white_come_back_too():
    rng = np.random.default_rng(0)
    x_0, eps = rng.choice([-1.0, 1.0], (4, 3, 32, 32)), rng.standard_normal((4, 3, 32, 32))
    x_t = np.sqrt(0.7) * x_0 + np.sqrt(0.3) * eps
    np.testing.assert_allclose(threshold(x_t, eps, 0.7), x_0, rtol=0, atol=1e-13)


@pytest.mark.lasting
@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 1000), alpha=st.floats(1e-6, 1), limit=st.floats(0.1, 3), error=st.floats(0, 100))
def test_every_noise_prediction_stays_within_the_limit(seed, alpha, limit, error):
    _, eps, x_t = noised(seed, alpha)
    wrong = eps + error * np.random.default_rng(seed + 1).standard_normal(eps.shape)
    estimate = threshold(x_t, wrong, alpha, limit)
    assert np.all(abs(estimate) <= limit)


def test_it_clamps_every_resolution_where_plain_clamping_only_the_last():
    _, eps, x_t = noised(1, 0.05)
    estimate = threshold(x_t, 1.5 * eps, 0.05)
    plain = np.clip(estimate_at(x_t, 1.5 * eps, 0.05), -1, 1)
    assert np.sqrt(np.mean((estimate - plain) ** 2)) > 0.1


def test_it_is_the_algorithm_step_by_step():
    # Algorithm 1 with Eq. (37) anew at every level, its branches exchanged.
    _, eps, x_t = noised(2, 0.1)
    alpha, x_0 = 0.1, None
    for m in reversed(range(5)):
        matched = matched_alpha(alpha, m)
        low = intensity_scale(alpha, m) * downsample(x_t, m) - 2**m * np.sqrt(1 - matched) * downsample(eps, m)
        estimate = low / np.sqrt(matched)
        x_0 = estimate if x_0 is None else upsample(x_0) + estimate - upsample(downsample(estimate))
        x_0 = np.clip(x_0, -1, 1)
    np.testing.assert_allclose(threshold(x_t, eps, alpha), x_0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("level", [0, 1, 2, 4])
@pytest.mark.parametrize("alpha", [1e-6, 0.3, 1 - 1e-9, 1.0])
def test_equation_37_is_equation_7_of_the_low_resolution_image(level, alpha):
    _, eps, x_t = noised(3, alpha)
    matched, noise = matched_alpha(alpha, level), matched_noise(alpha, level)
    x_low = intensity_scale(alpha, level) * downsample(x_t, level)
    eps_low = 2.0**level * downsample(eps, level)  # of unit variance again
    expected = (x_low - np.sqrt(noise) * eps_low) / np.sqrt(matched)
    estimate = estimate_at(x_t, eps, alpha, level)
    np.testing.assert_allclose(estimate, expected, rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(estimate, downsample(estimate_at(x_t, eps, alpha), level), rtol=1e-10, atol=1e-9)


def test_every_image_has_its_own_signal_power():
    _, eps, x_t = noised(4, 0.5, (2, 3, 1, 4, 4))
    alpha = np.random.default_rng(5).uniform(0.1, 1, (2, 3))
    together = threshold(x_t, eps, alpha)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(together[i, j], threshold(x_t[i, j], eps[i, j], float(alpha[i, j])), atol=1e-14)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("alpha", [0.5, np.array([0.2, 0.7]), torch.tensor([0.2, 0.7])], ids=["one", "numpy", "torch"])
def test_dtype_and_library_are_those_of_the_images(precision, alpha):
    _, eps, x_t = (a.astype(precision) for a in noised(6, 0.5))
    expected = threshold(x_t.astype(np.float64), eps.astype(np.float64), alpha)
    ours = threshold(x_t, eps, alpha)
    theirs = threshold(torch.asarray(x_t), torch.asarray(eps), alpha)
    assert ours.dtype == precision
    assert theirs.dtype == getattr(torch, precision)
    tolerance = 1e-5 if precision == "float32" else 1e-14
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(theirs.numpy(), expected, rtol=0, atol=tolerance)


KINDS = ["multi-resolution", "plain", "as printed"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha", [1e-5, 0.1, 0.9])
def test_the_noise_implies_the_thresholded_estimate(kind, alpha):
    _, eps, x_t = noised(7, alpha)
    estimate = estimate_at(x_t, thresholded_noise(x_t, 1.5 * eps, alpha, kind), alpha)
    once = np.clip(estimate_at(x_t, 1.5 * eps, alpha), -1, 1)
    expected = threshold(x_t, 1.5 * eps, alpha) if kind == "multi-resolution" else once
    np.testing.assert_allclose(estimate, expected, rtol=0, atol=1e-11)


def test_as_printed_the_algorithm_is_the_plain_threshold():
    _, eps, x_t = noised(8, 0.05)
    plain, printed = (thresholded_noise(x_t, 1.5 * eps, 0.05, kind) for kind in KINDS[1:])
    np.testing.assert_array_equal(printed, plain)


@pytest.mark.parametrize("kind", KINDS)
def test_in_pure_noise_all_is_noise(kind):
    x_t, eps = np.random.default_rng(9).standard_normal((2, 2, 1, 8, 8))
    np.testing.assert_array_equal(thresholded_noise(x_t, eps, np.array([0.0, 0.0]), kind), x_t)


def generated(pipeline, **settings):
    return pipeline(
        batch_size=2, generator=torch.manual_seed(0), num_inference_steps=5, output_type="np", **settings
    ).images


@pytest.mark.lasting
@pytest.mark.parametrize(
    ("build", "scheduler", "settings"),
    [
        (tiny.ddim, DDIMScheduler, {"use_clipped_model_output": True}),
        (tiny.ddpm, DDPMScheduler, {}),
    ],
    ids=["DDIM", "DDPM"],
)
def test_the_plain_threshold_is_the_one_that_schedulers_clip_with(build, scheduler, settings):
    clipping, free = (build(scheduler=scheduler(clip_sample=clips)) for clips in (True, False))
    expected = generated(clipping, **settings)
    assert np.abs(generated(free) - expected).max() > 0.1, "there is nothing to clip"
    with thresholded(free, "plain"):
        np.testing.assert_allclose(generated(free), expected, rtol=0, atol=1e-5)
    with thresholded(free, "as printed"):
        np.testing.assert_allclose(generated(free), expected, rtol=0, atol=1e-5)
    with thresholded(free):
        assert np.abs(generated(free) - expected).max() > 0.01


def test_nothing_is_left_of_a_threshold_after_an_error():
    pipeline = tiny.ddim(scheduler=DDIMScheduler(clip_sample=False))
    before = generated(pipeline)
    with pytest.raises(KeyError, match="stop"), thresholded(pipeline):
        raise KeyError("stop")
    np.testing.assert_array_equal(generated(pipeline), before)


@pytest.mark.parametrize(
    ("attempt", "error", "message"),
    [
        (lambda x: thresholded_noise(x, x, 1.0), ValueError, "alpha must be below 1"),
        (lambda x: thresholded_noise(x, x, 0.5, "dynamic"), ValueError, "'plain', 'as printed'; got 'dynamic'"),
        (lambda x: thresholded_noise(x, x, 0.5, limit=0.0), ValueError, "limit must be positive; got 0"),
        (lambda x: thresholded(tiny.ddim()).__enter__(), ValueError, "needs clip_sample=False"),
        (lambda x: thresholded(tiny.deepfloyd()).__enter__(), TypeError, "unconditional.*got IFPipeline"),
        (lambda x: thresholded(tiny.flux()).__enter__(), TypeError, "got FluxPipeline"),
        (
            lambda x: thresholded(tiny.ddpm(scheduler=IPNDMScheduler())).__enter__(),
            TypeError,
            "alphas_cumprod.* got IPNDMScheduler",
        ),
    ],
)
def test_what_cannot_be_thresholded_is_refused(attempt, error, message):
    with pytest.raises(error, match=message):
        attempt(np.zeros((1, 4, 4)))


def test_one_threshold_at_a_time():
    pipeline = tiny.ddim(scheduler=DDIMScheduler(clip_sample=False))
    with (
        thresholded(pipeline),
        pytest.raises(ValueError, match="thresholded is open on this pipeline already"),
        thresholded(pipeline, "plain"),
    ):
        pass
    with thresholded(pipeline):
        pass
