"""What is no recipe is refused in one line that names the setting, before anything is made of it."""

import itertools
from contextlib import nullcontext
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
import yaml
from doors.door import Row, refuse
from tiny import TINY

from reschrom import measure_spectrum
from reschrom.train import Recipe
from reschrom.train.models import build
from reschrom.train.objective import trained_module

NAN, INF = float("nan"), float("inf")
HUGE = 10**400
# What a setting of each type is given by mistake.
OF_ANOTHER_TYPE = {
    int: (True, 8.0, "8", None, (8,), NAN, INF),
    float: (True, "0.5", None, (0.5,), NAN, INF, -INF, HUGE),
    str: (True, 3, None, ("t2i",), b"t2i"),
    bool: (0, 1.0, "yes", None, ()),
    tuple: (True, 8, "a cat", None, {"a cat": 1}, [8]),
}
TYPES = {field.name: type(getattr(TINY, field.name)) for field in fields(Recipe)}
# Below and above all that a setting may be.
OUT_OF_RANGE = {
    "contents": ((), (1,), (None,), (("a cat",),), ("",), (" ",), ("a\ncat",), ("a\tcat",), ("a \x00cat",)),
    "kind": ("", "T2I", "video"),
    "pieces": (0, -1, 2**20 + 1, HUGE),
    "size": (1, 0, -2, 4097, HUGE),
    "level": (-1, 9, 14, HUGE),
    "halvings": (-1, 14, HUGE),
    "start": ("nowhere", "data/models", "data/models/pocket-direct-64"),
    "channels": ((), (0,), (-8,), (True,), (8.0,), ("8",), (2056,), (HUGE,), (4,), (8, 12), (8,) * 6),
    "attentive": (-1, 0, 3, HUGE),
    "layers": ((-1,), (1,), (1, 1, 1), (True, 1), (65, 1), (HUGE, 1)),
    "prediction": ("", "epsilon", "v"),
    "text_width": (0, -4, 3, 6, 4096, HUGE),
    "text_layers": (0, -1, 65, HUGE),
    "autoencoder": ("nowhere", "data", "data/models/pocket-direct-64/unet"),
    "steps": (0, -1, 10**7, HUGE),
    "batch": (0, -1, 10**12, HUGE),
    "learning_rate": (0, 0.0, -1e-3, 1e31),
    "warmup": (-5, 10**7, HUGE),
    "cooldown": (-0.1, 1.1),
    "ema": (-0.1, 2, 1.0001),
    "unconditional": (-0.1, 5),
    "consistency": (-0.1, 1e7),
    "evident": (-21.0, 21.0),
    "texture": (-0.1, 1e7),
    "coarse": (-0.1, 1e7),
    "by_log_snr": (-0.1, 1.0),
    "hard": ((1,), (None,), ("a cat",), ("a photo of nothing",)),
    "hard_share": (-0.1, 1.0),
    "snr_limit": (-1, 0, 1e13),
    "alpha_floor": (-1, 1.5),
    "schedule": ("",),
    "turning_points": ((0,), (-3,), (951,), (HUGE,), (300.0,), (True,), (611, 300), (300, 300)),
    "attenuation": (0, -0.1, 2.0),
    "treatment": ("", "halve"),
    "precision": ("", "fp8", "fp16"),
    "seed": (-1, 2**64, HUGE),
}
MISTAKES = [
    *((name, value) for name, kind in TYPES.items() for value in OF_ANOTHER_TYPE[kind]),
    *((name, value) for name, values in OUT_OF_RANGE.items() for value in values),
]


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_a_setting_of_another_type_or_out_of_range_is_named(number, tmp_path):
    name, value = MISTAKES[number]
    refuse(Row(lambda: build(replace(TINY, **{name: value})), ValueError, name), tmp_path)


def test_every_setting_has_its_mistakes():
    assert TYPES.keys() - {"every_style"} == OUT_OF_RANGE.keys()


