"""What is told of captions by networks: tried on a network that is exact, whose answers are known."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from tiny import TINY

from reschrom import Denoiser, GaussianField, GaussianMixture, Schedule, predicted_noise
from reschrom.companion.reference import information, one_setting, statistics
from reschrom.train import train
from reschrom.train.models import build

pytestmark = pytest.mark.lasting

LOG_SNR = np.linspace(-6.5, 3, 31)


@pytest.fixture(scope="module")
def measured():
    rng, schedule = np.random.default_rng(0), Schedule.cosine()
    means = 0.8 * rng.standard_normal((3, 1, 4, 4))
    mixture = GaussianMixture([GaussianField([0.5, 1.0, 2.0], mean=mean) for mean in means])
    every = [field.denoise for field in mixture.fields]

    def network(estimates):
        def output(x_t, t, which):
            alpha = float(schedule.alpha(t[0]))
            pairs = zip(which, x_t, strict=True)
            return np.concatenate([predicted_noise(estimates[int(k)], x[None], alpha) for k, x in pairs])

        return Denoiser(output, "epsilon", schedule, value_range=(-np.inf, np.inf), condition=np.arange(len(estimates)))

    labels = np.repeat([0, 1, 2], 8)
    images = np.concatenate([field.sample(8, rng) for field in mixture.fields])
    return information.tell(network(every), network([mixture.denoise]), mixture, images, labels, LOG_SNR, rng)


def test_an_exact_network_tells_what_the_mixture_tells(measured):
    np.testing.assert_allclose(measured.by_guidance, measured.exact, atol=1e-9)


def test_steps_to_less_noise_add_up_to_the_probability_of_each_caption(measured):
    np.testing.assert_allclose(measured.chances[:, 0], 1 / 3)  # nothing is seen yet
    error = np.abs(measured.chances - measured.mixture_chances)
    assert error.mean() < 0.02
    assert np.quantile(error, 0.99) < 0.15  # steps of a third


def test_an_exact_network_is_consistent_with_itself(measured):
    assert measured.inconsistent.sum(axis=1).mean() < 0.05 * measured.by_guidance.sum(axis=1).mean()


def test_both_sides_of_the_theorem_agree(measured):
    width = LOG_SNR[1] - LOG_SNR[0]
    totals = [each.sum(axis=(1, 2)) * width for each in (measured.by_guidance, measured.by_loss)]
    gap = totals[0] - totals[1]
    assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(len(gap))
    surprise = np.log(measured.mixture_chances[np.arange(24), -1, measured.labels.astype(int)].mean() * 3)
    assert totals[0].mean() == pytest.approx(surprise, abs=0.4)


def test_what_is_written_is_read_again(measured, tmp_path):
    edges = np.linspace(-6.5, 3, 32)
    information.save(tmp_path / "told.safetensors", edges, measured, {"made by": "a test"})
    again_edges, again = information.load(tmp_path / "told.safetensors")
    np.testing.assert_array_equal(again_edges, edges)
    for one, two in zip(again, measured, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-7)
    (tmp_path / "no.safetensors").write_bytes(b"{}")
    with pytest.raises(ValueError, match=r"no\.safetensors holds no information"):
        information.load(tmp_path / "no.safetensors")


@pytest.fixture(scope="module")
def latent(tmp_path_factory):
    """The recipe of a model in latents, and its folder; it was never trained."""
    folder = tmp_path_factory.mktemp("latent")
    build(replace(TINY, kind="autoencoder")).save_pretrained(folder / "vae")
    recipe = replace(TINY, autoencoder=str(folder / "vae"))
    pipeline = build(recipe)
    pipeline.vae.register_to_config(scaling_factor=0.5)
    pipeline.save_pretrained(folder / "model")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.as_dict()))
    return recipe, folder, pipeline


def test_pictures_become_latents_on_the_scale_that_the_network_sees(latent):
    recipe, _, pipeline = latent
    pixels, labels = information.chosen(recipe, SimpleNamespace(), "photos", 2, np.random.default_rng(1))
    latents, same = information.chosen(recipe, pipeline, "photos", 2, np.random.default_rng(1))
    assert labels.tolist() == same.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert latents.shape == (12, 4, 8, 8)
    with torch.no_grad():
        said = pipeline.vae.encode(torch.from_numpy(pixels).float()).latent_dist
    noise = (latents / 0.5 - said.mean.numpy()) / said.std.numpy()
    assert noise.mean() == pytest.approx(0, abs=4 / np.sqrt(noise.size))
    assert noise.var() == pytest.approx(1, abs=4 * np.sqrt(2 / noise.size))


def test_the_command_measures_a_model_in_latents(latent, tmp_path):
    _, folder, _ = latent
    config = ["--config", str(folder / "recipe.yaml"), "--data", "photos"]
    known, out = str(tmp_path / "known.safetensors"), str(tmp_path / "told.safetensors")
    statistics.main([*config, "--count", "4", "--out", known])
    given = [str(folder / "model"), *config, "--statistics", known, "--each", "1", "--steps", "2", "--out", out]
    with pytest.raises(ValueError, match=r"log signal-to-noise ratios from -5\.\d+ up; got values from -5\.5"):
        information.main([*given, "--ends", "-7", "-1"])
    information.main([*given, "--ends", "-5", "1"])
    edges, told = information.load(out)
    assert edges.tolist() == [-5, -2, 1]
    assert told.by_guidance.shape == told.exact.shape == (6, 4, 2)
    assert all(np.all(np.isfinite(each)) for each in told)
    assert told.by_guidance.min() > 0


@pytest.mark.parametrize("each", [0, 1000])
def test_more_pictures_than_are_held_out_are_refused(latent, each):
    recipe, _, pipeline = latent
    with pytest.raises(ValueError, match=rf"between 1 and 64 pictures of each caption are held out; got {each}"):
        information.chosen(recipe, pipeline, "photos", each, np.random.default_rng(0))


def test_two_trainings_are_compared_that_differ_in_one_setting(latent, tmp_path):
    recipe, _, _ = latent
    recipe = replace(recipe, steps=75, warmup=2, ema=0.5, learning_rate=3e-3, unconditional=0.5, precision="no")
    found = one_setting.compare(recipe, "consistency", (0.0, 3.0), "photos", tmp_path, LOG_SNR[::10], 1)
    assert list(found) == ["0", "3"]
    assert found["0"] != found["3"]
    for nats in found.values():
        assert list(nats) == ["by guidance", "by loss", "missed"]
        assert nats["by guidance"]["nats"] > 0
        assert all(each["lower"] <= each["nats"] <= each["upper"] for each in nats.values())
    for name, first in found["0"].items():
        more = found["3"][name]["more"]
        assert more["nats"] == pytest.approx(found["3"][name]["nats"] - first["nats"], abs=0.015)  # of two decimals
        assert first["more"] == {"nats": 0, "lower": 0, "upper": 0}
    weights = [tmp_path / name / "unet" / "diffusion_pytorch_model.safetensors" for name in ("consistency-0", "again")]
    train(recipe, "photos", weights[1].parents[1])
    assert weights[0].read_bytes() == weights[1].read_bytes()
