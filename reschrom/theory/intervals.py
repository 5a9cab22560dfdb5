"""The Bayesian bootstrap over images, by streaming: how far a mean could be from what other images would have given.

Every image gets random weights, one for each replicate (Rubin, 1981). They come from a seed and the number of the image
alone, so all that is measured on the same images is reweighted alike, and no image has to be kept. SciPy's bootstrap
needs them all, and of 16 images its corrected interval (BCa) covers an energy of one number in 0.88 of cases for 0.95.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from reschrom._arrays import finite, whole_number
from reschrom._reading import numbers, whole

REPLICATES = 200
# Numbers of images: (first, after the last) of each stretch.
Ranges = tuple[tuple[int, int], ...]


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
    images: int | None = None,
) -> Interval:
    """Return the interval around a measurement that covers what it measures with probability `level`.

    Every interval of this package is made by this one rule. It reaches as far as the replicates do, in their standard
    deviations, and farther on the side of their longer tail: energies are skewed, and few images show too little of
    their tail. `benchmarks/coverage.py` measures how often it covers: too rarely where much of the mean comes from
    images so rare that none may have been measured.

    simultaneous: whether the intervals of all numbers cover at once with that probability, or each does. A number that
        is NaN in some replicate has no interval (NaN), and the others are those without it.
    bounds: least and greatest value that the quantity can have.
    images: how many were measured; None for so many that their number does not matter. One alone tells nothing of
        others, so the interval is all that lies within the bounds.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval is a probability between 0 and 1; got {level:g}")
    if len(replicates) < 2:
        raise ValueError(f"an interval needs two or more replicates; got {len(replicates)}")
    if images is not None:
        whole_number("the number of images", images, least=1)
    spread = replicates.std(axis=0, ddof=1)
    deviation = (replicates - centre) / np.where(spread > 0, spread, np.inf)
    farthest = np.abs(deviation)
    if simultaneous:
        complete = ~np.isnan(farthest).any(axis=0)
        farthest = np.where(complete, farthest, 0.0).max(axis=tuple(range(1, farthest.ndim)))
    # The quantile that the next replicate stays below with this probability, however few replicates there are.
    reach = np.quantile(farthest, level, axis=0, method="weibull")
    if images == 1:
        lower = upper = np.where(np.isnan(spread), np.nan, np.inf)
    else:
        middle = reach if images is None else _reach_of_few(reach, images)
        lean = _lean(deviation, reach, images)
        lower, upper = (spread * (middle + np.maximum(side, 0.0)) for side in (-lean, lean))
    return Interval(*(np.clip(bound, *bounds) for bound in (centre - lower, centre + upper)))


def _lean(deviation: Float[np.ndarray, "replicates *shape"], reach: Any, images: int | None) -> Any:
    """Return how much farther an interval reaches upwards, in deviations of the replicates; negative: downwards.

    Over its own standard error a mean is skewed the other way than it is: at a reach z by (2 z^2 + 1) / 6 of its
    skewness (Hall, 1988), so the truth is more often on the side of the longer tail. The other side is not shortened.

    Exponential weights double the skewness of a mean, hence 1 / 2. Few images show too little of it, hence 16 / images,
    with which `benchmarks/coverage.py` finds 16 images of one channel enough. The formula is the second term of a
    series, and tells nothing where it exceeds the first, the reach.
    """
    skewness = ((deviation - deviation.mean(axis=0)) ** 3).mean(axis=0)
    part = 1 / 2 if images is None else 1 / 2 + 16 / images
    return np.clip(part * skewness * (2 * np.square(reach) + 1) / 6, -reach, reach)


