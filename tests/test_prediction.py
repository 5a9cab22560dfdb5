"""Block energies of training pictures are measured as training draws them, and kept in a file."""

import numpy as np
import pytest

from reschrom.blocks import Recall
from reschrom.training import prediction
from reschrom.training.recipe import Recipe

SETTINGS = {"contents": ("coffee", "rocket"), "pieces": 4, "size": 16, "channels": (16, 16)}


def test_pictures_are_measured_at_the_size_the_model_sees():
    recipe = Recipe(kind="image", level=1, **(SETTINGS | {"size": 8}))
    known = prediction.measure(recipe, "photos", [], 6)
    assert list(known) == [""]
    assert known[""].fresh.band_names == ["8x8", "4x4", "2x2", "1x1"]


def test_a_caption_is_measured_about_its_own_mean_and_kept_in_a_file(tmp_path):
    recipe = Recipe(**SETTINGS)
    caption = recipe.captions[0]
    known = prediction.measure(recipe, "photos", [caption], 12)
    # a single pixel varies less within a caption than between all of them
    assert known[caption].fresh.energies[-1].mean() < known[""].fresh.energies[-1].mean()
    path = tmp_path / "blocks.safetensors"
    prediction.save(path, known, {"data": "photos"})
    again = prediction.load(path)
    assert list(again) == list(known)
    for name, each in known.items():
        assert isinstance(again[name], Recall)
        np.testing.assert_allclose(again[name].left, each.left, rtol=1e-6)
        np.testing.assert_allclose(again[name].log_snr, each.log_snr, rtol=1e-6)
        for of in ("fresh", "rest"):
            np.testing.assert_allclose(getattr(again[name], of).energies, getattr(each, of).energies, rtol=1e-5)


def test_the_command_writes_all_recipes_into_one_file(tmp_path):
    recipe = tmp_path / "small.yaml"
    recipe.write_text("kind: image\ncontents: [coffee]\nsize: 8\nchannels: [16, 16]\n")
    out = tmp_path / "blocks.safetensors"
    prediction.main([str(recipe), "--data", "photos", "--count", "4", "--pieces", "3", "--out", str(out)])
    assert list(prediction.load(out)) == ["small"]


def test_another_caption_and_another_file_are_refused(tmp_path):
    with pytest.raises(ValueError, match="captions of the recipe are needed; got a cat"):
        prediction.measure(Recipe(**SETTINGS), "photos", ["a cat"], 4)
    path = tmp_path / "other.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"other.safetensors holds no block energies"):
        prediction.load(path)
