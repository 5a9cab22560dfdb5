"""Nats per unit of log SNR and band: sums, crossings and intervals."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reschrom.theory.information import GuidanceInterval, Information, guidance_interval

EDGES = np.array([-4.0, -1.0, 0.0, 2.0])
RATES = np.array([[0.0, 0.5, 1.0], [0.2, 0.0, 0.25]])


def test_what_is_told_is_the_sum_of_the_rates_over_log_snr():
    told = Information(RATES, EDGES, 2)
    np.testing.assert_allclose(told.gained, [[0, 0, 0.5, 2.5], [0, 0.6, 0.6, 1.1]])
    assert told.total == pytest.approx(3.6)


@pytest.mark.parametrize(
    ("nats", "log_snr"), [(0.0, -4.0), (0.3, -2.5), (0.6, -1.0), (1.1, 0.0), (2.35, 1.0), (3.6, 2.0)]
)
def test_a_number_of_nats_is_reached_within_a_step(nats, log_snr):
    assert Information(RATES, EDGES, 2).reaches(nats) == pytest.approx(log_snr)


def test_more_than_all_is_never_reached():
    assert np.isnan(Information(RATES, EDGES, 2).reaches(3.7))


def test_a_measurement_that_falls_again_counts_where_it_first_reaches_the_number():
    told = Information(np.array([[2.0, -1.0, 1.0]]), np.arange(4.0), 1)  # half a loss difference may be negative
    assert told.reaches(1.5) == 0.75


def test_the_interval_is_that_of_the_sum_over_bands():
    noise = np.random.default_rng(0).standard_normal((400, 1, 3))
    again = RATES + np.concatenate([noise, -noise], axis=1)  # what one band gains the other loses
    lower, upper = Information(RATES, EDGES, 2, again).gained_interval()
    np.testing.assert_allclose(upper - lower, 0, atol=1e-12)
    again = RATES + np.concatenate([noise, noise], axis=1)
    lower, upper = Information(RATES, EDGES, 2, again).gained_interval(0.95)
    spread = 2 * np.sqrt(np.cumsum(np.diff(EDGES) ** 2))  # of the sum of both bands
    # The farther of two quantiles, each of which 400 replicates know to a tenth.
    np.testing.assert_allclose((upper - lower)[1:], 2 * 1.96 * spread, rtol=0.2)


@pytest.mark.parametrize(
    ("rates", "edges", "words"),
    [
        (RATES, EDGES[::-1], "finite log SNRs that rise"),
        (RATES, [-np.inf, -1, 0, 2], "finite log SNRs that rise"),
        (RATES, [-4, 0, 0, 2], "finite log SNRs that rise"),
        (RATES[:1], EDGES, "2 bands in 3 steps are needed"),
        (RATES[:, :2], EDGES, "2 bands in 3 steps are needed"),
    ],
)
def test_what_does_not_fit_is_refused(rates, edges, words):
    with pytest.raises(ValueError, match=words):
        Information(rates, np.array(edges, dtype=float), 2)


def test_without_replicates_there_is_no_interval():
    with pytest.raises(ValueError, match="has an interval"):
        Information(RATES, EDGES, 2).gained_interval()


def test_an_interval_leaves_out_half_of_the_rest_at_either_end():
    told = Information(np.ones((2, 100)), np.linspace(-5.0, 5.0, 101), 2)  # 20 nats
    interval = guidance_interval(told, nats=20.0, share=0.9)
    assert (interval.begins, interval.ends) == pytest.approx((-4.5, 4.5))
    # No more than all that was measured; and no further than where all that can be said is said.
    assert guidance_interval(told, np.inf, 0.9) == guidance_interval(told, 20.0, 0.9)
    assert (half := guidance_interval(told, 10.0, 0.9)).ends == pytest.approx(-0.25)
    assert half.begins == pytest.approx(-4.75)


@pytest.mark.lasting
@settings(deadline=None)
@given(
    hnp.arrays(float, (3, 6), elements=st.floats(0.01, 3)),
    st.floats(0.1, 1.5),
    st.floats(0.1, 0.99),
)
def test_an_interval_holds_its_share_of_what_can_be_said(rates, part, share):
    told = Information(rates, np.array([-6.0, -4, -3, -1, 0, 2, 7]), 4)
    nats = part * told.total
    interval, each = (guidance_interval(told, nats, share, by_band=banded) for banded in (False, True))
    last = min(nats, told.total)
    within = [np.interp(end, told.log_snr, told.gained.sum(axis=0)) for end in (interval.begins, interval.ends)]
    assert within[1] - within[0] == pytest.approx(share * last)
    assert within[0] == pytest.approx(last - within[1], abs=1e-9)
    until = told.reaches(last) if part < 1 else told.log_snr[-1]
    for gained, begins, ends in zip(told.gained, each.begins, each.ends, strict=True):
        inside = np.interp(ends, told.log_snr, gained) - np.interp(begins, told.log_snr, gained)
        assert inside == pytest.approx(share * np.interp(until, told.log_snr, gained))


def test_what_falls_after_its_peak_is_error_and_does_not_count():
    told = Information(np.array([[1.0, 2.0, -1.0, 0.5]]), np.arange(5.0), 1)
    assert guidance_interval(told, 10.0, 0.5).ends < 2.0


def test_guidance_acts_between_its_ends_and_at_them():
    interval = GuidanceInterval(np.array([-2.0, -1.0]), np.array([0.0, 3.0]))
    for log_snr, wanted in [
        (-3.0, [0, 0]),
        (-2.0, [1, 0]),
        (0.0, [1, 1]),
        (3.0, [0, 1]),
        (np.inf, [0, 0]),
        (-np.inf, [0, 0]),
    ]:
        np.testing.assert_array_equal(interval.weights(log_snr), wanted)
    assert GuidanceInterval(-1.0, 1.0).weights(0.0) == 1
