"""The public face of the package: names, docstrings and their examples, equation numbers, lazy imports."""

import ast
import doctest
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import reschrom

PACKAGE = Path(reschrom.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted(Path(__file__).parent.rglob("test_*.py"))
ROOT = PACKAGE.parent
# Public name -> the module that the stub says it is loaded from.
HOMES = {
    alias.name: f"reschrom.{node.module}"
    for node in ast.parse((PACKAGE / "__init__.pyi").read_text()).body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}
# The names that the API page shows in full; it lists the others in tables.
ADVERTISED = [
    name
    for names in re.findall(r"<!-- in full: (.+?) -->", (ROOT / "book" / "api.md").read_text(encoding="utf-8"))
    for name in names.split(", ")
]
HEAVY = {
    "diffusers",
    "matplotlib",
    "torch",
    "transformers",
    "accelerate",
    "sympy",
    "pandas",
    "scipy",
    "skimage",
    "sklearn",
}


def public_functions() -> list:
    """Return every public function and method of what the package exports, with its name."""
    functions = []
    for name in reschrom.__all__:
        exported = getattr(reschrom, name)
        if inspect.isclass(exported):
            functions.append(pytest.param(exported, id=name))
            for member_name, member in vars(exported).items():
                function = getattr(member, "__func__", getattr(member, "fget", member))
                ours = inspect.isfunction(function) and function.__module__.startswith("reschrom")
                if ours and not member_name.startswith("_"):
                    functions.append(pytest.param(function, id=f"{name}.{member_name}"))
        else:
            functions.append(pytest.param(exported, id=name))
    return functions


@pytest.mark.parametrize("name", reschrom.__all__)
def test_every_public_name_is_loaded_from_the_module_that_the_stub_names(name):
    home = importlib.import_module(HOMES[name])
    assert getattr(reschrom, name) is vars(home)[name]
    assert name in dir(reschrom)


def test_no_public_name_is_hidden_by_a_module_of_the_same_name():
    assert not {path.stem for path in PACKAGE.iterdir()} & set(reschrom.__all__)


@pytest.mark.parametrize("function", public_functions())
def test_every_public_function_is_documented_and_annotated(function):
    first = (inspect.getdoc(function) or "").split("\n\n")[0]
    assert re.match(r"[A-Z].*[.:]$", first, re.DOTALL), first
    if inspect.isfunction(function):
        parameters = [p for n, p in inspect.signature(function).parameters.items() if n not in ("self", "cls")]
        assert all(p.annotation is not inspect.Parameter.empty for p in parameters)
        assert inspect.signature(function).return_annotation is not inspect.Signature.empty


def test_about_25_public_names_are_advertised():
    assert 20 <= len(ADVERTISED) == len(set(ADVERTISED) & set(reschrom.__all__)) <= 30


@pytest.mark.lasting
@pytest.mark.parametrize("name", ADVERTISED)
def test_every_advertised_name_has_an_example_and_each_of_its_examples_runs(name):
    # Nothing is in scope, so that each example runs as it is copied.
    tests = doctest.DocTestFinder().find(getattr(reschrom, name), name, module=False, globs={})
    assert any(test.name == name and test.examples for test in tests)
    runner, report = doctest.DocTestRunner(), []
    for test in tests:
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


@pytest.mark.lasting
def test_the_page_of_questions_names_all_that_is_advertised_and_each_of_its_lines_runs():
    page = (ROOT / "book" / "which-one.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`~reschrom\.(\w+)`", page)) == set(ADVERTISED)
    (start,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    lines = re.findall(r"^\| .* \| .*: `(.+)` \|$", page, re.MULTILINE)
    assert len(lines) == page.count("| {py:obj}")
    scope = {}
    for line in (start, *lines):
        exec(line, scope)


@pytest.mark.lasting
def test_every_equation_that_a_docstring_names_exists():
    mentioned = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                for run in re.findall(r"Eqs?\. ((?:\(?\d+\)?(?:-|, | and )?)+)", ast.get_docstring(node) or ""):
                    mentioned |= {int(number) for number in re.findall(r"\d+", run)}
    assert mentioned <= set(range(1, 38))
    assert mentioned >= {1, 2, 7, 9, 11, 13, 16, 18, 19, 22, 24, 30, 34, 35, 36, 37}


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, reschrom; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "reschrom" in loaded
    assert not (HEAVY | {"numpy"}) & set(loaded)


@pytest.mark.lasting
def test_using_the_theory_loads_neither_torch_nor_diffusers_nor_plots():
    code = (
        "import sys; from reschrom import Chromatogram, Schedule, band_losses, threshold; "
        "Chromatogram.predicted(Schedule.cosine(), 64).shares; print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "reschrom.theory.chromatogram" in loaded
    assert not {"torch", "diffusers", "matplotlib", "reschrom.plots"} & set(loaded)


def checks(function: ast.FunctionDef, helpers: dict[str, ast.FunctionDef], seen: frozenset[str] = frozenset()) -> bool:
    """Whether a test asserts anything, itself or in one of the functions that it calls."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            # `exec` runs the cells of a notebook, which assert.
            if name.startswith("assert_") or name in ("raises", "exec"):
                return True
            if name in helpers and name not in seen and checks(helpers[name], helpers, seen | {name}):
                return True
    return False


def functions_of(tree: ast.AST) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def imported_helpers(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    """The functions that a file of tests imports from a module beside this one."""
    found = {}
    for node in tree.body:
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        beside = Path(__file__).parent / f"{node.module.replace('.', '/')}.py"
        if beside.is_file():
            there = functions_of(ast.parse(beside.read_text(encoding="utf-8")))
            found |= {alias.asname or alias.name: there[alias.name] for alias in node.names if alias.name in there}
    return found


@pytest.mark.lasting
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_no_test_is_without_an_assertion(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = functions_of(tree)
    tests = [name for name in own if name.startswith("test_")]
    assert tests
    helpers = imported_helpers(tree) | own
    assert not [name for name in tests if not checks(own[name], helpers)]
