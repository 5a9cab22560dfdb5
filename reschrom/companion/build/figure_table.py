"""The tables of figures: where each stands, what draws it, what that costs, how it relates to the paper.

`python -m reschrom.companion.build.figure_table` prints the table by page; with `--measure` it first runs every
notebook and notes how long each took; with `--update FILE` it writes the table between the comments of a Markdown file.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from reschrom._files import replacing
from reschrom.companion.build.execute import execute
from reschrom.companion.build.ledger import notebook_pages
from reschrom.companion.build.notebook import read_source

COSTS = Path("book/costs.json")
# Every figure and panel of the paper, and what it shows.
PAPER = {
    "Fig. 1": "samples, estimates and their spectra over time",
    "Fig. 2": "time adjustment that matches the signal-to-noise ratio",
    "Fig. 3": "time adjustment under repeated downsampling",
    "Fig. 4, left": "resolution chromatography in theory",
    "Fig. 4, right": "resolution chromatography of a trained model",
    "Fig. 5": "cascaded generation",
    "Fig. 6": "time and intensity adjustment in cascaded generation",
    "Fig. 7": "prompts that change over time",
    "Fig. 8": "resolution chromatography of guided models",
    "Fig. 9": "more prompts that change over time",
}


@dataclass(frozen=True)
class BookFigure:
    """One figure of a notebook: its page, its name, and the paper's figure it regenerates, such as "Fig. 4, left"."""

    page: str
    name: str
    paper: str

    def regenerates(self, panel: str) -> bool:
        """Tell whether this is the paper's figure or panel, such as "Fig. 4, left"."""
        return set(re.findall(r"\w+", panel)) <= set(re.findall(r"\w+", self.paper))


def read_figures(root: Path) -> list[BookFigure]:
    """Return the figures that the notebooks below `root` declare, those of the paper first and in its order."""
    figures = [figure for page, path in notebook_pages(root).items() for figure in _declared(page, path)]
    return sorted(figures, key=lambda figure: (not figure.paper, figure.paper))


def page_table(root: Path) -> str:
    """Return the table of the notebooks that draw, each linked to its record: its figures and its cost.

    root: the checkout, or a folder with the same `notebooks` and `book`.
    """
    figures, seconds = read_figures(root), read_costs(root)
    rows = ["| notebook | figures | cost, one CPU core |", "| --- | --- | --- |"]
    pages: dict[str, list[str]] = {}
    for figure in figures:
        pages.setdefault(figure.page, []).append(f"**{_title(figure)}**" if figure.paper else _title(figure))
    for page, titles in pages.items():
        link = f"[{page.removeprefix('notebooks/')}]({page}.ipynb)"
        rows.append(f"| {link} | {', '.join(titles)} | {_cost(seconds, page)} |")
    rows += [f"| not yet | **Paper {panel}**: {content} | |" for panel, content in _to_come(figures)]
    return "\n".join(rows)


def figure_table(root: Path) -> str:
    """Return the table of every figure, linked within the book, with its command, its cost and its status.

    root: as for `page_table`.
    """
    figures, seconds = read_figures(root), read_costs(root)
    rows = ["| figure | rerun it with | cost, one CPU core | status |", "| --- | --- | --- | --- |"]
    groups: dict[tuple[str, str], list[str]] = {}  # the paper's figures one by one, the others of a page together
    for figure in figures:
        groups.setdefault((figure.page, figure.paper), []).append(f"{{ref}}`{_title(figure)} <{figure.name}>`")
    for (page, paper), links in groups.items():
        command = f"`papermill {page}.ipynb out.ipynb`"
        status = "regenerated" if paper else "new here"
        rows.append(f"| {', '.join(links)} | {command} | {_cost(seconds, page)} | {status} |")
    return "\n".join([*rows, *(f"| Paper {panel}: {content} | | | not yet |" for panel, content in _to_come(figures))])


def read_costs(root: Path) -> Mapping[str, float]:
    """Return the measured seconds of every notebook, by page; empty when none were measured."""
    path = root / COSTS
    return json.loads(path.read_text())["seconds"] if path.is_file() else {}


def measure_costs(root: Path) -> None:
    """Run every notebook with its default parameters, one after another, and write the seconds each took."""
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for page, path in notebook_pages(root).items():
            start = time.monotonic()
            execute(path, Path(folder) / "out.ipynb", {}, root)
            seconds[page] = round(time.monotonic() - start, 1)
    command = "python -m reschrom.companion.build.figure_table --measure"
    how = f"Seconds from start to end of each notebook on one CPU thread: {command}"
    with replacing(root / COSTS) as temporary:
        temporary.write_text(json.dumps({"how": how, "seconds": seconds}, indent=1) + "\n")


def with_table(text: str, table: str, mark: str = "figures") -> str:
    """Return `text` with `table` between the comments `<!-- mark -->` and `<!-- /mark -->`.

    Raises ValueError when the text does not hold that pair of comments once.
    """
    pattern = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"expected <!-- {mark} --> and <!-- /{mark} --> once, in that order")
    return pattern.sub(lambda match: f"{match[1]}{table}\n{match[2]}", text)


def main(arguments: list[str] | None = None) -> int:
    """Print or update the table of figures from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m reschrom.companion.build.figure_table", description="Make the table of figures by page."
    )
    parser.add_argument("--measure", action="store_true", help="first run every notebook and note how long it took")
    parser.add_argument("--update", type=Path, metavar="FILE", help="write the table into FILE instead of printing it")
    options = parser.parse_args(arguments)
    root = Path.cwd()
    if options.measure:
        measure_costs(root)
    table = page_table(root)
    if options.update is None:
        print(table)
    else:
        text = with_table(options.update.read_text(), table)
        with replacing(options.update) as temporary:
            temporary.write_text(text)
    return 0


def _declared(page: str, path: Path) -> Iterator[BookFigure]:
    for cell in read_source(path).cells:
        figure = cell.metadata.get("mystnb", {}).get("figure")
        if figure:
            match = re.match(r"\*Paper (Fig\. \d+[^*]*?)\.?\*", figure["caption"])
            yield BookFigure(page, figure["name"], match[1] if match else "")


def _title(figure: BookFigure) -> str:
    return f"Paper {figure.paper}" if figure.paper else figure.name.removeprefix("fig-").replace("-", " ")


def _to_come(figures: list[BookFigure]) -> list[tuple[str, str]]:
    """Return the figures and panels of the paper that none regenerates, and what each shows."""
    return [
        (panel, content) for panel, content in PAPER.items() if not any(each.regenerates(panel) for each in figures)
    ]


def _cost(seconds: Mapping[str, float], page: str) -> str:
    if page not in seconds:
        return "not measured"
    return f"{seconds[page]:.0f} s" if seconds[page] >= 1 else "under 1 s"


if __name__ == "__main__":
    sys.exit(main())
