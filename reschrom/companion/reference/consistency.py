"""What the term of consistency alone changes: two short trainings that differ in nothing else, in nats of guidance.

`python -m reschrom.companion.reference.consistency --data ZIP --runs FOLDER --out data/reference/consistency.json`
trains them from the recipe of pocket-sd-64-start, and measures both on the same held-out pictures with the same noise.
It takes a few minutes of one core. Stopped, it goes on when it is called again."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reschrom._files import write_json
from reschrom.companion.reference.information import chosen
from reschrom.denoisers.information import band_information

# In the place of the settings of the recipe: few pictures, and averages over as few steps as there are.
SHORT: dict[str, Any] = {"steps": 240, "batch": 32, "warmup": 40, "ema": 0.97, "precision": "no"}


def compare(recipe: Any, source: str, runs: Path, edges: np.ndarray, each: int, seed: int = 0) -> dict[str, Any]:
    """Train a model without consistency and one with that of the recipe; return what the guidance of each adds up to.

    source: the photographs, as for training.
    runs: folder of the two trainings.
    edges: of the steps of log SNR.
    each: pictures of each caption. seed: of their choice and their noise.
    Returns weight of the term -> "by guidance" or "by loss" -> nats, and the ends of their 95% interval.
    """
    from reschrom.pipelines.adapter import network_denoiser
    from reschrom.pipelines.load import load_pipeline
    from reschrom.train.loop import train

    found = {}
    for weight in (0.0, recipe.consistency):
        folder = runs / f"consistency-{weight:g}"
        train(replace(recipe, consistency=weight), source, folder)
        pipeline = load_pipeline(folder)
        generator = np.random.default_rng(seed)
        images, labels = chosen(recipe, pipeline, source, each, generator)
        prompts = [recipe.captions[label] for label in labels]
        conditional, unconditional = network_denoiser(pipeline, prompts, len(prompts)), network_denoiser(pipeline)
        told = band_information(conditional, unconditional, images, edges, generator)
        found[f"{weight:g}"] = {"by guidance": _total(told.by_guidance), "by loss": _total(told.by_loss)}
    return found


def _total(told: Any) -> dict[str, float]:
    lower, upper = (float(bound[-1]) for bound in told.gained_interval())
    return {name: round(nats, 2) for name, nats in (("nats", told.total), ("lower", lower), ("upper", upper))}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of this module's documentation."""
    from reschrom.train.recipe import Recipe

    parser = argparse.ArgumentParser(prog="python -m reschrom.companion.reference.consistency", description=__doc__)
    parser.add_argument("--config", default="data/pocket-sd-64-start.yaml", help="recipe with consistency")
    parser.add_argument("--data", required=True, help="source of the photographs, as for training")
    parser.add_argument("--each", type=int, default=2, help="pictures of each caption")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the two trainings")
    parser.add_argument("--out", required=True, help="JSON file")
    given = parser.parse_args(arguments)
    recipe, edges = Recipe.load(given.config, **SHORT), np.linspace(-5.5, 7.0, 26)
    about = {
        "made by": "python -m reschrom.companion.reference.consistency",
        "data": Path(given.data).name,
        "recipe": recipe.as_dict(),
        "pictures": given.each * len(recipe.captions),
        "log SNR": [float(edge) for edge in edges],
    }
    write_json(given.out, {**about, "of consistency": compare(recipe, given.data, given.runs, edges, given.each)})


if __name__ == "__main__":
    main()
