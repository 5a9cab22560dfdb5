"""What every entry point owes to a bad input: the right exception, one line that says what is wrong, and no litter."""

import contextlib
import io
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from reschrom.cli.commands import main


class Row(NamedTuple):
    """One bad input. The call is made in a folder of its own; `words` is looked for in what it says."""

    call: Callable[[], object]
    kind: type[Exception]
    words: str


class Command(NamedTuple):
    """One bad command line, without the word `reschrom`."""

    line: str
    words: str


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder: files with what they hold, the rest by name."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refuse(row: Row, folder: Path) -> None:
    """Assert that a call is refused in one line, and that it leaves the folder as it was."""
    before = contents(folder)
    with contextlib.chdir(folder), pytest.raises(row.kind) as caught:
        row.call()
    said = str(caught.value)
    assert "\n" not in said.strip()
    assert re.search(row.words, said), said
    assert contents(folder) == before


def refuse_command(command: Command, folder: Path) -> None:
    """Assert that a command ends with 2, one line on standard error and nothing else, and leaves no file."""
    before = contents(folder)
    printed, said = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        try:
            status = main(shlex.split(command.line))
        except SystemExit as stop:  # argparse leaves by itself
            status = stop.code
    line = said.getvalue()
    assert (status, printed.getvalue()) == (2, ""), line
    assert line.startswith("reschrom: ")
    assert line.count("\n") == 1
    assert re.search(command.words, line), line
    assert contents(folder) == before
