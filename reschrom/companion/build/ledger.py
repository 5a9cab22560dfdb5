"""The equation ledger: where each equation of the paper stands, what it says, and how it was checked.

Nothing here is typed twice. Homes come from the labels in the notebooks, meanings from the comment above each equation
or the title of a numbered statement, kinds of check from the calls of `reschrom.companion.proof` in the code,
functions from the docstrings of the package.
"""

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import reschrom
from reschrom.companion.build.notebook import code_cells, read_source
from reschrom.companion.proof import HOW

Number = int | str  # an equation's number, or "Theorem 1", "Algorithm 1"
STATEMENTS: dict[Number, str] = {"Theorem 1": "theorem-1", "Algorithm 1": "algorithm-1"}
EQUATIONS = range(1, 38)

_ITEM = r"\(?\d+\)?(?:\s*-\s*\(?\d+\)?)?"
MENTION = re.compile(rf"\bEq\.\s+{_ITEM}|\bEqs\.\s+{_ITEM}(?:(?:,\s+and|,|\s+and)\s+{_ITEM})*")
_LABEL = re.compile(r"^\$\$\s*\(eq:(\d+)\)\s*$|^:label:\s*(theorem-1|algorithm-1)\s*$", re.MULTILINE)
_MEANING = re.compile(
    r"^<!-- Eq\. \((\d+)\): (.+) -->$|^```\{prf:\w+\} (.+)\n:label:\s*(theorem-1|algorithm-1)\s*$", re.MULTILINE
)


@dataclass
class Entry:
    """What is known about one equation: pages that hold its label, meaning, kinds of check, functions that cite it."""

    number: Number
    homes: list[str] = field(default_factory=list)
    meaning: str = ""
    checks: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The entry's label in the book, such as `eq:18`."""
        return STATEMENTS.get(self.number, f"eq:{self.number}")


def read_ledger(root: Path) -> list[Entry]:
    """Collect the ledger of the notebooks below `root/notebooks`: one entry for each equation and numbered statement.

    Where a source (.md) and its executed form (.ipynb) lie side by side, the source is read.
    Raises ValueError for a check whose number is not written out, and for any number that the paper does not have.
    """
    entries = {number: Entry(number) for number in (*EQUATIONS, *STATEMENTS)}
    labels = {entry.label: entry for entry in entries.values()}
    for page, path in notebook_pages(root).items():
        notebook = read_source(path)
        prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        for match in _LABEL.finditer(prose):
            label = match[2] or f"eq:{match[1]}"
            if label not in labels:
                raise ValueError(f"{page} labels {label}, which the paper does not have")
            labels[label].homes.append(page)
        for equation, words, title, statement in _MEANING.findall(prose):
            labels[statement or f"eq:{equation}"].meaning = words or title
        for number, kind in _checks(code_cells(notebook), page):
            entry = entries.get(number, Entry(number))  # a check of a sentence of the paper is in no ledger
            if HOW[kind] not in entry.checks:
                entry.checks.append(HOW[kind])
    for name, docstring in public_docstrings():
        for number in mentions(docstring):
            if number not in entries:
                raise ValueError(f"the docstring of {name} cites {number!r}, which the paper does not have")
            entries[number].functions.append(name)
    return list(entries.values())


def problems(entries: Iterable[Entry]) -> list[str]:
    """Return one line for each entry without exactly one home, without a check, or without a meaning."""
    found = []
    for entry in entries:
        name = f"Eq. ({entry.number})" if isinstance(entry.number, int) else entry.number
        if len(entry.homes) != 1:
            where = "no page" if not entry.homes else " and ".join(entry.homes)
            found.append(f"{name} must be labelled on one page; it is on {where}")
        if not entry.checks:
            found.append(f"{name} is checked by no notebook")
        if not entry.meaning:
            found.append(f"{name} has no meaning: say it above the equation, in <!-- {name}: ... -->")
    return found


def ledger_table(entries: Iterable[Entry]) -> str:
    """Return the ledger as a MyST table with links to equations, pages and functions; what is missing is left open."""
    rows = ["| equation | in words | checked | page | functions |", "| --- | --- | --- | --- | --- |"]
    for entry in entries:
        role = "eq" if isinstance(entry.number, int) else "prf:ref"
        link = f"{{{role}}}`{entry.label}`" if entry.homes else str(entry.number)
        page = ", ".join(f"{{doc}}`{home.split('/')[-1].replace('-', ' ')} </{home}>`" for home in entry.homes)
        functions = ", ".join(f"{{py:obj}}`{name} <reschrom.{name}>`" for name in entry.functions)
        rows.append(f"| {link} | {entry.meaning} | {', '.join(entry.checks)} | {page} | {functions} |")
    return "\n".join(rows)


def mentions(text: str) -> list[Number]:
    """Return the equations and numbered statements that a text cites, each once, in order of first mention.

    Read are "Eq. (16)", "Eqs. (18) and (33)-(35)", the same without brackets, "Theorem 1" and "Algorithm 1".
    """
    found: list[Number] = []
    for match in MENTION.finditer(text):
        for item in re.findall(_ITEM, match[0]):
            first, *last = (int(number) for number in re.findall(r"\d+", item))
            found += range(first, (last or [first])[0] + 1)
    found += re.findall(r"\b(?:Theorem|Algorithm) \d+", text)
    return list(dict.fromkeys(found))


def notebook_pages(root: Path) -> dict[str, Path]:
    """Return the notebooks below `root` by page name, such as "notebooks/theory/chromatography"."""
    paths = sorted((root / "notebooks").glob("*/*.ipynb")) + sorted((root / "notebooks").glob("*/*.md"))
    pages = {path.relative_to(root).with_suffix("").as_posix(): path for path in paths}
    return dict(sorted(pages.items()))


def public_docstrings() -> Iterator[tuple[str, str]]:
    """Yield name and docstring of every public object of the package, and of its public methods, in order."""
    for name in reschrom.__all__:
        item = getattr(reschrom, name)
        yield name, inspect.getdoc(item) or ""
        if inspect.isclass(item):
            for member, value in vars(item).items():
                function = getattr(value, "__func__", value)
                if not member.startswith("_") and (inspect.isroutine(function) or isinstance(function, property)):
                    yield f"{name}.{member}", inspect.getdoc(function) or ""


def _checks(sources: Iterable[str], page: str) -> Iterator[tuple[Number, str]]:
    """Yield equation and kind of each check."""
    for source in sources:
        for node in ast.walk(ast.parse(source, filename=page)):
            match node:
                case ast.Call(func=function) if _called(function) not in HOW:
                    continue
                case ast.Call(args=[ast.Constant(value=int() | str() as number), *_]):
                    if number not in STATEMENTS and number not in EQUATIONS and not str(number).startswith("Section "):
                        raise ValueError(f"{page} checks {number!r}, which the paper does not have")
                    yield number, _called(node.func)
                case ast.Call():
                    raise ValueError(f"{page}: write out the equation's number in `{ast.unparse(node)}`")


def _called(function: ast.expr) -> str:
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )
