"""Designed timesteps: a list for a diffusers pipeline that spends its steps where signal is generated.

DDIM, and Euler on a flow-matching path, which is the same, keeps the noise prediction fixed during a step. In the clock
log sigma = log((1 - alpha) / alpha) / 2 a step of width h makes the error h^2 / 2 times the change of the estimate
E[x_0 | x_t] per unit of that clock. For a Gaussian band, what this leaves in the image is h^2 / 4 times the band's
generation rate per unit of the clock, relative to its own amplitude. So equal steps in the square root of the rate make
the least error.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from reschrom.chromatogram import Chromatogram
from reschrom.schedules import Schedule

EQUAL = ("error", "signal")


def designed_timesteps(
    chromatogram: Chromatogram,
    schedule: Schedule,
    steps: int,
    weights: Sequence[float] | None = None,
    equal: str = "error",
) -> list[int]:
    """Choose the whole timesteps at which each step of a sampler does an equal part of the work.

    chromatogram: what is generated when, predicted or measured, in the timesteps of `schedule`.
    schedule: of the scheduler, `Schedule.from_diffusers`.
    steps: how many timesteps; the first is the noisiest, and the step from the last leads to the image.
    weights: of the bands, finest first; equal ones by default. A band counts by the share of its own signal.
    equal: "signal", so that each step generates an equal share of signal, or "error", so that each makes an equal share
        of the error of DDIM: the square root of signal per unit of log sigma.
    Returns distinct timesteps, falling, for `timesteps=` of a pipeline or of `set_timesteps`.
    """
    if equal not in EQUAL:
        raise ValueError(f"steps can be equal in {' or '.join(EQUAL)}; got {equal!r}")
    weight = band_weights(weights, len(chromatogram.rates))
    whole = np.arange(math.ceil(schedule.start), math.floor(schedule.end) + 1)
    least = int(whole[0]) + 1
    if not 1 <= steps <= whole[-1] - least + 1:
        raise ValueError(f"there are {whole[-1] - least + 1} timesteps from {whole[-1]} to {least}; got {steps} steps")
    done = np.concatenate([[0.0], np.cumsum(_work(weight @ _shares(chromatogram, whole), schedule, whole, equal))])
    if not done[-1] > 0:
        raise ValueError("the chosen bands generate no signal at any timestep")
    wanted = np.interp(1 - np.arange(steps) / steps, done / done[-1], whole)
    wanted[0] = whole[-1]
    return _distinct(np.rint(wanted).astype(int), least)


def band_weights(weights: Sequence[float] | None, bands: int) -> Float[np.ndarray, " bands"]:
    """Return weights of the bands, finest first, whose sum is 1; equal ones for None."""
    weight = np.ones(bands) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.shape != (bands,) or not np.all((weight >= 0) & np.isfinite(weight)) or not weight.any():
        raise ValueError(f"{bands} weights are needed, finest first, none negative and not all 0; got {weights}")
    return weight / weight.sum()


def _shares(chromatogram: Chromatogram, whole: np.ndarray) -> Float[np.ndarray, "bands steps"]:
    """Return the share of its signal that every band gains between whole timesteps, nothing outside what was seen."""
    signal = np.cumsum(chromatogram.rates * np.diff(chromatogram.edges), axis=1)
    signal = np.concatenate([np.zeros((len(signal), 1)), signal], axis=1)
    gained = np.stack([np.diff(np.interp(whole, chromatogram.edges, band)) for band in signal])
    total = gained.sum(axis=1, keepdims=True)
    return gained / np.where(total > 0, total, 1)


def _work(gained: np.ndarray, schedule: Schedule, whole: np.ndarray, equal: str) -> Float[np.ndarray, " steps"]:
    if equal == "signal":
        return gained
    with np.errstate(invalid="ignore"):
        widths = -np.diff(schedule.log_snr(whole.astype(np.float64))) / 2
    # Near the image the signal that is missing grows as sigma^2, and the integral of the root of its rate is the root
    # of twice the signal, although the clock has no end there. Near pure noise there is nothing to gain.
    widths[0] = 2.0 if np.isinf(widths[0]) else widths[0]
    return np.sqrt(gained * np.where(np.isfinite(widths), widths, 0.0))


def _distinct(timesteps: np.ndarray, least: int) -> list[int]:
    """Return the nearest falling list without repetitions that ends at `least` or above."""
    chosen: list[int] = []
    for index, timestep in enumerate(timesteps):
        below = chosen[-1] - 1 if chosen else timestep
        chosen.append(int(max(min(timestep, below), least + len(timesteps) - 1 - index)))
    return chosen
