"""Figures for users: a chromatogram as curves and heat map, one or several.

Here belongs what any reader of the package may want to draw of their own model, in the book's visual grammar.
Not here: a figure that one page of the book shows (`companion.figures`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
