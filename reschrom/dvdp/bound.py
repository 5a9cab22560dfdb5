"""What a turning point of a dimensionality-varying process costs, and where turning points may stand."""

import math

import numpy as np
from jaxtyping import Float, Num

from reschrom._arrays import Array, Number, numpy_array, one_number, told, whole_number
from reschrom.dvdp.process import AttenuatedProcess, known_treatment
from reschrom.theory.schedules import Schedule


def error_bound(process: AttenuatedProcess, energies: Num[Array, " bands"]) -> Float[np.ndarray, " turning_points"]:
    """Bound, turning point by turning point, what replacing detail by noise does to the images: nats of divergence.

    With exact posteriors otherwise, KL(data || samples) is at most the sum. Each is
    `attenuation^2 alpha E / (2 (1 - alpha))` with E the energy of the detail. It falls to 0 with the attenuation.

    energies: mean of `band_energies` of the images, finest first; a band for each turning point is needed.
    """
    return float(process.attenuation) ** 2 * _unattenuated_bound(process, energies)


def attenuation_within(process: AttenuatedProcess, energies: Num[Array, " bands"], budget: Number) -> float:
    """Return the weakest attenuation with which `error_bound` sums to `budget` nats, at most 1.

    Schedule, turning points and treatment are those of `process`.
    """
    return min(1.0, math.sqrt(_positive("budget", budget) / float(_unattenuated_bound(process, energies).sum())))


def turning_points_within(
    schedule: Schedule,
    energies: Num[Array, " bands"],
    budget: Number,
    attenuation: Number,
    count: int,
    treatment: str = "continue",
) -> tuple[float, ...]:
    """Return the earliest turning points of which each has an `error_bound` of `budget / count` nats.

    energies: mean of `band_energies`, finest first.
    """
    energy = _first_bands(energies, whole_number("the number of turning points", count))
    if not 0 < one_number("attenuation", attenuation) <= 1:
        raise ValueError(f"attenuation must lie in (0, 1]; got {attenuation}")
    snr = 2 * _positive("budget", budget) / count / (attenuation**2 * energy) * _noise_growth(count, treatment)
    return tuple(float(schedule.time_at(math.log(each))) for each in snr)


def spectral_turning_points(
    schedule: Schedule, spectrum: Num[Array, " bands"], share: Number, count: int, treatment: str = "continue"
) -> tuple[float, ...]:
    """Return the times at which a Gaussian field's finest band that is left has only `share` of its signal generated.

    There the Wiener gain `alpha S / (alpha S + 1 - alpha)` of the band is `share`: the chromatogram of images of that
    spectrum says that the band still waits.

    spectrum: variance per coefficient of `band_spectrum`, finest first.
    """
    if not 0 < one_number("share", share) < 1:
        raise ValueError(f"share of the signal must lie between 0 and 1; got {share}")
    variance = _first_bands(spectrum, whole_number("the number of turning points", count))
    snr = share / (1 - share) / variance * _noise_growth(count, treatment)
    return tuple(float(schedule.time_at(math.log(each))) for each in snr)


def _unattenuated_bound(process: AttenuatedProcess, energies: Array) -> np.ndarray:
    count = len(process.turning_points)
    snr = np.array([float(process.schedule.snr(point)) for point in process.turning_points])
    return snr * _first_bands(energies, count) / (2 * _noise_growth(count, process.treatment))


def _noise_growth(count: int, treatment: str) -> np.ndarray:
    """Return the variance of the noise of a coefficient, in units of 1 - alpha, just before each turning point."""
    return 4.0 ** np.arange(count) if known_treatment(treatment) == "preserve" else np.ones(count)


def _first_bands(values: Array, count: int) -> np.ndarray:
    bands = numpy_array(values).astype(np.float64, copy=False)
    if bands.ndim != 1 or len(bands) < count or not np.all((bands > 0) & (bands < math.inf)):
        raise ValueError(f"a positive number is needed for each of {count} bands, finest first; got {told(values)}")
    return bands[:count]


def _positive(name: str, value: Number) -> float:
    if not 0 < one_number(name, value) < math.inf:
        raise ValueError(f"{name} must be positive and finite; got {value}")
    return float(value)
