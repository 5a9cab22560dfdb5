"""The paper's mathematics: schedules, resolution bands, matched times, r_m, and the chromatogram that holds them.

Here belongs what follows from formulas and arrays alone, NumPy arrays and torch tensors alike.
Not here: anything that calls a denoiser (`denoisers`), knows a pipeline (`pipelines`) or imports torch or diffusers.
"""
