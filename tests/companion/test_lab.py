"""The schedule lab: its numbers against the package, in node and in headless Chromium, and its page driven by hand."""

import contextlib
import functools
import http.server
import inspect
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.colors
import numpy as np
import pytest

from reschrom import Chromatogram, Schedule, band_spectrum, chromatography, generated_signal, matched_time, photos
from reschrom.cli.schedules import CONSTRUCTORS, PARAMETERS
from reschrom.design.timesteps import designed_timesteps
from reschrom.plots import band_colours
from reschrom.theory.shares import predicted_share
from reschrom.theory.spectrum import MeasuredSpectrum

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "book" / "_static"
CORE = (STATIC / "schedule-lab-core.js").read_text()
PAGE = (ROOT / "book" / "schedule-lab.md").read_text()
BLOCKS = "\n".join(re.findall(r"^```\{raw\} html\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
DATA = json.loads(re.search(r'id="lab-data">(.*?)</script>', BLOCKS, re.DOTALL)[1])
PHOTOGRAPHS = {int(size): values for size, values in DATA["photographs"].items()}

CASES = [
    ("cosine", {}),
    ("cosine", {"s": 0.0}),
    ("cosine", {"s": 0.15}),
    ("linear", {}),
    ("linear", {"beta_start": 0.001, "beta_end": 60.0}),
    ("scaled_linear", {}),
    ("scaled_linear", {"beta_start": 2.0, "beta_end": 5.5}),
    ("sigmoid", {}),
    ("sigmoid", {"start": 0.0, "end": 3.0, "temperature": 0.3}),
    ("flow_matching", {}),
    ("flow_matching", {"shift": 0.4}),
    ("flow_matching", {"shift": 7.5}),
    ("natural", {"until": 12.0}),
    ("natural", {"until": 3.0}),
]
PARTS = [0.0, 1e-9, 1e-4, 0.013, 0.1, 0.25, 0.5, 0.731, 0.9, 0.99, 0.9999, 1.0]  # of the time axis
# JSON has no infinity, which the signal-to-noise ratio of an image is.
TOLD = "(value) => JSON.stringify(value, (_, each) => (Math.abs(each) === Infinity ? `${each}` : each))"
NUMBERS = """([texts, parts, photographs]) => {
  const { schedule, bands } = ScheduleLab.read(texts, photographs);
  const noise = schedule.alpha(schedule.end);
  return parts.map((part) => part * schedule.end).map((t) => ({
    alpha: schedule.alpha(t), snr: schedule.snr(t), tau: bands.map((_, m) => schedule.tau(t, m)),
    shares: ScheduleLab.shares(schedule.alpha(t), bands), kept: ScheduleLab.kept(schedule.alpha(t), bands, noise),
  }));
}"""
# As `reschrom spectrum` writes it.
SPECTRUM_FILE = ROOT / "data" / "reference" / "fruit-16-spectrum.json"
VIEWS = [
    {},
    {"schedule": "linear", "beta_end": "30", "size": "16", "levels": "2", "t": "0.437", "view": "stacked"},
    {"schedule": "sigmoid", "start": "-2.5", "spectrum": "photographs", "size": "256", "steps": "5"},
    {"schedule": "scaled_linear", "beta_start": "1e-7", "spectrum": "photographs", "levels": "4", "equal": "signal"},
    {"schedule": "natural", "until": "9.5", "t": "0.12345678901234567", "steps": "50"},
    {"schedule": "flow_matching", "shift": "3", "spectrum": "pasted", "size": "8", "variances": "0.1, 2e-1 7e22 [1.5]"},
    {"spectrum": "pasted", "size": "16", "variances": SPECTRUM_FILE.read_text()},
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["node", "chromium"])
def engine(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Call a JavaScript function beside the lab's numbers with a list of arguments, and return what each gives."""
    if request.param == "node":
        if shutil.which("node") is None:
            pytest.skip("no node: it is not on the path")

        def run(function: str, arguments: list[Any]) -> list[Any]:
            told = f"{CORE}\nprocess.stdout.write(({TOLD})({json.dumps(arguments)}.map({function})))"
            return json.loads(subprocess.run(["node"], input=told, capture_output=True, text=True, check=True).stdout)

        yield run
    else:
        with request.getfixturevalue("new_context")() as context:
            tab = context.new_page()
            tab.add_script_tag(content=CORE)
            yield lambda function, arguments: json.loads(
                tab.evaluate(f"(each) => ({TOLD})(each.map({function}))", arguments)
            )


def as_texts(name: str, settings: dict[str, float], **others: Any) -> dict[str, str]:
    return {key: str(value) for key, value in {"schedule": name, **settings, **others}.items()}


def built(name: str, settings: dict[str, float]) -> Schedule:
    return CONSTRUCTORS[name](**{key: value for key, value in settings.items() if key != "until"})


def merged(variances: list[float], levels: int) -> list[float]:
    """Variances of the band pyramid of `levels` levels, whose last band holds the energy of all coarser ones."""
    most = len(variances) - 1
    sizes = np.array([*(0.75 * 4.0 ** (most - m) for m in range(most)), 1.0])
    return [*variances[:levels], float(np.average(variances[levels:], weights=sizes[levels:]))]


def test_schedules_parameters_and_words_are_those_of_the_package(engine: Any) -> None:
    (known,) = engine("() => ScheduleLab.SCHEDULES", [None])
    usual = {name: {key: each["usual"] for key, each in known[name]["parameters"].items()} for name in known}
    assert usual.pop("natural").keys() == {"until"}
    assert CONSTRUCTORS["natural"]().end == np.inf
    expected = {name: inspect.signature(make).parameters for name, make in CONSTRUCTORS.items() if name != "natural"}
    assert usual == {name: {key: each.default for key, each in given.items()} for name, given in expected.items()}
    words = {key: meaning.split(": ")[-1] for key, meaning in PARAMETERS.items()}
    assert {key: meaning for key, meaning in DATA["meanings"].items() if key != "until"} == words


def test_bands_are_coloured_as_in_every_figure() -> None:
    expected = [[matplotlib.colors.to_hex(each) for each in band_colours(2**levels)] for levels in range(9)]
    assert DATA["colours"] == expected


def test_the_spectrum_of_photographs_is_what_the_page_says_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exec(code, {})
    np.testing.assert_allclose(PHOTOGRAPHS[64], json.loads(capsys.readouterr().out), rtol=5e-4)
    wider = photos("photographs", 84, 128, generator=np.random.default_rng(0))
    np.testing.assert_allclose(PHOTOGRAPHS[128], band_spectrum(wider), rtol=5e-4)
    np.testing.assert_allclose(merged(PHOTOGRAPHS[128], 3), band_spectrum(wider, 3), rtol=1e-3)
    assert {side: len(values) for side, values in PHOTOGRAPHS.items()} == {2**m: m + 1 for m in range(3, 9)}


def test_numbers_are_those_of_the_package(engine: Any) -> None:
    wanted = [(name, settings, size, levels, spectrum)
              for name, settings in CASES
              for size, levels in [(8, 3), (16, 4), (32, 5), (64, 6), (64, 2), (128, 7), (256, 8)]
              for spectrum in ("paper", "photographs", "pasted")]  # fmt: skip
    own = [4.0**m / (1 + m) for m in range(9)]
    arguments = [
        [
            as_texts(name, settings, size=size, levels=levels, spectrum=spectrum, variances=own[: levels + 1]),
            PARTS,
            PHOTOGRAPHS,
        ]
        for name, settings, size, levels, spectrum in wanted
    ]
    same = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)

    @functools.cache
    def clocks(index: int) -> tuple[np.ndarray, ...]:
        name, settings = CASES[index]
        schedule = built(name, settings)
        t = np.array(PARTS) * settings.get("until", 1.0)
        return schedule.alpha(t), schedule.snr(t), np.array([matched_time(schedule, t, m) for m in range(9)])

    for (name, settings, size, levels, spectrum), rows in zip(wanted, engine(NUMBERS, arguments), strict=True):
        alpha, snr, tau = clocks(CASES.index((name, settings)))
        variances = {"paper": None, "photographs": merged(PHOTOGRAPHS[size], levels), "pasted": own[: levels + 1]}
        given = variances[spectrum]
        same([row["alpha"] for row in rows], alpha)
        np.testing.assert_allclose([float(row["snr"]) for row in rows], snr, rtol=1e-9)
        same(np.transpose([row["tau"] for row in rows]), tau[: levels + 1])
        same(np.transpose([row["shares"] for row in rows]), chromatography(alpha, levels, given))
        signal = generated_signal(alpha, levels, given, since=alpha[-1])
        same(np.transpose([row["kept"] for row in rows]), signal / signal[:, :1])


def test_what_is_kept_is_what_the_second_prompt_is_not_predicted_to_decide(engine: Any) -> None:
    (rows,) = engine(NUMBERS, [[{"schedule": "linear"}, [0.2, 0.5, 0.83], {}]])
    chromatogram = Chromatogram.predicted(Schedule.linear(), 64, edges=np.linspace(0, 1, 101))
    decided = predicted_share(chromatogram, np.array([0.2, 0.5, 0.83]), 1.0)
    np.testing.assert_allclose(np.transpose([row["kept"] for row in rows]), 1 - decided, atol=1e-9)


@pytest.mark.parametrize("equal", ["error", "signal"])
def test_timesteps_are_those_that_the_package_designs(engine: Any, equal: str) -> None:
    named = [(name, settings) for name, settings in CASES if name != "natural"]
    arguments = [as_texts(name, settings, equal=equal, steps=steps) for name, settings in named for steps in (5, 27)]
    chosen = engine(
        "(texts) => { const { schedule, bands, steps, equal } = ScheduleLab.read(texts, {});"
        " return ScheduleLab.wholeTimesteps(ScheduleLab.designedTimesteps(schedule, bands, steps, equal)); }",
        arguments,
    )
    for texts, timesteps in zip(arguments, chosen, strict=True):
        unit = built(texts["schedule"], {key: float(texts[key]) for key in texts if key in PARAMETERS})
        # Timestep i of a scheduler is t = (i + 1) / 1000, and -1 is the image.
        schedule = Schedule(
            "thousand",
            -1.0,
            999.0,
            lambda i, xp, unit=unit: unit._log_snr((i + 1) / 1000, xp),
            lambda log_snr, xp, unit=unit: unit._time(log_snr, xp) * 1000 - 1,
        )
        chromatogram = Chromatogram.predicted(schedule, 64)
        assert timesteps == designed_timesteps(chromatogram, schedule, int(texts["steps"]), equal=equal), texts


def test_whole_timesteps_come_once_and_leave_room(engine: Any) -> None:
    crowds = [[1.0, 0.9999, 0.9998, 0.5], [0.003, 0.002, 0.001, 0.0005], [1 - k / 1e6 for k in range(1000)]]
    for whole in engine("(times) => ScheduleLab.wholeTimesteps(times)", crowds):
        assert whole[0] <= 999
        assert whole[-1] >= 0
        assert np.all(np.diff(whole) < 0)


def test_an_address_reads_back_to_the_same_view(engine: Any) -> None:
    generator = np.random.default_rng(0)
    drawn = [{"s": repr(float(generator.gamma(1))), "t": repr(float(generator.uniform()))} for _ in range(20)]
    function = """([texts, photographs]) => {
      const view = ScheduleLab.read(texts, photographs);
      const address = ScheduleLab.address(view);
      const again = ScheduleLab.read(ScheduleLab.texts("#" + address), photographs);
      return [address, JSON.stringify(view), JSON.stringify(again)];
    }"""
    found = engine(function, [[texts, PHOTOGRAPHS] for texts in [*VIEWS, *drawn]])
    assert [view for _, view, _ in found] == [again for _, _, again in found]
    assert found[0][0] == ""
    assert found[1][0] == "schedule=linear&beta_end=30&size=16&levels=2&t=0.437&view=stacked"
    assert found[5][0] == "schedule=flow_matching&shift=3&size=8&spectrum=pasted&variances=0.1,0.2,7e22,1.5"
    measured = MeasuredSpectrum.load(SPECTRUM_FILE).variance
    assert found[6][0] == "size=16&spectrum=pasted&variances=" + ",".join(map(repr, measured.tolist()))


def test_the_python_code_gives_what_is_shown(engine: Any) -> None:
    function = """([texts, photographs]) => {
      const view = ScheduleLab.read(texts, photographs);
      const { schedule, bands, t } = view;
      const curves = ScheduleLab.grid(schedule, ScheduleLab.POINTS).map((t) => [
        schedule.alpha(t), schedule.tau(t, bands.length - 1), ...ScheduleLab.shares(schedule.alpha(t), bands)]);
      const kept = ScheduleLab.kept(schedule.alpha(t), bands, schedule.alpha(schedule.end));
      const times = ScheduleLab.designedTimesteps(schedule, bands, view.steps, view.equal);
      return [ScheduleLab.python(view), curves, kept, ScheduleLab.timestepList(view), times];
    }"""
    kinds = set()
    for code, curves, kept, timesteps, times in engine(function, [[texts, PHOTOGRAPHS] for texts in VIEWS]):
        names: dict[str, Any] = {}
        exec(f"{code}\n{timesteps}", names)
        expected = np.vstack([names["alpha"], names["tau"][-1], names["shares"]])
        np.testing.assert_allclose(np.transpose(curves), expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(kept, names["kept"], rtol=1e-9, atol=1e-9)
        kind = next(key for key in ("timesteps", "sigmas", "times") if key in names)
        kinds.add(kind)
        listed = np.array(names[kind], dtype=float)
        np.testing.assert_allclose(listed if kind != "timesteps" else (listed + 1) / 1000, times, atol=5.1e-4)
    assert kinds == {"timesteps", "sigmas", "times"}


BAD = [
    ({"s": "-1"}, "s", "s must be 0 or more; got -1"),
    ({"s": "much"}, "s", "s must be a number; got much"),
    ({"s": ""}, "s", "s must be a number; got nothing"),
    ({"schedule": "linear", "beta_start": "30"}, "beta_start", "must be positive and grow; got 30, 20"),
    ({"schedule": "sigmoid", "temperature": "0"}, "temperature", "temperature positive; got -3, 3, 0"),
    ({"schedule": "flow_matching", "shift": "1e999"}, "shift", "shift must be a number; got 1e999"),
    ({"schedule": "sigmoid", "temperature": "1e-9"}, "temperature", "a computer cannot hold"),
    ({"schedule": "square"}, "schedule", "schedule must be one of cosine, linear"),
    ({"size": "100"}, "size", "size must be one of 8, 16, 32, 64, 128, 256; got 100"),
    ({"levels": "7"}, "levels", "levels must be 1 to 6; got 7"),
    ({"t": "1.2"}, "t", "t must be a time from 0 to 1; got 1.2"),
    ({"steps": "2.5"}, "steps", "steps must be a whole number from 1 to 1000; got 2.5"),
    ({"view": "pie"}, "view", "view must be lines or stacked; got pie"),
    ({"equal": "all"}, "equal", "equal must be error or signal; got all"),
    ({"spectrum": "pink"}, "spectrum", "spectrum must be paper or photographs or pasted; got pink"),
    ({"spectrum": "pasted"}, "variances", "expected 7 positive numbers, finest band first; got nothing"),
    (
        {"spectrum": "pasted", "variances": "1 2 3"},
        "variances",
        "expected 7 positive numbers, finest band first; got 3",
    ),
    ({"spectrum": "pasted", "variances": "1 2 x 4 5 6 7"}, "variances", "finest band first; got x"),
    ({"spectrum": "pasted", "variances": "1 2 0 4 5 6 7"}, "variances", "finest band first; got 0"),
]


def test_bad_settings_are_told_in_one_line_at_their_field(engine: Any) -> None:
    function = """(texts) => {
      try { ScheduleLab.read(texts, {}); } catch (error) { return [error.field, error.message]; }
      return ["", "accepted"];
    }"""
    for (texts, field, message), found in zip(BAD, engine(function, [texts for texts, _, _ in BAD]), strict=True):
        assert found[0] == field, (texts, found)
        assert message in found[1]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serve files without a line for each request."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page's own blocks in the plainest page there is, at the place that they have in the book."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(STATIC, folder / "_static")
    (folder / "book").mkdir()
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
    page = f'<!doctype html><html lang="en">{head}<style>* {{ box-sizing: border-box }}</style>{BLOCKS}'
    (folder / "book" / "schedule-lab.html").write_text(page, encoding="utf-8")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@contextlib.contextmanager
def opened(new_context: Any, site: str, address: str = "", **settings: Any) -> Iterator[Any]:
    """Open the lab; afterwards it must have said nothing and asked for nothing from elsewhere."""
    complaints: list[str] = []
    with new_context(**{"viewport": {"width": 1000, "height": 900}, **settings}) as context:
        tab = context.new_page()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda r: complaints.append(r.url) if not r.url.startswith((site, "data:")) else None)
        tab.goto(f"{site}book/schedule-lab.html{address}")
        yield tab
        assert complaints == []


def hash_of(tab: Any, holds: str) -> str:
    """Return the address after #, once it holds these words."""
    tab.wait_for_function(f"location.hash.includes({json.dumps(holds)})")
    return str(tab.evaluate("location.hash"))


def shown(tab: Any) -> list[Any]:
    """Everything that the reader sees and can copy, but for the address."""
    return tab.evaluate(
        """() => [...document.querySelectorAll("#lab svg, #lab tbody, #lab pre, #lab-title, .lab-error")]
          .map((each) => each.innerHTML)
          .concat([...document.querySelectorAll("#lab :is(input, select, textarea):not(#lab-link)")]
            .map((each) => `${each.id} ${each.value} ${each.checked}`))"""
    )


def test_every_control_works_and_the_address_brings_the_view_back(new_context: Any, site: str) -> None:
    with opened(new_context, site) as tab:
        assert tab.locator("#lab svg .curve").count() == 7 + 1 + 1 + 7
        assert tab.locator("#lab-title").text_content() == (
            "Switched at t = 0.5, 8x8 and coarser keep 95 % of the first prompt"
        )
        first = shown(tab)
        tab.select_option("#lab-schedule", "sigmoid")
        assert tab.locator(".lab-parameters .lab-field").count() == 3
        tab.fill("#lab-temperature", "0.7")
        tab.locator("[data-slides=start]").focus()
        tab.keyboard.press("ArrowLeft")
        assert float(tab.input_value("#lab-start")) < -3
        tab.fill("#lab-start", "-2.5")
        tab.select_option("#lab-size", "32")
        tab.select_option("#lab-levels", "4")
        assert tab.locator("tbody th").all_text_contents() == ["32x32", "16x16", "8x8", "4x4", "2x2"]
        tab.select_option("#lab-spectrum", "pasted")
        assert tab.input_value("#lab-variances") == "1, 4, 16, 64, 256"
        tab.fill("#lab-variances", "0.02 0.1 0.5\n2.5 11.5")
        tab.get_by_text("stacked").click()
        assert tab.locator("#lab-shares .area").count() == 5
        tab.fill("#lab-steps", "10")
        tab.select_option("#lab-equal", "signal")
        assert len(re.findall(r"\d+,", tab.text_content("#lab-timesteps"))) == 10
        tab.fill("#lab-t", "0.3217")
        assert tab.locator("#lab-title").text_content().startswith("Switched at t = 0.3217")
        found = hash_of(tab, "0.3217")
        assert dict(pair.split("=") for pair in found[1:].split("&")) == {
            "schedule": "sigmoid", "start": "-2.5", "temperature": "0.7", "size": "32", "levels": "4", "t": "0.3217",
            "spectrum": "pasted", "variances": "0.02,0.1,0.5,2.5,11.5", "steps": "10", "equal": "signal",
            "view": "stacked",
        }  # fmt: skip
        assert tab.input_value("#lab-link").endswith(found)
        tab.evaluate("document.activeElement.blur()")
        tab.fill("#lab-variances", "0.02,0.1,0.5,2.5,11.5")
        before = shown(tab)
        assert before != first
        with opened(new_context, site, found) as again:
            assert shown(again) == before
        tab.evaluate("location.hash = 'size=64'")
        tab.wait_for_function("document.querySelector('#lab-schedule').value === 'cosine'")
        assert shown(tab)[:8] == first[:8]


def test_the_switch_follows_keys_mouse_and_finger(new_context: Any, site: str) -> None:
    with opened(new_context, site, has_touch=True) as tab:
        tab.locator("#lab-switch").focus()
        for key, t in [("ArrowLeft", "0.51"), ("ArrowRight", "0.5"), ("Shift+ArrowRight", "0.4"), ("PageDown", "0.5")]:
            tab.keyboard.press(key)
            assert tab.input_value("#lab-t") == t, key
        for key, t, share in [("Home", "1", "0.0 %"), ("End", "0", "100.0 %")]:
            tab.keyboard.press(key)
            assert tab.input_value("#lab-t") == t
            assert tab.locator(".lab-kept > span:last-child").all_text_contents() == [share] * 7
        for name in ("shares", "alpha", "snr", "tau"):  # noise is at the left
            box = tab.locator(f"#lab-{name}").bounding_box()
            tab.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + box["height"] / 2)
            tab.mouse.down()
            early = float(tab.input_value("#lab-t"))
            tab.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + box["height"] / 2)
            tab.mouse.up()
            assert 0.7 < early < 0.9
            assert 0.1 < float(tab.input_value("#lab-t")) < 0.3
            line, _ = tab.get_attribute(f"#lab-{name} .rule", "d").split(",")
            scale = box["width"] / float(tab.get_attribute(f"#lab-{name}", "viewBox").split()[2])
            assert float(line[1:]) * scale == pytest.approx(0.8 * box["width"], abs=1)
        box = tab.locator("#lab-shares").bounding_box()
        tab.touchscreen.tap(box["x"] + 0.5 * box["width"], box["y"] + 100)
        assert 0.4 < float(tab.input_value("#lab-t")) < 0.6
        thumb = tab.locator("#lab-switch").bounding_box()
        tab.mouse.click(thumb["x"] + 0.25 * thumb["width"], thumb["y"] + thumb["height"] / 2)
        assert 0.7 < float(tab.input_value("#lab-t")) < 0.8


