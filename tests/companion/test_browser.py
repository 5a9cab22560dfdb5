"""The rendered book, opened page by page in headless Chromium, and its links followed without one."""

import functools
import http.server
import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from bs4 import BeautifulSoup

import reschrom
from reschrom.companion.build.ledger import EQUATIONS
from reschrom.companion.build.pages import contents

PAGES = contents(Path(__file__).parents[2] / "_toc.yml")
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 375, "height": 800}
CHROMATOGRAPHY = "notebooks/theory/chromatography"

pytestmark = pytest.mark.slow


@dataclass
class Visit:
    """What one page did while it was open: complaints, requests, and what its scripts found in it."""

    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    wide: dict[str, Any] = field(default_factory=dict)
    narrow: dict[str, Any] = field(default_factory=dict)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serve files without a line for each request."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(book_html: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(book_html)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def visits(new_context: Any, site: str) -> dict[str, Visit]:
    with new_context() as context:
        return {page: visit(context, site, page) for page in PAGES}


FACTS = """async () => {
  const main = document.querySelector("main");
  const shown = (element) => element.getClientRects().length > 0;
  const all = (selector) => [...main.querySelectorAll(selector)];
  const scrolls = (element) => {
    for (; element && element !== document.body; element = element.parentElement)
      if (["auto", "scroll"].includes(getComputedStyle(element).overflowX)) return true;
    return false;
  };
  const past = (element) => element.getBoundingClientRect().right > innerWidth + 1;
  // The browser's own account of what clipping leaves of each box: what is hidden from the eye cannot be cut.
  const painted = (elements) => elements.length === 0 ? [] : new Promise((resolve) => {
    const observer = new IntersectionObserver((entries) => {
      observer.disconnect();
      resolve(entries.filter(({ intersectionRect: { width, height } }) => width > 1 && height > 1)
        .map(({ target }) => target)
        .filter((element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true })));
    }, { root: document, rootMargin: "1000000px" });
    for (const element of elements) observer.observe(element);
  });
  const cut = await painted(all("*").filter((element) => shown(element) && past(element) && !scrolls(element)));
  return {
    theme: document.documentElement.dataset.theme,
    background: getComputedStyle(document.body).backgroundColor,
    language: document.documentElement.lang,
    headings: all("h1, h2, h3, h4, h5, h6").filter(shown).map((h) => [Number(h.tagName[1]), h.textContent]),
    images: all("img").map((image) => [image.getAttribute("src"), image.alt, image.naturalWidth]),
    plain: all(".math").filter((element) => !element.querySelector("mjx-container")).map((e) => e.textContent),
    wrong: all("[data-mjx-error], mjx-merror").map((e) => e.dataset.mjxError || e.textContent),
    red: all("mjx-container [mathcolor=red], mjx-container [style*='color: red']").map((e) => e.outerHTML),
    overflow: document.scrollingElement.scrollWidth - innerWidth,
    cut: cut.map((element) => element.outerHTML.slice(0, 200)),
  };
}"""


def visit(context: Any, site: str, page: str) -> Visit:
    """Open a page wide and light, look at it, then make it narrow and dark and look again."""
    seen = Visit()
    tab = context.new_page()
    tab.set_viewport_size(WIDE)
    tab.emulate_media(color_scheme="light")
    tab.on("console", lambda m: seen.complaints.append(m.text) if m.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: seen.complaints.append(str(error)))
    tab.on("request", lambda r: seen.foreign.append(r.url) if not r.url.startswith((site, "data:")) else None)
    tab.goto(f"{site}{page}.html")
    typeset(tab)
    seen.wide = tab.evaluate(FACTS)
    tab.set_viewport_size(NARROW)
    tab.emulate_media(color_scheme="dark")
    tab.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    seen.narrow = tab.evaluate(FACTS)
    tab.close()
    return seen


def typeset(tab: Any) -> None:
    """Wait until MathJax, where a page has it, has typeset everything."""
    tab.evaluate("async () => { if (window.MathJax) await MathJax.startup.promise }")


@functools.cache
def parsed(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(), "html.parser")


@functools.cache
def identifiers(path: Path) -> set[str]:
    return {element["id"] for element in parsed(path).find_all(id=True)}


