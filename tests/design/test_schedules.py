"""Designed schedules: they do what was asked, are monotone with an exact inverse, and give known schedules back."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from reschrom import Chromatogram, MeasuredSpectrum, Schedule, designed_schedule, scheduler_for, time_per_band
from reschrom.design.schedules import discretised
from reschrom.theory.chromatography import wiener_gain
from reschrom.train.models import build
from reschrom.train.recipe import Recipe

SIDE = 16
SPECTRUM = np.array([0.02, 0.1, 0.5, 3.0, 15.0])
variance = st.floats(1e-6, 1e6)
weight = st.floats(0.0, 1.0)


@pytest.mark.lasting
@settings(deadline=None, max_examples=12)
@given(st.lists(variance, min_size=5, max_size=5), st.lists(weight, min_size=5, max_size=5).filter(any))
def test_time_is_the_mean_share_of_its_signal_that_a_band_has_lost(spectrum, weights):
    schedule, t = designed_schedule(SIDE, spectrum, weights), np.linspace(0, 1, 101)
    held = [wiener_gain(schedule.alpha(t), power) for power in spectrum]
    np.testing.assert_allclose(np.average(held, axis=0, weights=weights), 1 - t, atol=1e-9)


@settings(deadline=None, max_examples=12)
@given(
    st.lists(variance, min_size=5, max_size=5),
    st.lists(st.floats(1e-9, 1 - 1e-9), min_size=2, max_size=20, unique=True),
)
def test_it_falls_and_its_inverse_is_exact(spectrum, times):
    schedule, t = designed_schedule(SIDE, spectrum), np.sort(times)
    log_snr = schedule.log_snr(t)
    assert np.all(np.diff(log_snr) <= 0)
    np.testing.assert_allclose(schedule.time_at(log_snr), t, rtol=1e-12)
    assert (schedule.alpha(0.0), schedule.alpha(1.0)) == (1, 0)


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 3.0, 4.0, 5.0], [0.0, 1.0, 0.0, 0.0, 1.0]])
@pytest.mark.parametrize("spectrum", [None, SPECTRUM])
def test_each_band_gets_the_share_of_time_that_was_asked_for(spectrum, weights):
    schedule = designed_schedule(SIDE, spectrum, weights)
    asked = np.ones(5) if weights is None else np.array(weights)
    np.testing.assert_allclose(time_per_band(schedule, SIDE, spectrum, weights), asked / asked.sum(), atol=1e-6)


def test_the_time_per_band_of_other_schedules_adds_up_and_is_not_equal():
    for schedule in (Schedule.cosine(), Schedule.linear(), Schedule.sigmoid(), Schedule.flow_matching(3.0)):
        spent = time_per_band(schedule, SIDE, SPECTRUM)
        assert spent.sum() == pytest.approx(1)
        assert np.ptp(spent) > 0.05
    # In almost pure noise the bands generate in proportion to their strength, whoever else waits.
    betas = np.append(np.full(10, 0.6), np.full(990, 0.01))
    late = time_per_band(Schedule.from_diffusers(DDPMScheduler(trained_betas=betas.tolist())), SIDE, SPECTRUM)
    np.testing.assert_allclose(late, SPECTRUM / SPECTRUM.sum(), atol=0.02)


@pytest.mark.parametrize("weights", [None, [1.0, 0.0, 0.0, 2.0, 1.0]])
def test_asked_for_the_chromatogram_of_a_known_schedule_it_gives_that_schedule(weights):
    t = np.linspace(0.001, 0.999, 300)
    for known in (Schedule.cosine(), Schedule.sigmoid(), Schedule.flow_matching()):
        wanted = Chromatogram.predicted(known, SIDE, SPECTRUM, np.linspace(0, 1, 1001))
        schedule = designed_schedule(SIDE, SPECTRUM, weights, wanted)
        np.testing.assert_allclose(schedule.alpha(wanted.edges), known.alpha(wanted.edges), rtol=0, atol=1e-9)
        np.testing.assert_allclose(schedule.alpha(t), known.alpha(t), rtol=0, atol=1e-4)
        np.testing.assert_allclose(schedule.time(schedule.alpha(t)), t, rtol=1e-9)


def test_asked_for_the_natural_chromatogram_it_gives_the_natural_schedule():
    natural, edges, t = Schedule.natural(), np.linspace(0, 25, 2501), np.linspace(0, 12, 101)
    wanted = Chromatogram.predicted(natural, SIDE, SPECTRUM, edges)
    schedule = designed_schedule(SIDE, SPECTRUM, wanted=wanted)
    assert (schedule.start, schedule.end) == (0, 25)
    np.testing.assert_allclose(schedule.alpha(t), natural.alpha(t), rtol=1e-4)


def test_its_chromatogram_is_the_wanted_one():
    """Any rise of all bands together can be had; the order of the bands is the data's."""
    edges = np.linspace(0, 1, 51)
    rates = np.tile(1 + np.sin(9 * edges[:-1]) ** 2, (5, 1))
    wanted = Chromatogram(rates, edges, SIDE, "wavy")
    schedule = designed_schedule(SIDE, SPECTRUM, wanted=wanted)
    got = Chromatogram.predicted(schedule, SIDE, SPECTRUM, edges)
    total = (got.rates / got.rates.sum(axis=1, keepdims=True)).sum(axis=0)
    np.testing.assert_allclose(total / total.sum(), rates[0] / rates[0].sum(), atol=1e-9)


