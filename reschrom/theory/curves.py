"""The curves of noise schedules: the log signal-to-noise ratio at each time, and the time at which it has a value.

They are formulas for any array namespace, without loss to rounding near the image or near pure noise.
Their times are in range: `Schedule` checks them before it asks.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from reschrom._arrays import Array, like

Curve = Callable[[Array, Any], Array]  # (values, their array namespace) -> values


class Curves(NamedTuple):
    """A monotone function of time and its exact inverse."""

    log_snr: Curve
    time: Curve


def natural() -> Curves:
    """Return the curves of the Ornstein-Uhlenbeck schedule: Eq. (30)."""
    return _from_exponent(lambda t, xp: t, lambda s, xp: s)


def linear(beta_start: float, beta_end: float) -> Curves:
    """Return the curves of a rate beta that is linear in t."""
    a, d = _rates(beta_start, beta_end)
    return _from_exponent(lambda t, xp: (a + 0.5 * d * t) * t, lambda s, xp: 2 * s / (a + xp.sqrt(a * a + 2 * d * s)))


def scaled_linear(beta_start: float, beta_end: float) -> Curves:
    """Return the curves of a rate beta whose square root is linear in t."""
    a, d = _rates(math.sqrt(beta_start), math.sqrt(beta_end))

    def time(s: Array, xp: Any) -> Array:
        root = (a**3 + 3 * d * s) ** (1 / 3)
        return 3 * s / (root * root + a * root + a * a)

    return _from_exponent(lambda t, xp: (a * a + (a + d * t / 3) * d * t) * t, time)


def cosine(s: float) -> Curves:
    """Return the curves of the cosine schedule: Eq. (36)."""
    if not 0 <= s < math.inf:
        raise ValueError(f"the cosine schedule's offset s must be finite and 0 or more; got {s}")
    u0, quarter = s / (1 + s) * math.pi / 2, math.pi / 2 / (1 + s)
    sin0, cos0 = math.sin(u0), math.cos(u0)

    def log_snr(t: Array, xp: Any) -> Array:
        # alpha = (cos u / cos u0)^2 and 1 - alpha = sin(u - u0) sin(u + u0) / cos(u0)^2; cos u = sin(pi/2 - u).
        v = quarter * t  # v = u - u0
        return 2 * xp.log(xp.sin(quarter * (1 - t))) - xp.log(xp.sin(v)) - xp.log(xp.sin(v + 2 * u0))

    def time(log_snr: Array, xp: Any) -> Array:
        # From amplitudes, not powers: these reach times down to 1e-300.
        signal, noise = (xp.exp(-_softplus(sign * log_snr, xp) / 2) for sign in (-1, 1))
        cos_u, sin_u = signal * cos0, xp.hypot(xp.zeros_like(noise) + sin0, noise * cos0)
        larger = sin_u * cos0 + cos_u * sin0  # sin(u + u0), and sin(u - u0) sin(u + u0) = noise^2 cos(u0)^2
        sin_v = noise * cos0**2 * (noise / xp.where(larger > 0, larger, 1))
        return xp.atan2(sin_v, cos_u * cos0 + sin_u * sin0) / quarter

    return Curves(log_snr, time)


def sigmoid(start: float, end: float, temperature: float) -> Curves:
    """Return the curves of the sigmoid schedule, from alpha(0) = 1 to alpha(1) = 0."""
    if not (-math.inf < start < end < math.inf and 0 < temperature < math.inf):
        raise ValueError(
            f"the sigmoid schedule needs finite start < end and temperature > 0; got {start}, {end}, {temperature}"
        )
    a, b = start / temperature, end / temperature
    w = (b - a) / 2
    cosh_ratio = float(np.logaddexp(a / 2, -a / 2) - np.logaddexp(b / 2, -b / 2))

    def log_snr(t: Array, xp: Any) -> Array:
        # snr = sinh(w (1 - t)) cosh(a / 2) / (sinh(w t) cosh(b / 2)), free of the differences in the definition.
        return _log_sinh(w * (1 - t), xp) - _log_sinh(w * t, xp) + cosh_ratio

    def time(log_snr: Array, xp: Any) -> Array:
        log_2_sinh_w = w + math.log(-math.expm1(-2 * w))
        rest = xp.logaddexp(xp.zeros_like(log_snr) - w, log_snr - cosh_ratio)
        return _softplus(log_2_sinh_w - rest, xp) / (2 * w)

    return Curves(log_snr, time)


def flow_matching(shift: float) -> Curves:
    """Return the curves of a straight path from image to noise, with a shifted time."""
    if not 0 < shift < math.inf:
        raise ValueError(f"the flow-matching shift must be finite and positive; got {shift}")
    return Curves(
        lambda t, xp: 2 * (xp.log1p(-t) - xp.log(shift * t)),
        lambda log_snr, xp: logistic(-log_snr / 2 - math.log(shift), xp),
    )


def edm() -> Curves:
    """Return the curves of a time that is sigma itself, the noise beside unit signal."""
    return Curves(lambda t, xp: -2 * xp.log(t), lambda log_snr, xp: xp.exp(-log_snr / 2))


def table(alpha: np.ndarray, name: str) -> Curves:
    """Return the curves of alpha at timesteps 0, 1, 2, ..., with the image itself at -1 unless the table has it.

    alpha: signal powers that fall within [0, 1], else ValueError, which says whose they are by `name`.
    """
    if alpha.ndim != 1 or len(alpha) < 2 or not np.all((alpha >= 0) & (alpha <= 1)) or not np.all(np.diff(alpha) < 0):
        raise ValueError(f"alphas_cumprod must fall from timestep to timestep within [0, 1]; {name} does not")
    # The angle in quarter turns, because its distance from 1 then keeps its precision near pure noise.
    quarter = math.pi / 2
    turn = np.arctan2(np.sqrt(1 - alpha), np.sqrt(alpha)) / quarter
    if alpha[0] < 1:
        turn = np.concatenate([[0.0], turn])
    timesteps = np.arange(len(alpha) - len(turn), len(alpha), dtype=np.float64)

    def log_snr(t: Array, xp: Any) -> Array:
        u = broken_line(t, timesteps, turn, xp)
        return 2 * (xp.log(xp.sin(quarter * (1 - u))) - xp.log(xp.sin(quarter * u)))

    def time(log_snr: Array, xp: Any) -> Array:
        return broken_line(xp.atan(xp.exp(-log_snr / 2)) / quarter, turn, timesteps, xp)

    return Curves(log_snr, time)


def broken_line(x: Array, xs: np.ndarray, ys: np.ndarray, xp: Any) -> Array:
    """Return the broken line through (xs, ys) at x, its last piece prolonged, for any array namespace."""
    # One dimension and no gaps, because searchsorted in torch asks for that.
    flat = xp.reshape(xp.asarray(x, copy=True), (-1,))
    if not bool(xp.all(xp.diff(like(xs, flat)) > 0)):  # where two knots are one number, in half precision
        flat = xp.astype(flat, xp.float64)
    knots, values = like(xs, flat), like(ys, flat)
    right = xp.clip(xp.searchsorted(knots, flat), 1, len(xs) - 1)
    low, high = knots[right - 1], knots[right]
    share = (flat - low) / (high - low)
    return xp.astype(xp.reshape(values[right - 1] * (1 - share) + values[right] * share, x.shape), x.dtype, copy=False)


def logistic(x: Array, xp: Any) -> Array:
    """Return `1 / (1 + exp(-x))`: the signal power at a log signal-to-noise ratio."""
    return xp.exp(-_softplus(-x, xp))


def _softplus(x: Array, xp: Any) -> Array:
    return xp.logaddexp(xp.zeros_like(x), x)


def _log_sinh(x: Array, xp: Any) -> Array:
    """Return log(2 sinh(x)) for x of 0 or more."""
    return x + xp.log(-xp.expm1(-2 * x))


def _rates(first: float, last: float) -> tuple[float, float]:
    if not 0 < first < last < math.inf:
        raise ValueError(f"the noise rate beta must be finite, positive and grow; got {first:g} to {last:g}")
    return first, last - first


def _from_exponent(exponent: Curve, time: Curve) -> Curves:
    """Build the curves from s(t) = -log alpha(t), the natural time t* of Eq. (35), and its inverse."""
    return Curves(
        lambda t, xp: -(s := exponent(t, xp)) - xp.log(-xp.expm1(-s)),
        lambda log_snr, xp: time(_softplus(-log_snr, xp), xp),
    )
