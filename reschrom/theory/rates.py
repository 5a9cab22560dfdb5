"""Rates of every band on a time grid, as plain arrays: what may be one, and what follows from it.

Rates have the shape (..., levels + 1, steps), finest band first, and hold between the edges of the grid, from image to
noise. `Chromatogram` gives them a name, a size and intervals.
"""

import numpy as np
from jaxtyping import Bool, Float

from reschrom._arrays import numpy_array

# Energies and mean times are finite where rates and times are no larger.
_LARGEST = 1e100
# Of all that is generated, the part that differences of sums over images may leave in a step without being there.
_ROUNDING = 1e-9


def time_grid(edges: Float[np.ndarray, " edges"]) -> Float[np.ndarray, " edges"]:
    """Return the edges of a time grid in double precision, after checking that they rise, else ValueError."""
    edges = numpy_array(edges).astype(np.float64, copy=False)
    within = np.abs(edges) <= _LARGEST  # NaN fails the comparison
    if edges.ndim != 1 or len(edges) < 2 or not np.all(within) or not np.all(np.diff(edges) > 0):
        raise ValueError(
            f"the edges of a chromatogram must rise, from image to noise; got {' '.join(str(edges).split())}"
        )
    return edges


def checked_rates(rates: np.ndarray, shape: tuple[int, ...], what: str) -> np.ndarray:
    """Return rates in double precision, after checking their shape and that none is negative; `what` has them."""
    rates = numpy_array(rates).astype(np.float64, copy=False)
    if rates.shape != shape:
        raise ValueError(f"a chromatogram of {what} on {shape[-1]} steps has rates of shape {shape}; got {rates.shape}")
    right = (rates >= 0) & (rates <= _LARGEST)
    if not np.all(right):
        wrong = rates[~right]
        raise ValueError(f"the rates of a chromatogram must be finite and not negative; got {wrong[0]}")
    return rates


def never_rising(
    signal: Float[np.ndarray, "*bands times"], precision: Float[np.ndarray, " times"] | None = None
) -> Float[np.ndarray, "*bands times"]:
    """Return the nearest signal that never rises with time, by least squares, band by band.

    The signal an estimate holds never rises with the noise; a measurement of it does, by chance.
    precision: the weight of each time; None for equal ones.
    """
    if precision is not None and not np.all((precision > 0) & (precision < np.inf)):
        raise ValueError(
            "the signal at a time counts by its precision, which is positive; got 0 or none: where alpha = 0, pure "
            "noise, a prediction of the noise tells nothing of the image"
        )
    from scipy.optimize import isotonic_regression

    rows = signal.reshape(-1, signal.shape[-1])
    fitted = [isotonic_regression(band, weights=precision, increasing=False).x for band in rows]
    return np.stack(fitted).reshape(signal.shape)


def shares_of(rates: np.ndarray) -> np.ndarray:
    """Return the rates divided by their sum over bands, 0 where that is 0: Eq. (18)."""
    total = rates.sum(axis=-2, keepdims=True)
    return rates / np.where(total > 0, total, 1)


def centroids_of(rates: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the mean time of each band, NaN where it is never generated."""
    weights, times = rates * np.diff(edges), (edges[1:] + edges[:-1]) / 2
    with np.errstate(invalid="ignore"):
        return (weights * times).sum(axis=-1) / weights.sum(axis=-1)


def generates(rates: np.ndarray, edges: np.ndarray) -> Bool[np.ndarray, " steps"]:
    """Tell at which steps more is generated than rounding leaves, whose shares differ between processors."""
    generated = rates.sum(axis=0) * np.diff(edges)
    return generated > _ROUNDING * generated.sum()


def ridge_of(shares: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return the share-weighted mean level of each step, NaN but for the steps told by `where`."""
    return np.where(where, np.einsum("m,...mt->...t", np.arange(shares.shape[-2]), shares), np.nan)
