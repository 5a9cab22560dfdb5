import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def book_html(root: Path) -> Path:
    """The folder of the rendered pages, made from the records; nothing is run."""
    subprocess.run([sys.executable, "-m", "reschrom.book", "preview"], cwd=root, check=True, stdin=subprocess.DEVNULL)
    return root / "_build" / "preview" / "html"
