"""The bootstrap over images: the same numbers however images are batched, and the spread that statistics demands."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import bootstrap

from reschrom import GaussianField, GaussianMixture, Schedule, band_energies, band_losses, rates_from_losses
from reschrom._files import read_json
from reschrom.theory.intervals import REPLICATES, StreamingMean, interval_around, joined, weights

# The mixture of `benchmarks/coverage.py`, whose loss near the noise has a long tail.
TWO_KINDS = GaussianMixture(
    [GaussianField([1.0, 4.0, 16.0], -4.0, 1), GaussianField([0.3, 1.0, 2.0], 2.0, 1)], [0.3, 0.7]
)


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return np.random.default_rng(0).exponential(size=(400, 2, 3)) + np.arange(3)


def streamed(values: np.ndarray, *cuts: int, seed: int = 0) -> StreamingMean:
    mean, first = StreamingMean(seed), 0
    for part in np.split(values, cuts):
        mean.add(part, first)
        first += len(part)
    return mean


def test_weights_belong_to_an_image_whatever_is_drawn_with_it():
    whole = weights(3, 0, 20)
    assert whole.shape == (REPLICATES, 20)
    np.testing.assert_array_equal(weights(3, 7, 5), whole[:, 7:12])
    expected = np.random.default_rng([3, 11]).standard_exponential(REPLICATES)
    np.testing.assert_array_equal(whole[:, 11], expected)
    assert not np.any(weights(4, 0, 20) == whole)


def test_weights_are_exponential_and_independent():
    drawn = weights(0, 0, 500)
    assert drawn.mean() == pytest.approx(1, abs=0.02)
    assert drawn.var() == pytest.approx(1, abs=0.04)
    correlations = np.corrcoef(drawn[:30])[~np.eye(30, dtype=bool)]
    assert np.abs(correlations).max() < 5 / np.sqrt(500)


@pytest.mark.parametrize("cuts", [(1,), (399,), (7, 100, 250), tuple(range(1, 400))])
def test_streaming_is_the_same_as_all_at_once(values, cuts):
    whole, parts = streamed(values), streamed(values, *cuts)
    assert whole.count == parts.count == 400
    for quantity in ("mean", "standard_error", "replicates"):
        np.testing.assert_allclose(getattr(parts, quantity), getattr(whole, quantity), rtol=1e-12)


def test_mean_error_and_replicates_are_what_their_names_say(values):
    mean = streamed(values, 150)
    np.testing.assert_allclose(mean.mean, values.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(mean.standard_error, values.std(axis=0, ddof=1) / 20, rtol=1e-12)
    drawn = weights(0, 0, 400)
    expected = np.einsum("bi,i...->b...", drawn / drawn.sum(axis=1, keepdims=True), values)
    np.testing.assert_allclose(mean.replicates, expected, rtol=1e-12)


def test_replicates_spread_like_the_standard_error(values):
    spread = np.mean([streamed(values, seed=seed).replicates.std(axis=0) for seed in range(5)], axis=0)
    np.testing.assert_allclose(spread, streamed(values).standard_error, rtol=0.08)
    np.testing.assert_allclose(streamed(values).replicates.mean(axis=0), values.mean(axis=0), rtol=0.01)


def test_what_all_images_share_does_not_vary():
    same = streamed(np.full((50, 4), 7.0), 20)
    np.testing.assert_allclose(same.replicates, 7, rtol=1e-13)
    np.testing.assert_allclose(same.standard_error, 0, atol=1e-14)


def test_memory_does_not_grow_with_the_images():
    def peak(batches: int) -> int:
        mean, batch = StreamingMean(), np.ones((10, 50))
        mean.add(batch, 0)
        tracemalloc.start()
        for index in range(1, batches):
            mean.add(batch, 10 * index)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    assert peak(40) < 1.1 * peak(4)


@pytest.mark.parametrize("cuts", [(1,), (150, 300)])
def test_means_measured_apart_merge_in_any_order_to_that_of_all(values, cuts):
    firsts = (0, *cuts)
    parts = []
    for first, part in zip(firsts, np.split(values, cuts), strict=True):
        parts.append(StreamingMean())
        parts[-1].add(part, first)
    kept = [StreamingMean.from_state(part.state()) for part in parts]
    whole, merged = streamed(values), StreamingMean.merge(kept[::-1])
    assert merged.numbers == ((0, 400),)
    for quantity in ("count", "mean", "standard_error", "replicates"):
        np.testing.assert_allclose(getattr(merged, quantity), getattr(whole, quantity), rtol=1e-12)
    np.testing.assert_array_equal(whole[1, ::-1].replicates, whole.replicates[:, 1, ::-1])


def test_an_image_is_measured_once(values):
    some = streamed(values[:10])
    assert joined(((0, 3), (5, 6)), ((3, 5),)) == ((0, 6),)
    with pytest.raises(ValueError, match=r"image 9 comes twice"):
        some.add(values[:3], 9)
    with pytest.raises(ValueError, match=r"one seed of their weights; got 0, 1"):
        StreamingMean.merge([some, streamed(values, seed=1)])
    with pytest.raises(ValueError, match=r"have one shape in all"):
        StreamingMean.from_state({**some.state(), "weighted": np.zeros(3)})


@pytest.mark.parametrize("images", [16, 40, 100])
@pytest.mark.parametrize("numbers", [1, 3, 12])
def test_the_interval_of_an_energy_covers_it_as_often_as_it_says(images, numbers):
    """An energy is the sum of the squares of some numbers; `benchmarks/coverage.py` tells of other quantities."""
    energies = np.random.default_rng([images, numbers]).chisquare(numbers, (images, 2000))  # so many repetitions
    mean = streamed(energies)
    lower, upper = interval_around(mean.mean, mean.replicates, images=images)
    # 2000 of them know it to 0.005. Of 16 single squares: 0.93, and 0.87 without leaning.
    assert 0.92 < np.mean((lower <= numbers) & (numbers <= upper)) < 0.98


def test_of_few_images_it_covers_more_often_than_the_corrected_bootstrap_of_scipy():
    rng = np.random.default_rng(0)
    energies = rng.chisquare(1, (16, 1000))
    mean = streamed(energies)
    lower, upper = interval_around(mean.mean, mean.replicates, images=16)
    corrected = bootstrap((energies,), np.mean, n_resamples=999, method="BCa", rng=rng).confidence_interval
    # 1000 of them know it to 0.01.
    assert np.mean((corrected.low <= 1) & (corrected.high >= 1)) < 0.9 < np.mean((lower <= 1) & (upper >= 1))


@pytest.mark.parametrize(
    ("more", "rates"), [("", ["growth", "loss rates"]), (", 8 noises", ["loss rates"])], ids=["one noise", "eight"]
)
def test_the_page_says_how_often_intervals_were_right(more, rates):
    checkout = Path(__file__).parents[2]
    covered = read_json(checkout / "data/reference/coverage.json")["covered"]
    kinds = {"field, 3 channels": "three channels", "field, 1 channel": "one channel"}
    kinds |= {"captions, 3 channels": "36 captions", "mixture, 1 channel": "two kinds"}
    quantities = {"losses": ["loss"], "rates": rates}
    for name, part in {"shares": "shares", "mean times": "centroids"}.items():
        quantities[name] = [f"{key}, {part}" for key in rates]

    def cell(of, keys, images):
        ends = [end for key in keys for band in of[key + more][images]["bands"] for end in band if end < 1]
        return f"{min(ends):.2f}–{max(ends):.2f}"

    page = (checkout / "book/measure.md").read_text(encoding="utf-8")
    table = page.split("so many intervals are right with eight noises")[bool(more)]
    for name, kind in kinds.items():
        for quantity, keys in quantities.items():
            cells = [cell(covered[name], keys, images) for images in ("16", "40", "100")]
            assert f"| {kind} | {quantity} | {' | '.join(cells)} |" in table


def test_the_page_says_how_few_noised_images_have_most_of_a_loss():
    """Of the mixture of `benchmarks/coverage.py`, near the noise: a twentieth has half of the loss of the 1x1 band."""
    model, rng = TWO_KINDS, np.random.default_rng(0)
    alpha = float(Schedule.cosine().alpha(0.85))
    images = model.sample(20_000, rng)
    lost = []
    for _ in range(2):
        x_t = np.sqrt(alpha) * images + np.sqrt(1 - alpha) * rng.standard_normal(images.shape)
        lost.append(band_energies(model.denoise(x_t, alpha) - images)[-1])
    ordered = np.sort(lost[0])[::-1]
    assert 0.47 < ordered[: len(ordered) // 20].sum() / ordered.sum() < 0.57
    # Seven eighths of the variance are those of noises: what two noises of one image have in common is the image's.
    assert 0.10 < np.cov(lost)[0, 1] / np.var(lost) < 0.15


@pytest.mark.lasting
def test_more_noises_bring_losses_and_rates_nearer_to_the_truth():
    """A thin tail of noises has most of a loss of two kinds of images near the noise."""
    model, edges, schedule = TWO_KINDS, np.array([0.75, 0.85, 0.95]), Schedule.cosine()
    rng = np.random.default_rng(0)
    images = [model.sample(16, rng) for _ in range(40)]
    spread = {}
    for noises in (1, 8):
        losses = [band_losses(model.denoise, x, schedule, edges[1:2], rng, noises).mean[-1, 0] for x in images]
        rates = [rates_from_losses(model.denoise, x, schedule, edges, rng, "", noises).rates[-1, 0] for x in images]
        spread[noises] = np.std(losses), np.std(rates)
    # Of images the spread is 0.43 each, of noises 1.14: the root of (0.43^2 + 1.14^2 / 8) / (0.43^2 + 1.14^2) is 0.48.
    assert np.all(np.divide(spread[8], spread[1]) < 0.7)


@pytest.mark.lasting
def test_all_intervals_together_cover_as_often_as_they_say():
    energies = np.random.default_rng(0).chisquare(6, (500, 40, 8))
    covered = []
    for each in energies:
        mean = streamed(each)
        lower, upper = interval_around(mean.mean, mean.replicates, simultaneous=True, images=40)
        covered.append(np.all((lower <= 6) & (upper >= 6)))
    assert 0.92 < np.mean(covered) < 0.98


@pytest.mark.parametrize("simultaneous", [False, True])
def test_an_interval_is_wider_for_fewer_images_and_one_alone_tells_nothing(values, simultaneous):
    mean = streamed(values)

    def reach(images):
        interval = interval_around(mean.mean, mean.replicates, 0.9, simultaneous, (-50.0, 50.0), images)
        return interval.upper - interval.lower

    for fewer, more in ((2, 3), (3, 16), (16, 100), (100, 10**6)):
        assert np.all(reach(fewer) > reach(more))
    np.testing.assert_allclose(reach(10**9), reach(None), rtol=1e-6)
    np.testing.assert_array_equal(reach(1), 100)


@pytest.mark.parametrize("side", [-1, 1])
def test_an_interval_leans_to_the_longer_tail_and_no_farther_than_it_reaches(side):
    replicates = side * np.exp(2 * np.random.default_rng(0).standard_normal((REPLICATES, 3)))
    centre = np.median(replicates, axis=0)
    lower, upper = interval_around(centre, replicates)
    shorter, longer = (centre - lower, upper - centre)[::side]
    np.testing.assert_allclose(longer, 2 * shorter, rtol=1e-12)


def test_what_a_measurement_does_not_know_has_no_interval_and_leaves_the_others_theirs():
    replicates = np.array([[1.0, np.nan, 7.0], [2.0, 1.0, 5.0], [3.0, 2.0, 6.0], [4.0, 3.0, 1.0]])
    for images in (1, 2, None):
        for simultaneous in (False, True):
            found = interval_around(np.array([2.5, 2.0, 5.0]), replicates, 0.9, simultaneous, images=images)
            alone = interval_around(np.array([2.5, 5.0]), replicates[:, [0, 2]], 0.9, simultaneous, images=images)
            for bound, expected in zip(found, alone, strict=True):
                np.testing.assert_array_equal(bound, [expected[0], np.nan, expected[1]])
    assert np.isnan(interval_around(np.ones(1), replicates[:, [1]], simultaneous=True)).all()
