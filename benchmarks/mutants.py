"""Which small wrong changes of the package its tests notice: the mutation score of the five rooms of mathematics.

python benchmarks/mutants.py --results FILE [--sample 300] [--seed 0] [--slow]

A mutant is one line changed: another operator, a number one more or less, a condition turned round, a statement left
out. A sample of them, drawn by the seed and as large in each room as its share of all, is made in a copy of the
checkout. The tests that run its lines are tried on each, those of its module first, until one fails.
Torch, diffusers and the rest are imported once, and every run is a fork of the process that holds them.
Results are appended to FILE, one line of JSON each; started again with it, only what is missing is run. What the tests
run is kept beside it, FILE with the ending .notes: remove that when tests were added.
`equivalent_mutants.toml` lists mutants that no input tells from the package, each with its reason.
"""

import argparse
import ast
import contextlib
import hashlib
import importlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import coverage
import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent
ROOMS = ("theory", "denoisers", "design", "dvdp", "pipelines")
TESTS = [*(f"tests/{room}" for room in ROOMS), "tests/doors"]
# Imported once: what the tests load that is neither the package nor a plugin of pytest.
HEAVY = {
    "accelerate",
    "diffusers",
    "mpmath",
    "pandas",
    "PIL",
    "pyarrow",
    "pywt",
    "scipy",
    "skimage",
    "sklearn",
    "torch",
}
HEAVY |= {"beartype", "huggingface_hub", "matplotlib", "numpy", "pydantic", "safetensors", "sympy", "transformers"}
MEMORY = 12 * 2**30  # bytes; a mutant that wants more has failed

