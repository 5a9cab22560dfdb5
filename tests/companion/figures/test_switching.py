"""Figures of switched prompts show each picture at its switch and each share in its band; their page runs at scale."""

import numpy as np
import pytest
import tiny
import yaml
from pages import run_page
from transformers import CLIPTokenizer

from reschrom import Chromatogram, DecidedShare, Schedule
from reschrom.companion import figures
from reschrom.theory.intervals import Interval

ETA = [1.0, 0.5, 0.0]
RNG = np.random.default_rng(0)


def pictures(figure):
    return [axes for axes in figure.axes if axes.get_images()]


def test_a_picture_stands_under_the_time_of_its_switch():
    paper = Chromatogram.predicted(Schedule.cosine(), 8, edges=np.linspace(0, 1, 11))
    images = list(RNG.uniform(-1, 1, (3, 3, 8, 8)))
    figure = figures.switched_prompts(
        [paper, paper], {"a": images, "b": images}, ETA, 1.0, ("photo", "painting"), "title"
    )
    heat = figure.axes[0]
    assert heat.get_xlim() == (1, 0)
    for axes, eta in zip(pictures(figure), ETA * 2, strict=True):
        middle = np.mean([axes.get_position().x0, axes.get_position().x1])
        under = heat.transData.transform((eta, 0))[0] / (figure.get_figwidth() * figure.dpi)
        assert middle == pytest.approx(under, abs=1e-3)
        box = axes.get_window_extent()
        assert box.width == pytest.approx(box.height)
    shown = np.asarray(pictures(figure)[1].get_images()[0].get_array())
    np.testing.assert_allclose(shown, np.moveaxis(images[1], 0, -1) / 2 + 0.5)
    words = [text.get_text() for text in figure.texts]
    assert [word.split("\n")[2] for word in words if "eta" in word] == ["painting", "", "photo"]


def test_a_table_has_a_row_for_each_subject_and_shows_three_channels_of_latents():
    rows = {"cat": list(RNG.uniform(-1, 1, (2, 4, 8, 8))), "dog": list(RNG.uniform(-1, 1, (2, 3, 8, 8)))}
    figure = figures.prompt_table(rows, ["first", "second"], "title")
    assert [axes.get_title(loc="center") for axes in figure.axes] == ["first", "second", "", ""]
    assert [axes.get_ylabel() for axes in figure.axes] == ["cat", "", "dog", ""]
    for axes, image in zip(figure.axes, [*rows["cat"], *rows["dog"]], strict=True):
        shown = np.asarray(axes.get_images()[0].get_array())
        np.testing.assert_allclose(shown, np.moveaxis(image[:3], 0, -1) / 2 + 0.5)
    with pytest.raises(ValueError, match="zip"):
        figures.prompt_table(rows, ["first"], "title")


def test_every_band_has_its_own_panel_of_decided_shares():
    eta = np.array([0.0, 0.5, 1.0])
    shares = RNG.uniform(size=(3, 3))  # switches, bands
    spread = 0.1 * RNG.uniform(-1, 1, (3, 200, 3))
    measured = [DecidedShare(share, share + each, 8) for share, each in zip(shares, spread, strict=True)]
    theory = RNG.uniform(size=(3, 3))
    names = ["4x4", "2x2", "1x1"]
    predicted = {"paper": ("paper", theory), "field": ("theory", theory / 2)}
    figure = figures.decided_panels(eta, {"guided": measured}, predicted, names, "title")
    panels = figure.axes[:3]
    assert [axes.get_title(loc="left") or axes.get_title() for axes in panels] == names
    assert panels[0].get_xlim() == (1, 0)
    for band, axes in enumerate(panels):
        lines = {line.get_label(): line for line in axes.get_lines()}
        np.testing.assert_array_equal(lines["guided"].get_ydata(), shares[:, band])
        np.testing.assert_array_equal(lines["paper"].get_ydata(), theory[band])
        assert lines["guided"].get_linestyle() == "-"
        (interval,) = axes.collections
        ends = interval.get_paths()[0].get_extents()
        bounds = np.array([[bound[band] for bound in each.interval()] for each in measured])
        assert (ends.y0, ends.y1) == pytest.approx((bounds.min(), bounds.max()))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["paper", "field", "guided"]


def test_half_decided_switches_stand_in_the_rows_of_their_bands():
    names = ["4x4", "2x2", "1x1"]
    half, theory = np.array([0.2, 0.5, 0.8]), np.array([0.4, 0.7, 0.9])
    interval = Interval(half - 0.1, half + 0.05)
    predicted = {"paper": ("paper", theory), "field": ("theory", theory / 2), "own": ("theory", theory / 3)}
    figure = figures.times_by_resolution({"guided": (half, interval)}, predicted, names, "switch", "title")
    (axes,) = figure.axes
    assert axes.get_xlim() == (1, 0)
    assert [label.get_text() for label in axes.get_yticklabels()] == names[::-1]
    rows = dict(zip(names, [2, 1, 0], strict=True))
    lines = {line.get_label(): line for line in axes.get_lines()}
    np.testing.assert_array_equal(lines["paper"].get_xdata(), theory)
    np.testing.assert_array_equal(lines["paper"].get_ydata(), list(rows.values()))
    np.testing.assert_array_equal(lines["guided"].get_xdata(), half)
    assert lines["field"].get_color() != lines["own"].get_color()
    (reaches,) = axes.collections
    ends = np.array([path.vertices[:, 0] for path in reaches.get_paths()])
    np.testing.assert_allclose(ends, np.transpose(interval))


@pytest.fixture(scope="module")
def hub_id(tmp_path_factory):
    """A folder of the classes and the scheduler of Stable Diffusion v1-5, as a hub id would be downloaded."""
    folder = tmp_path_factory.mktemp("hub") / "tiny-sd"
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "a", "n</w>", *"hdoilp"]
    tokenizer = CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=4)
    pipeline = tiny.stable_diffusion()
    pipeline.register_modules(tokenizer=tokenizer)
    pipeline.save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
def test_the_page_runs_at_the_papers_settings(hub_id, root, monkeypatch):
    monkeypatch.chdir(root)
    page = "figures/prompt-switching"
    profile = yaml.safe_load((root / "profiles" / "paper.yaml").read_text())[page]
    assert profile["model_id"] == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    small = {"model_id": hub_id, "device": "cpu", "precision": "float32", "steps": 4, "more": ["cat"]}
    # Its tokenizer reads two letters, so only styles differ.
    small |= {"further": 0, "exchanged": [["A HD photo of a cat", "An oil painting of a cat"]]}
    source = root / "notebooks" / f"{page}.md"
    # All figures but the one of a model in pixels, which the paper's settings have not.
    assert len(run_page(source, {**profile, **small})) == source.read_text(encoding="utf-8").count("mystnb:") - 1
