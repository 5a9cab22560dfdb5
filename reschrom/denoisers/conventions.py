"""Whether a network is read in its own convention: its prediction, sign, clock, schedule and range of values.

Read in another one, it would get a chromatogram that looks like any other, with narrow intervals. But such a network
errs, and how much it may err is known.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from reschrom._arrays import Images
from reschrom.denoisers.network import Denoiser
from reschrom.denoisers.sampling import Denoise, ddim, predicted_noise
from reschrom.theory.bands import band_energies, band_sizes, size_of

Times = Float[np.ndarray, " times"]

# By so much of its width images may leave the range of a network. Where that is as wide below 0 as above, pictures have
# dark pixels below 0; those whose darkest one has no more than so much of the brightest are in another range.
_OUTSIDE, _DARKEST = 0.1, 0.05

# Images can be told from noise where a Gaussian field errs by so much less than their noise does, and less than zeros.
_SEEN = 0.8

# Networks that were measured err at most 0.7 times as much as a Gaussian field on samples of their own. A field itself
# errs up to 1.2 times as much, where its samples are made in few steps. A network whose
# samples are no smoother than white noise must know more of them than a field does.
_OWN, _NOT_SMOOTH = 1.5, 0.8
_IMAGES, _LEAST = 4, 150  # of such samples; and fewer numbers in all tell nothing
_STEPS, _REACH = 32, (-9.0, 11.0)  # in log SNR
_LOG_SNR, _SEED = np.array([-2.0, 0.0, 2.0, 4.0]), (8, 27, 64, 125)

# The noise, regressed on what a network predicts of it, has the slope 1 where the prediction is a mean of the noise.
# Where its time stands for another noise level, the slope is about the ratio of the two. Asked where the logarithm of
# the SNR of a number of the images lies in this range, networks kept within so much of 0 in the logarithm of the slope,
# from 50 training steps on: those that ship within 0.01 on samples of their own, 0.08 on images that they never saw.
_SLOPE_SEEN, _SLOPE_OWN, _SLOPE_IMAGES = (-4.0, 0.0), 0.1, 0.12
_CHANCE = 3.0  # standard errors


def refuse_range(denoise: Denoise, images: Images) -> None:
    """Refuse images in another range of values than that to which a network's estimates are clipped."""
    low, high = getattr(denoise, "value_range", (-np.inf, np.inf))
    least, greatest = images.min(), images.max()
    width = high - low
    if least < low - _OUTSIDE * width or greatest > high + _OUTSIDE * width:
        raise ValueError(
            f"estimates are clipped to the value_range of the network, ({low:g}, {high:g}); "
            f"got images with values from {least:g} to {greatest:g}"
        )
    if np.isfinite(high) and low == -high and 0 <= least < _DARKEST * high and greatest > least:
        raise ValueError(
            f"images of the network have values from {low:g} to {high:g}, and these from {least:g} to {greatest:g}: if "
            f"they are pictures with values from 0 to {high:g}, scale them"
        )


class NoiseMoments(NamedTuple):
    """How a network predicts noise, at each time: sums over the numbers of an image, means over images; not clipped."""

    missed: Times  # the squared error
    product: Times  # of the noise and its prediction
    energy: Times  # of the prediction

    @classmethod
    def of(cls, noise: Images, predicted: Images) -> "NoiseMoments":
        """Return them for some images at one time."""
        pairs = (noise - predicted, noise - predicted), (noise, predicted), (predicted, predicted)
        return cls(*(np.asarray((one * other).sum() / len(noise)) for one, other in pairs))

    @classmethod
    def at_times(cls, each: Sequence["NoiseMoments"]) -> "NoiseMoments":
        """Return those of single times together."""
        return cls(*np.reshape(each, (-1, len(cls._fields))).T)


def refuse_misread(
    moments: NoiseMoments, energies: Float[np.ndarray, " bands"], images: Images, count: int, alphas: Times
) -> None:
    """Refuse a network that cannot be read in its own convention, by how it predicts the noise on images.

    energies: of the images in every band.
    images: any of the same shape.
    count: how many were measured.
    """
    _refuse_blind(moments.missed, energies, images, alphas)
    _refuse_noise_level(moments, float(energies.sum()), images[0].size, count, alphas, _SLOPE_IMAGES)


def _refuse_noise_level(
    moments: NoiseMoments, energy: float, numbers: int, count: int, alphas: Times, most: float
) -> None:
    """Refuse a denoiser that is told another noise level than its images have: its schedule is another."""
    with np.errstate(divide="ignore"):
        log_snr = np.log(alphas * energy / numbers) - np.log1p(-alphas)
    low, high = _SLOPE_SEEN
    seen = (low <= log_snr) & (log_snr <= high) & (moments.product > 0)
    if not np.any(seen):
        return
    missed, product, told = (each[seen] for each in moments)
    slope, error = product / told, np.sqrt(missed / told / (numbers * count))
    beyond = np.abs(np.log(slope)) - _CHANCE * error / slope
    worst = int(np.argmax(beyond))
    if beyond[worst] > most:
        raise ValueError(
            f"at a signal power of {alphas[seen][worst]:.2g} the noise is {slope[worst]:.2f} times what the denoiser "
            "predicts of it: its schedule, clock, prediction or range of values is another, or it is distilled, not "
            "trained, or never saw such images"
        )


