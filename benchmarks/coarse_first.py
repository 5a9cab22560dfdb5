"""What drawing coarse first costs and what it changes, next to other ways to spend fewer pixels.

`python benchmarks/coarse_first.py --out JSON`. Everything is drawn in one run, with as many steps of ancestral sampling
and from the same noise where the way allows it: directly, by `CoarseFirst` at three tolerances, by a cascade, by a
model whose images shrink, and by a baseline that draws a small image first and then enlarges the noised state, with
fresh noise in the bands that enlarging leaves empty and the time aligned (Eq. 16), as SPEED does (arXiv 2605.18736).
The baseline turns where `CoarseFirst` does at the middle tolerance.

Printed for each: multiply-adds and seconds per image, the sliced Wasserstein distance of every band to real images
(intervals of all bands at once), and for `CoarseFirst` the predicted and the measured change of every band's standard
deviation, with paired intervals. `low` is the network of pocket-lowres-32; `any` is pocket-any-64, one network of
several sizes, which is compared with itself at full size.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from timing import arguments
from torch.utils.flop_counter import FlopCounterMode

from reschrom import (
    CascadedUNet,
    CoarseFirst,
    Schedule,
    band_changes,
    band_spectrum,
    load_pipeline,
    matched_alpha,
    upsample,
)
from reschrom._files import write_json
from reschrom.companion.judging.distances import BandDistances, band_distances
from reschrom.companion.reference import real_images
from reschrom.theory.bands import band_names, downsample
from reschrom.theory.intervals import interval_around

IMAGES, STEPS, SIDE, SEED = 48, 25, 64, 0
TOLERANCES = (0.01, 0.02, 0.05)
TRIAL, OTHERS = slice(0, 16), slice(16, None)  # images that tell of the others
REAL = "data/reference/fruit-bands.safetensors"
Draw = Callable[[int], np.ndarray]


def images_of(pipeline: Any, count: int, seed: int = SEED) -> np.ndarray:
    """Draw images in [-1, 1] by ancestral sampling."""
    generator = torch.Generator().manual_seed(seed)
    drawn = pipeline(batch_size=count, num_inference_steps=STEPS, generator=generator, output_type="np").images
    return np.moveaxis(drawn, -1, 1) * 2.0 - 1


def coarse_first(pipeline: Any, block: CoarseFirst, count: int) -> np.ndarray:
    """Draw within a block."""
    with block:
        return images_of(pipeline, count)


@torch.inference_mode()
def enlarged(low: Any, full: Any, turn: float, count: int) -> np.ndarray:
    """Draw a small image until time `turn` of the full size, enlarge the noised state, and go on at full size."""
    scheduler, generator = full.scheduler, torch.Generator().manual_seed(SEED)
    schedule = Schedule.from_diffusers(scheduler)
    scheduler.set_timesteps(STEPS)
    alphas = [float(schedule.alpha(float(t))) for t in scheduler.timesteps]
    x = 2 * downsample(torch.randn(count, 3, SIDE, SIDE, generator=generator))
    small = True
    for index, (t, alpha) in enumerate(zip(scheduler.timesteps, alphas, strict=True)):
        after = alphas[index + 1] if index + 1 < STEPS else 1.0
        if small and float(t) < turn:
            fresh = torch.randn(count, 3, SIDE, SIDE, generator=generator)
            detail = fresh - upsample(downsample(fresh))
            x, small = upsample(x) * (alpha + (1 - alpha) / 4) ** 0.5 + (1 - alpha) ** 0.5 * detail, False
        now, then = (float(matched_alpha(a, 1)) if small else a for a in (alpha, after))
        told = float(schedule.network_time(schedule.time(now)))
        noise = (low if small else full).unet(x, torch.tensor(told)).sample
        estimate = ((x - (1 - now) ** 0.5 * noise) / now**0.5).clamp(-1, 1)
        noise = (x - now**0.5 * estimate) / (1 - now) ** 0.5
        spread = (1 - then) / (1 - now) * (1 - now / then)
        x = then**0.5 * estimate + max(1 - then - spread, 0.0) ** 0.5 * noise
        x = x + spread**0.5 * torch.randn(x.shape, generator=generator)
    return x.clamp(-1, 1).double().numpy()


def ways(folder: Path) -> tuple[dict[str, Draw], dict[str, tuple[str, CoarseFirst]]]:
    """Return how each way draws, and of the blocks the way that they are compared with."""

    def load(name: str, ancestral: bool = True) -> Any:
        pipeline = load_pipeline(folder / f"pocket-{name}")
        if ancestral:
            pipeline = DDPMPipeline(pipeline.unet, DDPMScheduler.from_config(pipeline.scheduler.config))
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    direct, low, small = load("direct-64"), load("lowres-32"), load("lowres-16")
    residuals = [load(f"residual-{side}") for side in (32, 64)]
    cascade = DDPMPipeline(CascadedUNet(small, *residuals), direct.scheduler)
    cascade.set_progress_bar_config(disable=True)
    spectrum = real_images.load(REAL)["training"].spectrum
    drawn: dict[str, Draw] = {"direct": partial(images_of, direct)}
    blocks = {}
    for tolerance in TOLERANCES:
        block = CoarseFirst(direct, spectrum, tolerance, low=low, steps=STEPS)
        name = f"low, {tolerance:g}"
        drawn[name], blocks[name] = partial(coarse_first, direct, block), ("direct", block)
    turn = blocks[f"low, {TOLERANCES[1]:g}"][1].turning_points[0]
    drawn["enlarged"] = partial(enlarged, low, direct, turn)
    drawn["cascade of 3"] = partial(images_of, cascade)
    drawn["shrinking"] = partial(images_of, load("dvdp-64", ancestral=False))
    if (folder / "pocket-any-64").exists():
        several = load("any-64")
        drawn["any, direct"] = partial(images_of, several)
        for tolerance in TOLERANCES:
            block = CoarseFirst(several, spectrum, tolerance, levels=2, steps=STEPS)
            name = f"any, {tolerance:g}"
            drawn[name], blocks[name] = partial(coarse_first, several, block), ("any, direct", block)
    return drawn, blocks


def main() -> None:
    """Draw, measure and print."""
    given = arguments(__doc__)
    real, names = real_images.load(REAL)["held out"].quantiles, band_names(SIDE)
    drawn, blocks = ways(Path(given.models))
    images: dict[str, np.ndarray] = {}
    measured: dict[str, dict[str, Any]] = {}
    print(f"{IMAGES} images, {STEPS} steps; {torch.get_num_threads()} threads\n")
    print(f"{'':14}{'multiply-adds':>14}{'seconds':>9}{'mean':>7}" + "".join(f"{name:>8}" for name in names))
    for name, draw in drawn.items():
        with FlopCounterMode(display=False) as counter:
            draw(1)
        start = time.perf_counter()
        images[name] = draw(IMAGES)
        seconds = (time.perf_counter() - start) / IMAGES
        found: BandDistances = band_distances(images[name], real, SEED)
        means = BandDistances(found.distance.mean(keepdims=True), found.replicates.mean(axis=1, keepdims=True), IMAGES)
        bounds = interval_around(
            found.distance, found.replicates, simultaneous=True, bounds=(0.0, np.inf), images=IMAGES
        )
        row = {"multiply-adds": counter.get_total_flops() / 2, "seconds": seconds, "mean": float(means.distance[0])}
        row |= {"mean interval": [float(each[0]) for each in means.interval()], "distance": found.distance.tolist()}
        measured[name] = row | {"interval": [each.tolist() for each in bounds]}
        print(f"{name:14}{row['multiply-adds']:14.3g}{seconds:9.3f}{row['mean']:7.3f}", end="")
        print("".join(f"{each:8.3f}" for each in found.distance), flush=True)
        for label, each in zip(("from", "to"), bounds, strict=True):
            ends = measured[name]["mean interval"][label == "to"]
            print(f"{label:>37}{ends:7.3f}" + "".join(f"{value:8.3f}" for value in each))
    print("\nchange of the standard deviation of a band, in percent: predicted, measured, and its interval")
    for name, (plain, block) in blocks.items():
        predicted = np.array([*block.expected.errors.values()])
        pair = images[name], images[plain]
        trial, others = (band_changes(*(each[part] for each in pair)) for part in (TRIAL, OTHERS))
        change, (low, high) = band_changes(*pair)
        measured[name]["turning points"] = block.turning_points
        measured[name] |= {"predicted": predicted.tolist(), "changed": [each.tolist() for each in (change, low, high)]}
        measured[name] |= {"trial": trial.change.tolist(), "others": others.change.tolist()}
        measured[name]["deviation"] = np.sqrt(band_spectrum(images[plain])).tolist()  # of a coefficient
        print(f"{name}, turning points {', '.join(f'{t:.0f}' for t in block.turning_points)}, "
              f"{block.expected.pixels:.2f} of the pixels")  # fmt: skip
        rows = {"±": predicted, "": change, "from": low, "to": high, "a trial": trial.change, "others": others.change}
        for label, values in rows.items():
            print(f"{label:>14}" + "".join(f"{100 * value:8.1f}" for value in values))
    if given.out:
        about = f"{IMAGES} images, {STEPS} steps, tolerances {TOLERANCES}"
        write_json(given.out, {"made by": "python benchmarks/coarse_first.py", "about": about, "ways": measured})


if __name__ == "__main__":
    main()