def test_torch_gets_the_same_numbers_and_a_file_will_do(tmp_path):
    schedule, t = designed_schedule(SIDE, SPECTRUM), np.linspace(0, 1, 11)
    for dtype, atol in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        alpha = schedule.alpha(torch.tensor(t, dtype=dtype))
        assert alpha.dtype == dtype
        np.testing.assert_allclose(alpha.numpy(), schedule.alpha(t), atol=atol)
    MeasuredSpectrum(SPECTRUM, SPECTRUM / 2, SPECTRUM * 2, 9, SIDE).save(tmp_path / "s.json")
    np.testing.assert_array_equal(designed_schedule(SIDE, tmp_path / "s.json").alpha(t), schedule.alpha(t))


@pytest.mark.parametrize("schedule", [designed_schedule(SIDE, SPECTRUM), Schedule.cosine(), Schedule.linear()])
def test_diffusers_gets_the_same_alpha(schedule, tmp_path):
    scheduler_for(schedule, 500).save_pretrained(tmp_path)
    scheduler = DDPMScheduler.from_pretrained(tmp_path)
    expected = schedule.alpha(np.arange(1, 501) / 500)
    np.testing.assert_allclose(scheduler.alphas_cumprod[:-1], expected[:-1], rtol=2e-3)
    assert scheduler.alphas_cumprod[-1] > 0
    again = Schedule.from_diffusers(scheduler)
    np.testing.assert_allclose(again.alpha(np.arange(499.0)), expected[:-1], rtol=2e-3)


def test_a_recipe_may_name_the_spectrum_that_its_schedule_is_designed_for(tmp_path):
    MeasuredSpectrum(SPECTRUM, SPECTRUM / 2, SPECTRUM * 2, 9, SIDE).save(tmp_path / "s.json")
    recipe = replace(tiny.TINY, kind="image", schedule=str(tmp_path / "s.json"))
    designed, cosine = build(recipe), build(replace(recipe, schedule="cosine"))
    expected = designed_schedule(SIDE, SPECTRUM).alpha(np.arange(1, 1001) / 1000)
    np.testing.assert_allclose(designed.scheduler.alphas_cumprod, expected, atol=1e-5)
    changed = {key for key, value in designed.scheduler.config.items() if value != cosine.scheduler.config.get(key)}
    assert changed <= {"trained_betas", "_use_default_values"}
    for one, other in zip(designed.unet.parameters(), cosine.unet.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_recipe_of_the_designed_model_differs_in_its_schedule_alone(root):
    designed, cosine = (Recipe.load(root / "data" / f"pocket-{name}-16.yaml") for name in ("designed", "lowres"))
    assert replace(designed, schedule="cosine") == cosine
    assert MeasuredSpectrum.load(designed.schedule).size == designed.size


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: designed_schedule(0, SPECTRUM), r"a size is a number of pixels, .* got 0"),
        (lambda: designed_schedule(8, SPECTRUM), r"must hold 4 positive variances"),
        (lambda: designed_schedule(SIDE, -SPECTRUM), r"must hold 5 positive variances"),
        (lambda: designed_schedule(SIDE, SPECTRUM, [1.0]), r"5 weights are needed"),
        (
            lambda: designed_schedule(8, wanted=Chromatogram.predicted(Schedule.cosine(), SIDE)),
            r"8x8 pixels is wanted; got one of 16x16",
        ),
        (
            lambda: designed_schedule(2, wanted=Chromatogram(np.array([[1, 0, 1]] * 2), np.arange(4.0), 2, "gap")),
            r"at every time, or there the clock stands still",
        ),
        (lambda: time_per_band(Schedule.natural(), SIDE), r"natural schedule has no last time"),
        (lambda: scheduler_for(Schedule.natural()), r"natural schedule has no last time"),
    ],
)
def test_a_mistake_gives_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("schedule", [Schedule.cosine(), Schedule.linear(), Schedule.flow_matching(3.0)])
@pytest.mark.parametrize("timesteps", [20, 1000])
def test_a_discretised_schedule_is_that_of_the_scheduler_without_diffusers(schedule, timesteps):
    ours, theirs = discretised(schedule, timesteps), Schedule.from_diffusers(scheduler_for(schedule, timesteps))
    assert (ours.start, ours.end) == (theirs.start, theirs.end) == (-1.0, timesteps - 1.0)
    t = np.arange(timesteps, dtype=np.float64)
    np.testing.assert_allclose(ours.alpha(t), theirs.alpha(t), rtol=2e-5, atol=1e-7)  # the scheduler's are float32
    np.testing.assert_allclose(ours.time(ours.alpha(t)), t, atol=1e-6 * timesteps)
