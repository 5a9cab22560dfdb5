"""What Upsample Guidance costs: the same run with and without it, in turn. `python benchmarks/upsample_guidance.py`.

Prints the ratio of the times, median over pairs with its 95 % bootstrap interval, and that of the multiply-adds.
"""

import sys
import time

import numpy as np
import torch
from diffusers.utils import logging
from torch.utils.flop_counter import FlopCounterMode

from reschrom import UpsampleGuidance, load_pipeline

PAIRS, IMAGES, STEPS, SCALE = 8, 4, 4, 2


def generate(pipeline, seed: int, theta: float) -> float:
    """Sample one prompt at SCALE times the size of the model, and return the seconds; at theta = 0 without guidance."""
    start = time.perf_counter()
    side = SCALE * pipeline.unet.config.sample_size * getattr(pipeline, "vae_scale_factor", 1)
    with UpsampleGuidance(pipeline, SCALE, theta):
        pipeline(
            "a photo of a sailing ship",
            height=side,
            width=side,
            num_images_per_prompt=IMAGES,
            num_inference_steps=STEPS,
            guidance_scale=4.0,
            generator=torch.Generator().manual_seed(seed),
            output_type="latent" if getattr(pipeline, "vae", None) else "pt",
        )
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    logging.set_verbosity_error()  # some pipelines name packages that could clean a prompt
    pipeline = load_pipeline(sys.argv[1] if len(sys.argv) > 1 else "data/models/pocket-if-64")
    pipeline.set_progress_bar_config(disable=True)
    counted = []
    for theta in (0.0, 1.0):
        with FlopCounterMode(display=False) as counter:
            generate(pipeline, 0, theta)
        counted.append(counter.get_total_flops())
    ratios = []
    for pair in range(PAIRS):
        order = (1.0, 0.0) if pair % 2 else (0.0, 1.0)  # so that a drift of the machine cancels
        seconds = {theta: generate(pipeline, pair, theta) for theta in order}
        ratios.append(seconds[1.0] / seconds[0.0])
    draws = np.random.default_rng(0).choice(ratios, (2000, PAIRS))
    low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
    print(f"time with Upsample Guidance / without: {np.median(ratios):.3f} ({low:.3f} to {high:.3f}, {PAIRS} pairs)")
    print(f"multiply-adds: {counted[1] / counted[0]:.3f}; 1 + 1 / scale^2 is {1 + 1 / SCALE**2:.3f}")


if __name__ == "__main__":
    main()
