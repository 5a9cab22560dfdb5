"""The build graph, tried on a book of two notebooks: what is run again, what fails, what survives a kill."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reschrom.companion.__main__ import main

pytestmark = pytest.mark.xdist_group("build")  # one worker: the built book is made once

NUMBER, PICTURE = "notebooks/theory/number.md", "notebooks/figures/picture.md"


def lay_out(root: Path, folder: Path) -> Path:
    """Put the toy book into `folder`, with this checkout's graph and a copy of its package to edit."""
    shutil.copytree(root / "tests" / "toy", folder)
    shutil.copy(root / "Snakefile", folder)
    for profile in ("default", "slurm"):
        shutil.copytree(root / "profiles" / profile, folder / "profiles" / profile)
    shutil.copytree(root / "reschrom", folder / "reschrom", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def planned(profile: str = "cpu") -> set[str]:
    """Return the notebooks that a build would run now."""
    command = [sys.executable, "-m", "snakemake", "book", "--dry-run", "--printshellcmds", "--cores", "1", "--nolock"]
    run = subprocess.run(
        [*command, "--config", f"profile={profile}"], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert run.returncode == 0, run.stderr
    return set(re.findall(r"-m reschrom\.book\.execute (\S+)", run.stdout + run.stderr))


@pytest.fixture(scope="session")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = lay_out(root, tmp_path_factory.mktemp("toy") / "built")
    with pytest.MonkeyPatch.context() as monkeypatch:
        enter(folder, monkeypatch)
        assert main(["--cores", "2", "build"]) == 0
    return folder


@pytest.fixture
def project(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the built book; the test runs inside it."""
    return enter(Path(shutil.copytree(built, tmp_path / "project")), monkeypatch)


def test_every_page_is_made_and_nothing_else_is_left(built):
    html = built / "_build" / "html"
    pages = {str(path.relative_to(html)) for path in html.rglob("*.html")}
    assert pages >= {"index.html", "book/index.html", "notebooks/theory/number.html", "notebooks/figures/picture.html"}
    assert "seed 0 0.8" in (html / "notebooks" / "theory" / "number.html").read_text()
    assert {path.name for path in (built / "_build").iterdir()} == {
        ".lock",
        "executed",
        "html",
        "log",
        "snakemake.log",
    }


def test_the_second_build_runs_nothing_and_a_page_taken_away_comes_back(project, capfd):
    complete = project / "_build" / "html" / ".complete"
    before = complete.stat().st_mtime_ns
    assert main(["build"]) == 0
    assert complete.stat().st_mtime_ns == before
    assert "ran" not in capfd.readouterr().out
    page = project / "_build" / "html" / "notebooks" / "theory" / "number.html"
    page.unlink()
    assert main(["build"]) == 0
    assert page.is_file()
    assert "ran" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("path", "old", "new", "rerun"),
    [
        (NUMBER, "# A number", "# A small number", {NUMBER}),
        ("reschrom/proof.py", '"""', '"""Edited. ', {NUMBER}),
        ("data/models/tiny/weights.txt", "stands", "still stands", {NUMBER}),
        ("book/index.md", "# Toy", "# A toy", set()),
        ("profiles/cpu.yaml", "{}", "theory/number: {seed: 3}", {NUMBER}),
    ],
)
def test_exactly_what_depends_on_an_edit_is_run_again(project, path, old, new, rerun):
    text = (project / path).read_text()
    assert old in text
    (project / path).write_text(text.replace(old, new, 1))
    assert planned() == rerun


def test_a_profile_runs_what_it_overrides_and_shares_the_rest(project):
    shared = project / "_build" / "executed" / "defaults" / "figures" / "picture.ipynb"
    before = shared.stat().st_mtime_ns
    assert main(["build", "--profile", "seeded"]) == 0
    page = (project / "_build" / "html" / "notebooks" / "theory" / "number.html").read_text()
    assert "seed 7 0.8" in page
    assert "# Parameters" not in page
    assert shared.stat().st_mtime_ns == before
    assert planned("seeded") == set()


def test_a_failing_cell_fails_the_build_and_is_named_and_the_old_book_stays(project, capfd):
    edit(project / NUMBER, "assert seed >= 0", 'raise RuntimeError("the sky fell")')
    assert main(["build"]) == 1
    story = "".join(capfd.readouterr())
    assert f"{NUMBER}: code cell 2 failed with RuntimeError" in story
    assert "the sky fell" in story
    assert len(story.splitlines()) < 40
    assert "seed 0" in (project / "_build" / "html" / "notebooks" / "theory" / "number.html").read_text()
    assert main(["record"]) == 1
    assert not list((project / "notebooks").rglob("*.ipynb"))


def test_a_figure_taken_away_fails_the_build_and_is_named(project, capfd):
    edit(project / PICTURE, "\nfigure\n", "\nfigure.clear()\n")
    edit(project / "book" / "index.md", "![A line](figures/fig-line.svg)", "")
    assert main(["build"]) == 1
    assert "notebooks/figures/picture: figure 'fig-line' is missing" in capfd.readouterr().out
    assert "fig-line" in (project / "_build" / "html" / "notebooks" / "figures" / "picture.html").read_text()


def test_an_image_taken_away_fails_the_build_and_is_named(project, capfd):
    (project / "book" / "dot.svg").unlink()
    assert main(["build"]) == 1
    assert "book/index.md:3: WARNING: image file not readable: book/dot.svg" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("profile", "cause"),
    [
        ("theory/number: {sead: 1}", "notebook 'theory/number' declares no parameter 'sead'; it declares: seed, model"),
        ("figures/picture: {seed: 1}", "notebook 'figures/picture' declares no parameter 'seed'; it declares: none"),
        ("theory/numbr: {seed: 1}", "there is no notebook 'theory/numbr'; known: figures/picture, theory/number"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused(project, capfd, profile, cause):
    (project / "profiles" / "wrong.yaml").write_text(profile)
    assert main(["build", "--profile", "wrong"]) == 1
    assert f"profiles/wrong.yaml: {cause}" in capfd.readouterr().err


def test_an_unknown_profile_and_a_strange_folder_are_refused(project, capfd, monkeypatch):
    assert main(["build", "--profile", "papre"]) == 1
    assert "there is no profile 'papre'; profiles/ holds: cpu, seeded" in capfd.readouterr().err
    assert main(["--cores", "0", "build"]) == 1
    assert "one core or more is needed; got 0" in capfd.readouterr().err
    assert main(["record"]) == 0
    monkeypatch.chdir(project / "notebooks")
    assert main(["build"]) == 1
    assert "holds no Snakefile" in capfd.readouterr().err


def test_records_are_written_where_they_differ(project, capfd):
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
    assert main(["record"]) == 0
    assert capfd.readouterr().out == ""
    assert record.stat().st_mtime_ns == before
    assert main(["preview"]) == 0
    assert "seed 0" in (project / "_build" / "preview" / "html" / "notebooks" / "theory" / "number.html").read_text()


@pytest.mark.parametrize("command", [["reschrom.companion", "--cores", "2", "build"], ["snakemake", "--cores", "2"]])
def test_what_a_killed_build_left_is_completed(root, built, tmp_path, monkeypatch, command):
    project = enter(lay_out(root, tmp_path / "project"), monkeypatch)
    edit(project / NUMBER, "assert seed >= 0", "import pathlib, time\npathlib.Path('started').touch()\ntime.sleep(300)")
    command = [sys.executable, "-m", *command]
    build = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (project / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(build.pid, signal.SIGKILL)
    build.wait()
    assert (project / "started").exists()
    assert not list((project / "_build").rglob("number.ipynb"))
    assert not (project / "_build" / "html" / "index.html").exists()
    shutil.copy(root / "tests" / "toy" / NUMBER, project / NUMBER)
    assert subprocess.run(command, stdin=subprocess.DEVNULL).returncode == 0
    executed = "_build/executed/defaults/theory/number.ipynb"
    assert (project / executed).read_bytes() == (built / executed).read_bytes()
    assert (project / "_build" / "html" / "index.html").is_file()


def test_a_cluster_runs_the_notebooks_in_processes_of_its_own(root, built, tmp_path, monkeypatch):
    """The shipped Slurm profile, with `sbatch` and `sacct` played by two scripts."""
    project = enter(lay_out(root, tmp_path / "project"), monkeypatch)
    monkeypatch.setenv("PATH", f"{project / 'bin'}:{os.environ['PATH']}")
    command = [sys.executable, "-m", "snakemake", "book", "--profile", "profiles/slurm", "--scheduler", "greedy"]
    run = subprocess.run(
        [*command, "--seconds-between-status-checks", "1"], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert run.returncode == 0, run.stderr
    requests = [path.read_text() for path in sorted((project / "jobs").glob("*.request"))]
    assert len(requests) == 2
    for request in requests:
        assert "--job-name=reschrom-execute --cpus-per-task=1 --mem=16000 --time=240 --gres=gpu:0" in request
    logs = "".join(path.read_text() for path in (project / "jobs").glob("*.log"))
    for notebook in ("theory/number", "figures/picture"):
        assert f"ran notebooks/{notebook}.md" in logs
        executed = f"_build/executed/defaults/{notebook}.ipynb"
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
    command = [sys.executable, "-m", "snakemake", "book", "--dry-run", "--cores", "1", "--config", "profile=gpu"]
    run = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert run.returncode == 0, run.stderr
    assert re.findall(r"gpu=(\d)", run.stdout + run.stderr) == ["1"]


def test_a_record_takes_parameters_as_it_is(project):
    """What the README says: papermill on the record, straight after a clone."""
    assert main(["record"]) == 0
    command = [sys.executable, "-m", "papermill", "notebooks/theory/number.ipynb", "out.ipynb", "-p", "seed", "5"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    cells = json.loads((project / "out.ipynb").read_text())["cells"]
    assert cells[-1]["outputs"][0]["text"][-1] == "seed 5 0.8\n"
