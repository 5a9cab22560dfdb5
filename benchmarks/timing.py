"""Seconds of several things, measured in turn, so that a drift of the machine is the same for all."""

import argparse
import platform
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from reschrom._files import write_json


def in_turn(things: Mapping[str, Callable[[int], object]], rounds: int, images: int) -> dict[str, dict[str, float]]:
    """Return the seconds that each thing takes per image: median over rounds, and its 95 % bootstrap interval.

    things: name -> what is called with the number of the round, after one call that is not counted.
    images: that one call makes.
    """
    seconds: dict[str, list[float]] = {name: [] for name in things}
    for k in range(-1, rounds):
        for name, thing in things.items():
            start = time.perf_counter()
            thing(k)
            if k >= 0:
                seconds[name].append((time.perf_counter() - start) / images)
    found = {}
    for name, each in seconds.items():
        draws = np.random.default_rng(0).choice(each, (2000, rounds))
        low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
        found[name] = {"median": float(np.median(each)), "low": float(low), "high": float(high)}
    return found


def report(program: str, about: str, found: Mapping[str, Mapping[str, float]], out: str) -> None:
    """Print seconds per image, and write them as JSON where `out` names a file."""
    print(f"{about}; {torch.get_num_threads()} threads; seconds per image:")
    for name, each in found.items():
        print(f"{name:34}{each['median']:.4f} ({each['low']:.4f} to {each['high']:.4f})")
    if out:
        measured: dict[str, Any] = {"made by": f"python benchmarks/{program}", "about": about}
        measured |= {"machine": platform.machine(), "threads": torch.get_num_threads(), "seconds": dict(found)}
        write_json(out, measured)


def arguments(description: str | None) -> argparse.Namespace:
    """Read `--models FOLDER` and `--out JSON`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--models", default="data/models", help="folder of the models")
    parser.add_argument("--out", default="", help="JSON file for what is measured")
    return parser.parse_args()
