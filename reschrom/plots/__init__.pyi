from ._axes import band_colours as band_colours
from ._figure import Figure as Figure
from .chromatograms import chromatogram as chromatogram
from .chromatograms import heat_maps as heat_maps
from .report import Sample as Sample
from .report import report as report
from .ridges import ridge_map as ridge_map
from .switched import switched as switched
