"""The page *Explore a run*: what is recorded, and that the page shows what was recorded of the shipped model."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from tiny import TINY, embedded

from reschrom import Chromatograph, bands, from_bands, load_pipeline
from reschrom._files import file_hashes
from reschrom.companion.reference import hero, run
from reschrom.train import Recipe
from reschrom.train.models import build

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "book" / "_static" / "explore"
PROMPTS = ["a photo of coffee", "a pencil sketch of china"]


def read(folder: Path) -> dict:
    return json.loads((folder / "runs.js").read_text(encoding="utf-8").removeprefix("const RECORDED = ")[:-2])


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build(TINY).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pipeline(model):
    pipeline = load_pipeline(str(model))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def records(pipeline):
    return run.recorded(pipeline, PROMPTS[0], images=2, steps=4, guidance=2.0, seed=0)


def test_a_recording_says_what_each_step_shares_and_tells(records):
    kept, _, numbers = records
    assert len(kept) == len(numbers["timesteps"]) == 4
    assert numbers["timesteps"] == sorted(numbers["timesteps"], reverse=True)
    assert np.array(numbers["guidance"]).shape == (4, 5)
    # Shares are rounded to four digits, so five of them sum to 1 within 2.5e-4.
    np.testing.assert_allclose(np.sum(numbers["guidance"], axis=1), 1, atol=2.5e-4)
    energy = np.array([np.square(record.guidance.astype(np.float64)).sum(axis=(1, 2, 3)).mean() for record in kept])
    assert np.all(np.diff(numbers["nats"]) >= 0)
    # Nats rise in proportion to the energy of a step and its length in log SNR, so none is told where there is none.
    assert (np.array(numbers["nats"])[0] > 0) == (energy[0] > 0)


def test_pixels_are_shown_as_they_are_and_averaged_up_to_each_resolution(pipeline, records):
    kept = records.records
    seen = run.views(pipeline, kept, 1)
    assert len(seen.resolutions) == 5
    for step, record in enumerate(kept):
        np.testing.assert_allclose(seen.noised[step], np.clip(record.x_t[1] / 1.5, -1, 1), atol=1e-6)
        np.testing.assert_allclose(seen.unguided[step], record.unguided[1], atol=1e-6)
        split = bands(record.estimate[1])
        for level, shown in enumerate(seen.resolutions):  # the sum of the bands up to a resolution
            without_finer = [np.zeros_like(band) if m < level else band for m, band in enumerate(split)]
            np.testing.assert_allclose(shown[step], from_bands(without_finer), atol=1e-5)


def test_latents_are_decoded_at_their_own_intensity_and_after_they_were_averaged():
    pipeline = tiny.stable_diffusion()
    with Chromatograph(pipeline, keep="bands") as meter:
        pipeline(
            prompt_embeds=embedded(1),
            negative_prompt_embeds=embedded(2),
            num_inference_steps=3,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
        )

    def decode(latents):
        scaled = torch.from_numpy(latents) / pipeline.vae.config.scaling_factor + pipeline.vae.config.shift_factor
        return pipeline.vae.decode(scaled).sample.detach().clip(-1, 1).numpy()

    seen = run.views(pipeline, meter.kept, 0)
    assert len(seen.resolutions) == 4  # of latents of 8x8
    for step, record in enumerate(meter.kept):
        np.testing.assert_allclose(seen.noised[step], decode(record.x_t)[0], atol=1e-5)
        np.testing.assert_allclose(seen.unguided[step], decode(record.unguided)[0], atol=1e-5)
        np.testing.assert_allclose(seen.resolutions[0][step], decode(record.estimate)[0], atol=1e-5)
        mean = np.broadcast_to(record.estimate.mean((2, 3), keepdims=True), record.estimate.shape)
        np.testing.assert_allclose(seen.resolutions[3][step], decode(mean.copy())[0], atol=1e-5)


def test_a_sheet_has_a_row_for_each_view_and_a_column_for_each_step(pipeline, records):
    seen = run.views(pipeline, records.records, 0)
    pixels = run.sheet(seen)
    assert pixels.shape == (7 * 16, 4 * 16, 3)
    cells = pixels.reshape(7, 16, 4, 16, 3).transpose(0, 2, 4, 1, 3)  # rows, steps, channels, height, width
    for row, shown in zip(cells, (seen.noised, seen.unguided, *seen.resolutions), strict=True):
        np.testing.assert_allclose(row / 127.5 - 1, shown, atol=0.51 / 127.5)


def test_the_command_writes_a_sheet_for_each_prompt_and_the_numbers_of_all(model, tmp_path):
    given = ["--prompts", *PROMPTS, "--captions", "6", "--images", "2", "--steps", "3", "--out", str(tmp_path / "out")]
    run.main([str(model), *given])
    held = read(tmp_path / "out")
    assert [each["prompt"] for each in held["runs"]] == PROMPTS
    assert held["possible"] == round(np.log(6), 3)
    assert held["weights"] == file_hashes(model)
    for each in held["runs"]:
        with Image.open(tmp_path / "out" / each["sheet"]) as sheet:
            assert sheet.format == "WEBP"
            assert sheet.size == (3 * 16, 7 * 16)


def test_what_ships_was_recorded_of_the_model_that_ships():
    held = read(SHIPPED)
    assert held["weights"] == file_hashes(ROOT / held["model"])
    assert len(held["runs"]) == 12
    captions = Recipe.load(ROOT / "data" / "pocket-sd-64.yaml").captions
    chosen = [each["prompt"] for each in held["runs"]]
    assert chosen == [captions[index % 3 * 12 + index] for index in range(12)]
    assert held["possible"] == round(np.log(len(captions)), 3)
    for each in held["runs"]:  # what the page says of all of them
        assert held["possible"] / 2 < each["nats"][-1] < 2 * held["possible"]
        levels = np.array(each["guidance"]) @ np.arange(len(each["guidance"][0]))
        assert levels[0] > levels[-1]  # the ridge ends at a finer resolution than it begins at
        with Image.open(SHIPPED / each["sheet"]) as sheet:
            cells = np.asarray(sheet.convert("RGB"), float).reshape(7, 64, 25, 64, 3)
        apart = np.abs(cells[1] - cells[2]).mean((0, 2, 3))  # with and without the prompt
        assert apart[0] > 2 * apart[12]
    assert {path.name for path in SHIPPED.glob("*.webp")} == {each["sheet"] for each in held["runs"]}
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 1.5 * 2**20


def test_the_page_shows_the_step_that_is_chosen(new_context, book_html):
    held, missing = read(SHIPPED), []
    page = new_context(viewport={"width": 390, "height": 800}).new_page()
    page.on("pageerror", lambda error: missing.append(str(error)))
    # Of its own files; the theme's fonts may be given up when a page is left before they are read.
    page.on("requestfailed", lambda request: missing.extend(re.findall("/explore/.*", request.url)))
    page.goto((book_html / "book" / "explore.html").as_uri())
    picture = page.locator(".explore-frame").nth(1)
    said = page.locator('[data-part="says"]')
    page.locator('[data-part="prompt"]').select_option(label=held["runs"][3]["prompt"])
    page.locator('[data-part="step"]').focus()
    page.keyboard.press("End")
    last = len(held["runs"][3]["timesteps"])
    assert f"Step {last} of {last}" in said.inner_text()
    assert held["runs"][3]["sheet"] in picture.evaluate("each => each.style.backgroundImage")
    assert picture.evaluate("each => each.style.backgroundPosition").startswith("100%")
    page.keyboard.press("ArrowLeft")
    nats = float(re.search(r"adds up to ([\d.]+) nats", said.inner_text())[1])
    assert nats == pytest.approx(held["runs"][3]["nats"][-2], abs=0.051)
    page.locator('[data-part="map"]').click(position={"x": 60, "y": 10})
    assert "Step 1 of" in said.inner_text()
    page.locator('[data-part="play"]').click()
    page.wait_for_function("document.querySelector('[data-part=step]').value > 0")
    assert not missing


@pytest.mark.lasting
def test_the_still_picture_is_the_middle_of_the_moving_one(model, tmp_path):
    asked = ["--prompt", PROMPTS[0], "--images", "2", "--steps", "3", "--out", str(tmp_path)]
    hero.main([str(model), *asked])
    with Image.open(tmp_path / "hero.webp") as moving, Image.open(tmp_path / "hero.png") as still:
        assert moving.n_frames == 3
        assert moving.info["loop"] == 0  # for ever
        first = np.asarray(moving.convert("RGB"), float)
        moving.seek(1)
        middle, end = np.asarray(moving.convert("RGB"), float), np.asarray(still.convert("RGB"), float)
    assert middle.shape == end.shape
    # WebP loses a little; another frame differs by far more.
    assert np.abs(middle - end).mean() < 0.2 * np.abs(first - end).mean()
