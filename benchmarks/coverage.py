"""How often the 95 % intervals cover the truth: `python benchmarks/coverage.py --out JSON`, about two hours.

Each repetition draws other images of a known distribution, measures it as a user does, and looks whether the interval
holds what it should: closed forms for the losses of fields, and otherwise the same measurement of very many images.
Printed for every band: the least and the greatest share of repetitions over the times. All at once: simultaneous.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from reschrom import (
    Chromatogram,
    GaussianField,
    GaussianMixture,
    Schedule,
    band_losses,
    rates_from_losses,
    rates_from_sampling,
)
from reschrom._arrays import Images
from reschrom._files import write_json
from reschrom.companion.reference import statistics
from reschrom.denoisers._images import Posterior
from reschrom.theory.bands import downsample
from reschrom.theory.intervals import Interval, interval_around
from reschrom.theory.shares import survival

SCHEDULE = Schedule.cosine()
TIMES, EDGES, EDITED = np.array([0.3, 0.6, 0.85]), np.linspace(0.05, 0.95, 7), 0.6
IMAGES, MANY, NOISES = (16, 40, 100), 40_000, 8
MORE = f", {NOISES} noises"  # of what is measured with so many noises to an image
CLASSES = [GaussianField([1.0, 4.0, 16.0], -4.0, 1), GaussianField([0.3, 1.0, 2.0], 2.0, 1)]
CAPTIONS, HALVED = "data/reference/open-mix-64.safetensors", 3  # to 8x8 pixels


def of_captions() -> GaussianMixture:
    """Return a mixture of Gaussian fields, each with the mean picture and the colours of one caption's pictures."""
    known = statistics.load(CAPTIONS)
    covariances = known.covariances[:, HALVED:] / 4**HALVED  # of averages
    return statistics.Statistics(known.captions, downsample(known.means, HALVED), covariances).mixture(colour=True)


# Of one channel, the 1x1 band is one number in each image: an energy can hardly have a longer tail.
MODELS: dict[str, Posterior] = {
    "field, 3 channels": GaussianField([0.1, 1.0, 4.0, 16.0]),
    "field, 1 channel": GaussianField([1.0, 4.0, 16.0], channels=1),
    "captions, 3 channels": of_captions(),
    "mixture, 1 channel": GaussianMixture(CLASSES, [0.3, 0.7]),
}
# What is measured, the interval of each of its numbers, and those of all at once where the package has them.
Measured = tuple[np.ndarray, Interval, Interval | None]


def measured(model: Posterior, images: int, generator: np.random.Generator) -> Iterator[tuple[str, Measured]]:
    """Yield what is measured of some images, by name: shape (bands,) or (bands, times)."""
    x = model.sample(images, generator)
    yield from of_losses(model, x, generator, 1)
    start = generator.standard_normal(x.shape)
    growth = rates_from_sampling(model.denoise, start, SCHEDULE, EDGES, 2, "growth")
    yield from of_rates("growth", growth, images)
    alpha = float(SCHEDULE.alpha(EDITED))
    x_t = np.sqrt(alpha) * x + np.sqrt(1 - alpha) * generator.standard_normal(x.shape)
    kept = survival(x, model.denoise(x_t, alpha))
    yield "survival", (kept.share, kept.interval(), None)
    if images < MANY:  # more noises bring a measurement nearer to the same truth
        for key, each in of_losses(model, x, generator, NOISES):
            yield key + MORE, each


def of_losses(
    model: Posterior, x: Images, generator: np.random.Generator, noises: int
) -> Iterator[tuple[str, Measured]]:
    """Yield the losses on images, and the rates that follow from them."""
    loss = band_losses(model.denoise, x, SCHEDULE, TIMES, generator, noises)
    yield "loss", (loss.mean, loss.interval(), loss.interval(simultaneous=True))
    rates = rates_from_losses(model.denoise, x, SCHEDULE, EDGES, generator, "loss rates", noises)
    yield from of_rates("loss rates", rates, len(x))


def of_rates(name: str, each: Chromatogram, images: int) -> Iterator[tuple[str, Measured]]:
    """Yield rates, shares and centroids."""
    given = (each.rates, each.replicates)
    both = (interval_around(*given, simultaneous=at_once, images=images) for at_once in (False, True))
    yield name, (each.rates, *both)
    yield f"{name}, shares", (each.shares, each.interval(), each.interval(simultaneous=True))
    yield f"{name}, centroids", (each.centroids(), each.centroid_interval(), None)


def covers(interval: Interval, truth: np.ndarray) -> np.ndarray:
    """Tell which intervals hold the truth, up to rounding: the centroids of a Gaussian field do not vary at all."""
    return (interval.lower <= truth + 1e-9) & (truth - 1e-9 <= interval.upper)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=500)
    parser.add_argument("--out", default="", help="JSON file for what is measured")
    given = parser.parse_args()
    found: dict[str, Any] = {name: defaultdict(dict) for name in MODELS}
    print("| distribution | quantity | images | each band, finest first | all at once |")
    print("| --- | --- | --- | --- | --- |")
    for name, model in MODELS.items():
        truth = {key: known for key, (known, _, _) in measured(model, MANY, np.random.default_rng(0))}
        if isinstance(model, GaussianField):
            truth["loss"] = model.losses(SCHEDULE.alpha(TIMES))
        for images in IMAGES:
            each, whole = defaultdict(list), defaultdict(list)
            for repetition in range(given.repetitions):
                for key, (_, interval, at_once) in measured(
                    model, images, np.random.default_rng([1, images, repetition])
                ):
                    known = truth[key.removesuffix(MORE)]
                    each[key].append(covers(interval, known))
                    if at_once is not None:
                        whole[key].append(covers(at_once, known).all())
            for key, covered in each.items():
                by_band = np.mean(covered, axis=0)
                by_band = by_band.reshape(len(by_band), -1)
                ends = [[float(band.min()), float(band.max())] for band in by_band]
                together = float(np.mean(whole[key])) if key in whole else None
                found[name][key][str(images)] = {"bands": ends, "all at once": together}
                told = ", ".join(" to ".join(sorted({f"{end:.3f}" for end in band})) for band in ends)
                print(
                    f"| {name} | {key} | {images} | {told} | {'' if together is None else f'{together:.3f}'} |",
                    flush=True,
                )
    if given.out:
        about = {"made by": "python benchmarks/coverage.py", "level": 0.95, "repetitions": given.repetitions}
        write_json(given.out, {**about, "covered": found})


if __name__ == "__main__":
    main()
