"""Guidance in nats: how fast noised images tell their condition, resolution by resolution.

For a condition c, exact predictions of the noise with and without it, and states from the forward process of
conditional images, with l the log SNR,

    d KL(p(x_t | c) || p(x_t)) / dl = 1/2 E||eps_c - eps_u||^2 = 1/2 sum_m E||b_m (eps_c - eps_u)||^2,

the energy of Eq. (19). Averaged over conditions it is the rate of the mutual information I(c; x_t), from the relation
between information and estimation of Guo, Shamai and Verdu (2005).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from reschrom.theory.bands import Size, band_names, sides, size_of
from reschrom.theory.intervals import Interval, interval_around


@dataclass(frozen=True, eq=False)
class Information:
    """What noised images tell of their condition, per unit of log SNR and in all, by resolution.

    Attributes
    ----------
    rates : array, shape (levels + 1, steps)
        Nats per unit of log SNR, finest resolution first, from noise to image.
    log_snr : array, shape (steps + 1,)
        The edges of the steps, rising: log of the signal power over the noise power.
    size : int or (height, width)
        Pixels along one side of the finest resolution; one number where it is square.
    replicates : array, shape (replicates, levels + 1, steps), optional
        The same rates for every bootstrap replicate of the images.
    images : int, optional
        How many were measured; None where that is not known.

    Raises
    ------
    ValueError
        For edges that do not rise or are not finite, and for shapes that do not fit.
    """

    rates: Float[np.ndarray, "bands steps"]
    log_snr: Float[np.ndarray, " edges"]
    size: Size
    replicates: Float[np.ndarray, "replicates bands steps"] | None = None
    images: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", size_of(*sides(self.size)))
        if not (np.all(np.isfinite(self.log_snr)) and np.all(np.diff(self.log_snr) > 0)):
            raise ValueError("the edges of the steps are finite log SNRs that rise, from noise to image")
        shape = len(band_names(self.size)), len(self.log_snr) - 1
        for rates in [self.rates, *([] if self.replicates is None else self.replicates[:1])]:
            if rates.shape != shape:
                raise ValueError(f"rates of {shape[0]} bands in {shape[1]} steps are needed; got {rates.shape}")

    @property
    def gained(self) -> Float[np.ndarray, "bands edges"]:
        """The nats told since the first edge, of each band. How they divide among bands depends on the path of all."""
        return _gained(self.rates, self.log_snr)

    @property
    def total(self) -> float:
        """The nats told in all, by all bands."""
        return float(self.gained[:, -1].sum())

    def gained_interval(self, level: float = 0.95) -> Interval:
        """Return the bootstrap confidence interval of what all bands have told at each edge, shape (steps + 1,).

        Raises ValueError without replicates.
        """
        if self.replicates is None:
            raise ValueError("only what was measured on images has an interval")
        again = _gained(self.replicates, self.log_snr).sum(axis=1)
        return interval_around(self.gained.sum(axis=0), again, level, images=self.images)

    def reaches(self, nats: float) -> float:
        """Return the log SNR at which all bands together have first told so many nats; NaN where they never do."""
        told = self.gained.sum(axis=0)
        after = np.flatnonzero(told >= nats)
        if not len(after):
            return float("nan")
        i = max(int(after[0]), 1)
        part = (nats - told[i - 1]) / (told[i] - told[i - 1])
        return float(self.log_snr[i - 1] + part * (self.log_snr[i] - self.log_snr[i - 1]))


def _gained(rates: np.ndarray, log_snr: np.ndarray) -> np.ndarray:
    widths = [(0, 0)] * (rates.ndim - 1)
    return np.cumsum(np.pad(rates * np.diff(log_snr), [*widths, (1, 0)]), axis=-1)
