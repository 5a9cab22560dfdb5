"""Denoisers, functions `(x_t, alpha) -> estimate of x_0`: exact ones, formulas fitted to images, and what all do.

Here belong posteriors that can be written down, losses by resolution, and sampling with any denoiser.
Not here: networks inside pipelines of diffusers, which `pipelines.adapter` turns into denoisers.
"""
