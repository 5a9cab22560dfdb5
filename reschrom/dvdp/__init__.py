"""The Dimensionality-Varying Diffusion Process: images become smaller as they become noise.

Here belong the process, what its turning points cost, and its scheduler and pipeline for diffusers.
Not here: its training (`train`) and the pages about it (`companion`).
"""
