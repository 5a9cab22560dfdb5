"""Fill the places of a page that are generated: `<!-- ledger -->`, `<!-- figures -->`, `<!-- objects -->`.

Each becomes Markdown before the page is parsed, so that its links and headings are ordinary ones.
"""

import inspect
import re
from pathlib import Path

from docstrings import linked
from sphinx.util import logging

import reschrom
from reschrom.companion.build.figure_table import figure_table
from reschrom.companion.build.ledger import ledger_table, mentions, problems, public_docstrings, read_ledger
from reschrom.companion.build.pages import contents

logger = logging.getLogger(__name__)


def fill(app, docname, source):
    """Replace each mark in a page by what it stands for."""
    makers = {
        "ledger": lambda: ledger(Path(app.srcdir)),
        "figures": lambda: figure_table(Path(app.srcdir), linked=True),
        "objects": objects,
    }
    for mark, make in makers.items():
        if f"<!-- {mark} -->" in source[0]:
            source[0] = source[0].replace(f"<!-- {mark} -->", make())


def ledger(tree):
    """Return the equation ledger of a staged book; when all its pages are there, each gap is a warning."""
    entries = read_ledger(tree)
    pages = [page for page in contents(tree / "_toc.yml") if page.startswith("notebooks/")]
    if all((tree / f"{page}.ipynb").is_file() for page in pages):
        for problem in problems(entries):
            logger.warning(problem, type="ledger")
    return ledger_table(entries)


def objects():
    """Return the API reference: one table of everything public, then each module with its objects."""
    cited = {name: mentions(text) for name, text in public_docstrings()}
    modules = {}
    for name in reschrom.__all__:
        modules.setdefault(inspect.getmodule(getattr(reschrom, name)), []).append(name)
    table = ["| object | what it does | paper |", "| --- | --- | --- |"]
    parts = []
    for module, names in modules.items():
        title = module.__name__.split(".")[-1].capitalize()
        parts.append(f"## {title}\n\n{linked(inspect.getdoc(module), '{{eq}}`{}`')}")
        for name in names:
            item = getattr(reschrom, name)
            equations = [f"{{eq}}`eq:{n}`" if isinstance(n, int) else n for n in cited[name]]
            table.append(f"| {{py:obj}}`~reschrom.{name}` | {_purpose(item)} | {', '.join(equations)} |")
            directive = "autoclass" if inspect.isclass(item) else "autofunction"
            options = "\n   :members:" if inspect.isclass(item) else ""
            parts.append(f"### {name}\n\n```{{eval-rst}}\n.. {directive}:: reschrom.{name}{options}\n```")
    return "\n\n".join(["\n".join(table), *parts])


def _purpose(item):
    """Return the first sentence of a docstring without the citation that ends it."""
    text = " ".join(inspect.getdoc(item).split("\n\n")[0].split())
    sentence = re.split(r"(?<!Eq)(?<!Eqs)\.(?= |$)", text)[0]
    return re.sub(r"(:[^:]*| \()\bEqs?\. [^:]*$", "", sentence).replace("|", r"\|") + "."


def setup(app):
    app.connect("source-read", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
