"""The denoising losses of a model without captions on pictures held out: what a prediction is compared with.

`python -m reschrom.training.prediction RECIPE --model FOLDER --data ZIP --out FILE` measures them and writes the file
of `reschrom.training.losses`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reschrom.denoising import band_losses
from reschrom.pipelines import load_pipeline
from reschrom.resolution import band_energies, downsample
from reschrom.schedules import Schedule
from reschrom.training.evaluation import held_out
from reschrom.training.losses import HeldOut, save
from reschrom.training.recipe import Recipe


def held_out_losses(pipeline: Any, recipe: Recipe, source: str, count: int, times: int, seed: int = 0) -> Any:
    """Measure the denoising losses of a model without captions on `count` pictures held out, at evenly spread times.

    Returns the times, of the schedule of the pipeline, and the losses.
    """
    generator, schedule = np.random.default_rng(seed), Schedule.from_diffusers(pipeline.scheduler)
    pictures = generator.permutation(held_out(recipe, source)[0])[:count]
    images = downsample(np.moveaxis(pictures, -1, 1) / 127.5 - 1, recipe.level)
    grid = np.linspace(0, schedule.end, times)
    losses = band_losses(pipeline, images, schedule, grid, generator)
    return grid, HeldOut(losses, band_energies(images).mean(axis=1), len(images))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of this module's documentation."""
    parser = argparse.ArgumentParser(prog="python -m reschrom.training.prediction", description=__doc__)
    parser.add_argument("recipe", type=Path, help="recipe of the model")
    parser.add_argument("--model", type=Path, required=True, help="folder of a model without captions")
    parser.add_argument("--data", required=True, help="source of the photographs, as for training")
    parser.add_argument("--count", type=int, default=300, help="pictures held out, where there are more")
    parser.add_argument("--times", type=int, default=25, help="of the losses")
    parser.add_argument("--out", required=True, help="safetensors file")
    given = parser.parse_args(arguments)

    pipeline, recipe = load_pipeline(given.model), Recipe.load(given.recipe)
    grid, found = held_out_losses(pipeline, recipe, given.data, given.count, given.times)
    provenance = {"made by": "python -m reschrom.training.prediction", "model": given.model.name}
    save(given.out, grid, {"": found}, provenance)


if __name__ == "__main__":
    main()
