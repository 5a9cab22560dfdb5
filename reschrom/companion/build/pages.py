"""Whether a rendered book is complete: every page of its contents, and every figure its notebooks declare."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import yaml

COMPLETE = ".complete"  # written last: a folder without it is not a book


def contents(toc: Path) -> list[str]:
    """Return the pages that `_toc.yml` names, in order, without suffix."""
    return list(_files(yaml.safe_load(toc.read_text())))


def _files(entry: Any) -> Iterator[str]:
    if isinstance(entry, list):
        for part in entry:
            yield from _files(part)
    elif isinstance(entry, dict):
        for key, value in entry.items():
            if key in ("root", "file"):
                yield str(Path(value).with_suffix("")) if Path(value).suffix in (".md", ".ipynb") else value
            elif isinstance(value, (list, dict)):
                yield from _files(value)


def figures(notebook: Path) -> list[str]:
    """Return the names of the figures that the cells of an executed notebook declare."""
    cells = nbformat.read(notebook, as_version=4).cells
    named = (cell.metadata.get("mystnb", {}).get("figure", {}).get("name") for cell in cells)
    return [name for name in named if name]


def pictures(notebook: Path) -> dict[str, bytes]:
    """Return the pictures of an executed notebook's declared figures, as files: name with extension -> content."""
    files = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        name = cell.metadata.get("mystnb", {}).get("figure", {}).get("name")
        for output in cell.get("outputs", []) if name else []:
            data = output.get("data", {})
            if "image/png" in data:
                files[f"{name}.png"] = base64.b64decode(data["image/png"])
            elif "image/svg+xml" in data:
                files[f"{name}.svg"] = data["image/svg+xml"].encode()
    return files


def missing(html: Path, tree: Path) -> list[str]:
    """Return one line for each thing that the pages in `html` lack of what the staged sources in `tree` promise."""
    pages = contents(tree / "_toc.yml")
    wanted = [html / "index.html", *(html / f"{page}.html" for page in pages)]
    faults = [f"{page.relative_to(html)}: the page was not made" for page in wanted if not page.is_file()]
    for page in pages:
        notebook = tree / f"{page}.ipynb"
        rendered = html / f"{page}.html"
        if notebook.is_file() and rendered.is_file():
            faults += [f"{page}: {fault}" for fault in _missing_figures(rendered, figures(notebook))]
    return faults


def _missing_figures(page: Path, names: list[str]) -> Iterator[str]:
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(page.read_text(), "html.parser")
    for name in names:
        figure = soup.find("figure", id=name)
        image = figure.find("img") if figure else None
        if image is None:
            yield f"figure {name!r} is missing: its cell shows no picture"
        elif not (page.parent / str(image.get("src"))).is_file():
            yield f"figure {name!r} is missing: there is no file {image.get('src')}"
        elif not str(image.get("alt") or "").strip():
            yield f"figure {name!r} has no alt text: say in `mystnb.image.alt` what the picture shows"
