"""Seconds per image, in training and in sampling, of a model that drops pixels and of one that does not, in turn.

`python benchmarks/dvdp.py --out JSON`. A training step is forward, backward and update, in bfloat16 as in training;
the pictures are noise, and reading them is left out.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cascades import ROUNDS, STEPS, drawing
from timing import arguments, in_turn, report

from reschrom import load_pipeline

BATCH = 16  # in the first stage, as in the recipes
IMAGES = 32  # drawn together: with few, small images do not fill the processor


def training(unet: Any, side: int, count: int) -> Callable[[int], object]:
    """Return one step of training with a batch of that many images."""
    unet = unet.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(unet.parameters(), lr=0.0)

    def step(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed + 1)
        x = torch.randn(count, 3, side, side, generator=generator).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = unet(x, torch.rand(count, generator=generator) * 999).sample
        predicted.float().square().mean().backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    """Measure and print."""
    given = arguments(__doc__)
    load = lambda name: load_pipeline(Path(given.models) / f"pocket-{name}")  # noqa: E731
    pipelines = {"full size": load("direct-64"), "shrinking": load("dvdp-64")}
    found = in_turn({f"sampling, {name}": drawing(each, IMAGES) for name, each in pipelines.items()}, ROUNDS, IMAGES)
    process = pipelines["shrinking"].scheduler.process
    lasts = np.diff([0, *process.turning_points, process.schedule.end + 1]) / (process.schedule.end + 1)
    unet = load("dvdp-64").unet
    stages = {f"stage {k}": training(unet, 64 >> k, BATCH << k) for k in range(len(lasts))}
    full = {"training, full size": training(load("direct-64").unet, 64, BATCH)}
    steps = in_turn(full | stages, ROUNDS, 1)
    found["training, full size"] = {key: value / BATCH for key, value in steps["training, full size"].items()}
    # Each stage is trained for the share of steps that its timesteps are of all.
    images = float(lasts @ (BATCH << np.arange(len(lasts))))
    keys = ("median", "low", "high")
    found["training, shrinking"] = {
        key: float(sum(share * steps[f"stage {k}"][key] for k, share in enumerate(lasts)) / images) for key in keys
    }
    report("dvdp.py", f"sampling: batches of {IMAGES} images, {STEPS} steps", found, given.out)


if __name__ == "__main__":
    main()
