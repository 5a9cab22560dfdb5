"""The page *Explore a run*: what is recorded, and that the page shows what was recorded of the shipped model."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import TINY

from reschrom import from_bands, load_pipeline
from reschrom._files import file_hashes
from reschrom.companion.reference import hero, run
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
def records(model):
    pipeline = load_pipeline(str(model))
    pipeline.set_progress_bar_config(disable=True)
    return run.recorded(pipeline, PROMPTS[0], images=2, steps=4, guidance=2.0, seed=0)


def test_a_recording_says_what_each_step_shares_and_adds(records):
    kept, _, numbers = records
    assert len(kept) == len(numbers["timesteps"]) == 4
    assert numbers["timesteps"] == sorted(numbers["timesteps"], reverse=True)
    assert numbers["growth"][0] is None
    assert np.array(numbers["guidance"]).shape == (4, 5)
    # Shares are rounded to four digits, so five of them sum to 1 within 2.5e-4.
    np.testing.assert_allclose(np.sum(numbers["guidance"], axis=1), 1, atol=2.5e-4)
    energy = np.array([np.square(record.guidance.astype(np.float64)).sum(axis=(1, 2, 3)).mean() for record in kept])
    assert np.all(np.diff(numbers["nats"]) >= 0)
    # Nats rise in proportion to the energy of a step and its length in log SNR, so none is told where there is none.
    assert (np.array(numbers["nats"])[0] > 0) == (energy[0] > 0)


def test_a_sheet_holds_the_noised_image_the_estimate_guidance_and_bands_that_sum_to_the_estimate(records):
    kept = records.records
    pixels = run.sheet(kept, 1)
    assert pixels.shape == (8 * 16, 4 * 16, 3)
    cells = pixels.reshape(8, 16, 4, 16, 3).transpose(2, 0, 4, 1, 3)  # steps, rows, channels, height, width
    for step, record in enumerate(kept):
        estimate = np.clip(record.estimate[1], -1, 1)
        np.testing.assert_allclose(cells[step, 1] / 127.5 - 1, estimate, atol=0.51 / 127.5)
        # The coarsest band is drawn as it is.
        np.testing.assert_allclose(
            cells[step, 7] / 127.5 - 1, np.broadcast_to(estimate.mean((1, 2), keepdims=True), estimate.shape), atol=0.01
        )
    split = run.bands(kept[2].estimate[1])
    np.testing.assert_allclose(from_bands(split), kept[2].estimate[1], atol=1e-5)
    finest = cells[:, 3] / 127.5 - 1
    scale = np.quantile(np.abs([run.bands(record.estimate[1])[0] for record in kept]), 1)
    # One scale for all steps: the ratio of drawn and true is the same wherever it is not cut off.
    true = np.stack([run.bands(record.estimate[1])[0] for record in kept])
    inside = (np.abs(finest) < 0.9) & (np.abs(true) > 0.2 * scale)
    ratio = finest[inside] / true[inside]
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=0.05)


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
            assert sheet.size == (3 * 16, 8 * 16)


def test_what_ships_was_recorded_of_the_model_that_ships():
    held = read(SHIPPED)
    assert held["weights"] == file_hashes(ROOT / held["model"])
    assert len(held["runs"]) == 12
    # What the page says of all of them: log 48 nats are passed within the first half of the run.
    assert held["possible"] == round(np.log(48), 3)
    assert all(each["nats"][len(each["nats"]) // 2 - 1] > held["possible"] for each in held["runs"])
    assert {path.name for path in SHIPPED.glob("*.webp")} == {each["sheet"] for each in held["runs"]}
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 3 * 2**20


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


def test_the_moving_picture_ends_in_its_still_one(model, tmp_path):
    asked = ["--prompt", PROMPTS[0], "--images", "2", "--steps", "3", "--out", str(tmp_path)]
    hero.main([str(model), *asked])
    with Image.open(tmp_path / "hero.webp") as moving, Image.open(tmp_path / "hero.png") as still:
        assert moving.n_frames == 3
        assert moving.info["loop"] == 0  # for ever
        first = np.asarray(moving.convert("RGB"), float)
        moving.seek(2)
        last, end = np.asarray(moving.convert("RGB"), float), np.asarray(still.convert("RGB"), float)
    assert last.shape == end.shape
    # WebP loses a little; another frame differs by far more.
    assert np.abs(last - end).mean() < 0.2 * np.abs(first - end).mean()
