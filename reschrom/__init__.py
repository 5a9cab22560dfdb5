"""Resolution chromatography of diffusion models: which resolution is being generated at each time.

Everything in the table of the API page is importable from here; each name is loaded when it is first used.
"""

import lazy_loader

from reschrom._extras import naming_extra

__version__ = "0.1.0"

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    """Load a public name; what needs an extra to be loaded says which."""
    with naming_extra(name):
        return _load(name)
