"""Timesteps and noise schedules made for a spectrum or a measured chromatogram.

Here belongs what turns a chromatogram into a decision about where to spend steps or time.
Not here: schedules that are given (`theory.schedules`).
"""
