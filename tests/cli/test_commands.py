"""The command line: what it writes, what it prints, and one clear line when it cannot."""

import inspect
import re
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
from reschrom.cli.commands import CONSTRUCTORS, PARAMETERS, main
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


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model", "plain", "--out", "r.txt"], r"must end in .* got r\.txt"),
        (["--model", "plain", "--out", "nowhere/r.png"], r"there is no folder nowhere"),
        (["--model", "plain", "--out", "r.png", "--images", "0"], r"--images must be 1 or more; got 0"),
        *[
            (["--model", "plain", "--out", "r.png", *option.split()], message)
            for option, message in {
                "--guidance nan": r"--guidance must be a finite number; got nan",
                "--guidance inf": r"--guidance must be a finite number; got inf",
                "--height 64": r"DDIMPipeline takes no --height",
                "--height 0": r"--height must be 1 or more; got 0",
                "--width 64": r"DDIMPipeline takes no --width",
                "--frames 8": r"DDIMPipeline takes no --frames",
                "--negative-prompt blurred": r"DDIMPipeline takes no --negative-prompt",
                "--lora somewhere": r"DDIMPipeline takes no --lora",
                "--scheduler Euler": r"one that takes the place of DDIMScheduler: .*DDPMScheduler.* got Euler",
                "--revision main": r"a revision belongs to a model on the hub; plain is a folder",
                "--variant fp16": r"--model must be a diffusers pipeline, .* got plain: .*fp16",
                "--dtype int8": r"--dtype: invalid choice: 'int8'",
                "--offload": r"got --device cpu",
                "--shard 0/2": r"--shard: must be I/N, .* got 0/2",
                "--shard 3/2": r"got 3/2",
                "--shard 1/2": r"with --shard, --out must end in \.json or \.npz, .* got r\.png",
                "--prompts nothing.txt": r"nothing\.txt",
                "--preview no/where": r"there is no folder no",
                "--spectrum nothing.json": r"nothing\.json",
                "--spectrum 1 2": r"must hold 4 positive variances",
            }.items()
        ],
        (["--model", "words", "--out", "r.png", "--prompt", "a", "--prompts", "b"], r"not allowed with argument"),
        (
            ["--model", "words", "--out", "r.json", "--prompt", "a", "--images", "2", "--shard", "1/3"],
            r"cannot share 2",
        ),
        (
            ["--model", "words", "--out", "r.png", "--prompt", "a", "--lora", "none"],
            r"--lora must be weights .* got none",
        ),
        (["--model", "plain", "--out", "r.png", "--prompt", "a cat"], r"DDIMPipeline takes no --prompt"),
        (["--model", "plain", "--out", "r.png", "--guidance", "2"], r"DDIMPipeline takes no --guidance"),
        (["--model", "words", "--out", "r.png"], r"IFPipeline needs a --prompt"),
        (["--model", "./nothing", "--out", "r.png"], r"--model must be a diffusers pipeline, .* got \./nothing: "),
        (["--model", "plain/unet", "--out", "r.png"], r"got plain/unet: .*model_index\.json"),
    ],
)
def test_measure_refuses_a_mistake_before_it_measures(models, monkeypatch, capsys, argv, message):
    monkeypatch.chdir(models)
    assert re.search(message, failure(capsys, "measure", *argv))
    assert sorted(path.name for path in models.iterdir()) == ["plain", "words"]


SWITCH = ["switch", "--steps", "4", "--images", "3", "--batch", "2", "--seed", "5", "--guidance", "3"]
TWO = ["--prompt", "a photo of a cat", "--prompt", "a cat"]


def test_switch_answers_with_the_measured_growth_and_tries_it(models, capsys):
    _, first, _, second = TWO
    assert main([*SWITCH, "--model", str(models / "words"), *TWO, "--band", "4"]) == 0
    answer, *_, title, eight, four, two, one = capsys.readouterr().out.splitlines()
    pipeline = load_pipeline(models / "words")
    pipeline.set_progress_bar_config(disable=True)

    def drawn(prompt, guidance=3.0):
        settings = {"num_inference_steps": 4, "num_images_per_prompt": 3, "output_type": "pt"}
        settings["guidance_scale"] = guidance
        return pipeline(prompt, generator=tiny.generators(3, 5), **settings).images.numpy()

    with Chromatograph(pipeline) as meter:
        drawn(first, guidance=1.0)
    t = switch_time(meter.growth, 4)
    step = meter.timesteps.tolist().index(t) if t else 4
    assert answer == f"switch at timestep {t:g}, after {step} of 4 steps: {t / 1000:.3f} T"
    with PromptSchedule(pipeline, [first, second], heaviside(t / 1000)):
        switched = drawn(first)
    gained = 1 - predicted_share(meter.growth, np.array([t / 1000]), 1000.0)[:, 0]
    assert min(gained[2:]) >= 0.95
    kept = 1 - decided_share(switched, drawn(first), drawn(second)).share
    for line, *expected in zip([eight, four, two, one], gained, kept, strict=True):
        shown = [float(word.rstrip("%")) for word in line.split()[1:]]
        assert shown == pytest.approx([100 * each for each in expected], abs=0.1)
    assert [line.split()[0] for line in (title, eight, one)] == ["band", "8x8", "1x1"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model", "words", "--prompt", "a"], r"--prompt must come twice, .* got \['a'\]"),
        (["--model", "words", *["--prompt", "a"] * 2], r"--prompt must come twice, .* got \['a', 'a'\]"),
        (["--model", "plain", *TWO], r"DDIMPipeline takes no --prompt"),
        (["--model", "words", *TWO, "--band", "3"], r"one of 8x8, 4x4, 2x2; got 3x3"),
        (["--model", "words", *TWO, "--band", "16"], r"one of 8x8, 4x4, 2x2; got 16x16"),
        (["--model", "words", *TWO, "--steps", "0"], r"--steps must be 1 or more; got 0"),
        (["--model", "words", *TWO, "--steps", "1"], r"need two or more timesteps; got 1"),
        (["--model", "./nothing", *TWO], r"--model must be a diffusers pipeline"),
    ],
)
def test_switch_refuses_a_mistake(models, monkeypatch, capsys, argv, message):
    monkeypatch.chdir(models)
    assert re.search(message, failure(capsys, *SWITCH, "--band", "4", *argv))