OPERATORS = {"+": "-", "-": "+", "*": "/", "/": "*", "**": "*", "//": "/", "%": "//", "@": "*", "&": "|", "|": "&"}
OPERATORS |= {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
OPERATORS |= {"is not": "is", "is": "is not", "not in": "in", "in": "not in", "and": "or", "or": "and"}
TWINS = [("min", "max"), ("minimum", "maximum"), ("argmin", "argmax"), ("sum", "mean"), ("any", "all"), ("sin", "cos")]
TWINS += [("floor", "ceil"), ("log", "log1p"), ("exp", "expm1"), ("std", "var"), ("zeros", "ones"), ("square", "sqrt")]
TWINS += [("zeros_like", "ones_like"), ("cumsum", "cumprod"), ("amin", "amax")]
NAMES = {a: b for pair in TWINS for a, b in (pair, pair[::-1])}


class Mutant(NamedTuple):
    """Characters `start` to `end` of a file of the package, and what is put in their place."""

    file: str
    start: int
    end: int
    new: str
    number: int
    line: str
    becomes: str
    reach: range  # lines of the statement, if it is run by a function

    @property
    def name(self) -> tuple[str, str, str]:
        """What it is called in the list of equivalent mutants, wherever in the file it is."""
        return self.file, self.line, self.becomes

    @property
    def key(self) -> tuple[str, str, str, int]:
        return *self.name, self.number


class Places(ast.NodeVisitor):
    """Collect what can be changed in a source: (first character, last, other text)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = [0]
        for line in text.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.lines = [line.encode() for line in text.splitlines()]
        self.found: list[tuple[int, int, str, range]] = []
        self.inside = 0  # functions around
        self.reach = range(0)

    def at(self, line: int, column: int) -> int:
        return self.starts[line - 1] + len(self.lines[line - 1][:column].decode())

    def span(self, node: ast.AST) -> tuple[int, int]:
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset)

    def add(self, start: int, end: int, new: str) -> None:
        self.found.append((start, end, new, self.reach))

    def change(self, node: ast.AST, new: str) -> None:
        self.add(*self.span(node), new)

    def swap(self, left: ast.AST, right: ast.AST) -> None:
        """Exchange the operator between two operands."""
        first, last = self.span(left)[1], self.span(right)[0]
        for old in sorted(OPERATORS, key=len, reverse=True):
            if (place := self.text.find(old, first, last)) >= 0:
                self.add(place, place + len(old), OPERATORS[old])
                return

    def turn(self, test: ast.expr) -> None:
        start, end = self.span(test)
        self.add(start, end, f"(not ({self.text[start:end]}))")

    def visit(self, node: ast.AST) -> None:
        match node:
            case ast.Raise() | ast.JoinedStr() | ast.Import() | ast.ImportFrom():
                return  # messages
            case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.FunctionDef(name="__repr__"):
                return
        if isinstance(node, ast.stmt) and self.inside:
            body = getattr(node, "body", None)
            self.reach = range(node.lineno, body[0].lineno if body else node.end_lineno + 1)
        elif isinstance(node, ast.match_case):
            self.reach = range(node.pattern.lineno, node.body[0].lineno)
        match node:
            case ast.BinOp(left=left, right=right) if not isinstance(node.op, ast.BitOr):  # unions of types
                self.swap(left, right)
            case ast.AugAssign(target=target, value=value):
                self.swap(target, value)
            case ast.BoolOp(values=values):
                self.swap(values[0], values[1])
            case ast.Compare(left=left, comparators=others):
                for a, b in zip([left, *others], others, strict=False):
                    self.swap(a, b)
            case ast.Constant(value=bool(value)):
                self.change(node, str(not value))
            case ast.Constant(value=int(value) | float(value)):
                self.change(node, repr(value + 1))
                self.change(node, f"({value - 1!r})")
            case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=operand):
                self.change(node, "".join(self.text[slice(*self.span(operand))]))
            case ast.Slice():
                for each in filter(None, (node.lower, node.upper, node.step)):
                    self.change(each, "")
            case ast.Call(func=ast.Name(id=name) as func) if name in NAMES:
                self.change(func, NAMES[name])
            case ast.Call(func=ast.Attribute(attr=name) as func) if name in NAMES:
                end = self.span(func)[1]
                self.add(end - len(name), end, NAMES[name])
        match node:
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
                self.turn(test)
            case ast.comprehension(ifs=[test, *_]):
                self.turn(test)
            case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Break() | ast.Continue():
                self.change(node, "pass")
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
                self.change(node, "pass")
        for name, child in ast.iter_fields(node):
            within = isinstance(node, ast.FunctionDef) and name == "body"
            self.inside += within
            if name not in ("annotation", "returns", "decorator_list", "slice" if node_is_type(node) else ""):
                for each in child if isinstance(child, list) else [child]:
                    if isinstance(each, ast.AST):
                        self.visit(each)
            self.inside -= within
        if isinstance(node, ast.stmt) and not self.inside:
            self.reach = range(0)


def node_is_type(node: ast.AST) -> bool:
    """Return whether this is a type of arrays with its shape, such as `Float[Array, "bands"]`."""
    return isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in ("Float", "Num")


def mutants(path: Path) -> Iterator[Mutant]:
    """Yield every mutant of a file of the package that Python can read."""
    text = path.read_text()
    places = Places(text)
    places.visit(ast.parse(text))
    for start, end, new, reach in dict.fromkeys(places.found):
        begin, stop = text.rfind("\n", 0, start) + 1, text.find("\n", end)
        line, becomes = text[begin:stop], text[begin:start] + new + text[end:stop]
        try:
            compile(text[:start] + new + text[end:], path, "exec", dont_inherit=True)
        except (SyntaxError, SyntaxWarning):
            continue
        number = text.count("\n", 0, start) + 1
        yield Mutant(str(path.relative_to(ROOT)), start, end, new, number, line.strip(), becomes.strip(), reach)


def sample(size: int, seed: int) -> tuple[list[Mutant], dict[str, int]]:
    """Return the mutants drawn, and how many there are in each room. A change elsewhere draws nearly the same ones."""

    def lot(mutant: Mutant) -> bytes:
        return hashlib.sha256(f"{seed} {mutant.name}".encode()).digest()

    everything = {
        room: [each for path in sorted((ROOT / "reschrom" / room).glob("*.py")) for each in mutants(path)]
        for room in ROOMS
    }
    total = sum(map(len, everything.values()))
    drawn = []
    for of_room in everything.values():
        drawn += sorted(of_room, key=lot)[: -(-size * len(of_room) // total)]
    return sorted(drawn, key=lot), {room: len(of_room) for room, of_room in everything.items()}


class Watch:
    """A plugin of pytest that notes which test runs which lines of the rooms, and how long each test takes."""

    def __init__(self, data: Path) -> None:
        self.coverage = coverage.Coverage(data, config_file=False, include=[f"reschrom/{room}/*" for room in ROOMS])
        self.seconds: dict[str, float] = {}
        self.running = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.running = item.nodeid
        self.coverage.switch_context(item.nodeid)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef) -> Iterator[None]:
        """What is made once for a file of tests is seen by all of them."""
        shared = fixturedef.scope != "function" and self.running
        self.coverage.switch_context(self.running.split("::")[0] if shared else self.running)
        try:
            return (yield)
        finally:
            self.coverage.switch_context(self.running)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Iterator[None]:
        self.coverage.switch_context(collector.nodeid.split("::")[0])
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration


class Choice:
    """A plugin of pytest that runs some of the tests it finds, the quickest first."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds = seconds

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((each for each in items if each.nodeid in self.seconds), key=lambda i: self.seconds[i.nodeid])


def forked(action: Callable[[], int], limit: float) -> bool:
    """Return whether an action ends with 0 in a fork of this process, within so many seconds of CPU."""
    child = os.fork()
    if child == 0:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit)))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        os._exit(action())
    return os.waitpid(child, 0)[1] == 0


def run(tests: Iterable[str], plugin: object) -> int:
    options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    options += ["--hypothesis-profile=mutants", f"--basetemp={Path.cwd().parent / 'tmp'}"]
    return pytest.main([*options, *tests], [plugin])


def watch(notes: Path, slow: bool) -> int:
    """Run all tests on the package as it is, and write down what each runs, its seconds, and the modules loaded."""
    watch = Watch(notes.with_suffix(".coverage"))
    watch.coverage.start()
    status = run([*([] if slow else ["-m", "not slow"]), *TESTS], watch)
    watch.coverage.stop()
    watch.coverage.save()
    if status == 0:
        notes.write_text(json.dumps({"seconds": watch.seconds, "loaded": list(sys.modules)}))
    return status


