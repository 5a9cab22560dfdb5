"""What `CoarseFirst` asks of a pipeline: one network of a noised image, and where a run will call it."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from reschrom._arrays import Number, whole_number
from reschrom.pipelines.adapter import denoisers_of
from reschrom.pipelines.scheduler import as_number, mixture_at, prediction_of, schedule_of, time_of
from reschrom.theory.scheduler_times import settings_of

# What a network may predict, of an image that it is shown at unit intensity or on the straight path of a flow.
_KINDS = ("epsilon", "sample", "v_prediction", "flow_prediction")
# Pipelines that make another prediction of their network's than their scheduler says.
_ESTIMATING = ("PRXPixel",)


class Visit(NamedTuple):
    """Where a run calls its network: signal power, and time of the scheduler."""

    alpha: float
    time: float


def network_of(pipeline: Any) -> Any:
    """Return the one network of a pipeline, after checking that it sees a noised image alone."""
    networks = denoisers_of(pipeline)
    network, name = networks[0], type(pipeline).__name__
    if name.startswith(_ESTIMATING):
        raise TypeError(f"the network of {name} predicts images, which the pipeline turns into a flow by itself")
    if len(networks) > 1 or network not in (getattr(pipeline, each, None) for each in ("unet", "transformer")):
        raise TypeError(f"CoarseFirst needs a pipeline with one `unet` or `transformer`; got {name}")
    config = getattr(network, "config", None) or {}
    channels: Any = config.get("in_channels")
    predicted: Any = config.get("out_channels") or channels
    if hasattr(pipeline, "_pack_latents") and channels == predicted * (config.get("patch_size") or 1) ** 2:
        predicted = channels  # of tokens, into which Qwen-Image packs patches
    learned = str(pipeline.scheduler.config.get("variance_type")).startswith("learned")
    besides = any(getattr(pipeline, part, None) is not None for part in ("controlnet", "adapter", "vocoder"))
    if not isinstance(channels, int) or besides:
        raise TypeError(
            f"CoarseFirst needs a network that states its channels, with no ControlNet or adapter beside it; got {name}"
        )
    if predicted not in ((2 * channels,) if learned else (channels, 2 * channels)):
        raise TypeError(
            f"CoarseFirst needs a network that sees the noised image alone; that of {name} sees {channels} channels "
            f"and predicts {predicted}"
        )
    return network


def known_kind(scheduler: Any) -> str:
    """Return what a network predicts, after checking that its images are shown in a known way."""
    kind = prediction_of(scheduler)
    if kind not in _KINDS:
        raise ValueError(f"CoarseFirst needs a network that predicts one of {', '.join(_KINDS)}; this one {kind}")
    return kind


def is_ancestral(scheduler: Any) -> bool:
    """Whether a sampler draws fresh noise at every step."""
    name = type(scheduler).__name__
    return name.startswith("DDPM") or "Ancestral" in name or "SDE" in name


def visits(scheduler: Any, steps: int | Sequence[Number]) -> list[Visit]:
    """Return where a run calls its network, each signal power once, from noise to image."""
    if isinstance(steps, Sequence):
        alphas = schedule_of(scheduler).alpha(np.array(steps, dtype=np.float64))
        listed = [Visit(float(alpha), float(time)) for alpha, time in zip(alphas, steps, strict=True)]
        return sorted(listed)
    run = copy.deepcopy(scheduler)
    shifted = settings_of(run).get("use_dynamic_shifting")
    run.set_timesteps(
        whole_number("the number of steps", steps, least=1),
        **({"mu": float(settings_of(run).get("max_shift") or 1.0)} if shifted else {}),
    )
    counted, schedule = hasattr(run, "step_index"), schedule_of(run)
    seen = {}
    for index, timestep in enumerate(run.timesteps):
        mixture = mixture_at(run, index if counted else None, timestep)
        seen[mixture.alpha] = Visit(mixture.alpha, time_of(schedule, mixture, as_number(timestep)))
    return [seen[alpha] for alpha in sorted(seen)]
