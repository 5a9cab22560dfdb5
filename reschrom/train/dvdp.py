"""How a Dimensionality-Varying Diffusion Process is learned: one network for all stages, one stage in each batch."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from reschrom.dvdp.process import AttenuatedProcess
from reschrom.theory.bands import downsample
from reschrom.train.pictures import batch
from reschrom.train.recipe import Recipe


class Staged(NamedTuple):
    """Noised pictures of one stage as the network is given them, the times it is told, their noise and alpha."""

    x_t: Float[np.ndarray, "count 3 side side"]
    times: Float[np.ndarray, " count"]
    noise: Float[np.ndarray, "count 3 side side"]
    alpha: Float[np.ndarray, " count"]


def staged_pipeline(recipe: Recipe, unet: Any) -> Any:
    """Return a DVDPPipeline of a network, with the process that the recipe describes."""
    from reschrom.dvdp.pipeline import DVDPPipeline
    from reschrom.dvdp.scheduler import DVDPScheduler

    scheduler = DVDPScheduler(
        beta_schedule="squaredcos_cap_v2",
        turning_points=recipe.turning_points,
        attenuation=recipe.attenuation,
        treatment=recipe.treatment,
    )
    return DVDPPipeline(unet, scheduler)


def draw(
    process: AttenuatedProcess,
    pictures: UInt8[np.ndarray, "captions pieces size size 3"],
    recipe: Recipe,
    step: int,
    rank: int,
    processes: int,
) -> Staged:
    """Draw the batch of one step for one of several training processes.

    The stage of a step is chosen with a probability proportional to its number of timesteps, which are then equally
    likely. So every timestep counts alike in the expected gradient, however large the batches of a stage are: with
    `recipe.batch` pictures in the first stage, and twice as many in each stage after it, no batch is too small to be
    computed efficiently.
    """
    timesteps = int(process.schedule.end) + 1
    edges = np.array([0, *process.turning_points, timesteps])
    # Alike in all training processes, none of which has this number.
    together = np.random.default_rng([recipe.seed, step, processes])
    stage = int(np.searchsorted(edges[1:], together.random() * timesteps, side="right"))
    generator = np.random.default_rng([recipe.seed, step, rank])
    count = (recipe.batch << stage) // processes
    x_0, _ = batch(pictures, count, generator)
    x_0 = downsample(x_0, recipe.level)
    side = recipe.size >> stage
    noise = generator.standard_normal((count, x_0.shape[1], side, side), np.float32)
    # One timestep from each of `count` equal parts of the stage.
    share = (np.arange(count) + generator.random(count)) / count
    t = edges[stage] + (share * (edges[stage + 1] - edges[stage])).astype(int)
    scale = process.input_scale(t).astype(np.float32)[:, None, None, None]
    x_t = scale * process.noised(x_0, noise, t)
    return Staged(x_t, process.network_time(t).astype(np.float32), noise, process.network_alpha(t).astype(np.float32))