TOGETHER = {
    "contents twice": ({"contents": ("a cat", "a dog", "a cat")}, r"contents .* must differ; got 'a cat' 2 times"),
    "contents that differ in blanks": ({"contents": ("a cat", " a  cat")}, r"contents .* must differ; got 'a cat'"),
    "pictures beyond reason": ({"size": 1024, "level": 3}, r"size and level .* at most 4096 .*; got 1024 and 3"),
    "attentive blocks of none": ({"attentive": 3}, r"1 to 2 of their blocks attentive; got \(8, 16\) and 3"),
    "too small for its blocks": (
        {"size": 4, "channels": (8,) * 4},
        r"size .* multiple of 8, because 4 blocks .* got 4",
    ),
    "odd for its blocks": ({"size": 15, "kind": "image"}, r"size .* multiple of 2, because 2 blocks .*; got 15"),
    "odd for its residual": (
        {"size": 15, "kind": "residual", "channels": (8,)},
        r"size of a recipe of residual must be even; got 15",
    ),
    "too small for its stages": (
        {"size": 4, "kind": "dvdp"},
        r"size .* multiple of 8, because 2 blocks of channels and 2 turning points halve it 3 times; got 4",
    ),
    "one number to normalise": (
        {"size": 2, "channels": (8, 8), "batch": 1},
        r"batch of a recipe must be 2 or more, because .*; got 1",
    ),
    "too small for its halvings": (
        {"size": 16, "kind": "image", "halvings": 4},
        r"size .* multiple of 32, because 2 blocks of channels and 4 halvings halve it 5 times; got 16",
    ),
    "halved twice over": ({"kind": "dvdp", "halvings": 1}, r"halvings of a recipe of dvdp must be 0; got 1"),
    "another network to start with": (
        {"kind": "image", "start": "data/models/pocket-direct-64"},
        r"start .* a model of the same network: .*size mismatch",
    ),
    "no network to start with": ({"kind": "image", "start": "nowhere"}, r"start .* the folder of a model .*nowhere"),
    "a designed schedule in stages": ({"kind": "dvdp", "schedule": "a.json"}, r"schedule .* dvdp must be cosine"),
    "a designed schedule in latents": (
        {"autoencoder": "nowhere", "schedule": "a.json"},
        r"schedule of a recipe of t2i in latents must be cosine; got 'a\.json'",
    ),
    "halved before it is encoded": (
        {"autoencoder": "nowhere", "level": 1},
        r"level of a recipe of t2i in latents must be 0; got 1",
    ),
    "an autoencoder of an autoencoder": (
        {"kind": "autoencoder", "autoencoder": "nowhere"},
        r"autoencoder of a recipe of autoencoder.* must be left out; got 'nowhere'",
    ),
    "an autoencoder with a noise schedule": (
        {"kind": "autoencoder", "schedule": "a.json"},
        r"schedule of a recipe of autoencoder must be cosine; got 'a\.json'",
    ),
    "captions where there are none": (
        {"kind": "image", "consistency": 1.0},
        r"consistency of a recipe of image must be 0\.0; got 1\.0",
    ),
    "evident captions where there are none": (
        {"kind": "image", "evident": 1.0},
        r"evident of a recipe of image must be 20\.0; got 1\.0",
    ),
    "hard captions that are never drawn more often": (
        {"hard": ("a photo of coffee",)},
        r"hard and hard_share of a recipe need each other; got \('a photo of coffee',\) and 0",
    ),
    "a share of no captions": (
        {"hard_share": 0.5},
        r"hard and hard_share of a recipe need each other; got \(\) and 0\.5",
    ),
    "hard captions where there are none": (
        {"kind": "image", "hard": ("a photo of coffee",), "hard_share": 0.5},
        r"hard of a recipe of image must be \(\); got \('a photo of coffee',\)",
    ),
    "the texture of what is no picture": (
        {"texture": 1.0},
        r"texture of a recipe of t2i must be 0\.0; got 1\.0",
    ),
    "smaller than a texture's window": (
        {"kind": "autoencoder", "texture": 1.0, "size": 4},
        r"size of a recipe with texture must be 8 or more; got 4",
    ),
    "layers of an autoencoder": (
        {"kind": "autoencoder", "layers": (1, 1)},
        r"layers of a recipe of autoencoder must be \(\); got \(1, 1\)",
    ),
    "too few layers": (
        {"layers": (1,)},
        r"layers of a recipe must be one number for each of its 2 channels; got \(1,\)",
    ),
    "no layer that changes channels": (
        {"layers": (1, 0), "channels": (8, 16)},
        r"layers of a recipe must be 1 or more where channels change, .*; got \(1, 0\) and \(8, 16\)",
    ),
    "the velocity of a residual": (
        {"kind": "residual", "prediction": "velocity"},
        r"prediction of a recipe of residual must be noise; got 'velocity'",
    ),
    "no autoencoder": ({"autoencoder": "nowhere"}, r"autoencoder .* folder of a trained autoencoder: nowhere has no"),
    "odd for its autoencoder": ({"size": 15, "kind": "autoencoder"}, r"size .* multiple of 2, because 2 blocks .* 15"),
    "odd for its averages": (
        {"size": 15, "kind": "autoencoder", "channels": (8,)},
        r"size of a recipe of autoencoder must be even; got 15",
    ),
    "a setting that is none": ({"batches": 3}, r"batches of a recipe: Unexpected keyword argument; got 3"),
}


