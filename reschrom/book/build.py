"""The three things one does with the build graph, each one run of Snakemake in the checkout."""

import fcntl
import subprocess
import sys
from pathlib import Path

from reschrom.book.files import write_whole
from reschrom.book.pages import COMPLETE, contents
from reschrom.book.plan import DEFAULTS, Plan, PlanError

HTML = Path("_build/html")
PREVIEW = Path("_build/preview/html")


def build(profile: str, cores: int) -> int:
    """Run the notebooks under `profile` and render the book into `_build/html`; return 0 when it stands."""
    try:
        Plan.read(_checkout(), profile)
    except PlanError as error:
        return _refuse(str(error))
    _distrust(HTML)
    return _snakemake("book", profile, cores)


def preview(cores: int) -> int:
    """Render the book from the committed records into `_build/preview/html`, running nothing; return 0 when it stands."""
    _checkout()
    _distrust(PREVIEW)
    return _snakemake("preview", "cpu", cores)


def record(cores: int) -> int:
    """Run every notebook with its default parameters and renew the records that differ; return 0 when all ran."""
    plan = Plan.read(_checkout(), "cpu")
    status = _snakemake("defaults", "cpu", cores)
    if status:
        return status
    for notebook in plan.notebooks:
        executed = (plan.root / "_build" / "executed" / DEFAULTS / f"{notebook}.ipynb").read_bytes()
        path = plan.source(notebook).with_suffix(".ipynb")
        if not path.is_file() or path.read_bytes() != executed:
            write_whole(path, executed)
            print(f"recorded {path.relative_to(plan.root)}")
    return 0


def _checkout() -> Path:
    root = Path.cwd()
    if not (root / "Snakefile").is_file():
        raise FileNotFoundError(f"the book is built in a checkout of the repository; {root} holds no Snakefile")
    return root


def _refuse(reason: str) -> int:
    print(f"\nthe book was not made:\n{reason}\n", file=sys.stderr)
    return 1


def _distrust(html: Path) -> None:
    """Have a book rendered again when one of its pages was taken away."""
    pages = ["index", *contents(Path("_toc.yml"))]
    if any(not (html / f"{page}.html").is_file() for page in pages):
        (html / COMPLETE).unlink(missing_ok=True)


def _snakemake(target: str, profile: str, cores: int) -> int:
    # Snakemake's own lock outlives a kill. This one ends with the processes that hold it.
    lock = Path("_build/.lock")
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another build in this checkout", file=sys.stderr)
            fcntl.flock(held, fcntl.LOCK_EX)
        command = [sys.executable, "-m", "snakemake", target, "--cores", str(cores), "--resources", "gpu=1"]
        command += ["--nolock", "--rerun-incomplete", "--keep-going", "--quiet", "all", "--scheduler", "greedy"]
        command += ["--config", f"profile={profile}"]
        return subprocess.run(command, stdin=subprocess.DEVNULL, pass_fds=[held.fileno()]).returncode
