"""The denoising losses of a trained model on pictures it has not seen, band by band, for all or for chosen captions.

`python -m reschrom.companion.reference.networks MODEL --config RECIPE --data ZIP --out FILE` measures them. The empty
caption stands for all held-out pictures, seen without a caption. A model that reads no captions sees every picture
without one."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from reschrom._files import file_hashes
from reschrom.companion.judging.evaluation import held_out
from reschrom.companion.reference.losses import HeldOut, save
from reschrom.denoisers.losses import band_losses
from reschrom.pipelines.adapter import network_denoiser
from reschrom.pipelines.load import load_pipeline
from reschrom.theory.bands import band_energies, downsample
from reschrom.theory.schedules import Schedule
from reschrom.train.recipe import Recipe


def measure(
    pipeline: Any,
    recipe: Recipe,
    source: str,
    captions: Sequence[str],
    times: Float[np.ndarray, " times"],
    most: int,
    seed: int = 0,
) -> dict[str, HeldOut]:
    """Measure the losses of a model on the held-out pictures of each caption.

    captions: of the recipe; "" for all pictures, without a caption.
    times: of the schedule of the pipeline.
    most: pictures of a caption, drawn by chance where there are more.
    """
    unknown = sorted(set(captions) - {"", *recipe.captions})
    if unknown:
        raise ValueError(f"captions of the recipe, or an empty one, are needed; got {', '.join(unknown)}")
    pictures, numbers = held_out(recipe, source)
    schedule, measured = Schedule.from_diffusers(pipeline.scheduler), {}
    for caption in captions:
        generator = np.random.default_rng(seed)
        which = np.flatnonzero(numbers == recipe.captions.index(caption)) if caption else np.arange(len(numbers))
        which = generator.permutation(which)[:most]
        images = downsample(np.moveaxis(pictures[which], -1, 1) / 127.5 - 1, recipe.level)
        denoise = network_denoiser(pipeline, caption if recipe.kind == "t2i" else None)
        losses = band_losses(denoise, images, schedule, times, generator)
        measured[caption] = HeldOut(losses, band_energies(images).mean(axis=1), len(images))
    return measured


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of this module's documentation."""
    parser = argparse.ArgumentParser(prog="python -m reschrom.companion.reference.networks", description=__doc__)
    parser.add_argument("model", type=Path, help="folder of the model")
    parser.add_argument("--config", default="data/pocket-if-64.yaml", help="recipe of the model")
    parser.add_argument("--data", required=True, help="source of the photographs, as for training")
    parser.add_argument("--captions", nargs="+", default=[""], help="all pictures, without a caption, unless given")
    parser.add_argument("--times", type=int, default=25, help="times, evenly over the schedule of the model")
    parser.add_argument("--most", type=int, default=300, help="pictures of a caption, where there are more")
    parser.add_argument("--out", required=True, help="safetensors file")
    given = parser.parse_args(arguments)

    recipe, pipeline = Recipe.load(given.config), load_pipeline(given.model)
    times = np.linspace(0, pipeline.scheduler.config.num_train_timesteps - 1, given.times)
    measured = measure(pipeline, recipe, given.data, given.captions, times, given.most)
    provenance = {"model": given.model.name, "weights": file_hashes(given.model)}
    save(given.out, times, measured, {"made by": "python -m reschrom.companion.reference.networks", **provenance})


if __name__ == "__main__":
    main()
