from ._axes import band_colours as band_colours
from ._figure import Figure as Figure
from .chromatograms import chromatogram as chromatogram
from .chromatograms import heat_maps as heat_maps
