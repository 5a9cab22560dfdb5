"""The precision that is faster, and many recipes in the time that there is. No test reads a clock."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from tiny import TINY

from reschrom.cli.commands import main
from reschrom.train import Recipe, budget, checkpoints, loop, train
from reschrom.train.budget import shortened, train_all
from reschrom.train.speed import chosen_precision, seconds_a_step

CPU = torch.device("cpu")
SMALL = replace(TINY, pieces=2, steps=20, batch=4, warmup=10, ema=0.8, kind="image", channels=(8,))


@pytest.mark.parametrize(
    ("exact", "half", "chosen", "batches"),
    [
        (1.0, 0.8, "bf16", [4, 32]),
        (1.0, 0.95, "no", [4, 32]),  # not clearly faster
        (1.0, 1.5, "no", [4, 32]),
        (1.0, 9.0, "no", [4]),  # which an eighth of a batch tells
        (9.0, 1.0, "bf16", [4]),
    ],
)
def test_the_faster_precision_is_chosen(exact, half, chosen, batches):
    seen = []

    def seconds(recipe: Recipe, device: torch.device) -> float:
        seen.append((recipe.precision, recipe.batch))
        return exact if recipe.precision == "no" else half

    assert chosen_precision(replace(SMALL, batch=32), CPU, seconds) == chosen
    assert seen == [(precision, batch) for batch in batches for precision in ("no", "bf16")]


def never(recipe: Recipe, device: torch.device) -> float:
    raise AssertionError("nothing is to be measured")


def test_a_precision_that_is_said_is_kept_and_one_that_the_device_lacks_refused(monkeypatch):
    for said in ("no", "bf16"):
        assert chosen_precision(replace(SMALL, precision=said), CPU, never) == said
    monkeypatch.setattr("accelerate.utils.is_bf16_available", lambda ignore_tpu: False)
    assert chosen_precision(SMALL, CPU, never) == "no"
    with pytest.raises(ValueError, match="must be no or auto, because cpu has no bfloat16; got bf16"):
        chosen_precision(replace(SMALL, precision="bf16"), CPU, never)


@pytest.mark.lasting
def test_a_step_of_every_kind_is_measured(monkeypatch):
    monkeypatch.setattr("reschrom.train.speed._SECONDS", 0.0)
    state = torch.random.get_rng_state()
    for kind in ("t2i", "autoencoder", "dvdp"):
        recipe = replace(SMALL, kind=kind, precision="bf16")
        assert seconds_a_step(recipe, CPU) > 0
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.lasting
def test_a_run_goes_on_in_the_precision_it_began_with(tmp_path, monkeypatch):
    def made_with(step: int) -> str:
        with safe_open(tmp_path / "checkpoints" / f"step-{step:07d}.safetensors", framework="pt") as file:
            return yaml.safe_load(file.metadata()["recipe"])["precision"]

    monkeypatch.setattr(loop, "chosen_precision", lambda recipe, device: "bf16")
    train(replace(SMALL, steps=1), "photos", tmp_path)
    assert made_with(1) == "bf16"
    monkeypatch.setattr(loop, "chosen_precision", never)
    train(replace(SMALL, steps=2), "photos", tmp_path)
    assert made_with(2) == "bf16"
    assert checkpoints.newest(tmp_path / "checkpoints", replace(SMALL, steps=2)).precision == "bf16"
    with pytest.raises(ValueError, match="made with precision = 'bf16', and this recipe says 'no'"):
        train(replace(SMALL, steps=3, precision="no"), "photos", tmp_path)


def test_fewer_steps_have_a_shorter_warm_up():
    assert shortened(SMALL, 1.0) == SMALL
    assert shortened(SMALL, 0.25) == replace(SMALL, steps=5, warmup=2)
    assert shortened(SMALL, 1e-9) == replace(SMALL, steps=1, warmup=0)


@pytest.fixture
def recipes(tmp_path) -> Path:
    """Two recipes, of which the first by its name begins with the other one's model, and one that does not ship."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    for name, recipe in {
        "pocket-a": replace(SMALL, start="data/models/pocket-b"),
        "pocket-b": replace(SMALL, precision="no", steps=40),
        "scout-c": SMALL,
    }.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe.as_dict()), encoding="utf-8")
    return folder


