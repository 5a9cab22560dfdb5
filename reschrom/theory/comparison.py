"""Two of a kind side by side: chromatograms, how far apart and whether they merge, and images drawn in two ways."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Num

from reschrom._arrays import Array, finite, numpy_array, refuse_as_in_files, shape_told
from reschrom.theory.bands import band_energies, band_names
from reschrom.theory.intervals import Interval, interval_around, weights
from reschrom.theory.rates import generates

if TYPE_CHECKING:
    from reschrom.theory.chromatogram import Chromatogram


class Comparison(NamedTuple):
    """How far one chromatogram is from another.

    centroid_distance: mean distance between the centroids of the bands that both generate, in units of time; NaN where
        there is none.
    divergence: Jensen-Shannon divergence between the shares, in nats, averaged over the times at which both generate
        anything; NaN where there is none.
    """

    centroid_distance: float
    divergence: float


def comparison(one: "Chromatogram", other: "Chromatogram") -> Comparison:
    """Return how far two chromatograms are from each other: `Chromatogram.compare`."""
    same_times = one.edges.shape == other.edges.shape and np.allclose(one.edges, other.edges)
    if one.band_names != other.band_names or not same_times:
        grids = f"{_grid(one)} and {_grid(other)}"
        if _grid(one) == _grid(other):
            step = int(np.argmax(~np.isclose(one.edges, other.edges)))
            grids = f"the edge number {step} at {one.edges[step]:.9g} and {other.edges[step]:.9g}"
        raise ValueError(f"two chromatograms are compared on the same bands and the same time grid; got {grids}")
    p, q = one.shares, other.shares
    middle = (p + q) / 2
    jensen_shannon = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    distances = np.abs(one.centroids() - other.centroids())
    both = generates(one.rates, one.edges) & generates(other.rates, other.edges)
    return Comparison(
        _mean(distances, weights=np.isfinite(distances)),
        _mean(jensen_shannon, weights=np.diff(one.edges) * both),
    )


class BandChanges(NamedTuple):
    """How much more some images vary in every band than others, finest band first.

    change: of the standard deviation, as a share of that of the others; -0.1 where it is 10 % less.
    interval: of 95 %, for all bands at once.
    """

    change: Float[np.ndarray, " bands"]
    interval: Interval


def band_changes(
    images: Num[Array, "images channels height width"], plain: Num[Array, "images channels height width"]
) -> BandChanges:
    """Measure what another way of drawing does to every band, on images from the same noise.

    `handover`, and with it `CoarseFirst.expected`, gives the change of the standard deviation for exact denoisers of a
    Gaussian field. A few images tell what it is for a network.

    Parameters
    ----------
    images, plain : array, shape (N, C, H, W)
        Drawn in the other way and as before, each two from the same noise. At least two.

    Returns
    -------
    BandChanges
        The `change` of every band, finest first, and its `interval`, which is narrow where both ways draw much the same
        image from the same noise.

    Raises
    ------
    ValueError
        For images of two shapes, for fewer than two, for images as files have them, and where the plain ones are all
        alike in a band.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import GaussianField, band_changes, bands, from_bands
    >>> plain = GaussianField([1.0, 4.0, 16.0]).sample(100, np.random.default_rng(0))
    >>> finest, *others = bands(plain)
    >>> band_changes(from_bands([0.9 * finest, *others]), plain).change.round(3).tolist()
    [-0.1, 0.0, 0.0]
    """
    both = [numpy_array(each).astype(np.float64) for each in (images, plain)]
    shapes = [each.shape for each in both]
    if shapes[0] != shapes[1] or both[0].ndim != 4 or len(both[0]) < 2:
        told = " and ".join(shape_told(each) for each in both)
        raise ValueError(f"two or more images of one shape (N, C, H, W) are needed, drawn in both ways; got {told}")
    finite("images", *both)
    for each in both:
        refuse_as_in_files(each)
    with np.errstate(over="ignore", invalid="ignore"):
        after, before = (band_energies(each - each.mean(axis=0)) for each in both)
    finite("the squares of images", after, before)
    if not np.all(before.sum(axis=1) > 0):
        alike = band_names(shapes[0][-2:])[int(np.argmin(before.sum(axis=1)))]
        raise ValueError(f"the plain images are all alike in the band {alike}: nothing there can change")
    drawn = weights(0, 0, len(both[0]))
    change = np.sqrt(after.mean(axis=1) / before.mean(axis=1)) - 1
    again = np.sqrt((drawn @ after.T) / (drawn @ before.T)) - 1
    return BandChanges(change, interval_around(change, again, simultaneous=True, images=len(both[0])))


def check_same_settings(one: "Chromatogram", two: "Chromatogram") -> None:
    """Refuse to merge two measurements whose settings differ; the error says which."""
    for what, first, second in _settings(one, two):
        if not np.array_equal(first, second):
            values = "" if isinstance(first, np.ndarray) else f": {first} and {second}"
            raise ValueError(f"only measurements with the same settings merge; {what} differs{values}")


def _settings(one: "Chromatogram", two: "Chromatogram") -> list[tuple[str, Any, Any]]:
    """Return all that two measurements must share to be merged: what it is, of the one and of the other."""
    shared = [
        (each.name, each.size, each.frames, each.edges, each.source and each.source.precision) for each in (one, two)
    ]
    named = ("what is measured", "the size", "the number of frames", "the time grid", "the prediction of the network")
    fixed = zip(named, *shared, strict=True)
    words = [(key, one.about.get(key), two.about.get(key)) for key in {**one.about, **two.about}]
    return [*words, *fixed]


def _grid(one: "Chromatogram") -> str:
    return f"{one.band_names[0]} on {len(one.edges) - 1} steps from {one.edges[0]:g} to {one.edges[-1]:g}"


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    """Return the weighted mean of the values whose weight is not 0, NaN where there is none."""
    counted = weights > 0
    return float(np.average(values[counted], weights=weights[counted])) if counted.any() else float("nan")


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    from scipy.special import rel_entr

    return rel_entr(p, q).sum(axis=0)
