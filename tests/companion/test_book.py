"""The parts of the build, one by one: what code depends on, how notebooks are read and kept, what pages must hold."""

import base64
import http.client
import http.server
import json
import pathlib
import re
import shutil
import threading

import nbformat
import pytest

from reschrom.companion.__main__ import main
from reschrom.companion.build import execute, pages, stage
from reschrom.companion.build.depends import PACKAGE, dependencies
from reschrom.companion.build.notebook import declared_parameters, normalise, read_source, to_bytes
from reschrom.companion.build.plan import Plan
from reschrom.companion.build.serve import serve, server

HEADER = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {name: python3, display_name: Python 3}
---
"""


def write_source(path, *cells):
    path.write_text(HEADER + "".join(f"\n```{{code-cell}} ipython3\n{cell}\n```\n" for cell in cells))
    return path


@pytest.fixture
def package(tmp_path):
    files = {
        "__init__.py": "",
        "__init__.pyi": "from .shapes import area as area\nfrom .colour import paint as paint\n",
        "shapes.py": "from .tools import ruler\n",
        "colour.py": 'import numpy\nPALETTE = "palette.json"\nMODEL = "data/models/tiny"\n',
        "palette.json": "{}",
        "tools/__init__.py": "",
        "tools/ruler.py": "def lazy():\n    from ..units import metre\n",
        "units.py": "metre = 1\n",
        "draw/__init__.py": "",
        "draw/__init__.pyi": "from .pen import line as line\nfrom .brush import dot as dot\n",
        "draw/pen.py": "",
        "draw/brush.py": "import toolbox.colour\n",
    }
    for name, text in files.items():
        path = tmp_path / "toolbox" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ("tiny/a.bin", "tiny/deep/b.bin", "other/c.bin"):
        path = tmp_path / "data" / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "toolbox"


SHAPES = {"__init__.py", "shapes.py", "tools/__init__.py", "tools/ruler.py", "units.py"}
COLOUR = {"__init__.py", "colour.py", "palette.json", "../data/models/tiny/a.bin", "../data/models/tiny/deep/b.bin"}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import numpy", set()),
        ("import toolbox", {"__init__.py"}),
        ("from toolbox import area", SHAPES),
        ("import toolbox as t\nt.area(1)", SHAPES),
        ("import toolbox.shapes", SHAPES),
        ("import toolbox.tools.ruler as r", SHAPES - {"shapes.py"}),
        ("from toolbox import paint", COLOUR),
        ("from toolbox import *", SHAPES | COLOUR),
        ("from toolbox import draw\ndraw.line()", {"__init__.py", "draw/__init__.py", "draw/pen.py"}),
        ("import toolbox\ntoolbox.draw.dot()", COLOUR | {"draw/__init__.py", "draw/brush.py"}),
        ("load('data/models/other/c.bin')", {"../data/models/other/c.bin"}),
        ("load('data/models/absent')", set()),
    ],
)
def test_code_depends_on_what_it_imports_and_names(package, code, expected):
    found = dependencies([code], package.parent, package)
    assert found == {(package / name).resolve() for name in expected}


def test_a_cell_uses_what_another_imports(package):
    found = dependencies(["from toolbox import draw", "draw.line()"], package.parent, package)
    assert (package / "draw" / "pen.py").resolve() in found


def test_code_that_cannot_be_read_depends_on_everything(package):
    assert dependencies(["%magic"], package.parent, package) >= set(package.rglob("*.py"))


def test_a_run_does_not_depend_on_what_renders_the_pages(root):
    files = dependencies(["import reschrom.companion.build.execute"], root)
    folder = PACKAGE / "companion" / "build"
    assert folder / "notebook.py" in files
    assert not files & {folder / name for name in ("stage.py", "pages.py", "graph.py", "ledger.py")}


def test_every_import_of_the_package_is_followed(root):
    """The drawing style is a file that no import names."""
    files = dependencies(["from reschrom import plots\nplots.Figure()"], root)
    assert {PACKAGE / "plots" / "_figure.py", PACKAGE / "plots" / "reschrom.mplstyle"} <= files


def test_parameters_are_read_from_their_cell(tmp_path):
    source = write_source(
        tmp_path / "a.md", ":tags: [parameters]\nseed = 0  # help\ntimes = (0.5, -1)\nname = None", "x = 1"
    )
    assert declared_parameters(read_source(source)) == {"seed": 0, "times": (0.5, -1), "name": None}


@pytest.mark.parametrize("line", ["seed: int = 0", "a = b = 1", "print(1)", "seed = int(0)"])
def test_a_parameter_that_is_no_plain_literal_is_refused(tmp_path, line):
    source = write_source(tmp_path / "a.md", f":tags: [parameters]\n{line}")
    with pytest.raises(ValueError, match="name = literal"):
        declared_parameters(read_source(source))


def test_an_executed_notebook_holds_nothing_of_its_run(tmp_path):
    cell = nbformat.v4.new_code_cell("x", metadata={"tags": [], "papermill": {"duration": 1}, "execution": {"a": "b"}})
    cell.outputs = [
        nbformat.v4.new_output("stream", name="stdout", text=f"{tmp_path}/a"),
        nbformat.v4.new_output("stream", name="stdout", text=".py\n"),
        nbformat.v4.new_output("stream", name="stderr", text="b\n"),
    ]
    injected = nbformat.v4.new_code_cell("seed = 1", metadata={"tags": ["injected-parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[cell, injected], metadata={"papermill": {"start_time": "now"}})
    content = to_bytes(normalise(notebook, tmp_path))
    kept = json.loads(content)
    assert [cell["id"] for cell in kept["cells"]] == ["cell-000", "cell-001"]
    assert kept["cells"][0]["metadata"] == {}
    assert [output["text"] for output in kept["cells"][0]["outputs"]] == [["a.py\n"], ["b\n"]]
    assert kept["cells"][1]["metadata"]["tags"] == ["injected-parameters", "remove-input"]
    assert set(kept["metadata"]) == {"kernelspec", "language_info"}
    assert to_bytes(normalise(nbformat.reads(content.decode(), 4), tmp_path)) == content


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "cell", "cause"),
    [
        ([], "raise ValueError('\\n'.join(map(str, range(200))))", "a.md: code cell 1 failed with ValueError"),
        ([], "import os\nos._exit(1)", "a.md: the kernel died"),
        (["--parameters", '{"sead": 1}'], "seed = 0", "a.md: there is no parameter 'sead'"),
    ],
)
def test_a_notebook_that_fails_leaves_nothing(tmp_path, monkeypatch, capfd, arguments, cell, cause):
    monkeypatch.chdir(tmp_path)
    write_source(tmp_path / "a.md", cell)
    assert execute.main(["a.md", "out/a.ipynb", *arguments]) == 1
    story = capfd.readouterr().err
    assert cause in story
    assert len(story.splitlines()) < 40, "a long traceback is cut"
    assert "ValueError" not in cause or story.endswith("\n199\n\n")
    assert not (tmp_path / "out").exists()


def make_tree(folder, picture):
    """A staged book with one notebook, and the page that was rendered from it."""
    tree, html = folder / "tree", folder / "html"
    tree.mkdir()
    html.mkdir()
    (tree / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nparts:\n- chapters:\n  - file: one\n    sections:\n    - file: two.md\n"
    )
    cell = nbformat.v4.new_code_cell("draw()", metadata={"mystnb": {"figure": {"name": "fig-a"}}})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tree / "one.ipynb")
    for page in ("index", "one", "two"):
        (html / f"{page}.html").write_text(f"<h1>{page}</h1>{picture}")
    (html / "a.png").write_bytes(b"a picture")
    return html, tree


@pytest.mark.parametrize(
    ("picture", "fault"),
    [
        ('<figure id="fig-a"><img src="a.png" alt="A line."></figure>', None),
        ('<img src="a.png" alt="A line.">', "its cell shows no picture"),
        ('<figure id="fig-a"><pre>text</pre></figure>', "its cell shows no picture"),
        ('<figure id="fig-a"><img src="b.png" alt="A line."></figure>', "there is no file b.png"),
        ('<figure id="fig-a"><img src="a.png"></figure>', "has no alt text"),
        ('<figure id="fig-a"><img src="a.png" alt=" "></figure>', "has no alt text"),
    ],
)
def test_a_declared_figure_must_be_on_its_page_with_its_text(tmp_path, picture, fault):
    faults = pages.missing(*make_tree(tmp_path, picture))
    assert len(faults) == (fault is not None)
    assert all("one: figure 'fig-a'" in line and fault in line for line in faults)


def test_the_picture_of_a_figure_can_be_taken_out(tmp_path):
    drawn = {"image/png": base64.b64encode(b"dots").decode(), "text/plain": "<Figure>"}
    lines = {"image/svg+xml": "<svg/>", "text/plain": "<Figure>"}
    cells = []
    for name, data in (("fig-dots", drawn), ("fig-lines", lines), (None, drawn), ("fig-none", {"text/plain": "1"})):
        metadata = {"mystnb": {"figure": {"name": name}}} if name else {}
        output = nbformat.v4.new_output("execute_result", data=data, execution_count=1)
        cells.append(nbformat.v4.new_code_cell("draw()", metadata=metadata, outputs=[output]))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
    assert pages.pictures(tmp_path / "a.ipynb") == {"fig-dots.png": b"dots", "fig-lines.svg": b"<svg/>"}


def test_a_page_that_was_not_made_is_named(tmp_path):
    html, tree = make_tree(tmp_path, '<figure id="fig-a"><img src="a.png" alt="A line."></figure>')
    (html / "two.html").unlink()
    assert pages.contents(tree / "_toc.yml") == ["index", "one", "two"]
    assert pages.missing(html, tree) == ["two.html: the page was not made"]


def test_the_book_is_served_to_this_machine_alone(tmp_path):
    (tmp_path / "index.html").write_text("the book")
    with server(tmp_path) as pages:
        host, port = pages.server_address
        assert host == "127.0.0.1"
        thread = threading.Thread(target=pages.handle_request)
        thread.start()
        connection = http.client.HTTPConnection(host, port)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"the book"
        connection.close()
        thread.join()


def test_serving_a_book_that_is_not_there_says_how_to_make_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["serve"]) == 1
    assert "`make book` makes it" in capsys.readouterr().err


def test_the_reader_ends_the_server(tmp_path, monkeypatch, capsys):
    def interrupt(self):
        raise KeyboardInterrupt

    (tmp_path / "index.html").write_text("the book")
    monkeypatch.setattr(http.server.ThreadingHTTPServer, "serve_forever", interrupt)
    assert serve(tmp_path) == 0
    assert capsys.readouterr().out.startswith("http://127.0.0.1:")


def test_a_plan_knows_each_run_and_what_it_needs(root):
    plan = Plan.read(root / "tests" / "toy", "seeded")
    assert plan.notebooks == ["figures/picture", "theory/number"]
    assert [plan.variant(name) for name in plan.notebooks] == ["defaults", "seeded"]
    assert plan.parameters("theory/number", "seeded") == {"seed": 7}
    assert plan.parameters("theory/number", "defaults") == {}
    needs = plan.needs("theory/number", "seeded")
    assert {"data/models/tiny/weights.txt", "constraints.txt", "../../reschrom/theory/matching.py"} <= set(needs)
    assert "../../reschrom/plots/_figure.py" in plan.needs("figures/picture", "defaults")
    pages_need = plan.book_needs()
    assert {"_toc.yml", "book/dot.svg", "notebooks/theory/number.md", "../../reschrom/cli/commands.py"} <= set(
        pages_need
    )


def test_weights_named_by_a_profile_are_needed(root, tmp_path):
    toy = shutil.copytree(root / "tests" / "toy", tmp_path / "toy")
    shutil.copytree(toy / "data" / "models" / "tiny", toy / "data" / "models" / "large")
    (toy / "profiles" / "large.yaml").write_text("theory/number: {model: data/models/large}\n")
    assert "data/models/large/weights.txt" in Plan.read(toy, "large").needs("theory/number", "large")
    assert "data/models/large/weights.txt" not in Plan.read(toy, "cpu").needs("theory/number", "defaults")


@pytest.mark.slow
def test_a_notebook_is_run_and_rendered_here(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(shutil.copytree(root / "tests" / "toy", tmp_path / "toy"))
    for name in ("theory/number", "figures/picture"):
        assert execute.main([f"notebooks/{name}.md", f"run/{name}.ipynb"]) == 0
    assert stage.main(["html", "run/theory/number.ipynb", "run/figures/picture.ipynb"]) == 0
    assert "rendered the pages" in capsys.readouterr().out
    assert "seed 0 0.8" in pathlib.Path("html/notebooks/theory/number.html").read_text()
    pathlib.Path("book/dot.svg").unlink()
    assert stage.main(["another", "run/theory/number.ipynb"]) == 1
    story = capsys.readouterr().err
    assert "notebooks/figures/picture" in story
    assert "book/index.md:3: WARNING: image file not readable: book/dot.svg" in story
    assert not pathlib.Path("another").exists()


def test_make_starts_everything_through_python(root):
    """A console script names its Python in the first line, where a path with a space is cut."""
    assert set(re.findall(r"\$\(BIN\)/(\w+)", (root / "Makefile").read_text())) == {"python"}
