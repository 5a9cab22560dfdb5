"""What theory needs to know of the pictures a model learns from: for each caption a mean picture and band covariances.

`python -m reschrom.companion.reference.statistics --data ZIP --out data/reference/open-mix-64.safetensors` measures
them on the pictures as training draws them, mirrored and moved by chance. No picture can be had back from them, so
they may ship."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from reschrom._files import opened_tensors, replacing
from reschrom.denoisers.gaussian import GaussianField, GaussianMixture
from reschrom.theory.bands import band_sizes, bands
from reschrom.train.latents import encoded, read_autoencoder
from reschrom.train.pictures import batch, gallery
from reschrom.train.recipe import Recipe

# Whom to thank for the photographs, and what they allow.
SOURCES = (
    "Caltech-101 (F.-F. Li, M. Andreeto, M. Ranzato, P. Perona; CaltechDATA 10.22002/D1.20086): CC BY 4.0",
    "Clothing dataset (A. Grigorev and contributors): CC0 1.0",
    "Fruits-360 (M. Oltean, H. Muresan): MIT",
)
_AT_ONCE = 100


@dataclass(frozen=True)
class Statistics:
    """The mean picture of every caption and, about it, the covariance of the channels in every band, finest first.

    Pictures are in [-1, 1], or they are latents as a denoiser sees them; coefficients are those of `band_spectrum`,
    which is the trace divided by the channels.
    """

    captions: tuple[str, ...]
    means: Float[np.ndarray, "captions channels side side"]
    covariances: Float[np.ndarray, "captions bands channels channels"]

    def field(self, caption: str, colour: bool = False) -> GaussianField:
        """Return the Gaussian field of one caption.

        colour: whether its channels are correlated as in the pictures, or independent and alike.
        """
        if caption not in self.captions:
            raise ValueError(f"there are statistics of the captions {', '.join(self.captions)}; got {caption!r}")
        index = self.captions.index(caption)
        return _field(self.covariances[index], self.means[index], colour)

    def mixture(self, colour: bool = False) -> GaussianMixture:
        """Return the mixture of the Gaussian fields of all captions, each as likely as any other."""
        return GaussianMixture([self.field(caption, colour) for caption in self.captions])

    def pooled(self, colour: bool = False) -> GaussianField:
        """Return the Gaussian field of all pictures together: within captions and between their means."""
        mean = self.means.mean(axis=0)
        between = _covariances(self.means - mean)
        return _field(self.covariances.mean(axis=0) + between, mean, colour)


def measure(
    pictures: UInt8[np.ndarray, "captions pieces size size 3"],
    captions: Sequence[str],
    count: int,
    seed: int = 0,
    vae: Any = None,
) -> Statistics:
    """Measure the statistics of training pictures, as `pictures.batch` draws them, or of their latents.

    The mean of pictures is exact: over all of them, mirrored and moved in all ways. The covariances, and the mean of
    latents, are those of `count` draws.
    """
    means, covariances = [], []
    for index in range(len(captions)):
        generator = np.random.default_rng([seed, index])
        drawn = [
            batch(pictures[index : index + 1], min(_AT_ONCE, count - start), generator)[0]
            for start in range(0, count, _AT_ONCE)
        ]
        if vae is None:
            means.append(_everywhere(np.moveaxis(pictures[index].mean(axis=0), -1, 0) / 127.5 - 1))
        else:
            drawn = [encoded(vae, each, generator, vae.device) for each in drawn]
            means.append(np.concatenate(drawn).mean(axis=0, dtype=np.float64))
        shares = [len(each) / count for each in drawn]
        covariances.append(
            sum(share * _covariances(each - means[-1]) for share, each in zip(shares, drawn, strict=True))
        )
    return Statistics(tuple(captions), np.stack(means), np.stack(covariances))


def save(path: str | Path, statistics: Statistics, provenance: dict[str, str]) -> None:
    """Write statistics as safetensors; means in half precision, which is finer than the 8 bits of the pictures."""
    from safetensors.numpy import save_file

    tensors = {"means": statistics.means.astype(np.float16), "covariances": statistics.covariances}
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"captions": json.dumps(statistics.captions), **provenance})


def load(path: str | Path) -> Statistics:
    """Read what `save` wrote. Raises ValueError, naming the file, for anything else."""
    with opened_tensors(path, "no statistics of pictures") as file:
        captions = json.loads(file.metadata()["captions"])
        means, covariances = (file.get_tensor(name).astype(np.float64) for name in ("means", "covariances"))
    return Statistics(tuple(captions), means, covariances)


def _field(covariances: np.ndarray, mean: np.ndarray, colour: bool) -> GaussianField:
    spectrum = covariances if colour else np.trace(covariances, axis1=1, axis2=2) / covariances.shape[-1]
    return GaussianField(spectrum, mean)


def _everywhere(picture: np.ndarray) -> np.ndarray:
    """Return the mean of a picture over all the ways in which training mirrors and moves it."""
    reach = 3
    padded = np.pad(picture, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    moved = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1,) * 2, axis=(1, 2)).mean(axis=(-2, -1))
    return (moved + moved[..., ::-1]) / 2


def _covariances(differences: np.ndarray) -> np.ndarray:
    """Return the mean product of every two channels in every band, shape (bands, channels, channels)."""
    sizes = band_sizes(differences.shape[-1])
    return np.stack(
        [
            4.0**m * np.einsum("ncij,ndij->cd", b, b, optimize=True) / (size * len(differences))
            for m, (b, size) in enumerate(zip(bands(differences), sizes, strict=True))
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of this module's documentation."""
    parser = argparse.ArgumentParser(prog="python -m reschrom.companion.reference.statistics", description=__doc__)
    parser.add_argument("--config", default="data/pocket-if-64.yaml", help="recipe of the model")
    parser.add_argument("--data", required=True, help="source of the photographs, as for training")
    parser.add_argument("--pictures", help="the pictures.npy of the training run; they are made again without it")
    parser.add_argument("--count", type=int, default=1000, help="pictures drawn for each caption")
    parser.add_argument("--out", required=True, help="safetensors file")
    given = parser.parse_args(arguments)
    recipe = Recipe.load(given.config)
    pictures = np.load(given.pictures, mmap_mode="r") if given.pictures else gallery(recipe, given.data)
    provenance = {
        "made by": "python -m reschrom.companion.reference.statistics",
        "data": Path(given.data).name,
        "sources": json.dumps(SOURCES),
        "recipe": json.dumps(recipe.as_dict()),
        "pictures drawn for each caption": str(given.count),
    }
    vae = read_autoencoder(recipe) if recipe.autoencoder else None
    save(given.out, measure(pictures, recipe.captions, given.count, vae=vae), provenance)


if __name__ == "__main__":
    main()
