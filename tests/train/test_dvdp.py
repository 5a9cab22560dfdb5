"""One network learns all stages: what its batches hold, that they weigh every timestep alike, and resuming."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY

from reschrom import band_sizes, bands, downsample, error_bound, load_pipeline, spectral_turning_points
from reschrom.companion.reference.real_images import load
from reschrom.train import Recipe, train
from reschrom.train.batches import Batches, loss_weight
from reschrom.train.dvdp import draw
from reschrom.train.models import build
from reschrom.train.pictures import batch, gallery

STAGED = replace(TINY, kind="dvdp", pieces=2, turning_points=(300, 611))


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return gallery(STAGED, "photos")


def of_stage(pictures: np.ndarray, stage: int, recipe: Recipe = STAGED):
    """Return a step of one stage, and its batch."""
    process = build(recipe).scheduler.process
    for step in range(100):
        drawn = draw(process, pictures, recipe, step, 0, 1)
        if drawn.x_t.shape[-1] == recipe.size >> stage:
            return step, drawn
    raise AssertionError(f"no step of stage {stage}")


@pytest.mark.parametrize("treatment", ["continue", "preserve"])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_batch_holds_noised_pictures_of_unit_intensity_and_one_stage(pictures, stage, treatment):
    recipe = replace(STAGED, treatment=treatment)
    step, drawn = of_stage(pictures, stage, recipe)
    count, side = 8 << stage, 16 >> stage
    assert drawn.x_t.shape == drawn.noise.shape == (count, 3, side, side)
    x_0, _ = batch(pictures, count, np.random.default_rng([recipe.seed, step, 0]))
    alpha = drawn.alpha[:, None, None, None]
    image = (drawn.x_t - np.sqrt(1 - alpha) * drawn.noise) / np.sqrt(alpha)
    # At high noise rounding grows with 1 / sqrt(alpha). Of the finest band the attenuation leaves a part.
    clear = drawn.alpha > 0.01
    small = downsample(x_0, stage)
    np.testing.assert_allclose(downsample(image)[clear], downsample(small)[clear], atol=1e-4)
    details, whole = bands(image, 1)[0][clear], bands(small, 1)[0][clear]
    left = np.sum(details * whole, axis=(1, 2, 3)) / np.sum(whole**2, axis=(1, 2, 3))
    np.testing.assert_allclose(details, left[:, None, None, None] * whole, atol=1e-4)
    if stage == 2:
        np.testing.assert_allclose(left, 1, atol=1e-3)
    else:
        assert np.all(np.diff(left) < 0)
        assert 0.18 <= left[-1] < left[0] <= 1.001
    if stage == 1 and treatment == "preserve":  # where the network is told the timestep
        np.testing.assert_allclose(left, 0.18 ** ((drawn.times[clear] - 300) / 311), atol=1e-3)


@pytest.mark.lasting
def test_every_timestep_is_as_likely_as_any_other(pictures):
    recipe, steps = replace(STAGED, treatment="preserve", batch=1), 300
    process = build(recipe).scheduler.process
    drawn = [draw(process, pictures, recipe, step, 0, 1) for step in range(steps)]
    shares = [np.mean([each.x_t.shape[-1] == 16 >> stage for each in drawn]) for stage in range(3)]
    for share, expected in zip(shares, (0.3, 0.311, 0.389), strict=True):
        assert abs(share - expected) <= 4 * np.sqrt(expected * (1 - expected) / steps)
    # Within a stage every part of it has one timestep: weighted by the share of their stage, all timesteps count alike.
    means = np.array([each.times.mean() for each in drawn])
    assert abs(means.mean() - 499.5) <= 4 * means.std() / np.sqrt(steps)


@pytest.mark.lasting
def test_processes_share_the_stage_and_the_batch(pictures):
    process = build(STAGED).scheduler.process
    for step in range(10):
        whole, *halves = (draw(process, pictures, STAGED, step, *ranks) for ranks in ((0, 1), (0, 2), (1, 2)))
        assert halves[0].x_t.shape == halves[1].x_t.shape
        assert not np.array_equal(halves[0].noise, halves[1].noise)
        again = draw(process, pictures, STAGED, step, 0, 1)
        assert all(np.array_equal(a, b) for a, b in zip(whole, again, strict=True))


def test_the_loop_weighs_the_loss_by_the_noise_that_the_network_sees(pictures):
    step, drawn = of_stage(pictures, 2)
    seen = Batches(build(STAGED), pictures, STAGED, 1).draw(step, 0, torch.device("cpu"))
    np.testing.assert_array_equal(seen.x_t.numpy(), drawn.x_t)
    np.testing.assert_array_equal(seen.timesteps.numpy(), drawn.times)
    np.testing.assert_array_equal(seen.target.numpy(), drawn.noise)
    np.testing.assert_allclose(seen.weights.numpy(), [loss_weight(STAGED, drawn.alpha)])
    assert seen.text == ()


def weights(folder: Path) -> bytes:
    return (folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()


@pytest.mark.lasting
def test_a_stopped_run_ends_in_the_same_weights_to_the_bit_and_draws(tmp_path):
    recipe = replace(STAGED, steps=6, batch=2, warmup=2, precision="no")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(recipe, "photos", whole, save_every=3, show_every=6)
    (stopped / "checkpoints").mkdir(parents=True)
    first = "checkpoints/step-0000003.safetensors"
    for name in ("pictures.npy", "log.csv", first):
        (stopped / name).write_bytes((whole / name).read_bytes())
    train(recipe, "photos", stopped, save_every=3, show_every=100)
    assert weights(stopped) == weights(whole)
    assert (stopped / "log.csv").read_bytes() == (whole / "log.csv").read_bytes()
    assert (whole / "samples" / "step-0000006.png").is_file()
    pipeline = load_pipeline(whole)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.scheduler.process.turning_points == (300, 611)
    assert pipeline(num_inference_steps=4, output_type="np").images.shape == (1, 16, 16, 3)


def test_the_recipe_says_how_its_numbers_were_found(root):
    recipe, direct = (Recipe.load(root / "data" / f"pocket-{name}-64.yaml") for name in ("dvdp", "direct"))
    same = {"kind": "dvdp", "turning_points": (300, 611), "attenuation": 0.18, "treatment": "continue"}
    assert replace(direct, **same, steps=recipe.steps) == recipe
    real = load(root / "data" / "reference" / "fruit-bands.safetensors")["training"]
    process = build(recipe).scheduler.process
    points = spectral_turning_points(process.schedule, real.spectrum, 0.05, 2)
    assert tuple(round(point) for point in points) == recipe.turning_points
    energies = real.spectrum * 3 * np.array(band_sizes(64))
    assert 0.0007 < float(error_bound(process, energies).sum()) / (3 * 64 * 64) < 0.001
    # Multiply-adds of a batch, in those of one at full resolution: a stage costs 4^-k for each of 2^k times as many.
    cost = np.sum(np.diff([0, *recipe.turning_points, 1000]) / 1000 * [1, 1 / 2, 1 / 4])
    assert cost * recipe.steps <= direct.steps < 1.02 * cost * recipe.steps


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"turning_points": (611, 300)}, "turning points must increase"),
        ({"attenuation": 2.0}, "attenuation of a recipe: Input should be less than or equal to 1; got 2.0"),
        ({"treatment": "halve"}, "treatment of a recipe: Input should be 'continue' or 'preserve'; got 'halve'"),
        (
            {"turning_points": (1, 2, 3, 4, 5)},
            "size of a recipe must be a multiple of 64, because 2 blocks of channels and 5 turning points halve it",
        ),
    ],
)
def test_recipes_of_no_process_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        build(replace(STAGED, **changed))
