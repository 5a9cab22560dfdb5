"""The generation shares r_m: 50 digits, invariants, closed forms, and Theorem 1 on random schedules."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from reschrom import Schedule, chromatography, generated_signal, matched_alpha, matched_time, wiener_gain
from reschrom.theory.bands import band_sizes

mpmath.mp.dps = 50

EXTREME = [0.0, 1e-300, 1e-12, 1e-3, 0.3, 0.5, 0.9, 1 - 1e-6, 1 - 1e-12, 1 - 2.0**-53, 1.0]
SPECTRA = {
    "paper": None,
    "tiny to huge": [10.0**k for k in range(-6, 7, 2)],
    "huge to tiny": [10.0**-k for k in range(-6, 7, 2)],
    "photographs": [0.01 * 3.0**m for m in range(7)],
}


def exact_parts(spectrum: list[float] | None, levels: int) -> list[tuple[mpmath.mpf, mpmath.mpf]]:
    """Return the variance and the weight of every band."""
    if spectrum is None:
        return [(mpmath.mpf(4) ** m, mpmath.mpf(1)) for m in range(levels + 1)]
    sizes = band_sizes(2**levels)
    return [(mpmath.mpf(s), n * mpmath.mpf(s)) for s, n in zip(spectrum, sizes, strict=True)]


@pytest.mark.parametrize("alpha", EXTREME)
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_shares_and_signal_against_50_digits(alpha, spectrum):
    shares = chromatography(alpha, 6, SPECTRA[spectrum])
    signal = generated_signal(alpha, 6, SPECTRA[spectrum])
    with mpmath.workdps(400):
        a = mpmath.mpf(alpha)
        parts = exact_parts(SPECTRA[spectrum], 6)
        rates = [w * s / (1 + (s - 1) * a) ** 2 for s, w in parts]
        held = [w * s * a / (1 + (s - 1) * a) for s, w in parts]
    for m in range(7):
        assert shares[m] == pytest.approx(float(rates[m] / mpmath.fsum(rates)), rel=1e-12, abs=0)
        assert signal[m] == pytest.approx(float(held[m]), rel=1e-12, abs=0)


@pytest.mark.parametrize(("low", "high"), [(0.3, 0.3 + 2.0**-40), (1 - 1e-12, 1.0), (0.0, 1e-300), (0.2, 0.9)])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_the_signal_between_two_powers_against_50_digits(low, high, spectrum):
    signal = generated_signal(high, 6, SPECTRA[spectrum], since=low)
    with mpmath.workdps(400):
        for m, (s, w) in enumerate(exact_parts(SPECTRA[spectrum], 6)):
            held = [w * s * a / (1 + (s - 1) * a) for a in (mpmath.mpf(low), mpmath.mpf(high))]
            assert signal[m] == pytest.approx(float(held[1] - held[0]), rel=1e-12, abs=0)


@pytest.mark.lasting
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_the_signal_is_the_integral_of_the_rates(spectrum):
    parts = [(float(s), float(w)) for s, w in exact_parts(SPECTRA[spectrum], 6)]
    for m in range(7):
        s, w = parts[m]
        # Of the shares, times the sum of all rates: the shares alone do not integrate.
        integral, error = quad(
            lambda a, m=m: (
                chromatography(a, 6, SPECTRA[spectrum])[m] * sum(v * p / (1 + (p - 1) * a) ** 2 for p, v in parts)
            ),
            0.05,
            0.6,
            epsrel=1e-10,
            limit=200,
        )
        assert integral == pytest.approx(generated_signal(0.6, 6, SPECTRA[spectrum], since=0.05)[m], rel=1e-9)
        assert error < 1e-8 * w * s


@pytest.mark.lasting
@settings(deadline=None)
@given(
    alpha=st.floats(0, 1),
    levels=st.integers(0, 10),
    exponents=st.lists(st.floats(-6, 6), min_size=11, max_size=11),
    paper=st.booleans(),
)
def test_shares_are_positive_and_sum_to_one(alpha, levels, exponents, paper):
    spectrum = None if paper else [10.0**e for e in exponents[: levels + 1]]
    shares = chromatography(alpha, levels, spectrum)
    assert shares.shape == (levels + 1,)
    assert np.all(shares > 0)
    assert shares.sum() == pytest.approx(1.0, rel=1e-14)


def test_the_paper_is_a_scale_free_field_without_the_weights():
    alpha = np.linspace(0, 1, 101)
    scale_free = [4.0**m for m in range(7)]
    weights = np.array([n * s for n, s in zip(band_sizes(64), scale_free, strict=True)])[:, None]
    rates = chromatography(alpha, 6, scale_free) / weights
    np.testing.assert_allclose(rates / rates.sum(0), chromatography(alpha, 6), rtol=1e-13)
    for m in range(7):
        np.testing.assert_allclose(wiener_gain(alpha, 4.0**m), matched_alpha(alpha, m), rtol=1e-15)
        np.testing.assert_allclose(generated_signal(alpha, 6)[m], matched_alpha(alpha, m), rtol=1e-14)


def test_a_gaussian_field_holds_the_energy_of_its_best_estimate():
    # E[x_0 | x_t] of one coefficient is gain / sqrt(alpha) x_t: its energy, sampled.
    rng, spectrum, alpha, count = np.random.default_rng(0), [0.2, 3.0, 40.0], 0.35, 200_000
    held = generated_signal(alpha, 2, spectrum)
    for m, (power, size) in enumerate(zip(spectrum, band_sizes(4), strict=True)):
        x_t = np.sqrt(alpha * power) * rng.standard_normal(count) + np.sqrt(1 - alpha) * rng.standard_normal(count)
        energy = (wiener_gain(alpha, power) / np.sqrt(alpha) * x_t) ** 2 * size
        assert abs(energy.mean() - held[m]) < 5 * energy.std() / np.sqrt(count)


def test_single_resolution_is_generated_alone():
    np.testing.assert_array_equal(chromatography(np.linspace(0, 1, 5), 0), np.ones((1, 5)))


@pytest.mark.parametrize("spectrum", [None, [0.1, 1.0, 30.0]])
def test_dtype_library_and_shape_are_kept(spectrum):
    alpha = np.random.default_rng(1).uniform(0, 1, (2, 3))
    expected = chromatography(alpha, 2, spectrum)
    assert expected.shape == (3, 2, 3)
    for precision, tolerance in [("float32", 1e-6), ("float64", 1e-15)]:
        given_spectrum = spectrum if spectrum is None else torch.tensor(spectrum)
        for function in (chromatography, generated_signal):
            ours = function(alpha.astype(precision), 2, spectrum)
            theirs = function(torch.asarray(alpha.astype(precision)), 2, given_spectrum)
            assert ours.dtype == precision
            assert theirs.dtype == getattr(torch, precision)
            np.testing.assert_allclose(theirs.numpy(), ours, rtol=1e-5 if precision == "float32" else 1e-7)
        np.testing.assert_allclose(chromatography(alpha.astype(precision), 2, spectrum), expected, rtol=5 * tolerance)
    assert chromatography(torch.tensor([0, 1]), 2).dtype == torch.float32
    assert chromatography(1, 2).shape == (3,)
    assert chromatography(np.empty(0), 2).shape == (3, 0)


# Theorem 1.


def random_map(rng: np.random.Generator, count: int) -> tuple:
    """Return `count` random increasing differentiable maps of [0, 1] onto itself, and their inverses, as functions."""
    power, ratio, bend = (torch.asarray(np.exp(rng.uniform(-0.7, 0.7, (count, 1)))) for _ in range(3))

    def forward(t: torch.Tensor) -> torch.Tensor:
        u = t**power
        v = ratio * u / (1 + (ratio - 1) * u)
        return torch.sinh(bend * v) / torch.sinh(bend)

    def backward(w: torch.Tensor) -> torch.Tensor:
        v = torch.asinh(w * torch.sinh(bend)) / bend
        return (v / (ratio - (ratio - 1) * v)) ** (1 / power)

    return forward, backward


def random_schedules(rng: np.random.Generator, count: int) -> Schedule:
    """Return `count` random monotone schedules as one, for times of shape (count, n)."""
    forward, backward = random_map(rng, count)
    middle, slope = (torch.asarray(rng.uniform(*span, (count, 1))) for span in ((-4.0, 4.0), (0.5, 3.0)))
    return Schedule(
        "random",
        0.0,
        1.0,
        lambda t, xp: middle - slope * torch.logit(forward(t)),
        lambda log_snr, xp: backward(torch.sigmoid((middle - log_snr) / slope)),
    )


def remapped(schedule: Schedule, forward, backward) -> Schedule:
    """Return the schedule that reaches at t' what `schedule` reaches at forward(t')."""
    return Schedule(
        "remapped",
        0.0,
        1.0,
        lambda t, xp: schedule._log_snr(forward(t), xp),
        lambda log_snr, xp: backward(schedule._time(log_snr, xp)),
    )


def literal_shares(schedule: Schedule, t: torch.Tensor, levels: int) -> torch.Tensor:
    """Return r_m as Eq. (18) prints it: the slope of alpha at tau_m, over the sum of these slopes."""
    t = t.clone().requires_grad_(True)
    slopes = [torch.autograd.grad(schedule.alpha(matched_time(schedule, t, m)).sum(), t)[0] for m in range(levels + 1)]
    return torch.stack(slopes) / sum(slopes)


def test_theorem_1_on_1000_random_pairs_of_schedules():
    rng, count = np.random.default_rng(4), 1000
    first = random_schedules(rng, count)
    forward, backward = random_map(rng, count)
    second = remapped(first, forward, backward)
    t_second = torch.asarray(rng.uniform(0.02, 0.98, (count, 9)))
    t_first = forward(t_second)
    alpha = first.alpha(t_first)
    torch.testing.assert_close(second.alpha(t_second), alpha, rtol=1e-12, atol=0)
    assert float((t_first - t_second).abs().mean()) > 0.05  # the pairs do differ
    of_first, of_second = literal_shares(first, t_first, 6), literal_shares(second, t_second, 6)
    torch.testing.assert_close(of_first, of_second, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(of_first, chromatography(alpha, 6), rtol=1e-8, atol=1e-12)


def test_adjusted_times_fall_with_the_level():
    rng, count = np.random.default_rng(5), 200
    schedule = random_schedules(rng, count)
    t = torch.asarray(rng.uniform(0.02, 0.98, (count, 9)))
    times = torch.stack([matched_time(schedule, t, m) for m in range(7)])
    torch.testing.assert_close(times[0], t, rtol=1e-12, atol=0)
    assert bool((times.diff(dim=0) < 0).all())


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule.linear(),
        Schedule.scaled_linear(),
        Schedule.cosine(),
        Schedule.sigmoid(),
        Schedule.flow_matching(3.0),
        Schedule.natural(),
    ],
    ids=lambda schedule: schedule.name,
)
def test_equation_18_by_differences_for_every_constructor(schedule):
    t, step = np.linspace(0.02, 0.98, 25), 1e-5
    slopes = np.stack(
        [
            (schedule.alpha(matched_time(schedule, t - step, m)) - schedule.alpha(matched_time(schedule, t + step, m)))
            for m in range(7)
        ]
    )
    np.testing.assert_allclose(slopes / slopes.sum(0), chromatography(schedule.alpha(t), 6), rtol=1e-5, atol=1e-8)


def test_natural_schedule_has_the_form_of_equation_33():
    t = np.linspace(0.01, 8, 30)
    tau = np.stack([matched_time(Schedule.natural(), t, m) for m in range(7)])
    rates = np.exp(-tau) / ((4.0 ** np.arange(7)[:, None] - 1) * np.exp(-t) + 1)
    np.testing.assert_allclose(rates / rates.sum(0), chromatography(np.exp(-t), 6), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("spectrum", [None, [1e-12, 1.0, 1e9], [1e30, 1e-30, 1.0]], ids=["paper", "wide", "wider"])
def test_rates_beyond_a_dtype_are_right_in_it(dtype, spectrum):
    alphas, levels = np.array([0.0, 0.25, 0.5, 1.0]), 12 if spectrum is None else 2
    found = chromatography(alphas.astype(dtype), levels, spectrum)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, chromatography(alphas, levels, spectrum), rtol=2e-3, atol=3e-8)


@pytest.mark.parametrize("power", [5e-324, 1e-320, 1e-300, 1e300, 1.7e308])
def test_a_gain_near_the_ends_of_all_numbers_is_right(power):
    assert wiener_gain(0.5, power) == pytest.approx(power if power < 1 else 1.0)
    assert wiener_gain(np.float16(0.5), power) == pytest.approx(0.0 if power < 1 else 1.0)
    assert (wiener_gain(0.0, power), wiener_gain(1.0, power)) == (0, 1)


@pytest.mark.parametrize("levels", [60, 250])
def test_the_rates_of_many_levels_are_shares(levels):
    alphas = np.array([0.0, 1e-300, 1e-100, 1e-20, 0.5, 1.0])
    np.testing.assert_allclose(chromatography(alphas, levels).sum(axis=0), 1)
    assert np.all(np.isfinite(generated_signal(alphas, levels)))
