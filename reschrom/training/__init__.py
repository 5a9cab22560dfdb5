"""Training: small text-to-image models, the pictures they learn from, and how both are judged."""

import importlib
from typing import Any

_HOME = {"Recipe": "recipe", "train": "loop"}

__all__ = ["Recipe", "train"]


def __getattr__(name: str) -> Any:
    # On first use: who reads the statistics of the pictures does not depend on the loop.
    if name not in _HOME:
        raise AttributeError(f"module 'reschrom.training' has no attribute {name!r}")
    return getattr(importlib.import_module(f"reschrom.training.{_HOME[name]}"), name)
