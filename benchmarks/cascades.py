"""Seconds per image of a cascade and of a direct model, in turn. `python benchmarks/cascades.py --out JSON`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMPipeline
from timing import arguments, in_turn, report

from reschrom import CascadedUNet, load_pipeline

ROUNDS, IMAGES, STEPS = 8, 8, 20


def drawing(pipeline: Any, images: int) -> Callable[[int], object]:
    """Return what draws a batch of images."""
    pipeline.set_progress_bar_config(disable=True)

    def draw(seed: int) -> object:
        generator = torch.Generator().manual_seed(seed + 1)
        return pipeline(batch_size=images, num_inference_steps=STEPS, generator=generator, output_type="np")

    return draw


def main() -> None:
    """Measure and print."""
    given = arguments(__doc__)
    low, low16, res32, res64, direct = (
        load_pipeline(Path(given.models) / f"pocket-{name}")
        for name in ("lowres-32", "lowres-16", "residual-32", "residual-64", "direct-64")
    )
    pipelines = {
        "low-resolution model": low,
        "cascade of 2": DDIMPipeline(CascadedUNet(low, res64), direct.scheduler),
        "cascade of 3": DDIMPipeline(CascadedUNet(low16, res32, res64), direct.scheduler),
        "direct model": direct,
    }
    found = in_turn({name: drawing(each, IMAGES) for name, each in pipelines.items()}, ROUNDS, IMAGES)
    report("cascades.py", f"batches of {IMAGES} images, {STEPS} steps", found, given.out)


if __name__ == "__main__":
    main()
