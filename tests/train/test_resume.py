"""Training goes on after a kill as if nothing had been, refuses what is damaged, and writes what diffusers loads."""

import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny import TINY

from reschrom.cli.commands import main
from reschrom.pipelines.load import load_pipeline
from reschrom.theory.bands import bands
from reschrom.train import Recipe, checkpoints, train
from reschrom.train.batches import Batches
from reschrom.train.loop import _restore, _state
from reschrom.train.models import build
from reschrom.train.objective import step_loss, trained_module

pytestmark = pytest.mark.lasting

RECIPE = replace(TINY, pieces=2, steps=60, batch=4, warmup=3, ema=0.8, precision="no")
SAVE_EVERY = 5


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(yaml.safe_dump(RECIPE.as_dict()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of a run that nobody stopped."""
    out = tmp_path_factory.mktemp("whole")
    train(RECIPE, "photos", out, save_every=SAVE_EVERY, show_every=RECIPE.steps)
    return out


def weights(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob("*/*.safetensors") if "step" not in path.name}


def stopped(whole: Path, out: Path) -> list[Path]:
    """Make a folder as it is just before the end of the run `whole`: all but the pipeline. Return its checkpoints."""
    (out / "checkpoints").mkdir(parents=True)
    for name in ("pictures.npy", "log.csv"):
        (out / name).write_bytes((whole / name).read_bytes())
    copies = []
    for path in sorted((whole / "checkpoints").iterdir()):
        copies.append(out / "checkpoints" / path.name)
        copies[-1].write_bytes(path.read_bytes())
    return copies


def rows(log: Path) -> list[list[str]]:
    with log.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_weights_to_the_bit(tmp_path, whole, config):
    moment = int(np.random.default_rng(19).integers(SAVE_EVERY + 1, RECIPE.steps // 2))
    command = ["train", "t2i", "--config", str(config), "--data", "photos", "--out", str(tmp_path)]
    command += ["--save-every", str(SAVE_EVERY)]
    threads = f"import torch; torch.set_num_threads({torch.get_num_threads()});"
    code = f"{threads} from reschrom.cli.commands import main; main({command!r})"
    log = tmp_path / "log.csv"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (log.is_file() and len(rows(log)) > moment):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, f"to be killed after step {moment}"
    assert list((tmp_path / "checkpoints").glob("step-*.safetensors"))
    assert not weights(tmp_path)
    assert main(command) == 0
    assert weights(tmp_path).keys() == {"unet", "text_encoder"}
    assert weights(tmp_path) == weights(whole), f"killed after step {moment}"
    assert rows(log) == rows(whole / "log.csv")


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(tmp_path, whole, capsys, damage):
    *_, newest = stopped(whole, tmp_path)
    content = bytearray(newest.read_bytes())
    content[-100] ^= 1
    newest.write_bytes({"flipped": content, "truncated": content[:-100], "empty": b""}[damage])
    train(RECIPE, "photos", tmp_path, save_every=SAVE_EVERY)
    assert f"reschrom: {newest} is not a whole checkpoint" in capsys.readouterr().err
    assert weights(tmp_path) == weights(whole)
    assert rows(tmp_path / "log.csv") == rows(whole / "log.csv")


def test_the_checkpoint_of_another_recipe_is_refused(tmp_path, whole):
    stopped(whole, tmp_path)
    with pytest.raises(ValueError, match=r"made with batch = 4, and this recipe says 2"):
        train(replace(RECIPE, batch=2), "photos", tmp_path)


def test_two_checkpoints_are_kept(whole):
    names = sorted(path.name for path in (whole / "checkpoints").iterdir())
    assert names == ["step-0000055.safetensors", "step-0000060.safetensors"]


def test_the_log_holds_every_step_and_the_loss_falls(whole):
    head, *body = rows(whole / "log.csv")
    assert head == ["step", "loss"]
    assert [int(step) for step, _ in body] == list(range(1, RECIPE.steps + 1))
    losses = np.array([float(loss) for _, loss in body])
    assert losses[-20:].mean() < 0.9 * losses[:20].mean()


def test_the_grid_has_a_row_for_a_style_and_a_column_for_a_content(whole):
    with Image.open(whole / "samples" / f"step-{RECIPE.steps:07d}.png") as grid:
        assert grid.size == (2 * 16, 3 * 16)
        assert len(grid.getcolors(10**4)) > 100


def test_the_pipeline_holds_the_averaged_weights_in_half_precision(whole):
    import safetensors.torch

    saved = safetensors.torch.load_file(whole / "checkpoints" / f"step-{RECIPE.steps:07d}.safetensors")
    unet = safetensors.torch.load_file(whole / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(tensor.dtype == torch.float16 for tensor in unet.values())
    assert all(torch.equal(tensor, saved[f"ema.unet.{name}"].half()) for name, tensor in unet.items())
    assert not torch.equal(saved["ema.unet.conv_in.weight"], saved["weights.unet.conv_in.weight"])


def test_the_average_moves_by_the_decay_it_is_given():
    from diffusers.training_utils import EMAModel

    network = trained_module(build(RECIPE))
    ema = EMAModel(network.parameters(), decay=0.8)
    first = [parameter.detach().clone() for parameter in network.parameters()]
    steps = 100
    for _ in range(steps):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 1
        ema.step(network.parameters())
    rise = float((ema.shadow_params[0] - first[0]).mean())
    # The average of a straight line runs behind it by decay / (1 - decay) steps.
    assert rise == pytest.approx(steps - 0.8 / 0.2, abs=0.05)


def test_a_checkpoint_brings_back_weights_average_and_moments():
    from diffusers.training_utils import EMAModel

    def fresh(seed):
        network = trained_module(build(replace(RECIPE, seed=seed)))
        return network, EMAModel(network.parameters(), decay=0.8), torch.optim.AdamW(network.parameters(), lr=1e-3)

    network, ema, optimizer = fresh(0)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    ema.step(network.parameters())
    state = {name: tensor.detach().clone() for name, tensor in _state(network, ema, optimizer).items()}
    other = fresh(1)
    _restore(*other, 1, state)
    again = _state(*other)
    assert state.keys() == again.keys()
    assert all(torch.equal(state[name], again[name]) for name in state)
    assert other[1].optimization_step == 1


def test_half_precision_trains_too(tmp_path):
    train(replace(RECIPE, steps=2, precision="bf16"), "photos", tmp_path)
    unet = load_pipeline(tmp_path).unet
    assert all(bool(torch.isfinite(parameter).all()) for parameter in unet.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--config", "LEVEL"], "level.yaml is a recipe of reschrom train residual; got t2i"),
        (["--data", "nowhere.zip"], "a zip file, a folder, photos or owner/name on the hub; got nowhere.zip"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(tmp_path, config, capsys, options, message):
    level = tmp_path / "level.yaml"
    level.write_text("{kind: residual, contents: [coffee]}", encoding="utf-8")
    options = [option.replace("LEVEL", str(level)) for option in options]
    argv = ["train", "t2i", "--config", str(config), "--data", "photos", "--out", str(tmp_path / "run"), *options]
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("reschrom: ")
    assert error.count("\n") == 1
    assert message in error


@pytest.fixture(scope="module", params=["image", "residual"])
def uncaptioned(request, tmp_path_factory) -> tuple[Recipe, Path]:
    """A level of a cascade, trained without a stop on halved pictures, and its folder."""
    recipe = replace(RECIPE, kind=request.param, size=8, level=1, steps=10)
    out = tmp_path_factory.mktemp(request.param)
    train(recipe, "photos", out, save_every=SAVE_EVERY, show_every=recipe.steps)
    return recipe, out


def test_a_stopped_level_of_a_cascade_ends_in_the_same_weights_to_the_bit(tmp_path, uncaptioned):
    recipe, whole = uncaptioned
    *_, last = stopped(whole, tmp_path)
    last.unlink()
    train(recipe, "photos", tmp_path, save_every=SAVE_EVERY)
    assert weights(tmp_path).keys() == {"unet"}
    assert weights(tmp_path) == weights(whole)
    assert rows(tmp_path / "log.csv") == rows(whole / "log.csv")


def test_a_level_of_a_cascade_is_a_pipeline_of_diffusers(uncaptioned):
    from diffusers import DDIMPipeline

    recipe, whole = uncaptioned
    pipeline = load_pipeline(whole)
    assert type(pipeline) is DDIMPipeline
    assert pipeline.scheduler.config.beta_schedule == "squaredcos_cap_v2"
    assert pipeline.scheduler.config.prediction_type == "epsilon"
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        batch_size=2, generator=torch.Generator().manual_seed(0), num_inference_steps=2, output_type="np"
    ).images
    assert images.shape == (2, 8, 8, 3)
    # Only what draws pictures on its own shows some.
    assert list(whole.glob("samples/*.png")) == [whole / "samples" / "step-0000010.png"] * (recipe.kind == "image")


@pytest.mark.parametrize("kind", ["image", "residual"])
def test_the_loss_is_zero_for_the_right_part_of_the_noise_alone(kind):
    recipe = replace(RECIPE, kind=kind)
    pipeline = build(recipe)
    alphas = pipeline.scheduler.alphas_cumprod

    class Oracle(torch.nn.Module):
        """Knows that every picture is white, so what else it sees is noise."""

        def __init__(self, part: str) -> None:
            super().__init__()
            self.part = part

        def forward(self, x_t: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            alpha = alphas[timesteps][:, None, None, None]
            noise = (x_t - alpha.sqrt()) / (1 - alpha).sqrt()
            return noise if self.part == "image" else bands(noise, 1)[0]

    white = np.full((2, 1, 16, 16, 3), 255, np.uint8)
    seen = Batches(pipeline, white, recipe, 1).draw(0, 0, torch.device("cpu"))
    losses = {part: float(step_loss(Oracle(part), seen, recipe)) for part in ("image", "residual")}
    assert losses.pop(kind) < 1e-6
    assert all(loss > 0.01 for loss in losses.values())


def test_a_checkpoint_from_before_a_setting_was_made_is_still_read(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    checkpoints.save(tmp_path, 3, {"a": torch.ones(2)}, RECIPE)
    path = tmp_path / "step-0000003.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    made = json.loads(metadata["recipe"])
    del made["kind"], made["level"]
    save_file({"a": torch.ones(2)}, path, {**metadata, "recipe": json.dumps(made)})
    step, tensors, _ = checkpoints.newest(tmp_path, RECIPE)
    assert step == 3
    assert torch.equal(tensors["a"], torch.ones(2))
    with pytest.raises(ValueError, match=r"made with kind = 't2i', and this recipe says 'image'"):
        checkpoints.newest(tmp_path, replace(RECIPE, kind="image"))


def copied(whole: Path, out: Path) -> Path:
    for path in whole.rglob("*"):
        if path.is_file() and path.parent.name in (whole.name, "unet", "text_encoder", "tokenizer", "scheduler"):
            (out / path.relative_to(whole)).parent.mkdir(parents=True, exist_ok=True)
            (out / path.relative_to(whole)).write_bytes(path.read_bytes())
    return out


def test_a_trained_model_is_loaded_without_the_network_and_draws(whole):
    pipeline = load_pipeline(whole)
    assert pipeline.unet.dtype == torch.float32
    assert load_pipeline(str(whole), dtype=torch.float16).text_encoder.dtype == torch.float16
    pipeline.set_progress_bar_config(disable=True)
    images = [
        pipeline(caption, num_inference_steps=2, generator=torch.Generator().manual_seed(0), output_type="np").images
        for caption in ("a photo of coffee", "a photo of coffee", "a pencil sketch of china")
    ]
    assert images[0].shape == (1, 16, 16, 3)
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.unlink()
    if how != "missing":
        path.write_bytes(content if how == "flipped" else content[:-100])


@pytest.mark.parametrize(("how", "said"), [("flipped", "damaged"), ("truncated", "damaged"), ("missing", "missing")])
@pytest.mark.parametrize("component", ["unet/diffusion_pytorch_model", "text_encoder/model"])
def test_a_damaged_weight_file_is_named(tmp_path, whole, component, how, said):
    import hashlib

    folder = copied(whole, tmp_path / "model")
    files = sorted(folder.rglob("*.safetensors"))
    sums = {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    (folder / "weights.json").write_text(json.dumps(sums))
    assert load_pipeline(folder).unet is not None
    damage(folder / f"{component}.safetensors", how)
    with pytest.raises(ValueError, match=rf"{component}\.safetensors is {said}"):
        load_pipeline(folder)


def test_a_truncated_weight_file_is_named_without_checksums_too(tmp_path, whole):
    folder = copied(whole, tmp_path / "model")
    damage(folder / "unet" / "diffusion_pytorch_model.safetensors", "truncated")
    with pytest.raises(ValueError, match=r"unet/diffusion_pytorch_model\.safetensors is damaged"):
        load_pipeline(folder)


def test_what_is_no_pipeline_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"it has no model_index\.json"):
        load_pipeline(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "DDPMPipeline"}')
    (tmp_path / "weights.json").write_text("{")
    with pytest.raises(ValueError, match=r"weights\.json is damaged"):
        load_pipeline(tmp_path)
