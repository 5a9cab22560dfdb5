"""Every figure of the book, in one visual grammar. Notebooks and the command line call these; nothing else draws."""

import importlib
from typing import Any

# Public name -> the module that defines it, loaded when it is first used.
_HOME = {
    "Figure": "_figure",
    "band_colours": "_figure",
    "shift_rules": "beyond",
    "survival_strip": "beyond",
    "ablation": "cascades",
    "band_distances": "cascades",
    "cascade_step": "cascades",
    "sample_blocks": "cascades",
    "chromatogram": "chromatograms",
    "heat_maps": "chromatograms",
    "errors_by_steps": "designed",
    "noise_levels": "designed",
    "time_shares": "designed",
    "timestep_lists": "designed",
    "centroid_spread": "measured",
    "energies": "measured",
    "guidance_chromatography": "measured",
    "prompt_panels": "measured",
    "share_panels": "measured",
    "natural_process": "proofs",
    "noise_cascade": "proofs",
    "one_chromatogram": "proofs",
    "shifted_bells": "proofs",
    "thresholded": "proofs",
    "change_spectra": "samples",
    "denoising_strip": "samples",
    "mean_times": "samples",
    "sample_grid": "samples",
    "differences_by_compute": "shrinking",
    "quality_by_compute": "shrinking",
    "staircases": "shrinking",
    "divergences": "related",
    "shrinking_path": "related",
    "time_maps": "related",
    "centroid_panels": "spectra",
    "image_sets": "spectra",
    "memorisation": "spectra",
    "strip": "spectra",
    "decided_panels": "switching",
    "prompt_table": "switching",
    "switched_prompts": "switching",
    "adjusted_times": "theory",
    "clocks_of": "theory",
    "ddim_spread": "theory",
    "forward_process": "theory",
    "measured_snr": "theory",
    "pooled_photograph": "theory",
    "prompts_over_time": "theory",
    "distance_ratios": "upsampling",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'reschrom.plots' has no attribute {name!r}")
    return getattr(importlib.import_module(f"reschrom.plots.{_HOME[name]}"), name)