CHROMATOGRAM = ["chromatogram", "--schedule", "cosine", "--size", "64", "--out"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], r"COMMAND"),
        (["tim"], r"invalid choice: 'tim'"),
        (["time", "--schedule", "cosine", "--level", "1"], r"required: --t"),
        (["time", "--schedule", "cosine", "--level", "one", "--t", "0"], r"invalid int value: 'one'"),
        (["time", "--sched", "cosine", "--level", "1", "--t", "0"], r"required: --schedule"),
        (["time", "--schedule", "cosine", "--level", "-1", "--t", "0.5"], r"level counts halvings .* got -1"),
        (["time", "--schedule", "cosine", "--level", "2000", "--t", "0.5"], r"at most 500; got 2000"),
        (["time", "--schedule", "cosine", "--level", "1", "--t", "1.5"], r"runs from 0 to 1; got times from 1\.5"),
        (["time", "--schedule", "cosine", "--level", "1", "--t", "nan"], r"runs from 0 to 1; got times from nan"),
        (["time", "--schedule", "cosin", "--level", "1", "--t", "0.5"], r"one of cosine, .* or the path .* got cosin"),
        (["time", "--schedule", "cosine", "--shift", "3", "--level", "1", "--t", "0"], r"--shift belongs to another"),
        (
            ["time", "--schedule", "flow_matching", "--shift", "-1", "--level", "1", "--t", "0"],
            r"must be finite and positive; got -1",
        ),
        ([*CHROMATOGRAM, "r.txt"], r"must end in \.png, \.svg, \.csv, \.json or \.npz; got r\.txt"),
        ([*CHROMATOGRAM, "nowhere/r.csv"], r"nowhere/r\.csv cannot be written: there is no folder nowhere"),
        ([*CHROMATOGRAM, "nowhere/r.json"], r"nowhere/r\.json cannot be written: there is no folder nowhere"),
        ([*CHROMATOGRAM, "r.csv", "--size", "64x"], r"--size: a number of pixels is needed, or HEIGHTxWIDTH; got 64x"),
        ([*CHROMATOGRAM, "r.csv", "--size", "0"], r"or HEIGHTxWIDTH; got 0"),
        ([*CHROMATOGRAM, "r.csv", "--spectrum", "1", "2"], r"spectrum must hold 7 positive variances"),
        ([*CHROMATOGRAM, "r.csv", "--until", "0"], r"--until must say a time after 0"),
        ([*CHROMATOGRAM, "r.csv", "--until", "3"], r"runs from 0 to 1; got times from 0 to 3"),
        ([*CHROMATOGRAM, "r.csv", "--schedule", "natural"], r"--until must say a time after 0"),
    ],
)
def test_a_mistake_gives_one_line_and_no_file(tmp_path, monkeypatch, capsys, argv, message):
    monkeypatch.chdir(tmp_path)
    assert re.search(message, failure(capsys, *argv))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "does not describe a diffusers scheduler"),
        ("[]", "does not describe a diffusers scheduler"),
        ("{}", "does not describe a diffusers scheduler: '_class_name'"),
        ('{"_class_name": "NoSuchScheduler"}', "NoSuchScheduler"),
        ('{"_class_name": "IPNDMScheduler"}', "alphas_cumprod .* got IPNDMScheduler"),
        ('{"_class_name": "DPMSolverSDEScheduler"}', "torchsde"),
        ('{"_class_name": "logging"}', "does not describe a diffusers scheduler: .*from_config"),
        (
            '{"_class_name": "DDPMScheduler", "beta_schedule": "wrong"}',
            "does not describe a diffusers scheduler: wrong is not implemented",
        ),
        ('{"_class_name": "UNet2DModel"}', "got UNet2DModel"),
    ],
)
def test_a_file_that_is_no_scheduler_is_refused(tmp_path, capsys, content, message):
    path = tmp_path / "scheduler_config.json"
    path.write_text(content)
    assert re.search(message, failure(capsys, "time", "--schedule", str(path), "--level", "1", "--t", "0.5"))


def test_a_picture_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch, capsys):
    from reschrom import plots

    class Broken:
        def savefig(self, path, **_: object) -> None:
            path.write_bytes(b"half a picture")
            raise OSError("the disk is full")

    monkeypatch.setattr(plots, "chromatogram", lambda _: Broken())
    (tmp_path / "r.png").write_bytes(b"an older picture")
    assert "the disk is full" in failure(capsys, *CHROMATOGRAM, str(tmp_path / "r.png"))
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
    assert f"reschrom {command[0]} --" in text if command else "reschrom time --help" in text


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
