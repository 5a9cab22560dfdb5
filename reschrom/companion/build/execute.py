"""Run one notebook source and write its executed form: `python -m reschrom.companion.build.execute SOURCE OUTPUT`."""

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from traitlets.config import Config

from reschrom._files import replacing
from reschrom.companion.build.notebook import declared_parameters, normalise, read_source, to_bytes

# One thread a notebook: notebooks run side by side, and sums come out in the same order on every machine.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "PYTHONWARNINGS": "ignore:::tqdm.auto",  # diffusers' progress bars, where ipywidgets is not installed
}
TRACEBACK_LINES = 30


class CellFailed(RuntimeError):
    """A cell raised; the message shows the notebook, the cell and the end of its traceback."""


def execute(source: Path, output: Path, parameters: Mapping[str, Any], root: Path) -> None:
    """Run the notebook at `source` in the folder `root` and write it to `output`, whole or not at all.

    Raises ValueError for a parameter that the notebook does not declare, CellFailed when a cell raises.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    notebook = read_source(source)
    unknown = parameters.keys() - declared_parameters(notebook).keys()
    if unknown:
        raise ValueError(f"{source} declares no parameter {', '.join(map(repr, sorted(unknown)))}")
    # Sockets that are files of this run alone: kernels that start together cannot take each other's port.
    with _environment(), tempfile.TemporaryDirectory(prefix="reschrom-") as folder:
        sockets = Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel"}})
        try:
            executed = papermill.execute_notebook(
                notebook,
                None,
                dict(parameters),
                kernel_name="python3",
                cwd=str(root),
                progress_bar=False,
                config=sockets,
                extra_arguments=["--log-level=50"],  # a failed cell is told here, once
            )
        except PapermillExecutionError as error:
            raise CellFailed(_story(source, error)) from None
        except DeadKernelError as error:
            raise CellFailed(f"{source}: the kernel died, most likely for want of memory") from error
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as temporary:
        temporary.write_bytes(to_bytes(normalise(executed, root)))


@contextmanager
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _story(source: Path, error: Any) -> str:
    traceback = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback)).splitlines()
    shown = traceback if len(traceback) <= TRACEBACK_LINES else ["...", *traceback[-TRACEBACK_LINES:]]
    return f"{source}: code cell {error.exec_count} failed with {error.ename}\n\n" + "\n".join(shown)


def main(arguments: list[str] | None = None) -> int:
    """Run one notebook from the command line; return 1 when it fails."""
    parser = argparse.ArgumentParser(
        prog="python -m reschrom.companion.build.execute", description="Run one notebook source."
    )
    parser.add_argument("source", type=Path, help="the notebook's text, NAME.md")
    parser.add_argument("output", type=Path, help="where the executed notebook goes, NAME.ipynb")
    parser.add_argument("--parameters", type=json.loads, default={}, help="parameters to override, as JSON")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    try:
        execute(options.source, options.output, options.parameters, Path.cwd())
    except (CellFailed, ValueError) as error:
        print(f"\n{error}\n", file=sys.stderr)
        return 1
    print(f"ran {options.source} in {time.monotonic() - start:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
