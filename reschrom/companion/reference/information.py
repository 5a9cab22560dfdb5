"""What noised pictures that a text-to-image model has not seen tell of their captions: in nats, by several ways.

`python -m reschrom.companion.reference.information MODEL --data ZIP --statistics FILE --out FILE` measures it. Every
picture, or its latents where the model draws in latents, is noised along one path, from image to noise: each state is
the one before with more noise. So what the states of a path say of their caption adds up, and the model's own
conditional predictions give the probability of each."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from reschrom._arrays import Images
from reschrom._files import file_hashes, opened_tensors, replacing
from reschrom.denoisers.gaussian import GaussianMixture
from reschrom.denoisers.network import Denoiser
from reschrom.theory.bands import band_energies
from reschrom.theory.information import Information
from reschrom.theory.intervals import StreamingMean

Values = Float[np.ndarray, "..."]


class Told(NamedTuple):
    """What each picture's states tell, at the middle of every step of log SNR. Nats per unit of log SNR, by band.

    labels: the caption of each picture.
    by_guidance, by_loss: half the energy of guidance, and half of what the caption takes away from the loss of the
        noise prediction, shape (pictures, bands, steps).
    exact: half the energy of the exact guidance of a mixture at the same states.
    inconsistent: half the energy of the unconditional prediction less the mean of the conditional ones, weighted by
        their probabilities.
    chances: of every caption, by the model's conditional predictions along the path, shape (pictures, steps, captions).
    mixture_chances: the same of the mixture.
    """

    labels: Values
    by_guidance: Values
    by_loss: Values
    exact: Values
    inconsistent: Values
    chances: Values
    mixture_chances: Values


def tell(
    given: Denoiser,
    free: Denoiser,
    mixture: GaussianMixture,
    images: Images,
    labels: Int[np.ndarray, " pictures"],
    log_snr: Float[np.ndarray, " steps"],
    generator: np.random.Generator,
) -> Told:
    """Measure pictures one by one.

    given: the network under every caption at once, one for each image of a batch.
    free: without a caption.
    log_snr: rising, where the pictures are noised.
    """
    measured = [
        _one(given, free, mixture, x_0, int(k), log_snr, generator) for x_0, k in zip(images, labels, strict=True)
    ]
    return Told(labels, *(np.stack(each) for each in zip(*measured, strict=True)))


def _one(
    given: Any, free: Any, mixture: GaussianMixture, x_0: Values, label: int, log_snr: Values, generator: Any
) -> tuple[Values, ...]:
    count = len(mixture.fields)
    sigmas = np.exp(-log_snr / 2)  # of the noise on a picture of unit intensity
    # From image to noise each state is the one before with more noise.
    added = np.sqrt(np.diff(np.square(sigmas[::-1]), prepend=0.0))[::-1]
    states = (
        x_0
        + np.cumsum((added[:, None, None, None] * generator.standard_normal((len(sigmas), *x_0.shape)))[::-1], 0)[::-1]
    )
    kept: list[list[Values]] = [[] for _ in range(6)]
    evidence, before = np.zeros(count), None
    for sigma, state in zip(sigmas, states, strict=True):
        alpha = 1 / (1 + sigma**2)
        if before is not None:
            evidence = evidence + _evidence(*before, sigma, state)
        own = np.exp(evidence - np.logaddexp.reduce(evidence))
        x_t = np.sqrt(alpha) * state[None]
        noise = (state - x_0)[None] / sigma
        epsilon = _noise(given, np.repeat(x_t, count, axis=0), alpha)
        base = _noise(free, x_t, alpha)
        term, error = epsilon[label][None] - base, noise - epsilon[label][None]
        mean = np.tensordot(own, epsilon, 1)[None]
        loss = band_energies(error + term) - band_energies(error)
        terms = term, None, mixture.guidance(x_t, alpha, label), base - mean
        for place, each in enumerate(terms):
            kept[place].append((loss if each is None else band_energies(each))[:, 0] / 2)
        kept[4].append(own)
        kept[5].append(mixture.responsibilities(x_t, alpha)[:, 0])
        before = sigma, state, state[None] - sigma * epsilon  # what each caption expects of the picture
    return (*(np.stack(each, axis=1) for each in kept[:4]), *(np.stack(each) for each in kept[4:]))


def _evidence(sigma: float, state: Values, expected: Values, less: float, after: Values) -> Values:
    """Return the log probability of a step to less noise under every expectation, up to what all share.

    It is Gaussian if the expectation does not move within the step, so for small steps.
    """
    kept = less**2 / sigma**2
    means = expected + kept * (state - expected)
    return -np.square(after - means).sum(axis=(1, 2, 3)) / (2 * less**2 * (1 - kept))


def _noise(denoise: Denoiser, x_t: Values, alpha: float) -> Values:
    return denoise.noise(denoise.output(x_t, alpha), x_t, alpha)


class Chosen(NamedTuple):
    """Pictures that no model is trained on, as a network sees them, and the number of the caption of each."""

    images: Images
    labels: Int[np.ndarray, " images"]


def chosen(recipe: Any, pipeline: Any, source: str, each: int, generator: np.random.Generator) -> Chosen:
    """Choose pictures that no model is trained on, `each` of every caption, as the network of the pipeline sees them.

    recipe, source: of the training.
    Returns images in [-1, 1], or their latents where the pipeline has an autoencoder, and the caption of each. Raises
    ValueError where a caption has fewer pictures.
    """
    from reschrom.companion.judging.evaluation import held_out
    from reschrom.train.latents import encoded

    pictures, numbers = held_out(recipe, source)
    fewest = int(np.bincount(numbers).min())
    if not 1 <= each <= fewest:
        raise ValueError(f"between 1 and {fewest} pictures of each caption are held out; got {each}")
    labels = np.repeat(np.arange(len(recipe.captions)), each)
    places = [generator.permutation(np.flatnonzero(numbers == label))[:each] for label in range(len(recipe.captions))]
    images = np.moveaxis(pictures[np.concatenate(places)], -1, 1) / 127.5 - 1
    if hasattr(pipeline, "vae"):
        images = encoded(pipeline.vae, images.astype(np.float32), generator, pipeline.device).astype(np.float64)
    return Chosen(images, labels)


def added_up(edges: Values, rates: Values) -> Information:
    """Return what rates of several pictures, such as those of `Told`, add up to, with its intervals."""
    mean = StreamingMean()
    mean.add(rates, 0)
    return Information(mean.mean, edges, 2 ** (rates.shape[1] - 1), mean.replicates, mean.count)


def save(path: str | Path, log_snr: Values, told: Told, provenance: Mapping[str, Any]) -> None:
    """Write what was measured as safetensors: energies in single precision, probabilities in half."""
    from safetensors.numpy import save_file

    half = ("labels", "chances", "mixture_chances")
    kinds = {name: np.float16 if name in half else np.float32 for name in told._fields}
    tensors = {name: value.astype(kinds[name]) for name, value in told._asdict().items()}
    with replacing(path) as temporary:
        save_file({"log_snr": log_snr, **tensors}, temporary, {"about": json.dumps(dict(provenance))})


def load(path: str | Path) -> tuple[Values, Told]:
    """Read the edges of the steps, and what was measured. Raises ValueError, naming the file, where it is not that."""
    with opened_tensors(path, "no information") as file:
        told = Told(*(file.get_tensor(name).astype(np.float64) for name in Told._fields))
        return file.get_tensor("log_snr").astype(np.float64), told


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of this module's documentation."""
    # Here, because pages read what was measured and need none of these.
    from reschrom.companion.reference import statistics
    from reschrom.pipelines.adapter import network_denoiser
    from reschrom.pipelines.load import load_pipeline
    from reschrom.train.recipe import Recipe

    parser = argparse.ArgumentParser(prog="python -m reschrom.companion.reference.information", description=__doc__)
    parser.add_argument("model", type=Path, help="folder of the model")
    parser.add_argument("--config", default="data/pocket-if-64.yaml", help="recipe of the model")
    parser.add_argument("--data", required=True, help="source of the photographs, as for training")
    parser.add_argument("--statistics", required=True, help="safetensors file of the captions' training pictures")
    parser.add_argument("--each", type=int, default=2, help="pictures of each caption")
    parser.add_argument("--steps", type=int, default=32, help="steps of log SNR")
    parser.add_argument("--ends", type=float, nargs=2, default=(-9.0, 7.0), help="of log SNR, in the schedule's range")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of pictures and of the noise")
    parser.add_argument("--out", required=True, help="safetensors file")
    given = parser.parse_args(arguments)

    recipe, pipeline = Recipe.load(given.config), load_pipeline(given.model)
    known = statistics.load(given.statistics)
    if list(known.captions) != recipe.captions:
        raise ValueError(f"{given.statistics} knows other captions than {given.config}")
    generator = np.random.default_rng(given.seed)
    images, labels = chosen(recipe, pipeline, given.data, given.each, generator)
    edges = np.linspace(given.ends[0], given.ends[1], given.steps + 1)
    told = tell(
        network_denoiser(pipeline, recipe.captions, batch=len(recipe.captions)),
        network_denoiser(pipeline),
        known.mixture(colour=True),
        images,
        labels,
        (edges[1:] + edges[:-1]) / 2,
        generator,
    )
    provenance = {"model": given.model.name, "weights": file_hashes(given.model), "seed": given.seed}
    save(given.out, edges, told, {"made by": "python -m reschrom.companion.reference.information", **provenance})


if __name__ == "__main__":
    main()
