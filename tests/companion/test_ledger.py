"""The equation ledger and the table of figures: what they read and refuse, and that this checkout's are complete."""

import ast
from pathlib import Path
from typing import Any

import pytest

import reschrom
from reschrom.companion.build import figure_table as figures
from reschrom.companion.build.figure_table import PAPER, figure_table, page_table, read_costs, read_figures, with_table
from reschrom.companion.build.ledger import (
    EQUATIONS,
    STATEMENTS,
    ledger_table,
    mentions,
    notebook_pages,
    problems,
    read_ledger,
)
from reschrom.companion.build.notebook import read_source
from reschrom.companion.build.pages import contents

HEADER = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {name: python3, display_name: Python 3}
---
"""


def write(root: Path, page: str, *parts: str) -> Path:
    """Write a notebook source of Markdown parts and code cells, the latter starting with `>>>`."""
    cells = [
        f"```{{code-cell}} ipython3\n{part[3:].strip()}\n```" if part.startswith(">>>") else part for part in parts
    ]
    path = root / "notebooks" / f"{page}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + "\n\n".join(cells) + "\n")
    return path


def equation(number: int) -> str:
    return f"<!-- Eq. ({number}): $x$ *is* {number} -->\n$$\nx = {number}\n$$ (eq:{number})"


def entry(root: Path, number: int | str) -> Any:
    return next(entry for entry in read_ledger(root) if entry.number == number)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("Return the ratio: Eq. (2).", [2]),
        ("(Eqs. 18 and 33-35)", [18, 33, 34, 35]),
        ("Eqs. (18), (34) and (35).", [18, 34, 35]),
        ("of Eqs. (9)-(11), and later", [9, 10, 11]),
        ("Eqs. 1, 2, and 30", [1, 2, 30]),
        ("Eq. (37), and Eq. (7) at level 0", [37, 7]),
        ("Eq. (16), 3 numbers", [16]),
        ("Eq. 37 and Algorithm 1; see Theorem 1", [37, "Algorithm 1", "Theorem 1"]),
        ("Eq. 5, again Eq. (5)", [5]),
        ("no equation of 12 numbers", []),
    ],
)
def test_citations_are_read(text: str, numbers: list[int | str]) -> None:
    assert mentions(text) == numbers


def test_an_entry_collects_home_meaning_kinds_and_functions(tmp_path: Path) -> None:
    write(
        tmp_path,
        "theory/one",
        "# One",
        equation(18),
        ">>>for name in ('a', 'b'):\n    agrees(18, f'for {name}', 1.0, 1.0)",
        ">>>proved(18, 'shares | sum to *one*', 0)\nproof.sampled(18, 'later', 0, 0, 1)\nproved(18, 'again', 0)",
    )
    found = entry(tmp_path, 18)
    assert found.homes == ["notebooks/theory/one"]
    assert found.meaning == "$x$ *is* 18"
    assert found.checks == ["numeric", "symbolic", "Monte Carlo"]
    assert "chromatography" in found.functions
    assert "Schedule.cosine" in entry(tmp_path, 36).functions
    row = next(row for row in ledger_table([found]).splitlines() if "eq:18" in row)
    assert "{eq}`eq:18`" in row
    assert "| $x$ *is* 18 |" in row
    assert "| numeric, symbolic, Monte Carlo | {doc}`one </notebooks/theory/one>` |" in row
    assert "{py:obj}`chromatography <reschrom.chromatography>`" in row


def test_statements_are_entries_too(tmp_path: Path) -> None:
    theorem = "```{prf:theorem} Invariance\n:label: theorem-1\n\nThe shares agree.\n```"
    write(tmp_path, "theory/one", "# One", theorem, ">>>proved('Theorem 1', 'the shares agree', 0)")
    found = entry(tmp_path, "Theorem 1")
    assert (found.homes, found.meaning, found.checks) == (["notebooks/theory/one"], "Invariance", ["symbolic"])
    assert "{prf:ref}`theorem-1`" in ledger_table([found])


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    write(tmp_path, "theory/one", "# One", equation(1), equation(3), equation(4), ">>>proved(1, 'one', 0)")
    write(
        tmp_path, "theory/two", "# Two", equation(3), "$$\nx\n$$ (eq:5)", ">>>proved(2, 'two', 0)\nproved(3, f'{1}', 0)"
    )
    found = problems(read_ledger(tmp_path))
    assert not [line for line in found if line.startswith("Eq. (1) ")]
    assert "Eq. (2) must be labelled on one page; it is on no page" in found
    assert "Eq. (3) must be labelled on one page; it is on notebooks/theory/one and notebooks/theory/two" in found
    assert "Eq. (5) has no meaning: say it above the equation, in <!-- Eq. (5): ... -->" in found
    assert "Eq. (4) is checked by no notebook" in found
    assert "Algorithm 1 is checked by no notebook" in found


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ([equation(38)], "notebooks/theory/one labels eq:38, which the paper does not have"),
        ([">>>proved(38, 'x', 0)"], "notebooks/theory/one checks 38, which the paper does not have"),
        ([">>>agrees('Theorem 2', 'x', 0, 0)"], "checks 'Theorem 2', which the paper does not have"),
        ([">>>proved(n, 'x', 0)"], r"write out the equation's number in `proved\(n, 'x', 0\)`"),
    ],
)
def test_numbers_that_the_paper_does_not_have_are_refused(tmp_path: Path, parts: list[str], complaint: str) -> None:
    write(tmp_path, "theory/one", "# One", *parts)
    with pytest.raises(ValueError, match=complaint):
        read_ledger(tmp_path)


def test_a_docstring_that_cites_no_equation_of_the_paper_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reschrom.depth, "__doc__", "Return the depth: Eq. (40).")
    with pytest.raises(ValueError, match="the docstring of depth cites 40, which the paper does not have"):
        read_ledger(tmp_path)


def test_checks_of_sentences_are_no_entries(tmp_path: Path) -> None:
    write(tmp_path, "theory/one", "# One", ">>>proved('Section 2.3', 'coarse comes first', 0)")
    assert {entry.number for entry in read_ledger(tmp_path)} == {*EQUATIONS, *STATEMENTS}


@pytest.mark.lasting
def test_every_citation_in_the_package_is_of_the_paper(root: Path) -> None:
    cited = set()
    for path in sorted((root / "reschrom").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                cited |= set(mentions(ast.get_docstring(node) or ""))
    assert cited
    assert cited <= {*EQUATIONS, *STATEMENTS}


@pytest.mark.lasting
def test_every_equation_of_the_paper_has_one_home_and_a_check(root: Path) -> None:
    entries = read_ledger(root)
    assert {entry.number for entry in entries} == {*range(1, 38), "Theorem 1", "Algorithm 1"}
    assert problems(entries) == []


def test_the_contents_name_every_notebook_once(root: Path) -> None:
    pages = [page for page in contents(root / "_toc.yml") if page.startswith("notebooks/")]
    assert sorted(pages) == sorted(notebook_pages(root))


FIGURE = """```{{code-cell}} ipython3
---
mystnb:
  figure:
    name: {name}
    caption: |
      {caption}
  image:
    alt: A toy.
---
1
```"""


def test_the_table_lists_figures_here_and_those_to_come(tmp_path: Path) -> None:
    caption = "*Paper Fig. 4, left.* Theory."
    write(tmp_path, "theory/one", "# One", FIGURE.format(name="fig-shares", caption=caption))
    write(tmp_path, "beyond/two", "# Two", FIGURE.format(name="fig-two-things", caption="Measured."))
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "costs.json").write_text(
        '{"seconds": {"notebooks/theory/one": 3.4, "notebooks/beyond/two": 0.4}}'
    )
    rows = figure_table(tmp_path).splitlines()
    assert rows[2] == (
        "| {ref}`Paper Fig. 4, left <fig-shares>` | `papermill notebooks/theory/one.ipynb out.ipynb` "
        "| 3 s | regenerated |"
    )
    assert rows[3].startswith("| {ref}`two things <fig-two-things>` |")
    assert rows[3].endswith("| under 1 s | new here |")
    pages = page_table(tmp_path).splitlines()
    assert pages[2] == "| [theory/one](notebooks/theory/one.ipynb) | **Paper Fig. 4, left** | 3 s |"
    assert pages[3] == "| [beyond/two](notebooks/beyond/two.ipynb) | two things | under 1 s |"
    for table in (rows, pages):
        later = [row for row in table if "not yet" in row]
        assert len(later) == len(PAPER) - 1
        assert not [row for row in later if "Fig. 4, left" in row]


@pytest.mark.lasting
def test_costs_are_measured_and_the_table_written_into_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "theory/one", "# One", ">>>x = 1", FIGURE.format(name="fig-one", caption="One."))
    (tmp_path / "book").mkdir()
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- figures -->\nold\n<!-- /figures -->\nafter\n")
    monkeypatch.chdir(tmp_path)
    assert "not measured" in page_table(tmp_path)
    assert figures.main(["--measure", "--update", "README.md"]) == 0
    assert read_costs(tmp_path)["notebooks/theory/one"] > 0
    text = readme.read_text()
    assert text == f"before\n<!-- figures -->\n{page_table(tmp_path)}\n<!-- /figures -->\nafter\n"
    assert "not measured" not in text


def test_the_table_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert figures.main([]) == 0
    assert capsys.readouterr().out == page_table(tmp_path) + "\n"


@pytest.mark.parametrize("text", ["no marks", "<!-- figures -->\n", "<!-- figures -->\n<!-- /figures -->\n" * 2])
def test_a_file_without_the_marks_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected <!-- figures --> and <!-- /figures --> once"):
        with_table(text, "table")


@pytest.mark.lasting
def test_the_readme_holds_the_current_table(root: Path) -> None:
    readme = (root / "README.md").read_text()
    assert with_table(readme, page_table(root)) == readme, (
        "run: python -m reschrom.companion.build.figure_table --update README.md"
    )


def test_every_notebook_has_a_measured_cost(root: Path) -> None:
    assert set(read_costs(root)) == set(notebook_pages(root)), (
        "run: python -m reschrom.companion.build.figure_table --measure"
    )


@pytest.mark.lasting
def test_every_figure_has_a_name_of_its_own_a_caption_and_a_description(root: Path) -> None:
    names = [figure.name for figure in read_figures(root)]
    assert names
    assert len(names) == len(set(names))
    for page, path in notebook_pages(root).items():
        for cell in read_source(path).cells:
            settings = cell.metadata.get("mystnb", {})
            if "figure" in settings:
                figure, described = settings["figure"], settings.get("image", {}).get("alt", "")
                assert len(figure["caption"].split()) >= 8, f"{page}: {figure['name']} needs a caption"
                assert len(described.split()) >= 6, f"{page}: {figure['name']} needs mystnb.image.alt"


@pytest.mark.lasting
def test_captions_name_figures_that_the_paper_has(root: Path) -> None:
    regenerated = [figure for figure in read_figures(root) if figure.paper]
    assert regenerated
    for figure in regenerated:
        assert any(figure.regenerates(panel) for panel in PAPER), f"{figure.name} says {figure.paper}"