@pytest.mark.parametrize("page", PAGES)
class TestPage:
    def test_is_quiet_and_stays_at_home(self, visits: dict[str, Visit], page: str) -> None:
        assert visits[page].complaints == []
        assert visits[page].foreign == []

    def test_mathematics_is_typeset_without_errors(self, visits: dict[str, Visit], page: str) -> None:
        facts = visits[page].wide
        assert (facts["plain"], facts["wrong"], facts["red"]) == ([], [], [])

    def test_has_one_title_and_headings_in_order(self, visits: dict[str, Visit], page: str) -> None:
        levels = [level for level, _ in visits[page].wide["headings"]]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), levels
        assert visits[page].wide["language"] == "en"

    def test_pictures_load_and_are_described(self, visits: dict[str, Visit], page: str) -> None:
        for source, description, width in visits[page].wide["images"]:
            assert width > 0, f"{source} does not load"
            assert len(description.split()) >= 4, f"{source} is described as {description!r}"

    def test_is_light_or_dark_as_the_reader_likes(self, visits: dict[str, Visit], page: str) -> None:
        assert visits[page].wide["theme"] == "light"
        assert visits[page].wide["background"] == "rgb(255, 255, 255)"
        assert visits[page].narrow["theme"] == "dark"
        assert visits[page].narrow["background"] == "rgb(18, 18, 18)"

    def test_fits_a_desk_and_a_phone(self, visits: dict[str, Visit], page: str) -> None:
        for facts in (visits[page].wide, visits[page].narrow):
            assert facts["cut"] == []
            assert facts["overflow"] <= 0


def test_generated_pages_fit_too(new_context: Any, site: str, book_html: Path) -> None:
    pages = {str(path.relative_to(book_html).with_suffix("")) for path in book_html.rglob("*.html")}
    generated = {page for page in pages - {*PAGES} if not page.startswith("_static/")}
    assert generated == {"index", "search"}
    with new_context() as context:
        seen = {page: visit(context, site, page) for page in generated - {"index"}}  # which leads to the first page
    assert {page: (facts.complaints, facts.foreign) for page, facts in seen.items()} == dict.fromkeys(seen, ([], []))
    for facts in (facts for page in seen.values() for facts in (page.wide, page.narrow)):
        assert (facts["cut"], max(facts["overflow"], 0)) == ([], 0)


LONG = "wide " * 100
HIDDEN = [
    "position: absolute; clip: rect(1px, 1px, 1px, 1px); overflow: hidden; padding: 1px 0 0",  # as MathJax does
    "position: absolute; clip-path: inset(50%)",
    "position: absolute; width: 1px; height: 1px; overflow: hidden; clip: rect(0, 0, 0, 0)",
    "position: absolute; width: 0; height: 0; overflow: hidden",
    "visibility: hidden; width: 300px; overflow: hidden",
    "opacity: 0; width: 300px; overflow: hidden",
    "display: none",
]
TABLE = f"<table><tr><td>{LONG}</td><td>{LONG}</td></tr></table>"
PICTURE = "<img width=900 height=20 src='data:image/svg+xml,<svg xmlns=%22http://www.w3.org/2000/svg%22/>'>"
FORMULA = f"<math display=block><mi>x</mi><mo>=</mo><mtext>{LONG}</mtext></math>"


@pytest.mark.parametrize(
    ("content", "cut"),
    [
        *((f"<div style='{style}'><span>{LONG}</span></div>", False) for style in HIDDEN),
        *((f"<div style='overflow-x: auto'>{content}</div>", False) for content in (TABLE, PICTURE, FORMULA)),
        *((content, True) for content in (TABLE, PICTURE, FORMULA)),
        *((f"<div style='overflow: hidden'>{content}</div>", True) for content in (TABLE, PICTURE, FORMULA)),
        *((f"<div style='position: relative; left: 300px'>{content}</div>", True) for content in (TABLE, "wide")),
    ],
)
def test_what_a_reader_sees_is_cut_and_nothing_else(new_context: Any, content: str, cut: bool) -> None:
    with new_context(viewport=NARROW) as context:
        tab = context.new_page()
        tab.set_content(f"<!doctype html><style>* {{ white-space: nowrap }}</style><main>{content}</main>")
        assert bool(tab.evaluate(FACTS)["cut"]) is cut


