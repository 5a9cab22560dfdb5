"""The scaling relation: a downsampled noised image is a noised image of another time and intensity (Eqs. 11-16).

Averaging `2^m` x `2^m` pixels keeps the signal and divides the noise variance by `4^m`. Scaled by `intensity_scale`,
the result has exactly the distribution of a low-resolution image at signal power `matched_alpha`.
"""

import math
from typing import Any

from jaxtyping import Float, Num

from reschrom._arrays import Array, Number, narrowed, signal_power, whole_level, widened
from reschrom.theory.schedules import Schedule


def intensity_scale(alpha: Num[Array, "*shape"] | Number, level: int) -> Float[Array, "*shape"]:
    """Return the factor that brings a downsampled noised image back to unit intensity: lambda of Eqs. (13) and (16).

    Parameters
    ----------
    alpha : array or float
        Signal power in [0, 1], any shape; ValueError outside.
    level : int
        How many times the image is halved.

    Examples
    --------
    >>> from reschrom import intensity_scale
    >>> round(float(intensity_scale(0.5, level=1)), 4)  # 2 / sqrt(4 alpha + 1 - alpha)
    1.2649
    """
    alpha, wide, xp = _held(alpha, level)
    return narrowed(2.0**level / xp.sqrt(_total(wide, level)), alpha.dtype)


def matched_alpha(alpha: Num[Array, "*shape"] | Number, level: int) -> Float[Array, "*shape"]:
    """Return the signal power of the low-resolution image that a downsampled noised image is: Eqs. (11) and (16).

    Its signal-to-noise ratio is `4^level` times that of `alpha`.

    Parameters
    ----------
    alpha : array or float
        That of the image before downsampling, in [0, 1], any shape; ValueError outside.
    level : int
        Halvings of the image's sides.

    Examples
    --------
    >>> from reschrom import matched_alpha
    >>> round(float(matched_alpha(0.5, level=1)), 4)  # 4 alpha / (4 alpha + 1 - alpha)
    0.8
    """
    alpha, wide, _ = _held(alpha, level)
    return narrowed(4.0**level * wide / _total(wide, level), alpha.dtype)


def matched_noise(alpha: Num[Array, "*shape"] | Number, level: int) -> Float[Array, "*shape"]:
    """Return `1 - matched_alpha(alpha, level)` to full relative precision: the noise power at tau_m (Eq. 16)."""
    alpha, wide, _ = _held(alpha, level)
    return narrowed((1 - wide) / _total(wide, level), alpha.dtype)


def matched_time(schedule: Schedule, t: Num[Array, "*shape"] | Number, level: int) -> Float[Array, "*shape"]:
    """Return the adjusted time tau_m at which a low-resolution image is as noisy as the downsampled one: Eq. (16).

    Parameters
    ----------
    schedule : Schedule
        Maps time to log signal-to-noise ratio, where downsampling is a shift by `level * log 4`.
    t : array or float
        Time in the units of the schedule, any shape; ValueError outside of it.
    level : int
        How many times the image is halved.

    Examples
    --------
    >>> from reschrom import Schedule, matched_time
    >>> round(float(matched_time(Schedule.cosine(), 0.5, level=1)), 4)
    0.2928
    """
    return schedule.time_at(schedule.log_snr(t) + whole_level(level) * math.log(4))


def _held(alpha: Array, level: int) -> tuple[Array, Array, Any]:
    """Return the signal power as it is, in a dtype that holds 4^level, and its namespace, after checking both."""
    alpha, xp = signal_power(alpha)
    return alpha, widened(alpha, [4.0 ** whole_level(level)]), xp


def _total(alpha: Array, level: int) -> Array:
    # 1 + (4^m - 1) alpha written as a sum of positive terms.
    return 4.0**level * alpha + (1 - alpha)
