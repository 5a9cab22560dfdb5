"""Run one notebook source and write its executed form: `python -m reschrom.companion.build.execute SOURCE OUTPUT`."""

import argparse
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from traitlets.config import Config

from reschrom._files import forsaken, replacing
from reschrom.companion.build.notebook import declared_parameters, normalise, read_source, to_bytes
from reschrom.companion.parameters import check_given

# One thread a notebook: notebooks run side by side, and sums come out in the same order on every machine.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "PYTHONWARNINGS": "ignore:::tqdm.auto",  # diffusers' progress bars, where ipywidgets is not installed
}
FOLDERS = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
TRACEBACK_LINES = 30
START_SECONDS = 600  # a kernel starts in a few, but a machine may be busy


class ThisPython(AsyncKernelManager):
    """Starts the Python that runs this, whatever kernels are installed and whichever is called `python3`."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """How the kernel is started."""
        return KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])


class CellFailed(RuntimeError):
    """A cell raised; the message shows the notebook, the cell and the end of its traceback."""


def execute(source: Path, output: Path, parameters: Mapping[str, Any], root: Path) -> None:
    """Run the notebook at `source` in the folder `root` and write it to `output`, whole or not at all.

    Raises ValueError or TypeError for a parameter that does not fit the notebook, CellFailed when a cell raises.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    notebook = read_source(source)
    check_given(declared_parameters(notebook), parameters)
    # Sockets that are files of this run alone: kernels that start together cannot take each other's port.
    with _own_folder(Path(tempfile.gettempdir())) as folder, _environment(folder, root):
        sockets = Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel"}})
        try:
            executed = papermill.execute_notebook(
                notebook,
                None,
                dict(parameters),
                kernel_manager_class=ThisPython,
                start_timeout=START_SECONDS,
                cwd=str(root),
                progress_bar=False,
                config=sockets,
                shutdown_kernel="immediate",  # nothing is left to do, and taking torch down takes a second
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
def _own_folder(parent: Path) -> Iterator[Path]:
    """Yield a folder for this process alone, and remove those that killed ones left."""
    for left in forsaken(parent, "reschrom-"):
        shutil.rmtree(left, ignore_errors=True)  # another user's may lie in the same place
    with tempfile.TemporaryDirectory(prefix=f"reschrom-{os.getpid()}-", dir=parent) as own:
        yield Path(own)


@contextmanager
def _environment(folder: Path, root: Path) -> Iterator[None]:
    """Set what kernels inherit; the files that they keep of themselves go to `folder`, none to the reader's home."""
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT)
    os.environ.update({name: str(folder / name) for name in FOLDERS}, MPLCONFIGDIR=str(_fonts(root)))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _fonts(root: Path) -> Path:
    """Return the folder of Matplotlib's list of fonts: a kernel that had to make it would say so in its notebook."""
    folder = root / "_build" / "cache" / f"matplotlib-{importlib.metadata.version('matplotlib')}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _own_folder(folder.parent) as new:
            command = [sys.executable, "-c", "import matplotlib.font_manager"]
            subprocess.run(command, env=os.environ | {"MPLCONFIGDIR": str(new)}, check=True, capture_output=True)
            with suppress(OSError):  # another notebook was faster
                new.rename(folder)
    return folder


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
    except CellFailed as error:
        print(f"\n{error}\n", file=sys.stderr)
        return 1
    except (TypeError, ValueError) as error:
        print(f"{options.source}: {error}", file=sys.stderr)
        return 1
    print(f"ran {options.source} in {time.monotonic() - start:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
