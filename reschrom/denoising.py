"""What any denoiser generates, resolution by resolution: from its loss on data, and along its own sampling.

The signal of band m in the estimate E[x_0 | x_t] has the energy `E||b_m x_0||^2 - mmse_m(t)`, so the generation rate of
a resolution is `-d mmse_m / dt`. It can be had from denoising losses on data, or from the growing band energy of the
estimate while images are sampled. Both agree for an exact denoiser; for a network the difference is its training error.

A denoiser is any function `(x_t, alpha) -> estimate of x_0`; images have the shape (N, C, S, S), float64. What asks for
a model takes a diffusers pipeline as well. Images may come as one array or as batches, each of which is dropped after
its turn.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from reschrom._arrays import signal_power
from reschrom.bootstrap import StreamingMean
from reschrom.chromatogram import Chromatogram
from reschrom.posteriors import Images, noise_power
from reschrom.resolution import band_energies
from reschrom.schedules import Schedule

Denoiser = Callable[[np.ndarray, float], np.ndarray]
Times = Float[np.ndarray, " times"]


class BandLosses(NamedTuple):
    """Denoising losses of every band at every time, finest first, and what chance does to them.

    standard_error: over images.
    replicates: the same losses for every bootstrap replicate of the images.
    """

    mean: Float[np.ndarray, "bands times"]
    standard_error: Float[np.ndarray, "bands times"]
    replicates: Float[np.ndarray, "replicates bands times"]


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


def band_losses(
    model: Any, images: Images | Iterable[Images], schedule: Schedule, times: Times, generator: np.random.Generator
) -> BandLosses:
    """Measure the denoising loss of every band, `E||b_m (x_0 - estimate)||^2`, by noising images with Eq. (1).

    model: any estimate of x_0, or a diffusers pipeline; with E[x_0 | x_t] the loss is the band-resolved mmse.
    images: at least two, drawn from the distribution whose loss is wanted. Each gets one noise, the same at every
        time, so that the loss is a smooth function of time.
    times: of `schedule`, in any order.
    """
    losses = _losses(model, images, schedule.alpha(times), generator)
    return BandLosses(losses.mean[..., 1:], losses.standard_error[..., 1:], losses.replicates[..., 1:])


def _losses(
    model: Any, images: Images | Iterable[Images], alphas: Times, generator: np.random.Generator
) -> StreamingMean:
    """Measure the energy that the images hold in every band, then its loss at every alpha, shape (bands, 1 + times)."""
    denoise, losses = _denoiser(model), StreamingMean()
    for batch in _batches(images):
        noise = generator.standard_normal(batch.shape)
        kept = [band_energies(batch).T]
        for alpha in alphas:
            x_t = np.sqrt(alpha) * batch + np.sqrt(1 - alpha) * noise
            kept.append(band_energies(batch - _estimate(denoise, x_t, alpha)).T)
        losses.add(np.stack(kept, axis=-1), losses.count)
    if losses.count < 2:
        raise ValueError(f"a loss and its error need two or more images; got {losses.count}")
    return losses


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
    model: Any,
    images: Images | Iterable[Images],
    schedule: Schedule,
    edges: Times,
    generator: np.random.Generator,
    name: str,
) -> Chromatogram:
    """Measure generation rates from the denoising loss on images, `-d mmse_m / dt`; no image is generated.

    Where a network loses more of a band than the images hold there, its estimate counts as holding nothing of it.

    model, images, generator: as for `band_losses`.
    edges: the time grid of the chromatogram, rising from image to noise.
    """
    alphas = schedule.alpha(edges)
    losses = _losses(model, images, alphas, generator)
    precision = _precision(model, alphas)
    total, lost = np.split(losses.mean, [1], axis=-1)
    totals, again = np.split(losses.replicates, [1], axis=-1)
    if precision is not None:  # an exact estimate loses more than there is only by chance
        lost, again = np.minimum(lost, total), np.minimum(again, totals)
    return _from_signal(-lost, -again, edges, name, precision)


def rates_from_sampling(
    model: Any, start: Images | Iterable[Images], schedule: Schedule, edges: Times, substeps: int, name: str
) -> Chromatogram:
    """Measure generation rates along DDIM sampling: the growth of the band energy of the estimate.

    model: any estimate of x_0, or a diffusers pipeline.
    start: white noise, the state at the last time of `edges`.
    substeps: DDIM steps for each step of the time grid. The error that finite steps make falls as 1 / substeps, and is
        not in the intervals, which know of chance alone.
    """
    if substeps < 1:
        raise ValueError(f"each step of the time grid takes one or more steps of DDIM; got {substeps}")
    fine = np.interp(np.arange(substeps * (len(edges) - 1) + 1) / substeps, np.arange(len(edges)), edges)
    denoise, alphas, energies = _denoiser(model), schedule.alpha(fine)[::-1], StreamingMean()
    for x_t in _batches(start):
        kept = [band_energies(step.estimate).T for step in islice(ddim(denoise, x_t, alphas), 0, None, substeps)]
        energies.add(np.stack(kept[::-1], axis=-1), energies.count)
    return _from_signal(energies.mean, energies.replicates, edges, name, _precision(model, schedule.alpha(edges)))


def _batches(images: Images | Iterable[Images]) -> Iterable[Images]:
    return [images] if isinstance(images, np.ndarray) else images


def _denoiser(model: Any) -> Denoiser:
    if not hasattr(model, "scheduler"):
        return model
    from reschrom.networks import network_denoiser

    return network_denoiser(model)


def _precision(model: Any, alphas: Times) -> Times | None:
    if not hasattr(model, "scheduler"):
        return None
    from reschrom.networks import estimate_precision

    return estimate_precision(alphas, model.scheduler.config.prediction_type)


def _from_signal(
    signal: np.ndarray, replicates: np.ndarray, edges: Times, name: str, precision: Times | None
) -> Chromatogram:
    side = 2 ** (len(signal) - 1)
    fitted, again = (never_rising(each, precision) for each in (signal, replicates))
    return Chromatogram.from_signal(fitted, edges, side, name, again)


def _estimate(denoise: Denoiser, x_t: Images, alpha: float) -> Images:
    estimate = denoise(x_t, alpha)
    if np.shape(estimate) != x_t.shape or not np.all(np.isfinite(estimate)):
        raise ValueError(
            f"a denoiser must return finite images of the shape it is given, {x_t.shape}; got the shape "
            f"{np.shape(estimate)}, at alpha = {alpha:g}"
        )
    return estimate


def never_rising(
    signal: Float[np.ndarray, "*bands times"], precision: Times | None = None
) -> Float[np.ndarray, "*bands times"]:
    """Return the nearest signal that never rises with time, by least squares, band by band.

    The signal an estimate holds never rises with the noise; a measurement of it does, by chance.
    precision: the weight of each time; None for equal ones.
    """
    from scipy.optimize import isotonic_regression

    rows = signal.reshape(-1, signal.shape[-1])
    fitted = [isotonic_regression(band, weights=precision, increasing=False).x for band in rows]
    return np.stack(fitted).reshape(signal.shape)
