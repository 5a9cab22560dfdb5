"""Every figure of the book, in one visual grammar. Notebooks and the command line call these; nothing else draws."""

from reschrom.plots._figure import Figure, band_colours
from reschrom.plots.chromatograms import chromatogram, heat_maps
from reschrom.plots.proofs import natural_process, noise_cascade, one_chromatogram, shifted_bells, thresholded
from reschrom.plots.spectra import centroid_panels, image_sets, memorisation, strip
from reschrom.plots.theory import (
    adjusted_times,
    clocks_of,
    ddim_spread,
    forward_process,
    measured_snr,
    pooled_photograph,
    prompts_over_time,
)

__all__ = [
    "Figure",
    "adjusted_times",
    "band_colours",
    "centroid_panels",
    "chromatogram",
    "clocks_of",
    "ddim_spread",
    "forward_process",
    "heat_maps",
    "image_sets",
    "measured_snr",
    "memorisation",
    "natural_process",
    "noise_cascade",
    "one_chromatogram",
    "pooled_photograph",
    "prompts_over_time",
    "shifted_bells",
    "strip",
    "thresholded",
]
