"""The command line: what it writes, what it prints, and one clear line when it cannot."""

import inspect
import subprocess
import sys

import numpy as np
import pandas
import pytest
import tiny

from reschrom import (
    Chromatogram,
    PromptSchedule,
    Schedule,
    chromatography,
    decided_share,
    heaviside,
    intensity_scale,
    load_pipeline,
    matched_time,
    predicted_share,
    switch_time,
)
from reschrom.cli.commands import main
from reschrom.cli.schedules import CONSTRUCTORS, PARAMETERS
from reschrom.pipelines.chromatograph import Chromatograph
from reschrom.train.models import build
from reschrom.train.recipe import Recipe


def printed(capsys) -> dict[str, float]:
    lines = capsys.readouterr().out.splitlines()
    return {name.strip(): float(rest.split()[0]) for name, rest in (line.split("=", 1) for line in lines)}


def failure(capsys, *argv: str) -> str:
    """Return the one line on standard error of a command that must fail."""
    try:
        status = main(list(argv))
    except SystemExit as stop:  # argparse leaves by itself
        status = stop.code
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert captured.err.startswith("reschrom: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(
    ("options", "schedule"),
    [
        (["cosine"], Schedule.cosine()),
        (["cosine", "--s", "0"], Schedule.cosine(0.0)),
        (["flow_matching", "--shift", "3"], Schedule.flow_matching(3.0)),
        (["linear", "--beta-start", "0.2", "--beta-end", "9"], Schedule.linear(0.2, 9.0)),
        (["scaled_linear"], Schedule.scaled_linear()),
        (["sigmoid", "--start", "-2", "--end", "4", "--temperature", "0.5"], Schedule.sigmoid(-2.0, 4.0, 0.5)),
        (["natural"], Schedule.natural()),
    ],
)
def test_time_prints_what_the_functions_return(capsys, options, schedule):
    assert main(["time", "--schedule", *options, "--level", "2", "--t", "0.7"]) == 0
    numbers = printed(capsys)
    tau = matched_time(schedule, 0.7, 2)
    expected = {
        "alpha": schedule.alpha(0.7),
        "tau": tau,
        "alpha at tau": schedule.alpha(tau),
        "lambda": intensity_scale(schedule.alpha(0.7), 2),
    }
    assert numbers == pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-5)


def test_every_parameter_of_every_schedule_is_an_option():
    taken = {name for constructor in CONSTRUCTORS.values() for name in inspect.signature(constructor).parameters}
    assert taken == set(PARAMETERS)


@pytest.mark.parametrize("spectrum", [[], ["0.1", "1", "3", "20"]])
def test_chromatogram_writes_a_table(tmp_path, spectrum):
    out = tmp_path / "r.csv"
    options = ["--spectrum", *spectrum] if spectrum else []
    assert main(["chromatogram", "--schedule", "cosine", "--size", "8", "--out", str(out), *options]) == 0
    table = pandas.read_csv(out)
    assert list(table.columns) == ["time", "8x8", "4x4", "2x2", "1x1"]
    alpha = Schedule.cosine().alpha(table["time"].to_numpy())
    expected = chromatography(alpha, 3, [float(s) for s in spectrum] or None)
    np.testing.assert_allclose(table.iloc[:, 1:].to_numpy().T, expected, rtol=0, atol=1e-3)


def test_chromatogram_writes_everything_as_json(tmp_path):
    out = tmp_path / "r.json"
    assert main(["chromatogram", "--schedule", "natural", "--until", "12", "--size", "64", "--out", str(out)]) == 0
    back, expected = (
        Chromatogram.load(out),
        Chromatogram.predicted(Schedule.natural(), 64, edges=np.linspace(0, 12, 1001)),
    )
    np.testing.assert_array_equal(back.rates, expected.rates)
    assert (back.name, back.size) == ("natural", 64)


@pytest.mark.lasting
@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG\r\n"), (".svg", b"<?xml")])
def test_chromatogram_draws(tmp_path, suffix, start):
    out = tmp_path / f"r{suffix}"
    assert main(["chromatogram", "--schedule", "cosine", "--size", "64", "--out", str(out)]) == 0
    assert out.read_bytes().startswith(start)
    assert out.stat().st_size > 10_000
    assert list(tmp_path.iterdir()) == [out]