def _reach_of_few(reach: Any, images: int) -> Any:
    """Return as how many standard deviations of the replicates those of a normal distribution count for few images.

    Exponential weights spread a mean by sqrt((images - 1) / (images + 1)) of its standard error (Rubin, 1981). That
    error is known from the images alone, so Student's t takes the place of the normal distribution.
    """
    from scipy.special import ndtr, stdtrit

    return -stdtrit(images - 1, ndtr(-reach)) * np.sqrt((images + 1) / (images - 1))


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

    Memory is that of REPLICATES such arrays, whatever the number of images; how they are batched, or measured apart and
    merged, changes nothing but the rounding.

    seed: of the weights; means that are compared image by image share it.
    count: images so far.
    numbers: which images these are, as ranges (first, after the last) that rise and do not touch.
    mean: an array of zeros before the first image.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = whole_number("the seed of the bootstrap", seed)
        self.count = 0
        self.numbers: Ranges = ()
        self.mean: Any = np.zeros(())
        self._squares: Any = 0.0  # of the distances from the mean
        self._weighted: Any = 0.0
        self._weights = np.zeros(REPLICATES)

    def add(self, values: Float[np.ndarray, "images *shape"], first_image: int) -> None:
        """Count one more batch of values, those of the images number `first_image`, `first_image + 1`, ..."""
        values = np.asarray(values, dtype=np.float64)
        mine = weights(self.seed, first_image, len(values))
        batch = StreamingMean(self.seed)
        batch.count, batch.numbers = len(values), ((first_image, first_image + len(values)),)
        # NumPy sums the last axis most exactly.
        batch.mean = np.ascontiguousarray(np.moveaxis(values, 0, -1)).mean(axis=-1)
        batch._squares = ((values - batch.mean) ** 2).sum(axis=0)
        batch._weighted, batch._weights = np.tensordot(mine, values, 1), mine.sum(axis=1)
        self._join(batch)

    @classmethod
    def merge(cls, means: Sequence["StreamingMean"]) -> "StreamingMean":
        """Return the mean over the images of all these means. Raises ValueError for images that two of them hold."""
        merged = cls(means[0].seed)
        for mean in sorted(means, key=lambda mean: mean.numbers):
            if mean.seed != merged.seed:
                raise ValueError(
                    f"means over images merge with one seed of their weights; got {merged.seed}, {mean.seed}"
                )
            merged._join(mean)
        return merged

    def _join(self, other: "StreamingMean") -> None:
        self.numbers = joined(self.numbers, other.numbers)
        total, distance = self.count + other.count, other.mean - self.mean
        self._weighted = self._weighted + other._weighted
        self._weights = self._weights + other._weights
        self._squares = self._squares + other._squares
        self._squares = self._squares + distance**2 * self.count * other.count / total
        self.mean = self.mean + distance * (other.count / total)
        self.count = total

    def __getitem__(self, part: Any) -> "StreamingMean":
        """Return the mean of a part of every array, as NumPy cuts it out."""
        cut = StreamingMean(self.seed)
        cut.count, cut.numbers, cut._weights = self.count, self.numbers, self._weights
        cut.mean, cut._squares = self.mean[part], self._squares[part]
        cut._weighted = self._weighted[(slice(None), *(part if isinstance(part, tuple) else (part,)))]
        return cut

    def scaled(self, factor: Float[np.ndarray, "*shape"]) -> "StreamingMean":
        """Return the mean of arrays that are all multiplied by a factor."""
        whole = self[...]
        whole.mean, whole._squares = self.mean * factor, self._squares * np.square(factor)
        whole._weighted = self._weighted * factor
        return whole

    def state(self) -> dict[str, np.ndarray]:
        """Return all that the mean holds, as arrays to keep or to send."""
        return {
            "seed": np.array(self.seed),
            "numbers": np.array(self.numbers, dtype=np.int64).reshape(-1, 2),
            "mean": np.asarray(self.mean),
            "squares": np.asarray(self._squares),
            "weighted": np.asarray(self._weighted),
            "weights": self._weights,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "StreamingMean":
        """Return the mean whose `state` this is. Raises ValueError for arrays that do not belong together."""
        mean = cls(whole(state["seed"], "the seed of the bootstrap"))
        mean.numbers = ranges_in(state["numbers"])
        mean.count = sum(last - first for first, last in mean.numbers)
        names = ("mean", "squares", "weighted", "weights")
        mean.mean, mean._squares, mean._weighted, mean._weights = (
            numbers(state[name], "sums over images are numbers") for name in names
        )
        finite("sums over images", mean.mean, mean._squares, mean._weighted, mean._weights)
        shape = mean.mean.shape
        if (mean._squares.shape, mean._weighted.shape, mean._weights.shape) != (
            shape,
            (REPLICATES, *shape),
            (REPLICATES,),
        ):
            raise ValueError(f"sums over images have one shape in all; got {shape} and {mean._weighted.shape}")
        if not mean.count or np.any(mean._squares < 0) or not np.all(mean._weights > 0):
            raise ValueError(
                "sums over images are those of one or more, with squares and weights that are not negative"
            )
        with np.errstate(over="ignore"):
            finite("the means of replicates", mean.replicates)
        return mean

    @property
    def standard_error(self) -> Float[np.ndarray, "*shape"]:
        """The standard error of the mean, from two or more images."""
        return np.sqrt(self._squares / (self.count - 1) / self.count)

    @property
    def replicates(self) -> Float[np.ndarray, "replicates *shape"]:
        """The mean of every bootstrap replicate."""
        return self._weighted / self._weights.reshape(-1, *(1,) * self.mean.ndim)


def ranges_in(value: Any) -> Ranges:
    """Return ranges of image numbers from a file, pairs of whole numbers. Raises ValueError for anything else."""
    pairs = np.asarray(value)
    if not pairs.size:
        return ()
    if pairs.dtype.kind not in "iu" or pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"the numbers of images come in pairs of whole numbers; got {pairs.dtype} {pairs.shape}")
    ranges: list[tuple[int, int]] = [(first, last) for first, last in pairs.tolist()]
    if not all(0 <= first < last for first, last in ranges):
        raise ValueError("the numbers of images are 0 or more, and rise from the first to the one after the last")
    return joined((), tuple(ranges))


def joined(some: Ranges, others: Ranges) -> Ranges:
    """Return ranges of image numbers together, those that touch as one. Raises ValueError where two share an image."""
    whole: list[tuple[int, int]] = []
    for first, last in sorted((*some, *others)):
        if whole and first < whole[-1][1]:
            raise ValueError(f"an image is measured once; image {first} comes twice (the first image is number 0)")
        if whole and first == whole[-1][1]:
            whole[-1] = whole[-1][0], last
        else:
            whole.append((first, last))
    return tuple(whole)