@pytest.mark.parametrize("mistake", TOGETHER)
def test_settings_that_do_not_fit_together_are_refused(mistake, tmp_path):
    changed, words = TOGETHER[mistake]
    refuse(Row(lambda: build(Recipe(**{**vars_of(TINY), **changed})), ValueError, words), tmp_path)


def vars_of(recipe: Recipe) -> dict[str, object]:
    return {field.name: getattr(recipe, field.name) for field in fields(recipe)}


@pytest.mark.parametrize(("size", "blocks"), [*itertools.product(range(2, 9), (1, 2, 3))])
def test_a_size_is_refused_where_the_network_refuses_it(size, blocks, monkeypatch):
    recipe = replace(TINY, kind="image", channels=(8,) * blocks, size=size)
    try:
        build(recipe)
        refused = False
    except ValueError:
        refused = True
    monkeypatch.setattr("reschrom.train.models._check_network", lambda recipe, vae: None)
    network, x_t = trained_module(build(recipe)), torch.zeros(2, 3, size, size)
    with pytest.raises((RuntimeError, ValueError)) if refused else nullcontext():
        assert network(x_t, torch.zeros(2)).shape == x_t.shape


def test_a_recipe_of_pictures_alone_may_have_no_network():
    recipe = Recipe(contents=("a cat",), size=8)
    assert recipe.picture_size == 8
    with pytest.raises(ValueError, match="size of a recipe must be a multiple of 16, because 5 blocks"):
        build(recipe)


FILES = {
    "nothing": (b"", r"must hold one setting a line; got None"),
    "a list": (b"- a cat", r"must hold one setting a line; got \['a cat'\]"),
    "a number": (b"3", r"must hold one setting a line; got 3"),
    "a date": (b"2026-01-01", r"must hold one setting a line; got datetime\.date"),
    "a date that is none": (b"2026-13-45", r"is not YAML: month must be in"),
    "no end": (b"contents: [a cat", r"is not YAML: while parsing"),
    "two documents": (b"contents: [a cat]\n---\nsteps: 3", r"is not YAML: expected a single document"),
    "a tag that does not fit": (b"contents: !!int ''", r"is not YAML: "),
    "a tag of Python": (b"contents: !!python/name:os.system", r"is not YAML: could not determine a constructor"),
    "no UTF-8": (b"contents: [caf\xe9]", r"is not YAML: 'utf-8' codec"),
    "a byte of zero": (b"contents: [a\x00cat]", r"is not YAML: unacceptable character"),
    "depth": (b"[" * 20000, r"nested too deeply"),
    "length": (b"contents: [a cat]\n" + b"#" * 2**20, r"longer than 1048576 bytes"),
    "aliases of aliases": (
        b"- &a [x, x, x, x, x, x, x, x]\n"
        + b"".join(b"- &%c [%s]\n" % (98 + i, b", ".join([b"*%c" % (97 + i)] * 8)) for i in range(12)),
        r"must hold one setting a line; got \[\['x', 'x', .*\]$",
    ),
    "a list of itself": (b"contents: &a [*a]", r"contents of a recipe: Input should be a valid string; got \["),
    "a setting twice": (b"contents: [a cat]\nsteps: 3\nsteps: 4", r"sets 'steps' 2 times; say it once"),
    "a setting that is none": (b"contents: [a cat]\nbatches: 3", r"sets 'batches', which a recipe does not have"),
    "a number for a setting": (b"contents: [a cat]\n1: 2", r"sets 1, which a recipe does not have"),
    "a list for a setting": (b"? [a]\n: 3", r"is not YAML: .* unhashable key"),
    "no contents": (b"steps: 3", r"must say the contents of the pictures"),
    "contents of no words": (b"contents: [no]", r"contents of a recipe: .* valid string; got False"),
    "a sum": (b"contents: [a cat]\nbatch: 10**12", r"batch of a recipe: .* valid integer; got '10\*\*12'"),
    "an infinite rate": (
        b"contents: [a cat]\nlearning_rate: .inf",
        r"learning_rate of a recipe: .* finite number; got inf",
    ),
    "no number": (b"contents: [a cat]\ncooldown: .nan", r"cooldown of a recipe: .* finite number; got nan"),
    "many digits": (b"contents: [a cat]\nsteps: " + b"9" * 6000, r"is not YAML: Exceeds the limit"),
    "one content twice": (b"contents: [a cat, a cat]", r"contents of a recipe must differ"),
}