def test_the_search_finds_theorem_1(new_context: Any, site: str) -> None:
    with new_context() as context:
        tab = context.new_page()
        tab.goto(f"{site}search.html?q=Theorem+1")
        tab.wait_for_selector(".search li a")
        found = tab.eval_on_selector_all(".search li a", "links => links.map((link) => link.href)")
    assert any(f"{CHROMATOGRAPHY}.html" in link for link in found), found


def test_the_keyboard_reaches_the_text_and_shows_where_it_is(new_context: Any, site: str) -> None:
    with new_context(viewport=WIDE) as context:
        tab = context.new_page()
        tab.goto(f"{site}{CHROMATOGRAPHY}.html")
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.getAttribute('href')") == "#main-content"
        tab.wait_for_function("document.activeElement.getBoundingClientRect().top >= 0")  # it slides into view
        for _ in range(25):
            tab.keyboard.press("Tab")
            style = (
                "(({outlineStyle, boxShadow}) => [outlineStyle, boxShadow])(getComputedStyle(document.activeElement))"
            )
            assert tab.evaluate(style) != ["none", "none"], tab.evaluate("document.activeElement.outerHTML")
        tab.locator("#pst-skip-link a").focus()
        tab.keyboard.press("Enter")
        assert tab.evaluate("location.hash") == "#main-content"
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_every_link_within_the_book_leads_somewhere(book_html: Path) -> None:
    broken = [
        f"{path.relative_to(book_html)}: {link}"
        for path in sorted(book_html.rglob("*.html"))
        if "_static" not in path.parts
        for link in sorted({*links(path)})
        if not leads_somewhere(path, link)
    ]
    assert broken == []


def links(path: Path) -> Iterator[str]:
    """Yield every address in a page that is not on another host."""
    for element in parsed(path).find_all(["a", "img", "link", "script", "source"]):
        address = element.get("href") or element.get("src")
        if address and not urlsplit(address).scheme and not address.startswith("//"):
            yield address


def leads_somewhere(page: Path, link: str) -> bool:
    address, fragment = urldefrag(link)
    target = page.parent / unquote(urlsplit(address).path) if address else page
    if not target.is_file():
        return False
    return not fragment or target.suffix != ".html" or unquote(fragment) in identifiers(target)


def test_equations_show_the_papers_numbers(book_html: Path) -> None:
    shown = {}
    for page in PAGES:
        for equation in parsed(book_html / f"{page}.html").select("div.math[id^=equation-eq-]"):
            number = equation["id"].removeprefix("equation-eq-").upper()
            assert equation.select_one(".eqno").get_text().startswith(f"({number})")
            assert number not in shown, f"{shown[number]} and {page}"
            shown[number] = page
    assert {number for number in shown if not number.startswith("R")} == {str(number) for number in EQUATIONS}


def test_references_to_equations_show_the_number_they_lead_to(book_html: Path) -> None:
    references = [
        (link["href"], link.get_text())
        for page in PAGES
        for link in parsed(book_html / f"{page}.html").select("a[href*='#equation-eq-']:not(.headerlink)")
    ]
    assert references
    assert [(href, text) for href, text in references if text != f"({href.rpartition('-')[2].upper()})"] == []


def test_statements_are_called_as_in_the_paper_and_figures_have_no_counter(book_html: Path) -> None:
    titles = {
        title.get_text()
        for page in PAGES
        for title in parsed(book_html / f"{page}.html").select(".proof .caption-number")
    }
    assert {title.strip() for title in titles} >= {"Theorem 1", "Algorithm 1"}
    for page in PAGES:
        assert not parsed(book_html / f"{page}.html").select("figcaption .caption-number")


def test_the_reference_describes_everything_public(book_html: Path) -> None:
    page = parsed(book_html / "book" / "api.html")
    assert [name for name in reschrom.__all__ if page.find(id=f"reschrom.{name}") is None] == []


def test_the_ledger_has_a_row_for_every_equation(book_html: Path) -> None:
    rows = parsed(book_html / "book" / "ledger.html").select("table tbody tr")
    assert [row.td.get_text() for row in rows] == [*(f"({n})" for n in EQUATIONS), "Theorem 1", "Algorithm 1"]
    assert [row.get_text() for row in rows if not all(cell.get_text().strip() for cell in row.find_all("td")[:4])] == []
