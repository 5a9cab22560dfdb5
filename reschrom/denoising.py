"""What any denoiser generates, resolution by resolution: from its loss on data, and along its own sampling.

The signal of band m in the estimate E[x_0 | x_t] has the energy `E||b_m x_0||^2 - mmse_m(t)`, so the generation rate of
a resolution is `-d mmse_m / dt`. It can be had from denoising losses on data, or from the growing band energy of the
estimate while images are sampled. Both agree for an exact denoiser; for a network the difference is its training error.

A denoiser is any function `(x_t, alpha) -> estimate of x_0`; images have the shape (N, C, S, S), float64.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from reschrom._arrays import signal_power
from reschrom.chromatogram import Chromatogram
from reschrom.posteriors import Images, noise_power
from reschrom.resolution import band_energies
from reschrom.schedules import Schedule

Denoiser = Callable[[np.ndarray, float], np.ndarray]
Times = Float[np.ndarray, " times"]


class BandLosses(NamedTuple):
    """Denoising losses of every band at every alpha, finest first, and their standard errors over images."""

    mean: Float[np.ndarray, "bands times"]
    standard_error: Float[np.ndarray, "bands times"]


class Step(NamedTuple):
    """One state of a generation: the signal power, the noised images and the estimate of the final ones."""

    alpha: float
    x_t: Images
    estimate: Images


def predicted_noise(denoise: Denoiser, x_t: Images, alpha: float) -> Images:
    """Return the noise prediction that an estimate of the image implies: Eq. (7) solved for epsilon.

    alpha: signal power below 1.
    """
    noise = noise_power(alpha)
    return (x_t - np.sqrt(alpha) * _estimate(denoise, x_t, alpha)) / np.sqrt(noise)


def band_losses(denoise: Denoiser, images: Images, alphas: Times, generator: np.random.Generator) -> BandLosses:
    """Measure the denoising loss of every band, `E||b_m (x_0 - estimate)||^2`, by noising images with Eq. (1).

    denoise: any estimate of x_0; with E[x_0 | x_t] the loss is the band-resolved mmse.
    images: at least two, drawn from the distribution whose loss is wanted. Each gets one noise, the same at every
        alpha, so that the loss is a smooth function of alpha.
    """
    if len(images) < 2:
        raise ValueError(f"a loss and its error need two or more images, shape (N, C, S, S); got {images.shape}")
    noise = generator.standard_normal(images.shape)
    losses = []
    for alpha in signal_power(alphas)[0]:
        x_t = np.sqrt(alpha) * images + np.sqrt(1 - alpha) * noise
        losses.append(band_energies(images - _estimate(denoise, x_t, alpha)))
    per_image = np.stack(losses, axis=1)
    return BandLosses(per_image.mean(axis=-1), per_image.std(axis=-1, ddof=1) / np.sqrt(len(images)))


def ddim(denoise: Denoiser, x_t: Images, alphas: Times) -> Iterator[Step]:
    """Generate images with DDIM, Eq. (4), and yield every state on the way.

    denoise: estimate of x_0 given x_t.
    x_t: the state at the first alpha; white noise where that is 0.
    alphas: rising signal powers; the last may be 1.
    """
    alphas, _ = signal_power(alphas)
    if not alphas.size or not np.all(np.diff(alphas) > 0):
        raise ValueError(f"generation runs from noise to image: alphas must rise; got {alphas}")
    for now, after in zip(alphas, [*alphas[1:], None], strict=True):
        estimate = _estimate(denoise, x_t, now)
        yield Step(now, x_t, estimate)
        if after is not None:
            noise = (x_t - np.sqrt(now) * estimate) / np.sqrt(1 - now)
            x_t = np.sqrt(after) * estimate + np.sqrt(1 - after) * noise


def rates_from_losses(
    denoise: Denoiser, images: Images, schedule: Schedule, edges: Times, generator: np.random.Generator, name: str
) -> Chromatogram:
    """Measure generation rates from the denoising loss on images, `-d mmse_m / dt`; no image is generated.

    images, generator: as for `band_losses`.
    edges: the time grid of the chromatogram, rising from image to noise.
    """
    losses = band_losses(denoise, images, schedule.alpha(edges), generator).mean
    return Chromatogram.from_signal(never_rising(-losses), edges, images.shape[-1], name)


def rates_from_sampling(
    denoise: Denoiser, start: Images, schedule: Schedule, edges: Times, substeps: int, name: str
) -> Chromatogram:
    """Measure generation rates along DDIM sampling: the growth of the band energy of the estimate.

    start: white noise, the state at the last time of `edges`.
    substeps: DDIM steps for each step of the time grid.
    """
    if substeps < 1:
        raise ValueError(f"each step of the time grid takes one or more steps of DDIM; got {substeps}")
    fine = np.interp(np.arange(substeps * (len(edges) - 1) + 1) / substeps, np.arange(len(edges)), edges)
    steps = ddim(denoise, start, schedule.alpha(fine)[::-1])
    energies = [band_energies(step.estimate).mean(axis=-1) for index, step in enumerate(steps) if index % substeps == 0]
    return Chromatogram.from_signal(never_rising(np.stack(energies[::-1], axis=1)), edges, start.shape[-1], name)


def _estimate(denoise: Denoiser, x_t: Images, alpha: float) -> Images:
    estimate = denoise(x_t, alpha)
    if np.shape(estimate) != x_t.shape or not np.all(np.isfinite(estimate)):
        raise ValueError(
            f"a denoiser must return finite images of the shape it is given, {x_t.shape}; got the shape "
            f"{np.shape(estimate)}, at alpha = {alpha:g}"
        )
    return estimate


def never_rising(signal: Float[np.ndarray, "bands times"]) -> Float[np.ndarray, "bands times"]:
    """Return the nearest signal that never rises with time, by least squares, band by band.

    The signal an estimate holds never rises with the noise; a measurement of it does, by chance.
    """
    from scipy.optimize import isotonic_regression

    return np.stack([isotonic_regression(band, increasing=False).x for band in signal])
