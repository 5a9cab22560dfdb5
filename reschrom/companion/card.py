"""The model card of a trained model, and the checksums of its weights.

`python -m reschrom.companion.card FOLDER --evaluation JSON --log CSV --hardware "2 CPU cores" --hours 1.7` writes
`README.md` and `weights.json` into the folder of the model. A model without captions is not evaluated here, so it needs
no `--evaluation`. A model in latents also says how its autoencoder was trained: `--autoencoder RECIPE LOG`.

A card is mostly numbers and sentences that depend on them. The template of huggingface_hub's ModelCard has neither, so
only its text would be left to write, and the weights of a card are checked against the evaluation here.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reschrom._files import file_hashes, replacing, write_json
from reschrom.companion.card_sections import (
    Autoencoder,
    Nats,
    autoencoder_section,
    failures,
    information_section,
    last_tenth,
    percent,
    settings,
)
from reschrom.train.checkpoints import newest
from reschrom.train.recipe import Recipe

_FRUITS = """\
- Fruits-360: M. Oltean, H. Muresan; *Fruit recognition from images using deep learning*, Acta Universitatis
  Sapientiae, Informatica 10 (2018). MIT."""
_SOURCES = f"""\
- Caltech-101: F.-F. Li, M. Andreeto, M. Ranzato, P. Perona; CaltechDATA, 2022, doi:10.22002/D1.20086. CC BY 4.0.
- Clothing dataset: A. Grigorev and contributors; github.com/alexeygrigorev/clothing-dataset. CC0 1.0.
{_FRUITS}"""


def write_card(
    folder: Path,
    recipe: Recipe,
    evaluation: dict[str, Any] | None,
    losses: Sequence[float],
    hardware: str,
    hours: float,
    nats: Nats | None = None,
    autoencoder: Autoencoder | None = None,
) -> None:
    """Write `README.md` and `weights.json` of a model.

    evaluation: what `reschrom.companion.judging.evaluation` measured of these very weights;
        None for a model without captions.
    losses: of every training step.
    hours: of training, that of its autoencoder included.
    nats: what its guidance adds up to, where that was measured.
    autoencoder: how that of a model in latents was trained; None for all other models.
    Raises ValueError when the evaluation is of other weights, or is missing, or the training of the autoencoder is.
    """
    hashes = file_hashes(folder)
    if recipe.autoencoder and autoencoder is None:
        raise ValueError(f"{folder} draws in latents: the recipe and the log of its autoencoder are needed; got none")
    if autoencoder is not None and not recipe.autoencoder:
        raise ValueError(f"{folder} draws in pixels: no autoencoder belongs in its card; got one")
    if recipe.kind != "t2i":
        text = _card_of_level(folder, recipe, losses, hardware, hours)
    elif evaluation is None or evaluation["weights"] != hashes:
        raise ValueError(f"an evaluation of the weights in {folder} is needed; got none, or one of other weights")
    else:
        text = _card(folder, recipe, evaluation, losses, hardware, hours, nats, autoencoder)
    write_json(folder / "weights.json", hashes)
    with replacing(folder / "README.md") as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _card_of_level(folder: Path, recipe: Recipe, losses: Sequence[float], hardware: str, hours: float) -> str:
    size = recipe.size
    weights = sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 2**20
    halved = f", averaged over {2**recipe.level}x{2**recipe.level} pixels" if recipe.level else ""
    pipeline, sampler, counted = "DDIMPipeline", "DDIM, 20 steps", f"{len(losses) * recipe.batch:,} pictures seen"
    imported = "from diffusers import DiffusionPipeline\n\npipeline = DiffusionPipeline"
    sizes, needed = f"{size}x{size} pixels", "no other model is needed for it"
    if recipe.halvings:
        sizes += "".join(f", {size >> level}x{size >> level}" for level in range(1, recipe.halvings + 1))
        counted = "twice as many at half the side, and so on, each size in as many steps"
    if recipe.start:
        needed = f"it begins with the weights of `{Path(recipe.start).name}`"
    if recipe.kind == "dvdp":
        pipeline, sampler = "DVDPPipeline", "Ancestral sampling, 20 steps"
        counted = "twice as many at half the side, and so on"
        imported = "from reschrom import DVDPPipeline\n\npipeline = DVDPPipeline"
    if recipe.kind == "residual":
        use = f"""It predicts the noise of an image of {size}x{size} pixels less the averages of that noise over 2x2
