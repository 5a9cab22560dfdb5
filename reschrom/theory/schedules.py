"""Noise schedules: how much signal is left at each time (Eqs. 1, 2, 30 and 36).

A schedule is one monotone function of time, the log signal-to-noise ratio, with its exact inverse. Everything else
follows from it: `alpha = sigmoid(log_snr)`. Kept in this form nothing is lost to rounding near the image (alpha = 1)
or near pure noise (alpha = 0).
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from reschrom._arrays import Array, Number, floating, numpy_array, signal_power, single
from reschrom.theory import curves


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
    _log_snr: curves.Curve = field(repr=False)
    _time: curves.Curve = field(repr=False)
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
        return curves.logistic(*floating(self.log_snr(t)))

    def noise(self, t: Num[Array, "*shape"] | Number) -> Float[Array, "*shape"]:
        """Return the noise power at time t, `1 - alpha_t`, to full relative precision: Eq. (1)."""
        log_snr, xp = floating(self.log_snr(t))
        return curves.logistic(-log_snr, xp)

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
        return Schedule("natural", 0.0, math.inf, *curves.natural())

    @staticmethod
    def linear(beta_start: float = 0.1, beta_end: float = 20.0) -> "Schedule":
        """Return the linear schedule: alpha = exp(-integral of beta), beta linear in t from `beta_start` to `beta_end`.

        With the default rates it is the limit of DDPM's beta = 1e-4 ... 0.02 in 1,000 steps (Ho et al., 2020).
        """
        return Schedule("linear", 0.0, 1.0, *curves.linear(beta_start, beta_end))

    @staticmethod
    def scaled_linear(beta_start: float = 0.85, beta_end: float = 12.0) -> "Schedule":
        """Return the schedule whose square root of beta is linear in t (Stable Diffusion, per unit of time)."""
        return Schedule("scaled_linear", 0.0, 1.0, *curves.scaled_linear(beta_start, beta_end))

    @staticmethod
    def cosine(s: float = 0.008) -> "Schedule":
        """Return the cosine schedule of Nichol and Dhariwal (2021): Eq. (36), t in units of T.

        The offset s, 0 or more, keeps the first steps from being too small.
        """
        return Schedule("cosine", 0.0, 1.0, *curves.cosine(s))

    @staticmethod
    def sigmoid(start: float = -3.0, end: float = 3.0, temperature: float = 1.0) -> "Schedule":
        """Return the sigmoid schedule of Jabri et al. (2022), normalised so that alpha(0) = 1 and alpha(1) = 0."""
        return Schedule("sigmoid", 0.0, 1.0, *curves.sigmoid(start, end, temperature))

    @staticmethod
    def flow_matching(shift: float = 1.0) -> "Schedule":
        """Return the schedule of a straight path x_t = (1 - sigma) x_0 + sigma noise, at unit intensity.

        alpha = (1 - sigma)^2 / ((1 - sigma)^2 + sigma^2), with sigma = shift t / (1 + (shift - 1) t) as Esser et al.
        (2024) choose it.
        """
        return Schedule("flow_matching", 0.0, 1.0, *curves.flow_matching(shift), "straight")

    @staticmethod
    def edm(sigma_max: Number = 80.0) -> "Schedule":
        """Return the schedule whose time is sigma itself, of x_t = x_0 + sigma noise (Karras et al., 2022).

        alpha = 1 / (1 + sigma^2), so the log signal-to-noise ratio is -2 log sigma; sigma runs from 0 to `sigma_max`.
        """
        if not 0 < sigma_max < math.inf:
            raise ValueError(f"the largest sigma must be finite and positive; got {sigma_max}")
        return Schedule("edm", 0.0, float(sigma_max), *curves.edm(), "exploding")

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
            When the table does not fall, or leaves [0, 1], or ends where there is more signal than noise.

        Examples
        --------
        >>> import numpy as np
        >>> from reschrom import Schedule
        >>> schedule = Schedule.from_alphas(np.array([0.9, 0.5, 0.1]))
        >>> float(schedule.start), float(schedule.end), round(float(schedule.time(0.5)), 6)
        (-1.0, 2.0, 1.0)
        """
        alpha = numpy_array(alphas).astype(np.float64)
        schedule = Schedule._from_table(alpha, name)
        if alpha[-1] > 1 / 2:
            raise ValueError(
                f"the last signal power of a table is that of noise; got {alpha[-1]:.3g}: is it 1 - beta of each "
                "timestep? Then its cumulative product is needed, np.cumprod"
            )
        return schedule

    @staticmethod
    def _from_table(alpha: Float[np.ndarray, " timesteps"], name: str) -> "Schedule":
        read = curves.table(alpha, name)
        return Schedule(name, -1.0 if alpha[0] < 1 else 0.0, len(alpha) - 1.0, *read)

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
        from reschrom.theory.scheduler_times import schedule_of  # which builds schedules, and so imports this module

        return schedule_of(scheduler)
