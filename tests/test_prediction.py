"""The losses of a model without captions, which predictions are compared with, are measured on pictures held out."""

import numpy as np

from reschrom.training import models, prediction
from reschrom.training.losses import load
from reschrom.training.recipe import Recipe


def test_the_command_measures_a_model_on_pictures_of_its_size(tmp_path):
    recipe = tmp_path / "small.yaml"
    recipe.write_text("kind: image\ncontents: [coffee]\nsize: 8\nlevel: 1\nchannels: [16, 16]\n")
    models.build(Recipe.load(recipe)).save_pretrained(tmp_path / "model")
    out = tmp_path / "losses.safetensors"
    wanted = ["--model", str(tmp_path / "model"), "--count", "4", "--times", "3", "--out", str(out)]
    prediction.main([str(recipe), "--data", "photos", *wanted])
    times, measured = load(out)
    np.testing.assert_allclose(times, np.linspace(0, times[-1], 3))
    assert list(measured) == [""]
    assert measured[""].pictures == 4
    assert measured[""].losses.mean.shape == (4, 3)
