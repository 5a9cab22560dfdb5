"""What users draw of a measurement: the report, opened from disk in a browser, and the figure with its ridge."""

import base64
import csv
import html
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import diffusers
import numpy as np
import pytest
import tiny
import torch

from reschrom import Chromatogram, Chromatograph, Schedule, load_pipeline, plots
from reschrom.plots.chromatograms import scaled_shares
from reschrom.plots.report import png
from reschrom.plots.words import MOST_NATS, fall, nats, paragraph, short, words
from reschrom.theory.intervals import StreamingMean
from reschrom.theory.source import Source

STEPS = 12
ABOUT = {"model": "some/model", "prompt": "a <b>bold</b> & “curious” cat", "steps": str(STEPS), "guidance": "4.0"}


@pytest.fixture(scope="module")
def measured() -> Chromatogram:
    """A measurement that follows the paper's formula, with noise between images."""
    schedule, edges = Schedule.cosine(), np.linspace(0.0, 1.0, STEPS + 1)
    rates = Chromatogram.predicted(schedule, 8, edges=edges).rates
    energies = StreamingMean()
    energies.add(rates * np.random.default_rng(0).exponential(size=(20, *rates.shape)), 0)
    return Chromatogram.measured(Source(energies, schedule.alpha(edges)), edges, 8, "guidance", ABOUT)


@pytest.fixture(scope="module")
def sample() -> plots.Sample:
    pictures = list(np.random.default_rng(0).uniform(-1, 1, (8, 3, 16, 16)))
    return plots.Sample(np.linspace(0.95, 0.05, 8).tolist(), pictures, pictures[::-1])


@pytest.fixture(scope="module")
def page(measured, sample) -> str:
    return plots.report(measured, [measured.expected(), measured.expected([0.1, 1.0, 4.0, 16.0])], sample)


def test_the_ridge_is_the_mean_level_and_its_interval_holds_it(measured):
    expected = (np.arange(4) @ measured.shares).round(12)
    np.testing.assert_allclose(measured.ridge(), expected, rtol=1e-9)
    low, high = measured.ridge_interval()
    assert np.all((low <= measured.ridge()) & (measured.ridge() <= high))
    empty = Chromatogram(measured.rates * (np.arange(STEPS) > 2), measured.edges, 8, "some")
    np.testing.assert_array_equal(np.isnan(empty.ridge()), np.arange(STEPS) <= 2)
    np.testing.assert_array_equal(scaled_shares(empty).max(axis=0), np.arange(STEPS) > 2)


def test_a_measurement_knows_what_theory_expects_in_its_place(measured):
    again = Chromatogram.predicted(Schedule.cosine(), 8, edges=measured.edges)
    np.testing.assert_array_equal(measured.expected().rates, again.rates)
    with pytest.raises(ValueError, match=r"only a measurement of a Chromatograph knows"):
        again.expected()


class Parsed(HTMLParser):
    """What a page refers to, and the alternative texts of its pictures."""

    def __init__(self, text):
        super().__init__()
        self.places, self.texts, self.opened = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.opened.append(tag)
        self.places += [given[name] for name in ("src", "href") if name in given]
        self.texts += [given.get("alt")] if tag == "img" else []


def test_the_page_holds_all_it_shows_and_refers_to_nothing_else(page, measured):
    parsed = Parsed(page)
    assert all(place.startswith("data:") for place in parsed.places)
    assert not re.search(r"https?://|@import|url\(", page)
    assert len(parsed.texts) == 16
    assert all(
        re.fullmatch(r"The (noised image|model's estimate of the image) at timestep 0\.\d+", t) for t in parsed.texts
    )
    assert "<b>" not in page
    assert "a &lt;b&gt;bold&lt;/b&gt; &amp; “curious” cat" in page
    content = {
        place.partition(";")[0]: base64.b64decode(place.partition(",")[2]) for place in parsed.places if "," in place
    }
    table = list(csv.DictReader(io.StringIO(content["data:text/csv"].decode())))
    assert len(table) == 4 * STEPS
    assert float(table[0]["share"]) == measured.shares[0, 0]
    assert float(table[0]["lower"]) <= measured.shares[0, 0] <= float(table[0]["upper"])


