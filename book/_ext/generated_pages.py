"""Fill the places of a page that are generated: `<!-- ledger -->`, `<!-- figures -->`, `<!-- in full: NAME, ... -->`.

Each becomes Markdown before the page is parsed, so that its links and headings are ordinary ones. The objects of the
package that no mark shows in full come in the tables of `<!-- the others -->`, one for each room.
"""

import importlib
import inspect
import re
from pathlib import Path

from docutils import nodes
from numpy.typing import ArrayLike
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole
from sphinx.util.typing import stringify_annotation

import reschrom
from reschrom.companion.build.figure_table import figure_table
from reschrom.companion.build.ledger import MENTION, ledger_table, mentions, problems, public_docstrings, read_ledger
from reschrom.companion.build.pages import contents

logger = logging.getLogger(__name__)

_FULL = re.compile(r"<!-- in full: (.+?) -->")
_SHAPED = re.compile(r"~?jaxtyping\.\w+\[~?[\w.]+, '([^']*)'\]")


def fill(app, docname, source):
    """Replace each mark in a page by what it stands for."""
    page = source[0]
    shown = [name for names in _FULL.findall(page) for name in names.split(", ")]
    makers = {
        "ledger": lambda: ledger(Path(app.srcdir)),
        "figures": lambda: figure_table(Path(app.srcdir)),
        "the others": lambda: tables(name for name in reschrom.__all__ if name not in shown),
    }
    for mark, make in makers.items():
        if f"<!-- {mark} -->" in page:
            page = page.replace(f"<!-- {mark} -->", make())
    source[0] = _FULL.sub(lambda names: "\n\n".join(map(in_full, names[1].split(", "))), page)


def ledger(tree):
    """Return the equation ledger of a staged book; when all its pages are there, each gap is a warning."""
    entries = read_ledger(tree)
    pages = [page for page in contents(tree / "_toc.yml") if page.startswith("notebooks/")]
    if all((tree / f"{page}.ipynb").is_file() for page in pages):
        for problem in problems(entries):
            logger.warning(problem, type="ledger")
    return ledger_table(entries)


def in_full(name):
    """Return one object under its own heading, with all that its docstring says."""
    kind = "autoclass" if inspect.isclass(getattr(reschrom, name)) else "autofunction"
    members = "\n   :members:" if kind == "autoclass" else ""
    return f"### {name}\n\n```{{eval-rst}}\n.. {kind}:: reschrom.{name}{members}\n```"


def tables(names):
    """Return one table for each room of the package: object, first sentence of its docstring, equations it cites."""
    cited = {name: mentions(text) for name, text in public_docstrings()}
    rooms = {}
    for name in names:
        rooms.setdefault(inspect.getmodule(getattr(reschrom, name)).__name__.split(".")[1], []).append(name)
    parts = []
    for room, members in sorted(rooms.items()):
        parts += [f"### `reschrom.{room}`", _purpose(importlib.import_module(f"reschrom.{room}"))]
        rows = ["| object | what it is | paper |", "| --- | --- | --- |"]
        for name in members:
            equations = [f"{{eq}}`eq:{n}`" if isinstance(n, int) else n for n in cited[name]]
            rows.append(f"| {{public}}`{name}` | {_purpose(getattr(reschrom, name))} | {', '.join(equations)} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


def _purpose(item):
    """Return the first sentence of a docstring without the citation that ends it."""
    text = " ".join(inspect.getdoc(item).split("\n\n")[0].split())
    sentence = re.split(r"(?<!Eq)(?<!Eqs)\.(?= |$)", text)[0]
    return re.sub(r"(:[^:]*| \()\bEqs?\. [^:]*$", "", sentence).replace("|", r"\|") + "."


class Public(SphinxRole):
    """The name of a public object as the place that links to it lead to, where no directive describes it."""

    def run(self):
        place = f"reschrom.{self.text}"
        for name, _ in public_docstrings():
            if name.split(".")[0] == self.text:  # the object, or a method of it
                self.env.get_domain("py").note_object(f"reschrom.{name}", "function", place)
        return [nodes.literal(self.text, self.text, ids=[place])], []


def linked(app, what, name, item, options, lines):
    """Make each equation that a docstring cites a link to it."""

    def numbers(mention):
        return re.sub(r"\(?(\d+)\)?", r"\\ :eq:`eq:\1`\\ ", mention[0])

    lines[:] = MENTION.sub(numbers, "\n".join(lines)).split("\n")


def readable(app, what, name, item, options, signature, returned):
    """Show an annotation of jaxtyping as `Array['bands *shape']`, and no private fields of a class."""
    if what == "class" and re.search(r"\b_\w+:", signature or ""):
        return "", None
    long = stringify_annotation(ArrayLike, "smart")
    return tuple(
        text and _SHAPED.sub(r"Array['\1']", text.replace(long, "ArrayLike")) for text in (signature, returned)
    )


def setup(app):
    app.connect("source-read", fill)
    app.connect("autodoc-process-docstring", linked)
    app.connect("autodoc-process-signature", readable)
    app.add_role("public", Public())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
