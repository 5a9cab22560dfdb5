"""What comparisons need to know of the photographs behind the models: quantiles, spectra, noise.

`python -m reschrom.companion.reference.real_images --config data/pocket-direct-64.yaml --data ZIP --out
data/reference/fruit-bands.safetensors` measures the photographs that models learn from, and those held out. The
quantiles are those of random mixtures of pixels, each sorted on its own: no photograph can be had back from them.
Of a model that reads captions it is the photographs among its pictures, `data/reference/t2i-bands.safetensors`.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from reschrom._files import opened_tensors, replacing
from reschrom.companion.judging.distances import BandQuantiles, noise_levels, pairwise_distance
from reschrom.companion.reference.statistics import SOURCES
from reschrom.images.pictures import photographs
from reschrom.theory.bands import band_spectrum
from reschrom.train.pictures import batch, gallery
from reschrom.train.recipe import Recipe

SPLITS = ("held out", "training")
_TENSORS = ("quantiles", "spectrum", "noise", "pairwise")
_PAIRED = 500


@dataclass(frozen=True)
class RealImages:
    """What is known of a set of real images; bands are finest first.

    spectrum: of `band_spectrum`; noise: mean of `noise_levels`; pairwise: `pairwise_distance`.
    """

    quantiles: BandQuantiles
    spectrum: Float[np.ndarray, " bands"]
    noise: Float[np.ndarray, " bands-1"]
    pairwise: float

    @classmethod
    def of(cls, images: Float[np.ndarray, "images channels side side"]) -> "RealImages":
        """Measure a set of images in [-1, 1]."""
        return cls(
            BandQuantiles.of(images),
            band_spectrum(images.astype(np.float64)),
            noise_levels(images).mean(axis=1),
            pairwise_distance(images[:_PAIRED]),
        )


def measure(recipe: Recipe, source: str, count: int, seed: int = 0) -> dict[str, RealImages]:
    """Measure the photographs of a recipe, held out and for training, before they are halved.

    `count` are drawn of each, all contents alike, mirrored and moved by chance, as for training.
    """
    held_out = [photographs(source, content, "test", recipe.picture_size) for content in recipe.contents]
    most = max(map(len, held_out))
    cycled = np.stack([np.stack([pictures[k % len(pictures)] for k in range(most)]) for pictures in held_out])
    return {
        name: RealImages.of(batch(pictures, count, np.random.default_rng([seed, index]))[0])
        for index, (name, pictures) in enumerate(zip(SPLITS, (cycled, gallery(recipe, source)), strict=True))
    }


def save(path: str | Path, known: dict[str, RealImages], provenance: dict[str, Any]) -> None:
    """Write what is known of sets of images as safetensors, quantiles in single precision."""
    from safetensors.numpy import save_file

    tensors: dict[str, np.ndarray] = {}
    for name, real in known.items():
        values = (real.quantiles.quantiles.astype(np.float32), real.spectrum, real.noise, np.array([real.pairwise]))
        # safetensors writes memory as it lies, whatever the strides say.
        tensors |= {f"{name}.{key}": np.ascontiguousarray(v) for key, v in zip(_TENSORS, values, strict=True)}
    sides = {name: [real.quantiles.side, real.quantiles.seed] for name, real in known.items()}
    about = json.dumps({"sets": sides, **provenance})  # one entry: several are written in any order
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"about": about})


def load(path: str | Path) -> dict[str, RealImages]:
    """Read what `save` wrote. Raises ValueError, naming the file, for anything else."""
    known = {}
    with opened_tensors(path, "nothing about real images") as file:
        for name, (side, seed) in json.loads(file.metadata()["about"])["sets"].items():
            quantiles, spectrum, noise, pairwise = (file.get_tensor(f"{name}.{key}") for key in _TENSORS)
            along = BandQuantiles(quantiles.astype(np.float64), side, seed)
            known[name] = RealImages(along, spectrum, noise, float(pairwise[0]))
    return known


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of this module's documentation."""
    parser = argparse.ArgumentParser(prog="python -m reschrom.companion.reference.real_images", description=__doc__)
    parser.add_argument("--config", default="data/pocket-direct-64.yaml", help="recipe of a model of these photographs")
    parser.add_argument("--data", required=True, help="source of the photographs, as for training")
    parser.add_argument("--count", type=int, default=2400, help="pictures drawn of each set")
    parser.add_argument("--out", required=True, help="safetensors file")
    given = parser.parse_args(arguments)
    captioned = Recipe.load(given.config).kind == "t2i"
    # Photographs, whatever else the model draws.
    recipe = Recipe.load(given.config, kind="image", consistency=0.0, autoencoder="")
    provenance = {
        "made by": "python -m reschrom.companion.reference.real_images",
        "data": Path(given.data).name,
        "sources": [source for source in SOURCES if captioned or "Fruits" in source],
        "contents": recipe.contents,
        "pictures drawn of each set": given.count,
    }
    save(given.out, measure(recipe, given.data, given.count), provenance)


if __name__ == "__main__":
    main()
