"""A training that cannot be is refused in one line, and whatever stops one leaves nothing half-written behind."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from doors.door import Command, Row, contents, refuse, refuse_command
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import TINY

from reschrom.cli.commands import main
from reschrom.train import checkpoints, loop, train
from reschrom.train.folder import claimed

RECIPE = replace(TINY, pieces=2, steps=10, batch=4, warmup=3, ema=0.8, precision="no")
LINE = "train t2i --config recipe.yaml --data photos --out run --save-every 4 --show-every 5"
# Changes what is in the folder of a run.
Edit = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a recipe, in which commands are given."""
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE.as_dict()), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of a run that nobody stopped."""
    out = tmp_path_factory.mktemp("whole")
    train(RECIPE, "photos", out, save_every=4, show_every=5)
    return out


@pytest.fixture
def run(whole, folder) -> Path:
    """The folder of that run just before its end: all but the pipeline."""
    out = folder / "run"
    for name in ("checkpoints", "samples"):
        shutil.copytree(whole / name, out / name)
    for name in ("pictures.npy", "log.csv"):
        shutil.copy(whole / name, out / name)
    return out


def results(out: Path) -> dict[str, bytes]:
    """What a run has made: all but its checkpoints, which order their metadata by chance."""
    paths = [path for path in out.rglob("[!.]*") if path.is_file()]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths if path.parent.name != "checkpoints"}


def litter(folder: Path) -> list[Path]:
    return list(folder.rglob(".*"))


def said_by(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command says that ends with 2: one line. It leaves nothing half-written."""
    assert main(line.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("reschrom: ")
    assert said.count("\n") == 1
    assert not litter(Path("run"))
    return said


COMMANDS = {
    "no steps": Command(f"{LINE} --steps 0", r"--steps: must be a whole number, 1 or more; got 0"),
    "fewer than no steps": Command(f"{LINE} --steps -1", r"--steps: must be a whole number, 1 or more; got -1"),
    "steps without end": Command(
        f"{LINE} --steps {10**12}", r"--steps: must be .* at most 4294967295; got 1000000000000"
    ),
    "no checkpoints": Command(f"{LINE} --save-every 0", r"--save-every: must be a whole number, 1 or more; got 0"),
    "fewer than no samples": Command(
        f"{LINE} --show-every -3", r"--show-every: must be a whole number, 1 or more; got -3"
    ),
    "no recipe": Command(LINE.replace("recipe.yaml", "nowhere.yaml"), r"nowhere\.yaml"),
    "a folder of recipes": Command(LINE.replace("recipe.yaml", "."), r"Is a directory"),
    "no YAML": Command(LINE.replace("recipe.yaml", "torn.yaml"), r"torn\.yaml is not YAML"),
    "another kind": Command(LINE.replace("t2i", "image", 1), r"is a recipe of reschrom train t2i; got image"),
    "no schedule": Command(LINE.replace("recipe.yaml", "designed.yaml"), r"schedule of a recipe must be cosine or"),
    "no pictures": Command(LINE.replace("photos", "nowhere.zip"), r"a zip file, a folder, photos or .*; got nowhere"),
    "no zip": Command(LINE.replace("photos", "recipe.yaml"), r"a zip file, a folder, photos or .*; got recipe\.yaml"),
    "pictures of nothing": Command(LINE.replace("photos", "empty"), r"empty has no metadata\.json with classes"),
    "other contents": Command(LINE.replace("recipe.yaml", "cats.yaml"), r"photos have the contents .* got 'a cat'"),
    "pictures larger than photos": Command(LINE.replace("recipe.yaml", "large.yaml"), r"at most 256 pixels"),
    "a file for a folder": Command(
        LINE.replace("--out run", "--out recipe.yaml"),
        r"recipe\.yaml cannot be the folder of a training \(File exists\)",
    ),
    "a folder in a file": Command(
        LINE.replace("--out run", "--out recipe.yaml/run"), r"cannot be the folder of a training \(Not a directory\)"
    ),
    "a folder in no folder": Command(LINE.replace("--out run", "--out /proc/a/b"), r"^reschrom: /proc/a/b cannot be"),
    "a name too long": Command(LINE.replace("--out run", f"--out {'a' * 300}"), r"\(File name too long\)"),
    "folders of which nothing stays": Command(
        LINE.replace("--out run", "--out a/b/c").replace("photos", "nowhere.zip"), r"got nowhere\.zip"
    ),
    "an existing folder that stays": Command(
        LINE.replace("--out run", "--out empty").replace("photos", "nowhere.zip"), r"got nowhere\.zip"
    ),
}


@pytest.mark.lasting
@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("mistake", COMMANDS)
def test_a_command_that_cannot_be_leaves_nothing(mistake, folder):
    (folder / "torn.yaml").write_text("contents: [a cat", encoding="utf-8")
    (folder / "empty").mkdir()
    for name, changed in (
        ("designed", {"schedule": "nowhere.json"}),
        ("cats", {"contents": ("a cat",)}),
        ("large", {"level": 5}),
    ):
        recipe = replace(RECIPE, **changed)
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe.as_dict()), encoding="utf-8")
    refuse_command(COMMANDS[mistake], folder)


