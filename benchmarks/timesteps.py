"""Errors of lists of timesteps, on exact posteriors and a shipped network: `python benchmarks/timesteps.py --out JSON`.

DDIM begins in pure noise and takes the list; its error is the distance from the solution of many steps, of every band
relative to the band in that solution, and a root mean square over bands. The exact posteriors are a Gaussian field, a
mixture of one field for each photograph, and a finite set of pieces. Lists see pieces of the same distribution alone:
their spectrum, or the losses of the posterior on them. Intervals are those of differences to the list of equal error
from the spectrum, paired by noise and simultaneous over all lists and numbers of steps of one model.

Entropic time (arXiv 2504.13612) is even in the information of x_t about x_0, by I-MMSE the integral of mmse SNR / 2
over log SNR. "By band" counts the bands alike, each by its information for each coefficient: how we read the spectral
variant of that paper, whose definition we could not see.

LD3 (arXiv 2405.15506) learns a list for one model, solver and number of steps, by gradient descent on the distance from
the fine solution, from noise that judges nothing. Its loss is the plain squared distance of its authors, whose other
one, LPIPS, sees larger pictures. "By band" has the error of this table for its loss, so it is fitted to what judges it.
The authors may also tell the network another time than that of the step, which no scheduler does: left out. Lists are
judged by the plain distance too, because one of them is learned by it.
"""

import argparse
import itertools
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler
from diffusers.schedulers.scheduling_utils import AysSchedules
from scipy.stats import beta

from reschrom import (
    Chromatogram,
    Denoiser,
    FiniteDataset,
    GaussianField,
    GaussianMixture,
    Schedule,
    band_energies,
    band_losses,
    band_sizes,
    band_spectrum,
    bands,
    ddim,
    designed_timesteps,
    from_bands,
    load_pipeline,
    network_denoiser,
    photos,
    usual_timesteps,
)
from reschrom._files import write_json
from reschrom.denoisers.losses import never_rising
from reschrom.design.timesteps import distinct
from reschrom.images.photographs import image_names
from reschrom.theory.bands import cell_pixels
from reschrom.theory.intervals import interval_around

STEPS, REPLICATES = (5, 10, 15, 27, 50), 1000
FINE = 400  # steps of the solution that counts as the truth, even in log sigma
MOST, LEAST = 1.5e2, 1e-2  # its sigmas
OURS = "equal error, spectrum"
WHOLE = np.arange(-1.0, 1000.0)  # the timesteps, and the image
SCHEDULER = DDPMScheduler()
SCHEDULE = Schedule.from_diffusers(SCHEDULER)
LOW, HIGH = (float(-SCHEDULE.log_snr(t)) / 2 for t in (0.0, SCHEDULE.end))  # log sigma, as far as timesteps reach
Lists = dict[str, Callable[[int], list[int]]]
Tensors = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # a denoiser that gradients pass


def nearest(log_sigma: np.ndarray) -> list[int]:
    """Return the whole timesteps of these noise levels, as far as the schedule reaches."""
    return distinct(np.rint(SCHEDULE.time_at(-2 * np.clip(log_sigma, LOW, HIGH))).astype(int), 0)


