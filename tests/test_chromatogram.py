"""The chromatogram: predicted shares and centroids against closed forms, comparison, and the file round trip."""

import json

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from reschrom import Chromatogram, Schedule, chromatography, generated_signal, matched_alpha

EDGES = np.linspace(0, 1, 2001)


@pytest.mark.parametrize("spectrum", [None, [0.02 * 3.0**m for m in range(7)]])
def test_predicted_shares_are_those_of_the_formula(spectrum):
    schedule = Schedule.cosine()
    predicted = Chromatogram.predicted(schedule, 64, spectrum, EDGES)
    expected = chromatography(schedule.alpha(predicted.times), 6, spectrum)
    # A cell holds the mean rate over its width, the formula the rate at its middle: second order apart.
    np.testing.assert_allclose(predicted.shares, expected, rtol=0, atol=2e-4)
    np.testing.assert_allclose(predicted.shares.sum(0), 1, rtol=1e-14)
    assert predicted.band_names == ["64x64", "32x32", "16x16", "8x8", "4x4", "2x2", "1x1"]


@pytest.mark.parametrize("side", [1, 2, 64, 512])
def test_predicted_rates_integrate_to_the_signal(side):
    predicted = Chromatogram.predicted(Schedule.cosine(), side)
    np.testing.assert_allclose((predicted.rates * np.diff(predicted.edges)).sum(1), 1, rtol=1e-12)
    assert np.all(predicted.rates > 0)


def test_centroids_of_the_cosine_schedule_have_a_closed_form():
    # For s = 0, alpha = cos^2 and the mean of t over the rate of band m, -d alpha_tau / dt, is 2^m / (2^m + 1).
    scale = 2.0 ** np.arange(7)
    centroids = Chromatogram.predicted(Schedule.cosine(0.0), 64, edges=EDGES).centroids()
    np.testing.assert_allclose(centroids, scale / (scale + 1), rtol=0, atol=1e-6)


def test_a_spectrum_moves_the_centroids_as_the_integral_says():
    schedule, spectrum = Schedule.cosine(), np.array([0.05, 0.3, 2.0])
    predicted = Chromatogram.predicted(schedule, 4, spectrum, EDGES)
    held = generated_signal(schedule.alpha(EDGES), 2, spectrum)
    # Integration by parts: the mean time is the area under the share still held.
    area = ((held[:, 1:] + held[:, :-1]) / 2 * np.diff(EDGES)).sum(1) / held[:, 0]
    np.testing.assert_allclose(predicted.centroids(), area, rtol=1e-12)
    weaker = Chromatogram.predicted(schedule, 4, spectrum / 10, EDGES)
    assert np.all(weaker.centroids() < predicted.centroids())
    assert (predicted.name, Chromatogram.predicted(schedule, 4).name) == ("Gaussian field", "paper's $r_m$")


def test_from_signal_keeps_the_signal_on_any_grid():
    rng = np.random.default_rng(0)
    edges = np.sort(rng.uniform(0, 1, 30))
    signal = np.stack([matched_alpha(Schedule.cosine().alpha(edges), m) for m in range(4)])
    measured = Chromatogram.from_signal(signal, edges, 8, "measured")
    np.testing.assert_allclose((measured.rates * np.diff(edges)).sum(1), signal[:, 0] - signal[:, -1], rtol=1e-12)
    predicted = Chromatogram.predicted(Schedule.cosine(), 8, edges=edges)
    np.testing.assert_allclose(measured.rates, predicted.rates, rtol=1e-8)


def test_a_scheduler_of_diffusers_gives_one_cell_for_each_timestep():
    from diffusers import DDPMScheduler

    predicted = Chromatogram.predicted(Schedule.from_diffusers(DDPMScheduler()), 64)
    np.testing.assert_allclose(predicted.edges, np.arange(-1, 1000), rtol=0, atol=1e-9)


@pytest.mark.usefixtures("no_type_checks")
def test_lists_become_arrays():
    made = Chromatogram([[1, 1], [3, 1]], [0, 1, 4], 2, "made up")
    np.testing.assert_array_equal(made.times, [0.5, 2.5])
    np.testing.assert_array_equal(made.shares, [[0.25, 0.5], [0.75, 0.5]])


