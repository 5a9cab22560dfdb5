"""A notebook run in this process, cell by cell: what a kernel would do, without starting one."""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reschrom.companion.build.notebook import code_cells, declared_parameters, read_source
from reschrom.plots._figure import Figure


def run(cells: Sequence[str], name: str, namespace: dict[str, Any]) -> list[Figure]:
    """Run code cells in a namespace and return the figures that they show, each drawn."""
    shown = []
    namespace.setdefault("In", [])  # papermill gave it nothing
    for index, cell in enumerate(cells):
        *body, last = ast.parse(cell).body
        where = f"{name}, code cell {index}"
        show = isinstance(last, ast.Expr)
        exec(compile(ast.Module(body if show else [*body, last], []), where, "exec"), namespace)
        value = eval(compile(ast.Expression(last.value), where, "eval"), namespace) if show else None
        if isinstance(value, Figure):
            assert value._repr_mimebundle_()
            shown.append(value)
    return shown


def run_page(source: Path, parameters: Mapping[str, Any]) -> list[Figure]:
    """Run a page of the book with other values for parameters that it declares, and return its figures."""
    notebook = read_source(source)
    assert parameters.keys() <= declared_parameters(notebook).keys()
    (given,) = (cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    cells = code_cells(notebook)
    place = cells.index(given) + 1
    namespace: dict[str, Any] = {"__name__": source.stem}
    shown = run(cells[:place], source.stem, namespace)
    namespace.update(parameters)
    return shown + run(cells[place:], source.stem, namespace)
