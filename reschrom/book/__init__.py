"""Build the book of this checkout: run its notebooks, keep their records, render the pages."""

import importlib
from typing import Any

__all__ = ["build", "preview", "record"]


def __getattr__(name: str) -> Any:
    # On first use: a notebook's run depends on this file, and must not on what renders the pages.
    if name not in __all__:
        raise AttributeError(f"module 'reschrom.book' has no attribute {name!r}")
    return getattr(importlib.import_module("reschrom.book.graph"), name)
