"""The things to do with the build graph; each is one run of Snakemake in the checkout, the current folder."""

import fcntl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reschrom._files import replacing
from reschrom.companion.build.compare import differences
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
    for record, executed in _executed(plan):
        _renew(record, executed.read_bytes())
        for name, content in pictures(executed).items():
            if f"(book/figures/{name})" in shown:
                _renew(Path("book", "figures", name), content)
    return 0


def check(cores: int) -> int:
    """Run the notebooks that changed with their default parameters, and compare each one with its record.

    Return 0 when all agree, and otherwise say which cells differ, and how.
    """
    plan = Plan.read(_checkout(), "cpu")
    status = _snakemake("defaults", "cpu", cores)
    if status:
        return status
    differing = {record: list(differences(record, executed)) for record, executed in _executed(plan)}
    wrong = {record: lines for record, lines in differing.items() if lines}
    for lines in wrong.values():
        print(*lines, "", sep="\n", file=sys.stderr)
    if wrong:
        print(f"{len(wrong)} of {len(differing)} notebooks differ; `make record` renews their records", file=sys.stderr)
    else:
        print(f"all {len(differing)} notebooks give what their records hold")
    return int(bool(wrong))


def _executed(plan: Plan) -> Iterator[tuple[Path, Path]]:
    """Yield each notebook's record, and the notebook as it was executed with its default parameters."""
    for notebook in plan.notebooks:
        yield Path("notebooks", f"{notebook}.ipynb"), Path("_build/executed", DEFAULTS, f"{notebook}.ipynb")


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
    status = _snakemake(target, profile, cores, html)
    if status == 0:
        print(f"the book: {html / 'index.html'}")
    return status


def _snakemake(target: str, profile: str, cores: int, html: Path | None = None) -> int:
    """Run Snakemake, alone in this checkout; `html` is the folder of the pages that it makes, if it makes any."""
    if cores < 1:  # Snakemake would take every core it finds
        raise ValueError(f"one core or more is needed; got {cores}")
    with _alone() as lock:
        if html and any(not (html / f"{page}.html").is_file() for page in ["index", *contents(Path("_toc.yml"))]):
            (html / COMPLETE).unlink(missing_ok=True)  # someone took a page away
        command = [sys.executable, "-m", "snakemake", target, "--cores", str(cores), "--resources", "gpu=1"]
        command += ["--nolock", "--rerun-incomplete", "--keep-going", "--scheduler", "greedy"]
        command += ["--config", f"profile={profile}"]
        story = Path("_build/snakemake.log")
        with story.open("w") as log:
            run = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=log, pass_fds=[lock])
    if run.returncode and "Error in rule" not in story.read_text():  # no job failed and told why
        print(story.read_text(), file=sys.stderr)
    return run.returncode


@contextmanager
def _alone() -> Iterator[int]:
    """Wait until no other build runs in this checkout, and keep others out; yield the file descriptor that does it.

    Snakemake's own lock outlives a kill. This one ends with the processes that hold it.
    """
    for folder in (Path("_build"), Path(".snakemake")):
        try:
            folder.mkdir(exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise PermissionError(f"{folder} cannot be written in {Path.cwd()}: {error.strerror}") from error
    with Path("_build/.lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another build in this checkout", file=sys.stderr)
            fcntl.flock(held, fcntl.LOCK_EX)
        yield held.fileno()
