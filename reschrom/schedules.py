"""Noise schedules: how much signal is left at each time (Eqs. 1, 2, 30 and 36).

A schedule is one monotone function of time, the log signal-to-noise ratio, with its exact inverse. Everything else
follows from it: `alpha = sigmoid(log_snr)`. Kept in this form nothing is lost to rounding near the image (alpha = 1)
or near pure noise (alpha = 0).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from reschrom._arrays import Array, floating, signal_power

Curve = Callable[[Array, Any], Array]  # (values, their array namespace) -> values


@dataclass(frozen=True)
class Schedule:
    """A noise schedule: the signal power alpha(t) that is left at time t, and its exact inverse.

    alpha is the paper's alpha_t of Eq. (1), the *cumulative* signal power (`alphas_cumprod` in diffusers).
    Continuous schedules run from t = 0 (image) to t = 1 (noise), the natural one to infinity;
    those read from a discrete scheduler use its timesteps, and t = -1 is the image itself.

    name: how plots and tables call it.
    start, end: the first time (image) and the last (noise).
    """

    name: str
    start: float
    end: float
    _log_snr: Curve = field(repr=False)
    _time: Curve = field(repr=False)

    def log_snr(self, t: Num[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return the natural logarithm of the signal-to-noise ratio at time t: +inf for the image, -inf for noise."""
        t, xp = floating(t)
        if not bool(xp.all((t >= self.start) & (t <= self.end))):
            raise ValueError(
                f"the {self.name} schedule runs from {self.start:g} to {self.end:g}; "
                f"got times from {float(t.min()):g} to {float(t.max()):g}"
            )
        with np.errstate(divide="ignore"):  # the image has infinite signal-to-noise ratio
            return self._log_snr(t, xp)

    def time_at(self, log_snr: Num[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return the time at which the log signal-to-noise ratio has the given value: the inverse of `log_snr`."""
        log_snr, xp = floating(log_snr)
        if bool(xp.any(xp.isnan(log_snr))):
            raise ValueError("a log signal-to-noise ratio is a number or +-inf; got NaN")
        with np.errstate(divide="ignore", over="ignore"):
            return self._time(log_snr, xp)

    def snr(self, t: Num[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return the signal-to-noise ratio at time t: Eq. (2)."""
        log_snr, xp = floating(self.log_snr(t))
        return xp.exp(log_snr)

    def alpha(self, t: Num[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return the signal power at time t: alpha_t of Eq. (1)."""
        return _sigmoid(*floating(self.log_snr(t)))

    def noise(self, t: Num[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return the noise power at time t, `1 - alpha_t`, to full relative precision: Eq. (1)."""
        log_snr, xp = floating(self.log_snr(t))
        return _sigmoid(-log_snr, xp)

    def time(self, alpha: Num[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return the time at which the signal power is `alpha`: the inverse of `alpha(t)`."""
        alpha, xp = signal_power(alpha)
        with np.errstate(divide="ignore"):
            return self.time_at(xp.log(alpha) - xp.log1p(-alpha))

    @staticmethod
    def natural() -> "Schedule":
        """Return the Ornstein-Uhlenbeck schedule alpha = exp(-t), t from 0 to infinity: Eq. (30)."""
        return _from_exponent("natural", math.inf, lambda t, xp: t, lambda s, xp: s)

    @staticmethod
    def linear(beta_start: float = 0.1, beta_end: float = 20.0) -> "Schedule":
        """Return the linear schedule: alpha = exp(-integral of beta), beta linear in t.

        With the default rates it is the limit of DDPM's beta = 1e-4 ... 0.02 in 1,000 steps (Ho et al., 2020).
        """
        a, d = _rates(beta_start, beta_end)
        return _from_exponent(
            "linear", 1.0, lambda t, xp: (a + 0.5 * d * t) * t, lambda s, xp: 2 * s / (a + xp.sqrt(a * a + 2 * d * s))
        )

    @staticmethod
    def scaled_linear(beta_start: float = 0.85, beta_end: float = 12.0) -> "Schedule":
        """Return the schedule whose square root of beta is linear in t (Stable Diffusion, per unit of time)."""
        a, d = _rates(math.sqrt(beta_start), math.sqrt(beta_end))

        def time(s: Array, xp: Any) -> Array:
            root = (a**3 + 3 * d * s) ** (1 / 3)
            return 3 * s / (root * root + a * root + a * a)

        return _from_exponent("scaled_linear", 1.0, lambda t, xp: (a * a + (a + d * t / 3) * d * t) * t, time)

    @staticmethod
    def cosine(s: float = 0.008) -> "Schedule":
        """Return the cosine schedule of Nichol and Dhariwal (2021): Eq. (36), t in units of T.

        s: the offset that keeps the first steps from being too small; 0 or more.
        """
        if not s >= 0:
            raise ValueError(f"the cosine schedule's offset s must be 0 or more; got {s}")
        u0, quarter = s / (1 + s) * math.pi / 2, math.pi / 2 / (1 + s)
        sin0, cos0 = math.sin(u0), math.cos(u0)

        def log_snr(t: Array, xp: Any) -> Array:
            # alpha = (cos u / cos u0)^2 and 1 - alpha = sin(u - u0) sin(u + u0) / cos(u0)^2; cos u = sin(pi/2 - u).
            v = quarter * t
            return 2 * xp.log(xp.sin(quarter * (1 - t))) - xp.log(xp.sin(v)) - xp.log(xp.sin(v + 2 * u0))

        def time(log_snr: Array, xp: Any) -> Array:
            alpha, noise = _sigmoid(log_snr, xp), _sigmoid(-log_snr, xp)
            cos_u, sin_u = xp.sqrt(alpha) * cos0, xp.sqrt(sin0**2 + noise * cos0**2)
            sin_v = noise * cos0**2 / (sin_u * cos0 + cos_u * sin0)
            return xp.atan2(sin_v, cos_u * cos0 + sin_u * sin0) / quarter

        return Schedule("cosine", 0.0, 1.0, log_snr, time)

    @staticmethod
    def sigmoid(start: float = -3.0, end: float = 3.0, temperature: float = 1.0) -> "Schedule":
        """Return the sigmoid schedule of Jabri et al. (2022), normalised so that alpha(0) = 1 and alpha(1) = 0."""
        if not (start < end and temperature > 0):
            raise ValueError(
                f"the sigmoid schedule needs start < end and temperature > 0; got {start}, {end}, {temperature}"
            )
        a, b = start / temperature, end / temperature
        w, cosh_a, cosh_b = (b - a) / 2, math.cosh(a / 2), math.cosh(b / 2)

        def log_snr(t: Array, xp: Any) -> Array:
            return xp.log(xp.sinh(w * (1 - t)) * cosh_a) - xp.log(xp.sinh(w * t) * cosh_b)

        def time(log_snr: Array, xp: Any) -> Array:
            return xp.atanh(math.sinh(w) * cosh_a / (math.cosh(w) * cosh_a + xp.exp(log_snr) * cosh_b)) / w

        return Schedule("sigmoid", 0.0, 1.0, log_snr, time)

    @staticmethod
    def flow_matching(shift: float = 1.0) -> "Schedule":
        """Return the schedule of a straight path x_t = (1 - sigma) x_0 + sigma noise, at unit intensity.

        alpha = (1 - sigma)^2 / ((1 - sigma)^2 + sigma^2), with sigma = shift t / (1 + (shift - 1) t) (Esser et al., 2024).
        """
        if not shift > 0:
            raise ValueError(f"the flow-matching shift must be positive; got {shift}")

        def log_snr(t: Array, xp: Any) -> Array:
            return 2 * (xp.log1p(-t) - xp.log(shift * t))

        def time(log_snr: Array, xp: Any) -> Array:
            return _sigmoid(-log_snr / 2 - math.log(shift), xp)

        return Schedule("flow_matching", 0.0, 1.0, log_snr, time)

    @staticmethod
    def from_diffusers(scheduler: Any) -> "Schedule":
        """Read the schedule of a diffusers scheduler; time is the scheduler's own timestep.

        scheduler: any scheduler with `alphas_cumprod`, or a flow-matching one, whose timestep is N sigma for
        N training timesteps. Between whole timesteps the angle arctan(sqrt((1 - alpha) / alpha)) is linear.
        Raises TypeError when it has neither, ValueError when its alpha does not fall with time.
        """
        name, config = type(scheduler).__name__, getattr(scheduler, "config", {})
        if name.startswith("FlowMatch") or config.get("use_flow_sigmas", False):
            steps, unit = config["num_train_timesteps"], Schedule.flow_matching()
            return Schedule(
                name,
                0.0,
                float(steps),
                lambda t, xp: unit._log_snr(t / steps, xp),
                lambda log_snr, xp: steps * unit._time(log_snr, xp),
            )
        table = getattr(scheduler, "alphas_cumprod", None)
        if table is None:
            raise TypeError(f"a scheduler with alphas_cumprod, or a flow-matching one, is needed; got {name}")
        return _from_table(name, np.asarray(table, dtype=np.float64))


def _sigmoid(x: Array, xp: Any) -> Array:
    return xp.exp(-xp.logaddexp(xp.zeros_like(x), -x))


def _rates(first: float, last: float) -> tuple[float, float]:
    if not 0 < first < last:
        raise ValueError(f"the noise rate beta must be positive and grow; got {first:g} to {last:g}")
    return first, last - first


def _from_exponent(name: str, end: float, exponent: Curve, time: Curve) -> Schedule:
    """Build a schedule from s(t) = -log alpha(t), the natural time t* of Eq. (35), and its inverse."""
    return Schedule(
        name,
        0.0,
        end,
        lambda t, xp: -(s := exponent(t, xp)) - xp.log(-xp.expm1(-s)),
        lambda log_snr, xp: time(xp.logaddexp(xp.zeros_like(log_snr), -log_snr), xp),
    )


def _from_table(name: str, alpha: np.ndarray) -> Schedule:
    """Build a schedule from alpha at timesteps 0, 1, 2, ..., with the image itself at timestep -1."""
    if alpha.ndim != 1 or len(alpha) < 2 or not np.all((alpha >= 0) & (alpha <= 1)) or not np.all(np.diff(alpha) < 0):
        raise ValueError(f"alphas_cumprod must fall from timestep to timestep within [0, 1]; {name} does not")
    angle = np.arctan2(np.sqrt(1 - alpha), np.sqrt(alpha))
    if alpha[0] < 1:
        angle = np.concatenate([[0.0], angle])
    first = len(alpha) - len(angle)
    timesteps = np.arange(first, len(alpha), dtype=np.float64)
    return Schedule(
        name,
        float(first),
        float(timesteps[-1]),
        lambda t, xp: -2 * xp.log(xp.tan(_interpolate(t, timesteps, angle, xp))),
        lambda log_snr, xp: _interpolate(xp.atan(xp.exp(-log_snr / 2)), angle, timesteps, xp),
    )


def _interpolate(x: Array, xs: np.ndarray, ys: np.ndarray, xp: Any) -> Array:
    """Return the broken line through (xs, ys) at x, constant outside: `numpy.interp` for any array namespace."""
    where = {"dtype": x.dtype} if xp.__name__.endswith("numpy") else {"dtype": x.dtype, "device": x.device}
    knots, values = xp.asarray(xs, **where), xp.asarray(ys, **where)
    # A zero-dimensional x becomes one element: searchsorted in torch takes no scalars.
    flat = xp.reshape(x, (-1,))
    right = xp.clip(xp.searchsorted(knots, flat), 1, len(xs) - 1)
    low, high = knots[right - 1], knots[right]
    share = xp.clip((flat - low) / (high - low), 0, 1)
    return xp.reshape(values[right - 1] * (1 - share) + values[right] * share, x.shape)
