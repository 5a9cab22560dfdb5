"""What a scheduler of diffusers means: how noised the images are that it steps, and what it takes a prediction for.

A scheduler steps `x = signal x_0 + noise n` and is given a prediction m. Both the estimate of x_0 and the noise are
linear in the two, so a handful of numbers says all (Eqs. 1 and 7):

    x_0 = (from_x x + from_prediction m) / divisor,    n = (x - signal x_0) / noise.
"""

import math
from typing import Any, NamedTuple

from reschrom.theory.scheduler_times import is_flow, settings_of
from reschrom.theory.schedules import Schedule

# What the networks of diffusers predict; those of EDM (Karras et al., 2022) are preconditioned by their scheduler.
PREDICTIONS = (
    "epsilon",
    "sample",
    "v_prediction",
    "flow_prediction",
    "inverted_flow",
    "edm_epsilon",
    "edm_v_prediction",
    "trigflow",
)
# Of these the images are stepped on the straight path from image to noise, (1 - sigma) x_0 + sigma noise.
STRAIGHT = ("flow_prediction", "inverted_flow")


# The names by which the denoisers of diffusers are told the time.
TIMES = ("timestep", "timesteps", "t", "timestep_ratio", "r")
# Times that are so close, as shares of the whole, are one.
_SAME = 3e-6
# How far half precision rounds a timestep, of its size.
_HALF = 2.0**-8
# Where a scheduler counts its steps: at the next, or where it was told to begin.
_COUNTS = ("step_index", "begin_index")


class Mixture(NamedTuple):
    """How much signal and how much noise are in the images that a scheduler steps, as amplitudes."""

    signal: float
    noise: float

    @property
    def size(self) -> float:
        """By what the images are divided to have the unit intensity of Eq. (1)."""
        return math.hypot(self.signal, self.noise)

    @property
    def alpha(self) -> float:
        """Signal power of Eq. (1)."""
        return (self.signal / self.size) ** 2

    @property
    def log_snr(self) -> float:
        """Logarithm of the signal-to-noise ratio, exact near either end."""
        if not (self.signal and self.noise):
            return math.inf if self.signal else -math.inf
        return 2 * (math.log(self.signal) - math.log(self.noise))


class Response(NamedTuple):
    """How an estimate of x_0 follows from the images that are stepped and from a prediction."""

    from_x: float
    from_prediction: float
    divisor: float = 1.0


def response(prediction: str, mixture: Mixture, sigma_data: float = 0.5) -> Response:
    """Return how the estimate of x_0 follows from x and a prediction: Eq. (7), for each kind of prediction.

    sigma_data: of EDM, the deviation that its preconditioning takes the data to have.
    Raises ValueError for what is none of `PREDICTIONS`.
    """
    signal, noise = mixture
    match prediction:
        case "epsilon":
            return Response(1.0, -noise, signal)
        case "sample":
            return Response(0.0, 1.0)
        case "v_prediction":
            return Response(signal / mixture.size**2, -noise / mixture.size)
        case "trigflow":
            return Response(signal / mixture.size**2, -noise / mixture.size**2)
        case "flow_prediction":  # the velocity noise - x_0 along x = (1 - sigma) x_0 + sigma noise
            return Response(1.0, -noise)
        case "inverted_flow":  # the velocity x_0 - noise, which Mochi's scheduler counts from the noise on
            return Response(1.0, noise)
        case "edm_epsilon" | "edm_v_prediction":
            # x = x_0 + sigma n, and F is what EDM trains: x_0 = c_skip x + c_out F.
            sign = 1 if prediction == "edm_epsilon" else -1
            spread = math.hypot(noise, sigma_data)
            return Response((sigma_data / spread) ** 2, sign * noise * sigma_data / spread)
    raise ValueError(
        f"a network is needed that predicts one of {', '.join(PREDICTIONS)}; this one predicts {prediction}"
    )


def mixture_of(alpha: float, prediction: str) -> Mixture:
    """Return the mixture that a scheduler steps where the signal power is alpha."""
    signal, noise = math.sqrt(alpha), math.sqrt(1 - alpha)
    if prediction in STRAIGHT:
        return Mixture(signal / (signal + noise), noise / (signal + noise))
    if prediction.startswith("edm"):
        return Mixture(1.0, noise / signal if signal else math.inf)
    return Mixture(signal, noise)


