"""Build the book of this checkout: run its notebooks, keep their records, render the pages."""

from reschrom.book.build import build, preview, record

__all__ = ["build", "preview", "record"]
