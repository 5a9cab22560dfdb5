"""Whether a network is read in its own convention: its prediction, sign, clock, schedule and range of values.

Read in another one, it would get a chromatogram that looks like any other, with narrow intervals. But such a network
errs, and how much it may err is known.
"""

import math
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
# errs up to 1.1 times as much, where its samples are made in few steps. A network whose samples are no smoother than
# white noise must know more of them than a field does.
_OWN, _NOT_SMOOTH = 1.5, 0.8
_STEPS, _REACH = 32, (-9.0, 11.0)  # of such samples, in log SNR

# A few images tell, as many as have so many numbers; and a bare function is not asked about fewer.
_IMAGES, _NUMBERS, _LEAST = 4, 4096, 150
# Where they are asked about: the log SNR of a number of the images, from noise to image.
_LOG_SNR = np.linspace(-4.0, 4.0, 9)
_SEED = (8, 27, 64, 125)  # this is a test and no measurement, but a user might draw the start by a common seed

# The noise, regressed on what a network predicts of it, has the slope 1 where the prediction is a mean of the noise.
# Where its time stands for another noise level, the slope is about the ratio of the two. Asked where there is no more
# signal than noise, networks kept within so much of 0 in the logarithm of the slope, from 50 training steps on: those
# that ship within 0.02 on samples of their own, 0.09 on images that they never saw.
_SLOPE_OWN, _SLOPE_IMAGES = 0.08, 0.12
_CHANCE = 3.0  # standard errors

# A network errs least at the time of the noise that it is shown, or another time was that of its training. Told times
# so far off in log SNR, networks gained at most 0.013 in the logarithm of the error, in the median over levels, from 50
# training steps on and on photographs that they never saw, and 0 when chance was taken off; exact ones of another
# schedule up to 0.4. On samples of their own, which another schedule shapes too, networks gained up to 0.05, chance
# included, and of a reversed clock 1.
_OTHER_TIMES = np.array([-2.0, -1.0, 1.0, 2.0])
_GAIN_IMAGES, _GAIN_OWN = 0.03, 0.2


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


class _Asked(NamedTuple):
    """How noise on a few images is predicted at some signal powers, and the images; sums over the numbers of an image.

    Means over images, and nothing is clipped.
    """

    alphas: Times
    missed: Times  # the squared error
    product: Times  # of the noise and its prediction
    energy: Times  # of the prediction
    images: Images
    gain: Times  # by how much the logarithm of `missed` falls where another time is told, less its chance

    @property
    def energies(self) -> Float[np.ndarray, " bands"]:
        """Of the images in every band."""
        return band_energies(self.images).mean(axis=1)


def refuse_misread(network: Denoiser, images: Images) -> None:
    """Refuse a network that cannot be read in its own convention, by how it predicts noise on a few of these images."""
    numbers = range(min(len(images), _enough(images)))
    asked = _asked(network.of_images(numbers), images[: len(numbers)], *_ends(network))
    if asked is not None:
        _refuse_blind(asked)
        _refuse_noise_level(asked, _SLOPE_IMAGES)
        _refuse_other_time(asked, _GAIN_IMAGES)


def refuse_foreign(denoise: Denoise, start: Images, alphas: Times) -> None:
    """Refuse a denoiser that does not know samples of its own.

    On them it may err hardly more than a Gaussian field of their spectrum does, and must predict their noise as large
    as it is.

    start: white noise. A network draws from other noise of its shape, over its whole schedule.
    alphas: rising, of the run. A bare function draws from the start itself and as far as the run, because it may know
        its images by number.
    """
    network = isinstance(denoise, Denoiser)
    first, last = (float(each) for each in alphas[[0, -1]])
    if isinstance(denoise, Denoiser):
        count, (first, last) = _enough(start), _ends(denoise)
        denoise = denoise.of_images([number % len(start) for number in range(count)])
        start = np.random.default_rng((*_SEED, 1)).standard_normal((count, *start.shape[1:]))
    elif start.size < _LEAST or last < _signal_power(_LOG_SNR)[-1]:
        return
    *_, end = ddim(denoise, start, _even_in_log_snr(first, last))
    asked = _asked(denoise, end.estimate, first, last)
    if asked is not None:
        _refuse_unlike_field(asked, network)
        _refuse_noise_level(asked, _SLOPE_OWN)
        _refuse_other_time(asked, _GAIN_OWN)