def test_a_step_in_which_nothing_is_generated_has_no_shares():
    rates = np.array([[0.0, 1.0], [0.0, 3.0]])
    quiet = Chromatogram(rates, np.array([0.0, 0.5, 1.0]), 2, "quiet")
    np.testing.assert_array_equal(quiet.shares, [[0, 0.25], [0, 0.75]])


def test_comparison_measures_distance_in_time_and_in_nats():
    predicted = Chromatogram.predicted(Schedule.cosine(), 8, edges=EDGES)
    other = Chromatogram.predicted(Schedule.cosine(), 8, [0.1, 1.0, 2.0, 9.0], EDGES)
    assert predicted.compare(predicted) == (0.0, 0.0)
    comparison = predicted.compare(other)
    assert comparison == pytest.approx(other.compare(predicted), rel=1e-14)
    assert comparison.centroid_distance == pytest.approx(
        np.abs(predicted.centroids() - other.centroids()).mean(), rel=1e-14
    )
    divergence = [jensenshannon(p, q) ** 2 for p, q in zip(predicted.shares.T, other.shares.T, strict=True)]
    assert comparison.divergence == pytest.approx(np.mean(divergence), rel=1e-10)


def test_divergence_weighs_steps_by_their_length():
    edges = np.array([0.0, 0.9, 1.0])
    first = Chromatogram(np.array([[1.0, 1.0], [0.0, 1.0]]), edges, 2, "first")
    second = Chromatogram(np.array([[0.0, 1.0], [1.0, 1.0]]), edges, 2, "second")
    # Disjoint shares are log 2 nats apart, for nine tenths of the time.
    assert first.compare(second).divergence == pytest.approx(0.9 * np.log(2), rel=1e-14)


def test_divergence_counts_only_the_steps_in_which_both_generate():
    first = Chromatogram(np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([0.0, 0.5, 1.0]), 2, "first")
    second = Chromatogram(np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([0.0, 0.5, 1.0]), 2, "second")
    assert first.compare(second).divergence == 0.0


def test_table_has_a_row_for_each_time_and_a_column_for_each_resolution():
    predicted = Chromatogram.predicted(Schedule.flow_matching(3.0), 4, edges=np.linspace(0, 1, 11))
    table = predicted.to_dataframe()
    assert list(table.columns) == ["time", "4x4", "2x2", "1x1"]
    np.testing.assert_array_equal(table["time"], predicted.times)
    np.testing.assert_array_equal(table["2x2"], predicted.shares[1])


def test_a_saved_chromatogram_comes_back_to_the_last_bit(tmp_path):
    predicted = Chromatogram.predicted(Schedule.cosine(), 64, name="müßig")
    predicted.save(tmp_path / "c.json")
    back = Chromatogram.load(tmp_path / "c.json")
    np.testing.assert_array_equal(back.rates, predicted.rates)
    np.testing.assert_array_equal(back.edges, predicted.edges)
    assert (back.side, back.name) == (64, "müßig")
    assert [p.name for p in tmp_path.iterdir()] == ["c.json"]


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    predicted = Chromatogram.predicted(Schedule.cosine(), 2)
    predicted.save(tmp_path / "c.json")
    before = (tmp_path / "c.json").read_bytes()

    def fail(*_args: object) -> str:
        raise RuntimeError("no space left")

    monkeypatch.setattr(json, "dumps", fail)
    with pytest.raises(RuntimeError, match="no space left"):
        predicted.save(tmp_path / "c.json")
    assert (tmp_path / "c.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["c.json"]


SAVED = {"name": "x", "side": 2, "edges": [0, 1], "rates": [[1], [1]]}


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "Expecting value"),
        (b"\x80\xff", "invalid start byte"),
        (b"{", "property name"),
        (b"[]", "list indices"),
        (b"{}", "'rates'"),
        (json.dumps({**SAVED, "rates": [[1]]}).encode(), r"rates of shape \(2, 1\); got \(1, 1\)"),
        (json.dumps({**SAVED, "side": "two"}).encode(), "powers of two; got 'two'"),
        (json.dumps({**SAVED, "edges": None}).encode(), "edges of a chromatogram must rise"),
        (json.dumps({**SAVED, "rates": [[1], [float("nan")]]}).encode(), "finite and not negative; got nan"),
    ],
)
def test_a_file_that_holds_no_chromatogram_says_so(tmp_path, content, cause):
    (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"c\.json does not hold a chromatogram: .*{cause}"):
        Chromatogram.load(tmp_path / "c.json")