def prepare(copy: Path) -> None:
    """Copy the checkout and go there."""
    listed = ["git", "ls-files", "-co", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in names:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    os.chdir(copy)
    sys.path[:] = [str(copy), *(path for path in sys.path if path != str(ROOT))]
    os.environ.update(PYTHONPATH=str(copy), OMP_NUM_THREADS="1")
    settings.register_profile("mutants", derandomize=True, database=None, deadline=None, max_examples=30)


def stages(mutant: Mutant, seconds: Mapping[str, float], lines: Mapping[int, Sequence[str]]) -> Iterator[set[str]]:
    """Yield sets of tests: those that run the lines of a mutant, its module's first, and the others of its module."""
    reached = set().union(*(lines.get(line, ()) for line in mutant.reach or lines))
    tests = {test for test in seconds if reached & {test, test.split("::")[0]}}
    _, room, module = Path(mutant.file).with_suffix("").parts
    ours = {test for test in tests if test.startswith(f"tests/{room}/")}
    own = {test for test in seconds if test.startswith(f"tests/{room}/test_{module.strip('_')}")}
    yield tests & own
    yield ours - own
    yield tests - ours
    yield own - tests  # something kept from an earlier test may be what they look at


def measure(drawn: list[Mutant], slow: bool, results: Path) -> None:
    """Run every mutant that has no result yet."""
    done = {tuple(json.loads(line)["key"]) for line in results.read_text().splitlines()} if results.exists() else set()
    left = [each for each in drawn if each.key not in done]
    notes = results.with_suffix(".notes")
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder).resolve() / "copy")
        if not notes.exists() and not forked(lambda: watch(notes, slow), 7200):
            raise SystemExit("all tests must pass before mutants are tried")
        noted = json.loads(notes.read_text())
        data = coverage.CoverageData(notes.with_suffix(".coverage"))
        data.read()
        ran = {path.split("/copy/")[1]: data.contexts_by_lineno(path) for path in data.measured_files()}
        for name in noted["loaded"]:
            if name.split(".")[0] in HEAVY:
                with contextlib.suppress(ImportError):  # a test put it there, or it lacks what is optional
                    importlib.import_module(name)
        sys.dont_write_bytecode = True  # what is compiled now may be of a mutant
        for each in left:
            source = Path(each.file)
            right = source.read_text()
            source.write_text(right[: each.start] + each.new + right[each.end :])
            for compiled in source.parent.glob(f"__pycache__/{source.stem}.*"):
                compiled.unlink()
            start, by = time.monotonic(), ""
            for chosen in filter(None, stages(each, noted["seconds"], ran.get(each.file, {}))):
                seconds = {test: noted["seconds"][test] for test in chosen}
                files = sorted({test.split("::")[0] for test in chosen})
                if not forked(lambda: run(files, Choice(seconds)), 20 + 3 * sum(seconds.values())):  # noqa: B023
                    by = f"{len(chosen)} tests in {' '.join(files)}"
                    break
            source.write_text(right)
            result = {"key": each.key, "killed": bool(by), "by": by, "seconds": round(time.monotonic() - start, 1)}
            with results.open("a") as file:
                file.write(json.dumps(result, ensure_ascii=False) + "\n")


def report(drawn: list[Mutant], counts: dict[str, int], results: Path) -> None:
    """Print the score of each room, and the survivors."""
    killed = {tuple(each["key"]): each["killed"] for each in map(json.loads, results.read_text().splitlines())}
    listed = tomllib.loads((Path(__file__).parent / "equivalent_mutants.toml").read_text())["mutant"]
    equivalent = {(each["file"], each["line"], each["becomes"]) for each in listed}
    tally: Counter[tuple[str, str]] = Counter()
    for each in drawn:
        what = "killed" if killed[each.key] else "equivalent" if each.name in equivalent else "survived"
        tally[Path(each.file).parts[1], what] += 1
        if what == "survived":
            print(f"{each.file}:{each.number}\n    {each.line}\n    {each.becomes}")
    print(f"{'room':12}{'mutants':>9}{'drawn':>7}{'killed':>8}{'survived':>10}{'equivalent':>12}{'score':>8}")
    for rooms in (*((room,) for room in ROOMS), ROOMS):
        k, s, e = (sum(tally[room, what] for room in rooms) for what in ("killed", "survived", "equivalent"))
        name, mine = rooms[0] if len(rooms) == 1 else "all", sum(counts[room] for room in rooms)
        print(f"{name:12}{mine:9}{k + s + e:7}{k:8}{s:10}{e:12}{k / (k + s):8.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, required=True, help="where results are kept, outside the checkout")
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slow", action="store_true", help="run the tests marked slow too")
    given = parser.parse_args()
    drawn, counts = sample(given.sample, given.seed)
    results = given.results.resolve()
    measure(drawn, given.slow, results)
    report(drawn, counts, results)


if __name__ == "__main__":
    main()
