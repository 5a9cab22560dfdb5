"""How well denoisers that can be written down do on pictures held out: when a network generates, as formulas tell it.

`python -m reschrom.companion.reference.formulas RECIPE --data ZIP --out FILE` fits them to the training pictures of a
recipe and measures the denoising losses of each on pictures held out. The network of the recipe is not used. The
formula that loses least is nearest to the best denoiser there is of these pictures.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from reschrom._arrays import Images
from reschrom.companion.judging.evaluation import held_out
from reschrom.companion.reference.losses import HeldOut, mean_alone, save
from reschrom.denoisers.finite import FiniteDataset
from reschrom.denoisers.gaussian import GaussianField, GaussianMixture
from reschrom.denoisers.losses import BandLosses, band_losses
from reschrom.denoisers.sampling import Denoise
from reschrom.denoisers.sparse import ScaleMixture
from reschrom.denoisers.windows import NearestImage, WindowMixture
from reschrom.theory.bands import band_energies, downsample
from reschrom.theory.schedules import Schedule
from reschrom.train.pictures import gallery
from reschrom.train.recipe import Recipe

New = Float[np.ndarray, "new channels side side"]
_AT_ONCE = 16  # images denoised together
# Each is made of training images, a generator, and the components and windows of mixtures.
DENOISERS: dict[str, Callable[..., Any]] = {
    "field": lambda images, *_: GaussianField.fit(images, colour=True),
    "mixture": lambda images, generator, *_: GaussianMixture.fit(images, min(16, len(images) // 10), generator),
    "sparse": lambda images, *_: ScaleMixture(images),
    "finite": lambda images, *_: FiniteDataset(images),
    "windows": WindowMixture,
    "nearest": NearestImage,
}


def pictures_of(recipe: Recipe, source: str, caption: str, most: int, seed: int = 0) -> tuple[Images, New]:
    """Return images for training and others held out, at the size the model sees; of all captions for "".

    most: images held out, drawn by chance where there are more.
    """
    if caption and caption not in recipe.captions:
        raise ValueError(f"a caption of the recipe is needed; got {caption}")
    training, (fresh, numbers) = gallery(recipe, source), held_out(recipe, source)
    which = [recipe.captions.index(caption)] if caption else list(range(len(training)))
    own = np.flatnonzero(np.isin(numbers, which))
    own = np.random.default_rng(seed).permutation(own)[:most]
    known, new = (
        downsample(np.moveaxis(each, -1, 1) / 127.5 - 1, recipe.level)
        for each in (training[which].reshape(-1, *training.shape[2:]), fresh[own])
    )
    return known, new


def measure(
    known: Images, new: New, names: Sequence[str], times: np.ndarray, components: int, windows: int, seed: int = 0
) -> dict[str, BandLosses]:
    """Fit each denoiser to the known images and measure its losses on the new ones, all with the same noise.

    names: of `DENOISERS`.
    times: of the cosine schedule; those of others have the same losses at the same signal-to-noise ratio.
    """
    measured = {}
    for name in names:
        posterior = DENOISERS[name](known, np.random.default_rng(seed), components, windows)
        measured[name] = losses_of(posterior.denoise, new, times, seed + 1)
    return measured


def losses_of(denoise: Denoise, images: Images, times: np.ndarray, seed: int = 1) -> BandLosses:
    """Measure the losses of a denoiser, a few images at a time, always with the noise of the seed."""
    batches = (images[start : start + _AT_ONCE] for start in range(0, len(images), _AT_ONCE))
    return band_losses(denoise, batches, Schedule.cosine(), times, np.random.default_rng(seed))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of this module's documentation."""
    parser = argparse.ArgumentParser(prog="python -m reschrom.companion.reference.formulas", description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", required=True, help="source of the photographs, as for training")
    parser.add_argument("--caption", default="", help="measured alone; all pictures unless given")
    parser.add_argument("--denoisers", nargs="+", choices=DENOISERS, default=list(DENOISERS))
    parser.add_argument("--components", type=int, default=100, help="of each mixture of windows")
    parser.add_argument("--windows", type=int, default=40_000, help="to which each mixture is fitted")
    parser.add_argument("--pieces", type=int, help="training pictures of each caption; as the recipe says unless given")
    parser.add_argument("--count", type=int, default=60, help="pictures held out, where there are more")
    parser.add_argument("--times", type=int, default=25, help="evenly over the cosine schedule")
    parser.add_argument("--out", required=True, help="safetensors file")
    given = parser.parse_args(arguments)

    recipe = Recipe.load(given.recipe)
    recipe = replace(recipe, pieces=given.pieces or recipe.pieces)
    known, new = pictures_of(recipe, given.data, given.caption, given.count)
    times = np.linspace(0, 1, given.times)
    measured = measure(known, new, given.denoisers, times, given.components, given.windows)
    energies = band_energies(new).mean(axis=1)
    held = {name: HeldOut(mean_alone(each.mean), energies, len(new)) for name, each in measured.items()}
    about = {"recipe": given.recipe.name, "caption": given.caption, "data": Path(given.data).name}
    about |= {"components": str(given.components), "windows": str(given.windows)}
    save(given.out, times, held, {"made by": "python -m reschrom.companion.reference.formulas", **about})


if __name__ == "__main__":
    main()
