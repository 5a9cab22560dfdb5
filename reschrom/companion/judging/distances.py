"""How far generated images are from real ones, resolution by resolution: sliced Wasserstein distances.

Of the real images only quantiles along random directions are needed, so they can ship where the images cannot.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from reschrom._arrays import finite
from reschrom.theory.bands import bands, depth
from reschrom.theory.intervals import Interval, interval_around, weights

Images = Float[np.ndarray, "images channels side side"]
# Of how many draws the distance is averaged that chance alone leaves.
_DRAWS = 10
# Median of the absolute value of a unit normal.
_MEDIAN = 0.6744897501960817


def projections(images: Images, directions: int = 32, seed: int = 0) -> Float[np.ndarray, "bands images directions"]:
    """Project every resolution band of images on random directions: finest band first.

    images: shape (N, C, S, S), S a power of two. A band is taken at its own resolution, and a direction has length 1:
    a projection is about as large as one pixel of the band.
    directions, seed: the directions of a band depend on these, on its size and on nothing else.
    """
    if images.ndim != 4 or images.shape[-1] != images.shape[-2] or len(images) < 2:
        raise ValueError(f"distances need two or more square images, shape (N, C, S, S); got {images.shape}")
    if directions < 1:
        raise ValueError(f"images are projected on one or more directions; got {directions}")
    finite("images", images)
    projected = []
    for band in bands(images, depth(images.shape[-1])):
        flat = band.reshape(len(band), -1).astype(np.float64)
        random = np.random.default_rng([seed, flat.shape[1]]).standard_normal((flat.shape[1], directions))
        projected.append(flat @ (random / np.linalg.norm(random, axis=0)))
    return np.stack(projected)


@dataclass(frozen=True)
class BandQuantiles:
    """What distances need to know of real images: quantiles of their `projections`, from which none can be had back.

    quantiles: in the middles of equal parts of the images, in rising order.
    side, seed: pixels along one side of the images, and of the directions.
    """

    quantiles: Float[np.ndarray, "bands quantiles directions"]
    side: int
    seed: int = 0

    @classmethod
    def of(cls, images: Images, count: int = 100, directions: int = 32, seed: int = 0) -> "BandQuantiles":
        """Measure quantiles of images; as many as there are images describe the projections in full."""
        shares = (np.arange(count) + 0.5) / count
        along = np.quantile(projections(images, directions, seed), shares, axis=1, method="hazen")
        return cls(along.swapaxes(0, 1), images.shape[-1], seed)

    def distance(self, other: "BandQuantiles") -> Float[np.ndarray, " bands"]:
        """Return the sliced Wasserstein distance of every band between two sets of real images."""
        if (self.side, self.seed) != (other.side, other.seed) or self.quantiles.shape[2] != other.quantiles.shape[2]:
            raise ValueError(
                f"both sets are projected on the same directions; got {self.quantiles.shape[2]} of seed {self.seed} "
                f"for {self.side} pixels, and {other.quantiles.shape[2]} of seed {other.seed} for {other.side}"
            )
        return np.sqrt(_squared(self.quantiles, other.quantiles))

    def chance(self, images: int, seed: int = 0) -> Float[np.ndarray, " bands"]:
        """Return the distance to be expected of so few images that are drawn from the real ones."""
        generator, (count, parts, directions) = np.random.default_rng(seed), self.quantiles.shape
        chosen = generator.integers(parts, size=(_DRAWS, count, images, directions))
        drawn = [_squared(np.take_along_axis(self.quantiles, each, axis=1), self.quantiles) for each in chosen]
        return np.sqrt(np.mean(drawn, axis=0))


@dataclass(frozen=True)
class BandDistances:
    """The distance of generated images from real ones in every band, finest first, in pixel values.

    replicates: the same for every replicate of the Bayesian bootstrap over the generated images. A replicate weighs the
        influence that each image has, which is known from the distance without it.
    images: how many were generated; None where that is not known.
    """

    distance: Float[np.ndarray, " bands"]
    replicates: Float[np.ndarray, "replicates bands"]
    images: int | None = None

    def interval(self, level: float = 0.95) -> Interval:
        """Return the bootstrap interval of every band: other images of the generator, the same real ones."""
        return interval_around(self.distance, self.replicates, level, bounds=(0.0, np.inf), images=self.images)

    def mean_interval(self) -> Interval:
        """Return the bootstrap interval, 95%, of the mean distance over all bands."""
        mean, again = np.asarray(self.distance.mean()), self.replicates.mean(axis=1)
        return interval_around(mean, again, bounds=(0.0, np.inf), images=self.images)


def band_distances(
    images: Images, real: BandQuantiles, seed: int = 0, groups: Int[np.ndarray, " images"] | None = None
) -> BandDistances:
    """Return the sliced Wasserstein distance between generated and real images in every resolution band.

    The root mean square, over random directions, of the distance by which sorted projections differ; 0 for equal
    distributions. Of few images it is never quite 0: see `BandQuantiles.chance`.

    images: shape (N, C, S, S) of the size of the real ones.
    seed: of the bootstrap. Sets of as many images that share it are reweighted alike, image by image.
    groups: the number of the group of each image, such as its caption, 0, 1, ...: a group is reweighted as a whole,
        because its images are not independent. None: each image by itself.
    """
    if images.shape[-1] != real.side:
        raise ValueError(f"the real images are {real.side} pixels wide; got {images.shape[-1]}")
    along = projections(images, real.quantiles.shape[2], real.seed)
    squared, count = _squared(along, real.quantiles), len(images)
    without = np.stack([_squared(np.delete(along, index, axis=1), real.quantiles) for index in range(count)])
    influence = (count - 1) * (without.mean(axis=0) - without)
    mine = weights(seed, 0, count) if groups is None else weights(seed, 0, int(groups.max()) + 1)[:, groups]
    replicates = squared + mine @ influence / mine.sum(axis=1, keepdims=True)
    return BandDistances(np.sqrt(squared), np.sqrt(np.maximum(replicates, 0)), count)


def noise_levels(images: Images) -> Float[np.ndarray, "bands images"]:
    """Estimate, from every resolution band but the last, the standard deviation of white noise in images.

    The median size of the coefficients of a band, divided by that of unit white noise (Donoho, Johnstone; 1994): edges
    are few and hardly move it. Texture does, so that it is not 0 for real images; compare with those.

    images: shape (N, C, S, S), finest band first.
    """
    sizes = [np.median(np.abs(band), axis=(1, 2, 3)) for band in bands(images, depth(images.shape[-1]))[:-1]]
    return np.stack([2.0**m * size / (_MEDIAN * np.sqrt(0.75)) for m, size in enumerate(sizes)])


def pairwise_distance(images: Images) -> float:
    """Return the root-mean-square difference of two images, averaged over all pairs: how diverse they are."""
    from scipy.spatial.distance import pdist

    flat = images.reshape(len(images), -1).astype(np.float64)
    return float(pdist(flat).mean() / np.sqrt(flat.shape[1]))


def _squared(one: np.ndarray, other: np.ndarray) -> Float[np.ndarray, " bands"]:
    """Return the mean over directions of the squared Wasserstein distance, for arrays (bands, values, directions)."""
    import ot

    columns = [np.moveaxis(each, 1, 0).reshape(each.shape[1], -1) for each in (one, other)]
    return ot.wasserstein_1d(*columns, p=2).reshape(len(one), -1).mean(axis=1)
