"""Nats per unit of log SNR and band: sums, crossings and intervals."""

import numpy as np
import pytest

from reschrom.theory.information import Information

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