def _refuse_blind(missed: Times, energies: Float[np.ndarray, " bands"], images: Images, alphas: Times) -> None:
    """Refuse a network whose estimates are no nearer to images than the noised images, or images of zeros, are.

    Asked at the times at which the images can be told from noise, in the geometric mean. On photographs that they were
    not trained on, networks of 16 to 64 pixels had 0.15 to 0.45; two of fruit pass 1 on textures, unknown to them.
    """
    noisy = (alphas > 0) & (alphas < 1) & (missed > 0)
    noise = (1 - alphas[noisy]) / alphas[noisy]  # the variance on an image of unit intensity
    of_noised, of_zeros = images[0].size * noise, energies.sum()
    blind = np.minimum(of_noised, of_zeros)
    seen = _of_field(energies, images, noise) < _SEEN * blind
    if not np.any(seen & (of_noised < of_zeros)):  # in much noise a network may err more and be the best there is
        return
    times_blind = float(np.exp(np.log(noise * missed[noisy] / blind)[seen].mean()))
    if times_blind > 1:
        raise ValueError(
            f"the network's estimates err {times_blind:.1f} times as much as the noised images, or images of zeros, "
            "do: its prediction, sign, clock, schedule or range of values is another, or it never saw such images"
        )


def refuse_foreign(denoise: Denoise, start: Images, alphas: Times) -> None:
    """Refuse a denoiser that does not know samples of its own.

    On them it may err hardly more than a Gaussian field of their spectrum does, and must predict their noise as large
    as it is.

    start: white noise, the state at the first of the `alphas`, which rise to those of images. Of a network a few are
        drawn; of a bare function all, because it may know its images by number.
    """
    network = isinstance(denoise, Denoiser)
    if isinstance(denoise, Denoiser):
        start, denoise = start[:_IMAGES], denoise.of_first(_IMAGES)
    if start.size < _LEAST or alphas[-1] < _signal_power(_LOG_SNR[-1]):
        return
    *_, last = ddim(denoise, start, _even_in_log_snr(*alphas[[0, -1]]))
    # A fixed seed, because this is a test and no measurement, but none by which a user might draw the start.
    samples, white = last.estimate, np.random.default_rng(_SEED).standard_normal(start.shape)
    energies = band_energies(samples).mean(axis=1)
    missed = _moments_at(_signal_power(_LOG_SNR), denoise, samples, white).missed
    _refuse_unlike_field(missed, energies, samples, network)
    power = float(np.square(samples).mean())
    if power > 0:
        levels = _signal_power(np.linspace(*_SLOPE_SEEN, 9) - np.log(power))
        levels = levels[(alphas[0] <= levels) & (levels <= alphas[-1])]  # a schedule reaches only so far
        moments = _moments_at(levels, denoise, samples, white)
        _refuse_noise_level(moments, float(energies.sum()), samples[0].size, len(samples), levels, _SLOPE_OWN)


def _even_in_log_snr(first: float, last: float) -> Times:
    """Return signal powers from one to another, so that data of any scale get steps where they are generated."""
    low, high = (float(np.clip(each, *_signal_power(np.array(_REACH)))) for each in (first, last))
    between = np.linspace(np.log(low / (1 - low)), np.log(high / (1 - high)), _STEPS + 1)[1:-1]
    return np.array([first, *_signal_power(between), last])


def _refuse_unlike_field(missed: Times, energies: Float[np.ndarray, " bands"], samples: Images, network: bool) -> None:
    """Refuse a denoiser that errs more on samples of its own than a Gaussian field of their spectrum does."""
    noise = np.exp(-_LOG_SNR)
    with np.errstate(divide="ignore", invalid="ignore"):  # of samples that show nothing
        times_field = float(np.exp(np.log(noise * missed / _of_field(energies, samples, noise)).mean()))
    finest, *coarser = band_sizes(size_of(*samples.shape[-2:]))
    smooth = energies[0] / finest < energies[1:].sum() / max(sum(coarser), 1)
    if times_field > (_OWN if smooth or not network else _NOT_SMOOTH):
        raise ValueError(
            f"on samples of its own the denoiser errs {times_field:.1f} times as much as a Gaussian field of their "
            "spectrum does: its prediction, sign, clock, schedule or range of values is another, or it is not trained"
        )


def _moments_at(levels: Times, denoise: Denoise, images: Images, white: Images) -> NoiseMoments:
    """Return how a denoiser predicts white noise on images, at some signal powers."""
    moments = []
    for alpha in levels:
        x_t = np.sqrt(alpha) * images + np.sqrt(1 - alpha) * white
        if isinstance(denoise, Denoiser):
            predicted = denoise.noise(denoise.output(x_t, alpha), x_t, alpha)
        else:
            predicted = predicted_noise(denoise, x_t, alpha)
        moments.append(NoiseMoments.of(white, predicted))
    return NoiseMoments.at_times(moments)


def _signal_power(log_snr: Times) -> Times:
    return np.asarray(1 / (1 + np.exp(-log_snr)))


def _of_field(energies: Float[np.ndarray, " bands"], images: Images, noise: Times) -> Times:
    """Return what a Gaussian field of the band energies of images loses of one, at each variance of the noise."""
    numbers = images.shape[1] * np.array(band_sizes(size_of(*images.shape[-2:])))[:, None]
    variances = energies[:, None] / numbers
    return np.asarray((numbers * variances * noise / (variances + noise)).sum(axis=0))
