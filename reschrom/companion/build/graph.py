"""The three things to do with the build graph; each is one run of Snakemake in the checkout, the current folder."""

import fcntl
import subprocess
import sys
from pathlib import Path

from reschrom._files import replacing
from reschrom.companion.build.pages import COMPLETE, contents, pictures
from reschrom.companion.build.plan import DEFAULTS, Plan

HTML = Path("_build/html")
PREVIEW = Path("_build/preview/html")


def build(profile: str, cores: int) -> int:
    """Run the notebooks under `profile` and render the book into `_build/html`; return 0 when it stands.

    Raises PlanError when the profile does not fit the notebooks.
    """
    Plan.read(_checkout(), profile)
    return _pages(HTML, "book", profile, cores)


def preview(cores: int) -> int:
    """Render the book from the records into `_build/preview/html`, running nothing; return 0 when it stands."""
    _checkout()
    return _pages(PREVIEW, "preview", "cpu", cores)


def record(cores: int) -> int:
    """Run every notebook with its default parameters and renew the records that differ; return 0 when all ran.

    The pictures that README.md shows from `book/figures` are taken from the same runs.
    """
    plan = Plan.read(_checkout(), "cpu")
    status = _snakemake("defaults", "cpu", cores)
    if status:
        return status
    shown = (plan.root / "README.md").read_text()
    for notebook in plan.notebooks:
        executed = plan.root / "_build" / "executed" / DEFAULTS / f"{notebook}.ipynb"
        _renew(Path("notebooks", f"{notebook}.ipynb"), executed.read_bytes())
        for name, content in pictures(executed).items():
            if f"(book/figures/{name})" in shown:
                _renew(Path("book", "figures", name), content)
    return 0


def _renew(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        print(f"recorded {path}")


def _checkout() -> Path:
    root = Path.cwd()
    if not (root / "Snakefile").is_file():
        raise FileNotFoundError(f"the book is built in a checkout of the repository; {root} holds no Snakefile")
    return root


def _pages(html: Path, target: str, profile: str, cores: int) -> int:
    pages = ["index", *contents(Path("_toc.yml"))]
    if any(not (html / f"{page}.html").is_file() for page in pages):  # someone took a page away
        (html / COMPLETE).unlink(missing_ok=True)
    status = _snakemake(target, profile, cores)
    if status == 0:
        print(f"the book: {html / 'index.html'}")
    return status


def _snakemake(target: str, profile: str, cores: int) -> int:
    if cores < 1:  # Snakemake would take every core it finds
        raise ValueError(f"one core or more is needed; got {cores}")
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
        command += ["--nolock", "--rerun-incomplete", "--keep-going", "--scheduler", "greedy"]
        command += ["--config", f"profile={profile}"]
        story = lock.with_name("snakemake.log")
        with story.open("w") as log:
            run = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=log, pass_fds=[held.fileno()])
    if run.returncode and "Error in rule" not in story.read_text():  # no job failed and told why
        print(story.read_text(), file=sys.stderr)
    return run.returncode
