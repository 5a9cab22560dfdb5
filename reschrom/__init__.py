"""Resolution chromatography of diffusion models: which resolution is being generated at each time.

Everything in the table of the API page is importable from here; each name is loaded when it is first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> the module that defines it.
_HOME = {
    "Schedule": "schedules",
    "downsample": "resolution",
    "upsample": "resolution",
    "bands": "resolution",
    "from_bands": "resolution",
    "band_energies": "resolution",
    "band_names": "resolution",
    "band_sizes": "resolution",
    "band_spectrum": "resolution",
    "depth": "resolution",
    "intensity_scale": "scaling",
    "matched_alpha": "scaling",
    "matched_noise": "scaling",
    "matched_time": "scaling",
    "chromatography": "rates",
    "generated_signal": "rates",
    "wiener_gain": "rates",
    "Chromatogram": "chromatogram",
    "Comparison": "chromatogram",
    "GaussianField": "posteriors",
    "GaussianMixture": "posteriors",
    "FiniteDataset": "posteriors",
    "ScaleMixture": "scales",
    "WindowMixture": "windows",
    "NearestImage": "windows",
    "Chromatograph": "measure",
    "band_losses": "denoising",
    "ddim": "denoising",
    "BandLosses": "denoising",
    "predicted_noise": "denoising",
    "network_denoiser": "networks",
    "load_pipeline": "pipelines",
    "rates_from_losses": "denoising",
    "rates_from_sampling": "denoising",
    "estimate_at": "thresholding",
    "threshold": "thresholding",
    "thresholded": "thresholding",
    "thresholded_noise": "thresholding",
    "CascadedUNet": "cascade_unet",
    "cascaded_noise": "cascade",
    "residual_target": "cascade",
    "AttenuatedProcess": "dvdp",
    "error_bound": "dvdp_bound",
    "attenuation_within": "dvdp_bound",
    "turning_points_within": "dvdp_bound",
    "spectral_turning_points": "dvdp_bound",
    "DVDPScheduler": "dvdp_scheduler",
    "DVDPPipeline": "dvdp_pipeline",
    "PromptSchedule": "prompts",
    "heaviside": "prompts",
    "ramp": "prompts",
    "by_band": "prompts",
    "DecidedShare": "prompts",
    "decided_share": "prompts",
    "predicted_share": "prompts",
    "half_decided": "prompts",
    "switch_time": "prompts",
    "survival": "editing",
    "Survival": "editing",
    "predicted_survival": "editing",
    "UpsampleGuidance": "upsample_guidance",
    "coarse_correction": "upsample_guidance",
    "photos": "data",
    "MeasuredSpectrum": "spectrum",
    "measure_spectrum": "spectrum",
    "designed_timesteps": "timesteps",
    "usual_timesteps": "timesteps",
    "gaussian_errors": "timesteps",
    "designed_schedule": "designed",
    "time_per_band": "designed",
    "scheduler_for": "designed",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'reschrom' has no attribute {name!r}")
    return getattr(importlib.import_module(f"reschrom.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