CALLS = {
    "no recipe": Row(lambda: train("recipe.yaml", "photos", "out"), TypeError, r"needs a Recipe; got str"),
    "a recipe in plain types": Row(lambda: train(RECIPE.as_dict(), "photos", "out"), TypeError, r"got dict"),
    "no source": Row(lambda: train(RECIPE, None, "out"), TypeError, r"source must be text.* got NoneType"),
    "a path": Row(lambda: train(RECIPE, Path("photos"), "out"), TypeError, r"source must be text.* got PosixPath"),
    "no folder": Row(lambda: train(RECIPE, "photos", None), TypeError, r"NoneType"),
    "half a step": Row(lambda: train(RECIPE, "photos", "out", save_every=2.5), TypeError, r"whole numbers; got 2\.5"),
    "whether to show": Row(lambda: train(RECIPE, "photos", "out", show_every=True), TypeError, r"250 and True"),
    "pieces without end": Row(
        lambda: train(replace(RECIPE, pieces=2**20, size=16, level=8), "photos", "out"),
        ValueError,
        r"does not fit into memory: make its batch, channels, size, level or pieces smaller",
    ),
}


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("mistake", CALLS)
def test_a_call_that_cannot_be_leaves_nothing(mistake, tmp_path):
    refuse(CALLS[mistake], tmp_path)


def made_with(path: Path) -> np.ndarray:
    """What stands after the pictures."""
    with path.open("rb") as file:
        np.load(file)
        return np.load(file)


def rewritten(out: Path, pictures: np.ndarray, made: np.ndarray) -> None:
    with (out / "pictures.npy").open("wb") as file:
        np.save(file, pictures)
        np.save(file, made)


def pictures_of(shape: tuple[int, ...], dtype: str = "u1") -> Edit:
    return lambda out: rewritten(out, np.zeros(shape, dtype), made_with(out / "pictures.npy"))


def cut(length: int) -> Edit:
    return lambda out: os.truncate(out / "pictures.npy", length)


def written(name: str, content: bytes) -> Edit:
    return lambda out: (out / name).write_bytes(content)


FOLDERS = {
    "pictures cut short": (cut(5000), r"pictures\.npy is damaged .*: remove it"),
    "pictures cut within the header": (cut(60), r"pictures\.npy is damaged"),
    "pictures without what made them": (cut(128 + 6 * 2 * 16 * 16 * 3), r"does not say what made it"),
    "empty pictures": (cut(0), r"pictures\.npy is damaged"),
    "no pictures": (written("pictures.npy", b"nothing" * 1000), r"pictures\.npy is damaged"),
    "pictures in an archive": (written("pictures.npy", b"PK\x03\x04" * 100), r"pictures\.npy is damaged"),
    "pictures of another size": (pictures_of((6, 2, 8, 8, 3)), r"bytes of the shape \(6, 2, 16, 16, 3\); got uint8 of"),
    "too few pictures": (pictures_of((6, 1, 16, 16, 3)), r"bytes of the shape .*; got uint8 of \(6, 1, 16, 16, 3\)"),
    "pictures of numbers": (pictures_of((6, 2, 16, 16, 3), "f4"), r"bytes of the shape .*; got float32"),
    "a log of bytes": (written("log.csv", b"step,loss\n\xff\xfe\n"), r"log\.csv is not the log of a training"),
    "a log of zeros": (written("log.csv", b"step,loss\n\0,\0\n" + b"9" * 200000), r"log\.csv is not the log"),
}


@pytest.mark.lasting
@pytest.mark.parametrize("held", FOLDERS)
def test_what_a_folder_must_not_hold_is_named_and_stays(held, run):
    edit, words = FOLDERS[held]
    edit(run)
    refuse(Row(lambda: train(RECIPE, "photos", "run"), ValueError, words), run.parent)


OTHERS = {
    "contents": ("coffee", "rocket"),
    "kind": "image",
    "pieces": 3,
    "every_style": True,
    "size": 8,
    "level": 1,
    "seed": 1,
}


