"""What coarse first does to every band, to a percent: `python benchmarks/many_images.py --keep FOLDER --out JSON`.

`pocket-any-64` draws thousands of images in 25 ancestral steps, plainly and coarse first from the same noise: with two
tolerances, and with four by four pixels as one in the first three steps alone. Hours on two cores; images are kept in
the folder, and what is there is not drawn again. Measured for every band, finest first:

- *changed*: of the standard deviation, with an interval for all bands at once; and of each half of the images alone;
- *one step*: what the change would be if the states of the plain run were left for one step at a time, and what a step
  changes went on as in a Gaussian field of this spectrum. It takes a plain run of 64 images;
- *trials*: how often the intervals of so few images hold what all others show, and how far they are off.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from coarse_first import REAL, STEPS, images_of
from diffusers import DDPMPipeline, DDPMScheduler

from reschrom import CoarseFirst, Schedule, band_changes, band_energies, load_pipeline
from reschrom._files import write_json
from reschrom.companion.reference import real_images

AT_ONCE, FIRST_STEPS, TRIALS = 32, 3, (16, 64)
TOLERANCES = (0.02, 0.05)


def drawn(pipeline: Any, block: CoarseFirst | None, part: int, folder: Path) -> None:
    """Draw one part of the images, in half precision, unless the folder has it."""
    file = folder / f"{part:04d}.npy"
    if not file.exists():
        with block or torch.no_grad():
            images = images_of(pipeline, AT_ONCE, 1000 + part)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(file.with_suffix(".part.npy"), images.astype(np.float16))
        file.with_suffix(".part.npy").rename(file)


def energies(images: np.ndarray | torch.Tensor) -> np.ndarray:
    """Return the mean energy of every band about the mean image."""
    return band_energies(np.asarray(images - images.mean(0), np.float64)).mean(axis=1)


@torch.inference_mode()
def one_step(pipeline: Any, block: CoarseFirst, images: int) -> np.ndarray:
    """Return the change of every band's standard deviation, to first order in what each step changes."""
    scheduler, generator = pipeline.scheduler, torch.Generator().manual_seed(0)
    schedule, side = Schedule.from_diffusers(scheduler), pipeline.unet.config.sample_size
    scheduler.set_timesteps(STEPS)
    x = torch.randn(images, 3, side, side, generator=generator)
    noise, changes, after = energies(x), [], []
    for index, t in enumerate(scheduler.timesteps):
        plainly, state = pipeline.unet(x, t).sample, generator.get_state()
        plain = scheduler.step(plainly, t, x, generator=generator).prev_sample
        changes.append(np.zeros(len(noise)))
        if block.level(float(t)):
            with block:
                coarsely = pipeline.unet(x, t).sample
            coarse = scheduler.step(coarsely, t, x, generator=generator.set_state(state)).prev_sample
            changes[-1] = np.log(energies(coarse) / energies(plain))
        after.append(1.0 if index + 1 == STEPS else float(schedule.alpha(float(scheduler.timesteps[index + 1]))))
        x = plain
    alphas, variances = np.array(after)[:, None], energies(x) / noise
    # Of the logarithm of a variance at a step, so much is left at the end: the Wiener gain.
    gains = alphas * variances / (alphas * variances + 1 - alphas)
    return np.exp((gains * changes).sum(axis=0) / 2) - 1


def trials(images: np.ndarray, plain: np.ndarray, count: int) -> dict[str, Any]:
    """Return how well `count` images tell what the others show, over all that can be made without an image twice."""
    after, before = (band_energies(each - each.mean(axis=0, dtype=np.float64)) for each in (images, plain))
    held, off = [], []
    for first in range(0, len(images) - count + 1, count):
        trial = slice(first, first + count)
        change, interval = band_changes(images[trial], plain[trial])
        others = (each.sum(axis=1) - each[:, trial].sum(axis=1) for each in (after, before))
        truth = np.sqrt(np.divide(*others)) - 1
        held.append(np.all((interval.lower <= truth) & (truth <= interval.upper)))
        off.append(change - truth)
    spread = np.sqrt(np.mean(np.square(off), axis=0))
    return {"number": len(held), "held": float(np.mean(held)), "off": spread.tolist()}


def main() -> None:
    """Draw, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="data/models", help="folder of the models")
    parser.add_argument("--keep", required=True, help="folder for the images")
    parser.add_argument("--parts", type=int, default=96, help=f"how often {AT_ONCE} images are drawn")
    parser.add_argument("--out", default="", help="JSON file for what is measured")
    given = parser.parse_args()
    pipeline = load_pipeline(Path(given.models) / "pocket-any-64")
    pipeline = DDPMPipeline(pipeline.unet, DDPMScheduler.from_config(pipeline.scheduler.config))
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler.set_timesteps(STEPS)
    spectrum = real_images.load(REAL)["training"].spectrum
    first = float(pipeline.scheduler.timesteps[FIRST_STEPS - 1])
    blocks = {f"{each:g}": CoarseFirst(pipeline, spectrum, each, levels=2, steps=STEPS) for each in TOLERANCES}
    blocks[f"first {FIRST_STEPS} steps"] = CoarseFirst(pipeline, spectrum, turning_points=[first, first], steps=STEPS)
    keep, images = Path(given.keep), {}
    for name, block in {"direct": None, **blocks}.items():
        for part in range(given.parts):
            drawn(pipeline, block, part, keep / name)
        images[name] = np.concatenate([np.load(keep / name / f"{part:04d}.npy") for part in range(given.parts)])
    plain, found = images.pop("direct"), {}
    for name, each in images.items():
        change, interval = band_changes(each, plain)
        halves = [band_changes(each[half::2], plain[half::2]).change.tolist() for half in (0, 1)]
        found[name] = {
            "turning points": blocks[name].turning_points,
            "expected": [*blocks[name].expected.errors.values()],
            "one step": one_step(pipeline, blocks[name], 64).tolist(),
            "changed": [row.tolist() for row in (change, *interval)],
            "halves": halves,
            "trials": {str(count): trials(each, plain, count) for count in TRIALS},
        }
        print(f"\n{name}, {len(plain)} images, turning points {blocks[name].turning_points}; in percent")
        rows = {"expected, ±": found[name]["expected"], "one step": found[name]["one step"], "changed": change}
        rows |= {"from": interval.lower, "to": interval.upper, "a half": halves[0], "the other": halves[1]}
        rows |= {f"{count} are off": kind["off"] for count, kind in found[name]["trials"].items()}
        for label, row in rows.items():
            print(f"{label:>14}" + "".join(f"{100 * value:8.1f}" for value in row))
        print(", ".join(f"{k['held']:.0%} of {k['number']} trials of {c}" for c, k in found[name]["trials"].items()))
    if given.out:
        about = f"pocket-any-64, {len(plain)} images, {STEPS} ancestral steps"
        write_json(given.out, {"made by": "python benchmarks/many_images.py", "about": about, "ways": found})


if __name__ == "__main__":
    main()
