"""What the pages ask of the package exists: told in a second, without running them."""

import ast
import importlib
from pathlib import Path

import pytest

from reschrom.companion.build.notebook import code_cells, read_source

PAGES = sorted((Path(__file__).parents[2] / "notebooks").rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_everything_a_page_imports_from_the_package_is_there(page):
    for cell in code_cells(read_source(page)):
        for node in ast.walk(ast.parse(cell)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("reschrom"):
                module = importlib.import_module(node.module)
                for name in node.names:
                    assert hasattr(module, name.name) or importlib.import_module(f"{node.module}.{name.name}")
