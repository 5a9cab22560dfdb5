"""Open a pipeline of diffusers and draw a batch; what `reschrom timesteps --model` measures so."""

import argparse
import inspect
import math
import os
import sys
from typing import Any

from reschrom._files import shipped
from reschrom.design.arguments import list_taken
from reschrom.pipelines.chromatograph import Chromatograph
from reschrom.pipelines.load import load_pipeline
from reschrom.theory.chromatogram import Chromatogram

# Enough to see which timesteps generate what.
_GROWTH_STEPS = 50


def measured_growth(arguments: argparse.Namespace) -> tuple[Chromatogram, Any]:
    """Measure the growth of the estimate without guidance, from the last timestep on; and give the scheduler."""
    drawn = argparse.Namespace(**{**vars(arguments), "steps": _GROWTH_STEPS, "guidance": None})
    pipeline = opened(drawn)
    list_taken(pipeline.scheduler)  # refuses, before anything is drawn, what would take no list in the end
    if "timestep_spacing" in pipeline.scheduler.config:  # begin in pure noise, where the coarse bands are generated
        pipeline.scheduler = type(pipeline.scheduler).from_config(
            pipeline.scheduler.config, timestep_spacing="trailing"
        )
    with Chromatograph(pipeline, seed=arguments.seed) as meter:
        drawn_in_batches(pipeline, drawn, arguments.prompt, unguided(pipeline))
    return meter.growth, pipeline.scheduler


def unguided(pipeline: Any) -> float | None:
    """Return the guidance scale that turns guidance off; with it the estimate grows to the last step, as contrast is
    driven up."""
    return 1.0 if "guidance_scale" in inspect.signature(pipeline.__call__).parameters else None


# How pipelines call what an option sets.
_PASSED = {
    "prompt": "prompt",
    "guidance": "guidance_scale",
    "negative_prompt": "negative_prompt",
    "height": "height",
    "width": "width",
    "frames": "num_frames",
}
# How pipelines call the number of images in a batch.
_COUNTS = ("num_images_per_prompt", "num_videos_per_prompt", "batch_size")


def opened(arguments: argparse.Namespace) -> Any:
    """Load the pipeline that the arguments name and set it up, after checking that it takes all that they ask of it."""
    asked = vars(arguments)
    if arguments.guidance is not None and not math.isfinite(arguments.guidance):
        raise ValueError(f"--guidance must be a finite number; got {arguments.guidance}")
    if asked.get("offload") and arguments.device == "cpu":
        raise ValueError("--offload moves weights between the processor and a --device; got --device cpu")
    _check_device(arguments.device)
    dtype = asked.get("dtype")
    pipeline = loaded(arguments.model, dtype, asked.get("variant"), asked.get("revision"))
    named = type(pipeline).__name__
    accepted = inspect.signature(pipeline.__call__).parameters
    for option, name in _PASSED.items():
        if asked.get(option) is not None and name not in accepted:
            raise ValueError(f"{named} takes no --{option.replace('_', '-')}")
    if "prompt" in accepted and arguments.prompt is None:
        raise ValueError(f"{named} needs a --prompt")
    for name, parameter in accepted.items():
        needed = parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if needed and name not in _PASSED.values():
            raise ValueError(f"{named} needs `{name}`, which has no option here: use a Chromatograph in Python")
    if asked.get("scheduler") is not None:
        pipeline.scheduler = _exchanged(pipeline.scheduler, arguments.scheduler)
    if asked.get("lora") is not None:
        _add_lora(pipeline, arguments.lora)
    device = arguments.device
    if device == "cuda" and "LOCAL_RANK" in os.environ:  # one of several processes on this machine
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    if asked.get("offload"):
        pipeline.enable_model_cpu_offload(device=device)
        return pipeline
    return pipeline.to(device)


def _check_device(device: str) -> None:
    """Raise ValueError for a device that is not here, before the weights are read."""
    import torch

    try:
        torch.empty(1, device=device).cpu()  # meta holds no numbers to give back
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"--device must be one that torch finds here, such as cpu; got {device}: {error}") from error


