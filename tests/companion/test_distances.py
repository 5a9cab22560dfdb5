"""Distances between sets of images in every resolution band, and what is kept of real images for them."""

import numpy as np
import ot
import pytest

from reschrom.companion.judging.distances import (
    BandDistances,
    BandQuantiles,
    band_distances,
    noise_levels,
    pairwise_distance,
    projections,
)
from reschrom.companion.reference import real_images
from reschrom.theory.bands import bands, upsample
from reschrom.train.recipe import Recipe


def noise(count, side=8, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 3, side, side))


def test_with_all_quantiles_it_is_the_sliced_distance_of_pot():
    real, generated = noise(12), 1.5 * noise(9, seed=1) + 0.2
    found = band_distances(generated, BandQuantiles.of(real, 12, directions=20)).distance
    for m, pair in enumerate(zip(bands(generated), bands(real), strict=True)):
        flat = [band.reshape(len(band), -1) for band in pair]
        size = flat[0].shape[1]
        directions = np.random.default_rng([0, size]).standard_normal((size, 20))
        directions /= np.linalg.norm(directions, axis=0)
        np.testing.assert_allclose(found[m], ot.sliced_wasserstein_distance(*flat, projections=directions), rtol=1e-9)


def test_it_is_zero_for_the_same_images_and_symmetric_for_two_sets():
    x, y = noise(10), noise(10, seed=1) + 0.5
    one, other = (BandQuantiles.of(each, 10) for each in (x, y))
    np.testing.assert_allclose(band_distances(x[::-1], one).distance, 0, atol=1e-7)
    np.testing.assert_allclose(band_distances(x, other).distance, one.distance(other), rtol=1e-9)
    np.testing.assert_allclose(one.distance(other), other.distance(one), rtol=1e-9)


def test_what_is_added_to_one_band_is_seen_in_that_band_alone():
    x, extra = noise(20), bands(noise(20, seed=2))
    for m, band in enumerate(extra):
        found = band_distances(x + upsample(band, m), BandQuantiles.of(x, 20)).distance
        assert found[m] > 0.01
        np.testing.assert_allclose(np.delete(found, m), 0, atol=1e-6)


@pytest.mark.lasting
def test_a_shift_of_the_mean_colour_has_the_size_of_the_shift():
    x = noise(40)
    found = band_distances(x + 0.3, BandQuantiles.of(x, 40, directions=400)).distance
    np.testing.assert_allclose(found[-1], 0.3, rtol=0.1)


@pytest.mark.lasting
def test_quantiles_of_many_images_stand_for_all_of_them():
    x, y = noise(30), 2 * noise(600, seed=3)
    full, few = (BandQuantiles.of(y, count) for count in (600, 100))
    np.testing.assert_allclose(band_distances(x, few).distance, band_distances(x, full).distance, rtol=0.05)


@pytest.mark.lasting
def test_chance_is_the_distance_of_real_images_drawn_anew():
    real = BandQuantiles.of(noise(1500, 4), 50)
    found = np.mean([band_distances(noise(8, 4, seed), real).distance ** 2 for seed in range(10, 40)], axis=0)
    np.testing.assert_allclose(real.chance(8), np.sqrt(found), rtol=0.15)
    assert np.all(real.chance(32) < real.chance(8))


@pytest.mark.lasting
def test_the_interval_is_as_wide_as_sets_of_images_differ():
    real, sets = BandQuantiles.of(noise(500, 4), 50), [1.5 * noise(16, 4, seed) for seed in range(10, 34)]
    measured = [band_distances(x, real) for x in sets]
    spread = np.std([each.distance for each in measured], axis=0)
    claimed = np.mean([each.replicates.std(axis=0) for each in measured], axis=0)
    assert np.all((claimed > 0.7 * spread) & (claimed < 1.8 * spread))
    one = measured[0]
    low, high = one.interval()
    assert np.all((low < one.distance) & (one.distance < high))


def test_the_interval_of_the_mean_is_that_of_a_single_band():
    found = band_distances(1.5 * noise(6, 4, 10), BandQuantiles.of(noise(500, 4), 50))
    again = found.replicates.mean(axis=1, keepdims=True)
    alone = BandDistances(found.distance.mean(keepdims=True), again, found.images)
    np.testing.assert_array_equal(np.array(found.mean_interval()), np.array(alone.interval())[:, 0])
    assert np.ptp(found.mean_interval()) > 1.2 * np.ptp(np.quantile(again, (0.025, 0.975)))  # of six images


