"""The times of a scheduler of diffusers: its noise schedule, read from its settings without importing diffusers."""

import functools
import inspect
import math
from typing import Any

import numpy as np

from reschrom._arrays import numpy_array, real_number, told, whole_number
from reschrom.theory import curves
from reschrom.theory.schedules import Schedule

# The schedulers whose timestep is N sigma on the path (1 - sigma) x_0 + sigma noise, by their class names.
_FLOW = ("FlowMatch", "FlowMap", "Helios", "LTXEulerAncestralRF", "Piflow")
_ROUNDED = 1.5  # these may round a timestep to a whole number, up or down


def schedule_of(scheduler: Any) -> Schedule:
    """Return the schedule of a scheduler, for `Schedule.from_diffusers`, which says what is understood."""
    if isinstance(scheduler, type):
        raise TypeError(f"a scheduler is needed, not its class; got {scheduler.__name__}")
    name, config = type(scheduler).__name__, getattr(scheduler, "config", {})
    if not hasattr(config, "get"):
        raise TypeError(f"the config of a scheduler has names and values; that of {name} is {told(config)}")
    config = settings_of(scheduler)
    if is_flow(scheduler):
        steps = whole_number(f"num_train_timesteps of {name}", config.get("num_train_timesteps"), least=1)
        return _of_flow(scheduler, name, steps)
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
        return Schedule(name, 0.0, 1.0, *curves.cosine(real_number(f"s of {name}", config.get("s"))))
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
    return Schedule._from_table(numpy_array(table).astype(np.float64), name)


def settings_of(scheduler: Any) -> Any:
    """Return the settings of a scheduler by name, without those that its class does not know.

    What `from_config` is given of another class stands in the config too, to be handed on. It has no effect.
    """
    if not hasattr(scheduler, "register_to_config"):
        return getattr(scheduler, "config", {})  # no class of diffusers: all that it has is its own
    kind: Any = type(scheduler)
    known = _known_settings(kind)
    return {name: value for name, value in scheduler.config.items() if name in known}


@functools.cache
def _known_settings(kind: Any) -> frozenset[str]:
    """Return the names of the settings that a class and its bases are made with."""
    makers = [vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base)]
    return frozenset(name for maker in makers for name in inspect.signature(maker).parameters)


def is_flow(scheduler: Any) -> bool:
    """Tell whether a scheduler of diffusers runs on the flow-matching path, so that its timestep is N sigma."""
    config = settings_of(scheduler)
    named = any(base.__name__.startswith(_FLOW) for base in type(scheduler).__mro__)
    # An inverted scheduler runs from noise to image, and one in stages changes resolution on the way.
    plain = not config.get("invert_sigmas", False) and config.get("stages", 1) == 1
    return plain and (named or bool(config.get("use_flow_sigmas", False)))


def _of_flow(scheduler: Any, name: str, steps: int) -> Schedule:
    """Return the schedule of a flow: its timestep is N sigma, unless it is set to others.

    CogView4 shifts its sigmas and not its timesteps, for example. Between its timesteps sigma is linear.
    """
    times, sigmas = (getattr(scheduler, each, None) for each in ("timesteps", "sigmas"))
    if times is not None and sigmas is not None:
        times, sigmas = (numpy_array(each).astype(np.float64) for each in (times, sigmas))
        sigmas = sigmas[: len(times)]
        falling = np.all(np.diff(times) < 0) and np.all(np.diff(sigmas) < 0)
        if len(times) == len(sigmas) and np.abs(times - steps * sigmas).max(initial=0) >= _ROUNDED and falling:
            rising, noise = np.append(0.0, times[::-1]), np.append(0.0, sigmas[::-1])
            return _straight(
                name,
                float(times[0]),
                lambda t, xp: curves.broken_line(t, rising, noise, xp),
                lambda sigma, xp: curves.broken_line(sigma, noise, rising, xp),
            )
    return _straight(name, float(steps), lambda t, xp: t / steps, lambda sigma, xp: sigma * steps)


def _straight(name: str, end: float, sigma: curves.Curve, time: curves.Curve) -> Schedule:
    """Return the schedule of a straight path from image to noise, from sigma at each time and its inverse."""
    log_snr, sigma_at = curves.flow_matching(1.0)
    return Schedule(
        name,
        0.0,
        end,
        lambda t, xp: log_snr(sigma(t, xp), xp),
        lambda wished, xp: time(sigma_at(wished, xp), xp),
        "straight",
    )


def _of_log_sigma(name: str, least: Any, greatest: Any, path: str = "preserving") -> Schedule:
    """Return the schedule whose time is log(sigma) / 4, sigma the noise beside unit signal."""
    least, greatest = (
        real_number(f"the {end} sigma of {name}", each) for end, each in (("least", least), ("greatest", greatest))
    )
    if not 0 < least < greatest:
        raise ValueError(f"the sigmas of {name} must be positive and grow; got {least:g} to {greatest:g}")
    start, end = (math.log(sigma) / 4 for sigma in (least, greatest))
    return Schedule(name, start, end, lambda t, xp: -8 * t, lambda log_snr, xp: -log_snr / 8, path)
