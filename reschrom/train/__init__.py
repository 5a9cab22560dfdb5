"""Training small models: recipes, networks, the loop, checkpoints, and the captioned pictures they learn from.

Here belongs what `reschrom train` runs. Not here: how models are judged and described (`companion`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
