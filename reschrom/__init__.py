"""Resolution chromatography of diffusion models: which resolution is being generated at each time.

Everything in the table of the API page is importable from here; each name is loaded when it is first used.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
