"""What an autoencoder loses of pictures that it has not seen, in each resolution band and to a classifier."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from reschrom.companion.judging.classifier import Classifier, Pictures, shares
from reschrom.theory.bands import band_energies, band_names
from reschrom.train.recipe import Recipe

_AT_ONCE = 128


def returned(vae: Any, pictures: Pictures) -> Pictures:
    """Encode pictures and decode them again, each from the mean of its latents."""
    import torch

    parts = []
    with torch.no_grad():
        for start in range(0, len(pictures), _AT_ONCE):
            latents = vae.encode(torch.from_numpy(_colours(pictures[start : start + _AT_ONCE]))).latent_dist.mean
            decoded = vae.decode(latents).sample.clamp(-1, 1).permute(0, 2, 3, 1).numpy()
            parts.append(np.round(127.5 * (decoded + 1)).astype(np.uint8))
    return np.concatenate(parts)


def lost(
    vae: Any, pictures: Pictures, captions: Int[np.ndarray, " pictures"], classifier: Classifier, recipe: Recipe
) -> dict[str, Any]:
    """Measure what pictures lose on their way through an autoencoder; captions count alike.

    captions: the number of the caption of each picture in `recipe.captions`.
    Returns the root-mean-square error of colours in [-1, 1]; in each resolution band the energy of the error, and that
    of what comes back, as shares of the energy that the pictures have there; and what the classifier still recognises.
    """
    again, weights = returned(vae, pictures), 1 / np.bincount(captions)[captions]
    error: Any = 0.0
    kept: Any = 0.0
    energy: Any = 0.0
    for start in range(0, len(pictures), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        before, after = _colours(pictures[part]), _colours(again[part])
        error += band_energies(after - before) @ weights[part]
        kept += band_energies(after) @ weights[part]
        energy += band_energies(before) @ weights[part]

    def in_bands(energies: np.ndarray) -> dict[str, float]:
        shares = zip(band_names(pictures.shape[1]), energies / energy, strict=True)
        return {name: round(float(share), 4) for name, share in shares}

    return {
        "root mean square error": round(float(np.sqrt(error.sum() / weights.sum() / before[0].size)), 4),
        "lost": in_bands(error),
        "energy": in_bands(kept),
        "recognised": shares(classifier.name(again), captions, recipe),
    }


def _colours(pictures: Pictures) -> Float[np.ndarray, "_ 3 size size"]:
    return np.moveaxis(pictures, -1, 1).astype(np.float32) / np.float32(127.5) - np.float32(1)