pixels (Eqs. 21 and 23 of the paper), so it draws nothing on its own: it is the finer level of a cascade.

```python
from reschrom import CascadedUNet, load_pipeline

low = load_pipeline("data/models/pocket-lowres-{size // 2}")
cascade = CascadedUNet(low, load_pipeline("data/models/{folder.name}"))
```"""
    else:
        use = f"""It draws images of {sizes} without a caption.

![Samples that nobody chose](samples.png)

The samples are the first that were drawn, none was chosen. {sampler}.

```python
{imported}.from_pretrained("data/models/{folder.name}")
pipeline(num_inference_steps=20).images[0]
```"""
    return f"""# {folder.name}

A small `{pipeline}` for measuring, {weights:.1f} MiB in half precision. {use}

## Data

Photographs of {len(recipe.contents)} kinds of fruit, {recipe.pieces} of each, on white: {", ".join(recipe.contents)}.
They were mirrored and moved by up to three pixels of {recipe.picture_size} by chance{halved}. They come from:

{_FRUITS}

They are not in this repository. The weights carry the licence of the repository; whoever passes on the model names
this source.

## Training

{len(losses):,} steps of {recipe.batch} pictures, {counted}, in {60 * hours:.0f}
minutes on {hardware}. `reschrom train {recipe.kind}` with this recipe makes it again; {needed}.
The kept weights are a running average. Mean loss of the last tenth of the steps: {last_tenth(losses):.4f}.

| setting | value |
| --- | --- |
{settings(recipe)}

## Known failures

- It has seen frames of turntable films on white, and little variety within a kind.
- A short training: outlines and surface texture are often wrong.
"""


def _card(
    folder: Path,
    recipe: Recipe,
    evaluation: dict[str, Any],
    losses: Sequence[float],
    hardware: str,
    hours: float,
    nats: Nats | None,
    autoencoder: Autoencoder | None,
) -> str:
    sampler, drawn, real = evaluation["sampler"], evaluation["recognised"], evaluation["classifier"]
    pixels, features = (evaluation["memorisation"][space] for space in ("pixels", "features"))
    size = recipe.size
    amount = f"{len(losses):,} steps of {recipe.batch} pictures, {len(losses) * recipe.batch:,} pictures seen"
    sizes = f"{size}x{size} pixels"
    if recipe.halvings:
        smaller = "".join(f", {size >> level}x{size >> level}" for level in range(1, recipe.halvings + 1))
        sizes += "" if recipe.autoencoder else smaller
        amount = f"{len(losses):,} steps of {recipe.batch} pictures, of twice as many at half the side, and so on"
    if recipe.start:
        amount += f", beginning with the weights of `{Path(recipe.start).name}`"
    predicted = {"noise": "noise", "velocity": "the velocity"}[recipe.prediction]
    kind = f"an `IFPipeline` whose network predicts {predicted}, with\nthe T5 encoder that was trained with it"
    if recipe.autoencoder:
        kind = (
            "a `StableDiffusionPipeline` with an autoencoder,\n"
            f"a CLIP text encoder and a network that predicts the {recipe.prediction} of latents, all trained here"
            f"{'; the network knows latents of half the side, too' if recipe.halvings else ''}"
        )
    first, last = recipe.contents[0], recipe.contents[-1]
    weights = sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 2**20
    contents = "\n".join(
        f"| {name} | {percent(share['content'])} | {percent(share['style'])} | "
        f"{percent(real['per content'][name]['content'])} |"
        for name, share in drawn["per content"].items()
    )
    return f"""# {folder.name}

A small text-to-image model of {sizes}, for measuring: {kind}.
{weights:.1f} MiB in half precision. Captions are a style and a content: "a photo of {first}",
"an oil painting of {last}".

![One sample of each caption: a column for a content, a row for a style](samples.png)

One sample of each caption: contents in the order of the table below, rows are photo, oil painting and pencil sketch.
They are the first that were drawn, none was chosen. {sampler["scheduler"]}, {sampler["steps"]}
steps, guidance scale {sampler["guidance scale"]:g}.