def refuse_more_batches(denoise: Denoise) -> None:
    """Refuse a second batch of images where the conditions are those of the first."""
    if isinstance(denoise, Denoiser) and denoise.is_told_each:
        raise ValueError("a network with a condition for each image is measured on one batch, of these images")


def _enough(images: Images) -> int:
    return max(_IMAGES, -(-_NUMBERS // images[0].size))


def _ends(network: Denoiser) -> tuple[float, float]:
    """Return the least and the greatest signal power that a network is asked about, as far as its schedule reaches."""
    schedule, (least, greatest) = network.schedule, _signal_power(np.array(_REACH))
    return max(float(schedule.alpha(schedule.end)), least), min(float(schedule.alpha(schedule.start)), greatest)


def _asked(denoise: Denoise, images: Images, first: float, last: float) -> _Asked | None:
    """Ask about noise on images, at signal powers from one to another; None where the images or these show nothing."""
    power = float(np.square(images).mean())
    levels = _signal_power(_LOG_SNR - np.log(power)) if power > 0 else np.zeros(0)
    levels = levels[(first <= levels) & (levels <= last)]
    if not len(levels):
        return None
    white, sums, gain = np.random.default_rng(_SEED).standard_normal(images.shape), [], []

    def sum_of(one: Images, other: Images) -> Float[np.ndarray, " images"]:
        return np.asarray((one * other).sum(axis=(1, 2, 3)))

    for alpha in levels:
        x_t = np.sqrt(alpha) * images + np.sqrt(1 - alpha) * white
        if isinstance(denoise, Denoiser):
            predicted = denoise.noise(denoise.output(x_t, alpha), x_t, alpha)
            others = _signal_power(np.log(alpha / (1 - alpha)) + _OTHER_TIMES)
            outputs = [denoise.output(x_t, alpha, other) for other in others if first < other < last]
            again = [denoise.noise(output, x_t, alpha) for output in outputs]
        else:
            predicted, again = predicted_noise(denoise, x_t, alpha), []
        sums.append(
            [sum_of(white - predicted, white - predicted), sum_of(white, predicted), sum_of(predicted, predicted)]
        )
        gain.append(max((_gained(sums[-1][0], sum_of(white - each, white - each)) for each in again), default=0.0))
    missed, product, energy = np.array(sums).mean(axis=-1).T
    return _Asked(levels, missed, product, energy, images, np.array(gain))


def _gained(own: Float[np.ndarray, " images"], other: Float[np.ndarray, " images"]) -> float:
    """Return by how much the logarithm of a mean squared error falls to another, less its standard error."""
    less = own - other
    sure = less.mean() - less.std(ddof=1) / math.sqrt(len(less)) if len(less) > 1 else 0.0
    if sure <= 0:
        return 0.0
    with np.errstate(divide="ignore"):  # of another that errs by nothing
        return -float(np.log1p(-sure / own.mean()))


def _refuse_noise_level(asked: _Asked, most: float) -> None:
    """Refuse a denoiser that is told another noise level than its images have: its schedule is another."""
    noisy = asked.alphas * np.square(asked.images).mean() <= (1 - asked.alphas) * (1 + 1e-9)
    if not np.any(noisy):
        return
    slope = asked.product[noisy] / asked.energy[noisy]
    error = np.sqrt(asked.missed[noisy] / asked.energy[noisy] / asked.images.size)
    with np.errstate(divide="ignore"):
        beyond = np.where(slope > 0, np.abs(np.log(np.abs(slope))), np.inf) - _CHANCE * error / np.abs(slope)
    worst = int(np.argmax(beyond))
    if beyond[worst] > most:
        raise ValueError(
            f"at a signal power of {asked.alphas[noisy][worst]:.2g} the noise is {slope[worst]:.2f} times what the "
            "denoiser predicts of it: its schedule, clock, prediction, sign or range of values is another, or it is "
            "distilled, not trained, or never saw such images"
        )


def _refuse_other_time(asked: _Asked, most: float) -> None:
    """Refuse a network that errs less where it is told another time than that of the noise that it is shown."""
    gain = float(np.median(asked.gain))
    if gain > most:
        raise ValueError(
            f"told another time than that of the noise, the network errs {1 - np.exp(-gain):.0%} less: its schedule or "
            "clock is another, or it is not trained, or never saw such images"
        )


def _refuse_blind(asked: _Asked) -> None:
    """Refuse a network whose estimates are no nearer to images than the noised images, or images of zeros, are.

    Asked where the images can be told from noise, in the geometric mean. On photographs that they were not trained on,
    networks of 16 to 64 pixels had 0.15 to 0.45; two of fruit pass 1 on textures, unknown to them.
    """
    noise = (1 - asked.alphas) / asked.alphas  # the variance on an image of unit intensity
    of_noised, of_zeros = asked.images[0].size * noise, asked.energies.sum()
    blind = np.minimum(of_noised, of_zeros)
    seen = _of_field(asked, noise) < _SEEN * blind
    if not np.any(seen):
        return
    with np.errstate(divide="ignore"):  # of a network that errs by nothing
        times_blind = float(np.exp(np.log(noise * asked.missed / blind)[seen].mean()))
    if times_blind > 1:
        raise ValueError(
            f"the network's estimates err {_many(times_blind)} times as much as the noised images, or images of zeros, "
            "do: its prediction, sign, clock, schedule or range of values is another, or it never saw such images"
        )


def _refuse_unlike_field(asked: _Asked, network: bool) -> None:
    """Refuse a denoiser that errs more on samples of its own than a Gaussian field of their spectrum does."""
    noise, energies = (1 - asked.alphas) / asked.alphas, asked.energies
    with np.errstate(divide="ignore"):  # of a denoiser that errs by nothing
        times_field = float(np.exp(np.log(noise * asked.missed / _of_field(asked, noise)).mean()))
    finest, *coarser = band_sizes(size_of(*asked.images.shape[-2:]))
    smooth = energies[0] / finest < energies[1:].sum() / max(sum(coarser), 1)
    if times_field > (_OWN if smooth or not network else _NOT_SMOOTH):
        raise ValueError(
            f"on samples of its own the denoiser errs {_many(times_field)} times as much as a Gaussian field of their "
            "spectrum does: its prediction, sign, clock, schedule or range of values is another, or it is not trained"
        )


def _even_in_log_snr(first: float, last: float) -> Times:
    """Return signal powers from one to another, so that data of any scale get steps where they are generated."""
    low, high = (float(np.clip(each, *_signal_power(np.array(_REACH)))) for each in (first, last))
    between = np.linspace(np.log(low / (1 - low)), np.log(high / (1 - high)), _STEPS + 1)[1:-1]
    return np.array([first, *_signal_power(between), last])


def _signal_power(log_snr: Times) -> Times:
    return np.asarray(1 / (1 + np.exp(-log_snr)))


def _many(times: float) -> str:
    return f"{times:.1f}" if times < 1000 else "over 1000"


def _of_field(asked: _Asked, noise: Times) -> Times:
    """Return what a Gaussian field of the band energies of images loses of one, at each variance of the noise."""
    images = asked.images
    numbers = images.shape[1] * np.array(band_sizes(size_of(*images.shape[-2:])))[:, None]
    variances = asked.energies[:, None] / numbers
    return np.asarray((numbers * variances * noise / (variances + noise)).sum(axis=0))