def schedule_of(scheduler: Any) -> Schedule:
    """Return the schedule of a scheduler, whose time runs from noise to image as the steps of a run do.

    This is `Schedule.from_diffusers`, but for a flow that counts its time from the noise on, as Mochi's: of that it is
    the schedule which counts from the image. Raises as it does.
    """
    return Schedule.from_diffusers(_upright(scheduler) if _inverted(scheduler) else scheduler)


def _inverted(scheduler: Any) -> bool:
    return bool(settings_of(scheduler).get("invert_sigmas")) and is_flow(_upright(scheduler))


def _upright(scheduler: Any) -> Any:
    return type(scheduler).from_config(scheduler.config, invert_sigmas=False)


def prediction_of(scheduler: Any) -> str:
    """Return what a scheduler takes the prediction for: one of `PREDICTIONS`, else TypeError."""
    stated = settings_of(scheduler).get("prediction_type")
    if _inverted(scheduler):
        return "inverted_flow"
    if is_flow(scheduler) and stated in (None, "flow_prediction"):
        return "flow_prediction"
    prediction = "epsilon" if stated is None else str(stated)  # one without the setting knows noise alone
    if hasattr(scheduler, "precondition_outputs"):
        prediction = f"edm_{prediction}"
    if prediction not in PREDICTIONS:
        raise TypeError(
            f"a network is needed that predicts one of {', '.join(PREDICTIONS)}; that of this pipeline predicts "
            f"{prediction}"
        )
    return prediction


def mixture_at(scheduler: Any, index: int | None, timestep: Any, between: bool = False) -> Mixture:
    """Return what a scheduler steps at one place of its run, from its own sigmas where it has them.

    index: the place in its list of timesteps; None for one that keeps no count.
    timestep: what its `step` was told.
    between: whether the network is evaluated on the way to the next timestep, as schedulers of second order do.
    """
    import torch

    told = as_number(timestep)
    sigmas = getattr(scheduler, "sigmas", None)
    if prediction_of(scheduler) == "trigflow":
        scale = float(scheduler.config.sigma_data)
        return Mixture(scale * max(math.cos(told), 0.0), scale * math.sin(told))  # told may round above pi / 2
    if sigmas is None or index is None:
        if hasattr(scheduler, "alphas_cumprod"):
            table = scheduler.alphas_cumprod
            alpha = float(table[int(told)] if told.is_integer() else Schedule.from_diffusers(scheduler).alpha(told))
        else:
            alpha = float(scheduler._alpha_cumprod(told, "cpu"))  # Wuerstchen has a function for a table
        return Mixture(math.sqrt(alpha), math.sqrt(1 - alpha))
    sigma = _sigma_between(scheduler, sigmas, index) if between else float(sigmas[index])
    if _inverted(scheduler):
        return Mixture(sigma, 1 - sigma)
    if is_flow(scheduler):
        if sigma > 1:
            raise ValueError(f"{type(scheduler).__name__} steps a flow at sigma = {sigma:g}, which ends at sigma = 1")
        return Mixture(1 - sigma, sigma)
    if hasattr(scheduler, "_sigma_to_alpha_sigma_t"):
        signal, noise = (float(each) for each in scheduler._sigma_to_alpha_sigma_t(torch.tensor(sigma).double()))
        return Mixture(signal, noise)
    return Mixture(1.0, sigma)


def _sigma_between(scheduler: Any, sigmas: Any, index: int) -> float:
    """Return the sigma at which a scheduler of second order has the network evaluated between two of its steps."""
    if getattr(scheduler, "mid_point_sigma", None) is not None:  # DPM-Solver SDE
        return float(scheduler.mid_point_sigma)
    # The ancestral DPM2 counts them from one place earlier; Heun's second evaluation is at the next sigma.
    place = index - 1 if type(scheduler).__name__.startswith("KDPM2Ancestral") else index
    return float(getattr(scheduler, "sigmas_interpol", sigmas)[place])


def as_number(timestep: Any) -> float:
    """Return a timestep as one number, whether it is told once or for each image."""
    return float(timestep.flatten()[0]) if hasattr(timestep, "flatten") else float(timestep)


def upcoming(scheduler: Any, told: Any) -> tuple[Mixture, float]:
    """Return what a scheduler will step next, and its timestep, while the network predicts for it.

    told: the timestep that the network was told. It counts only where the scheduler does not, as before its first step:
        pipelines round it, count it in other units, or from the other end.
    """
    told = as_number(told)
    index = _place(scheduler, told)
    if index is None:
        return mixture_of(float(Schedule.from_diffusers(scheduler).alpha(told)), prediction_of(scheduler)), told
    timestep, counted = scheduler.timesteps[index], index if hasattr(scheduler, "step_index") else None
    return mixture_at(scheduler, counted, timestep, is_between(scheduler)), float(timestep)


