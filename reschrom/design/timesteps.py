"""Designed timesteps: a list for a diffusers pipeline that spends its steps where signal is generated.

DDIM, and Euler on a flow-matching path, which is the same, keeps the noise prediction fixed during a step. In the clock
log sigma = log((1 - alpha) / alpha) / 2 a step of width h makes the error h^2 / 2 times the change of the estimate
E[x_0 | x_t] per unit of that clock. For a Gaussian band, what this leaves in the image is h^2 / 4 times the band's
generation rate per unit of the clock, relative to its own amplitude. So equal steps in the square root of the rate make
the least error. Ancestral sampling (DDPM) loses variance instead: 2 h^2 times the rate times the share of its signal
that the band holds already.

A network predicts the noise with an error, say r of the noise. A step of width h changes a band by e^h - 1 times the
noise that it holds after the step, and so errs by r sqrt(1 - G) (e^h - 1) of its amplitude, where G is the share of its
signal that the band holds. The part in proportion to h adds up to the same on every list. What is left, h^2 / 2 times
r sqrt(1 - G), is as much as if 2 r sqrt(1 - G) were generated per unit of the clock. Near pure noise, where nothing
else is, this bounds the steps.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from reschrom._arrays import numpy_array, real_number, told, whole_number
from reschrom.theory.chromatogram import Chromatogram
from reschrom.theory.schedules import Schedule
from reschrom.theory.shares import check_clock
from reschrom.theory.spectrum import Spectrum, variances

# The width, in l = log sigma, of the step to the image itself, where that clock has no end. The work of a step is the
# integral of the root of the rate of its signal: sqrt(gain * width) if the rate is constant. Here the signal that is
# missing grows as sigma^2, g e^(2 l) up to l = 0, so its rate is 2 g e^(2 l) and the integral sqrt(2 g).
_LAST_WIDTH = 2.0
_LEAST_SIGMA = 0.002  # of Karras et al. (2022)
_FINE = 1000  # times to choose from, where the schedule has no whole timesteps
_SAME = 1e-6  # of the whole time: how far two timesteps that are one lie apart
EQUAL = ("error", "variance", "signal")


def designed_timesteps(
    chromatogram: Chromatogram,
    schedule: Schedule,
    steps: int,
    weights: Sequence[float] | None = None,
    equal: str = "error",
    noise_error: float | None = None,
    last: float | None = None,
) -> list[int] | list[float]:
    """Choose the timesteps at which each step of a sampler does an equal part of the work.

    Parameters
    ----------
    chromatogram : Chromatogram
        What is generated when, predicted or measured, in the timesteps of `schedule`.
    schedule : Schedule
        Of the scheduler, `Schedule.from_diffusers`, or of a network of one's own. One without a last time raises
        ValueError.
    steps : int
        How many timesteps, ValueError where there are fewer; the first is the noisiest, and the step from the last
        leads to the image.
    weights : sequence of float, optional
        Of the bands, finest first; equal ones by default. A band counts by the share of its own signal.
    equal : {"error", "variance", "signal"}
        "error", so that each step makes an equal share of the error of DDIM; "variance", so that in ancestral sampling
        (DDPM) each loses an equal share of variance; or "signal", so that each generates an equal share of it.
    noise_error : float, optional
        Root mean square error of the network's prediction of the noise near pure noise, from 0, exact, to 1. Data with
        little signal to generate there would get a first step so long that such an error outgrows the image. By default
        what the chromatogram knows of it, as one of `rates_from_losses` does; others know of none. It counts with
        equal="error" alone; ValueError where it is given with another.
    last : float, optional
        The last timestep, from which the image is reached, for a scheduler that fixes it (`shift_terminal`); chosen
        like the others by default. ValueError where it is none of the timesteps.

    Returns
    -------
    list
        Distinct timesteps, falling, for `timesteps=` of a pipeline or of `set_timesteps`: whole ones, but numbers where
        the schedule runs from 0 to 1, and the sigmas of one whose time is sigma.

    Examples
    --------
    >>> from diffusers import DDIMScheduler
    >>> from reschrom import Chromatogram, Schedule, designed_timesteps
    >>> schedule = Schedule.from_diffusers(DDIMScheduler())
    >>> designed_timesteps(Chromatogram.predicted(schedule, size=64), schedule, steps=5)
    [999, 841, 692, 506, 264]
    """
    if equal not in EQUAL:
        raise ValueError(f"steps can be equal in {', '.join(EQUAL)}; got {equal!r}")
    if noise_error is None:
        noise_error = chromatogram.noise_error if equal == "error" else 0.0
    elif real_number("noise_error", noise_error, 0, 1) and equal != "error":
        raise ValueError(f"the noise_error of a network counts in steps that are equal in error; got equal={equal!r}")
    weight = band_weights(weights, len(chromatogram.rates))
    times = _clock(schedule)
    if not 1 <= whole_number("the number of steps", steps) < len(times):
        raise ValueError(f"there are {len(times) - 1} timesteps from {times[-1]:g} to {times[1]:g}; got {steps} steps")
    work = _work(_shares(chromatogram, times), weight, schedule, times, equal, noise_error)
    done = np.concatenate([[0.0], np.cumsum(work)])
    if not done[-1] > 0:
        raise ValueError("the chosen bands generate no signal at any timestep")
    check_clock(chromatogram, schedule)
    end, parts, place = 0.0, steps, 1
    if last is not None:
        place = int(np.argmin(np.abs(times - real_number("the last timestep", last))))
        if abs(times[place] - last) > _SAME * times[-1] or not 2 <= steps <= len(times) - place:
            raise ValueError(f"the last of {steps} timesteps must be one of those below {times[-1]:g}; got {last:g}")
        end, parts = done[place] / done[-1], steps - 1
    wanted = np.interp(1 - (1 - end) * np.arange(steps) / parts, done / done[-1], np.arange(len(times)))
    wanted[0] = len(times) - 1
    chosen: list[int] | list[float] = times[distinct(np.rint(wanted).astype(int), place)].tolist()
    return chosen


def _clock(schedule: Schedule) -> np.ndarray:
    """Return the times that a step can have, from that of the image up."""
    if schedule.path == "exploding":  # sigma, even in its logarithm from where nothing is seen of it
        return np.append(0.0, np.geomspace(_LEAST_SIGMA, schedule.end, _FINE))
    if (schedule.start, schedule.end) == (0, 1):
        return np.linspace(0, 1, _FINE + 1)
    if not math.isfinite(schedule.end):
        raise ValueError(f"the {schedule.name} schedule has no last time to begin with")
    return np.arange(math.ceil(schedule.start), math.floor(schedule.end) + 1)


def band_weights(weights: Sequence[float] | None, bands: int) -> Float[np.ndarray, " bands"]:
    """Return weights of the bands, finest first, whose sum is 1; equal ones for None."""
    weight = np.ones(bands) if weights is None else numpy_array(weights).astype(np.float64)
    if weight.shape != (bands,) or not np.all((weight >= 0) & np.isfinite(weight)) or not weight.any():
        raise ValueError(f"{bands} weights are needed, finest first, none negative and not all 0; got {told(weights)}")
    weight = weight / weight.max()  # the sum of large ones is finite
    return weight / weight.sum()


def _shares(chromatogram: Chromatogram, times: np.ndarray) -> Float[np.ndarray, "bands steps"]:
    """Return the share of its signal that every band gains between the times, nothing outside what was seen."""
    gained = np.stack([np.diff(np.interp(times, chromatogram.edges, band)) for band in chromatogram.gained_share])
    total = gained.sum(axis=1, keepdims=True)
    return gained / np.where(total > 0, total, 1)


def _work(
    gained: np.ndarray, weight: np.ndarray, schedule: Schedule, times: np.ndarray, equal: str, noise_error: float
) -> Float[np.ndarray, " steps"]:
    if equal == "signal":
        return weight @ gained
    held = 1 - np.cumsum(gained, axis=1) + gained / 2  # in the middle of the step
    if equal == "variance":
        gained = gained * held
    with np.errstate(invalid="ignore"):
        widths = -np.diff(schedule.log_snr(times.astype(np.float64))) / 2
    if np.isinf(widths[0]):
        widths[0] = _LAST_WIDTH
    # In pure noise there is nothing to gain, however wide the step.
    widths = np.where(np.isfinite(widths), widths, 0.0)
    error = 2 * noise_error * np.sqrt(np.clip(1 - held, 0, 1)) * widths
    return np.sqrt(weight @ (gained + error) * widths)


def distinct(timesteps: np.ndarray, least: int) -> list[int]:
    """Return the nearest falling list without repetitions that ends at `least` or above."""
    chosen: list[int] = []
    for index, timestep in enumerate(timesteps):
        below = chosen[-1] - 1 if chosen else timestep
        chosen.append(int(max(min(timestep, below), least + len(timesteps) - 1 - index)))
    return chosen


def gaussian_errors(timesteps: Sequence[int], schedule: Schedule, spectrum: Spectrum) -> Float[np.ndarray, " bands"]:
    """Return the exact error that DDIM makes of every band of a Gaussian field, relative to its amplitude.

    timesteps: falling; the first state is white noise, and the step from the last leads to the image.
    spectrum: variance per coefficient of each band, finest first.
    With infinitely many steps from pure noise it is 0. Negative where the band comes out too weak.
    """
    power, times = (numpy_array(each).astype(np.float64) for each in (variances(spectrum), timesteps))
    if power.ndim != 1 or not len(power) or not np.all((power > 0) & (power < np.inf)):
        raise ValueError(f"a spectrum holds positive variances, finest first; got {told(power.tolist())}")
    if times.ndim != 1 or not len(times) or not np.all(np.diff(times) < 0):
        raise ValueError(f"timesteps must fall from noise to image; got {told(times.tolist())}")
    sigma = np.append(np.exp(-schedule.log_snr(times) / 2), 0.0)
    amplitude = np.full(len(power), math.hypot(1.0, sigma[0]))
    for now, after in itertools.pairwise(sigma):
        # The noise prediction of a band is sigma / (S + sigma^2) times what it holds, x_t / sqrt(alpha).
        amplitude *= 1 + (after - now) * now / (power + now**2)
    return amplitude / np.sqrt(power) - 1
