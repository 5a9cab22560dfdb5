"""Gaussian fields that look the same everywhere, and what drawing them coarse first costs, exactly.

Inside a resolution band such a field is not white: neighbouring coefficients are alike, and pooling folds fine waves
onto coarse ones. So a network that sees pooled pixels, plus a formula for the bands that it cannot see, falls a little
short of the exact denoiser. Both are linear, so how far a sampler ends from its direct run follows in closed form.

Images repeat at their borders. A wave is a Fourier mode, and pooling mixes only the waves that differ by multiples of
the pooled grid's frequency: blocks of `4^level` waves, each a small matrix.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from reschrom._arrays import (
    Images,
    Number,
    finite,
    numpy_array,
    one_signal_power,
    real_number,
    shape_told,
    told,
    whole_number,
)
from reschrom.denoisers._images import LEAST_NOISE, known_generator, noised_images
from reschrom.theory.bands import band_sizes, depth
from reschrom.theory.chromatography import powers_and_weights
from reschrom.theory.matching import intensity_scale, matched_alpha, matched_noise
from reschrom.theory.spectrum import Spectrum, variances

# Rounds of fitting waves to a spectrum at most, how near its variances end them, and how near they must come.
_ROUNDS, _FITTED, _NEAR = 2000, 1e-6, 0.5


class StationaryField:
    """Gaussian images of mean 0 whose waves are independent: exact E[x_0 | x_t] of Eq. (7), wave by wave.

    Parameters
    ----------
    power : array, shape (S, S)
        Variance of every orthonormal Fourier coefficient, in the order of `np.fft.fft2`; that of opposite frequencies
        is averaged. White noise of unit variance has 1 everywhere. S a power of two.
    channels : int
        Independent channels of the images.

    Raises
    ------
    ValueError
        For another shape, and for negative or infinite variances.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import StationaryField
    >>> field = StationaryField.of_spectrum([0.1, 0.3, 1.0, 9.0])
    >>> field.spectrum.round(3).tolist()
    [0.1, 0.3, 1.0, 9.0]
    >>> field.sample(2, np.random.default_rng(0)).shape
    (2, 3, 8, 8)
    """

    def __init__(self, power: ArrayLike, channels: int = 3) -> None:
        power = numpy_array(power).astype(np.float64)
        side = power.shape[0] if power.ndim else 0
        if power.shape != (side, side) or not side or side & (side - 1):
            raise ValueError(f"the power of waves has the shape (S, S), S a power of two; got {power.shape}")
        finite("the power of waves", power)
        if np.any(power < 0):
            raise ValueError(f"the power of waves is 0 or more; got {power.min():g}")
        self.power = (power + np.roll(power[::-1, ::-1], 1, axis=(0, 1))) / 2
        self.shape = (whole_number("the number of channels", channels, least=1), side, side)

    @classmethod
    def of_spectrum(cls, spectrum: Spectrum, channels: int = 3) -> "StationaryField":
        """Return the field whose resolution bands have these variances, finest first, or the nearest that there is.

        The power is the mean of the variances, weighted by what of a wave falls into each band, and changed no more
        than the variances ask for (iterative scaling). A wave leaves something in all finer bands, so that no field
        falls much faster than a scale-free one, by 4 from band to band; `spectrum` says what was reached. Raises
        ValueError where a band is off by more than half.
        """
        wanted = np.array(powers_and_weights(len(variances(spectrum)) - 1, spectrum)[0])
        side = 2 ** (len(wanted) - 1)
        responses, sizes = _band_responses(side), np.array(band_sizes(side))
        power = np.einsum("mij,m->ij", responses, wanted)
        for _ in range(_ROUNDS):
            ratios = wanted * sizes / np.einsum("mij,ij->m", responses, power)
            if np.abs(ratios - 1).max() < _FITTED:
                break
            power *= np.exp(np.einsum("mij,m->ij", responses, np.log(ratios)))
        field = cls(power, channels)
        if np.abs(field.spectrum / wanted - 1).max() > _NEAR:
            raise ValueError(
                "no Gaussian field that looks the same everywhere has the variances "
                f"{', '.join(f'{each:.3g}' for each in wanted)} of bands, finest first; the nearest has "
                f"{', '.join(f'{each:.3g}' for each in field.spectrum)}"
            )
        return field

    @property
    def spectrum(self) -> Float[np.ndarray, " bands"]:
        """The variance per coefficient of every resolution band, finest first."""
        side = self.shape[-1]
        return np.einsum("mij,ij->m", _band_responses(side), self.power) / band_sizes(side)

    def denoise(self, x_t: Images, alpha: float) -> Images:
        """Return E[x_0 | x_t]: every wave times its Wiener gain. x_t is (N, C, S, S), alpha one number in [0, 1]."""
        x_t, alpha = noised_images(x_t, self.shape), one_signal_power(alpha)
        gain = np.sqrt(alpha) * self.power / (alpha * self.power + max(1 - alpha, LEAST_NOISE))
        return np.fft.ifft2(gain * np.fft.fft2(x_t)).real

    def sample(self, count: int, generator: np.random.Generator) -> Images:
        """Draw images from the field."""
        white = known_generator(generator).standard_normal((whole_number("the number of images", count), *self.shape))
        return np.fft.ifft2(np.sqrt(self.power) * np.fft.fft2(white)).real

    def pooled(self, level: int) -> "StationaryField":
        """Return the field of the images `D^level[x]`, which repeats and is stationary too."""
        if whole_number("level", level) > depth(self.shape[-1]):
            raise ValueError(f"images of {self.shape[-1]} pixels are halved {depth(self.shape[-1])} times; got {level}")
        side = self.shape[-1] >> level
        folded = np.abs(_response(self.shape[-1], level)) ** 2 * self.power / 4.0**level
        return StationaryField(folded.reshape(2**level, side, 2**level, side).sum(axis=(0, 2)), self.shape[0])


class Handover(NamedTuple):
    """What drawing coarse first does to every band, finest first, in units of its standard deviation in the direct run.

    change: of that standard deviation, signed. It is what a sliced Wasserstein distance between the two sees.
    deviation: root mean square of the difference between two images from the same noise. No Wasserstein distance of the
        band is larger.
    """

    change: Float[np.ndarray, " bands"]
    deviation: Float[np.ndarray, " bands"]


def handover(field: StationaryField, alphas: ArrayLike, levels: Sequence[int], eta: Number = 0.0) -> Handover:
    """Return what drawing a field coarse first does to every band, compared with drawing it directly.

    Two runs of DDIM are compared: one has the exact denoiser at full size, the other has at level m > 0 the exact
    denoiser of the pooled field and the formula of `coarse_noise` for the bands that it does not see. Exact for the
    sampler as it is, in as many steps as it has: both runs are linear in the noise.

    field: what is drawn; the formula is given the variances of its bands.
    alphas: rising signal powers of the steps, shape (steps,); the last step leads to the image, alpha = 1.
    levels: how many times the image is halved at each step; 0 for the exact denoiser.
    eta: share of fresh noise, in [0, 1]: 0 for DDIM, 1 for ancestral sampling (DDPM).
    """
    alphas = numpy_array(alphas).astype(np.float64)
    if alphas.ndim != 1 or len(alphas) != len(levels) or not np.all(np.diff([0, *alphas, 1]) >= 0):
        raise ValueError(
            "the steps of a run have rising signal powers in [0, 1] and one level each; got "
            f"{shape_told(alphas)} and {len(levels)} levels: {told(alphas)}"
        )
    eta = real_number("eta", eta, 0, 1)
    deepest = max((whole_number("level", level) for level in levels), default=0)
    side, size = field.shape[-1], 2**deepest
    if deepest > depth(side):
        raise ValueError(f"images of {side} pixels are halved {depth(side)} times at most; got {deepest}")
    projections = [_projection(side, level, deepest) for level in range(depth(side) + 1)]
    power, spectrum = _grouped(field.power, size), field.spectrum
    pooled = {level: _grouped(np.tile(field.pooled(level).power, 2 * [2**level]), size) for level in {*levels} - {0}}
    # From the last step back: what the later steps make of a wave in the direct run, and by how much the other differs.
    after, direct, apart = 1.0, np.ones_like(power), np.zeros_like(projections[0])
    totals = np.zeros((3, *apart.shape), complex)  # covariances of the direct run, of the other, of their difference
    for alpha, level in zip(np.maximum(alphas, LEAST_NOISE)[::-1], [*levels][::-1], strict=True):
        noise = max(1 - alpha, LEAST_NOISE)
        fresh = eta**2 * max((1 - after) / noise * (1 - alpha / after), 0.0)
        if fresh:
            totals += fresh * _covariances(direct, apart)
        growth = np.sqrt(after / alpha)
        weight = np.sqrt(max(1 - after - fresh, 0.0)) - growth * np.sqrt(noise)
        exact = np.sqrt(noise) / (alpha * power + noise)
        step, before = growth + weight * exact, apart
        apart = before * step[:, None, :]
        if level:
            change = weight * _coarse_operator(pooled[level], spectrum, projections, alpha, level)
            change[:, range(size**2), range(size**2)] -= weight * exact
            apart += before @ change + direct[:, :, None] * change
        direct = direct * step
        after = alpha
    totals += _covariances(direct, apart)  # the first noise has unit variance
    held = np.array([np.einsum("gij,xgji->x", each, totals).real for each in projections])
    straight, coarse, difference = np.sqrt(np.maximum(held - np.append(held[1:], np.zeros((1, 3)), axis=0), 0)).T
    return Handover(coarse / straight - 1, difference / straight)


def _covariances(direct: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Return what white noise becomes in the direct run, in the other and in their difference."""
    first = direct[:, :, None] * np.eye(direct.shape[1])
    return np.stack([each @ _adjoint(each) for each in (first, first + apart, apart)])


