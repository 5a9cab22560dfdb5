"""The scaling relation against mpmath at 50 digits, and against the statistics of downsampled noise."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reschrom import downsample, intensity_scale, matched_alpha, matched_noise

mpmath.mp.dps = 50

EXTREME = [0.0, 1e-300, 1e-12, 1e-3, 0.3, 0.5, 0.9, 1 - 1e-6, 1 - 1e-12, 1 - 2.0**-53, 1.0]


@pytest.mark.parametrize("alpha", EXTREME)
@pytest.mark.parametrize("level", [0, 1, 3, 6, 10])
def test_scaling_against_50_digits(alpha, level):
    with mpmath.workdps(400):
        a = mpmath.mpf(alpha)
        total = 1 + (4**level - 1) * a
        scale, matched, noise = 2**level / mpmath.sqrt(total), 4**level * a / total, (1 - a) / total
    assert intensity_scale(alpha, level) == pytest.approx(float(scale), rel=1e-12, abs=0)
    assert matched_alpha(alpha, level) == pytest.approx(float(matched), rel=1e-12, abs=0)
    assert matched_noise(alpha, level) == pytest.approx(float(noise), rel=1e-12, abs=0)


@pytest.mark.lasting
@settings(deadline=None)
@given(alpha=st.floats(0, 1), m=st.integers(0, 6), k=st.integers(0, 6))
def test_m_then_k_levels_are_their_sum(alpha, m, k):
    once, twice = matched_alpha(alpha, m + k), matched_alpha(matched_alpha(alpha, m), k)
    np.testing.assert_allclose(twice, once, rtol=1e-12)
    np.testing.assert_allclose(
        intensity_scale(alpha, m) * intensity_scale(matched_alpha(alpha, m), k),
        intensity_scale(alpha, m + k),
        rtol=1e-9,
    )


@pytest.mark.lasting
@settings(deadline=None)
@given(alpha=st.floats(1e-15, 1 - 1e-15), level=st.integers(0, 8))
def test_coarser_is_less_noisy(alpha, level):
    # The order of Eq. (17), tau falling with the level, in terms of signal power.
    assert matched_alpha(alpha, level + 1) > matched_alpha(alpha, level) or matched_alpha(alpha, level) > 1 - 1e-15
    assert matched_noise(alpha, level + 1) < matched_noise(alpha, level)
    assert matched_alpha(alpha, 0) == pytest.approx(alpha, rel=1e-15)


@pytest.mark.lasting
@settings(deadline=None)
@given(alpha=st.floats(0, 1), level=st.integers(0, 8))
def test_signal_and_noise_power_sum_to_one(alpha, level):
    assert matched_alpha(alpha, level) + matched_noise(alpha, level) == pytest.approx(1.0, rel=4e-16)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_downsampled_noised_image_has_the_matched_signal_and_noise(level):
    rng, alpha, count = np.random.default_rng(0), 0.2, 4000
    x_0 = rng.uniform(-1, 1, (1, 8, 8))
    x_t = math.sqrt(alpha) * x_0 + math.sqrt(1 - alpha) * rng.standard_normal((count, 8, 8))
    low = intensity_scale(alpha, level) * downsample(x_t, level)
    signal, noise = math.sqrt(matched_alpha(alpha, level)) * downsample(x_0, level), matched_noise(alpha, level)
    assert np.all(abs(low.mean(0) - signal[0]) < 5 * math.sqrt(noise / count))
    assert np.all(abs(low.var(0) / noise - 1) < 5 * math.sqrt(2 / count))


@pytest.mark.parametrize("function", [intensity_scale, matched_alpha, matched_noise])
def test_dtype_library_and_shape_are_kept(function):
    alpha = np.random.default_rng(1).uniform(0, 1, (2, 3))
    expected = function(alpha, 3)
    assert expected.dtype == np.float64
    for precision, tolerance in [("float32", 1e-6), ("float64", 1e-15)]:
        single, tensor = function(alpha.astype(precision), 3), function(torch.asarray(alpha.astype(precision)), 3)
        assert single.dtype == precision
        assert tensor.dtype == getattr(torch, precision)
        np.testing.assert_allclose(single, expected, rtol=4 * tolerance)
        np.testing.assert_allclose(tensor.numpy(), expected, rtol=4 * tolerance)
    assert function(1, 3).shape == function(0.5, 3).shape == ()
    assert function(torch.tensor([0, 1]), 3).dtype == torch.float32
    assert function(np.empty((0, 2)), 1).shape == (0, 2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("level", [5, 8, 9, 20, 70, 500])
def test_levels_beyond_a_dtype_are_right_in_it(dtype, level):
    alphas = [0.0, 0.125, 0.5, 0.75, 1.0]  # numbers of every dtype
    given = torch.tensor(alphas, dtype=dtype) if isinstance(dtype, torch.dtype) else np.array(alphas, dtype)
    step = torch.finfo(dtype).eps if isinstance(dtype, torch.dtype) else np.finfo(dtype).eps
    for function in (matched_alpha, matched_noise):
        found = function(given, level)
        assert found.dtype == given.dtype
        told = found.double().numpy() if isinstance(found, torch.Tensor) else found.astype(float)
        # Half of the least number of half precision, below which there is nothing.
        np.testing.assert_allclose(told, function(np.array(alphas), level), rtol=4 * float(step), atol=3e-8)
    scale = intensity_scale(given[1:], level)
    told = scale.double().numpy() if isinstance(scale, torch.Tensor) else scale.astype(float)
    np.testing.assert_allclose(told, intensity_scale(np.array(alphas[1:]), level), rtol=4 * float(step))
