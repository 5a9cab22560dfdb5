"""Two chromatograms side by side: how far one is from the other, and whether both have the settings to be merged."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

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
