"""The build graph, tried on a book of two notebooks: what is run again, what fails, what survives a kill."""

import fcntl
import json
import os
import re
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reschrom.companion.__main__ import main
from reschrom.companion.build import graph
from reschrom.companion.build.plan import Plan

pytestmark = pytest.mark.slow

NUMBER, PICTURE = "notebooks/theory/number.md", "notebooks/figures/picture.md"
NOBODY = 65534
EXECUTED = "_build/executed/defaults"


def lay_out(root: Path, folder: Path) -> Path:
    """Put the toy book into `folder`, with this checkout's graph and a copy of its package to edit."""
    shutil.copytree(root / "tests" / "toy", folder)
    shutil.copy(root / "Snakefile", folder)
    for profile in ("default", "slurm"):
        shutil.copytree(root / "profiles" / profile, folder / "profiles" / profile)
    shutil.copytree(root / "reschrom", folder / "reschrom", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def dry_run(profile: str = "cpu") -> str:
    """Return what Snakemake says that a build would do now, and why."""
    command = [sys.executable, "-m", "snakemake", "book", "--dry-run", "--cores", "1", "--nolock"]
    run = subprocess.run(
        [*command, "--config", f"profile={profile}"], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


def reasons(story: str) -> dict[str, str]:
    """Return why Snakemake makes each file."""
    return dict(re.findall(r"^    output: (\S+)\n(?:    .*\n)*?    reason: (.*)$", story, re.MULTILINE))


@pytest.fixture(scope="session")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy book as it is built in an awkward place.

    Folders have a space in their names, Python's own as well. There is no home. The kernel called `python3` is
    another program, and the reader's own start of IPython changes what notebooks compute.
    """
    place = tmp_path_factory.mktemp("toy") / "a book"
    folder = lay_out(root, place / "built")
    venv.create(place / "a python", symlinks=True)
    python = place / "a python" / "bin" / "python"
    (packages,) = (place / "a python").glob("lib/*/site-packages")
    (packages / "same.pth").write_text("\n".join(site.getsitepackages()))
    kernel = place / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(json.dumps({"argv": ["false"], "language": "python", "display_name": "Another"}))
    startup = place / "ipython" / "profile_default" / "startup" / "round.py"
    startup.parent.mkdir(parents=True)
    startup.write_text("import builtins\nbuiltins.round = lambda *_: 'otherwise'\n")
    awkward = {"HOME": "/dev/null/home", "JUPYTER_PATH": place / "jupyter", "IPYTHONDIR": place / "ipython"}
    subprocess.run(
        [python, "-m", "reschrom.companion", "--cores", "2", "build"],
        cwd=folder,
        env=os.environ | {name: str(value) for name, value in awkward.items()} | {"PYTHONPATH": str(folder)},
        stdin=subprocess.DEVNULL,
        check=True,
    )
    return folder


@pytest.fixture
def project(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the built book, which is whole in any place; the test runs inside it."""
    folder = Path(shutil.copytree(built, tmp_path / "project"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def test_every_page_is_made_and_nothing_else_is_left(built):
    html = built / "_build" / "html"
    pages = {str(path.relative_to(html)) for path in html.rglob("*.html")}
    assert pages >= {"index.html", "book/index.html", "notebooks/theory/number.html", "notebooks/figures/picture.html"}
    assert "seed 0 0.8" in (html / "notebooks" / "theory" / "number.html").read_text()
    left = {path.name for path in (built / "_build").iterdir()}
    assert left == {".lock", "cache", "executed", "html", "log", "snakemake.log"}


def test_a_notebook_holds_nothing_of_where_it_was_run(built):
    (*_, number), (*_, picture) = (
        json.loads((built / EXECUTED / f"{name}.ipynb").read_text())["cells"]
        for name in ("theory/number", "figures/picture")
    )
    assert [output["text"] for output in number["outputs"]] == [["Eq. (16) holds (numeric): halving\n", "seed 0 0.8\n"]]
    assert [set(output["data"]) for output in picture["outputs"]] == [{"image/svg+xml", "text/plain"}]


def test_a_second_build_waits_and_makes_a_page_that_was_taken_away_without_running_anything(project):
    page = project / "_build" / "html" / "notebooks" / "theory" / "number.html"
    page.unlink()
    with (project / "_build" / ".lock").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        command = [sys.executable, "-m", "reschrom.companion", "build"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, **pipes) as second:
            assert second.stderr.readline() == "waiting for another build in this checkout\n"
            assert second.poll() is None
            assert not page.exists()
            fcntl.flock(first, fcntl.LOCK_UN)
            rendered, told, *nothing = second.stdout.read().splitlines()
    assert second.returncode == 0
    assert rendered.startswith("rendered the pages in")
    assert (told, nothing) == ("the book: _build/html/index.html", [])
    assert page.is_file()


def test_exactly_what_depends_on_an_edit_is_run_again(project):
    edit(project / "book/index.md", "# Toy", "# A toy")
    assert reasons(dry_run()) == {"_build/html/.complete": "Updated input files: book/index.md"}
    edit(project / NUMBER, "# A number", "# A small number")
    edit(project / "reschrom/companion/proof.py", '"""', '"""Edited. ')
    edit(project / "data/models/tiny/weights.txt", "stands", "still stands")
    found = reasons(dry_run())
    assert set(found) == {f"{EXECUTED}/theory/number.ipynb", "_build/html/.complete"}
    inputs, files = found[f"{EXECUTED}/theory/number.ipynb"].split(": ")
    assert inputs == "Updated input files"
    assert {*files.split(", ")} == {NUMBER, "reschrom/companion/proof.py", "data/models/tiny/weights.txt"}


def test_a_profile_runs_what_it_overrides_and_shares_the_rest(project):
    shared = project / EXECUTED / "figures" / "picture.ipynb"
    before = shared.stat().st_mtime_ns
    assert main(["build", "--profile", "seeded"]) == 0
    page = (project / "_build" / "html" / "notebooks" / "theory" / "number.html").read_text()
    assert "seed 7 0.8" in page
    assert "# Parameters" not in page
    assert shared.stat().st_mtime_ns == before
    edit(project / "profiles" / "seeded.yaml", "7", "8")
    executed = "_build/executed/seeded/theory/number.ipynb"
    found = reasons(dry_run("seeded"))
    assert set(found) == {executed, "_build/html/.complete"}
    assert found[executed].startswith("Params have changed")


def test_a_failing_cell_fails_the_build_and_is_named_and_the_old_book_stays(project, capfd, monkeypatch):
    edit(project / NUMBER, "assert seed >= 0", 'raise RuntimeError("the sky fell")')
    assert main(["build"]) == 1
    story = "".join(capfd.readouterr())
    assert f"{NUMBER}: code cell 2 failed with RuntimeError" in story
    assert "the sky fell" in story
    assert len(story.splitlines()) < 40
    assert "seed 0" in (project / "_build" / "html" / "notebooks" / "theory" / "number.html").read_text()
    monkeypatch.setattr(graph, "_snakemake", lambda *_: 1)
    assert main(["record"]) == 1
    assert main(["check"]) == 1
    assert not list((project / "notebooks").rglob("*.ipynb"))


def test_a_figure_taken_away_fails_the_build_and_is_named(project, capfd):
    edit(project / PICTURE, "\nfigure\n", "\nfigure.clear()\n")
    edit(project / "book" / "index.md", "![A line](figures/fig-line.svg)", "")
    assert main(["build"]) == 1
    assert "notebooks/figures/picture: figure 'fig-line' is missing" in capfd.readouterr().out
    assert "fig-line" in (project / "_build" / "html" / "notebooks" / "figures" / "picture.html").read_text()


EXPECTED = "expected notebooks with their parameters, as in `figures/guidance: {seed: 1}`; got"
PLAIN = "expected text, a number, true, false, null, or a list or mapping of these for 'seed' of 'theory/number'; got"


@pytest.mark.parametrize(
    ("profile", "cause"),
    [
        (
            "theory/number: {sead: 1}",
            "'theory/number': there is no parameter 'sead'; there are: seed, model",
        ),
        (
            "figures/picture: {seed: 1}",
            "'figures/picture': there is no parameter 'seed'; there are: none",
        ),
        ("theory/numbr: {seed: 1}", "there is no notebook 'theory/numbr'; known: figures/picture, theory/number"),
        ("theory/number: {seed: one}", "'theory/number': seed must be of the same type as 0; got 'one'"),
        ("theory/number: {seed: true}", "'theory/number': seed must be of the same type as 0; got True"),
        ("theory/number: {seed: 1.5}", "'theory/number': seed must be of the same type as 0; got 1.5"),
        ("theory/number: {model: 7}", "'theory/number': model must be of the same type as"),
        ("[" * 10_000, "expected YAML; it cannot be read: maximum recursion depth"),
        ("- theory/number", f"{EXPECTED} the list ['theory/number']"),
        ("7", f"{EXPECTED} the number 7"),
        ("0", f"{EXPECTED} the number 0"),
        ("2026-01-01", f"{EXPECTED} the date 2026-01-01"),
        ("seeded", f"{EXPECTED} the text seeded"),
        ("theory/number: [seed]", "expected parameters of 'theory/number', as in"),
        ("theory/number: []", "expected parameters of 'theory/number', as in"),
        ("theory/number: 1", "expected parameters of 'theory/number', as in"),
        ("theory/number: {seed: 2026-01-01}", f"{PLAIN} the date 2026-01-01"),
        ("theory/number: {seed: {1: 2}}", f"{PLAIN} the mapping {{1: 2}}"),
        ("theory/number: {seed: 1", "expected YAML; it cannot be read: while parsing a flow mapping"),
        ("theory/number:\n\tseed: 1", "expected YAML; it cannot be read: while scanning for the next token"),
        (b"\xff\xfe\x00", "expected YAML; it cannot be read: "),
    ],
)
def test_a_profile_that_does_not_fit_is_refused_in_one_line(project, capfd, profile, cause):
    (project / "profiles" / "wrong.yaml").write_bytes(profile if isinstance(profile, bytes) else profile.encode())
    assert main(["build", "--profile", "wrong"]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"nothing was made: profiles/wrong.yaml: {cause}")


@pytest.mark.parametrize("profile", ["# nothing\n", "theory/number:\n", "theory/number: {}\n"])
def test_a_profile_may_change_nothing(project, profile):
    (project / "profiles" / "same.yaml").write_text(profile)
    assert Plan.read(project, "same").overrides == {}


def test_an_unknown_profile_and_a_strange_folder_are_refused(project, capfd, monkeypatch):
    assert main(["build", "--profile", "papre"]) == 1
    assert "there is no profile 'papre'; profiles/ holds: cpu, seeded" in capfd.readouterr().err
    assert main(["--cores", "0", "build"]) == 1
    assert "one core or more is needed; got 0" in capfd.readouterr().err
    monkeypatch.chdir(project / "notebooks")
    assert main(["build"]) == 1
    assert "holds no Snakefile" in capfd.readouterr().err


@contextmanager
def powerless(folder: Path) -> Iterator[None]:
    """Take away the right to write below `folder`, which root has whatever a folder's mode says."""
    user = os.geteuid()
    folder.parent.chmod(0o755)
    folder.chmod(0o555)
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(0o755)


@pytest.mark.parametrize("task", ["build", "preview", "record", "check"])
def test_a_checkout_that_cannot_be_written_is_refused_in_one_line(root, monkeypatch, capfd, task):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own keeps everyone else out
        project = lay_out(root, Path(folder) / "project")
        monkeypatch.chdir(project)
        Plan.read(project, "cpu")  # imports what it needs while it may
        with powerless(project):
            assert main([task]) == 1
        assert capfd.readouterr().err == f"nothing was made: _build cannot be written in {project}: Permission denied\n"


def test_records_are_written_where_they_differ_and_compared(project, capfd, monkeypatch):
    assert main(["preview"]) == 1
    assert "notebooks/figures/picture.ipynb" in capfd.readouterr().err
    assert main(["record"]) == 0
    assert capfd.readouterr().out.splitlines() == [
        "recorded notebooks/figures/picture.ipynb",
        "recorded book/figures/fig-line.svg",
        "recorded notebooks/theory/number.ipynb",
    ]
    record = (project / NUMBER).with_suffix(".ipynb")
    before = record.stat().st_mtime_ns
    assert main(["preview"]) == 0
    assert "seed 0" in (project / "_build" / "preview" / "html" / "notebooks" / "theory" / "number.html").read_text()
    capfd.readouterr()
    monkeypatch.setattr(graph, "_snakemake", lambda *_: 0)  # it has nothing to do
    assert main(["record"]) == 0
    assert capfd.readouterr().out == ""
    assert record.stat().st_mtime_ns == before
    assert main(["check"]) == 0
    assert capfd.readouterr().out == "all 2 notebooks give what their records hold\n"
    edit(record, "seed 0 0.8", "seed 0 0.9")
    assert main(["check"]) == 1
    story = capfd.readouterr().err.splitlines()
    assert story[0] == "notebooks/theory/number.ipynb: code cell 2 gives something else than its record holds"
    assert '-    "seed 0 0.9\\n"' in story
    assert '+    "seed 0 0.8\\n"' in story
    assert story[-1] == "1 of 2 notebooks differ; `make record` renews their records"
    # What the README says: papermill on the record, straight after a clone.
    command = [sys.executable, "-m", "papermill", "notebooks/theory/number.ipynb", "out.ipynb", "-p", "seed", "5"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    cells = json.loads((project / "out.ipynb").read_text())["cells"]
    assert cells[-1]["outputs"][0]["text"][-1] == "seed 5 0.8\n"


@pytest.mark.parametrize(
    "command", [["reschrom.companion", "--cores", "2", "build"], ["snakemake", "--cores", "2", "defaults"]]
)
def test_what_a_killed_build_left_is_completed(root, built, project, command):
    edit(
        project / NUMBER, "assert seed >= 0", "import pathlib, time\npathlib.Path('started').touch()\ntime.sleep(9999)"
    )
    shutil.rmtree(project / "_build" / "html")
    command = [sys.executable, "-m", *command]
    build = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    while not (project / "started").exists() and build.poll() is None:
        time.sleep(0.1)
    os.killpg(build.pid, signal.SIGKILL)
    assert build.wait() == -signal.SIGKILL
    assert not list((project / "_build" / "executed").rglob("number.ipynb"))
    (project / "_build" / f".stage-{build.pid}-abc" / "source").mkdir(parents=True)  # as a kill leaves while it renders
    shutil.copy(root / "tests" / "toy" / NUMBER, project / NUMBER)
    assert subprocess.run(command, stdin=subprocess.DEVNULL).returncode == 0
    executed = f"{EXECUTED}/theory/number.ipynb"
    assert (project / executed).read_bytes() == (built / executed).read_bytes()
    assert (project / "_build" / "html" / "index.html").is_file() == ("build" in command)
    assert bool(list((project / "_build").glob(".stage-*"))) == ("build" not in command)


def test_a_cluster_runs_the_notebooks_in_processes_of_its_own(built, project, monkeypatch):
    """The shipped Slurm profile, with `sbatch` and `sacct` played by two scripts."""
    (project / EXECUTED / "theory" / "number.ipynb").unlink()
    shutil.rmtree(project / "_build" / "html")
    monkeypatch.setenv("PATH", f"{project / 'bin'}:{os.environ['PATH']}")
    command = [sys.executable, "-m", "snakemake", "book", "--profile", "profiles/slurm", "--scheduler", "greedy"]
    run = subprocess.run(
        [*command, "--seconds-between-status-checks", "1"], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert run.returncode == 0, run.stderr
    (request,) = (path.read_text() for path in (project / "jobs").glob("*.request"))
    assert "--job-name=reschrom-execute --cpus-per-task=1 --mem=16000 --time=240 --gres=gpu:0" in request
    (log,) = (path.read_text() for path in (project / "jobs").glob("*.log"))
    assert f"ran {NUMBER}" in log
    executed = f"{EXECUTED}/theory/number.ipynb"
    assert (project / executed).read_bytes() == (built / executed).read_bytes()
    assert (project / "_build" / "html" / "index.html").is_file()


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        ("", "running"),
        ("PENDING", "running"),
        ("RUNNING", "running"),
        ("COMPLETED", "success"),
        ("FAILED", "failed"),
        ("CANCELLED by 0", "failed"),
        ("OUT_OF_MEMORY", "failed"),
    ],
)
def test_snakemake_learns_how_a_slurm_job_stands(root, tmp_path, monkeypatch, state, answer):
    (tmp_path / "sacct").write_text(f"#!/bin/sh\necho '{state}'\n")
    (tmp_path / "sacct").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    run = subprocess.run([root / "profiles" / "slurm" / "status", "17"], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == answer


def test_a_notebook_for_a_gpu_asks_for_one(project):
    edit(project / NUMBER, "seed = 0", 'device = "cpu"  # where\nseed = 0')
    (project / "profiles" / "gpu.yaml").write_text("theory/number: {device: cuda}")
    assert re.findall(r"gpu=(\d)", dry_run("gpu")) == ["1"]