def others() -> Lists:
    """Return the lists that know nothing of the data."""

    def ays(name: str, steps: int) -> list[int]:
        levels = np.log(np.array(AysSchedules[name])[:-1])
        return nearest(np.interp(np.linspace(0, 1, steps), np.linspace(0, 1, len(levels)), levels))

    def by_beta(steps: int) -> list[int]:  # as use_beta_sigmas of diffusers
        part = beta.ppf(1 - np.linspace(0, 1, steps), 0.6, 0.6)
        return nearest(np.log(np.exp(LOW) + part * (np.exp(HIGH) - np.exp(LOW))))

    usual = {name: lambda n, name=name: usual_timesteps(SCHEDULER, n)[name] for name in ("trailing", "Karras")}
    return usual | {
        "exponential": lambda n: nearest(np.linspace(HIGH, LOW, n)),
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


def exact_tensors(model: GaussianField | GaussianMixture | FiniteDataset) -> Tensors:
    """Return an exact posterior for gradients: a mixture of fields, of one alone or of pictures without variance."""
    if isinstance(model, FiniteDataset):
        fields = [GaussianField(np.zeros(len(band_energies(model.images))), image) for image in model.images]
    else:
        fields = model.fields if isinstance(model, GaussianMixture) else [model]
    means = [torch.tensor(band).flatten(1) for band in bands(np.stack([field.mean for field in fields]))]
    spectra = torch.tensor(np.stack([field.spectrum for field in fields]))
    channels, size = fields[0].mean.shape[:2]

    def denoise(x: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        split, root, power = bands(x), alpha.sqrt(), alpha * spectra + 1 - alpha
        logs = torch.zeros(len(fields), len(x), dtype=x.dtype)
        for m, (band, mean) in enumerate(zip(split, means, strict=True)):
            flat = band.flatten(1)
            far = flat.square().sum(dim=1) - 2 * root * mean @ flat.T + alpha * mean.square().sum(dim=1)[:, None]
            coefficients = channels * band_sizes(size)[m]
            logs = logs - (cell_pixels(size, m) * far / power[:, m, None] + coefficients * power[:, m, None].log()) / 2
        share = logs.softmax(dim=0).T
        gains = root * spectra / power
        estimates = [(share @ gains[:, m])[:, None] * band.flatten(1) for m, band in enumerate(split)]
        estimates = [
            of_state + share @ ((1 - root * gains[:, m, None]) * mean)
            for m, (of_state, mean) in enumerate(zip(estimates, means, strict=True))
        ]
        return from_bands([estimate.reshape(band.shape) for estimate, band in zip(estimates, split, strict=True)])

    x_t = np.random.default_rng(0).standard_normal((4, *fields[0].mean.shape))
    for alpha in (1e-4, 0.3, 0.9999):
        found = denoise(torch.tensor(x_t), torch.tensor(alpha, dtype=torch.float64))
        assert np.abs(found.numpy() - model.denoise(x_t, alpha)).max() < 1e-6
    return denoise


def network_tensors(network: Denoiser, unet: torch.nn.Module) -> Tensors:
    """Return a network that predicts the noise, for gradients."""
    unet.requires_grad_(False)  # they are those of the times and the noise alone

    def denoise(x: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        with warnings.catch_warnings(action="ignore"):  # that constants know no gradients
            t = network.schedule.network_time(network.schedule.time(alpha))
        noise = unet(x, t.float().expand(len(x))).sample
        return ((x - (1 - alpha).sqrt() * noise) / alpha.sqrt()).clip(*network.value_range)

    x_t = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    for alpha in (1e-4, 0.3, 0.9999):
        found = denoise(torch.tensor(x_t), torch.tensor(alpha, dtype=torch.float64))
        assert np.abs(found.numpy() - network(x_t, alpha)).max() < 1e-4  # in single precision
    return denoise


def drawn_by(denoise: Tensors, x: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    """Draw with DDIM, as `solved` does, so that gradients pass."""
    alphas = torch.sigmoid(-2 * log_sigma)
    estimate = denoise(x, alphas[0])
    for now, after in itertools.pairwise(alphas):
        noise = (x - now.sqrt() * estimate) / (1 - now).sqrt()
        x = after.sqrt() * estimate + (1 - after).sqrt() * noise
        estimate = denoise(x, after)
    return estimate


def learned(
    denoise: Tensors,
    start: np.ndarray,
    steps: int,
    by_band: bool,
    noises: int = 50,
    batch: int = 10,
    rounds: int = 100,
    fine: int = FINE,
) -> list[int]:
    """Return the list of LD3, with the optimiser, the ball and the number of noises of its authors.

    Simpler than theirs: the learning slows down evenly, every move within the ball is taken, and what chooses is drawn
    from its own noise, not from beside it.

    start: like what lists are judged from, which is not used but for its shape and precision.
    by_band: whether every band counts relative to that of the fine solution, as in the error, or all pixels alike.
    noises: to learn from; as many others choose when learning was best.
    batch, rounds: how many of them in a step of gradient descent, and how many such steps.
    fine: steps of the fine solution.
    """
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(2 * noises, *start.shape[1:], generator=generator, dtype=torch.tensor(start).dtype)
    with torch.no_grad():
        truth = drawn_by(denoise, noise, torch.linspace(np.log(MOST), np.log(LEAST), fine, dtype=torch.float64))
    energy = band_energies(truth).mean(dim=1)
    weight = 1 / (len(energy) * energy) if by_band else torch.full_like(energy, 1 / truth[0].numel())

    def levels() -> torch.Tensor:  # widths are shares of the whole, so levels fall; at the end is the image
        return HIGH - (HIGH - LOW) * torch.nn.functional.pad(widths.softmax(dim=0).cumsum(dim=0)[:-1], (1, 0))

    def loss(x: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        return weight @ band_energies(drawn_by(denoise, x, levels()) - truth[which]).mean(dim=1)

    widths = torch.zeros(steps, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.RMSprop([widths], lr=0.005, momentum=0.9)
    slower = torch.optim.lr_scheduler.LinearLR(optimiser, 1, 0.01, rounds)
    # The goal is softer where the student may begin a little beside the noise of its teacher, within a ball.
    moved, radius = noise.clone(), 0.001 * noise[0].numel() / steps**2
    least, best = np.inf, levels().detach()
    for number in range(rounds + 1):
        if number % 10 == 0:
            with torch.no_grad():
                now = float(loss(noise[noises:], torch.arange(noises, 2 * noises)))
            if now < least:
                least, best = now, levels().detach()
        which = torch.randperm(noises, generator=generator)[:batch]
        x = moved[which].requires_grad_()
        optimiser.zero_grad()
        loss(x, which).backward()
        torch.nn.utils.clip_grad_norm_([widths], 1.0)
        optimiser.step()
        slower.step()
        beside = x.detach() - 12 / steps * x.grad - noise[which]
        far = beside.flatten(1).norm(dim=1)[:, None, None, None]
        moved[which] = noise[which] + beside * (radius / far.clip(min=radius))
    return nearest(best.numpy())


def solved(denoise: Callable, start: np.ndarray, alphas: np.ndarray) -> np.ndarray:
    *_, last = ddim(denoise, start, alphas)
    return np.asarray(last.estimate, dtype=np.float64)  # the last step leads here


def compared(denoise: Callable, tensors: Tensors, start: np.ndarray, lists: Lists, steps: tuple, **few: int) -> dict:
    """Return how every list does, those of LD3 too, in the error of bands and in the plain distance.

    few: what LD3 makes do with, `learned`.
    """
    truth = solved(denoise, start, 1 / (1 + np.geomspace(MOST, LEAST, FINE) ** 2))
    energy = band_energies(truth)
    found, learning = {}, {"LD3": {}, "LD3, by band": {}}
    for n in steps:
        for name, listed in lists.items():
            drawn = solved(denoise, start, SCHEDULE.alpha(np.array(listed(n), dtype=float)))
            found[name, n] = band_energies(drawn - truth)
        for name, told in learning.items():
            began = time.perf_counter()
            timesteps = learned(tensors, start, n, name != "LD3", **few)
            told[str(n)] = {"seconds": round(time.perf_counter() - began), "timesteps": timesteps}
            drawn = solved(denoise, start, SCHEDULE.alpha(np.array(timesteps, dtype=float)))
            found[name, n] = band_energies(drawn - truth)
    plain = {key: missed.sum(axis=0, keepdims=True) for key, missed in found.items()}
    return {
        "images": len(start),
        **judged(found, energy),
        "plain": judged(plain, energy.sum(axis=0, keepdims=True)),
        "learned": learning,
    }


def judged(found: dict[tuple[str, int], np.ndarray], energy: np.ndarray) -> dict:
    """Return the error of every list, and its difference to ours with simultaneous intervals.

    found: what each list missed, energies of shape (bands, samples), by its name and number of steps.
    energy: of the truth.
    """
    images = energy.shape[1]
    drawn = np.random.default_rng(0).integers(images, size=(REPLICATES, images))

    def error(missed: np.ndarray, which: np.ndarray) -> np.ndarray:
        share = missed[:, which].sum(axis=-1) / energy[:, which].sum(axis=-1)
        return np.sqrt(share.mean(axis=0))

    all_of_them = np.arange(images)
    mean = {key: float(error(missed, all_of_them)) for key, missed in found.items()}
    again = {key: error(missed, drawn) for key, missed in found.items()}
    pairs = [key for key in found if key[0] != OURS]
    more = np.array([mean[key] - mean[OURS, key[1]] for key in pairs])
    more_again = np.stack([again[key] - again[OURS, key[1]] for key in pairs], axis=1)
    bounds = interval_around(more, more_again, simultaneous=True, images=images)
    table: dict[str, dict] = {}
    for (name, n), value in mean.items():
        table.setdefault(name, {})[str(n)] = round(value, 5)
    less: dict[str, dict] = {}
    for (name, n), *row in zip(pairs, more, bounds.lower, bounds.upper, strict=True):
        less.setdefault(name, {})[str(n)] = [round(float(value), 5) for value in row]
    return {"error": table, "more than ours": less}


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
        results[name] = compared(model.denoise, exact_tensors(model), start, lists, STEPS)
        show(name, results[name])
    if given.images:
        pipeline = load_pipeline("data/models/pocket-direct-64")
        denoise, pieces = network_denoiser(pipeline), photos("photographs", 200, 64, generator=rng)
        losses = band_losses(denoise, pieces[:32].astype(np.float32), SCHEDULE, times[::50], rng).mean
        every = np.stack([np.interp(times, times[::50], band) for band in losses])
        start = rng.standard_normal((given.images, 3, 64, 64)).astype(np.float32)
        lists = lists_for(every, band_spectrum(pieces), pieces)
        # A step back through the network takes a fifth of a second for each image, so LD3 learns for minutes from few.
        few = {"noises": 8, "batch": 1, "rounds": 40, "fine": FINE // 4}
        tensors = network_tensors(denoise, pipeline.unet)
        results["pocket-direct-64"] = compared(denoise, tensors, start, lists, (10, 27), **few)
        show("pocket-direct-64", results["pocket-direct-64"])
    if given.out is not None:
        write_json(given.out, {"made by": "benchmarks/timesteps.py", **results})


def show(name: str, result: dict) -> None:
    """Print two tables: errors, and + or - where a list is measurably farther or closer than ours."""
    for measure, table in (("bands", result), ("plain", result["plain"])):
        steps = list(table["error"][OURS])
        print(f"\n| {name}, {result['images']} samples, {measure} | {' | '.join(steps)} |")
        print(f"| --- |{' --- |' * len(steps)}")
        for each, row in table["error"].items():
            cells = []
            for n, value in row.items():
                _, low, high = table["more than ours"].get(each, {}).get(n, (0.0, -1.0, 1.0))
                cells.append(f"{value:.3f}{'+' if low > 0 else '-' if high < 0 else ''}")
            print(f"| {each} | {' | '.join(cells)} |", flush=True)
    for each, learning in result["learned"].items():
        print(f"seconds of {each}:", *(f"{n}: {told['seconds']}" for n, told in learning.items()), flush=True)


if __name__ == "__main__":
    main()