@pytest.mark.parametrize("name", OTHERS)
def test_pictures_of_another_recipe_are_not_used(name, run):
    shutil.rmtree(run / "checkpoints")
    recipe = replace(RECIPE, **{name: OTHERS[name]})
    old, new = (each.as_dict()[name] for each in (RECIPE, recipe))
    words = rf"pictures\.npy was made with {name} = .*, and this training has .*: choose another folder"
    refuse(Row(lambda: train(recipe, "photos", "run"), ValueError, words), run.parent)
    with pytest.raises(ValueError, match="made with") as caught:
        train(recipe, "photos", "run")
    assert f"{old!r}, and this training has {new!r}" in str(caught.value)


def test_pictures_of_another_source_are_not_used(run, monkeypatch):
    (run.parent / "mine").mkdir()
    row = Row(
        lambda: train(RECIPE, "mine", "run"), ValueError, r"made with data = 'photos', and this training has .*mine'"
    )
    refuse(row, run.parent)
    made = json.loads(str(made_with(run / "pictures.npy")))
    mine = np.array(json.dumps({**made, "data": str((run.parent / "mine").resolve())}))
    rewritten(run, np.load(run / "pictures.npy"), mine)
    monkeypatch.chdir(run)  # a folder is the same wherever it is named from
    train(RECIPE, "../mine", run)
    refuse(
        Row(lambda: train(RECIPE, "nowhere", run), ValueError, r"mine', and this training has 'nowhere'"), run.parent
    )


def newest_with(change: Callable[[dict[str, torch.Tensor]], object]) -> Edit:
    """Save the newest checkpoint again, and its checksum, with other tensors."""

    def edit(out: Path) -> None:
        path = out / "checkpoints" / "step-0000010.safetensors"
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, {**metadata, "sha256": checkpoints._digest(tensors)})

    return edit


def misnamed(out: Path) -> None:
    shutil.copy(out / "checkpoints" / "step-0000008.safetensors", out / "checkpoints" / "step-0000010.safetensors")


BIAS = "unet.conv_in.bias"
CHECKPOINTS = {
    "no weight": (newest_with(lambda held: held.pop(f"weights.{BIAS}")), rf"no weights\.{BIAS} of the shape \(8,\)"),
    "no average": (newest_with(lambda held: held.pop(f"ema.{BIAS}")), rf"has no ema\.{BIAS}"),
    "no moment": (newest_with(lambda held: held.pop(f"adam.step.{BIAS}")), rf"has no adam\.step\.{BIAS}"),
    "another shape": (
        newest_with(lambda held: held.update({f"weights.{BIAS}": torch.zeros(16)})),
        rf"no weights\.{BIAS} of the shape \(8,\)",
    ),
    "no numbers": (newest_with(lambda held: held[f"weights.{BIAS}"].fill_(torch.nan)), r"numbers are not finite"),
    "an infinite moment": (
        newest_with(lambda held: held[f"adam.exp_avg.{BIAS}"].fill_(-torch.inf)),
        r"numbers are not finite",
    ),
    "another step": (misnamed, r"it was saved after step 8"),
    "a folder": (lambda out: (out / "checkpoints" / "step-0000011.safetensors").mkdir(), r"0011\.safetensors is not a"),
}


@pytest.mark.lasting
@pytest.mark.parametrize("damage", CHECKPOINTS)
def test_a_checkpoint_that_is_not_whole_is_named_and_the_one_before_it_is_used(damage, run, whole, capsys):
    edit, words = CHECKPOINTS[damage]
    edit(run)
    train(RECIPE, "photos", run, save_every=100)
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("reschrom: ")]
    assert re.search(words, said), said
    assert results(run) == results(whole)


def test_fewer_steps_than_a_checkpoint_has_are_refused(run):
    words = r"step-0000010\.safetensors was made after 10 steps, and this recipe has 9: choose another folder"
    refuse(Row(lambda: train(replace(RECIPE, steps=9), "photos", run), ValueError, words), run)


def test_a_second_training_in_a_folder_is_refused(run):
    row = Row(lambda: train(RECIPE, "photos", run), BlockingIOError, r"another training is at work in .*run: wait for")
    with claimed(run):
        refuse(row, run)
        refuse_command(Command(LINE, row.words), run.parent)
    assert not litter(run)


def test_what_a_killed_run_left_half_written_is_removed_and_nothing_else(run, whole):
    left = (
        ".pictures.17.npy",
        ".log.17.csv",
        "checkpoints/.step-0000008.17.safetensors",
        "samples/.step-0000005.17.png",
    )
    (run / ".pipeline.17" / "unet").mkdir(parents=True)
    for name in (*left, ".lock", ".pipeline.17/unet/config.json", ".mine"):
        (run / name).write_bytes(b"half")
    train(RECIPE, "photos", run)
    assert litter(run) == [run / ".mine"]
    assert results(run) == results(whole)


