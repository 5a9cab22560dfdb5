"""Errors of lists of timesteps, on exact posteriors and a shipped network: `python benchmarks/timesteps.py --out JSON`.

DDIM begins in pure noise and takes the list; its error is the distance from the solution of many steps, of every band
relative to the band in that solution, and a root mean square over bands. The exact posteriors are a Gaussian field, a
mixture of one field for each photograph, and a finite set of pieces. Lists see pieces of the same distribution alone:
their spectrum, or the losses of the posterior on them. Intervals are those of differences to the list of equal error
from the spectrum, paired by noise and simultaneous over all lists and numbers of steps of one model.

Entropic time (arXiv 2504.13612) is even in the information of x_t about x_0, by I-MMSE the integral of mmse SNR / 2
over log SNR. "By band" counts the bands alike, each by its information for each coefficient: how we read the spectral
variant of that paper, whose definition we could not see.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from diffusers import DDPMScheduler
from diffusers.schedulers.scheduling_utils import AysSchedules
from scipy.stats import beta

from reschrom import (
    Chromatogram,
    FiniteDataset,
    GaussianField,
    GaussianMixture,
    Schedule,
    band_energies,
    band_losses,
    band_sizes,
    band_spectrum,
    ddim,
    designed_timesteps,
    load_pipeline,
    network_denoiser,
    photos,
    usual_timesteps,
)
from reschrom._files import write_json
from reschrom.denoisers.losses import never_rising
from reschrom.design.timesteps import distinct
from reschrom.images.photographs import image_names
from reschrom.theory.intervals import interval_around

STEPS, REPLICATES = (5, 10, 15, 27, 50), 1000
FINE = 400  # steps of the solution that counts as the truth, even in log sigma
OURS = "equal error, spectrum"
WHOLE = np.arange(-1.0, 1000.0)  # the timesteps, and the image
SCHEDULER = DDPMScheduler()
SCHEDULE = Schedule.from_diffusers(SCHEDULER)
Lists = dict[str, Callable[[int], list[int]]]


def nearest(log_sigma: np.ndarray) -> list[int]:
    """Return the whole timesteps of these noise levels, as far as the schedule reaches."""
    low, high = (float(-SCHEDULE.log_snr(t)) / 2 for t in (0.0, SCHEDULE.end))
    return distinct(np.rint(SCHEDULE.time_at(-2 * np.clip(log_sigma, low, high))).astype(int), 0)


def others() -> Lists:
    """Return the lists that know nothing of the data."""
    low, high = (float(-SCHEDULE.log_snr(t)) / 2 for t in (0.0, SCHEDULE.end))

    def ays(name: str, steps: int) -> list[int]:
        levels = np.log(np.array(AysSchedules[name])[:-1])
        return nearest(np.interp(np.linspace(0, 1, steps), np.linspace(0, 1, len(levels)), levels))

    def by_beta(steps: int) -> list[int]:  # as use_beta_sigmas of diffusers
        part = beta.ppf(1 - np.linspace(0, 1, steps), 0.6, 0.6)
        return nearest(np.log(np.exp(low) + part * (np.exp(high) - np.exp(low))))

    usual = {name: lambda n, name=name: usual_timesteps(SCHEDULER, n)[name] for name in ("trailing", "Karras")}
    return usual | {
        "exponential": lambda n: nearest(np.linspace(high, low, n)),
        "Beta": by_beta,
        "AYS, SD 1.5": lambda n: ays("StableDiffusionSigmas", n),
        "AYS, SDXL": lambda n: ays("StableDiffusionXLSigmas", n),
        "AYS, SVD": lambda n: ays("StableDiffusionVideoSigmas", n),
    }


def entropic(losses: np.ndarray, by_band: np.ndarray | None) -> Callable[[int], list[int]]:
    """Return lists that are even in information.

    losses: the mmse of every band at the timesteps from 0 up, shape (bands, 1000).
    by_band: how many coefficients each band has, or None to count every coefficient alike.
    """
    log_snr = SCHEDULE.log_snr(WHOLE[1:])
    rate = losses * np.exp(log_snr) / 2
    rate = rate.sum(axis=0) if by_band is None else (rate / by_band[:, None]).mean(axis=0)
    told = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2 * -np.diff(log_snr))])

    def chosen(steps: int) -> list[int]:
        even = np.interp(np.linspace(1, 0, steps), told / told[-1], WHOLE[1:])
        return distinct(np.rint(even).astype(int), 0)

    return chosen


def lists_for(losses: np.ndarray, spectrum: np.ndarray, pieces: np.ndarray) -> Lists:
    """Return all lists, those of the data by the spectrum and the losses on the pieces."""
    size = pieces.shape[-1]
    predicted = Chromatogram.predicted(SCHEDULE, size, spectrum, WHOLE)
    energies = band_energies(pieces).mean(axis=1)
    missed = np.minimum(np.concatenate([np.zeros((len(losses), 1)), losses], axis=1), energies[:, None])
    signal = never_rising(-missed, np.ones(len(WHOLE)))
    by_losses = Chromatogram.from_signal(signal, WHOLE, size, "losses")
    count = np.array(band_sizes(size), dtype=float) * pieces.shape[1]
    return {
        OURS: lambda n: designed_timesteps(predicted, SCHEDULE, n),
        "equal error, losses": lambda n: designed_timesteps(by_losses, SCHEDULE, n),
        "equal signal, spectrum": lambda n: designed_timesteps(predicted, SCHEDULE, n, equal="signal"),
        "entropic": entropic(losses, None),
        "entropic, by band": entropic(losses, count),
    } | others()


def solved(denoise: Callable, start: np.ndarray, alphas: np.ndarray) -> np.ndarray:
    *_, last = ddim(denoise, start, alphas)
    return np.asarray(last.estimate, dtype=np.float64)  # the last step leads here


def compared(denoise: Callable, start: np.ndarray, lists: Lists, steps: tuple[int, ...]) -> dict:
    """Return the error of every list, and its difference to ours with simultaneous intervals."""
    truth = solved(denoise, start, 1 / (1 + np.geomspace(1.5e2, 1e-2, FINE) ** 2))
    energy = band_energies(truth)
    found = {}
    for n in steps:
        for name, listed in lists.items():
            drawn = solved(denoise, start, SCHEDULE.alpha(np.array(listed(n), dtype=float)))
            found[name, n] = band_energies(drawn - truth)
    drawn = np.random.default_rng(0).integers(len(start), size=(REPLICATES, len(start)))

    def error(missed: np.ndarray, which: np.ndarray) -> np.ndarray:
        share = missed[:, which].sum(axis=-1) / energy[:, which].sum(axis=-1)
        return np.sqrt(share.mean(axis=0))

    all_of_them = np.arange(len(start))
    mean = {key: float(error(missed, all_of_them)) for key, missed in found.items()}
    again = {key: error(missed, drawn) for key, missed in found.items()}
    pairs = [key for key in found if key[0] != OURS]
    more = np.array([mean[key] - mean[OURS, key[1]] for key in pairs])
    more_again = np.stack([again[key] - again[OURS, key[1]] for key in pairs], axis=1)
    bounds = interval_around(more, more_again, simultaneous=True, images=len(start))
    table = {name: {str(n): round(mean[name, n], 5) for n in steps} for name in lists}
    less = {name: {} for name in lists if name != OURS}
    for (name, n), *row in zip(pairs, more, bounds.lower, bounds.upper, strict=True):
        less[name][str(n)] = [round(float(value), 5) for value in row]
    return {"images": len(start), "error": table, "more than ours": less}


def exact(size: int, count: int) -> dict[str, tuple[object, np.ndarray]]:
    """Return the exact posteriors, each with pieces of its own distribution by which lists are made."""
    classes, rng = len(image_names("photographs")), np.random.default_rng(1)
    pieces = photos("photographs", 20 * classes, size, generator=rng)
    fields = [GaussianField.fit(pieces[k::classes]) for k in range(classes)]
    field, mixture, small = GaussianField.fit(pieces), GaussianMixture(fields), pieces[:count]
    return {
        "Gaussian field": (field, field.sample(400, rng)),
        "mixture of photographs": (mixture, mixture.sample(400, rng)),
        "finite set": (FiniteDataset(small), small),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="a JSON file")
    parser.add_argument("--samples", type=int, default=48, help="of exact posteriors; 0 leaves them out (default: 48)")
    parser.add_argument("--images", type=int, default=0, help="of the network; 0, the default, leaves it out")
    parser.add_argument("--size", type=int, default=16, help="of the pieces (default: 16)")
    given = parser.parse_args()
    times, rng = WHOLE[1:], np.random.default_rng(2)
    results = {}
    for name, (model, pieces) in exact(given.size, 200).items() if given.samples else ():
        losses = band_losses(model.denoise, pieces[:200], SCHEDULE, times[::10], rng).mean
        every = np.stack([np.interp(times, times[::10], band) for band in losses])
        lists = lists_for(every, band_spectrum(pieces), pieces)
        start = rng.standard_normal((given.samples, *pieces.shape[1:]))
        results[name] = compared(model.denoise, start, lists, STEPS)
        show(name, results[name])
    if given.images:
        pipeline = load_pipeline("data/models/pocket-direct-64")
        denoise, pieces = network_denoiser(pipeline), photos("photographs", 200, 64, generator=rng)
        losses = band_losses(denoise, pieces[:32].astype(np.float32), SCHEDULE, times[::50], rng).mean
        every = np.stack([np.interp(times, times[::50], band) for band in losses])
        start = rng.standard_normal((given.images, 3, 64, 64)).astype(np.float32)
        results["pocket-direct-64"] = compared(
            denoise, start, lists_for(every, band_spectrum(pieces), pieces), (10, 27)
        )
        show("pocket-direct-64", results["pocket-direct-64"])
    if given.out is not None:
        write_json(given.out, {"made by": "benchmarks/timesteps.py", **results})


def show(name: str, result: dict) -> None:
    """Print one table: errors, and + or - where a list is measurably farther or closer than ours."""
    steps = list(result["error"][OURS])
    print(f"\n| {name}, {result['images']} samples | {' | '.join(steps)} |\n| --- |{' --- |' * len(steps)}")
    for each, row in result["error"].items():
        cells = []
        for n, value in row.items():
            _, low, high = result["more than ours"].get(each, {}).get(n, (0.0, -1.0, 1.0))
            cells.append(f"{value:.3f}{'+' if low > 0 else '-' if high < 0 else ''}")
        print(f"| {each} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