class Clock:
    """Stands still but for the pictures and measurements."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(budget, "time", clock)
    return clock


@pytest.mark.lasting
def test_all_recipes_share_the_time_that_is_left(tmp_path, recipes, clock, capsys):
    out, begun = tmp_path / "out", []

    def seconds(recipe: Recipe, device: torch.device) -> float:
        assert not recipe.start  # whose model is not there yet
        clock.now += 2.0
        begun.append(recipe.precision)
        return {"no": 0.5, "bf16": 0.1}[recipe.precision]

    # Four measurements take 8 s. 40 steps of 0.5 s and 20 of 0.1 s are 22 s, and half of it is 0.85 of what is left.
    train_all(recipes, "photos", out, 8 + 11.001 / 0.85, seconds=seconds)
    assert begun == ["no", "no", "bf16", "bf16"]
    made = {path.stem: Recipe.load(path) for path in out.glob("*.yaml")}
    begins = str((out / "pocket-b").resolve())
    assert made == {
        "pocket-a": replace(SMALL, steps=10, warmup=5, precision="bf16", start=begins),
        "pocket-b": replace(SMALL, steps=20, warmup=5, precision="no"),
    }
    assert capsys.readouterr().out.splitlines() == [
        "pocket-b: 20 of 40 steps, precision no",
        "pocket-a: 10 of 20 steps, precision bf16, after pocket-b",
    ]
    weights = {path: path.read_bytes() for path in out.glob("*/unet/*.safetensors")}
    assert len(weights) == 2
    # The same numbers on a second call, which measures nothing, whatever its budget.
    (out / "pocket-a" / "checkpoints" / "step-0000010.safetensors").unlink()
    train_all(recipes, "photos", out, 1.0, seconds=never)
    assert {path: path.read_bytes() for path in out.glob("*/unet/*.safetensors")} == weights


@pytest.mark.lasting
def test_a_latent_model_waits_for_the_autoencoder_of_its_pictures(tmp_path, recipes, clock, capsys):
    for path in recipes.iterdir():
        path.unlink()
    latent = replace(TINY, pieces=2, batch=4, steps=2, precision="no", autoencoder="data/models/pocket-a/vae")
    vae = replace(SMALL, kind="autoencoder", channels=(8, 16), precision="no", steps=2)
    other = replace(vae, contents=("coffee",))
    for name, recipe in {"pocket-a": latent, "pocket-z": vae, "pocket-y": other}.items():
        (recipes / f"{name}.yaml").write_text(yaml.safe_dump(recipe.as_dict()), encoding="utf-8")
    train_all(recipes, "photos", tmp_path / "out", 1e6, seconds=lambda recipe, device: 0.1)
    assert capsys.readouterr().out.splitlines()[-1] == "pocket-a: 2 of 2 steps, precision no, after pocket-z"
    assert Recipe.load(tmp_path / "out" / "pocket-a.yaml").autoencoder == str((tmp_path / "out" / "pocket-z").resolve())
    assert (tmp_path / "out" / "pocket-a" / "vae" / "config.json").is_file()


def test_a_budget_that_ends_before_training_is_refused_and_keeps_the_pictures(tmp_path, recipes, clock):
    def slow(recipe: Recipe, device: torch.device) -> float:
        clock.now += 100
        return 1.0

    with pytest.raises(
        ValueError, match="the budget is spent on the pictures and measurements of 2 recipes: give more"
    ):
        train_all(recipes, "photos", tmp_path / "out", 60.0, seconds=slow)
    assert sorted(path.name for path in (tmp_path / "out").glob("*/*")) == ["pictures.npy"] * 2
    assert not list((tmp_path / "out").glob("*.yaml"))


def test_recipes_that_wait_for_each_other_or_are_none_are_refused(tmp_path, recipes):
    circular = replace(SMALL, start="data/models/pocket-a")
    (recipes / "pocket-b.yaml").write_text(yaml.safe_dump(circular.as_dict()), encoding="utf-8")
    with pytest.raises(ValueError, match="recipes wait for each other: pocket-"):
        train_all(recipes, "photos", tmp_path / "out", 60.0, seconds=never)
    with pytest.raises(ValueError, match=r"must be a folder of recipes, pocket-\*\.yaml; it has none"):
        train_all(tmp_path, "photos", tmp_path / "out", 60.0, seconds=never)
    assert not (tmp_path / "out").exists()


def test_the_shipped_recipes_have_an_order(root):
    found = {path.stem: Recipe.load(path) for path in (root / "data").glob("pocket-*.yaml")}
    makers = {name: budget._makers(name, found) for name in found}
    assert {name: made for name, made in makers.items() if made} == {
        "pocket-any-64": {"start": "pocket-direct-64"},
        "pocket-if-64": {"start": "pocket-if-64-consistent"},
        "pocket-if-64-consistent": {"start": "pocket-if-64-velocity"},
        "pocket-if-64-contents": {"start": "pocket-if-64-start"},
        "pocket-if-64-velocity": {"start": "pocket-if-64-contents"},
        "pocket-sd-64": {"start": "pocket-sd-64-consistent", "autoencoder": "pocket-vae-64"},
        "pocket-sd-64-consistent": {"start": "pocket-sd-64-halved", "autoencoder": "pocket-vae-64"},
        "pocket-sd-64-halved": {"start": "pocket-sd-64-start", "autoencoder": "pocket-vae-64"},
        "pocket-sd-64-start": {"autoencoder": "pocket-vae-64"},
        "pocket-vae-64": {"start": "pocket-vae-64-plain"},
        "pocket-vae-64-plain": {"start": "pocket-vae-64-start"},
    }


@pytest.mark.parametrize("told", ["25", "m", "0s", "-3m", "1e9s", "25 m", "3d"])
def test_a_time_that_is_none_is_named(told, capsys):
    with pytest.raises(SystemExit):
        main(["train", "all", "--data", "photos", "--out", "r", f"--budget={told}"])
    assert f"must be a time such as 90s, 25m or 3h; got {told}" in capsys.readouterr().err


@pytest.mark.parametrize(("told", "seconds"), [("90s", 90), ("25m", 1500), ("1.5h", 5400)])
def test_a_command_trains_all_in_its_time(told, seconds, monkeypatch):
    asked = []
    monkeypatch.setattr(budget, "train_all", lambda *given: asked.append(given))
    assert main(["train", "all", "--data", "photos", "--out", "r", "--budget", told]) == 0
    assert asked == [(Path("data"), "photos", Path("r"), seconds)]
