"""The losses of models, which predictions are compared with, are measured on pictures held out."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from reschrom import band_energies, band_losses, downsample, load_pipeline
from reschrom.companion.judging.evaluation import held_out
from reschrom.companion.reference import losses, networks
from reschrom.theory.schedules import Schedule
from reschrom.train import models
from reschrom.train.recipe import Recipe

DATA = Path(__file__).parents[2] / "data"
CAPTION = "a photo of rocket"
SETTINGS = "contents: [coffee, rocket]\nsize: 8\nlevel: 1\nchannels: [16, 16]\n"


@pytest.fixture
def model(tmp_path):
    (tmp_path / "small.yaml").write_text(f"kind: image\n{SETTINGS}")
    models.build(Recipe.load(tmp_path / "small.yaml")).save_pretrained(tmp_path / "model")
    return tmp_path


def test_the_command_measures_a_model_on_pictures_of_its_size(model):
    out = model / "losses.safetensors"
    wanted = ["--config", str(model / "small.yaml"), "--most", "4", "--times", "3", "--out", str(out)]
    networks.main([str(model / "model"), "--data", "photos", *wanted])
    times, measured = losses.load(out)
    np.testing.assert_allclose(times, np.linspace(0, times[-1], 3))
    assert list(measured) == [""]
    assert measured[""].pictures == 4
    assert measured[""].losses.mean.shape == (4, 3)


def test_a_model_that_reads_no_captions_is_measured_on_the_pictures_of_one(model):
    recipe, pipeline = Recipe.load(model / "small.yaml"), load_pipeline(model / "model")
    times = np.array([100.0, 600.0])
    found = networks.measure(pipeline, recipe, "photos", [CAPTION], times, 1000)[CAPTION]
    pictures, captions = held_out(recipe, "photos")
    generator, own = np.random.default_rng(0), pictures[captions == 1]
    images = downsample(np.moveaxis(generator.permutation(own), -1, 1) / 127.5 - 1, 1)
    expected = band_losses(pipeline, images, Schedule.from_diffusers(pipeline.scheduler), times, generator)
    assert found.pictures == len(images) > 1
    np.testing.assert_allclose(found.losses.mean, expected.mean, rtol=1e-6)
    np.testing.assert_allclose(found.energies, band_energies(images).mean(axis=1))
    with pytest.raises(ValueError, match="captions of the recipe, or an empty one, are needed; got a cat"):
        networks.measure(pipeline, recipe, "photos", ["a cat"], times, 4)


# Those of small networks, which are sent ahead, are called scouts. Neither they nor what a training began with ship.
NOT_SHIPPED = ("scout", "pocket-if-64-start")
SHIPPED = [
    path for path in sorted(DATA.glob("reference/*-losses.safetensors")) if not path.name.startswith(NOT_SHIPPED)
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_losses_are_of_the_weights_that_ship(path):
    with safe_open(path, "numpy") as file:
        about = json.loads(file.metadata()["about"])
    assert about["weights"] == json.loads((DATA / "models" / about["model"] / "weights.json").read_text())


def test_guidance_of_captions_is_of_the_weights_that_ship():
    with safe_open(DATA / "reference" / "pocket-if-64-captions.safetensors", "numpy") as file:
        about = json.loads(file.metadata()["about"])
    weights = json.loads((DATA / "models" / "pocket-if-64" / "weights.json").read_text())
    assert about["setting"]["weights"] == weights


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ("scout-64", "pocket-if-64-start"),
        ("scout-fruit-64", "pocket-direct-64"),
        ("scout-fruit-32", "pocket-lowres-32"),
        ("scout-fruit-16", "pocket-lowres-16"),
        ("scout-fruit-16", "pocket-designed-16"),
    ],
)
def test_a_small_network_sees_the_pictures_of_its_model(small, large):
    one, other = (Recipe.load(DATA / f"{name}.yaml") for name in (small, large))
    for name in ("contents", "styles", "pieces", "seed", "size", "level"):
        assert getattr(one, name) == getattr(other, name)