@pytest.mark.parametrize("save_every", [1, 100])
def test_a_loss_that_is_not_finite_ends_in_one_line_and_no_pipeline(save_every, folder, capsys):
    recipe = replace(RECIPE, learning_rate=1e30, warmup=0)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.as_dict()), encoding="utf-8")
    line = LINE.replace("--save-every 4", f"--save-every {save_every}")
    words = r"the loss of step 2 is (nan|inf): train into another folder with a smaller learning_rate"
    assert re.search(words, said_by(line, capsys))
    assert (
        sorted(path.name for path in Path("run").iterdir())
        == ["checkpoints", "log.csv", "pictures.npy"][save_every > 1 :]
    )
    assert len(list(Path("run").glob("checkpoints/*"))) == (save_every == 1)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_not_saved(value, run):
    before = contents(run)
    with pytest.raises(ValueError, match=r"the weights are not finite after step 9: train into another folder with a"):
        checkpoints.save(run / "checkpoints", 9, {"a": torch.tensor([0.0, value])}, RECIPE)
    assert contents(run) == before


def test_weights_beyond_half_precision_are_no_pipeline(folder):
    with pytest.raises(
        ValueError, match=r"the weights are beyond half precision after step 1: .* smaller learning_rate"
    ):
        train(replace(RECIPE, steps=1, learning_rate=1e6, warmup=0, cooldown=0.0), "photos", "run")
    assert not Path("run", "model_index.json").exists()
    assert not Path("run", "unet").exists()


@pytest.fixture
def small_disk():
    """Files of this process end at so many bytes, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.lasting
@pytest.mark.parametrize(
    ("size", "words"),
    [(4000, r"pictures\.npy cannot be written"), (40000, r"step-0000004\.safetensors cannot be written")],
)
def test_a_full_disk_ends_in_one_line_and_a_later_run_goes_on(size, words, folder, whole, small_disk, capsys):
    small_disk(size)
    said = said_by(LINE, capsys)
    small_disk(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert re.search(words, said)
    assert main(LINE.split()) == 0
    assert results(folder / "run") == results(whole)


@pytest.mark.lasting
def test_a_disk_that_is_full_at_the_end_leaves_no_part_of_a_pipeline(run, whole, small_disk, capsys):
    train(RECIPE, "photos", run)
    for part in ("unet", "model_index.json"):
        shutil.rmtree(run / part, ignore_errors=True)
    before = contents(run)
    small_disk(40000)
    said = said_by(LINE, capsys)
    small_disk(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert "cannot be written to run" in said
    assert contents(run) == before
    assert main(LINE.split()) == 0
    assert results(run) == results(whole)


@pytest.mark.lasting
def test_a_keyboard_stops_a_run_that_goes_on_to_the_same_bytes(folder, whole, monkeypatch, capsys):
    loss, times = loop.step_loss, iter(range(100))

    def interrupted(*given):
        if next(times) == 6:
            signal.raise_signal(signal.SIGINT)
        return loss(*given)

    monkeypatch.setattr(loop, "step_loss", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs lack
    try:
        assert main(LINE.split()) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "reschrom: stopped; the same command goes on from there\n"
    assert sorted(path.name for path in Path("run").iterdir()) == ["checkpoints", "log.csv", "pictures.npy", "samples"]
    assert not litter(Path("run"))
    assert main(LINE.split()) == 0
    assert results(folder / "run") == results(whole)


def test_a_machine_that_cannot_train_so_is_named(folder, monkeypatch):
    def unable(**settings: object) -> None:
        raise ValueError("fp8 mixed precision requires\na supported device.")

    monkeypatch.setattr("accelerate.Accelerator", unable)
    refuse_command(Command(LINE, r"this machine cannot train: fp8 mixed precision requires a supported device"), folder)


def test_memory_that_is_not_there_is_named(folder, monkeypatch):
    def unable(recipe: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(loop, "build", unable)
    refuse_command(Command(LINE, r"this recipe does not fit into memory: make its batch"), folder)


# A run moves what it has written to its place: 1 pictures, 2 the log, 3 checkpoint, 4 samples, 5 checkpoint, 6 samples,
# 7 checkpoint, and then the parts of the pipeline.
@pytest.mark.slow
@pytest.mark.parametrize("moment", [1, 2, 4, 6, 7, 9])
def test_a_kill_at_any_moment_changes_nothing_and_what_it_leaves_is_removed(moment, folder, whole):
    code = f"""
import os, signal, sys, torch
torch.set_num_threads({torch.get_num_threads()})
replace, times = os.replace, iter(range(1, 100))
def killed(*given, **named):
    if next(times) == {moment}:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(*given, **named)
os.replace = killed
from reschrom.cli.commands import main
main({LINE.split()!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(litter(folder / "run")) > 1  # the lock, and what was not moved yet
    assert main(LINE.split()) == 0
    assert not litter(folder / "run")
    assert results(folder / "run") == results(whole)
