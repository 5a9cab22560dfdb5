"""Formulas against networks: what is measured of each, what ships of it, and how far predictions were from networks."""

from pathlib import Path

import numpy as np
import pytest

from reschrom import Chromatogram, GaussianField, Schedule
from reschrom.companion.judging import predictions
from reschrom.companion.judging.predictions import Case
from reschrom.companion.reference import prediction
from reschrom.companion.reference.formulas import losses_of
from reschrom.companion.reference.prediction import CLOCK, Measured
from reschrom.denoisers.prediction import REACH, WORST

SHIPPED = Path(__file__).parents[2] / "data" / "reference"
FIELD = GaussianField([0.05, 0.3, 2.0, 6.0], channels=1)
SOME = FIELD.sample(80, np.random.default_rng(0))


@pytest.fixture
def small(monkeypatch):
    """One kind of few pictures, and trainings of a few steps."""
    kind = prediction.Pictures(SOME[:60] / 2, SOME[60:] / 2)  # within the range of pictures
    monkeypatch.setattr(prediction, "KINDS", {"some": lambda data: kind})
    monkeypatch.setattr(prediction, "_STEPS", 6)
    monkeypatch.setattr(prediction, "_EARLY", 2)
    monkeypatch.setattr(prediction, "_COMPONENTS", 2)
    monkeypatch.setattr(prediction, "_WINDOWS", 100)
    return kind


@pytest.mark.lasting
def test_of_an_exact_denoiser_the_mean_time_is_the_mean_of_what_it_holds():
    losses = losses_of(FIELD.denoise, SOME, CLOCK)
    variance = losses.mean[:, -1:], losses.replicates[:, :, -1:]
    found = prediction.measured(losses, variance, 64, CLOCK)
    held = 1 - losses.mean / variance[0]
    np.testing.assert_allclose(found.times, np.trapezoid(held, CLOCK), atol=1e-6)
    exact = Chromatogram.predicted(Schedule.cosine(), 8, FIELD.spectrum).centroids()
    spread = found.replicates.std(axis=0)
    assert np.all(np.abs(found.times - exact) < 4 * spread)
    alpha = Schedule.cosine().alpha(CLOCK[1:])
    exact_noise = np.trapezoid(alpha / (1 - alpha) * FIELD.losses(alpha).sum(axis=0) / 64, CLOCK[1:])
    assert found.noise == pytest.approx(exact_noise, rel=0.1)  # 80 pictures


@pytest.mark.lasting
def test_a_network_is_trained_the_same_for_a_seed_and_seen_early(small):
    # each is measured before the training goes on
    one, again, other = ({k: net(SOME[:2], 0.5) for k, net in prediction.networks(small, seed)} for seed in (0, 0, 1))
    assert list(one) == ["early", "network"]
    np.testing.assert_array_equal(one["network"], again["network"])
    assert not np.allclose(one["early"], one["network"])
    assert not np.allclose(one["network"], other["network"])


@pytest.mark.lasting
def test_the_command_keeps_what_is_there(small, tmp_path):
    prediction.main(["--kinds", "some", "--out", str(tmp_path)])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"some.safetensors", "some-0.safetensors", "some-1.safetensors"}
    formulas, about = prediction.load(tmp_path / "some.safetensors")
    networks, training = prediction.load(tmp_path / "some-1.safetensors")
    assert list(formulas) == ["field", "mixture", "sparse", "finite", "windows", "nearest"]
    assert about["known"] == 60
    assert training["seed"] == 1
    assert list(networks) == ["early", "network"]
    assert networks["network"].replicates.shape == (200, 4)
    held = 1 - formulas["windows"].losses / formulas["field"].losses[:, -1:]
    # What rises by chance is mended: with 20 pictures by a few hundredths.
    np.testing.assert_allclose(formulas["windows"].times, np.trapezoid(held, CLOCK), atol=0.05)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    prediction.main(["--kinds", "some", "--out", str(tmp_path)])
    assert before == {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_what_is_no_measurement_is_refused_by_name(tmp_path):
    path = tmp_path / "other.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"other.safetensors holds no measurement of predictions"):
        prediction.load(path)


@pytest.mark.parametrize("kind", ["textures", "digits"])
def test_pictures_held_out_are_no_known_ones(kind, monkeypatch):
    monkeypatch.setattr(prediction, "_KNOWN", 40)
    monkeypatch.setattr(prediction, "_NEW", 20)
    known, new, _ = prediction.KINDS[kind](Path())
    assert (len(known), len(new)) == (40, 20)
    assert known.shape[1:] == new.shape[1:]
    assert max(np.abs(known).max(), np.abs(new).max()) <= 1
    assert not {each.tobytes() for each in known} & {each.tobytes() for each in new}


def made(times, noise, spread=0.0):
    times = np.array(times)
    again = times + spread * np.random.default_rng(0).standard_normal((200, len(times)))
    return Measured(np.ones((len(times), len(CLOCK))), times, again, noise)


def case(kind, network, windows, nearest, noise):
    formulas = {"windows": made(windows, noise[1]), "nearest": made(nearest, noise[2])}
    return Case(kind, kind, made(network, noise[0]), formulas, made(network, 1.0), 100)


def test_a_network_is_inside_from_windows_to_the_better_formula():
    copies = case("a", [0.5, 0.6], [0.4, 0.5], [0.6, 0.7], (1, 2, 1))
    assert copies.outside == pytest.approx(0)
    assert copies.chosen == copies.better == "nearest"
    new = case("b", [0.5, 0.62], [0.4, 0.55], [0.6, 0.7], (1, 1, 2))  # the worse formula does not count
    assert new.outside == pytest.approx(0.1)
    assert new.ratio == 1
    untrained = case("c", [0.1, 0.1], [0.4, 0.5], [0.6, 0.7], (3, 1, 2))
    assert untrained.ratio == 3 > WORST
    assert predictions.reach([copies, new, untrained]) == pytest.approx(0.1)
    assert predictions.reach([copies, new, untrained], but="b") == pytest.approx(0)


@pytest.mark.lasting
def test_the_reach_of_the_package_is_that_of_the_networks_that_ship():
    trained = predictions.of_kinds(SHIPPED / "prediction")
    every = trained + predictions.of_models(SHIPPED)
    needed = predictions.reach(every + [each._replace(network=each.small) for each in every])
    assert REACH - 0.02 < needed <= REACH
    assert len({each.kind for each in trained}) >= 6
