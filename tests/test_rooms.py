"""The order of the rooms is a contract of import-linter: it holds, and it fails where a module breaks it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# By its function, because the script in bin/ breaks where the path of the environment has a space.
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def linted(folder):
    command = [sys.executable, "-c", LINT, "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path):
    """The package and its contracts, to be broken."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "reschrom", tmp_path / "reschrom", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.lasting
def test_the_rooms_import_only_what_stands_below_them(copy):
    done = linted(copy)
    assert done.returncode == 0, done.stdout
    assert " 0 broken." in done.stdout


@pytest.mark.lasting
@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("theory/bands.py", "from diffusers import DDPMScheduler", "reschrom.theory.bands -> diffusers"),
        ("denoisers/finite.py", "import torch", "reschrom.denoisers.finite -> torch"),
        ("plots/chromatograms.py", "import reschrom.companion.card", "reschrom.plots.chromatograms -> reschrom.comp"),
        ("train/loop.py", "from reschrom.companion import proof", "reschrom.train.loop -> reschrom.companion.proof"),
        ("theory/matching.py", "import reschrom.pipelines.load", "reschrom.theory.matching -> reschrom.pipelines"),
        ("_files.py", "import reschrom.theory.bands", "reschrom._files -> reschrom.theory.bands"),
    ],
    ids=lambda value: value.split()[0] if " -> " in value else "",
)
def test_a_module_that_breaks_the_order_is_found(copy, module, line, broken):
    path = copy / "reschrom" / module
    assert path.is_file()
    path.write_text(f"{path.read_text()}\n{line}\n")
    done = linted(copy)
    assert done.returncode == 1
    assert " 0 broken." not in done.stdout
    assert broken in done.stdout