def test_the_data_of_the_page_is_a_chromatogram(page, measured, tmp_path):
    (content,) = re.findall(r'download="chromatogram\.json" href="data:application/json;base64,([^"]*)"', page)
    (tmp_path / "c.json").write_bytes(base64.b64decode(content))
    np.testing.assert_array_equal(Chromatogram.load(tmp_path / "c.json").rates, measured.rates)
    assert Chromatogram.load(tmp_path / "c.json").about == ABOUT


def test_a_page_without_replicates_strip_and_theories_stands_too():
    page = plots.report(Chromatogram.predicted(Schedule.cosine(), 4, edges=np.linspace(0, 1, 5)))
    assert "<img" not in page
    assert page.count("<tr>") == 4


@pytest.mark.parametrize(
    ("name", "start"), [("guidance", "The prompt steers model from"), ("growth", "model generates")]
)
def test_words_name_the_model_the_measurement_and_the_prompt(measured, name, start):
    said = words(measured.named(name))
    assert said.headline.startswith(start)
    assert re.search("1x1|2x2", said.headline)
    assert "8x8" in said.headline
    assert f"mean over 20 images of “{ABOUT['prompt']}”, {STEPS} steps, guidance 4.0" in said.facts
    text = paragraph(measured, measured.expected())
    assert text.count("±") == 4
    assert "\n" not in text
    assert "The paper's formula expects 1x1 at" in text
    assert short("x" * 80 + "\nb\nc") == f"“{'x' * 59}…” and 2 more"


@pytest.mark.parametrize(
    ("most", "end"),
    [(None, r"nats, half of them by timestep [01]\.$"), (0.1, r"is not the prompt\.$"), (1e6, r"at most\.$")],
)
def test_guidance_is_told_in_nats_beside_what_the_prompt_can_say(measured, most, end):
    about = measured.about if most is None else {**measured.about, MOST_NATS: str(most)}
    guided = replace(measured, source=replace(measured.source, guidance=True), about=about)
    text = paragraph(guided)
    assert f"adds up to {guided.information().total:.0f} ± " in text
    assert re.search(end, text)
    assert ("The tokens of the prompt say" in text) == (most is not None)
    assert "nats" not in paragraph(measured)
    assert text.endswith(nats(guided))
    assert html.escape(nats(guided)) in plots.report(guided)


def test_a_last_step_that_tells_most_is_named(measured):
    edges = measured.edges
    for last, named in ((1e4, True), (1.0, False)):
        energies = StreamingMean()
        energies.add(np.ones((20, 4, STEPS)) * np.where(np.arange(STEPS) == 1, last, 1), 0)  # step 0 ends in the image
        source = Source(energies, measured.source.alphas, guidance=True)
        said = nats(Chromatogram.measured(source, edges, 8, "guidance"))
        assert ("in the last step alone" in said) == named


def ddim():
    return tiny.stable_diffusion_xl(scheduler=diffusers.DDIMScheduler())


@pytest.mark.lasting
@pytest.mark.parametrize(
    ("build", "steps", "named"),
    [(tiny.stable_diffusion_3, 10, True), (tiny.stable_diffusion_3, 28, True), (ddim, 28, False)],
)
def test_a_flow_whose_guidance_is_in_the_last_step_is_told_so(build, steps, named):
    pipeline = build()  # the other one predicts the noise, whose error has no end in units of the noise
    pipeline.set_progress_bar_config(disable=True)
    text = {"prompt_embeds": tiny.embedded(1), "negative_prompt_embeds": tiny.embedded(2)}
    pooled = {name.replace("prompt", "pooled_prompt"): each[:, 0] for name, each in text.items()}
    with Chromatograph(pipeline) as meter:
        pipeline(**text, **pooled, num_inference_steps=steps, height=16, width=16, output_type="latent")
    told = meter.chromatogram.information()
    nats_of_steps = told.rates.sum(axis=0) * np.diff(told.log_snr)
    alone = nats_of_steps[-1] / nats_of_steps.sum()
    assert (alone > 0.25) == named
    assert (f" {alone:.0%} of them are in the last step alone" in nats(meter.chromatogram)) == named


