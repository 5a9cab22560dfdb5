"""The records beside the notebook sources: the same cells, run, and nothing of the run but its results."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from reschrom.companion.build.compare import differences
from reschrom.companion.build.execute import ENVIRONMENT
from reschrom.companion.build.notebook import code_cells, declared_parameters, normalise, read_source, to_bytes
from reschrom.companion.build.pages import contents

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "notebooks").glob("*/*.md"))
PROOFS = {"proved", "agrees", "sampled"}

each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: f"{path.parent.name}/{path.stem}")


def read_record(source):
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def checks(code):
    """Return the assertions, plain or by `reschrom.companion.proof`, that some code makes."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Assert):
            yield node
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in PROOFS or name.startswith("assert_"):
                yield node


def test_every_source_has_a_record_and_every_record_a_source():
    assert SOURCES
    records = sorted((ROOT / "notebooks").rglob("*.ipynb"))
    assert records == [source.with_suffix(".ipynb") for source in SOURCES]


def test_the_contents_list_every_notebook_once():
    listed = [page for page in contents(ROOT / "_toc.yml") if page.startswith("notebooks/")]
    assert sorted(listed) == sorted(str(source.relative_to(ROOT).with_suffix("")) for source in SOURCES)


def test_the_sidebar_has_a_short_title_for_every_page():
    titles = re.findall(r"- file: (\S+)(?:\n +title: (.*))?", (ROOT / "_toc.yml").read_text())
    assert [page for page, _ in titles] == contents(ROOT / "_toc.yml")[1:]
    assert [(page, title) for page, title in titles if not 0 < len(title.strip('"')) <= 30] == []


@each_source
def test_a_record_holds_the_cells_of_its_source(source):
    def parts(notebook):
        return [(cell.id, cell.cell_type, cell.source, dict(cell.metadata)) for cell in notebook.cells]

    assert parts(read_record(source)) == parts(read_source(source)), "run `make record`"


@each_source
def test_a_record_was_run_from_top_to_bottom_without_an_error(source):
    cells = [cell for cell in read_record(source).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]


@each_source
def test_a_record_is_what_make_record_writes(source):
    content = source.with_suffix(".ipynb").read_bytes()
    assert to_bytes(normalise(nbformat.reads(content.decode(), as_version=4), ROOT)) == content
    assert not re.search(rb"/home/|/root/|/Users/|/tmp/|site-packages| at 0x[0-9a-f]{6}", content)


@each_source
def test_a_notebook_checks_what_it_says(source):
    notebook = read_source(source)
    assert sum(len(list(checks(code))) for code in code_cells(notebook)) >= 1
    declared_parameters(notebook)  # raises for a line that papermill could not override
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells) <= 1


@each_source
def test_a_declared_figure_is_drawn_and_described(source):
    for cell in read_record(source).cells:
        figure = cell.metadata.get("mystnb", {}).get("figure")
        if figure:
            pictures = [kind for output in cell.outputs for kind in output.get("data", {}) if kind.startswith("image/")]
            assert len(pictures) == 1, figure["name"]
            assert figure["caption"].strip()
            assert cell.metadata["mystnb"]["image"]["alt"].strip()


@pytest.mark.slow
def test_records_pass_nbval():
    """Whoever runs nbval on a record finds it as strict as the comparison of `make test`; two quick ones show it."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env"]
    command += ["--nbval-kernel-startup-timeout=600", "--nbval-sanitize-with=tests/nbval.cfg"]
    run = subprocess.run(
        [*command, "notebooks/theory/static-threshold.ipynb", "notebooks/theory/cascade-algebra.ipynb"],
        cwd=ROOT,
        env=os.environ | ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout


def write(path, *outputs):
    path.write_bytes(to_bytes(normalise(new_notebook(cells=[new_code_cell("run()", outputs=[*outputs])]), ROOT)))
    return path


PRINTED = new_output("stream", name="stdout", text="one\ntwo\nthree\n")
TABLE = new_output("execute_result", data={"text/html": "<table>\n<td>0.25</td>\n</table>"}, execution_count=1)
PNG = new_output("execute_result", data={"image/png": "AAAA", "text/plain": "<Figure>"}, execution_count=1)
SVG = new_output("execute_result", data={"image/svg+xml": "<svg>1</svg>", "text/plain": "<Figure>"}, execution_count=1)


def changed(output, old, new):
    return nbformat.from_dict(json.loads(json.dumps(output).replace(old, new)))


@pytest.mark.parametrize(
    ("record", "executed", "lines"),
    [
        ([PRINTED, TABLE, PNG, SVG], [PRINTED, TABLE, PNG, SVG], []),
        ([PNG, SVG], [changed(PNG, "AAAA", "BBBB"), changed(SVG, ">1<", ">2<")], []),
        ([PRINTED], [changed(PRINTED, "two", "too")], ['-    "two\\n",', '+    "too\\n",']),
        ([PRINTED], [changed(PRINTED, "two", "two ")], ['-    "two\\n",', '+    "two \\n",']),
        ([TABLE], [changed(TABLE, "0.25", "0.26")], ['-     "<td>0.25</td>\\n",', '+     "<td>0.26</td>\\n",']),
        ([SVG], [], ['-    "image/svg+xml": "a picture",']),
        ([PNG], [SVG], ['-    "image/png": "a picture",', '+    "image/svg+xml": "a picture",']),
        ([PRINTED], [PRINTED, changed(PRINTED, "stdout", "stderr")], ['+   "name": "stderr",']),
        ([PNG], [changed(PNG, "<Figure>", "<Axes>")], ['+     "<Axes>"']),
    ],
)
def test_a_notebook_is_compared_line_by_line_but_for_what_pictures_show(tmp_path, record, executed, lines):
    paths = write(tmp_path / "record.ipynb", *record), write(tmp_path / "executed.ipynb", *executed)
    found = list(differences(*paths))
    assert bool(found) == bool(lines)
    assert {*lines} <= {*found}
    assert found[:1] in ([], [f"{paths[0]}: code cell 1 gives something else than its record holds"])


def test_a_record_of_other_cells_or_none_is_told(tmp_path):
    executed = write(tmp_path / "executed.ipynb")
    assert list(differences(tmp_path / "record.ipynb", executed)) == [f"{tmp_path}/record.ipynb: there is no record"]
    empty = tmp_path / "empty.ipynb"
    empty.write_bytes(to_bytes(normalise(new_notebook(), ROOT)))
    assert list(differences(empty, executed)) == [f"{empty}: the record has 0 code cells and its source 1"]