```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("data/models/{folder.name}")
pipeline(
    "an oil painting of {last}",
    guidance_scale={sampler["guidance scale"]:g},
    num_inference_steps={sampler["steps"]},
).images[0]
```

## Data

{len(recipe.contents)} contents, {recipe.pieces} pictures each. Photographs of rare contents were cut more than once.
Oil paintings and pencil sketches are made from the photographs by filters (`reschrom.train.styles`). Pictures were
mirrored and moved by up to three pixels by chance. The photographs are centre-cropped squares of:

{_SOURCES}

They are not in this repository. The weights carry the licence of the repository; whoever passes on the model names
these sources.

## Training

{amount}, in {hours:.1f} hours on {hardware}. `reschrom train t2i` with this recipe makes it again. Captions were left
out of {percent(recipe.unconditional)} of the pictures. The kept weights are a running average. Mean loss of the last
tenth of the steps: {last_tenth(losses):.4f}.

| setting | value |
| --- | --- |
{settings(recipe)}
{"" if autoencoder is None else autoencoder_section(folder, autoencoder, evaluation)}
## What it draws

A classifier learned the same training pictures. It names the content of {percent(real["content"])} and the style of
{percent(real["style"])} of held-out pictures (content, photographs only:
{percent(real["photographs"]["content, captions alike"])}; all captions count alike). Of
{sampler["samples per caption"]} samples of each caption it names the content right for **{percent(drawn["content"])}**
and the style for **{percent(drawn["style"])}**.

| content | samples: content | samples: style | held-out pictures: content |
| --- | --- | --- | --- |
{contents}

Distance to the nearest training picture of the same style (mirrored and moved copies included, fruit left out), median
over samples divided by the median over held-out pictures: **{pixels["ratio of medians"]:.2f}** in pixels
({pixels["samples"]["median"]:.3f} to {pixels["held out"]["median"]:.3f}), **{features["ratio of medians"]:.2f}** in
the features of the classifier. A model that copies its training set has a ratio near 0.
{"" if nats is None else information_section(recipe, nats)}
## Known failures

{failures(recipe, evaluation)}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of this module's documentation."""
    parser = argparse.ArgumentParser(prog="python -m reschrom.companion.card", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the model; samples.png is expected beside the card")
    parser.add_argument("--config", default="data/pocket-if-64.yaml", help="recipe of the model")
    parser.add_argument("--evaluation", type=Path, help="JSON file of reschrom.companion.judging.evaluation")
    parser.add_argument("--log", required=True, type=Path, help="log.csv of the training run, beside its checkpoints")
    parser.add_argument("--hardware", required=True, help="what the model was trained on")
    parser.add_argument("--hours", required=True, type=float, help="wall time of training, of an autoencoder too")
    parser.add_argument("--information", type=Path, help="file of reschrom.companion.reference.information")
    parser.add_argument(
        "--autoencoder", nargs=2, metavar=("RECIPE", "LOG"), help="recipe and log.csv of the autoencoder of latents"
    )
    given = parser.parse_args(arguments)
    recipe, losses = _trained(given.config, given.log)
    evaluation = json.loads(given.evaluation.read_text(encoding="utf-8")) if given.evaluation else None
    nats = Nats.read(given.information) if given.information else None
    made = Autoencoder(*_trained(given.autoencoder[0], Path(given.autoencoder[1]))) if given.autoencoder else None
    write_card(given.folder, recipe, evaluation, losses, given.hardware, given.hours, nats, made)


def _trained(config: str, log: Path) -> tuple[Recipe, list[float]]:
    """Read the recipe of a training, with the precision that was chosen for it, and the loss of every step."""
    with log.open(newline="", encoding="utf-8") as stream:
        losses = [float(row["loss"]) for row in csv.DictReader(stream)]
    recipe = Recipe.load(config)
    if recipe.precision == "auto":
        saved = newest(log.parent / "checkpoints", recipe)
        if saved is None:
            raise ValueError(f"a card says in which precision a model was trained: no checkpoint is beside {log}")
        recipe = Recipe.from_dict({**recipe.as_dict(), "precision": saved.precision})
    return recipe, losses


if __name__ == "__main__":
    main()
