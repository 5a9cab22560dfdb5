from ._figure import Figure as Figure
from ._figure import band_colours as band_colours
from .chromatograms import chromatogram as chromatogram
from .chromatograms import heat_maps as heat_maps
