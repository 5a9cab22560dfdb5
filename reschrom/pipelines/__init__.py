"""Everything that works with pipelines of diffusers: the only room that knows how they call their denoiser.

Here belong the adapter, the chromatograph, prompt schedules, upsample guidance, thresholds, cascades and latents.
A new scheduler is taught to `scheduler`, and a new way to call a network to `rows`, `branches` or `geometry`, once.
Not here: mathematics that needs no pipeline (`theory`).
"""
