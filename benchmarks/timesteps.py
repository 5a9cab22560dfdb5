"""Errors of lists of timesteps, on exact posteriors and shipped networks: `python benchmarks/timesteps.py --out JSON`.

DDIM begins in pure noise and takes the list; its error is the distance from the solution of many steps, of every band
relative to the band in that solution, and a root mean square over bands. The exact posteriors are a Gaussian field, a
mixture of one field for each photograph, and a finite set of pieces. Lists see pieces of the same distribution alone:
their spectrum, or the losses on them. The pieces of a network are images that it drew from other noise. Intervals are
those of differences to the list of equal error from the spectrum, paired by noise and simultaneous over all lists and
numbers of steps of one model.

Entropic time (arXiv 2504.13612, section 5) is even in the information of x_t about x_0, by I-MMSE the integral of
mmse SNR / 2 over log SNR. Rescaled, it is even in the integral of sigma times that rate. Spectral, this integral is
made 1 for each coefficient and weighted by its amplitude in the data; the paper takes coefficients of Fourier, here
they are those of bands.

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
from typing import Any

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
    rates_from_losses,
    usual_timesteps,
)
from reschrom._files import read_json, write_json
from reschrom.design.timesteps import distinct
from reschrom.images.photographs import image_names
from reschrom.theory.bands import cell_pixels
from reschrom.theory.intervals import interval_around

STEPS, REPLICATES = (5, 10, 15, 27, 50), 1000
FINE = 400  # steps of the solution that counts as the truth, even in log sigma
OURS = "equal error, spectrum"
POSTERIORS = ("Gaussian field", "mixture of photographs", "finite set")
WHOLE = np.arange(-1.0, 1000.0)  # the timesteps, and the image
NETWORKS = {"pocket-lowres-32": (3, 32, 32), "pocket-sd-64": (4, 16, 16)}  # and what they draw, in latents the second
# LD3 learns less through a network, where every step of its gradient takes long.
FEW = {"batch": 4, "rounds": 50}
Lists = dict[str, Callable[[int], list[int]]]
Tensors = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # a denoiser that gradients pass


class Clock:
    """The timesteps of a scheduler, and log sigma as far as they reach."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler, self.schedule = scheduler, Schedule.from_diffusers(scheduler)
        self.low, self.high = (float(-self.schedule.log_snr(t)) / 2 for t in (0.0, self.schedule.end))

    def nearest(self, log_sigma: np.ndarray) -> list[int]:
        """Return the whole timesteps of these noise levels."""
        times = self.schedule.time_at(-2 * np.clip(log_sigma, self.low, self.high))
        return distinct(np.rint(times).astype(int), 0)

    def fine(self, steps: int = FINE) -> np.ndarray:
        """Return the levels of a solution of many steps, log sigma."""
        return np.linspace(self.high, self.low, steps)


def others(clock: Clock) -> Lists:
    """Return the lists that know nothing of the data."""

    def ays(name: str, steps: int) -> list[int]:
        levels = np.log(np.array(AysSchedules[name])[:-1])
        return clock.nearest(np.interp(np.linspace(0, 1, steps), np.linspace(0, 1, len(levels)), levels))

    def by_beta(steps: int) -> list[int]:  # as use_beta_sigmas of diffusers
        part = beta.ppf(1 - np.linspace(0, 1, steps), 0.6, 0.6)
        least, most = np.exp(clock.low), np.exp(clock.high)
        return clock.nearest(np.log(least + part * (most - least)))

    usual = {name: lambda n, name=name: usual_timesteps(clock.scheduler, n)[name] for name in ("trailing", "Karras")}
    return usual | {
        "exponential": lambda n: clock.nearest(clock.fine(n)),
        "Beta": by_beta,
        "AYS, SD 1.5": lambda n: ays("StableDiffusionSigmas", n),
        "AYS, SDXL": lambda n: ays("StableDiffusionXLSigmas", n),
        "AYS, SVD": lambda n: ays("StableDiffusionVideoSigmas", n),
    }


def entropic(rate: np.ndarray, log_sigma: np.ndarray) -> Callable[[int], list[int]]:
    """Return lists that are even in the integral of a rate over log sigma, given at the timesteps from 0 up."""
    told = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(log_sigma))])

    def chosen(steps: int) -> list[int]:
        even = np.interp(np.linspace(1, 0, steps), told / told[-1], WHOLE[1:])
        return distinct(np.rint(even).astype(int), 0)

    return chosen


