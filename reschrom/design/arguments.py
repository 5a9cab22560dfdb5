"""Timesteps in the form in which a scheduler of diffusers takes them, whatever it makes of what it is given."""

import copy
import inspect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from reschrom._arrays import numpy_array, real_number, told
from reschrom.theory.scheduler_times import is_flow, settings_of
from reschrom.theory.schedules import Schedule

_SAME = 1e-6  # how far the sigmas of a flow may be from those that were asked for


def list_taken(scheduler: Any) -> str:
    """Return the name under which a diffusers scheduler takes a list from its user: "timesteps" or "sigmas".

    A flow takes sigmas, because what it makes of timesteps is shifted twice. Raises ValueError for a scheduler that
    takes neither.
    """
    accepted, name = inspect.signature(scheduler.set_timesteps).parameters, type(scheduler).__name__
    flow = is_flow(scheduler)
    taken = next((each for each in (("sigmas",) if flow else ("timesteps", "sigmas")) if each in accepted), None)
    if taken is None:
        wanted = "sigmas" if flow else "timesteps or sigmas"
        raise ValueError(f"a scheduler is needed whose set_timesteps takes {wanted}; {name} does not")
    return taken


def last_time(scheduler: Any) -> float | None:
    """Return the timestep at which a scheduler begins its last step whatever it is given; None where it fixes none."""
    terminal = settings_of(scheduler).get("shift_terminal") if is_flow(scheduler) else None
    return float(terminal) * scheduler.config.num_train_timesteps if terminal else None


def scheduler_arguments(
    scheduler: Any, timesteps: Sequence[int] | Sequence[float], mu: float | None = None
) -> dict[str, list[int]] | dict[str, np.ndarray]:
    """Return a list of timesteps as a diffusers scheduler, or its pipeline, takes it: `timesteps=` or `sigmas=`.

    A flow shifts the sigmas that it is given, some by the size of the image, and some stretch them so that the last one
    is fixed. All of this is inverted, so that the scheduler runs at the timesteps that were asked for.

    Parameters
    ----------
    scheduler : diffusers scheduler
        As the pipeline has it.
    timesteps : sequence of numbers
        Falling, such as those of `designed_timesteps`; of a flow with N training timesteps, N sigma.
    mu : float, optional
        With `use_dynamic_shifting`, the shift that the pipeline will give to its scheduler: `calculate_shift` of Flux,
        SD 3.5, Qwen-Image and Z-Image, `compute_empirical_mu` of Flux 2. ValueError where it is missing, and where the
        scheduler makes no use of it.

    Returns
    -------
    dict
        For `pipeline(..., **arguments)` or `scheduler.set_timesteps(**arguments)`, there with the same `mu`.

    Raises
    ------
    ValueError
        For a scheduler that does not arrive at these timesteps when it is given them, as it is set: one without such a
        list, with Karras sigmas, or whose last sigma is another (`designed_timesteps(last=)`).

    Examples
    --------
    >>> from diffusers import FlowMatchEulerDiscreteScheduler
    >>> from reschrom import scheduler_arguments
    >>> scheduler_arguments(FlowMatchEulerDiscreteScheduler(shift=3.0), [900, 750, 500])
    {'sigmas': array([0.75, 0.5 , 0.25])}
    """
    taken, name = list_taken(scheduler), type(scheduler).__name__
    times = numpy_array(timesteps).astype(np.float64)
    if times.ndim != 1 or not len(times) or not np.all(np.isfinite(times)):
        raise ValueError(f"a list of timesteps is needed; got {told(timesteps)}")
    flow, dynamic = is_flow(scheduler), bool(settings_of(scheduler).get("use_dynamic_shifting"))
    if dynamic and mu is None:
        raise ValueError(f"{name} shifts the sigmas it is given by the size of the image: give the mu of this size")
    if mu is not None and not (flow and dynamic):
        raise ValueError(f"a mu goes with a flow that has use_dynamic_shifting; {name} makes no use of {mu:g}")
    given: Any = [int(value) for value in times]
    if flow:
        given = _unshifted(scheduler, times / scheduler.config.num_train_timesteps, mu)
    elif taken == "sigmas":
        given = np.exp(-Schedule.from_diffusers(scheduler).log_snr(times) / 2)
    tried = copy.deepcopy(scheduler)
    try:
        tried.set_timesteps(**{taken: given}, **({} if mu is None else {"mu": mu}))
    except Exception as error:  # whatever a scheduler makes of a list that its settings forbid
        raise ValueError(f"{name} takes no {taken} as it is set: {error}") from error
    reached = numpy_array(tried.timesteps).astype(np.float64)[: len(times)]
    exact, least = (reached, 1.0)
    if flow:
        exact, least = numpy_array(tried.sigmas).astype(np.float64)[: len(times)], 1.5 * _SAME
        times = times / scheduler.config.num_train_timesteps
    if exact.shape != times.shape or np.abs(exact - times).max() > least:
        raise ValueError(f"{name} makes other timesteps of {taken} than those it is given, as it is set")
    return {taken: given}


def _unshifted(scheduler: Any, sigmas: np.ndarray, mu: float | None) -> np.ndarray:
    """Return the sigmas of which a flow makes these: undo the stretch to the last one, and then the shift."""
    config = settings_of(scheduler)
    terminal = config.get("shift_terminal")
    if terminal and abs(sigmas[-1] - terminal) > _SAME:
        last = config["num_train_timesteps"] * terminal
        raise ValueError(
            f"{type(scheduler).__name__} begins its last step at {last:g} (shift_terminal), not at "
            f"{config['num_train_timesteps'] * sigmas[-1]:g}: choose timesteps that end there (last={last:g})"
        )
    # The stretch scales 1 - sigma so that the last sigma is fixed: it leaves alone what ends there already.
    if mu is None:
        # what set_shift has set stands beside the configuration
        shift = float(config["flow_shift"] if "flow_shift" in config else getattr(scheduler, "shift", 1.0))
    else:
        mu = real_number("mu", mu)
        shift = mu if config.get("time_shift_type", "exponential") == "linear" else math.exp(mu)
    return sigmas / (shift - (shift - 1) * sigmas)
