"""Denoisers that can be written down are fitted to training pictures and measured on others."""

import numpy as np
import pytest

from reschrom import FiniteDataset, GaussianField, GaussianMixture, ScaleMixture, Schedule, band_energies
from reschrom.companion.reference import formulas, losses
from reschrom.train.recipe import Recipe

TIMES = np.linspace(0, 1, 7)
FIELD = GaussianField([0.1, 0.5, 2.0, 6.0], channels=2)
TWO = GaussianMixture([FIELD, GaussianField([0.9, 0.1, 0.2, 8.0], mean=np.array(0.4), channels=2)])
DRAWN = FIELD.sample(30, np.random.default_rng(3))
KINDS = {"field": FIELD, "mixture": TWO, "sparse": ScaleMixture(DRAWN), "finite": FiniteDataset(DRAWN)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_where_the_posterior_is_a_formula_it_is_found_from_its_images(kind):
    generator, posterior = np.random.default_rng(0), KINDS[kind]
    known = DRAWN if kind == "finite" else posterior.sample(1000, generator)
    new = posterior.sample(24, generator)
    measured = formulas.measure(known, new, list(KINDS), TIMES, 1, 100)
    exact = formulas.losses_of(posterior.denoise, new, TIMES).mean
    # 1,000 images leave less than 3 % of a band's energy unknown of the distribution
    share = (measured[kind].mean - exact) / band_energies(new).mean(axis=1)[:, None]
    np.testing.assert_allclose(share, 0, atol=0.03)
    alpha = Schedule.cosine().alpha(TIMES[1:])
    noise = {name: each.mean[:, 1:].sum(axis=0) @ (alpha / (1 - alpha)) for name, each in measured.items()}
    # no other formula does better, beyond the chance of the images
    assert noise[kind] < 1.01 * min(noise.values()) + 1e-9


def test_all_denoisers_see_the_same_noise():
    generator = np.random.default_rng(0)
    known, new = FIELD.sample(60, generator), FIELD.sample(3, generator)
    both = formulas.measure(known, new, ["field", "windows"], TIMES, 1, 100)
    alone = formulas.measure(known, new, ["windows"], TIMES, 1, 100)
    np.testing.assert_array_equal(both["windows"].mean, alone["windows"].mean)


def test_pictures_are_those_of_the_recipe_at_the_size_the_model_sees():
    recipe = Recipe(kind="image", contents=("coffee", "rocket"), pieces=4, size=8, level=1, channels=(16, 16))
    known, new = formulas.pictures_of(recipe, "photos", "", 6)
    assert known.shape == (8, 3, 8, 8)
    assert new.shape == (6, 3, 8, 8)
    assert np.abs(known).max() <= 1
    one, _ = formulas.pictures_of(recipe, "photos", recipe.captions[1], 6)
    np.testing.assert_array_equal(one, known[4:])
    with pytest.raises(ValueError, match="a caption of the recipe is needed; got a cat"):
        formulas.pictures_of(recipe, "photos", "a cat", 4)


def test_the_command_writes_the_losses_of_each_denoiser(tmp_path):
    recipe, out = tmp_path / "small.yaml", tmp_path / "formulas.safetensors"
    recipe.write_text("kind: image\ncontents: [coffee, rocket]\nsize: 16\nchannels: [16, 16]\npieces: 20\n")
    wanted = ["--components", "2", "--windows", "200", "--count", "4", "--times", "5"]
    formulas.main([str(recipe), "--data", "photos", *wanted, "--pieces", "12", "--out", str(out)])
    times, measured = losses.load(out)
    np.testing.assert_allclose(times, np.linspace(0, 1, 5))
    assert list(measured) == list(formulas.DENOISERS)
    assert all(each.losses.mean.shape == (5, 5) and each.pictures == 4 for each in measured.values())
    np.testing.assert_allclose(measured["windows"].losses.mean[:, 0], 0, atol=1e-6)  # at the image nothing is lost
    # what a field loses in noise is the energy about the mean image, no more than all
    assert np.all(measured["field"].losses.mean[:, -1] < 1.5 * measured["field"].energies)
    assert np.all(np.isnan(measured["field"].losses.standard_error))


def test_a_file_that_holds_none_is_refused_by_name(tmp_path):
    path = tmp_path / "other.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"other.safetensors holds no losses"):
        losses.load(path)
