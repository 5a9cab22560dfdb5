"""The lists of timesteps that others take, to compare with."""

import math
from typing import Any

import numpy as np

from reschrom._arrays import whole_number
from reschrom._extras import naming_extra
from reschrom.design.timesteps import distinct
from reschrom.theory.schedules import Schedule


@naming_extra("usual_timesteps")
def usual_timesteps(scheduler: Any, steps: int) -> dict[str, list[int]]:
    """Return the lists that others take for so many steps, by name, from noise to image.

    scheduler: a diffusers scheduler with alphas_cumprod.
    "leading" and "trailing" are the uniform lists of diffusers. "Karras" is even in sigma^(1/7) from 80 to 0.002, as
    far as the scheduler reaches (Karras et al., 2022). "AYS" has the noise levels that Align Your Steps (Sabour et al.,
    2024) chose for Stable Diffusion, with the logarithm of sigma interpolated to other numbers of steps. Both take the
    nearest whole timesteps. With 27 or 50 steps the lists "fast27", "smart27" and "smart50" of DeepFloyd IF join them.
    """
    from diffusers import DDIMScheduler
    from diffusers.pipelines.deepfloyd_if import timesteps as deepfloyd
    from diffusers.schedulers.scheduling_utils import AysSchedules

    schedule = Schedule.from_diffusers(scheduler)
    if not 1 <= whole_number("the number of steps", steps) <= schedule.end + 1:
        raise ValueError(f"there are {schedule.end + 1:g} timesteps; got {steps} steps")
    lists = {}
    for spacing in ("leading", "trailing"):
        uniform: Any = DDIMScheduler.from_config(scheduler.config, timestep_spacing=spacing)
        uniform.set_timesteps(steps)
        lists[spacing] = [int(timestep) for timestep in uniform.timesteps]
    high, low = (float(-schedule.log_snr(t)) / 2 for t in (schedule.end, 0.0))
    share = np.linspace(0, 1, steps)
    karras = [min(math.exp(high), 80.0) ** (1 / 7), max(math.exp(low), 0.002) ** (1 / 7)]
    ays = np.log(np.array(AysSchedules["StableDiffusionSigmas"])[:-1])
    for name, log_sigma in {
        "Karras": 7 * np.log(karras[0] + share * (karras[1] - karras[0])),
        "AYS": np.interp(share, np.linspace(0, 1, len(ays)), ays),
    }.items():
        nearest = np.rint(schedule.time_at(-2 * np.clip(log_sigma, low, high))).astype(int)
        lists[name] = distinct(nearest, 0)
    by_hand = [name for name in ("fast27", "smart27", "smart50") if name.endswith(str(steps))]
    return lists | {name: list(getattr(deepfloyd, f"{name}_timesteps")) for name in by_hand}