def test_a_bad_number_is_told_beside_its_field_and_the_old_figure_fades(new_context: Any, site: str) -> None:
    with opened(new_context, site, "#spectrum=pasted&variances=1,2") as tab:
        message = "expected 7 positive numbers, finest band first; got "
        assert tab.locator(".lab-error:not(:empty)").all_text_contents() == [f"{message}2"]
        assert tab.get_attribute("#lab-variances", "aria-invalid") == "true"
        assert tab.get_attribute("#lab-variances", "aria-describedby") == "lab-variances-error"
        assert float(tab.evaluate("getComputedStyle(document.querySelector('.lab-card')).opacity")) < 0.5
        tab.fill("#lab-variances", "1 2 3 4 five 6 7")
        assert tab.locator(".lab-error:not(:empty)").all_text_contents() == [f"{message}five"]
        tab.fill("#lab-variances", "1 2 3 4 5 6 7")
        assert tab.locator(".lab-error:not(:empty)").count() == 0
        assert tab.locator("[aria-invalid]").count() == 0
        assert hash_of(tab, "5,6,7") == "#spectrum=pasted&variances=1,2,3,4,5,6,7"
        tab.evaluate("location.hash = 'schedule=natural&t=13&view=stacked'")
        tab.wait_for_function("document.querySelector('#lab-t-error').textContent.endsWith('from 0 to 12; got 13')")
        tab.fill("#lab-t", "3")
        assert tab.locator("#lab-shares .area").count() == 7  # and not only the switch has moved
        assert tab.locator("#lab-tau text").all_text_contents()[:3] == ["0", "6", "12"]
        for address, field in [("#size=100", "size"), ("#schedule=constructor", "schedule"), ("#steps=0", "steps")]:
            tab.evaluate(f"location.hash = '{address}'")
            tab.wait_for_function(f"document.querySelector('#lab-{field}-error').textContent.includes('; got ')")
            assert tab.locator(".lab-error:not(:empty)").count() == 1


