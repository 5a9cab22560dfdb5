"""What one setting of a recipe changes alone: trainings that differ in nothing else, on the same held-out pictures.

`python -m reschrom.companion.reference.one_setting consistency 0 10 --config data/pocket-sd-64-start.yaml --short
--seeds 0 1 2 --data ZIP --runs FOLDER --out data/reference/consistency.json` takes a quarter of an hour, and
`python -m reschrom.companion.reference.one_setting snr_limit 5 100 --config data/pocket-if-64.yaml --ends -9 7
--data ZIP --runs FOLDER --out data/reference/snr-limit.json` some hours. Stopped, it goes on when it is called again.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reschrom._files import write_json
from reschrom.companion.reference.information import chosen
from reschrom.denoisers.information import band_information
from reschrom.denoisers.losses import band_losses
from reschrom.theory.bands import size_of
from reschrom.theory.information import Information
from reschrom.theory.schedules import Schedule

# In the place of the settings of the recipe: few pictures, and averages over as few steps as there are.
SHORT: dict[str, Any] = {"steps": 240, "batch": 32, "warmup": 40, "ema": 0.97, "precision": "no"}


def compare(
    recipe: Any, setting: str, values: Sequence[float], source: str, runs: Path, edges: np.ndarray, each: int
) -> dict[str, Any]:
    """Train a model with each value of a setting; return what its guidance adds up to and what its predictions miss.

    source: the photographs, as for training.
    runs: folder of the trainings.
    edges: of the steps of log SNR.
    each: pictures of each caption.
    Returns value -> "by guidance", "by loss" and "missed", half of the loss of the noise that is predicted with the
    caption -> nats with the ends of their 95% interval, and as many nats "more" than with the first value, because
    pictures and noise are the same for all.
    """
    from reschrom.pipelines.adapter import network_denoiser
    from reschrom.pipelines.load import load_pipeline
    from reschrom.train.loop import train

    found: dict[str, dict[str, Information]] = {}
    for value in values:
        folder = runs / f"{setting}-{value:g}"
        train(replace(recipe, **{setting: value}), source, folder)
        pipeline = load_pipeline(folder)
        generator = np.random.default_rng(recipe.seed)
        images, labels = chosen(recipe, pipeline, source, each, generator)
        prompts = [recipe.captions[label] for label in labels]
        conditional, unconditional = network_denoiser(pipeline, prompts, len(prompts)), network_denoiser(pipeline)
        told = band_information(conditional, unconditional, images, edges, generator)
        missed = _noise_loss(conditional, images, Schedule.from_diffusers(pipeline.scheduler), edges, generator)
        found[f"{value:g}"] = {"by guidance": told.by_guidance, "by loss": told.by_loss, "missed": missed}
    first = next(iter(found.values()))
    return {
        value: {name: {**_total(each), "more": _total(_less(each, first[name]))} for name, each in nats.items()}
        for value, nats in found.items()
    }


def _noise_loss(
    denoise: Any, images: np.ndarray, schedule: Schedule, edges: np.ndarray, generator: np.random.Generator
) -> Information:
    """Return half of the squared error of the predicted noise, which is a rate in nats, too."""
    alphas = 1 / (1 + np.exp(-(edges[1:] + edges[:-1]) / 2))
    losses = band_losses(denoise, images, schedule, schedule.time(alphas), generator)
    per_loss = alphas / (1 - alphas) / 2  # of an estimate
    size = size_of(*images.shape[-2:])
    return Information(losses.mean * per_loss, edges, size, losses.replicates * per_loss, losses.images)


def _less(one: Information, other: Information) -> Information:
    """Return how much more one tells than another that was measured on the same pictures with the same noise."""
    assert one.replicates is not None
    assert other.replicates is not None
    apart = one.replicates - other.replicates
    return Information(one.rates - other.rates, one.log_snr, one.size, apart, one.images)


def _total(told: Information) -> dict[str, Any]:
    lower, upper = (float(bound[-1]) for bound in told.gained_interval())
    return {name: round(nats, 2) for name, nats in (("nats", told.total), ("lower", lower), ("upper", upper))}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of this module's documentation."""
    from reschrom.train.recipe import Recipe

    parser = argparse.ArgumentParser(prog="python -m reschrom.companion.reference.one_setting", description=__doc__)
    parser.add_argument("setting", help="of the recipe, a number")
    parser.add_argument("values", nargs="+", type=float, help="of the setting, one for each training")
    parser.add_argument("--config", required=True, help="recipe of the trainings")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of the trainings, all values with each")
    parser.add_argument("--short", action="store_true", help="train for a few minutes, not as the recipe says")
    parser.add_argument("--ends", type=float, nargs=2, default=(-5.5, 7.0), help="of log SNR, in the schedule's range")
    parser.add_argument("--data", required=True, help="source of the photographs, as for training")
    parser.add_argument("--each", type=int, default=2, help="pictures of each caption")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--out", required=True, help="JSON file")
    given = parser.parse_args(arguments)
    recipe = Recipe.load(given.config, **(SHORT if given.short else {}))
    low, high = given.ends
    edges = np.linspace(low, high, round(2 * (high - low)) + 1)
    about = {
        "made by": "python -m reschrom.companion.reference.one_setting",
        "data": Path(given.data).name,
        "recipe": recipe.as_dict(),
        "pictures": given.each * len(recipe.captions),
        "log SNR": [float(edge) for edge in edges],
    }
    found = {}
    for seed in given.seeds:
        seeded, runs = replace(recipe, seed=seed), given.runs / f"seed-{seed}"
        found[f"{seed}"] = compare(seeded, given.setting, given.values, given.data, runs, edges, given.each)
    write_json(given.out, {**about, f"of {given.setting}, by seed": found})


if __name__ == "__main__":
    main()
