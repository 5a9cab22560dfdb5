"""The chromatogram: shares and centroids against closed forms, comparison, intervals, and the file round trip."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from reschrom import Chromatogram, Schedule, chromatography, generated_signal, matched_alpha
from reschrom.theory.intervals import REPLICATES, StreamingMean
from reschrom.theory.source import Source

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


@pytest.mark.parametrize("size", [1, 2, 64, 512])
def test_predicted_rates_integrate_to_the_signal(size):
    predicted = Chromatogram.predicted(Schedule.cosine(), size)
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


def test_a_resolution_that_never_comes_has_no_mean_time_and_no_part_in_a_comparison():
    edges = np.array([0.0, 0.5, 1.0])
    never = Chromatogram(np.array([[1.0, 3.0], [0.0, 0.0]]), edges, 2, "never")
    both = Chromatogram(np.array([[1.0, 1.0], [0.0, 2.0]]), edges, 2, "both")
    np.testing.assert_array_equal(never.centroids(), [0.625, np.nan])
    assert never.compare(both).centroid_distance == pytest.approx(0.125, rel=1e-14)
    assert never.compare(both) == pytest.approx(both.compare(never), rel=1e-14)
    again = np.stack([never.rates + k * both.rates for k in range(4)])
    interval = replace(never, replicates=again).centroid_interval()
    assert [np.isnan(bound).tolist() for bound in interval] == [[False, True]] * 2


def test_two_that_have_no_resolution_or_no_time_in_common_have_no_distance():
    edges = np.array([0.0, 0.5, 1.0])
    when = {"fine": [[1.0, 1.0], [0.0, 0.0]], "late": [[1.0, 0.0], [1.0, 0.0]]}
    when |= {"coarse": when["fine"][::-1], "early": [band[::-1] for band in when["late"]]}
    fine, late, coarse, early = (Chromatogram(np.array(rates), edges, 2, name) for name, rates in when.items())
    assert np.isnan(fine.compare(coarse).centroid_distance)
    assert fine.compare(coarse).divergence == pytest.approx(np.log(2), rel=1e-14)
    assert late.compare(early).centroid_distance == 0.5
    assert np.isnan(late.compare(early).divergence)


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
    assert (back.size, back.name) == (64, "müßig")
    assert [p.name for p in tmp_path.iterdir()] == ["c.json"]


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    predicted = Chromatogram.predicted(Schedule.cosine(), 2)
    predicted.save(tmp_path / "c.json")
    before = (tmp_path / "c.json").read_bytes()

    def fail(*_args: object, **_settings: object) -> str:
        raise RuntimeError("no space left")

    monkeypatch.setattr(json, "dumps", fail)
    with pytest.raises(RuntimeError, match="no space left"):
        predicted.save(tmp_path / "c.json")
    assert (tmp_path / "c.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["c.json"]


SAVED = {"name": "x", "size": 2, "edges": [0, 1], "rates": [[1], [1]]}


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
        (json.dumps({**SAVED, "size": "two"}).encode(), "a size is a number of pixels, .* got 'two'"),
        (json.dumps({**SAVED, "edges": None}).encode(), "edges of a chromatogram must rise"),
        (json.dumps({**SAVED, "rates": [[1], [float("nan")]]}).encode(), "finite and not negative; got nan"),
    ],
)
def test_a_file_that_holds_no_chromatogram_says_so(tmp_path, content, cause):
    (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"c\.json does not hold a chromatogram: .*{cause}"):
        Chromatogram.load(tmp_path / "c.json")


def measured(seed: int = 0, size: int = 4, images: int = 60, steps: int = 5) -> Chromatogram:
    """A chromatogram of positive random rates, one set for each of some images, that rise with time."""
    rng, edges = np.random.default_rng(seed), np.linspace(0, 1, steps + 1)
    mean = StreamingMean()
    mean.add(rng.exponential(size=(images, int(np.log2(size)) + 1, steps)) * (1 + np.arange(steps)), 0)
    return Chromatogram(mean.mean, edges, size, "measured", mean.replicates)


def test_intervals_reach_as_far_as_their_share_of_the_replicates_and_farther_on_the_side_of_the_longer_tail():
    chromatogram = measured()
    shares = chromatogram.shares
    off = chromatogram.replicates / chromatogram.replicates.sum(axis=1, keepdims=True) - shares
    spread = off.std(axis=0, ddof=1)
    skewness = np.mean((off - off.mean(axis=0)) ** 3, axis=0) / spread**3
    for level in (0.5, 0.9):
        for simultaneous in (False, True):
            interval = chromatogram.interval(level, simultaneous)
            below, above = (shares - interval.lower) / spread, (interval.upper - shares) / spread
            reach = np.minimum(below, above)
            outside = np.abs(off) / spread > reach
            if simultaneous:
                np.testing.assert_allclose(reach, reach[0, 0], rtol=1e-12)  # one for all
                outside = outside.any(axis=(1, 2))
            np.testing.assert_allclose(outside.mean(axis=0), 1 - level, rtol=0, atol=1 / REPLICATES)
            # Half of Hall's formula, because exponential weights double the skewness of a mean.
            np.testing.assert_allclose(above - below, skewness * (2 * reach**2 + 1) / 12, atol=1e-12)
        assert np.all(interval.lower < chromatogram.interval(level).lower)
    assert np.all(chromatogram.interval(0.99).upper > chromatogram.interval(0.9).upper)


@pytest.mark.parametrize("band", [0, 1, 2])
def test_an_interval_of_the_ridge_reaches_the_level_of_what_alone_is_generated(band):
    rates = np.zeros((3, 4))
    rates[band] = 1
    alone = Chromatogram(rates, np.arange(5.0), 4, "alone", np.stack([rates, 2 * rates]))
    for each in (alone.ridge(), *alone.ridge_interval()):
        np.testing.assert_array_equal(each, band)


def test_the_ridge_has_no_interval_where_some_replicate_or_the_measurement_generates_nothing():
    whole = measured(images=5)
    rates, replicates = whole.rates.copy(), whole.replicates.copy()
    replicates[3, :, 1] = rates[:, 2] = 0
    for bound in Chromatogram(rates, whole.edges, 4, "made up", replicates).ridge_interval():
        assert np.isnan(bound).tolist() == [False, True, True, False, False]


@pytest.mark.lasting
def test_intervals_of_centroids_reach_as_far_as_their_share_of_the_replicates():
    chromatogram = measured()
    interval = chromatogram.centroid_interval(0.9)
    again = np.stack([replace(chromatogram, rates=rates).centroids() for rates in chromatogram.replicates])
    centre = chromatogram.centroids()
    nearer = np.minimum(centre - interval.lower, interval.upper - centre)
    outside = np.abs(again - centre) > nearer
    np.testing.assert_allclose(outside.mean(axis=0), 0.1, rtol=0, atol=1 / REPLICATES)


def test_intervals_shrink_as_images_are_added():
    few, many = (measured(images=images).interval(simultaneous=True) for images in (100, 1600))
    ratio = (few.upper - few.lower).mean() / (many.upper - many.lower).mean()
    assert ratio == pytest.approx(4, rel=0.25)


def test_a_share_that_never_varies_has_no_width_and_widens_no_other():
    rates = measured().replicates[:, :2, :1]
    rates = np.concatenate([rates, np.stack([np.ones((REPLICATES, 1)), np.zeros((REPLICATES, 1))], axis=1)], axis=2)
    chromatogram = Chromatogram(rates.mean(axis=0), np.arange(3.0), 2, "half known", rates)
    interval = chromatogram.interval(0.95, simultaneous=True)
    np.testing.assert_array_equal(interval.lower[:, 1], [1, 0])
    np.testing.assert_array_equal(interval.upper[:, 1], [1, 0])
    alone = Chromatogram(chromatogram.rates[:, :1], np.arange(2.0), 2, "alone", rates[..., :1])
    np.testing.assert_allclose(interval.upper[:, :1], alone.interval(0.95, simultaneous=True).upper, rtol=1e-12)


def test_intervals_end_where_shares_and_times_do():
    chromatogram = measured(images=2, steps=1)
    interval, centroids = chromatogram.interval(0.99, simultaneous=True), chromatogram.centroid_interval(0.99)
    assert interval.lower.min() == 0
    assert interval.upper.max() <= 1
    np.testing.assert_array_equal(centroids.lower, centroids.upper)  # one step has one mean time


def test_signals_of_replicates_become_their_rates():
    rng, edges = np.random.default_rng(0), np.array([0.0, 0.2, 1.0])
    signals = -np.cumsum(rng.exponential(size=(7, 2, 3)), axis=-1)
    chromatogram = Chromatogram.from_signal(signals[0], edges, 2, "made up", signals)
    np.testing.assert_array_equal(chromatogram.replicates[0], chromatogram.rates)
    np.testing.assert_allclose(chromatogram.replicates @ np.diff(edges), signals[..., 0] - signals[..., -1], rtol=1e-12)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, float("nan")])
def test_a_level_that_is_no_probability_is_refused(level):
    with pytest.raises(ValueError, match=f"between 0 and 1; got {level:g}"):
        measured().interval(level)


def test_a_theory_has_no_interval():
    predicted = Chromatogram.predicted(Schedule.cosine(), 4)
    for ask in (predicted.interval, predicted.centroid_interval):
        with pytest.raises(ValueError, match=r"needs the replicates of a measurement; paper's .* has none"):
            ask()


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("replicates", "message"),
    [
        (np.ones((5, 2, 3)), r"shape \(5, 3, 5\); got \(5, 2, 3\)"),
        (np.full((5, 3, 5), -1.0), "finite and not negative; got -1"),
    ],
)
def test_replicates_of_another_shape_or_sign_are_refused(replicates, message):
    with pytest.raises(ValueError, match=message):
        replace(measured(), replicates=replicates)


@pytest.mark.parametrize("name", ["c.json", "c.npz"])
def test_a_saved_measurement_comes_back_to_the_last_bit(tmp_path, name):
    kept = measured()
    for chromatogram in (replace(kept, images=60, noise_error=0.03), replace(kept, name="müßig", replicates=None)):
        chromatogram.save(tmp_path / name)
        before = (tmp_path / name).read_bytes()
        back = Chromatogram.load(tmp_path / name)
        for field in ("rates", "edges", "replicates"):
            np.testing.assert_array_equal(getattr(back, field), getattr(chromatogram, field))
        assert (back.size, back.name, back.images) == (chromatogram.size, chromatogram.name, chromatogram.images)
        assert back.noise_error == chromatogram.noise_error
        back.save(tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", [None, "c.json", "c.npz"])
def test_half_the_energy_of_guidance_over_log_snr_is_in_nats(tmp_path, name):
    """Steps that end in the image or in pure noise, at an infinite log SNR, are left out; time runs the other way."""
    alphas = np.array([1.0, 0.9, 0.5, 0.2, 0.0])
    energies = StreamingMean()
    energies.add(np.array([[[1.0, 2.0, 3.0, 4.0], [0.0, 6.0, 1.0, 8.0]]] * 3), 0)
    guided = Chromatogram.measured(Source(energies, alphas, guidance=True), np.arange(5.0), 2, "guidance")
    if name:
        guided.save(tmp_path / name)
        guided = Chromatogram.load(tmp_path / name)
    told = guided.information()
    np.testing.assert_allclose(told.log_snr, [np.log(1 / 4), 0, np.log(9)])
    np.testing.assert_allclose(told.rates, [[1.5, 1.0], [0.5, 3.0]])
    np.testing.assert_allclose(told.replicates, np.broadcast_to(told.rates, (200, 2, 2)))
    with pytest.raises(ValueError, match=r"only the energy of guidance .*; x is not that"):
        replace(guided, name="x", source=Source(energies, alphas)).information()


def broken_archives() -> dict[str, bytes]:
    """Return files called .npz that hold no chromatogram."""

    def archive(**arrays: object) -> bytes:
        np.savez(file := io.BytesIO(), **arrays)
        return file.getvalue()

    whole = {"rates": np.ones((2, 1)), "edges": np.arange(2.0), "size": 2, "name": "x"}
    good = archive(**whole)
    return {
        "empty": b"",
        "text": b"no archive",
        "cut": good[: len(good) // 2],
        "damaged": good[:60] + bytes([good[60] ^ 255]) + good[61:],
        "one array": good[good.index(b"\x93NUMPY") :],
        "pickled": archive(**{**whole, "name": np.array([{}], dtype=object)}),
        "two names": archive(**{**whole, "name": np.array(["x", "y"])}),
        "no rates": archive(edges=np.arange(2.0), size=2, name="x"),
    }


@pytest.mark.parametrize("content", broken_archives().values(), ids=broken_archives())
def test_an_archive_that_holds_no_chromatogram_says_so(tmp_path, content):
    (tmp_path / "c.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"c\.npz does not hold a chromatogram: ."):
        Chromatogram.load(tmp_path / "c.npz")


@pytest.mark.parametrize("name", ["c.csv", "c"])
def test_another_kind_of_file_is_refused(tmp_path, name):
    for ask in (measured().save, Chromatogram.load):
        with pytest.raises(ValueError, match=rf"\.json or \.npz file; got .*{name}"):
            ask(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_plot_draws_the_heat_map_with_noise_at_the_left():
    chromatogram = measured()
    figure = chromatogram.plot()
    lines, heat, *_ = figure.axes
    scaled = chromatogram.shares / chromatogram.shares.max(axis=0)
    np.testing.assert_allclose(heat.collections[0].get_array(), scaled[::-1], rtol=1e-12)
    assert lines.get_title("left") == "measured"
    first, last = heat.get_xlim()
    assert first > last
