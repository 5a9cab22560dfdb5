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
from array_api_compat import array_namespace
from jaxtyping import Float, Num

from reschrom._arrays import (
    Array,
    Number,
    floating,
    like,
    numpy_array,
    real_number,
    signal_power,
    single,
    told,
    whole_number,
)

Curve = Callable[[Array, Any], Array]  # (values, their array namespace) -> values

# The schedulers of diffusers whose timestep is N sigma on the path (1 - sigma) x_0 + sigma noise, by their class names.
_FLOW = ("FlowMatch", "FlowMap", "Helios", "LTXEulerAncestralRF", "Piflow")
_ROUNDED = 1.5  # these may round a timestep to a whole number, up or down


@dataclass(frozen=True)
class Schedule:
    """A noise schedule: the signal power alpha(t) that is left at time t, and its exact inverse (Eqs. 1 and 2).

    alpha is the paper's alpha_t of Eq. (1), the *cumulative* signal power (`alphas_cumprod` in diffusers).
    Continuous schedules run from t = 0 (image) to t = 1 (noise), the natural one to infinity;
    those read from a discrete scheduler use its timesteps, and t = -1 is the image itself.
    All methods take arrays of any shape, and raise ValueError for what the schedule does not reach.

    Attributes
    ----------
    name : str
        How plots and tables call it.
    start, end : float
        The first time (image) and the last (noise).
    path : {"preserving", "straight", "exploding", "preconditioned"}
        What a network of this clock is shown, all at the same alpha: `sqrt(alpha) x_0 + sqrt(1 - alpha) noise` of
        Eq. (1), whose variance is preserved; `(1 - sigma) x_0 + sigma noise` of flow matching; or `x_0 + sigma noise`.
        The schedulers of EDM scale this last one, and the output, by the deviation that they take the data to have.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import Schedule
    >>> schedule = Schedule.cosine()
    >>> schedule.alpha(np.array([0.1, 0.5, 0.9])).round(3).tolist()
    [0.972, 0.494, 0.024]
    >>> round(float(schedule.time(0.5)), 3)
    0.496
    """

    name: str
    start: float
    end: float
    _log_snr: Curve = field(repr=False)
    _time: Curve = field(repr=False)
    path: str = "preserving"

    def log_snr(self, t: Num[Array, "*shape"] | Number) -> Float[Array, "*shape"]:
        """Return the natural logarithm of the signal-to-noise ratio at time t: +inf for the image, -inf for noise."""
        t, xp = floating(t)
        if not bool(xp.all((t >= self.start) & (t <= self.end))):
            raise ValueError(
                f"the {self.name} schedule runs from {self.start:g} to {self.end:g}; "
                f"got times from {float(t.min()):g} to {float(t.max()):g}"
            )
        with np.errstate(divide="ignore"):  # the image has infinite signal-to-noise ratio
            return xp.astype(self._log_snr(single(t), xp), t.dtype, copy=False)

    def time_at(self, log_snr: Num[Array, "*shape"] | Number) -> Float[Array, "*shape"]:
        """Return the time at which the log signal-to-noise ratio has the given value: the inverse of `log_snr`."""
        log_snr, xp = floating(log_snr)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            t = self._time(single(log_snr), xp)
        # Rounding may put the last time a little too late; NaN fails the comparison.
        beyond = max(1e-5, float(xp.finfo(log_snr.dtype).eps)) * abs(self.end)
        if not bool(xp.all(t <= self.end + beyond)):
            raise ValueError(
                f"the {self.name} schedule has log signal-to-noise ratios from {float(self.log_snr(self.end)):g} up; "
                f"got values from {float(log_snr.min()):g} to {float(log_snr.max()):g}"
            )
        return xp.astype(xp.clip(t, self.start, self.end), log_snr.dtype, copy=False)

    def snr(self, t: Num[Array, "*shape"] | Number) -> Float[Array, "*shape"]:
        """Return the signal-to-noise ratio at time t: Eq. (2)."""
        log_snr, xp = floating(self.log_snr(t))
        with np.errstate(over="ignore"):  # infinite at the image
            return xp.exp(log_snr)

    def alpha(self, t: Num[Array, "*shape"] | Number) -> Float[Array, "*shape"]:
        """Return the signal power at time t: alpha_t of Eq. (1)."""
        return _sigmoid(*floating(self.log_snr(t)))

    def noise(self, t: Num[Array, "*shape"] | Number) -> Float[Array, "*shape"]:
        """Return the noise power at time t, `1 - alpha_t`, to full relative precision: Eq. (1)."""
        log_snr, xp = floating(self.log_snr(t))
        return _sigmoid(-log_snr, xp)

    def time(self, alpha: Num[Array, "*shape"] | Number) -> Float[Array, "*shape"]:
        """Return the time at which the signal power is `alpha`: the inverse of `alpha(t)`."""
        alpha, xp = signal_power(alpha)
        with np.errstate(divide="ignore"):
            return self.time_at(xp.log(alpha) - xp.log1p(-alpha))

    def network_time(self, t: Num[Array, "*shape"] | Number) -> Float[Array, "*shape"]:
        """Return the time to pass to a network with images of time t: t, but none before the first timestep.

        In a table of timesteps 0, 1, 2, ... the image itself stands at -1, where no network was trained.
        """
        t, xp = floating(t)
        return xp.clip(t, 0.0 if self.start == -1 else self.start, self.end)

    @staticmethod
    def natural() -> "Schedule":
        """Return the Ornstein-Uhlenbeck schedule alpha = exp(-t), t from 0 to infinity: Eq. (30)."""
        return _from_exponent("natural", math.inf, lambda t, xp: t, lambda s, xp: s)

    @staticmethod
    def linear(beta_start: float = 0.1, beta_end: float = 20.0) -> "Schedule":
        """Return the linear schedule: alpha = exp(-integral of beta), beta linear in t from `beta_start` to `beta_end`.

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

        The offset s, 0 or more, keeps the first steps from being too small.
        """
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

        return Schedule("cosine", 0.0, 1.0, log_snr, time)

    @staticmethod
    def sigmoid(start: float = -3.0, end: float = 3.0, temperature: float = 1.0) -> "Schedule":
        """Return the sigmoid schedule of Jabri et al. (2022), normalised so that alpha(0) = 1 and alpha(1) = 0."""
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

        return Schedule("sigmoid", 0.0, 1.0, log_snr, time)

    @staticmethod
    def flow_matching(shift: float = 1.0) -> "Schedule":
        """Return the schedule of a straight path x_t = (1 - sigma) x_0 + sigma noise, at unit intensity.

        alpha = (1 - sigma)^2 / ((1 - sigma)^2 + sigma^2), with sigma = shift t / (1 + (shift - 1) t) as Esser et al.
        (2024) choose it.
        """
        if not 0 < shift < math.inf:
            raise ValueError(f"the flow-matching shift must be finite and positive; got {shift}")

        def log_snr(t: Array, xp: Any) -> Array:
            return 2 * (xp.log1p(-t) - xp.log(shift * t))

        def time(log_snr: Array, xp: Any) -> Array:
            return _sigmoid(-log_snr / 2 - math.log(shift), xp)

        return Schedule("flow_matching", 0.0, 1.0, log_snr, time, "straight")

    @staticmethod
    def edm(sigma_max: Number = 80.0) -> "Schedule":
        """Return the schedule whose time is sigma itself, of x_t = x_0 + sigma noise (Karras et al., 2022).

        alpha = 1 / (1 + sigma^2), so the log signal-to-noise ratio is -2 log sigma; sigma runs from 0 to `sigma_max`.
        """
        if not 0 < sigma_max < math.inf:
            raise ValueError(f"the largest sigma must be finite and positive; got {sigma_max}")
        return Schedule(
            "edm",
            0.0,
            float(sigma_max),
            lambda t, xp: -2 * xp.log(t),
            lambda log_snr, xp: xp.exp(-log_snr / 2),
            "exploding",
        )

    @staticmethod
    def from_alphas(alphas: Float[np.ndarray, " timesteps"], name: str = "table") -> "Schedule":
        """Return the schedule of a table of signal powers, one for each of the timesteps 0, 1, 2, ...

        The image itself, alpha = 1, is at timestep -1 unless the table begins with it. Between whole timesteps the
        angle arctan(sqrt((1 - alpha) / alpha)) is linear.

        Parameters
        ----------
        alphas
            alpha_t of Eq. (1), `alphas_cumprod` in diffusers, shape (timesteps,), within [0, 1] and falling.
        name
            How plots and tables call it.

        Raises
        ------
        ValueError
            When the table does not fall, or leaves [0, 1].

        Examples
        --------
        >>> import numpy as np
        >>> from reschrom import Schedule
        >>> schedule = Schedule.from_alphas(np.array([0.9, 0.5, 0.1]))
        >>> float(schedule.start), float(schedule.end), round(float(schedule.time(0.5)), 6)
        (-1.0, 2.0, 1.0)
        """
        return _from_table(name, numpy_array(alphas).astype(np.float64))

    @staticmethod
    def from_diffusers(scheduler: Any) -> "Schedule":
        """Read the schedule of a diffusers scheduler; time is the scheduler's own timestep.

        Parameters
        ----------
        scheduler : diffusers scheduler
            With `alphas_cumprod`, or a flow-matching one, whose timestep is N sigma for N training timesteps. Between
            whole timesteps the angle arctan(sqrt((1 - alpha) / alpha)) is linear.

        Raises
        ------
        TypeError
            For a class, and for timesteps of any other kind.
        ValueError
            When its alpha does not fall with time.

        Examples
        --------
        >>> from diffusers import DDPMScheduler
        >>> from reschrom import Schedule
        >>> round(float(Schedule.from_diffusers(DDPMScheduler()).alpha(500)), 4)
        0.0778
        """
        if isinstance(scheduler, type):
            raise TypeError(f"a scheduler is needed, not its class; got {scheduler.__name__}")
        name, config = type(scheduler).__name__, getattr(scheduler, "config", {})
        if not hasattr(config, "get"):
            raise TypeError(f"the config of a scheduler has names and values; that of {name} is {told(config)}")
        if is_flow(scheduler, config):
            steps = whole_number(f"num_train_timesteps of {name}", config.get("num_train_timesteps"), least=1)
            flow = Schedule.flow_matching()
            other = _other_times(scheduler, steps)
            if other is not None:
                return other
            return _stretched(name, flow, lambda t: t / steps, lambda t: t * steps, flow.start, flow.end * steps)
        if name.startswith("EDM"):  # Karras et al. (2022): the time is log(sigma) / 4
            return _of_log_sigma(name, config.get("sigma_min"), config.get("sigma_max"), "preconditioned")
        if config.get("prediction_type") == "trigflow":  # x_t = cos(t) x_0 + sin(t) noise
            return Schedule(
                name,
                0.0,
                math.pi / 2,
                lambda t, xp: 2 * (xp.log(xp.cos(t)) - xp.log(xp.sin(t))),
                lambda log_snr, xp: xp.atan(xp.exp(-log_snr / 2)),
            )
        if hasattr(scheduler, "_alpha_cumprod") and config.get("scaler") == 1:
            return _stretched(
                name, Schedule.cosine(real_number(f"s of {name}", config.get("s"))), lambda t: t, lambda t: t, 0.0, 1.0
            )
        table = getattr(scheduler, "alphas_cumprod", None)
        if config.get("timestep_type") == "continuous" and None not in map(config.get, ("sigma_min", "sigma_max")):
            return _of_log_sigma(name, config["sigma_min"], config["sigma_max"])
        # With "continuous" timesteps a scheduler counts in log sigma, whatever its table holds.
        if table is None or config.get("timestep_type") == "continuous":
            raise TypeError(
                "a scheduler is needed that has alphas_cumprod and whole timesteps, one whose timestep is N sigma on a "
                "straight path from image (sigma = 0) to noise (sigma = 1), or one of EDM, TrigFlow or Wuerstchen; "
                f"got {name}"
            )
        return Schedule.from_alphas(numpy_array(table).astype(np.float64), name)


