"""What two denoisers, with a condition and without, make noised images tell of it: in nats, measured on images."""

from typing import NamedTuple

import numpy as np

from reschrom._arrays import Images, refuse_as_in_files, whole_number
from reschrom.denoisers.conventions import refuse_misread, refuse_range
from reschrom.denoisers.network import Denoiser
from reschrom.denoisers.sampling import Denoise, Times, estimate_of
from reschrom.theory.bands import band_energies, size_of
from reschrom.theory.information import Information
from reschrom.theory.intervals import StreamingMean


class BandInformation(NamedTuple):
    """The same nats in two ways; they agree where the predictions are exact, whatever the images show.

    by_guidance: half the energy of the guidance term, Eq. (19).
    by_loss: half of what the condition takes away from the loss of the noise prediction. May be negative.
    gap: the first less the second: minus the mean product of the guidance term with the error of the conditional
        prediction. It is a test of training that needs no reference.
    """

    by_guidance: Information
    by_loss: Information
    gap: Information


def band_information(
    conditional: Denoise,
    unconditional: Denoise,
    images: Images,
    log_snr: Times,
    generator: np.random.Generator,
    noises: int = 1,
) -> BandInformation:
    """Measure how many nats noised images tell of their condition, per unit of log SNR and band.

    Parameters
    ----------
    conditional, unconditional : callable
        Estimates of x_0 given x_t and alpha, the first under the condition of each image. Of a `Denoiser` the outputs
        are compared, as guidance does, and nothing is clipped.
    images : array, shape (N, C, H, W)
        Two or more, of that condition; or each of its own condition, as the conditional denoiser knows them in order.
        Then the total is the mutual information, which is never more than the entropy of the conditions.
    log_snr : array, shape (steps + 1,)
        The edges of the steps, rising from noise to image. Images are noised in the middle of every step.
    generator : numpy Generator
        Of the noise.
    noises : int
        How many noises each image gets, as for `band_losses`; its nats are their mean.

    Raises
    ------
    ValueError
        For fewer than two images, for denoisers that predict different things, and for a network that is read in
        another convention than its own, as far as its errors on the images show it.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import GaussianField, GaussianMixture, band_information
    >>> fields = [GaussianField([1.0, 4.0, 16.0], mean=m, channels=1) for m in (-3.0, 3.0)]
    >>> rng, mixture = np.random.default_rng(0), GaussianMixture(fields)
    >>> images, log_snr = fields[0].sample(400, rng), np.linspace(-12, 12, 97)
    >>> told = band_information(fields[0].denoise, mixture.denoise, images, log_snr, rng)
    >>> round(told.by_guidance.total, 1), round(told.by_loss.total, 1), round(float(np.log(2)), 1)
    (0.7, 0.7, 0.7)
    """
    if images.ndim != 4 or len(images) < 2:
        raise ValueError(f"two or more images are needed, shape (N, C, H, W); got {images.shape}")
    if isinstance(conditional, Denoiser) != isinstance(unconditional, Denoiser):
        raise ValueError("what is compared are two networks or two exact denoisers; got one of each")
    refuse_as_in_files(images)
    if isinstance(conditional, Denoiser) and isinstance(unconditional, Denoiser):
        if conditional.prediction != unconditional.prediction:
            raise ValueError(
                "guidance is a difference of two predictions of one kind; "
                f"got {conditional.prediction} and {unconditional.prediction}"
            )
        for network in (conditional, unconditional):
            refuse_range(network, images)
            refuse_misread(network, images)
    whole_number("the number of noises", noises, least=1)
    middles = (log_snr[1:] + log_snr[:-1]) / 2
    alphas = 1 / (1 + np.exp(-middles))
    nats = np.zeros((len(images), 3, len(band_energies(images)), len(alphas)))
    for noise in np.moveaxis(generator.standard_normal((len(images), noises, *images.shape[1:])), 1, 0):
        for step, alpha in enumerate(alphas):
            x_t = np.sqrt(alpha) * images + np.sqrt(1 - alpha) * noise
            term, error = _compared(conditional, unconditional, x_t, noise, alpha)
            energy, whole, rest = (band_energies(each).T / 2 for each in (term, error + term, error))
            nats[..., step] += np.stack([energy, whole - rest, energy - (whole - rest)], axis=1) / noises
    rates = StreamingMean()
    rates.add(nats, 0)
    size, replicates = size_of(*images.shape[-2:]), rates.replicates
    told = (Information(rates.mean[i], log_snr, size, replicates[:, i], rates.count) for i in range(3))
    return BandInformation(*told)


def _compared(
    conditional: Denoise, unconditional: Denoise, x_t: Images, noise: Images, alpha: float
) -> tuple[Images, Images]:
    """Return the guidance term, and the noise less the conditional prediction of it."""
    per_estimate = -np.sqrt(alpha / (1 - alpha))
    if isinstance(conditional, Denoiser) and isinstance(unconditional, Denoiser):
        given, per_output = conditional.output(x_t, alpha), conditional.noise_per_output(alpha)
        return per_output * (given - unconditional.output(x_t, alpha)), noise - conditional.noise(given, x_t, alpha)
    given = estimate_of(conditional, x_t, alpha)
    term = per_estimate * (given - estimate_of(unconditional, x_t, alpha))
    return term, noise - (x_t - np.sqrt(alpha) * given) / np.sqrt(1 - alpha)
