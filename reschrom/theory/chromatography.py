"""Resolution chromatography: which resolution is being generated at each time (Eqs. 18 and 33-35).

By Theorem 1 the noise schedule enters only through alpha, so the functions here take alpha, not time.
"""

from jaxtyping import Float, Num

from reschrom._arrays import Array, Number, floating, like, narrowed, real_number, signal_power, whole_level, widened
from reschrom.theory.bands import Size, band_names, band_sizes, sides
from reschrom.theory.spectrum import MeasuredSpectrum, Spectrum, loaded, variances

# Rates have the squares of variances in them. With these limits none of them leaves the range of a double.
_GREATEST, _DEEPEST = 1e100, 250


def wiener_gain(alpha: Num[Array, "*shape"] | Number, power: float) -> Float[Array, "*shape"]:
    """Return the share of a Gaussian coefficient that its best estimate holds: `alpha S / (alpha S + 1 - alpha)`.

    alpha: signal power in [0, 1], any shape.
    power: the coefficient's variance S. With S = 4^m this is alpha at tau_m, Eq. (16).
    """
    alpha, _ = signal_power(alpha)
    power = real_number("the variance of a coefficient", power)
    if power <= 0:
        raise ValueError(f"the variance of a coefficient must be positive; got {power}")
    wide = widened(alpha, [power])
    return narrowed(wide * power / (wide * power + (1 - wide)), alpha.dtype)


def chromatography(
    alpha: Num[Array, "*shape"] | Number, levels: int, spectrum: Spectrum | None = None, size: Size | None = None
) -> Float[Array, "bands *shape"]:
    """Return the share of each resolution in the signal generated at each time: r_m of Eqs. (18), (34) and (35).

    With a spectrum it is the exact rate at which the estimate E[x_0 | x_t] of a Gaussian field gains energy, band by
    band: `n_m S_m^2 / (1 + (S_m - 1) alpha)^2` for n_m coefficients. The paper's r_m drops the weight n_m S_m and
    takes S_m = 4^m. Raises ValueError for alpha outside [0, 1] and for variances that are not positive.

    Parameters
    ----------
    alpha : array or float
        Signal power in [0, 1], any shape.
    levels : int
        M, how often the image is halved; an image of 64 x 64 pixels has 6.
    spectrum : array, MeasuredSpectrum or path, optional
        Variance per coefficient of each band, finest first, `levels + 1` numbers; or what `measure_spectrum` returned,
        or the file it was saved to. None gives the paper's r_m.
    size : int or (height, width), optional
        Of the images, which fixes how many coefficients a band has; that of a measured spectrum, or 2^levels pixels
        square unless given. The paper's r_m does not depend on it.

    Returns
    -------
    array, shape (levels + 1, ...)
        Shares, finest band first, summing to 1 over the first axis; then the shape of alpha.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import chromatography
    >>> chromatography(np.array([0.01, 0.5, 0.99]), levels=2).round(3).tolist()  # 4x4, 2x2 and 1x1 pixels
    [[0.059, 0.537, 0.759], [0.224, 0.344, 0.193], [0.717, 0.119, 0.048]]
    """
    alpha, xp = signal_power(alpha)
    powers, weights = powers_and_weights(whole_level(levels), spectrum, size)
    wide = _wide(alpha, powers, weights)
    rates = [w * p / (p * wide + (1 - wide)) ** 2 for p, w in zip(powers, weights, strict=True)]
    total = sum(rates[1:], start=rates[0])
    return narrowed(xp.stack([rate / total for rate in rates]), alpha.dtype)


def generated_signal(
    alpha: Num[Array, "*shape"] | Number,
    levels: int,
    spectrum: Spectrum | None = None,
    since: Num[Array, "*shape"] | Number = 0.0,
    size: Size | None = None,
) -> Float[Array, "bands *shape"]:
    """Return how much of each resolution's signal is generated while the signal power rises from `since` to alpha.

    The integral of `chromatography` before normalisation, with the same arguments and shape. From pure noise it is
    alpha at tau_m for the paper, Eq. (16), and the energy of the estimate `n_m S_m alpha S_m / (alpha S_m + 1 - alpha)`
    with a spectrum. It loses nothing to rounding when `since` is close to alpha.
    """
    alpha, xp = signal_power(alpha)
    powers, weights = powers_and_weights(whole_level(levels), spectrum, size)
    wide = _wide(alpha, powers, weights)
    since = like(signal_power(since)[0], wide)
    signals = [
        w * p * (wide - since) / ((p * wide + (1 - wide)) * (p * since + (1 - since)))
        for p, w in zip(powers, weights, strict=True)
    ]
    return narrowed(xp.stack(signals), alpha.dtype)


def _wide(alpha: Array, powers: list[float], weights: list[float]) -> Array:
    """Return the signal power in a dtype that holds all that the rates of these bands are made of."""
    return widened(alpha, [f for p, w in zip(powers, weights, strict=True) for f in (p * p, w * p)])


def powers_and_weights(
    levels: int, spectrum: Spectrum | None, size: Size | None = None
) -> tuple[list[float], list[float]]:
    """Return the variance of every band and what its share of held variance counts, both finest first."""
    if spectrum is None:
        if levels > _DEEPEST:
            raise ValueError(f"the rates of at most {_DEEPEST} halvings are numbers; got {levels} levels")
        return [4.0**m for m in range(levels + 1)], [1.0] * (levels + 1)
    spectrum = loaded(spectrum)
    array, _ = floating(variances(spectrum))
    if array.ndim != 1:
        raise ValueError(f"spectrum must hold {levels + 1} positive variances, finest first; got {array.ndim} axes")
    powers = [float(power) for power in array]
    if len(powers) != levels + 1 or not all(0 < power < float("inf") for power in powers):
        raise ValueError(f"spectrum must hold {levels + 1} positive variances, finest first; got {powers}")
    if not all(1 / _GREATEST <= power <= _GREATEST for power in powers):
        raise ValueError(
            f"the variances of a spectrum must lie between {1 / _GREATEST:g} and {_GREATEST:g}, in other units of the "
            f"images where they do not; got {powers}"
        )
    known = spectrum.size if isinstance(spectrum, MeasuredSpectrum) else size
    if known is None:
        known = 2**levels
    if size is not None and sides(size) != sides(known):
        raise ValueError(f"a spectrum of {band_names(size)[0]} pixels is needed; got one of {band_names(known)[0]}")
    # Only the ratios of these counts matter: channels need not be known.
    return powers, [count * power for count, power in zip(band_sizes(known, levels), powers, strict=True)]
