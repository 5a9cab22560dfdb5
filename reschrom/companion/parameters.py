"""The parameters that a notebook declares, and whether those that it is given fit them."""

import ast
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

# How papermill begins the cell in which it puts what it was given, after the one that declares parameters.
_GIVEN = "# Parameters\n"


def check(cells: Sequence[str]) -> None:
    """Refuse what papermill put into a notebook that does not fit: it only warns of a misspelled parameter.

    cells: the code that ran so far, which a notebook finds under the name `In`.
    Raises ValueError or TypeError in one line.
    """
    for before, cell in itertools.pairwise(cells):
        if cell.startswith(_GIVEN):
            check_given(assigned(before), assigned(cell))


def check_given(declared: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Check parameters against the ones that are declared, with their usual values.

    Raises ValueError for one that is not declared, TypeError for one of another type than its usual value.
    """
    for name, value in given.items():
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise ValueError(f"there is no parameter {name!r}; there are: {known}")
        if not _alike(value, declared[name]):
            hint = "; papermill takes lists and mappings with -y" if isinstance(declared[name], list | dict) else ""
            raise TypeError(f"{name} must be of the same type as {declared[name]!r}; got {value!r}{hint}")


def assigned(cell: str) -> dict[str, Any]:
    """Return what a cell of parameters assigns.

    Raises ValueError when a line of it is not of the form `name = literal`.
    """
    return dict(map(_parameter, ast.parse(cell).body))


def _parameter(statement: ast.stmt) -> tuple[str, Any]:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            try:
                return name, ast.literal_eval(value)
            except ValueError:
                pass
    raise ValueError(f"a parameter is `name = literal`, not `{ast.unparse(statement)}`")


def _alike(value: object, usual: object) -> bool:
    """Tell whether a value can stand for another: a whole number for any, a list for a tuple; None stands for all."""
    if usual is None:
        return True
    if isinstance(usual, list | tuple):
        return isinstance(value, list | tuple) and (
            not usual or all(any(_alike(each, one) for one in usual) for each in value)
        )
    if isinstance(usual, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(usual)
