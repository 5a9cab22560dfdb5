"""Training the models of many recipes, one after another, in the time that there is."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from reschrom._extras import naming_extra
from reschrom._files import replacing, shipped
from reschrom.train.folder import claimed
from reschrom.train.loop import accelerator_for, train
from reschrom.train.models import build
from reschrom.train.pictures import save_gallery
from reschrom.train.recipe import Recipe
from reschrom.train.speed import chosen_precision, seconds_a_step

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

_MODELS = Path("data/models")
# The rest is for what is not a step: samples, checkpoints, the pipelines that are written.
_STEPS_SHARE = 0.85


@naming_extra("train_all", "train")
def train_all(
    recipes: str | Path,
    source: str,
    out: str | Path,
    budget: float,
    *,
    seconds: Callable[[Recipe, "torch.device"], float] = seconds_a_step,
) -> None:
    """Train the model of every `pocket-*.yaml` of a folder, each after those that it begins with or draws through.

    source: the photographs, see `pictures.photographs`.
    out: gets a folder for each model, as `train` makes it, and beside it the recipe by which it was trained.
    budget: seconds for all together. Pictures are made and a step of every recipe is measured; then the steps of all
        are shortened by one factor, and warm-ups with them, so that they take as long as is left. No model has more
        steps than its recipe says.
    seconds: what measures a step, see `seconds_a_step`.

    Recipes that are there go on as they are, whatever the budget of the new call, so a call that was stopped loses
    nothing. Says on standard output what is trained. Raises ValueError where there are no recipes, they wait for each
    other, or the budget leaves no time to train; and as `train` does.
    """
    began, folder = time.monotonic(), Path(out).resolve()
    found = {path.stem: Recipe.load(path) for path in sorted(shipped(recipes).glob("pocket-*.yaml"))}
    if not found:
        raise ValueError(f"{recipes} must be a folder of recipes, pocket-*.yaml; it has none")
    makers = {name: _makers(name, found) for name in found}
    try:
        order = list(TopologicalSorter({name: makers[name].values() for name in found}).static_order())
    except CycleError as error:
        raise ValueError(f"recipes wait for each other: {', '.join(error.args[1])}") from error
    whole = {name: found[name] for name in order}
    for recipe in whole.values():
        accelerator = accelerator_for(recipe)
    paths = {name: folder / f"{name}.yaml" for name in whole}
    with accelerator.main_process_first():
        if not all(path.is_file() for path in paths.values()):
            _make_pictures(whole, source, folder)
            took = {name: _measured(whole, name, makers[name], accelerator, seconds) for name in whole}
            factor = _factor(whole, {name: cost for name, (_, cost) in took.items()}, began + budget - time.monotonic())
            for name, recipe in whole.items():
                ours = {setting: str(folder / maker) for setting, maker in makers[name].items()}
                _write(paths[name], {**shortened(recipe, factor).as_dict(), "precision": took[name][0], **ours})
    for name, path in paths.items():
        recipe = Recipe.load(path)
        if accelerator.is_main_process:
            after = f", after {', '.join(makers[name].values())}" if makers[name] else ""
            print(
                f"{name}: {recipe.steps:,} of {whole[name].steps:,} steps, precision {recipe.precision}{after}",
                flush=True,
            )
        train(recipe, source, folder / name, show_every=recipe.steps)


def shortened(recipe: Recipe, factor: float) -> Recipe:
    """Return a recipe with fewer steps, at least one, and a warm-up of the same share of them."""
    steps = max(1, int(factor * recipe.steps))
    return replace(recipe, steps=steps, warmup=recipe.warmup * steps // recipe.steps)


def _makers(name: str, recipes: Mapping[str, Recipe]) -> dict[str, str]:
    """Return which settings of a recipe name a model that another one makes, and the name of that one."""
    recipe, makers = recipes[name], {}
    start = Path(recipe.start)
    if start.parent == _MODELS and start.name in recipes:
        makers["start"] = start.name
    if recipe.autoencoder and Path(recipe.autoencoder).is_relative_to(_MODELS):
        # It ships as a part of the model that draws in its latents, so its recipe is known by its pictures. One that
        # another begins with is not what ships.
        begun = {Path(each.start).name for each in recipes.values()}
        for other, made in recipes.items():
            same = (made.contents, made.size) == (recipe.contents, recipe.size)
            if made.kind == "autoencoder" and same and other not in begun:
                makers["autoencoder"] = other
    return makers


def _make_pictures(recipes: Mapping[str, Recipe], source: str, out: Path) -> None:
    """Make the pictures of all before anything is measured, because they take time that no step has."""
    for name, recipe in recipes.items():
        path = out / name / "pictures.npy"
        with claimed(path.parent):
            if not path.exists():
                save_gallery(path, recipe, source)


def _measured(
    recipes: Mapping[str, Recipe],
    name: str,
    makers: Mapping[str, str],
    accelerator: "Accelerator",
    seconds: Callable[[Recipe, "torch.device"], float],
) -> tuple[str, float]:
    """Return the precision of a recipe, and the seconds of all its steps, with untrained models for those it needs."""
    recipe = replace(recipes[name], batch=recipes[name].batch // accelerator.num_processes)
    with TemporaryDirectory() as untrained:
        if "start" in makers:
            recipe = replace(recipe, start="")
        if "autoencoder" in makers:
            build(replace(recipes[makers["autoencoder"]], start="")).save_pretrained(untrained)
            recipe = replace(recipe, autoencoder=untrained)
        precision = chosen_precision(recipe, accelerator.device, seconds)
        return precision, recipe.steps * seconds(replace(recipe, precision=precision), accelerator.device)


def _factor(recipes: Mapping[str, Recipe], costs: Mapping[str, float], left: float) -> float:
    """Return the share of their steps that all recipes can have in the seconds that are left."""
    if left <= 0:
        raise ValueError(
            f"the budget is spent on the pictures and measurements of {len(recipes)} recipes: give more time; the "
            f"pictures are kept"
        )
    return min(1.0, _STEPS_SHARE * left / sum(costs.values()))


def _write(path: Path, settings: Mapping[str, Any]) -> None:
    import yaml

    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
