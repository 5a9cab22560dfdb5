"""The public face of the package: names, docstrings, equation numbers, lazy imports, and the order of its modules."""

import ast
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
TESTS = sorted(Path(__file__).parent.glob("test_*.py"))
# A module may import modules of a lower rank only. What is not named here is the subpackage's own affair.
RANKS = {
    "_arrays": 0,
    "_files": 0,
    "bootstrap": 0,
    "proof": 0,
    "schedules": 1,
    "resolution": 1,
    "scaling": 2,
    "spectrum": 2,
    "rates": 3,
    "data": 3,
    "chromatogram": 4,
    "posteriors": 4,
    "networks": 4,
    "latents": 4,
    "timesteps": 5,
    "denoising": 5,
    "measure": 7,
    "prompts": 5,
    "scales": 5,
    "windows": 5,
    "editing": 6,
    "distances": 4,
    "thresholding": 4,
    "cascade": 4,
    "dvdp": 4,
    "dvdp_bound": 5,
    "dvdp_scheduler": 6,
    "dvdp_pipeline": 7,
    "cascade_unet": 6,
    "designed": 6,
    "upsample_guidance": 6,
    "pipelines": 8,
    "training": 9,
    "sampling": 9,
    "options": 8,
    "plots": 6,
    "book": 7,
    "cli": 10,
}
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


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imports(nodes: list[ast.stmt]) -> set[str]:
    """Return the full names of what these statements import, `from a import b` as a.b."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


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
def test_every_public_name_comes_from_the_module_that_defines_it(name):
    exported = getattr(reschrom, name)
    home = importlib.import_module(f"reschrom.{reschrom._HOME[name]}")
    assert exported is vars(home)[name]
    assert exported.__module__ == home.__name__
    assert name in dir(reschrom)


def test_no_public_name_is_hidden_by_a_module_of_the_same_name():
    assert not {path.stem for path in SOURCES} & set(reschrom.__all__)


@pytest.mark.parametrize("function", public_functions())
def test_every_public_function_is_documented_and_annotated(function):
    first = (inspect.getdoc(function) or "").split("\n\n")[0]
    assert re.match(r"[A-Z].*[.:]$", first, re.DOTALL), first
    if inspect.isfunction(function):
        parameters = [p for n, p in inspect.signature(function).parameters.items() if n not in ("self", "cls")]
        assert all(p.annotation is not inspect.Parameter.empty for p in parameters)
        assert inspect.signature(function).return_annotation is not inspect.Signature.empty


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


def test_using_the_theory_loads_neither_torch_nor_diffusers_nor_plots():
    code = (
        "import sys; from reschrom import Chromatogram, Schedule, band_losses, threshold; "
        "Chromatogram.predicted(Schedule.cosine(), 64).shares; print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "reschrom.chromatogram" in loaded
    assert not {"torch", "diffusers", "matplotlib", "reschrom.plots"} & set(loaded)


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_modules_import_only_what_stands_below_them(path):
    tree, (_, *own) = ast.parse(path.read_text(encoding="utf-8")), module_of(path).split(".")
    assert not own or own[0] in RANKS, f"give {module_of(path)} a rank"
    everywhere = imports([node for node in ast.walk(tree) if isinstance(node, ast.stmt)])
    everywhere -= {"reschrom.plots"} - imports(tree.body)  # what can draw itself may ask for plots when it does
    for name in everywhere:
        root, *rest = name.split(".")
        if own and root == "reschrom" and rest and rest[0] != own[0]:
            below = rest[0] if rest[0] in RANKS else reschrom._HOME.get(rest[0], "")
            assert RANKS.get(below, -1) < RANKS[own[0]], f"{module_of(path)} imports {name}"
    if own and own[0] in RANKS and RANKS[own[0]] < RANKS["plots"]:
        assert not {name.split(".")[0] for name in imports(tree.body)} & HEAVY


def checks(function: ast.FunctionDef, helpers: dict[str, ast.FunctionDef], seen: frozenset[str] = frozenset()) -> bool:
    """Whether a test asserts anything, itself or in a function of its file that it calls."""
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


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_no_test_is_without_an_assertion(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    tests = [name for name in functions if name.startswith("test_")]
    assert tests
    assert not [name for name in tests if not checks(functions[name], functions)]
