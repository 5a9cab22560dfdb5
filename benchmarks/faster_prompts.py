"""How much faster a text-to-image model draws with fewer pixels and less guidance, and what that costs.

`python benchmarks/faster_prompts.py --classifier FILE --out JSON` draws samples of every caption plainly, with
`CoarseFirst`, with `GuidanceSchedule` and with both, and the same in fewer steps, of the model's own sampler and of
DPM-Solver++, from the same first noise, in turn. Multiply-adds leave the autoencoder out; seconds are those of the
whole pipeline. Pictures are judged as in `guidance.py`.
"""

import argparse
import contextlib
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from diffusers.utils import logging
from guidance import PLAIN, SCALE, judged
from torch.utils.flop_counter import FlopCounterMode

from reschrom import CoarseFirst, GuidanceSchedule, load_pipeline
from reschrom._files import file_hashes, write_json
from reschrom.companion.judging.classifier import Classifier
from reschrom.companion.reference import real_images, statistics
from reschrom.train.recipe import Recipe

STEPS, AT_ONCE = 25, 36


class Way(NamedTuple):
    """A way to draw: with a pipeline, in so many steps, in these `with` blocks."""

    pipeline: Any
    steps: int
    blocks: tuple[Any, ...] = ()


def draw(prompts: list[str], first: int, way: Way, output: str = "np") -> tuple[np.ndarray, float]:
    """Return what the pipeline puts out, and the seconds of this process."""
    noise, start = [torch.Generator().manual_seed(first + k) for k in range(len(prompts))], time.process_time()
    with contextlib.ExitStack() as stack, torch.inference_mode():
        for block in way.blocks:
            stack.enter_context(block)
        images = way.pipeline(
            prompts, guidance_scale=SCALE, num_inference_steps=way.steps, generator=noise, output_type=output
        ).images
    return np.asarray(images), time.process_time() - start


def multiply_adds(prompt: str, way: Way) -> float:
    """Return those of one picture, without the autoencoder, once half of its batch was tried (`GuidanceSchedule`)."""
    draw([prompt], 0, way, "latent")
    with FlopCounterMode(display=False) as counter:
        draw([prompt], 0, way, "latent")
    return counter.get_total_flops() / 2


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default="data/models/pocket-sd-64", help="folder of the model")
    parser.add_argument("--config", default="data/pocket-sd-64.yaml", help="recipe of the model")
    parser.add_argument("--statistics", default="data/reference/pocket-sd-64-statistics.safetensors")
    parser.add_argument("--real", default="data/reference/t2i-bands.safetensors", help="of real photographs")
    parser.add_argument("--classifier", type=Path, required=True, help="its weights")
    parser.add_argument("--tolerance", type=float, nargs="+", default=[0.02, 0.03], help="of CoarseFirst")
    parser.add_argument("--fewer", type=int, default=15, help="steps, of the ways that take fewer")
    parser.add_argument("--solver", type=int, default=10, help="steps of DPM-Solver++")
    parser.add_argument("--until", type=float, default=0.45, help="time, as part of all, at which guidance ends")
    parser.add_argument("--each", type=int, default=4, help="samples of each caption")
    parser.add_argument("--out", default="", help="JSON file for what is measured")
    given = parser.parse_args()
    logging.set_verbosity_error()
    recipe, pipeline = Recipe.load(given.config), load_pipeline(given.model)
    pipeline.set_progress_bar_config(disable=True)
    classifier = Classifier.load(given.classifier, len(recipe.contents))
    spectrum = statistics.load(given.statistics).pooled().spectrum

    solver = type(pipeline)(**pipeline.components)
    solver.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    solver.set_progress_bar_config(disable=True)

    def ways(name: str, pipeline: Any, steps: int) -> dict[str, Way]:
        """Return a way without blocks, with less guidance, with fewer pixels, and with both."""
        early = GuidanceSchedule(pipeline, lambda t: float(t > given.until))
        found = {name: Way(pipeline, steps), f"{name}, less guidance": Way(pipeline, steps, (early,))}
        for tolerance in given.tolerance:
            block = CoarseFirst(pipeline, spectrum, tolerance=tolerance, levels=1, steps=steps)
            found[f"{name}, {tolerance:g}"] = Way(pipeline, steps, (block,))
            found[f"{name}, {tolerance:g}, less guidance"] = Way(pipeline, steps, (early, block))
        return found

    compared = ways(PLAIN, pipeline, STEPS) | ways(f"{given.fewer} steps", pipeline, given.fewer)
    compared |= ways(f"DPM-Solver++, {given.solver} steps", solver, given.solver)
    captions = np.tile(np.arange(len(recipe.captions)), given.each)
    pictures: dict[str, list[np.ndarray]] = {name: [] for name in compared}
    seconds: dict[str, list[float]] = {name: [] for name in compared}
    for start in range(0, len(captions), AT_ONCE):
        prompts = [recipe.captions[k] for k in captions[start : start + AT_ONCE]]
        print(f"{start} of {len(captions)} pictures", flush=True)
        for name, way in compared.items():
            made, took = draw(prompts, start, way)
            pictures[name].append(np.round(255 * made).astype(np.uint8))
            seconds[name].append(took)
    drawn = {name: np.concatenate(each) for name, each in pictures.items()}
    found = judged(drawn, captions, classifier, real_images.load(given.real)["held out"])
    costs = {name: multiply_adds(recipe.captions[0], way) for name, way in compared.items()}
    print(f"{'':43}{'fewer':>7}{'faster':>8}{'content':>9}{'style':>7}{'pairs':>8}{'distance':>10}")
    for name, each in found.items():
        faster = np.array(seconds[PLAIN]) / np.array(seconds[name])
        each["multiply-adds"] = costs[name]
        each["plain multiply-adds over these"] = costs[PLAIN] / costs[name]
        each["plain seconds over these"] = [float(np.median(faster)), float(faster.min()), float(faster.max())]
        print(
            f"{name:43}{costs[PLAIN] / costs[name]:7.2f}{np.median(faster):8.2f}{each['content, style'][0]:9.3f}"
            f"{each['content, style'][1]:7.3f}{each['pair distance']:8.3f}{np.mean(each['distance']):10.4f}"
        )
    for name, way in compared.items():
        for block in way.blocks:
            if isinstance(block, CoarseFirst):
                found[name] |= {"turning points": list(block.turning_points), "expected": block.expected._asdict()}
    if given.out:
        about = {
            "made by": "python benchmarks/faster_prompts.py",
            "model": given.model.name,
            "weights": file_hashes(given.model),
            "sampler": {
                "scheduler": type(pipeline.scheduler).__name__,
                "steps": STEPS,
                "guidance scale": SCALE,
                "samples per caption": given.each,
            },
        }
        write_json(given.out, {**about, "ways": found})


if __name__ == "__main__":
    main()