def test_what_is_shown_can_be_copied(new_context: Any, site: str) -> None:
    with opened(new_context, site, "#size=16", permissions=["clipboard-read", "clipboard-write"]) as tab:
        for source, words in [
            ("python", "Schedule.cosine(s=0.008)"),
            ("timesteps", "timesteps = ["),
            ("link", "#size=16"),
        ]:
            button = tab.locator(f"[data-copies='#lab-{source}']")
            tab.wait_for_function("document.querySelector('#lab-link').value.includes('size=16')")
            button.click()
            tab.wait_for_function(f"document.querySelector(\"[data-copies='#lab-{source}']\").textContent === 'copied'")
            assert words in tab.evaluate("navigator.clipboard.readText()")


def test_the_keyboard_reaches_every_control_and_shows_where_it_is(new_context: Any, site: str) -> None:
    with opened(new_context, site, "#schedule=linear&spectrum=photographs") as tab:
        seen = []
        for _ in range(30):
            tab.keyboard.press("Tab")
            found = tab.evaluate(
                """() => { const e = document.activeElement;
                  const mark = e.type === "radio" ? e.nextElementSibling : e; // what the reader sees of it
                  const labelled = e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim();
                  return [e.id || e.name || e.dataset.slides || e.dataset.copies, getComputedStyle(mark).outlineStyle,
                    Boolean(labelled), e.tagName]; }"""
            )
            if found[3] == "BODY":
                break
            seen.append(found)
        names = [name for name, *_ in seen]
        assert {"lab-schedule", "lab-size", "lab-levels", "lab-spectrum", "beta_start", "lab-beta_end", "view"} <= {
            *names
        }
        assert {"lab-switch", "lab-t", "lab-steps", "lab-equal", "lab-link", "#lab-python", "#lab-link"} <= {*names}
        assert [each for each in seen if not each[2]] == []
        # Chromium draws the ring of a slider on its thumb, which no script can see.
        assert [each for each in seen if each[1] == "none" and each[0] != "lab-switch"] == []


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_it_fits_a_phone_and_a_desk(new_context: Any, site: str, width: int) -> None:
    address = "#schedule=sigmoid&size=256&spectrum=photographs&t=0.1"
    with opened(new_context, site, address, viewport={"width": 700, "height": 800}) as tab:
        tab.set_viewport_size({"width": width, "height": 800})
        tab.wait_for_function(
            "[...document.querySelectorAll('#lab svg')].every((e) => e.viewBox.baseVal.width === e.clientWidth)"
        )
        facts = tab.evaluate(
            """() => ({
              over: document.scrollingElement.scrollWidth - innerWidth,
              cut: [...document.querySelectorAll("#lab *")].filter((e) => e.getClientRects().length
                && e.getBoundingClientRect().right > innerWidth + 1 && !e.closest("pre")).map((e) => e.outerHTML),
              small: [...document.querySelectorAll("#lab :is(select, button, input:not([type=radio]))")]
                .filter((e) => e.getClientRects().length && e.clientHeight < 24).map((e) => e.outerHTML),
            })"""
        )
        assert facts == {"over": 0, "cut": [], "small": []}


@pytest.mark.slow
def test_without_scripts_a_figure_stands_in_its_place(new_context: Any, site: str) -> None:
    with opened(new_context, site, java_script_enabled=False) as tab:
        assert tab.locator("#lab").inner_html() == ""
    inside = re.search(r"<noscript>\n```\n(.*?)```\{raw\} html\n</noscript>", PAGE, re.DOTALL)[1]
    assert re.search(r"```\{figure\} figures/fig-theoretical-chromatogram.svg\n:alt: \w+( \S+){4}", inside)
