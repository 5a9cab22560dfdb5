"""Whether a network is read in its own convention: its prediction, sign, clock, schedule and range of values.

Read in another one, it would get a chromatogram that looks like any other, with narrow intervals. But such a network
errs, and how much it may err is known.
"""

import numpy as np
from jaxtyping import Float

from reschrom._arrays import Images
from reschrom.denoisers.network import Denoiser
from reschrom.denoisers.sampling import Denoise, ddim
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
_STEPS, _IMAGES, _LEAST = 16, 4, 150  # of such samples; and fewer numbers in all tell nothing
_LOG_SNR = np.array([-2.0, 0.0, 2.0, 4.0])


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


def refuse_blind(missed: Times, energies: Float[np.ndarray, " bands"], images: Images, alphas: Times) -> None:
    """Refuse a network whose estimates are no nearer to images than the noised images, or images of zeros, are.

    Asked at the times at which the images can be told from noise, in the geometric mean. On photographs that they were
    not trained on, networks of 16 to 64 pixels had 0.15 to 0.45; two of fruit pass 1 on textures, unknown to them.

    missed: mean squared error of the noise, of a whole image and not clipped, at each time.
    energies: of the images in every band.
    images: any of the same shape.
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


def refuse_foreign(network: Denoiser, start: Images, alphas: Times) -> None:
    """Refuse a network that errs more on a few samples of its own than a Gaussian field of their spectrum does.

    start: white noise, the state at the first of the `alphas`, which rise to those of images.
    """
    start, network = start[:_IMAGES], network.of_first(_IMAGES)
    if start.size < _LEAST or alphas[-1] < 1 / (1 + np.exp(-_LOG_SNR[-1])):
        return
    noisiest, cleanest = np.arccos(np.sqrt(alphas[[0, -1]]))
    angles = np.linspace(noisiest, cleanest, _STEPS + 1)
    *_, last = ddim(network, start, np.cos(angles) ** 2)
    # A fixed seed: this is a test, and no measurement.
    samples, white = last.estimate, np.random.default_rng(0).standard_normal(start.shape)
    levels, errors = 1 / (1 + np.exp(-_LOG_SNR)), []
    for alpha in levels:
        x_t = np.sqrt(alpha) * samples + np.sqrt(1 - alpha) * white
        errors.append(np.square(white - network.noise(network.output(x_t, alpha), x_t, alpha)).sum() / len(samples))
    noise = np.exp(-_LOG_SNR)
    energies = band_energies(samples).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # of samples that show nothing
        times_field = float(np.exp(np.log(noise * errors / _of_field(energies, samples, noise)).mean()))
    finest, *coarser = band_sizes(size_of(*samples.shape[-2:]))
    smooth = energies[0] / finest < energies[1:].sum() / max(sum(coarser), 1)
    if times_field > (_OWN if smooth else _NOT_SMOOTH):
        raise ValueError(
            f"on samples of its own the network errs {times_field:.1f} times as much as a Gaussian field of their "
            "spectrum does: its prediction, sign, clock, schedule or range of values is another, or it is not trained"
        )


def _of_field(energies: Float[np.ndarray, " bands"], images: Images, noise: Times) -> Times:
    """Return what a Gaussian field of the band energies of images loses of one, at each variance of the noise."""
    numbers = images.shape[1] * np.array(band_sizes(size_of(*images.shape[-2:])))[:, None]
    variances = energies[:, None] / numbers
    return np.asarray((numbers * variances * noise / (variances + noise)).sum(axis=0))
