"""What the chromatograph costs: the same run with and without it, in turn. `python benchmarks/listening.py [MODEL]`.

Prints the ratio of the processor times, which other load changes little, median over pairs with its 95 % bootstrap
interval, and the memory of the instrument after one run and after several.
"""

import sys
import time

import numpy as np
import torch

from reschrom import Chromatograph, load_pipeline

PAIRS, IMAGES, STEPS = 12, 8, 10


def generate(pipeline, seed: int) -> torch.Tensor:
    """Sample one prompt with guidance."""
    return pipeline(
        "a photo of a sailing ship",
        num_images_per_prompt=IMAGES,
        num_inference_steps=STEPS,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(seed),
        output_type="pt",
        clean_caption=False,
    ).images


def timed(pipeline, seed: int, listen: bool) -> tuple[float, torch.Tensor]:
    """Return the processor seconds of one run, and its images."""
    start = time.process_time()
    if listen:
        with Chromatograph(pipeline):
            images = generate(pipeline, seed)
    else:
        images = generate(pipeline, seed)
    return time.process_time() - start, images


def main() -> None:
    """Measure and print."""
    pipeline = load_pipeline(sys.argv[1] if len(sys.argv) > 1 else "data/models/pocket-if-64")
    pipeline.set_progress_bar_config(disable=True)
    timed(pipeline, 0, True)
    ratios = []
    for pair in range(PAIRS):
        order = (True, False) if pair % 2 else (False, True)  # so that a drift of the machine cancels
        runs = {listen: timed(pipeline, pair, listen) for listen in order}
        assert torch.equal(runs[True][1], runs[False][1]), "listening changed the images"
        ratios.append(runs[True][0] / runs[False][0])
    draws = np.random.default_rng(0).choice(ratios, (2000, PAIRS))
    low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
    print(f"time with the chromatograph / without: {np.median(ratios):.3f} ({low:.3f} to {high:.3f}, {PAIRS} pairs)")
    with Chromatograph(pipeline) as meter:
        for run in range(3):
            generate(pipeline, run)
            size = sum(each.nbytes for each in vars(meter._whole.energies).values() if isinstance(each, np.ndarray))
            print(f"after {meter.images} images the instrument holds {size / 2**20:.2f} MiB of sums")


if __name__ == "__main__":
    main()