@pytest.mark.lasting
def test_the_figure_has_a_title_that_says_something_one_colour_bar_and_no_label_outside(measured, tmp_path):
    figure = plots.ridge_map(measured, [measured.expected()])
    assert figure.get_suptitle().startswith("The prompt steers model")
    axes, bar = figure.axes
    assert "of the largest at its time" in bar.get_ylabel()
    assert axes.get_xlim() == (1.0, 0.0)
    figure.savefig(tmp_path / "r.png")
    box = figure.get_tightbbox()
    assert (box.x0, box.y0) >= (0, 0)
    assert box.x1 <= figure.get_figwidth() + 1e-6
    assert [line.get_linestyle() for line in axes.lines] == ["--", "-"]


def test_a_picture_is_averaged_down_and_grey_stays_grey():
    from PIL import Image

    with Image.open(io.BytesIO(png(np.zeros((3, 64, 32)), 16))) as picture:
        assert (picture.size, picture.mode) == ((8, 16), "RGB")
    with Image.open(io.BytesIO(png(np.full((1, 4, 4), 2.0)))) as picture:
        assert (picture.mode, picture.getpixel((0, 0))) == ("L", 255)


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_from_disk_without_a_request_or_a_complaint(new_context, page, tmp_path, width, scheme):
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    complaints, requests = [], []
    with new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True) as context:
        shown = context.new_page()
        shown.on("console", lambda message: complaints.append(message.text))
        shown.on("pageerror", lambda error: complaints.append(str(error)))
        shown.on("request", lambda request: requests.append(request.url))
        shown.goto(path.as_uri())
        assert shown.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
        shown.locator("#map").focus()
        shown.keyboard.press("Home")
        assert shown.locator("#when").text_content() == "Shares at timestep 1"
        shown.keyboard.press("End")
        shown.keyboard.press("ArrowRight")
        box = shown.locator("#map").bounding_box()
        shown.mouse.move(box["x"] + box["width"] - 1, box["y"] + 5)
        assert shown.locator("#when").text_content() == "Shares at timestep 0"
        assert re.search(r"\d %  \([\d.]+ to [\d.]+\)", shown.locator("#readout").text_content())
        visible = shown.locator(".strip img:visible").count()
        dark = shown.evaluate("getComputedStyle(document.body).backgroundColor")
        with shown.expect_download() as started:
            shown.get_by_text("shares.csv").click()
        assert started.value.suggested_filename == "shares.csv"
    assert visible == (16 if width > 600 else 8)
    assert (dark == "rgb(19, 17, 24)") == (scheme == "dark")
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]


@pytest.mark.lasting
@pytest.mark.parametrize(("kind", "told"), [("epsilon", False), ("v_prediction", True)])
def test_a_growth_that_is_mostly_fall_is_told(kind, told):
    pipeline = load_pipeline("data/models/pocket-lowres-16")
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, prediction_type=kind)
    with Chromatograph(pipeline) as meter:
        pipeline(batch_size=2, num_inference_steps=8, generator=torch.Generator().manual_seed(0), output_type="np")
    text = paragraph(meter.growth)
    assert bool(re.search(r"Beware: \d+% of the variance of the energies measured is fall", text)) == told
    assert not fall(meter.growth) or text.endswith(fall(meter.growth))
    assert not fall(meter.changes)
