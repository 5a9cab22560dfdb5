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


def information_of_guidance(
    rates: Float[np.ndarray, "bands steps"],
    alphas: Float[np.ndarray, " edges"],
    size: Size,
    replicates: Float[np.ndarray, "replicates bands steps"] | None,
    images: int | None,
) -> Information:
    """Return half the energy of guidance, Eq. (19), between signal powers that fall from image to noise, as nats.

    Steps that end in the image itself or in pure noise, where the log SNR has no end, are left out.
    """
    with np.errstate(divide="ignore"):
        log_snr = np.log(alphas) - np.log1p(-alphas)
    first, last = np.flatnonzero(np.isfinite(log_snr))[[0, -1]]
    again = None if replicates is None else replicates[:, :, first:last][..., ::-1] / 2
    return Information(rates[:, first:last][:, ::-1] / 2, log_snr[first : last + 1][::-1], size, again, images)


@dataclass(frozen=True)
class GuidanceInterval:
    """When guidance acts: with weight 1 between two log SNRs, and with weight 0 outside.

    Attributes
    ----------
    begins, ends : float, or array of shape (bands,)
        The log SNRs, for all bands or for each, finest first. Both ends belong to the interval.

    Raises
    ------
    ValueError
        For an end that is not after the beginning, and for shapes that differ.
    """

    begins: Float[np.ndarray, " bands"] | float
    ends: Float[np.ndarray, " bands"] | float

    def __post_init__(self) -> None:
        if np.shape(self.begins) != np.shape(self.ends) or not np.all(np.less(self.begins, self.ends)):
            raise ValueError(f"an interval of log SNR ends after it begins; got {self.begins} to {self.ends}")

    def weights(self, log_snr: float) -> Float[np.ndarray, "*bands"]:
        """Return the weight of guidance at a log SNR, for all bands or for each."""
        return np.where(np.greater_equal(log_snr, self.begins) & np.less_equal(log_snr, self.ends), 1.0, 0.0)


def guidance_interval(
    information: Information, nats: float, share: float = 0.95, by_band: bool = False
) -> GuidanceInterval:
    """Return when the prompt is told: the log SNRs between which noised images gain most of its nats.

    It is counted from noise on, and ends where all that the prompt can say is said: what is measured after that is the
    difference of two errors. So of the nats up to there, half of what `share` leaves is cut off at either end.

    Parameters
    ----------
    information : Information
        By guidance or by losses (`band_information`), or that of a run (`Chromatogram.information`).
    nats : float
        What the prompt can say at most: log K if it is one of K, all as probable; minus the log of its probability.
        Infinite where that is not known, so that all that was measured counts.
    share : float
        Of the nats inside the interval, between 0 and 1.
    by_band : bool
        Whether every band has an interval of its own, for its own part of these nats.

    Raises
    ------
    ValueError
        For numbers out of range, and where nothing was told, in all or by a band.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import Information, guidance_interval
    >>> told = Information(np.ones((3, 8)), np.linspace(-4.0, 4.0, 9), 4)
    >>> guidance_interval(told, nats=12.0, share=0.5)
    GuidanceInterval(begins=-3.0, ends=-1.0)
    """
    if not (nats > 0 and 0 < share < 1):
        raise ValueError(
            f"a prompt says more than 0 nats, and a share lies between 0 and 1; got {nats:g} and {share:g}"
        )
    gained, log_snr = information.gained, information.log_snr
    told = gained.sum(axis=0)
    last = information.reaches(nats) if told.max() >= nats else float(log_snr[told.argmax()])
    said = gained if by_band else told[None]
    ends = np.array([[_crossed(log_snr, each, last, (1 + side * share) / 2) for each in said] for side in (-1, 1)])
    begins, ends = ends if by_band else ends[:, 0].tolist()
    return GuidanceInterval(begins, ends)


def _crossed(log_snr: np.ndarray, told: np.ndarray, last: float, part: float) -> float:
    """Return where a part of what is told up to `last` has first been told."""
    inside = log_snr < last
    log_snr, told = np.append(log_snr[inside], last), np.append(told[inside], np.interp(last, log_snr, told))
    if not told[-1] > 0:
        raise ValueError("nothing was told of the prompt, so there is no time at which it is")
    after = int(np.argmax(told >= part * told[-1]))
    return float(np.interp(part * told[-1], told[after - 1 : after + 1], log_snr[after - 1 : after + 1]))


def _gained(rates: np.ndarray, log_snr: np.ndarray) -> np.ndarray:
    widths = [(0, 0)] * (rates.ndim - 1)
    return np.cumsum(np.pad(rates * np.diff(log_snr), [*widths, (1, 0)]), axis=-1)
