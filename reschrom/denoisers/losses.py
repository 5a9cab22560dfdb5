"""What any denoiser generates, resolution by resolution: from its loss on data, and along its own sampling.

The signal of band m in the estimate E[x_0 | x_t] has the energy `E||b_m x_0||^2 - mmse_m(t)`, so the generation rate of
a resolution is `-d mmse_m / dt`. It can be had from denoising losses on data, or from the growing band energy of the
estimate while images are sampled. Both agree for an exact denoiser; for a network the difference is its training error.

A denoiser is any function `(x_t, alpha) -> estimate of x_0`; images have the shape (N, C, H, W), float64. Where it has
a method `precision(alphas)`, as that of a network does, this tells how much its estimates weigh. Images may come as one
array or as batches, each of which is dropped after its turn.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from reschrom._arrays import Images, finite, numpy_array, refuse_as_in_files, shape_told, whole_number
from reschrom.denoisers._images import known_generator
from reschrom.denoisers.conventions import refuse_foreign, refuse_misread, refuse_more_batches, refuse_range
from reschrom.denoisers.network import Denoiser
from reschrom.denoisers.sampling import WRAP, Denoise, Times, ddim, estimate_of
from reschrom.theory.bands import Size, band_energies, size_of
from reschrom.theory.chromatogram import Chromatogram
from reschrom.theory.intervals import Interval, StreamingMean, interval_around
from reschrom.theory.rates import never_rising, time_grid
from reschrom.theory.schedules import Schedule

# So many times the energy of the images, estimates that are taken to be exact may lose or hold by chance.
_MOST = 4.0


class BandLosses(NamedTuple):
    """Denoising losses of every band at every time, finest first, and what chance does to them.

    standard_error: over images.
    replicates: the same losses for every bootstrap replicate of the images.
    images: how many were measured; None where that is not known.
    """

    mean: Float[np.ndarray, "bands times"]
    standard_error: Float[np.ndarray, "bands times"]
    replicates: Float[np.ndarray, "replicates bands times"]
    images: int | None = None

    def interval(self, level: float = 0.95, simultaneous: bool = False) -> Interval:
        """Return the bootstrap confidence interval of every loss, shape (bands, times).

        level: probability that the interval of a loss covers it, over draws of the images and their noise; or, when
            `simultaneous`, that all of them do.
        """
        return interval_around(self.mean, self.replicates, level, simultaneous, (0.0, np.inf), self.images)


def band_losses(
    model: Denoise,
    images: Images | Iterable[Images],
    schedule: Schedule,
    times: Times,
    generator: np.random.Generator,
    noises: int = 1,
) -> BandLosses:
    """Measure the denoising loss of every band, `E||b_m (x_0 - estimate)||^2`, by noising images with Eq. (1).

    Parameters
    ----------
    model : callable or pipeline
        Any estimate of x_0 given x_t and alpha; with E[x_0 | x_t] the loss is the band-resolved mmse.
    images : array, shape (N, C, H, W), or iterable of such batches
        At least two, else ValueError, drawn from the distribution whose loss is wanted.
    schedule : Schedule
        Its time is that of `times`.
    times : array, shape (times,)
        In any order.
    generator : numpy Generator
        Of the noise.
    noises : int
        How many noises each image gets, one or more, else ValueError; its losses are their mean. A noise is the same at
        every time, so that the loss is a smooth function of time. Of few images several make the intervals narrower,
        and more often right.

    Returns
    -------
    BandLosses
        `mean` and `standard_error`, shape (levels + 1, times), the bootstrap `replicates` of the mean, and `interval`.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import GaussianField, Schedule, band_losses
    >>> field, rng, schedule = GaussianField([1, 4, 16]), np.random.default_rng(0), Schedule.cosine()
    >>> losses = band_losses(field.denoise, field.sample(1000, rng), schedule, np.array([0.5]), rng)
    >>> (losses.mean / field.losses(schedule.alpha(np.array([0.5])))).round(1).tolist()  # measured over exact
    [[1.0], [1.0], [1.0]]
    """
    times = numpy_array(times)
    if times.ndim != 1 or not len(times):
        raise ValueError(f"a loss is measured at one or more times, shape (times,); got {times.shape}")
    losses, _ = _losses(model, images, schedule.alpha(times), generator, noises)
    return BandLosses(losses.mean[..., 1:], losses.standard_error[..., 1:], losses.replicates[..., 1:], losses.count)


def _losses(
    denoise: Denoise, images: Images | Iterable[Images], alphas: Times, generator: np.random.Generator, noises: int
) -> tuple[StreamingMean, np.ndarray]:
    """Measure the energy that the images hold in every band, then its loss at every alpha, shape (bands, 1 + times).

    Returns the means, and the mean image, shape (1, C, H, W).
    """
    losses, total, generator = StreamingMean(), np.zeros(1), known_generator(generator)
    whole_number("the number of noises", noises, least=1)
    for batch in batches(images):
        if losses.count:
            refuse_more_batches(denoise)
        refuse_range(denoise, batch)
        lost = np.zeros((len(batch), len(band_energies(batch)), len(alphas)))
        # Image by image, so that batches draw what the whole does.
        drawn = generator.standard_normal((len(batch), noises, *batch.shape[1:]))
        for noise in np.moveaxis(drawn, 1, 0):
            for step, alpha in enumerate(alphas):
                estimate = estimate_of(denoise, np.sqrt(alpha) * batch + np.sqrt(1 - alpha) * noise, alpha)
                lost[..., step] += band_energies(batch - estimate).T / noises
        losses.add(np.concatenate([band_energies(batch).T[..., None], lost], axis=-1), losses.count)
        total = total + batch.sum(axis=0, keepdims=True)
    if losses.count < 2:
        raise ValueError(f"a loss and its error need two or more images; got {losses.count}")
    return losses, total / losses.count


def rates_from_losses(
    model: Denoise,
    images: Images | Iterable[Images],
    schedule: Schedule,
    edges: Times,
    generator: np.random.Generator,
    name: str,
    noises: int = 1,
) -> Chromatogram:
    """Measure generation rates from the denoising loss on images, `-d mmse_m / dt`; no image is generated.

    Where a network loses more of a band than the mean of the images does, its estimate counts as holding nothing of it.
    What it loses more in all at the noisiest time is kept as `noise_error`, for those who choose timesteps.

    Parameters
    ----------
    model, images, schedule, generator, noises
        As for `band_losses`.
    edges : array, shape (steps + 1,)
        The time grid of the chromatogram, rising from image to noise, else ValueError.
    name : str
        How plots and tables call it.

    Raises
    ------
    ValueError
        For a network that is read in another convention than its own (prediction, sign, clock, schedule), as far as its
        errors on the images show it.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import GaussianField, Schedule, rates_from_losses
    >>> field, rng = GaussianField([1, 4, 16]), np.random.default_rng(0)
    >>> images, edges = field.sample(1000, rng), np.linspace(0, 1, 21)
    >>> measured = rates_from_losses(field.denoise, images, Schedule.cosine(), edges, rng, "a field")
    >>> measured.centroids().round(1).tolist()
    [0.5, 0.7, 0.8]
    """
    edges = time_grid(edges)
    alphas = schedule.alpha(edges)
    images = _after_a_look(model, images) if isinstance(model, Denoiser) else images
    losses, mean = _losses(model, images, alphas, generator, noises)
    precision = _precision_of(model, alphas)
    total, lost = np.split(losses.mean, [1], axis=-1)
    noise_error = _noise_error(lost.sum(axis=0), float(total.sum() - band_energies(mean).sum()), alphas, mean.size)
    totals, again = np.split(losses.replicates, [1], axis=-1)
    if precision is not None:
        # The share of what the images hold that their mean loses. A good estimate loses more only by chance.
        varies = 1 - band_energies(mean) / np.where(total > 0, total, 1)
        most = np.minimum(varies * losses.count / (losses.count - 1), 1)
        lost, again = np.minimum(lost, most * total), np.minimum(again, most * totals)
    else:
        _refuse_inexact(lost.sum(axis=0) / total.sum(), alphas, "lose")
    measured = _from_signal(-lost, -again, losses.count, edges, size_of(*mean.shape[-2:]), name, precision)
    return replace(measured, noise_error=noise_error)


def _after_a_look(network: Denoiser, images: Images | Iterable[Images]) -> Iterator[Images]:
    """Yield batches of images, the first after it has shown that the network is read in its own convention."""
    for number, batch in enumerate(batches(images)):
        if not number:
            refuse_range(network, batch)
            refuse_misread(network, batch)
        yield batch


def _noise_error(lost: Times, variance: float, alphas: Times, numbers: int) -> float:
    """Return the root mean square error of the noise prediction, for each number of an image, at the noisiest time.

    lost, variance: of a whole image. An exact network loses the variance in pure noise, and nothing else.
    """
    noisiest = np.flatnonzero(alphas > 0)[-1]  # where alpha is 0 the image is not there to be lost
    excess = max(float(lost[noisiest]) - variance, 0.0) / numbers
    return min(math.sqrt(excess * float(alphas[noisiest] / (1 - alphas[noisiest]))), 1.0)


def rates_from_sampling(
    model: Denoise, start: Images | Iterable[Images], schedule: Schedule, edges: Times, substeps: int, name: str
) -> Chromatogram:
    """Measure generation rates along DDIM sampling: the growth of the band energy of the estimate.

    model: any estimate of x_0.
    start: white noise, the state at the last time of `edges`.
    substeps: DDIM steps for each step of the time grid. The error that finite steps make falls as 1 / substeps, and is
        not in the intervals, which cover chance alone.
    Raises ValueError for a denoiser that is read in another convention than its own, as far as its errors on samples of
    its own show it.
    """
    edges = time_grid(edges)
    if whole_number("the steps of DDIM", substeps) < 1:
        raise ValueError(f"each step of the time grid takes one or more steps of DDIM; got {substeps}")
    fine = np.interp(np.arange(substeps * (len(edges) - 1) + 1) / substeps, np.arange(len(edges)), edges)
    alphas, energies = schedule.alpha(fine)[::-1], StreamingMean()
    for x_t in batches(start):
        if energies.count:
            refuse_more_batches(model)
        else:
            refuse_foreign(model, x_t, alphas)
        kept = [band_energies(step.estimate).T for step in islice(ddim(model, x_t, alphas), 0, None, substeps)]
        energies.add(np.stack(kept[::-1], axis=-1), energies.count)
    if not energies.count:
        raise ValueError("sampling starts from one or more images of noise; got none")
    size, precision = size_of(*x_t.shape[-2:]), _precision_of(model, schedule.alpha(edges))
    if precision is None:
        held = energies.mean.sum(axis=0)
        _refuse_inexact(held / held[0], schedule.alpha(edges), "hold")
    return _from_signal(energies.mean, energies.replicates, energies.count, edges, size, name, precision)


def _refuse_inexact(shares: Times, alphas: Times, what: str) -> None:
    """Refuse an unwrapped network: an exact estimate neither loses nor holds more energy than the images do."""
    worst = int(np.argmax(shares))
    if shares[worst] > _MOST:
        raise ValueError(
            f"at alpha = {alphas[worst]:.2g} the estimates {what} {shares[worst]:.2g} times the energy of the images, "
            f"which no exact denoiser does. {WRAP}"
        )


def batches(images: Images | Iterable[Images]) -> Iterator[Images]:
    """Yield images batch by batch, after checking that they are finite and have one shape.

    Sizes that differ may have as many bands.
    """
    shape = None
    for given in [images] if hasattr(images, "shape") else images:
        batch = numpy_array(given)
        if batch.ndim != 4 or not batch.size:
            raise ValueError(f"images come in batches of one or more, shape (N, C, H, W); got {shape_told(batch)}")
        finite("images", batch)
        refuse_as_in_files(batch)
        if shape not in (None, batch.shape[1:]):
            raise ValueError(f"all images must have one shape; got {batch.shape[1:]} after {shape}")
        shape = batch.shape[1:]
        yield batch


def _from_signal(
    signal: np.ndarray,
    replicates: np.ndarray,
    images: int,
    edges: Times,
    size: Size,
    name: str,
    precision: Times | None,
) -> Chromatogram:
    fitted, again = (never_rising(each, precision) for each in (signal, replicates))
    return Chromatogram.from_signal(fitted, edges, size, name, again, images=images)


def _precision_of(denoise: Denoise, alphas: Times) -> Times | None:
    """Return what a denoiser says of the precision of its estimates; an exact one says nothing."""
    precision = getattr(denoise, "precision", None)
    return None if precision is None else precision(alphas)
