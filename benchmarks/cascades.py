"""Seconds per image of a cascade and of a direct model, in turn. `python benchmarks/cascades.py [FOLDER OF MODELS]`.

Prints the median over rounds with its 95 % bootstrap interval, for batches of 8 images and 20 steps of DDIM.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMPipeline

from reschrom import CascadedUNet, load_pipeline

ROUNDS, IMAGES, STEPS = 10, 8, 20


def timed(pipeline, seed: int) -> float:
    """Return the seconds that one image takes."""
    start = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    pipeline(batch_size=IMAGES, num_inference_steps=STEPS, generator=generator, output_type="np")
    return (time.perf_counter() - start) / IMAGES


def main() -> None:
    """Measure and print."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "data/models")
    low, low16, res32, res64, direct = (
        load_pipeline(folder / f"pocket-{name}")
        for name in ("lowres-32", "lowres-16", "residual-32", "residual-64", "direct-64")
    )
    pipelines = {
        "direct, 64": direct,
        "cascade, 32 -> 64": DDIMPipeline(CascadedUNet(low, res64), direct.scheduler),
        "cascade, 16 -> 32 -> 64": DDIMPipeline(CascadedUNet(low16, res32, res64), direct.scheduler),
        "low-resolution model alone, 32": low,
    }
    for pipeline in pipelines.values():
        pipeline.set_progress_bar_config(disable=True)
        timed(pipeline, 0)
    # Round by round, so that a drift of the machine is the same for all.
    rounds = [{name: timed(pipeline, seed) for name, pipeline in pipelines.items()} for seed in range(ROUNDS)]
    print(f"{torch.get_num_threads()} threads, batches of {IMAGES}, {STEPS} steps; seconds per image:")
    for name in pipelines:
        seconds = np.array([each[name] for each in rounds])
        draws = np.random.default_rng(0).choice(seconds, (2000, ROUNDS))
        low_end, high_end = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
        print(f"{name:32}{np.median(seconds):.3f} ({low_end:.3f} to {high_end:.3f})")


if __name__ == "__main__":
    main()
