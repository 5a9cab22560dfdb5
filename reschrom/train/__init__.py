"""Training small models: recipes, networks, the loop, checkpoints, and the captioned pictures they learn from.

Here belongs what `reschrom train` runs. Not here: how models are judged and described (`companion`).
"""

import lazy_loader

from reschrom._extras import naming_extra

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    """Load a name of this room, or say that it needs the extra."""
    with naming_extra(name, "train"):
        return _load(name)