def _other_times(scheduler: Any, steps: int) -> "Schedule | None":
    """Return the schedule of a flow that is told other timesteps than N sigma, as it is set; None where they agree.

    CogView4 shifts its sigmas and not its timesteps, for example. Between its timesteps sigma is linear.
    """
    times, sigmas = (getattr(scheduler, name, None) for name in ("timesteps", "sigmas"))
    if times is None or sigmas is None:
        return None
    times, sigmas = (numpy_array(each).astype(np.float64) for each in (times, sigmas))
    sigmas = sigmas[: len(times)]
    if len(times) != len(sigmas) or np.abs(times - steps * sigmas).max(initial=0) < _ROUNDED:
        return None
    if not (np.all(np.diff(times) < 0) and np.all(np.diff(sigmas) < 0)):
        return None
    name, flow = type(scheduler).__name__, Schedule.flow_matching()
    rising, noise = np.append(0.0, times[::-1]), np.append(0.0, sigmas[::-1])
    return _stretched(
        name,
        flow,
        lambda t: broken_line(t, rising, noise, array_namespace(t)),
        lambda sigma: broken_line(sigma, noise, rising, array_namespace(sigma)),
        0.0,
        float(times[0]),
    )


def is_flow(scheduler: Any, config: Any) -> bool:
    """Tell whether a scheduler of diffusers runs on the flow-matching path, so that its timestep is N sigma."""
    named = any(base.__name__.startswith(_FLOW) for base in type(scheduler).__mro__)
    # An inverted scheduler runs from noise to image, and one in stages changes resolution on the way.
    plain = not config.get("invert_sigmas", False) and config.get("stages", 1) == 1
    return plain and (named or bool(config.get("use_flow_sigmas", False)))