def test_a_scheduler_on_disk_is_read_from_its_folder_its_file_and_its_pipeline(tmp_path, capsys):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(beta_schedule="squaredcos_cap_v2")
    scheduler.save_pretrained(tmp_path / "pipeline" / "scheduler")
    expected = float(matched_time(Schedule.from_diffusers(scheduler), 500, 1))
    for path in ("pipeline", "pipeline/scheduler", "pipeline/scheduler/scheduler_config.json"):
        assert main(["time", "--schedule", str(tmp_path / path), "--level", "1", "--t", "500"]) == 0
        assert printed(capsys)["tau"] == pytest.approx(expected, rel=1e-5)
    out = tmp_path / "r.csv"
    assert main(["chromatogram", "--schedule", str(tmp_path / "pipeline"), "--size", "8", "--out", str(out)]) == 0
    assert len(pandas.read_csv(out)) == 1000


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with two pipelines: one that reads prompts, and one that does not."""
    folder = tmp_path_factory.mktemp("models")
    recipe = Recipe(contents=("a cat",), size=8, channels=(8, 8), attentive=1, text_width=8, text_layers=1)
    build(recipe).save_pretrained(folder / "words")
    tiny.ddim().save_pretrained(folder / "plain")
    return folder


@pytest.mark.lasting
def test_measure_writes_what_the_chromatograph_measures(tmp_path, models):
    out = tmp_path / "r.npz"
    options = ["--steps", "3", "--images", "3", "--seed", "5", "--out", str(out)]
    assert main(["measure", "--model", str(models / "plain"), *options]) == 0
    pipeline = tiny.ddim()
    with Chromatograph(pipeline, seed=5) as meter:
        pipeline(batch_size=3, num_inference_steps=3, generator=tiny.generators(3, 5), output_type="np")
    written, expected = Chromatogram.load(out), meter.growth
    assert written.name == "growth"
    np.testing.assert_allclose(written.rates, expected.rates, rtol=1e-6)
    np.testing.assert_allclose(written.replicates, expected.replicates, rtol=1e-6)


@pytest.mark.lasting
def test_measure_finds_guidance_and_no_batch_changes_what_it_finds(tmp_path, models, capsys):
    common = [
        "measure",
        "--model",
        str(models / "words"),
        "--prompt",
        "a photo of a cat",
        "--steps",
        "3",
        "--images",
        "3",
    ]
    for batch in ("1", "2"):
        out = str(tmp_path / f"{batch}.json")
        assert main([*common, "--guidance", "4", "--batch", batch, "--out", out]) == 0
    one, two = (Chromatogram.load(tmp_path / f"{batch}.json") for batch in ("1", "2"))
    assert one.name == "guidance"
    np.testing.assert_allclose(one.rates, two.rates, rtol=1e-4)
    np.testing.assert_allclose(one.replicates, two.replicates, rtol=1e-4)
    assert main([*common, "--guidance", "1", "--out", str(tmp_path / "r.csv")]) == 0
    assert list(pandas.read_csv(tmp_path / "r.csv").columns) == ["time", "8x8", "4x4", "2x2", "1x1"]
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "The prompt steers words" in " ".join(printed.out.split())


SWITCH = ["--steps", "4", "--images", "3", "--batch", "2", "--seed", "6", "--guidance", "3"]


@pytest.mark.lasting
@pytest.mark.parametrize("when", ["2x2", "2"])
def test_switch_tries_what_is_written_and_draws_it_between_the_pure_ones(models, capsys, tmp_path, when):
    first, second = "a photo of a cat", "a cat"
    out = tmp_path / "r.png"
    written = f"a [photo of a ::{when}]cat"
    assert main(["switch", str(models / "words"), written, *SWITCH, "--out", str(out)]) == 0
    answer, prompts, title, eight, four, two, one, images = capsys.readouterr().out.splitlines()
    pipeline = load_pipeline(models / "words")
    pipeline.set_progress_bar_config(disable=True)

    def drawn(prompt, guidance=3.0):
        settings = {"num_inference_steps": 4, "num_images_per_prompt": 3, "output_type": "pt"}
        settings["guidance_scale"] = guidance
        return pipeline(prompt, generator=tiny.generators(3, 6), **settings).images.numpy()

    with Chromatograph(pipeline) as meter:
        drawn(first, guidance=1.0)
    times = meter.timesteps
    # 2x2 and all that is coarser is all that is coarser than 4x4
    step = int(np.sum(times > switch_time(meter.growth, 4))) if "x" in when else 2
    assert 0 < step < 4
    assert answer == f"switch after {step} of 4 steps, at timestep {times[step]:g}: {times[step] / 1000:.3f} T"
    assert prompts == f"from {first!r} to {second!r}"
    with PromptSchedule(pipeline, [first, second], heaviside(times[step] / 1000)):
        switched = drawn(first)
    gained = 1 - predicted_share(meter.growth, np.array([times[step] / 1000]), 1000.0)[:, 0]
    assert "x" not in when or min(gained[2:]) >= 0.95
    kept = 1 - decided_share(switched, drawn(first), drawn(second)).share
    for line, *expected in zip([eight, four, two, one], gained, kept, strict=True):
        shown = [float(word.rstrip("%")) for word in line.split()[1:]]
        assert shown == pytest.approx([100 * each for each in expected], abs=0.1)
    assert [line.split()[0] for line in (title, eight, one)] == ["band", "8x8", "1x1"]
    assert "mean over 3 images" in images
    assert out.read_bytes().startswith(b"\x89PNG\r\n")


def test_a_picture_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch, capsys):
    from reschrom import plots

    class Broken:
        def savefig(self, path, **_: object) -> None:
            path.write_bytes(b"half a picture")
            raise OSError("the disk is full")

    monkeypatch.setattr(plots, "chromatogram", lambda _: Broken())
    (tmp_path / "r.png").write_bytes(b"an older picture")
    assert "the disk is full" in failure(
        capsys, "chromatogram", "--schedule", "cosine", "--size", "8", "--out", str(tmp_path / "r.png")
    )
    assert [p.name for p in tmp_path.iterdir()] == ["r.png"]
    assert (tmp_path / "r.png").read_bytes() == b"an older picture"


@pytest.mark.parametrize("command", [[], ["chromatogram"], ["measure"], ["switch"], ["time"]])
def test_help_explains_the_words_and_gives_an_example(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert "0 is the image, the last time is pure noise" in text
    assert "how often the sides of an image are halved" in text
    assert f"reschrom {command[0]} " in text.split("example")[1] if command else "reschrom time --help" in text


@pytest.mark.lasting
def test_every_example_of_the_help_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command in ("chromatogram", "time"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        example = capsys.readouterr().out.strip().splitlines()[-1].split()
        assert example[0] == "reschrom"
        assert main(example[1:]) == 0
    assert (tmp_path / "chromatogram.png").is_file()


def test_the_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "reschrom.cli", "time", "--schedule", "cosine", "--level", "0", "--t", "0.25"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert "tau          = 0.25 " in done.stdout
