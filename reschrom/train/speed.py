"""How long a step of training takes on this machine, and the precision in which it takes less."""

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from reschrom.train.models import build
from reschrom.train.objective import batches_of, step_loss, trained_module
from reschrom.train.recipe import Recipe

if TYPE_CHECKING:
    import torch

_SECONDS = 1.0  # of each measurement, after one step that prepares what later steps find prepared
# Bfloat16 is the less exact, so it is chosen where it is clearly faster, and not where chance decides.
_CLEARLY = 0.9


def seconds_a_step(recipe: Recipe, device: "torch.device") -> float:
    """Return the mean seconds of the first training steps of a recipe, on pictures of noise, in its own precision."""
    import torch

    pipeline = build(recipe)
    network = trained_module(pipeline).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate)
    side = recipe.picture_size
    shape = (len(recipe.captions), 1, side, side, 3)
    batches = batches_of(pipeline, np.random.default_rng(0).integers(0, 256, shape, np.uint8), recipe, 1)
    began = 0.0
    for step in itertools.count():
        step_loss(network, batches.draw(step, 0, device), recipe).backward()
        optimizer.step()
        optimizer.zero_grad()
        next(network.parameters()).sum().item()  # waits for a device that works while Python goes on
        now = time.perf_counter()
        if not step:
            began = now
        elif now - began >= _SECONDS:
            return (now - began) / step
    raise AssertionError("counting ends")


def chosen_precision(
    recipe: Recipe, device: "torch.device", seconds: Callable[[Recipe, "torch.device"], float] = seconds_a_step
) -> Literal["no", "bf16"]:
    """Return the precision of a recipe, for "auto" the one in which its steps take less time here.

    An eighth of a batch is tried first, and a whole one only where that is not decisive: a processor without units for
    bfloat16 would take minutes.
    Raises ValueError where the device cannot compute in the precision that the recipe says.
    """
    from accelerate.utils import is_bf16_available

    able = is_bf16_available(True)
    if recipe.precision == "bf16" and not able:
        raise ValueError(f"precision of a recipe must be no or auto, because {device} has no bfloat16; got bf16")
    if recipe.precision != "auto":
        return recipe.precision
    if not able:
        return "no"
    for batch in (min(recipe.batch, max(2, recipe.batch // 8)), recipe.batch):
        tried = replace(recipe, batch=batch)
        exact, half = (seconds(replace(tried, precision=each), device) for each in ("no", "bf16"))
        if not 1 / 2 < half / exact < 2:
            break
    return "bf16" if half < _CLEARLY * exact else "no"
