"""What the commands do that draw images with a pipeline of diffusers: `measure`, `switch` and `timesteps --model`."""

import argparse
import inspect
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from reschrom.pipelines.chromatograph import Chromatograph
from reschrom.pipelines.load import load_pipeline
from reschrom.pipelines.prompts import PromptSchedule, heaviside
from reschrom.theory.bands import band_names
from reschrom.theory.chromatogram import Chromatogram
from reschrom.theory.schedules import Schedule
from reschrom.theory.shares import decided_share, predicted_share, switch_time

# Enough to see which timesteps generate what.
_GROWTH_STEPS = 50


def measured(arguments: argparse.Namespace) -> Chromatogram:
    """Measure what the model generates: the guidance of Eq. (19), or growth where guidance is off."""
    pipeline = _opened(arguments)
    with Chromatograph(pipeline, seed=arguments.seed) as meter:
        _draw(pipeline, arguments, arguments.prompt, arguments.guidance)
    return meter.chromatogram


def measured_growth(arguments: argparse.Namespace) -> tuple[Chromatogram, Schedule]:
    """Measure the growth of the model's estimate without guidance, from the last timestep on; and give its schedule."""
    drawn = argparse.Namespace(**{**vars(arguments), "steps": _GROWTH_STEPS, "guidance": None})
    pipeline = _opened(drawn)
    if "timestep_spacing" in pipeline.scheduler.config:  # begin in pure noise, where the coarse bands are generated
        pipeline.scheduler = type(pipeline.scheduler).from_config(
            pipeline.scheduler.config, timestep_spacing="trailing"
        )
    with Chromatograph(pipeline, seed=arguments.seed) as meter:
        _draw(pipeline, drawn, arguments.prompt, _unguided(pipeline))
    return meter.growth, Schedule.from_diffusers(pipeline.scheduler)


def switch_report(arguments: argparse.Namespace) -> Iterator[str]:
    """Tell, line by line, at which step to switch between two prompts, and what each band keeps of the first then."""
    if len(arguments.prompt) != 2 or arguments.prompt[0] == arguments.prompt[1]:
        raise ValueError(f"--prompt must come twice, to begin with and to switch to; got {arguments.prompt}")
    import torch

    first, second = arguments.prompt
    pipeline = _opened(arguments)
    with Chromatograph(pipeline, seed=arguments.seed) as meter:
        _draw(pipeline, arguments, first, _unguided(pipeline))
    growth, end = meter.growth, float(pipeline.scheduler.config.num_train_timesteps)
    t = switch_time(growth, arguments.band)
    switch = t / end
    step = int(np.sum((meter.timesteps > t) | (switch == 0)))  # where it is 0, the second prompt never speaks
    size = band_names(arguments.band)[0]
    yield f"switch at timestep {t:g}, after {step} of {len(meter.timesteps)} steps: {switch:.3f} T"
    yield f"There all bands coarser than {size} have, for the first time, 95 % of what they gain with {first!r}"
    yield f"(growth of the model's estimate of the image without guidance, mean over {meter.images} images)."
    with PromptSchedule(pipeline, [first, second], heaviside(switch)):
        switched = _draw(pipeline, arguments, first, arguments.guidance)
    pure = [_draw(pipeline, arguments, prompt, arguments.guidance) for prompt in (first, second)]
    x, a, b = (torch.cat(batches).float().cpu().numpy() for batches in (switched, *pure))
    decided = decided_share(x, a, b, arguments.seed)
    grown = 1 - predicted_share(growth, np.array([switch]), end)[:, 0]
    yield f"{'band':<10}{'gained by then':>16}{'stays as it was':>18}   (tried: 0 % is {second!r} alone)"
    for name, gained, kept in zip(growth.band_names, grown, 1 - decided.share, strict=True):
        yield f"{name:<10}{gained:>14.1%}{kept:>18.1%}"


def _unguided(pipeline: Any) -> float | None:
    """Return the guidance scale that turns guidance off; with it the estimate grows to the last step, as contrast is
    driven up."""
    return 1.0 if "guidance_scale" in inspect.signature(pipeline.__call__).parameters else None


def _opened(arguments: argparse.Namespace) -> Any:
    """Load the pipeline that the arguments name, after checking their numbers, and check that it takes the rest."""
    for name in ("steps", "images", "batch"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name} must be 1 or more; got {getattr(arguments, name)}")
    pipeline = loaded(arguments.model).to(arguments.device)
    accepted = inspect.signature(pipeline.__call__).parameters
    for option, name, value in [
        ("--prompt", "prompt", arguments.prompt),
        ("--guidance", "guidance_scale", arguments.guidance),
    ]:
        if value is not None and name not in accepted:
            raise ValueError(f"{type(pipeline).__name__} takes no {option}")
    if "prompt" in accepted and arguments.prompt is None:
        raise ValueError(f"{type(pipeline).__name__} needs a --prompt")
    return pipeline


def _draw(pipeline: Any, arguments: argparse.Namespace, prompt: str | None, guidance: float | None) -> list[Any]:
    """Draw all images that the arguments ask for, or their latents, and return them batch by batch."""
    import torch

    settings: dict[str, Any] = {"num_inference_steps": arguments.steps}
    # The pictures themselves are not wanted: latents stay latents.
    settings["output_type"] = "latent" if getattr(pipeline, "vae", None) else "pt"
    settings |= {} if prompt is None else {"prompt": prompt}
    settings |= {} if guidance is None else {"guidance_scale": guidance}
    count = "batch_size" if prompt is None else "num_images_per_prompt"
    drawn = []
    for first in range(0, arguments.images, arguments.batch):
        last = min(first + arguments.batch, arguments.images)
        pipeline.set_progress_bar_config(
            disable=not sys.stderr.isatty(), desc=f"images {first + 1} to {last} of {arguments.images}"
        )
        # Every image has its own noise, whatever the batch.
        seeds = range(arguments.seed + first, arguments.seed + last)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        drawn.append(pipeline(generator=generators, **settings, **{count: last - first}).images)
    return drawn


def loaded(model: str) -> Any:
    """Load a pipeline of diffusers from a folder or from the hub, weights from safetensors files only."""
    import diffusers
    import transformers

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
    try:
        return load_pipeline(model)
    except Exception as error:  # whatever its libraries make of a missing or wrong file
        raise ValueError(
            f"--model must be a diffusers pipeline, its folder or its id on the hub; got {model}: {error}"
        ) from error
