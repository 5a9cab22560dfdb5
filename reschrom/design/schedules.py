"""Designed schedules: the noise schedule that spends its time on the resolutions as asked.

What a band of variance S holds of its signal depends on the signal-to-noise ratio alone: `S SNR / (1 + S SNR)`. A
schedule only says when which ratio is passed, so it can give each band as much time as is wanted, and cannot change
which bands are generated together. Asked for the shares w_m of the time, the answer is closed in one direction,
`t(log SNR) = sum_m w_m sigmoid(-log SNR - log S_m)`: the distribution of log SNR is a mixture of logistic ones.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from reschrom._arrays import Array, whole_number
from reschrom._extras import naming_extra
from reschrom.design.timesteps import band_weights
from reschrom.theory.bands import Size, band_names, depth
from reschrom.theory.chromatogram import Chromatogram
from reschrom.theory.chromatography import generated_signal, powers_and_weights
from reschrom.theory.curves import broken_line
from reschrom.theory.schedules import Schedule
from reschrom.theory.spectrum import Spectrum

Solver = Callable[[Array, Any], Array]
# Halvings of an interval that is as wide as the bands are apart, in the logarithm: to the last bit of a double.
_HALVINGS = 64


def designed_schedule(
    size: Size,
    spectrum: Spectrum | None = None,
    weights: Sequence[float] | None = None,
    wanted: Chromatogram | None = None,
) -> Schedule:
    """Solve for the schedule that spends a chosen share of its time on each resolution band of a Gaussian field.

    size: pixels along one side of the images, or (height, width).
    spectrum: as for `chromatography`; None takes S_m = 4^m, with which the paper's r_m is what the bands do.
    weights: the share of the time for each band, finest first; equal ones by default.
    wanted: when signal shall be generated, all bands together, each by its weight and the share of its own signal. By
        default as much in every equal part of the time. The schedule runs over its edges, from image to noise.
    Returns a schedule from t = 0 to t = 1, or over the time grid of `wanted`, in which it is linear between edges.
    """
    (strengths, _), shares = powers_and_weights(depth(size), spectrum, size), band_weights(weights, depth(size) + 1)
    log_snr, time = _clock(np.log(strengths), shares)
    if wanted is None:
        return Schedule("designed", 0.0, 1.0, log_snr, time)
    if wanted.band_names != band_names(size):
        raise ValueError(f"a chromatogram of {band_names(size)[0]} pixels is wanted; got one of {wanted.band_names[0]}")
    lost = shares @ wanted.gained_share
    if not np.all(np.diff(lost) > 0):
        raise ValueError("a wanted chromatogram must generate signal at every time, or there the clock stands still")
    lost /= lost[-1]
    return Schedule(
        "designed",
        float(wanted.edges[0]),
        float(wanted.edges[-1]),
        lambda t, xp: log_snr(xp.clip(broken_line(t, wanted.edges, lost, xp), 0, 1), xp),
        lambda wished, xp: broken_line(time(wished, xp), lost, wanted.edges, xp),
    )


def time_per_band(
    schedule: Schedule, size: Size, spectrum: Spectrum | None = None, weights: Sequence[float] | None = None
) -> Float[np.ndarray, " bands"]:
    """Return the share of a schedule's time that goes to each resolution band, finest first; they sum to 1.

    At every time the bands share it by their weight and by the rate at which each generates its own signal, so that
    `designed_schedule` with the same weights gives back the weights.

    schedule: one with a last time.
    """
    if not np.isfinite(schedule.end):
        raise ValueError(f"the {schedule.name} schedule has no last time")
    (strengths, _), shares = powers_and_weights(depth(size), spectrum, size), band_weights(weights, depth(size) + 1)
    edges = np.linspace(schedule.start, schedule.end, 4001)
    alpha = schedule.alpha(edges)
    held = generated_signal(alpha[:-1], depth(size), strengths, since=alpha[1:])
    whole = generated_signal(1.0, depth(size), strengths)[:, None]
    rates = shares[:, None] * held / whole
    return (rates / rates.sum(axis=0)).mean(axis=1)


@naming_extra("scheduler_for")
def scheduler_for(schedule: Schedule, timesteps: int = 1000) -> Any:
    """Return a diffusers scheduler, DDPMScheduler, of a schedule: timestep k has the noise of the (k + 1)-th part.

    timesteps: how many; the last beta is at most 0.999, as in diffusers, so that alpha does not end in 0.
    """
    from diffusers import DDPMScheduler

    betas = _betas(schedule, timesteps)
    return DDPMScheduler(num_train_timesteps=timesteps, trained_betas=betas.tolist())


def discretised(schedule: Schedule, timesteps: int = 1000) -> Schedule:
    """Return the schedule of `scheduler_for(schedule, timesteps)`, by its timesteps, without diffusers."""
    return Schedule.from_alphas(np.cumprod(1 - _betas(schedule, timesteps)), schedule.name)


def _betas(schedule: Schedule, timesteps: int) -> Float[np.ndarray, " timesteps"]:
    """Return the share of the signal power that each of so many equal parts of a schedule loses, at most 0.999."""
    timesteps = whole_number("the number of timesteps", timesteps, least=2)
    if not np.isfinite(schedule.end):
        raise ValueError(f"the {schedule.name} schedule has no last time: a scheduler needs one")
    alpha = schedule.alpha(np.linspace(schedule.start, schedule.end, timesteps + 1))
    return np.minimum(1 - alpha[1:] / alpha[:-1], 0.999)


def _clock(log_strengths: np.ndarray, shares: np.ndarray) -> tuple[Solver, Solver]:
    """Return log SNR of time, and its inverse: time is the mean share of its signal that a band has lost."""

    def mean_sigmoid(of_band: Callable[[float], Array], xp: Any) -> Array:
        parts = zip(shares, log_strengths, strict=True)
        return sum(float(w) * xp.exp(-xp.logaddexp(xp.zeros_like(of_band(0.0)), of_band(float(s)))) for w, s in parts)

    # Two sums that add to 1, because the smaller one must not come from a difference.
    def lost(log_snr: Array, xp: Any) -> Array:
        """Return the mean share of its signal that a band has lost to noise."""
        return mean_sigmoid(lambda strength: log_snr + strength, xp)

    def held(log_snr: Array, xp: Any) -> Array:
        """Return the mean share of its signal that a band holds."""
        return mean_sigmoid(lambda strength: -(log_snr + strength), xp)

    def solved(t: Array, xp: Any) -> Array:
        odds = xp.log1p(-t) - xp.log(t)
        low, high = odds - float(log_strengths.max()), odds - float(log_strengths.min())
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            # The smaller of the two shares is the one that is known well.
            too_noisy = xp.where(t < 0.5, lost(middle, xp) > t, held(middle, xp) < 1 - t)
            low, high = xp.where(too_noisy, middle, low), xp.where(too_noisy, high, middle)
        return (low + high) / 2

    return solved, lost