def entropic_lists(losses: np.ndarray, energies: np.ndarray, count: np.ndarray, clock: Clock) -> Lists:
    """Return the lists of entropic time and of its two variants.

    losses: the mmse of every band at the timesteps from 0 up, shape (bands, 1000).
    energies: of the bands in the data, shape (bands,).
    count: how many coefficients each band has.
    """
    log_sigma = -clock.schedule.log_snr(WHOLE[1:]) / 2
    rates = losses * np.exp(-log_sigma)  # sigma times the information per unit of log sigma
    each = rates / np.trapezoid(rates, log_sigma)[:, None]
    amplitude = np.sqrt(energies / count)
    return {
        "entropic": entropic(losses.sum(axis=0) * np.exp(-2 * log_sigma), log_sigma),
        "entropic, rescaled": entropic(rates.sum(axis=0), log_sigma),
        "entropic, spectral": entropic((count * amplitude) @ each, log_sigma),
    }


def lists_for(denoise: Callable, pieces: np.ndarray, clock: Clock, every: int, rng: np.random.Generator) -> Lists:
    """Return all lists, those of the data by its pieces and by the losses on them, at every so many timesteps."""
    size, schedule = pieces.shape[-1], clock.schedule
    predicted = Chromatogram.predicted(schedule, size, band_spectrum(pieces), WHOLE)
    edges = np.unique(np.concatenate([WHOLE[:2], WHOLE[1::every], WHOLE[-1:]]))
    by_losses = rates_from_losses(denoise, pieces, schedule, edges, rng, "losses")
    losses = band_losses(denoise, pieces, schedule, edges[1:], rng).mean
    every_loss = np.stack([np.interp(WHOLE[1:], edges[1:], band) for band in losses])
    count = np.array(band_sizes(size), dtype=float) * pieces.shape[1]
    ours = {
        OURS: lambda n: designed_timesteps(predicted, schedule, n),
        "equal error, losses": lambda n: designed_timesteps(by_losses, schedule, n),
        "equal signal, spectrum": lambda n: designed_timesteps(predicted, schedule, n, equal="signal"),
    }
    energies = band_energies(pieces).mean(axis=1)
    return ours | entropic_lists(every_loss, energies, count, clock) | others(clock)


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


def network_tensors(network: Denoiser, pipeline: Any, shape: tuple[int, ...]) -> Tensors:
    """Return the network of a pipeline, which predicts the noise, without a caption and for gradients."""
    unet, captions = pipeline.unet.requires_grad_(False), []  # gradients are those of the times and the noise alone
    if hasattr(pipeline, "encode_prompt"):
        captions.append(pipeline.encode_prompt("", unet.device, 1, do_classifier_free_guidance=False)[0].detach())

    def denoise(x: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        with warnings.catch_warnings(action="ignore"):  # that constants know no gradients
            t = network.schedule.network_time(network.schedule.time(alpha))
        told = (each.expand(len(x), -1, -1) for each in captions)
        noise = unet(x, t.float().expand(len(x)), *told).sample
        return ((x - (1 - alpha).sqrt() * noise) / alpha.sqrt()).clip(*network.value_range)

    x_t = np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)
    for alpha in (0.01, 0.3, 0.99):
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


class Teacher:
    """What LD3 learns from: noise, and what the fine solution makes of it. As many others choose when it was best."""

    def __init__(self, denoise: Tensors, start: np.ndarray, clock: Clock, noises: int, fine: int) -> None:
        self.denoise, self.clock = denoise, clock
        generator, dtype = torch.Generator().manual_seed(3), torch.tensor(start[:1]).dtype
        self.noise = torch.randn(2 * noises, *start.shape[1:], generator=generator, dtype=dtype)
        with torch.no_grad():
            self.truth = drawn_by(denoise, self.noise, torch.tensor(clock.fine(fine)))