def moment(scheduler: Any, told: Any) -> tuple[Mixture, float]:
    """Return what a scheduler will step next, and when: the share t / T of its time, 1 for noise and 0 for the image.

    told: the timestep that the network or the scheduler was told, as for `upcoming`.
    """
    schedule, (mixture, timestep) = schedule_of(scheduler), upcoming(scheduler, told)
    t = share_of_time(scheduler, schedule, time_of(schedule, mixture, timestep))
    return mixture, min(max(t, 0.0), 1.0)  # the ends are rounded


def _place(scheduler: Any, told: float) -> int | None:
    """Return the place in its list of timesteps at which a scheduler steps next; None for a time outside its run."""
    index = next((i for name in _COUNTS if (i := getattr(scheduler, name, None)) is not None), None)
    if index is not None:
        return int(index)
    if getattr(scheduler, "num_inference_steps", None) is None:
        return None
    distance = (scheduler.timesteps.double().cpu() - told).abs()
    index = int(distance.argmin())
    away = float(distance[index]) > _HALF * max(told, 1)
    if away and not hasattr(scheduler, "step_index"):
        return None
    return 0 if away else index  # told in other units; a run begins at the first timestep


def step_of(scheduler: Any, told: Any) -> tuple[int, int]:
    """Return the number of the step that a scheduler makes next, counted from 1, and how many its list holds.

    told: as for `upcoming`. Schedulers of second order list every step but the last twice, once for each evaluation of
        the network, and both are one step.
    """
    calls, order = len(scheduler.timesteps), getattr(scheduler, "order", 1)
    # PNDM evaluates its first three steps four times, or the first twice.
    if getattr(scheduler, "prk_timesteps", None) is not None:
        index, four = int(scheduler.counter), len(scheduler.prk_timesteps)
        if four:
            return (index // 4 if index < four else index - 3 * four // 4) + 1, calls - 3 * four // 4
        return max(index, 1), max(calls - 1, 1)
    return (_place(scheduler, as_number(told)) or 0) // order + 1, -(-calls // order)


def is_between(scheduler: Any) -> bool:
    """Whether a scheduler has the network evaluated on the way to its next step, as those of higher order do."""
    # PNDM begins with steps of Runge and Kutta, of four evaluations each, unless it skips them.
    runge_kutta = getattr(scheduler, "prk_timesteps", None)
    if runge_kutta is not None and scheduler.counter < len(runge_kutta):
        return bool(scheduler.counter % 4)
    return not getattr(scheduler, "state_in_first_order", True)


def shown_scales(scheduler: Any, mixture: Mixture) -> tuple[float, ...]:
    """Return by what the images that are stepped may be multiplied before the network sees them."""
    prediction = prediction_of(scheduler)
    if prediction.startswith("edm"):
        return (1 / math.hypot(mixture.noise, float(scheduler.config.sigma_data)),)
    if prediction == "trigflow":
        return (1 / mixture.size, 1 / (mixture.signal + mixture.noise))
    if _inverted(scheduler) or is_flow(scheduler):
        return (1.0,)
    return (1 / mixture.size,)


def time_of(schedule: Schedule, mixture: Mixture, told: float) -> float:
    """Return the time of a schedule at which images are so noised: the timestep `told` if that is exact."""
    exact = float(schedule.time_at(mixture.log_snr))
    # Between whole timesteps some interpolate sigma, and keep it in single precision.
    close = abs(told - exact) <= _SAME * (schedule.end - schedule.start)
    return told if close and schedule.start <= told <= schedule.end else exact


def reach_of(scheduler: Any) -> float:
    """Return how far from 0 a scheduler lets an estimate of x_0 be, infinity where it does not clip."""
    config = settings_of(scheduler)
    # Some have the setting and no line that uses it.
    clips = config.get("clip_sample") and not type(scheduler).__name__.startswith(("CogVideoX", "TCD"))
    return float(config.get("clip_sample_range", 1.0)) if clips else math.inf


def share_of_time(scheduler: Any, schedule: Schedule, time: float) -> float:
    """Return a time as a share t / T of a scheduler's whole time, 1 for noise and 0 for the image."""
    whole = float(scheduler.config.get("num_train_timesteps") or 0)
    if whole - 1 <= schedule.end <= whole:
        return time / whole
    return (time - schedule.start) / (schedule.end - schedule.start)  # one whose time is no count of steps