def test_images_of_a_group_that_are_alike_count_as_one():
    real, x = BandQuantiles.of(noise(500, 4), 50), 1.5 * noise(16, 4, 10)
    four_times, groups = np.tile(x, (4, 1, 1, 1)), np.tile(np.arange(16), 4)
    alone, together = (band_distances(four_times, real, groups=each) for each in (None, groups))
    np.testing.assert_array_equal(alone.distance, together.distance)
    each_itself = band_distances(x, real, groups=np.arange(16))
    np.testing.assert_allclose(each_itself.replicates, band_distances(x, real).replicates, rtol=1e-9)
    wider = together.replicates.std(axis=0) / alone.replicates.std(axis=0)
    np.testing.assert_allclose(wider, 2, rtol=0.3)  # the root of four


def test_the_noise_level_is_that_of_noise_and_hardly_that_of_edges():
    np.testing.assert_allclose(noise_levels(0.2 * noise(4, 64))[:3], 0.2, rtol=0.1)
    edge = np.ones((1, 3, 64, 64))
    edge[..., 13:] = -1
    np.testing.assert_array_equal(noise_levels(edge)[:4], 0)
    np.testing.assert_allclose(noise_levels(edge + 0.1 * noise(1, 64))[:2], 0.1, rtol=0.1)


def test_pairs_of_white_noise_are_as_far_apart_as_their_variances_add_up_to():
    x = noise(12, 16)
    by_hand = [np.sqrt(np.mean((x[i] - x[j]) ** 2)) for i in range(12) for j in range(i)]
    assert pairwise_distance(x) == pytest.approx(np.mean(by_hand), rel=1e-12)
    assert pairwise_distance(x) == pytest.approx(2**0.5, rel=0.03)
    assert pairwise_distance(np.stack([x[0]] * 3)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (noise(1), "two or more square images"),
        (noise(4)[..., :4], "two or more square images"),
        (np.full((2, 3, 8, 8), np.nan), "finite"),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_what_cannot_be_compared_is_refused(images, message):
    with pytest.raises(ValueError, match=message):
        projections(images)


@pytest.mark.usefixtures("no_type_checks")
def test_sets_on_different_directions_are_refused():
    real = BandQuantiles.of(noise(4), 4)
    with pytest.raises(ValueError, match="8 pixels wide; got 16"):
        band_distances(noise(4, 16), real)
    for other in (BandQuantiles.of(noise(4), 4, seed=1), BandQuantiles.of(noise(4), 4, directions=5)):
        with pytest.raises(ValueError, match="same directions"):
            real.distance(other)
    with pytest.raises(ValueError, match="one or more directions; got 0"):
        projections(noise(4), 0)


def test_what_is_kept_of_photographs_is_read_back_and_holds_none_of_them(tmp_path):
    recipe = Recipe(contents=("chelsea", "coffee"), kind="image", pieces=3, size=8)
    known = real_images.measure(recipe, "photos", 20)
    assert list(known) == ["held out", "training"]
    path = tmp_path / "real.safetensors"
    real_images.save(path, known, {"data": "photos"})
    real_images.save(tmp_path / "again.safetensors", real_images.measure(recipe, "photos", 20), {"data": "photos"})
    assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()
    for name, real in real_images.load(path).items():
        np.testing.assert_allclose(real.quantiles.quantiles, known[name].quantiles.quantiles, rtol=1e-6)
        np.testing.assert_array_equal(real.spectrum, known[name].spectrum)
        np.testing.assert_array_equal(real.noise, known[name].noise)
        assert real.pairwise == known[name].pairwise
        assert real.quantiles.side == 8
        assert np.all(np.diff(real.quantiles.quantiles, axis=1) >= 0)  # every direction is sorted on its own


@pytest.mark.parametrize("content", [b"", b"no safetensors file"])
def test_another_file_is_refused_by_its_name(tmp_path, content):
    path = tmp_path / "real.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"real\.safetensors holds nothing about real images"):
        real_images.load(path)


def test_the_shipped_file_is_of_64_pixels_and_its_two_sets_are_near_each_other(root):
    known = real_images.load(root / "data" / "reference" / "fruit-bands.safetensors")
    held_out, training = (known[name] for name in real_images.SPLITS)
    assert held_out.quantiles.quantiles.shape == (7, 100, 32)
    assert np.all(held_out.quantiles.distance(training.quantiles) < held_out.quantiles.chance(48))
    np.testing.assert_allclose(held_out.spectrum, training.spectrum, rtol=0.3)