def learned(teacher: Teacher, steps: int, by_band: bool, batch: int = 10, rounds: int = 100) -> list[int]:
    """Return the list of LD3, with the optimiser and the ball of its authors.

    Simpler than theirs: the learning slows down evenly, every move within the ball is taken, and what chooses is drawn
    from its own noise, not from beside it.

    by_band: whether every band counts relative to that of the fine solution, as in the error, or all pixels alike.
    batch, rounds: how many noises in a step of gradient descent, and how many such steps.
    """
    noise, truth, clock = teacher.noise, teacher.truth, teacher.clock
    noises, energy = len(noise) // 2, band_energies(truth).mean(dim=1)
    weight = 1 / (len(energy) * energy) if by_band else torch.full_like(energy, 1 / truth[0].numel())

    def levels() -> torch.Tensor:  # widths are shares of the whole, so levels fall; at the end is the image
        fallen = torch.nn.functional.pad(widths.softmax(dim=0).cumsum(dim=0)[:-1], (1, 0))
        return clock.high - (clock.high - clock.low) * fallen

    def loss(x: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        return weight @ band_energies(drawn_by(teacher.denoise, x, levels()) - truth[which]).mean(dim=1)

    generator = torch.Generator().manual_seed(4)
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
    return clock.nearest(best.numpy())


def solved(denoise: Callable, start: np.ndarray, alphas: np.ndarray) -> np.ndarray:
    *_, last = ddim(denoise, start, alphas)
    return np.asarray(last.estimate, dtype=np.float64)  # the last step leads here


def compared(denoise: Callable, teacher: Teacher, start: np.ndarray, lists: Lists, **few: int) -> dict:
    """Return how every list does, those of LD3 too, in the error of bands and in the plain distance.

    few: what LD3 makes do with, `learned`.
    """
    schedule = teacher.clock.schedule
    truth = solved(denoise, start, 1 / (1 + np.exp(2 * teacher.clock.fine())))
    energy = band_energies(truth)
    found: dict[tuple[str, int], np.ndarray] = {}
    learning: dict[str, dict] = {"LD3": {}, "LD3, by band": {}}
    for n in STEPS:
        for name, listed in lists.items():
            drawn = solved(denoise, start, schedule.alpha(np.array(listed(n), dtype=float)))
            found[name, n] = band_energies(drawn - truth)
        for name, told in learning.items():
            began = time.perf_counter()
            timesteps = learned(teacher, n, name != "LD3", **few)
            told[str(n)] = {"seconds": round(time.perf_counter() - began), "timesteps": timesteps}
            drawn = solved(denoise, start, schedule.alpha(np.array(timesteps, dtype=float)))
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


def exact(size: int, count: int) -> dict[str, tuple[Any, np.ndarray]]:
    """Return the exact posteriors, each with pieces of its own distribution by which lists are made."""
    classes, rng = len(image_names("photographs")), np.random.default_rng(1)
    pieces = photos("photographs", 20 * classes, size, generator=rng)
    fields = [GaussianField.fit(pieces[k::classes]) for k in range(classes)]
    field, mixture, small = GaussianField.fit(pieces), GaussianMixture(fields), pieces[:count]
    found = (field, field.sample(400, rng)), (mixture, mixture.sample(400, rng)), (FiniteDataset(small), small)
    return dict(zip(POSTERIORS, found, strict=True))


def on_posterior(name: str, samples: int, size: int) -> dict:
    """Compare the lists on one exact posterior."""
    clock, rng = Clock(DDPMScheduler()), np.random.default_rng(2)
    model, pieces = exact(size, 200)[name]
    lists = lists_for(model.denoise, pieces[:200], clock, 10, rng)
    start = rng.standard_normal((samples, *pieces.shape[1:]))
    teacher = Teacher(exact_tensors(model), start, clock, noises=50, fine=FINE)
    return compared(model.denoise, teacher, start, lists)


def on_network(name: str, images: int) -> dict:
    """Compare the lists on a shipped network, without a caption. Its pieces are what it draws from other noise."""
    pipeline, shape, rng = load_pipeline(f"data/models/{name}"), NETWORKS[name], np.random.default_rng(2)
    denoise, clock = network_denoiser(pipeline), Clock(pipeline.scheduler)
    noise, start = (rng.standard_normal((count, *shape)).astype(np.float32) for count in (100, images))
    pieces = solved(denoise, noise, 1 / (1 + np.exp(2 * clock.fine(100)))).astype(np.float32)
    lists = lists_for(denoise, pieces, clock, 25, rng)
    teacher = Teacher(network_tensors(denoise, pipeline, shape), start, clock, noises=20, fine=100)
    return compared(denoise, teacher, start, lists, **FEW)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="a JSON file; what it holds of other models stays")
    parser.add_argument("--only", choices=[*POSTERIORS, *NETWORKS], help="one model (default: all)")
    parser.add_argument("--samples", type=int, default=48, help="of exact posteriors (default: 48)")
    parser.add_argument("--images", type=int, default=32, help="of networks (default: 32)")
    parser.add_argument("--size", type=int, default=16, help="of the pieces (default: 16)")
    given = parser.parse_args()
    results = read_json(given.out) if given.out is not None and given.out.exists() else {}
    for name in [given.only] if given.only else [*POSTERIORS, *NETWORKS]:
        if name in NETWORKS:
            results[name] = on_network(name, given.images)
        else:
            results[name] = on_posterior(name, given.samples, given.size)
        show(name, results[name])
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
