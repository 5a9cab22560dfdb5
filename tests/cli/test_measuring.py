"""`reschrom measure` for real models: shards and processes that merge, runs that go on, every option, the preview."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from zoo import CASES
from zoo.videos import of_frames

from reschrom import Chromatogram, MeasuredSpectrum, load_pipeline
from reschrom.cli import drawing, measuring
from reschrom.cli.commands import main
from reschrom.pipelines.chromatograph import Chromatograph
from reschrom.plots.words import MOST_NATS
from reschrom.train.models import build
from reschrom.train.recipe import Recipe

# Some schedulers of diffusers turn tensors into arrays in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PROMPT = "a photo of a cat"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A tiny pipeline that reads prompts."""
    folder = tmp_path_factory.mktemp("models") / "words"
    recipe = Recipe(contents=("a cat",), size=8, channels=(8, 8), attentive=1, text_width=8, text_layers=1)
    build(recipe).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def command(model, tmp_path, monkeypatch):
    """The start of a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return ["measure", "--model", model, "--steps", "3", "--prompt", PROMPT]


def same(one: Chromatogram, two: Chromatogram) -> None:
    """Assert that two measurements are one up to rounding, intervals included.

    Each must have drawn the same batches, or one image at a time: networks round differently in other batches.
    """
    scale = two.rates.max()
    for a, b in ((one.rates, two.rates), (one.replicates, two.replicates)):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * scale)
    for a, b in zip(one.interval(), two.interval(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)
    assert (one.images, one.name, one.about) == (two.images, two.name, two.about)


@pytest.mark.slow
@pytest.mark.parametrize("guidance", ["1", "4"])
def test_ten_images_on_two_processes_merge_to_ten_on_one(command, guidance):
    """Growth is fitted to the mean over images, so that it merges only before that fit."""
    wanted = [*command, "--images", "10", "--batch", "1", "--guidance", guidance]
    assert main([*wanted, "--out", "one.json"]) == 0
    program = [sys.executable, "-m", "reschrom.cli", *wanted]
    parts = [subprocess.Popen([*program, "--shard", f"{i}/2", "--out", f"{i}.npz"], stderr=-1) for i in (1, 2)]
    assert [part.communicate()[1] for part in parts] == [b"", b""]
    assert main(["merge", "2.npz", "1.npz", "--out", "all.json"]) == 0
    same(Chromatogram.load("all.json"), Chromatogram.load("one.json"))
    assert Chromatogram.load("1.npz").images == 5
    assert main(["merge", "1.npz", "one.json", "--out", "no.json"]) == 2
    assert sorted(path.name for path in Path().iterdir()) == ["1.npz", "2.npz", "all.json", "one.json"]


@pytest.mark.slow
def test_accelerate_launch_shares_the_images_over_its_processes(command):
    wanted = [*command, "--images", "10", "--guidance", "4", "--batch", "1"]
    assert main([*wanted, "--out", "one.json"]) == 0
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--main_process_port", "0"]
    # As many threads as here: sums of another number of parts round otherwise.
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    program = [sys.executable, *launch, "-m", "reschrom.cli", *wanted, "--out", "two.json"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=True)
    assert " ".join(done.stdout.split()).count("Written to two.json") == 1
    same(Chromatogram.load("two.json"), Chromatogram.load("one.json"))
    assert sorted(path.name for path in Path().iterdir()) == ["one.json", "two.json"]


@pytest.mark.lasting
def test_what_was_stopped_goes_on_with_the_next_image(command, monkeypatch, capsys):
    wanted = [*command, "--images", "5", "--batch", "2", "--guidance", "4"]
    assert main([*wanted, "--out", "one.json"]) == 0
    drawn, draw = [], measuring.draw

    def stopped_at_the_third(*arguments, **settings):
        drawn.append(arguments[4])
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return draw(*arguments, **settings)

    monkeypatch.setattr(measuring, "draw", stopped_at_the_third)
    assert main([*wanted, "--out", "r.json"]) == 130
    assert "goes on from there" in capsys.readouterr().err
    kept = Path("r.json.part.npz")
    assert Chromatogram.load(kept).images == 4
    for change, message in {
        "--steps 4": r"r\.json\.part\.npz was measured with steps 3, not 4: finish that, or remove",
        "--guidance 5": r"with guidance 4\.0, not 5\.0",
        "--seed 1": r"with seed 0, not 1",
        "--images 3": r"with other --images or another --shard",
    }.items():
        assert main([*wanted, "--out", "r.json", *change.split()]) == 2
        assert re.search(message, capsys.readouterr().err)
    assert main([*wanted, "--out", "r.json"]) == 0
    assert drawn == [range(2), range(2, 4), range(4, 5), range(4, 5)]
    same(Chromatogram.load("r.json"), Chromatogram.load("one.json"))
    assert not kept.exists()


@pytest.mark.lasting
def test_every_prompt_is_drawn_as_often_and_no_batch_holds_two(command, monkeypatch):
    Path("prompts.txt").write_text(f"{PROMPT}\n\n  a cat  \n")
    drawn, draw = [], measuring.draw

    def seen(*arguments, **settings):
        drawn.append((arguments[2], arguments[4]))
        return draw(*arguments, **settings)

    monkeypatch.setattr(measuring, "draw", seen)
    options = ["--prompts", "prompts.txt", "--images", "3", "--batch", "2", "--shard", "2/2", "--out", "r.npz"]
    assert main([*command[:-2], *options]) == 0
    assert drawn == [("a cat", range(3, 5)), ("a cat", range(5, 6))]
    drawn.clear()
    assert main([*command[:-2], *options[:-4], "--shard", "1/4", "--out", "r.npz"]) == 0
    assert drawn == [(PROMPT, range(1))]


def test_two_prompts_are_measured_together(command, capsys):
    assert main([*command, "--prompt", "a cat", "--images", "2", "--out", "both.json"]) == 0
    both = Chromatogram.load("both.json")
    assert both.images == 4
    assert both.about["prompt"] == f"{PROMPT}\na cat"
    tokenizer = load_pipeline(command[2]).tokenizer
    lengths = [len(tokenizer(text).input_ids) for text in (PROMPT, "a cat")]
    assert float(both.about[MOST_NATS]) == pytest.approx(np.mean(lengths) * np.log(len(tokenizer)), abs=0.05)
    assert f"4 images of “{PROMPT}” and 1 more" in " ".join(capsys.readouterr().out.split())
    Path("empty.txt").write_text("\n \n")
    assert main([*command[:-2], "--prompts", "empty.txt", "--out", "r.json"]) == 2
    assert "one prompt a line; empty.txt has none" in capsys.readouterr().err


def test_the_options_reach_the_pipeline(command, monkeypatch):
    pipeline, seen = tiny.deepfloyd(), {}
    call = type(pipeline).__call__

    class Recording(type(pipeline)):
        def __call__(self, prompt=None, negative_prompt=None, height=None, width=None, guidance_scale=7.0, **settings):
            seen.update(prompt=prompt, negative=negative_prompt, height=height, width=width, guidance=guidance_scale)
            given = {"prompt_embeds": tiny.embedded(0), "negative_prompt_embeds": tiny.embedded(1)}
            return call(self, **given, guidance_scale=guidance_scale, **settings)

        def load_lora_weights(self, place, **settings):
            seen.update(lora=place, **settings)

    pipeline.__class__ = Recording
    monkeypatch.setattr(drawing, "load_pipeline", lambda *a, **settings: seen.update(settings) or pipeline)
    options = (
        "--negative-prompt blurred --height 8 --width 8 --guidance 3 --scheduler DPMSolverMultistepScheduler --lora add"
    )
    more = "--dtype bfloat16 --variant fp16 --revision main --images 1 --out r.json"
    assert main([*command, *options.split(), *more.split()]) == 0
    assert str(seen.pop("dtype")) == "torch.bfloat16"
    assert seen == {
        "prompt": PROMPT,
        "negative": "blurred",
        "height": 8,
        "width": 8,
        "guidance": 3.0,
        "lora": "add",
        "use_safetensors": True,
        "variant": "fp16",
        "revision": "main",
    }
    about = Chromatogram.load("r.json").about
    assert {
        "negative prompt": "blurred",
        "height": "8",
        "scheduler": "DPMSolverMultistepScheduler",
        "lora": "add",
    }.items() <= about.items()


def test_a_video_is_drawn_one_by_one_and_may_be_offloaded(command, monkeypatch, capsys):
    pipeline, seen = tiny.deepfloyd(), []
    call = type(pipeline).__call__

    class Video(type(pipeline)):
        def __call__(self, prompt=None, num_frames=1, num_inference_steps=50, output_type="pt", generator=None):
            seen.append(num_frames)
            given = {"prompt_embeds": tiny.embedded(0), "negative_prompt_embeds": tiny.embedded(1)}
            given |= {"generator": generator, "output_type": output_type}
            return call(self, **given, num_inference_steps=num_inference_steps)

        def enable_model_cpu_offload(self, device):
            seen.append(device)

    pipeline.__class__ = Video
    monkeypatch.setattr(drawing, "load_pipeline", lambda *a, **settings: pipeline)
    monkeypatch.setattr(drawing, "_check_device", lambda device: None)
    wanted = [*command, "--images", "2", "--frames", "5", "--device", "cuda", "--offload", "--out", "r.json"]
    assert main(wanted) == 2
    assert "Video draws one image at a time: give --batch 1" in capsys.readouterr().err
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert main([*wanted, "--batch", "1"]) == 0
    assert seen == ["cuda", "cuda:3", 5, 5]


@pytest.fixture
def videos(command, monkeypatch):
    """The start of a command that draws videos of five frames of latents; they differ by their seeds alone."""
    case = CASES["WanPipeline"]
    pipeline = case.build()
    call = type(pipeline).__call__

    class Video(type(pipeline)):
        def __call__(self, prompt=None, num_inference_steps=50, output_type="latent", generator=None):
            given = case.call(True, None, 1, num_inference_steps) | of_frames("WanPipeline", 5)
            return call(self, **given | {"generator": generator})

    pipeline.__class__ = Video
    monkeypatch.setattr(drawing, "load_pipeline", lambda *a, **settings: pipeline)
    return [*command, "--batch", "1", "--images"]


@pytest.mark.lasting
def test_temporal_bands_are_measured_where_they_are_asked_for(videos, capsys):
    assert main([*videos, "2", "--temporal", "--out", "motion.npz"]) == 0
    assert "temporal resolution" in " ".join(capsys.readouterr().out.split())
    assert main([*videos, "2", "--out", "frames.npz"]) == 0
    motion, frames = (Chromatogram.load(name) for name in ("motion.npz", "frames.npz"))
    assert motion.band_names == ["5 frames", "3 frames", "2 frames", "1 frame"]
    assert frames.band_names == ["8x8", "4x4", "2x2", "1x1"]
    # The same videos, whose guidance is divided along another axis.
    np.testing.assert_allclose(motion.rates.sum(axis=0), frames.rates.sum(axis=0), rtol=1e-5)
    for part in ("1", "2"):
        assert main([*videos, "2", "--temporal", "--shard", f"{part}/2", "--out", f"{part}.npz"]) == 0
    assert main(["merge", "1.npz", "2.npz", "--out", "all.html"]) == 0
    assert main(["merge", "1.npz", "2.npz", "--out", "all.json"]) == 0
    same(Chromatogram.load("all.json"), motion)
    assert "<span>5 frames</span>" in Path("all.html").read_text()
    capsys.readouterr()
    assert main(["merge", "1.npz", "frames.npz", "--out", "no.json"]) == 2
    assert "bands differs: temporal and None" in capsys.readouterr().err


def test_a_video_shows_its_middle_frame_in_the_report_and_the_preview(videos):
    assert main([*videos, "1", "--preview", "seen", "--out", "motion.html"]) == 0
    with Image.open("seen/step-003.png") as picture:
        assert picture.size == (8, 8)
    assert Path("motion.html").read_text().count("<img") == 2 * 3


def test_temporal_bands_of_what_has_none_are_refused(command, capsys):
    assert main([*command, "--images", "1", "--temporal", "--out", "r.json"]) == 2
    assert re.search(r"^reschrom: only videos have temporal bands; \w+ makes images\n$", capsys.readouterr().err)
    with pytest.raises(SystemExit):
        main([*command, "--temporal", "--spectrum", "1", "4", "--out", "r.json"])
    assert "--spectrum: not allowed with argument --temporal" in capsys.readouterr().err
    assert not any(Path().iterdir())


LESS = " (a smaller --batch, --dtype float16 or --offload takes less)"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("sizes do not\nmatch"), ": sizes do not match"),
        (RuntimeError("out of memory"), f"{LESS}: out of memory"),
        (
            torch.OutOfMemoryError("too large"),
            f"{LESS}: too large",
        ),
        (MemoryError(), f"{LESS}: "),
        (AssertionError("no"), ": no"),
        (KeyError("height"), ": 'height'"),
        (ZeroDivisionError("division by zero"), ": division by zero"),
    ],
)
def test_what_fails_while_drawing_is_told_in_one_line(command, monkeypatch, capsys, error, told):
    class Broken(type(tiny.ddim())):
        def __call__(self, batch_size=1, num_inference_steps=50, generator=None, output_type="pt"):
            raise error

    pipeline = tiny.ddim()
    pipeline.__class__ = Broken
    monkeypatch.setattr(drawing, "load_pipeline", lambda *a, **s: pipeline)
    assert main([*command[:-2], "--out", "r.json"]) == 2
    assert capsys.readouterr().err == f"reschrom: Broken does not draw with these settings{told}".rstrip() + "\n"


def test_a_pipeline_that_needs_more_than_a_prompt_is_refused(command, monkeypatch, capsys):
    class Needy(type(tiny.ddim())):
        def __call__(self, image, batch_size=1, num_inference_steps=50):
            raise AssertionError

    pipeline = tiny.ddim()
    pipeline.__class__ = Needy
    monkeypatch.setattr(drawing, "load_pipeline", lambda *a, **s: pipeline)
    assert main([*command[:-2], "--out", "r.json"]) == 2
    assert "Needy needs `image`, which has no option here" in capsys.readouterr().err


def test_the_preview_is_a_file_for_every_step_and_nothing_else(command):
    assert main([*command, "--images", "3", "--batch", "2", "--preview", "seen", "--out", "r.csv"]) == 0
    assert sorted(path.name for path in Path("seen").iterdir()) == [f"step-{step:03d}.png" for step in (1, 2, 3)]
    with Image.open("seen/step-003.png") as picture:
        assert picture.size == (8, 8)
    assert sorted(path.name for path in Path().iterdir()) == ["r.csv", "seen"]


def test_the_preview_of_a_latent_model_is_decoded():
    from reschrom.pipelines.latents import pictured

    latents = np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)
    assert pictured(tiny.stable_diffusion(), latents).shape == (1, 3, 16, 16)
    pixels = np.full((1, 3, 8, 8), 0.5, np.float32)
    np.testing.assert_array_equal(pictured(tiny.ddim(), pixels), pixels)


def test_time_left_is_what_all_that_is_left_will_take():
    assert measuring._left(60.0, 4, 8) == ", 0:02:00 left in all"
    assert measuring._left(0.0, 0, 8) == ""


def test_a_spectrum_beside_the_paper_must_be_one(command, capsys):
    assert main([*command, "--images", "2", "--spectrum", "0.1", "1", "4", "16", "--out", "r.svg"]) == 0
    assert Path("r.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.lasting
def test_what_does_not_merge_is_refused(command, capsys):
    assert main([*command, "--images", "1", "--out", "a.json"]) == 0
    assert main([*command, "--images", "1", "--guidance", "2", "--out", "b.json"]) == 0
    MeasuredSpectrum(np.ones(2), np.ones(2), np.ones(2), 2, 2).save("s.json")
    Path("bad.json").write_text("{}")
    capsys.readouterr()
    for files, message in {
        "a.json a.json": r"image 0 comes twice",
        "a.json b.json": r"guidance differs: 7\.0 and 2\.0",
        "a.json s.json": r"s\.json holds a spectrum and others do not",
        "a.json bad.json": r"bad\.json does not hold a chromatogram",
        "a.json gone.json": r"gone\.json",
        "s.json s.json": r"\.json holds too little",
    }.items():
        assert main(["merge", *files.split(), "--out", "all.json"]) == 2
        assert re.search(message, capsys.readouterr().err), files
    assert not Path("all.json").exists()


def test_the_command_leaves_the_images_as_they_are(command, monkeypatch):
    """What is measured is what the pipeline draws alone."""
    drawn, draw = [], measuring.draw
    monkeypatch.setattr(measuring, "draw", lambda *a, **s: drawn.append(draw(*a, **s)))
    assert main([*command, "--images", "2", "--preview", "seen", "--out", "r.json"]) == 0
    pipeline = drawing.loaded(command[2])
    pipeline.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": 3, "num_images_per_prompt": 2, "output_type": "pt"}
    with Chromatograph(pipeline) as meter:
        alone = pipeline(PROMPT, generator=tiny.generators(2), **settings).images
    assert np.array_equal(drawn[0].numpy(), alone.numpy())
    np.testing.assert_allclose(Chromatogram.load("r.json").rates, meter.chromatogram.rates, rtol=1e-6)


@pytest.mark.lasting
def test_a_file_is_json_that_others_can_read(command):
    assert main([*command, "--images", "1", "--out", "r.json"]) == 0
    content = json.loads(Path("r.json").read_text())
    assert set(content) == {"name", "size", "edges", "rates", "replicates", "about", "source"}