@pytest.mark.lasting
@pytest.mark.parametrize("held", FILES)
def test_a_file_that_holds_no_recipe_is_named(held, tmp_path):
    content, words = FILES[held]
    (tmp_path / "recipe.yaml").write_bytes(content)
    refuse(Row(lambda: Recipe.load("recipe.yaml"), ValueError, rf"^recipe\.yaml\b.*{words}"), tmp_path)


def test_a_message_about_a_file_is_not_as_long_as_the_file(tmp_path):
    (tmp_path / "recipe.yaml").write_bytes(FILES["aliases of aliases"][0])
    with pytest.raises(ValueError, match="one setting a line") as caught:
        Recipe.load(tmp_path / "recipe.yaml")
    assert len(str(caught.value)) < 1000


NO_FILES = {
    "absent": (lambda: Recipe.load("nowhere.yaml"), FileNotFoundError, r"nowhere\.yaml"),
    "a folder": (lambda: Recipe.load("."), IsADirectoryError, r"directory: '?\."),
    "overridden": (
        lambda: Recipe.load("recipe.yaml", steps=-1),
        ValueError,
        r"recipe\.yaml: steps of a recipe.* got -1",
    ),
    "no schedule": (
        lambda: build(replace(TINY, schedule="nowhere.json")),
        FileNotFoundError,
        r"schedule of a recipe must be cosine or the file of a spectrum: .*nowhere\.json",
    ),
    "the schedule of a folder": (lambda: build(replace(TINY, schedule=".")), OSError, r"schedule of a recipe"),
    "another schedule": (lambda: build(replace(TINY, schedule="linear")), OSError, r"schedule of a recipe must be"),
    "a schedule that is no spectrum": (
        lambda: build(replace(TINY, schedule="recipe.yaml")),
        ValueError,
        r"schedule of a recipe: recipe\.yaml holds no spectrum",
    ),
    "the schedule of another size": (
        lambda: build(replace(TINY, schedule="spectrum.json")),
        ValueError,
        r"schedule of a recipe: spectrum must hold 5 positive variances",
    ),
    "contents that only their ends tell apart": (
        lambda: build(replace(TINY, contents=tuple("very " * 100 + what for what in ("old", "new")))),
        ValueError,
        r"contents of a recipe must differ in their first 77 tokens",
    ),
    "contents that no token tells apart": (
        lambda: build(replace(TINY, contents=("a ¼", "a ½"))),
        ValueError,
        r"contents of a recipe must differ in their first 77 tokens; 'a photo of a ¼' and 'a photo of a ½' do not",
    ),
}


@pytest.mark.parametrize("mistake", NO_FILES)
def test_files_that_a_recipe_needs_are_named(mistake, tmp_path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(TINY.as_dict()), encoding="utf-8")
    images = np.random.default_rng(0).standard_normal((4, 3, 8, 8))
    measure_spectrum(images).save(tmp_path / "spectrum.json")
    refuse(Row(*NO_FILES[mistake]), tmp_path)


def test_the_recipes_that_ship_are_recipes(root):
    paths = list((root / "data").glob("*.yaml"))
    assert len(paths) >= 10
    assert all(Recipe.load(path).captions for path in paths)
