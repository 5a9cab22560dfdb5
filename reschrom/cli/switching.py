"""What `reschrom switch` does: find the step at which a written prompt changes, and draw what it makes of a picture."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reschrom.cli.drawing import drawn_in_batches, opened, unguided
from reschrom.pipelines.chromatograph import Chromatograph
from reschrom.pipelines.latents import pictured
from reschrom.pipelines.prompt_syntax import Resolutions, WrittenPrompt
from reschrom.pipelines.prompt_weights import Moment
from reschrom.pipelines.prompts import PromptSchedule
from reschrom.pipelines.scheduler import schedule_of, share_of_time
from reschrom.theory.chromatogram import Chromatogram
from reschrom.theory.shares import decided_share, predicted_share

if TYPE_CHECKING:
    from reschrom.plots import Figure


class Switched(NamedTuple):
    """What the command prints, and what its figure is made of.

    pictures: the first image by the first prompt alone, by both, and by the second alone, each (C, H, W) in [-1, 1].
    """

    lines: list[str]
    growth: Chromatogram
    time: float
    prompts: list[str]
    pictures: list[np.ndarray]

    def figure(self) -> "Figure":
        """Draw the pictures under the chromatogram."""
        from reschrom import plots

        return plots.switched(self.growth, self.time, self.pictures, self.prompts)


def switched(arguments: argparse.Namespace) -> Switched:
    """Measure what the model generates when, switch as the prompt is written, and tell what each band keeps."""
    written, steps = arguments.prompt, arguments.steps
    # What cannot be one switch is refused before anything is loaded or drawn.
    shape = WrittenPrompt(written, lambda band: 0.5)
    _step_of_switch(shape, np.linspace(1, 0, steps, endpoint=False))
    first, second = shape.texts
    pipeline = opened(arguments)
    with Chromatograph(pipeline, seed=arguments.seed) as meter:
        drawn_in_batches(pipeline, arguments, first, unguided(pipeline))
    growth, schedule = meter.growth, schedule_of(pipeline.scheduler)
    shares = [share_of_time(pipeline.scheduler, schedule, float(t)) for t in meter.timesteps]
    read = WrittenPrompt(written, Resolutions(pipeline, growth).switch_at)
    step = _step_of_switch(read, shares)
    time = float(meter.timesteps[step])
    with PromptSchedule(pipeline, [first, second], read.weights):
        mixed = drawn_in_batches(pipeline, arguments, first, arguments.guidance)
    pure = [drawn_in_batches(pipeline, arguments, prompt, arguments.guidance) for prompt in (first, second)]
    x, a, c = (_joined(batches) for batches in (mixed, *pure))
    decided = decided_share(x, a, c, arguments.seed)
    end = float(pipeline.scheduler.config.num_train_timesteps)
    grown = 1 - predicted_share(growth, np.array([time / end]), end)[:, 0]
    lines = [
        f"switch after {step} of {len(shares)} steps, at timestep {time:g}: {shares[step]:.3f} T",
        f"from {first!r} to {second!r}",
        f"{'band':<10}{'gained by then':>16}{'stays as it was':>18}   (tried: 0 % is the second alone)",
    ]
    for name, gained, kept in zip(growth.band_names, grown, 1 - decided.share, strict=True):
        lines.append(f"{name:<10}{gained:>14.1%}{kept:>18.1%}")
    lines.append(f"Gained: growth of the model's estimate without guidance, mean over {meter.images} images.")
    pictures = [pictured(pipeline, each[:1])[0] for each in (a, x, c)]
    return Switched(lines, growth, time, [first, second], pictures)


def _step_of_switch(read: WrittenPrompt, shares: Sequence[float] | np.ndarray) -> int:
    """Return after how many steps the second prompt speaks; raises ValueError for what is not one switch."""
    said = [read.at(Moment(t, step, len(shares))) for step, t in enumerate(shares, 1)]
    if len(read.texts) != 2:
        raise ValueError(
            f"a prompt with one switch is needed, such as 'a [photo:painting:16x16] of a ship'; got {len(read.texts)} "
            f"prompts: {read.texts}"
        )
    step = said.count(read.texts[0])
    if said != [read.texts[0]] * step + [read.texts[1]] * (len(said) - step) or not 0 < step < len(said):
        raise ValueError(
            f"both prompts must speak, one after the other; the first has {step} of {len(said)} steps: {read.texts}"
        )
    return step


def _joined(batches: list[Any]) -> np.ndarray:
    import torch

    return torch.cat(batches).float().cpu().numpy()
