"""The energy of guidance along sampling, of two networks of one's own: with a condition and without."""

from collections.abc import Iterable

import numpy as np

from reschrom._arrays import Images, Number, real_number, told
from reschrom.denoisers.conventions import refuse_foreign, refuse_more_batches
from reschrom.denoisers.losses import batches
from reschrom.denoisers.network import Denoiser
from reschrom.denoisers.sampling import Times, ddim
from reschrom.theory.bands import band_energies, size_of
from reschrom.theory.chromatogram import Chromatogram
from reschrom.theory.intervals import StreamingMean
from reschrom.theory.rates import time_grid
from reschrom.theory.schedules import Schedule
from reschrom.theory.source import Source


def guidance_from_sampling(
    conditional: Denoiser,
    unconditional: Denoiser,
    start: Images | Iterable[Images],
    schedule: Schedule,
    edges: Times,
    scale: Number,
    name: str,
) -> Chromatogram:
    """Measure the energy of each band of the guidance term along DDIM sampling, mean over images: Eqs. (5) and (19).

    The guidance term is the conditional noise prediction minus the unconditional one. In each cell of the time grid it
    is that of the step which leads through the cell, so from the state at its noisier edge.

    conditional, unconditional: networks of one kind of prediction, or one network under two conditions.
    start: white noise, the state at the last time of `edges`, shape (N, C, S, S), or batches of it.
    schedule, edges: the time grid of the chromatogram, rising from image to noise.
    scale: of the guidance that the sampling follows; 1 samples with the conditional network alone.
    name: how plots and tables call it.
    Raises ValueError for networks that predict different things, and for one that is read in another convention than
    its own, as far as its errors on samples of its own show it.
    """
    for network in (conditional, unconditional):
        if not isinstance(network, Denoiser):
            raise TypeError(f"guidance is measured between two networks, each a Denoiser; got {told(network)}")
    edges, scale = time_grid(edges), real_number("the scale of the guidance", scale)
    if conditional.prediction != unconditional.prediction:
        raise ValueError(
            "guidance is a difference of two predictions of one kind; "
            f"got {conditional.prediction} and {unconditional.prediction}"
        )
    alphas, energies = schedule.alpha(edges)[:0:-1], StreamingMean()
    for x_t in batches(start):
        for network in (conditional, unconditional):
            if energies.count:
                refuse_more_batches(network)
            else:
                refuse_foreign(network, x_t, alphas)
        kept: list[np.ndarray] = []

        def guided(x_t: Images, alpha: float, kept: list[np.ndarray] = kept) -> Images:
            # Outputs are subtracted first: where there is little signal, two noises differ by less than their rounding.
            base = unconditional.output(x_t, alpha)
            term = conditional.output(x_t, alpha) - base
            kept.append(band_energies(conditional.noise_per_output(alpha) * term).T)
            return conditional.estimate(base + scale * term, x_t, alpha)

        for _ in ddim(guided, x_t, alphas):
            pass
        energies.add(np.stack(kept[::-1], axis=-1), energies.count)
    if not energies.count:
        raise ValueError("sampling starts from one or more images of noise; got none")
    source = Source(energies, schedule.alpha(edges), guidance=True)
    return Chromatogram.measured(source, edges, size_of(*x_t.shape[-2:]), name)
