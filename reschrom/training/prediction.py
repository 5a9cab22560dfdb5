"""What predicts the mean times of a model from its pictures: block energies and recall (`reschrom.blocks`).

`python -m reschrom.training.prediction RECIPE ... --data ZIP --out data/reference/blocks.safetensors` measures pictures
held out against those for training, all together and of single captions. No picture can be had back from them.
With `--model FOLDER` it measures instead the denoising losses of that model, which reads no captions, on pictures held
out: what the prediction is compared with, in the file of `reschrom.training.losses`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reschrom._files import opened_tensors, replacing
from reschrom.blocks import BlockEnergies, Recall
from reschrom.denoising import band_losses
from reschrom.pipelines import load_pipeline
from reschrom.resolution import band_energies, downsample
from reschrom.schedules import Schedule
from reschrom.training.evaluation import held_out
from reschrom.training.losses import HeldOut
from reschrom.training.losses import save as save_losses
from reschrom.training.pictures import gallery
from reschrom.training.recipe import Recipe
from reschrom.training.statistics import SOURCES

_PARTS, _TENSORS = ("fresh", "rest"), ("energies", "variances")


def measure(recipe: Recipe, source: str, captions: Sequence[str], most: int, seed: int = 0) -> dict[str, Recall]:
    """Measure pictures held out against training pictures, at the size the model sees.

    captions: of the recipe, each measured alone.
    most: pictures held out of each, drawn by chance where there are more.
    Returns what was measured by caption; "" stands for all pictures together.
    """
    unknown = sorted(set(captions) - set(recipe.captions))
    if unknown:
        raise ValueError(f"captions of the recipe are needed; got {', '.join(unknown)}")
    training, (fresh, numbers), measured = gallery(recipe, source), held_out(recipe, source), {}
    for caption in ("", *captions):
        which = [recipe.captions.index(caption)] if caption else list(range(len(training)))
        own = np.flatnonzero(np.isin(numbers, which))
        own = np.random.default_rng(seed).permutation(own)[:most]
        known, new = (
            downsample(np.moveaxis(each, -1, 1).astype(np.float32) / 127.5 - 1, recipe.level)
            for each in (training[which].reshape(-1, *training.shape[2:]), fresh[own])
        )
        measured[caption] = Recall.of(known, new)
    return measured


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


def save(path: str | Path, known: Mapping[str, Recall], provenance: Mapping[str, str]) -> None:
    """Write what was measured by name as safetensors, in single precision."""
    from safetensors.numpy import save_file

    tensors: dict[str, np.ndarray] = {}
    for number, each in enumerate(known.values()):
        parts = {"left": each.left, "log_snr": np.array([each.log_snr])}
        parts |= {f"{of}.{key}": getattr(getattr(each, of), key) for of in _PARTS for key in _TENSORS}
        tensors |= {f"{number}.{key}": np.ascontiguousarray(value, np.float32) for key, value in parts.items()}
    about = json.dumps({"names": list(known), **provenance})  # one entry: several are written in any order
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"about": about})


def load(path: str | Path) -> dict[str, Recall]:
    """Read what `save` wrote. Raises ValueError, naming the file, for anything else."""
    known = {}
    keys = [*(f"{of}.{key}" for of in _PARTS for key in _TENSORS), "left", "log_snr"]
    with opened_tensors(path, "no block energies") as file:
        for number, name in enumerate(json.loads(file.metadata()["about"])["names"]):
            *parts, left, log_snr = (file.get_tensor(f"{number}.{key}").astype(np.float64) for key in keys)
            known[name] = Recall(BlockEnergies(*parts[:2]), left, BlockEnergies(*parts[2:]), float(log_snr[0]))
    return known


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of this module's documentation."""
    parser = argparse.ArgumentParser(prog="python -m reschrom.training.prediction", description=__doc__)
    parser.add_argument("recipes", nargs="+", type=Path, help="recipes of models, named for them")
    parser.add_argument("--data", required=True, help="source of the photographs, as for training")
    parser.add_argument("--captions", nargs="*", default=(), help="measured alone too, where a recipe has them")
    parser.add_argument("--count", type=int, default=300, help="pictures held out, where there are more")
    parser.add_argument("--pieces", type=int, default=80, help="training pictures of each caption")
    parser.add_argument("--model", type=Path, help="folder of a model without captions: measure its losses instead")
    parser.add_argument("--times", type=int, default=25, help="of the losses")
    parser.add_argument("--out", required=True, help="safetensors file")
    given = parser.parse_args(arguments)

    made_by = {"made by": "python -m reschrom.training.prediction"}
    if given.model:
        pipeline, recipe = load_pipeline(given.model), Recipe.load(given.recipes[0])
        grid, found = held_out_losses(pipeline, recipe, given.data, given.count, given.times)
        save_losses(given.out, grid, {"": found}, {**made_by, "model": given.model.name})
        return
    known = {}
    for path in given.recipes:
        recipe = replace(Recipe.load(path), pieces=given.pieces)
        captions = [caption for caption in given.captions if caption in recipe.captions]
        for caption, each in measure(recipe, given.data, captions, given.count).items():
            known[f"{path.stem}: {caption}" if caption else path.stem] = each
    save(given.out, known, {**made_by, "data": Path(given.data).name, "sources": " ".join(SOURCES)})


if __name__ == "__main__":
    main()