def _coarse_operator(
    low: np.ndarray, spectrum: np.ndarray, projections: list[np.ndarray], alpha: float, level: int
) -> np.ndarray:
    """Return the noise prediction of `coarse_noise` with the exact pooled denoiser, as a matrix for each group.

    low: power of the wave of the pooled field onto which each wave folds.
    """
    noise = float(matched_noise(alpha, level))
    predicted = np.sqrt(noise) / (float(matched_alpha(alpha, level)) * low + noise)
    scale = float(intensity_scale(alpha, level)) / 2**level
    operator = (scale * predicted)[..., None] * projections[level]
    for m in range(level):
        detail = np.sqrt(1 - alpha) / (alpha * spectrum[m] + 1 - alpha)
        operator += detail * (projections[m] - projections[m + 1])
    return operator


def _response(side: int, level: int) -> np.ndarray:
    """Return what the mean over blocks of `2^level` pixels leaves of every wave, a complex number."""
    turns = np.exp(2j * np.pi * np.outer(np.arange(side), np.arange(2**level)) / side).mean(axis=1)
    return np.multiply.outer(turns, turns)


def _band_responses(side: int) -> np.ndarray:
    """Return the share of a wave's energy that falls into each resolution band, shape (bands, side, side)."""
    kept = np.stack([np.abs(_response(side, level)) ** 2 for level in range(depth(side) + 1)])
    return kept - np.concatenate([kept[1:], np.zeros_like(kept[:1])])


def _grouped(values: np.ndarray, size: int) -> np.ndarray:
    """Gather waves (S, S) into groups that fold onto one wave of a pooled grid, shape (groups, size^2)."""
    rest = len(values) // size
    return values.reshape(size, rest, size, rest).transpose(1, 3, 0, 2).reshape(rest**2, size**2)


def _projection(side: int, level: int, deepest: int) -> np.ndarray:
    """Return `U^level D^level` between the waves of each group, shape (groups, size^2, size^2)."""
    response = _grouped(_response(side, level), 2**deepest)
    waves = np.arange(side) % (side >> level)
    folded = _grouped(np.add.outer(waves * side, waves), 2**deepest)
    return (folded[:, :, None] == folded[:, None, :]) * response.conj()[:, :, None] * response[:, None, :]


def _adjoint(x: np.ndarray) -> np.ndarray:
    return x.conj().swapaxes(-1, -2)
