"""Turn prose and executed notebooks into the rendered book.

`python -m reschrom.companion.build.stage OUTPUT NOTEBOOK...` does it."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from reschrom._files import forsaken
from reschrom.companion.build.pages import COMPLETE, missing, pictures

REPORT_LINES = 40
_STAGE = ".stage-"


class BookIncomplete(RuntimeError):
    """The book could not be rendered, or lacks something; the message names each fault."""


def stage(root: Path, notebooks: Iterable[Path], tree: Path) -> None:
    """Lay out a fresh source tree: the checkout's prose and settings, and executed notebooks beside them.

    The figures of the notebooks are put into `book/figures` too, where prose pages show them under their names.
    """
    shutil.copytree(root / "book", tree / "book", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(root / name, tree / name)
    for notebook in notebooks:
        target = tree / "notebooks" / notebook.parent.name / notebook.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(notebook, target)
        for name, content in pictures(notebook).items():
            picture = tree / "book" / "figures" / name
            picture.parent.mkdir(exist_ok=True)
            picture.write_bytes(content)


def render(root: Path, notebooks: Iterable[Path], output: Path) -> None:
    """Render the book into the folder `output`, which changes only when everything is in order.

    Raises BookIncomplete for any warning, any page of the contents that is missing, and any declared figure that is
    missing or has no alt text.
    """
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    for left in forsaken(output.parent, _STAGE):
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=f"{_STAGE}{os.getpid()}-", dir=output.parent) as folder:
        tree, build = Path(folder) / "source", Path(folder) / "build"
        stage(root, notebooks, tree)
        command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
        command += ["build", str(tree), "-n", "-W", "--keep-going", "--path-output", str(build)]
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=root)
        if run.returncode:
            raise BookIncomplete(_complaints(run.stdout + run.stderr, tree))
        html = build / "_build" / "html"
        faults = missing(html, tree)
        if faults:
            raise BookIncomplete("\n".join(faults))
        (html / COMPLETE).touch()
        _replace(output, html)


def _replace(folder: Path, new: Path) -> None:
    old = new.with_name("old")
    if folder.exists():
        folder.rename(old)
    new.rename(folder)


def _complaints(log: str, tree: Path) -> str:
    """Return the lines of a build log that say what is wrong, or its end when none does."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", log).replace(f"{tree}/", "").splitlines()
    wrong = [line for line in lines if re.search(r"WARNING|ERROR|[Ee]rror:|Exception", line)]
    return "\n".join(list(dict.fromkeys(wrong))[:REPORT_LINES] or lines[-REPORT_LINES:])


def main(arguments: list[str] | None = None) -> int:
    """Render the book from the command line; return 1 when it is not complete."""
    parser = argparse.ArgumentParser(prog="python -m reschrom.companion.build.stage", description="Render the book.")
    parser.add_argument("output", type=Path, help="folder of the rendered pages")
    parser.add_argument("notebooks", type=Path, nargs="*", help="executed notebooks, GROUP/NAME.ipynb")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    try:
        render(Path.cwd(), options.notebooks, options.output)
    except BookIncomplete as error:
        print(f"\nthe book was not made:\n{error}\n", file=sys.stderr)
        return 1
    print(f"rendered the pages in {time.monotonic() - start:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