def _exchanged(scheduler: Any, name: str) -> Any:
    """Return another scheduler with the settings of the one that a pipeline has."""
    fitting = {kind.__name__: kind for kind in scheduler.compatibles}
    if name not in fitting:
        raise ValueError(
            f"--scheduler must be one that takes the place of {type(scheduler).__name__}: "
            f"{', '.join(sorted(fitting))}; got {name}"
        )
    return fitting[name].from_config(scheduler.config)


def _add_lora(pipeline: Any, place: str) -> None:
    if not hasattr(pipeline, "load_lora_weights"):
        raise ValueError(f"{type(pipeline).__name__} takes no --lora")
    try:
        pipeline.load_lora_weights(place, use_safetensors=True)
    except Exception as error:  # whatever its libraries make of a missing or wrong file
        raise ValueError(
            f"--lora must be weights that {type(pipeline).__name__} takes; got {place}: {error}"
        ) from error


def drawn_in_batches(
    pipeline: Any, arguments: argparse.Namespace, prompt: str | None, guidance: float | None
) -> list[Any]:
    """Draw all images that the arguments ask for, or their latents, and return them batch by batch."""
    drawn = []
    for first in range(0, arguments.images, arguments.batch):
        numbers = range(first, min(first + arguments.batch, arguments.images))
        title = f"images {first + 1} to {numbers.stop} of {arguments.images}"
        drawn.append(draw(pipeline, arguments, prompt, guidance, numbers, title))
    return drawn


def draw(
    pipeline: Any,
    arguments: argparse.Namespace,
    prompt: str | None,
    guidance: float | None,
    numbers: range,
    title: str,
) -> Any:
    """Draw one batch of images, or of their latents: those of these numbers, each with its own noise.

    title: of the progress bar on a terminal; none without it.
    """
    import torch

    asked, accepted = vars(arguments), inspect.signature(pipeline.__call__).parameters
    settings: dict[str, Any] = {"num_inference_steps": arguments.steps}
    # The pictures themselves are not wanted: latents stay latents.
    settings["output_type"] = "latent" if getattr(pipeline, "vae", None) else "pt"
    for option, value in {**asked, "prompt": prompt, "guidance": guidance}.items():
        if option in _PASSED and value is not None:
            settings[_PASSED[option]] = value
    count = next((name for name in _COUNTS if name in accepted), None)
    if count is not None:
        settings[count] = len(numbers)
    elif len(numbers) > 1:
        raise ValueError(f"{type(pipeline).__name__} draws one image at a time: give --batch 1")
    pipeline.set_progress_bar_config(disable=not (title and sys.stderr.isatty()), desc=title)
    generators = [torch.Generator().manual_seed(arguments.seed + number) for number in numbers]
    try:
        return pipeline(generator=generators, **settings)[0]
    except (OSError, TypeError, ValueError):
        raise
    except Exception as error:  # whatever a pipeline makes of settings, or of too little memory
        small = isinstance(error, MemoryError | RuntimeError) and "memory" in f"{type(error).__name__} {error}".lower()
        more = " (a smaller --batch, --dtype float16 or --offload takes less)" if small else ""
        raise ValueError(f"{type(pipeline).__name__} does not draw with these settings{more}: {error}") from error


def loaded(model: str, dtype: str | None = None, variant: str | None = None, revision: str | None = None) -> Any:
    """Load a pipeline of diffusers from a folder or from the hub, weights from safetensors files only."""
    import diffusers
    import torch
    import transformers

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
    try:
        kind = None if dtype is None else getattr(torch, dtype)
        return load_pipeline(model, dtype=kind, variant=variant, revision=revision)
    except Exception as error:  # whatever its libraries make of a missing or wrong file
        absent = "" if shipped(model).exists() else ", which is nothing here"
        raise ValueError(
            f"the model must be a diffusers pipeline, its folder or its id on the hub; got {model}{absent}: {error}"
        ) from error
