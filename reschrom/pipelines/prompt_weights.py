"""Which prompt weighs how much when: weights that change with time, step or band (Eqs. 6 and 25)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from reschrom._arrays import whole_number
from reschrom.theory.bands import band_names, bands, from_bands
from reschrom.theory.shares import fraction


class Moment(float):
    """A time t / T of generation, 1 for noise and 0 for the image, that knows which step it belongs to.

    step: counted from 1. A sampler that evaluates the network twice a step is in one step both times.
    steps: how many there are.
    """

    step: int
    steps: int

    def __new__(cls, t: float, step: int, steps: int) -> "Moment":
        moment = super().__new__(cls, t)
        moment.step, moment.steps = step, steps
        return moment


# t / T, which knows its step -> one weight for each prompt, or for each prompt (row) and each resolution band (column),
# finest first.
Weights = Callable[[Moment], Any]


def heaviside(switch: float) -> Weights:
    """Return the weights of two prompts at t / T, the first while t > switch T and the second afterwards: Eq. (25).

    Generation runs from t = T to 0, so the prompt that comes first is the c_2 of Eq. (25), and `switch` its eta.

    Parameters
    ----------
    switch : float
        In [0, 1], else ValueError: 1 is the second prompt alone, 0 the first alone, at t = 0 too.

    Examples
    --------
    >>> from reschrom import heaviside
    >>> weights = heaviside(0.8)
    >>> weights(0.9), weights(0.5)
    ((1.0, 0.0), (0.0, 1.0))
    """
    fraction("switch", switch)
    return lambda t: (1.0, 0.0) if t > switch or switch == 0 else (0.0, 1.0)


def ramp(start: float, end: float, kind: str = "linear") -> Weights:
    """Return the weights of two prompts, the first up to t = start T, the second from t = end T on, mixed between.

    start, end: 1 >= start > end >= 0, since generation runs from t = T to 0.
    kind: "linear", or "cosine" for half a wave, which begins and ends smoothly.
    """
    fraction("start", start)
    fraction("end", end)
    if start <= end or kind not in ("linear", "cosine"):
        raise ValueError(
            f'a ramp, "linear" or "cosine", starts at a larger t than it ends; got {kind!r} from {start:g} to {end:g}'
        )

    def weights(t: float) -> tuple[float, float]:
        second = min(max((start - t) / (start - end), 0.0), 1.0)
        second = second if kind == "linear" else (1 - math.cos(math.pi * second)) / 2
        return 1 - second, second

    return weights


def by_band(prompt_of: Sequence[int]) -> Weights:
    """Return the weights that give every resolution band one prompt, at all times.

    prompt_of: the number of the prompt of each band, counted from 0, finest band first.
    """
    numbers = [whole_number("the prompt of a band", each) for each in prompt_of]
    if not numbers:
        raise ValueError("the prompt of every band is needed, finest first; got none")
    return lambda _: np.eye(max(numbers) + 1)[:, numbers]


def mixed(outputs: Sequence[Any], weights: Float[np.ndarray, "prompts bands"]) -> Any:
    """Return the sum of weighted predictions, in each band if there is more than one column of weights."""
    if weights.shape[1] == 1:
        return sum(float(w) * output for w, output in zip(weights[:, 0], outputs, strict=True))
    shape = tuple(outputs[0].shape)
    if len(shape) != 4:
        raise ValueError(f"weights per band need predictions of the shape (N, C, H, W); the denoiser's have {shape}")
    names = band_names(shape[-2:])
    if len(names) != weights.shape[1]:
        raise ValueError(f"{len(names)} weights are needed, for {', '.join(names)}; got {weights.shape[1]}")
    pyramids = [bands(output) for output in outputs]
    return from_bands([mixed(band, weights[:, [m]]) for m, band in enumerate(zip(*pyramids, strict=True))])
