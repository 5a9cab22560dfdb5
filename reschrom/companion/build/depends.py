"""Which files a piece of code really depends on, read from its source without running it."""

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import reschrom

PACKAGE = Path(reschrom.__file__).parent
EVERYTHING = frozenset({"*"})


def dependencies(sources: Iterable[str], root: Path, package: Path = PACKAGE) -> set[Path]:
    """Return the package's modules that `sources` import, directly or not, and the data files that they name.

    sources: Python code, one notebook cell each. Names imported from the package itself are followed to the module
    that defines them. A string literal that starts with "data/" and names a file or folder below `root` counts with
    every file in it, and so does a literal that names a file beside the module that holds it.
    """
    waiting: set[str] = set()
    whole = ast.Module([], [])  # one cell imports what another uses
    for source in sources:
        try:
            whole.body += ast.parse(source).body
        except SyntaxError:  # a magic, or an error that running it will report
            waiting |= EVERYTHING
    waiting |= set(_imports(whole, "", package))
    files = set(_data_files(whole, root, root))
    modules: set[Path] = set()
    while waiting:
        name = waiting.pop()
        if name == "*":
            modules |= set(package.rglob("*.py"))
            continue
        path = module_file(name, package)
        if path is not None and path not in modules:
            modules.add(path)
            imported, named = _leads_to(name, path, path.stat().st_mtime_ns, package, root)
            waiting |= imported
            files |= named
    return modules | files


def named_data(value: object, root: Path) -> set[Path]:
    """Return the files below `root` that a parameter value such as "data/models/pocket-64" names."""
    if not isinstance(value, str) or not value.startswith("data/"):
        return set()
    path = root / value
    return {file for file in (path, *path.rglob("*")) if file.is_file()}


def module_file(name: str, package: Path) -> Path | None:
    """Return the file of a module of the package, given its dotted name; None where there is no such module."""
    path = package.joinpath(*name.split(".")[1:])
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _package_of(name: str, path: Path) -> str:
    return name if path.name == "__init__.py" else name.rpartition(".")[0]


@functools.cache  # every notebook asks for the same modules
def _leads_to(name: str, path: Path, changed: int, package: Path, root: Path) -> tuple[frozenset[str], frozenset[Path]]:
    """Return the names that a module imports of its package, and the data files that it names."""
    tree = _parse(path, changed)
    imported = _imports(tree, _package_of(name, path), package)
    return frozenset(imported), frozenset(_data_files(tree, root, path.parent))


@functools.cache
def _parse(path: Path, _changed: int) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def _homes(package: Path) -> dict[str, str]:
    """Read the stub, if a package has one, that says which module defines each of its public names."""
    stub = package / "__init__.pyi"
    if not stub.is_file():
        return {}
    nodes = [node for node in _parse(stub, stub.stat().st_mtime_ns).body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module for node in nodes if node.module for alias in node.names}


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        yield ".".join(parts[:end])


def _imports(tree: ast.Module, inside: str, package: Path) -> Iterator[str]:
    """Yield the dotted names of the package's modules that the code imports; `inside` is the package it stands in."""
    known: dict[str, str] = {}  # a name in the code -> the module that it stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == package.name:
                    yield from _with_parents(name.name)
                    known[name.asname or package.name] = name.name if name.asname else package.name
        elif isinstance(node, ast.ImportFrom):
            above = inside.split(".")[: len(inside.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            if module.split(".")[0] == package.name:
                yield from _with_parents(module)
                for name in node.names:
                    yield from _member(module, name.name, package)
                    if module_file(f"{module}.{name.name}", package) is not None:
                        known[name.asname or name.name] = f"{module}.{name.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            base = _meaning(node.value, known)
            if base is not None:
                yield from _member(base, node.attr, package)


def _meaning(node: ast.expr, known: dict[str, str]) -> str | None:
    """Return the dotted name that an expression such as `reschrom.plots` stands for."""
    match node:
        case ast.Name(id=name):
            return known.get(name)
        case ast.Attribute(value=value, attr=name) if (base := _meaning(value, known)) is not None:
            return f"{base}.{name}"
        case _:
            return None


def _member(module: str, name: str, package: Path) -> Iterator[str]:
    """Yield the module that defines a name of a module: itself a module, or listed in the stub of a package."""
    path = module_file(module, package)
    if path is None or path.name != "__init__.py":
        return
    homes = _homes(path.parent)
    if name == "*":
        yield from (f"{module}.{home}" for home in homes.values())
    elif name in homes:
        yield f"{module}.{homes[name]}"
    elif module_file(f"{module}.{name}", package) is not None:
        yield f"{module}.{name}"


def _data_files(tree: ast.Module, root: Path, beside: Path) -> Iterator[Path]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) < 200:
            yield from named_data(node.value, root)
            neighbour = beside / node.value
            if "/" not in node.value and neighbour.suffix not in ("", ".py") and neighbour.is_file():
                yield neighbour
