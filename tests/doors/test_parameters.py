"""A notebook refuses parameters that it does not declare, or that are of another type, where papermill takes them."""

import subprocess
import sys
from pathlib import Path

import pytest
from doors.door import Row, refuse

from reschrom.companion.build.notebook import code_cells, read_source
from reschrom.companion.parameters import assigned, check, check_given

ROOT = Path(__file__).parents[2]
DECLARED = {
    "seed": 0,
    "guidance": 3.0,
    "claims": True,
    "model": "",
    "prompts": ["a cat", "a dog"],
    "pairs": [["a lemon", "a pineapple"]],
    "points": (0.4, 0.7),
    "models": [],
    "schedules": {"cosine": {}},
    "prompt": None,
}
FITTING = [
    {},
    {"seed": 7},
    {"guidance": 4, "prompt": "a cat"},
    {"guidance": 4.5, "claims": False, "prompt": None},
    {"prompts": ["an owl"], "pairs": [["an owl", "a cat"]], "points": [0, 0.5]},
    {"prompts": [], "models": ["anything", 1], "schedules": {}},
]
WRONG = {
    "sead": (0, ValueError, "no parameter 'sead'; there are: seed, guidance"),
    "": (0, ValueError, "no parameter ''"),
    "seed": ([1.5, "1", True, None, [0], float("nan")], TypeError, "seed must be of the same type as 0; got"),
    "guidance": (["3", True, None, [3.0]], TypeError, r"guidance must be of the same type as 3\.0; got"),
    "claims": ([0, "False", None], TypeError, "claims must be of the same type as True; got"),
    "model": ([7, None, ["a"], False], TypeError, "model must be of the same type as ''; got"),
    "prompts": (["owl", [1, 2], ["a", None], {"a": 1}, 1], TypeError, "same type as .*; papermill takes lists .* -y"),
    "pairs": ([["a", "b"], [[1]], "a"], TypeError, "pairs must be of the same type as"),
    "points": ([0.4, "0.4, 0.7", [True]], TypeError, "points must be of the same type as"),
    "models": (["a", 0, {}], TypeError, "models must be of the same type as"),
    "schedules": (["cosine", ["cosine"]], TypeError, "schedules must be of the same type as"),
}
ROWS = [
    (name, value, kind, words)
    for name, (values, kind, words) in WRONG.items()
    for value in (values if isinstance(values, list) else [values])
]


@pytest.mark.parametrize("given", FITTING)
def test_what_fits_is_taken(given):
    check_given(DECLARED, given)


@pytest.mark.parametrize(("name", "value", "kind", "words"), ROWS)
def test_what_does_not_fit_is_refused(name, value, kind, words, tmp_path):
    refuse(Row(lambda: check_given(DECLARED, {name: value}), kind, words), tmp_path)


def test_a_notebook_is_judged_by_what_papermill_put_into_it():
    check(["", "import numpy", "seed = 0  # of the noise", "seed = 1"])  # a reader's own line
    check(["", "seed = 0  # of the noise", "# Parameters\nseed = 1\n"])
    with pytest.raises(ValueError, match="no parameter 'sead'"):
        check(["", "import numpy", "seed = 0", "# Parameters\nsead = 1\n"])


@pytest.mark.parametrize("line", ["seed = 1 + n", "seed: int = 1", "seed, n = 1, 2", "seed += 1", "print()"])
def test_a_parameter_is_a_name_and_a_literal(line):
    with pytest.raises(ValueError, match="a parameter is `name = literal`, not"):
        assigned(line)


@pytest.mark.parametrize("source", sorted(ROOT.glob("notebooks/*/*.md")), ids=lambda path: path.stem)
def test_every_notebook_checks_what_it_is_given(source):
    notebook = read_source(source)
    (declared,) = (cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    cells = code_cells(notebook)
    assert cells[cells.index(declared) + 1].endswith("\nparameters.check(In)")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["-p", "sead", "1"], "ValueError: there is no parameter 'sead'"),
        (["-p", "seed", "one"], "TypeError: seed must be of the same type as 0; got 'one'"),
    ],
)
def test_a_record_run_by_papermill_ends_at_once(tmp_path, given, told):
    record = ROOT / "notebooks" / "theory" / "scaling-relation.ipynb"
    command = [sys.executable, "-m", "papermill", str(record), str(tmp_path / "out.ipynb"), *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert told in done.stderr