def _of_log_sigma(name: str, least: Any, greatest: Any, path: str = "preserving") -> Schedule:
    """Return the schedule whose time is log(sigma) / 4, sigma the noise beside unit signal."""
    least, greatest = (
        real_number(f"the {end} sigma of {name}", each) for end, each in (("least", least), ("greatest", greatest))
    )
    if not 0 < least < greatest:
        raise ValueError(f"the sigmas of {name} must be positive and grow; got {least:g} to {greatest:g}")
    start, end = (math.log(sigma) / 4 for sigma in (least, greatest))
    return Schedule(name, start, end, lambda t, xp: -8 * t, lambda log_snr, xp: -log_snr / 8, path)


def _stretched(
    name: str, unit: Schedule, there: Callable[[Any], Any], back: Callable[[Any], Any], start: float, end: float
) -> Schedule:
    """Return a schedule with another time: `there` leads from it to that of `unit`, `back` from that to it."""
    return Schedule(
        name,
        start,
        end,
        lambda t, xp: unit._log_snr(there(t), xp),
        lambda log_snr, xp: back(unit._time(log_snr, xp)),
        unit.path,
    )


def _softplus(x: Array, xp: Any) -> Array:
    return xp.logaddexp(xp.zeros_like(x), x)


def _sigmoid(x: Array, xp: Any) -> Array:
    return xp.exp(-_softplus(-x, xp))


