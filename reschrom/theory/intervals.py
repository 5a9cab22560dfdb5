"""The Bayesian bootstrap over images, by streaming: how far a mean could be from what other images would have given.

Every image gets random weights, one for each replicate (Rubin, 1981). They come from a seed and the number of the image
alone, so all that is measured on the same images is reweighted alike, and no image has to be kept.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

REPLICATES = 200


class Interval(NamedTuple):
    """Where a measured quantity lies, with some confidence: two arrays of its shape."""

    lower: Float[np.ndarray, "*shape"]
    upper: Float[np.ndarray, "*shape"]


def interval_around(
    centre: Float[np.ndarray, "*shape"],
    replicates: Float[np.ndarray, "replicates *shape"],
    level: float = 0.95,
    simultaneous: bool = False,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Interval:
    """Return the interval around a measurement that holds a share `level` of its bootstrap replicates.

    Every interval of this package is made by this one rule. It is symmetric, and its width is counted in standard
    deviations of the replicates.

    simultaneous: whether that share of the replicates lies within the intervals of all numbers at once, or of each.
    bounds: least and greatest value that the quantity can have.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval is a probability between 0 and 1; got {level:g}")
    spread = replicates.std(axis=0, ddof=1)
    distance = np.abs(replicates - centre) / np.where(spread > 0, spread, np.inf)
    if simultaneous:
        distance = distance.max(axis=tuple(range(1, distance.ndim)))
    # The quantile that the next replicate stays below with this probability, however few replicates there are.
    half = np.quantile(distance, level, axis=0, method="weibull") * spread
    return Interval(*(np.clip(bound, *bounds) for bound in (centre - half, centre + half)))


@lru_cache(maxsize=2)  # a run of many timesteps weighs the same images at every one
def weights(seed: int, first_image: int, images: int) -> Float[np.ndarray, "replicates images"]:
    """Draw the bootstrap weights of consecutive images, independent and exponential with mean 1.

    Returns shape (REPLICATES, images); image i gets the same weights whatever images are drawn with it.
    """
    numbers = range(first_image, first_image + images)
    drawn = [np.random.default_rng([seed, image]).standard_exponential(REPLICATES) for image in numbers]
    return np.stack(drawn, axis=1)


class StreamingMean:
    """The mean over images of arrays of one shape, its standard error, and the same mean for every replicate.

    Memory is that of REPLICATES such arrays, whatever the number of images; how they are batched changes nothing but
    the rounding.

    seed: of the weights; means that are compared image by image share it.
    count: images so far.
    mean: an array of zeros before the first image.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.count = 0
        self.mean: Any = np.zeros(())
        self._squares: Any = 0.0  # of the distances from the mean
        self._weighted: Any = 0.0
        self._weights = np.zeros(REPLICATES)

    def add(self, values: Float[np.ndarray, "images *shape"], first_image: int) -> None:
        """Count one more batch of values, those of the images number `first_image`, `first_image + 1`, ..."""
        values = np.asarray(values, dtype=np.float64)
        mine = weights(self.seed, first_image, len(values))
        self._weighted = self._weighted + np.tensordot(mine, values, 1)
        self._weights += mine.sum(axis=1)
        total = self.count + len(values)
        mean = np.ascontiguousarray(np.moveaxis(values, 0, -1)).mean(axis=-1)  # NumPy sums the last axis most exactly
        distance = mean - self.mean
        self._squares = self._squares + ((values - mean) ** 2).sum(axis=0)
        self._squares = self._squares + distance**2 * self.count * len(values) / total
        self.mean = self.mean + distance * (len(values) / total)
        self.count = total

    @property
    def standard_error(self) -> Float[np.ndarray, "*shape"]:
        """The standard error of the mean, from two or more images."""
        return np.sqrt(self._squares / (self.count - 1) / self.count)

    @property
    def replicates(self) -> Float[np.ndarray, "replicates *shape"]:
        """The mean of every bootstrap replicate."""
        return self._weighted / self._weights.reshape(-1, *(1,) * self.mean.ndim)
