import importlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import config

ROOT = Path(__file__).parent.parent
PATIENCE = 10 * 60 * 1000  # milliseconds
# No test depends on how busy the machine is.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@contextmanager
def untraced() -> Iterator[None]:
    """Run a block that coverage does not see, where it is measured: to be seen doubles the time of what is run."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


def pytest_configure() -> None:
    """Load what is large, when coverage is measured: it is not measured there."""
    if sys.gettrace() is not None:
        with untraced():
            for name in ("diffusers.models.unets", "pandas", "sklearn", "transformers.modeling_utils"):
                importlib.import_module(name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What needs a browser or the rendered book is slow; with `--few`, the first case of a test stands for all."""
    for item in items:
        if {"book_html", "new_context"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    if config.getoption("--few"):
        first = set({item.nodeid.split("[")[0]: item for item in reversed(items)}.values())
        config.hook.pytest_deselected(items=[item for item in items if item not in first])
        items[:] = [item for item in items if item in first]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Slow tests are not seen by coverage: the quick ones alone reach the share of lines that it asks for."""
    with untraced() if item.get_closest_marker("slow") else nullcontext():
        return (yield)


@pytest.fixture
def no_type_checks() -> Iterator[None]:
    """Users run without the checks of types and shapes that these tests add, and must be told all the same."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--few", action="store_true", help="run the first case of each test alone")
    parser.addoption("--book", type=Path, help="the rendered pages to look at; by default they are made of the records")


@pytest.fixture(scope="session")
def book_html(root: Path, request: pytest.FixtureRequest) -> Path:
    """The folder of the rendered pages: that of `--book`, or one made from the records, for which nothing is run."""
    from reschrom.companion.build.pages import COMPLETE  # here, after pytest has set up the checks of shapes

    if given := request.config.getoption("--book"):
        assert (root / given / COMPLETE).is_file(), f"{given} holds no whole book"
        return root / given
    subprocess.run(
        [sys.executable, "-m", "reschrom.companion", "preview"], cwd=root, check=True, stdin=subprocess.DEVNULL
    )
    return root / "_build" / "preview" / "html"


@pytest.fixture(scope="module")
def new_context() -> Iterator[Callable[..., Any]]:
    """Make contexts of Debian's chromium, without a window and without haste: a busy machine is no fault."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("no browser: chromium is not on the path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"], timeout=PATIENCE)

        def make(**settings: Any) -> Any:
            context = browser.new_context(**settings)
            context.set_default_timeout(PATIENCE)
            return context

        yield make
        browser.close()