def _log_sinh(x: Array, xp: Any) -> Array:
    """Return log(2 sinh(x)) for x of 0 or more."""
    return x + xp.log(-xp.expm1(-2 * x))


def _rates(first: float, last: float) -> tuple[float, float]:
    if not 0 < first < last < math.inf:
        raise ValueError(f"the noise rate beta must be finite, positive and grow; got {first:g} to {last:g}")
    return first, last - first


def _from_exponent(name: str, end: float, exponent: Curve, time: Curve) -> Schedule:
    """Build a schedule from s(t) = -log alpha(t), the natural time t* of Eq. (35), and its inverse."""
    return Schedule(
        name,
        0.0,
        end,
        lambda t, xp: -(s := exponent(t, xp)) - xp.log(-xp.expm1(-s)),
        lambda log_snr, xp: time(_softplus(-log_snr, xp), xp),
    )


def _from_table(name: str, alpha: np.ndarray) -> Schedule:
    """Build a schedule from alpha at timesteps 0, 1, 2, ..., with the image itself at timestep -1."""
    if alpha.ndim != 1 or len(alpha) < 2 or not np.all((alpha >= 0) & (alpha <= 1)) or not np.all(np.diff(alpha) < 0):
        raise ValueError(f"alphas_cumprod must fall from timestep to timestep within [0, 1]; {name} does not")
    # The angle in quarter turns, because its distance from 1 then keeps its precision near pure noise.
    quarter = math.pi / 2
    turn = np.arctan2(np.sqrt(1 - alpha), np.sqrt(alpha)) / quarter
    if alpha[0] < 1:
        turn = np.concatenate([[0.0], turn])
    first = len(alpha) - len(turn)
    timesteps = np.arange(first, len(alpha), dtype=np.float64)

    def log_snr(t: Array, xp: Any) -> Array:
        u = broken_line(t, timesteps, turn, xp)
        return 2 * (xp.log(xp.sin(quarter * (1 - u))) - xp.log(xp.sin(quarter * u)))

    def time(log_snr: Array, xp: Any) -> Array:
        return broken_line(xp.atan(xp.exp(-log_snr / 2)) / quarter, turn, timesteps, xp)

    return Schedule(name, float(first), float(timesteps[-1]), log_snr, time)


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
