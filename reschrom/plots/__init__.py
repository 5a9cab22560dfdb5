"""Every figure of the book, in one visual grammar. Notebooks and the command line call these; nothing else draws."""

from reschrom.plots._figure import Figure, band_colours
from reschrom.plots.chromatograms import chromatogram, heat_maps

__all__ = ["Figure", "band_colours", "chromatogram", "heat_maps"]
