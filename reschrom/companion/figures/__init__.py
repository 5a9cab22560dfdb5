"""The figures of the book's pages, each drawn by one function; the grammar is that of `reschrom.plots`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
