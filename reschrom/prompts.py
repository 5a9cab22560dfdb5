"""Time-dependent prompts: which prompt speaks at each time and in each resolution (Eqs. 6 and 25), and what it decides.

Time is the fraction t / T of the scheduler's own timesteps: 1 is noise, 0 the image, and generation runs from 1 to 0.
"""

import contextlib
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from reschrom.bootstrap import StreamingMean
from reschrom.chromatogram import Chromatogram
from reschrom.networks import replaced_method
from reschrom.resolution import band_names, bands, depth, from_bands
from reschrom.schedules import Schedule, is_flow

# t / T -> one weight for each prompt, or for each prompt (row) and each resolution band (column), finest first.
Weights = Callable[[float], Any]


def heaviside(eta: float) -> Weights:
    """Return the weights of two prompts, the first while t > eta T and the second afterwards: Eq. (25).

    Generation runs from t = T to 0, so the prompt that comes first is the c_2 of Eq. (25).
    eta: 1 is the second prompt alone, 0 the first alone, at t = 0 too.
    """
    _fraction("eta", eta)
    return lambda t: (1.0, 0.0) if t > eta or eta == 0 else (0.0, 1.0)


def ramp(start: float, end: float, kind: str = "linear") -> Weights:
    """Return the weights of two prompts, the first up to t = start T, the second from t = end T on, mixed between.

    start, end: 1 >= start > end >= 0, since generation runs from t = T to 0.
    kind: "linear", or "cosine" for half a wave, which begins and ends smoothly.
    """
    _fraction("start", start)
    _fraction("end", end)
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
    return lambda _: np.eye(max(prompt_of) + 1)[:, list(prompt_of)]


class PromptSchedule:
    """Let several prompts guide a diffusers pipeline, each at its own times or in its own resolutions: Eq. (6).

        with PromptSchedule(pipeline, ["a photo of a dress", "an oil painting of a dress"], heaviside(0.8)):
            pipeline("a photo of a dress", num_inference_steps=50)

    Inside the block the pipeline is called with any of the prompts, as text. Whichever it is, the denoiser hears all of
    them: the prediction for the prompt becomes the sum of w_i(t) times that for prompt i. So classifier-free guidance
    becomes Eq. (6) with the weights g w_i(t), where g is the guidance scale, and without guidance the predictions
    themselves are mixed. A learned variance is mixed alike. Weights per band mix the orthogonal bands of the
    predictions (`bands`), down to one pixel. Each step costs one pass of the denoiser for every prompt of which any
    weight is not 0.

    The conditional rows are found in the data: what `encode_prompt` returned for the prompt of the call, wherever the
    denoiser is told it, except in the first part of a guided batch. After the block the pipeline is as it was.

    pipeline: with `encode_prompt`, a `unet` or `transformer`, and a scheduler that `Schedule.from_diffusers` reads.
    prompts: one or more.
    weights: of t / T in [0, 1] as a function (`heaviside`, `ramp`, `by_band`, or any): one for each prompt, or shape
        (prompts, bands), finest band first of the image or the latents. They sum to one, in every band.
    Raises TypeError for a pipeline without text and ValueError for weights that do not fit.
    """

    def __init__(self, pipeline: Any, prompts: Sequence[str], weights: Weights) -> None:
        denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
        if denoiser is None or not hasattr(pipeline, "encode_prompt"):
            raise TypeError(
                "a diffusers pipeline is needed that reads text (`encode_prompt`) and has a `unet` or `transformer`; "
                f"got {type(pipeline).__name__}"
            )
        Schedule.from_diffusers(pipeline.scheduler)  # refuses times that are not counted like t
        self._pipeline, self._denoiser, self._prompts, self._weights = pipeline, denoiser, list(prompts), weights
        self._at(1.0)
        self._encode, self._predict = pipeline.encode_prompt, denoiser.forward
        self._signature = inspect.signature(denoiser.forward)
        self._open = contextlib.ExitStack()
        # Of the run in progress: what is said for the prompt of the call and for every prompt, the unit of the times
        # that the denoiser is told, and the time at which it last heard the prompt.
        self._told: list[Any] = []
        self._encoded: list[list[Any]] = []
        self._unit = 0.0
        self._heard: float | None = None

    def __enter__(self) -> "PromptSchedule":
        """Begin to speak for the prompts."""
        self._open.enter_context(replaced_method(self._pipeline, "encode_prompt", self._encode_all))
        self._open.enter_context(replaced_method(self._denoiser, "forward", self._predict_mixed))
        return self

    def __exit__(self, *_: object) -> None:
        """Give the pipeline back its own."""
        self._open.close()
        self._told, self._encoded, self._heard = [], [], None

    def _encode_all(self, *args: Any, **kwargs: Any) -> Any:
        """Encode what the call asks for, and the prompts of the schedule with the same settings."""
        said = self._encode(*args, **kwargs)
        call = inspect.signature(self._encode).bind(*args, **kwargs)
        asked = call.arguments.get("prompt")
        # Anything else is the negative prompt, in a call of its own.
        if asked is not None and set([asked] if isinstance(asked, str) else asked) <= set(self._prompts):
            self._told, self._encoded, self._unit, self._heard = _tensors(said), [], 0.0, None
            for prompt in self._prompts:
                call.arguments["prompt"] = prompt if isinstance(asked, str) else [prompt] * len(asked)
                self._encoded.append(_tensors(self._encode(*call.args, **call.kwargs)))
        return said

    def _predict_mixed(self, *args: Any, **kwargs: Any) -> Any:
        """Predict with the prompts of this time, wherever the denoiser was told the prompt of the call."""
        call = self._signature.bind(*args, **kwargs)
        told, t = dict(call.arguments), self._time(call.arguments["timestep"])
        weights = self._at(t)

        def predicted(prompt: int) -> Any:
            call.arguments.update(_exchanged(told, self._told, self._encoded[prompt]))
            return self._predict(*call.args, **call.kwargs)

        if not self._encoded or _exchanged(told, self._told, self._encoded[0]) is told:
            if t == self._heard:  # the unconditional prediction, in a call of its own
                return self._predict(*args, **kwargs)
            raise ValueError(
                "inside a PromptSchedule the pipeline must be called with one of its prompts, as text, and tell its "
                f"denoiser what it encoded; the prompts are {self._prompts}"
            )
        self._heard = t
        first, *others = np.flatnonzero(weights.any(axis=1)).tolist()
        output = predicted(first)
        if others:
            parts = [output[0], *(predicted(other)[0] for other in others)]
            output[0].copy_(_mixed(parts, weights[[first, *others]]))
        return output

    def _at(self, t: float) -> Float[np.ndarray, "prompts bands"]:
        """Return the weights at a time, in one column for all bands or one for each."""
        weights = np.asarray(self._weights(t), dtype=np.float64)
        if len(weights) != len(self._prompts):
            raise ValueError(
                f"each of the {len(self._prompts)} prompts needs a weight; got {len(weights)} at t/T = {t:g}"
            )
        weights = weights.reshape(len(weights), -1)
        if not np.allclose(weights.sum(axis=0), 1, rtol=0, atol=1e-6):
            raise ValueError(f"the weights of the prompts must sum to one; at t/T = {t:g} they are {weights.tolist()}")
        return weights

    def _time(self, passed: Any) -> float:
        """Return t / T of the scheduler's timestep that the denoiser was told, perhaps rounded to half precision."""
        scheduler = self._pipeline.scheduler
        steps = float(scheduler.config.num_train_timesteps)
        told = float(passed.flatten()[0]) if hasattr(passed, "flatten") else float(passed)
        # A run begins at noise; told 1 or less there, the denoiser of a flow counts time in units of the whole.
        self._unit = self._unit or (steps if told <= 1 and is_flow(scheduler, scheduler.config) else 1.0)
        timesteps = scheduler.timesteps.cpu().double().numpy()
        return float(timesteps[np.argmin(np.abs(timesteps - told * self._unit))]) / steps


def _tensors(said: Any) -> list[Any]:
    return [each for each in said if hasattr(each, "shape")]


def _exchanged(value: Any, told: list[Any], instead: list[Any]) -> Any:
    """Return `value` with all rows that repeat a tensor of `told` exchanged; `value` itself where there are none."""
    if isinstance(value, dict):
        inner = {key: _exchanged(each, told, instead) for key, each in value.items()}
        return inner if any(inner[key] is not value[key] for key in value) else value
    if not getattr(value, "ndim", 0):
        return value
    import torch

    parts = list(value.split(len(told[0])))
    found = False
    # The first part of a guided batch is the unconditional one, even where it is told the same words.
    for place in range(1 if len(parts) > 1 else 0, len(parts)):
        for before, after in zip(told, instead, strict=True):
            if torch.equal(before.to(value), parts[place]):
                parts[place], found = after.to(value), True
                break
    return torch.cat(parts) if found else value


def _mixed(outputs: Sequence[Any], weights: Float[np.ndarray, "prompts bands"]) -> Any:
    """Return the sum of weighted predictions, in each band if there is more than one column of weights."""
    if weights.shape[1] == 1:
        return sum(float(w) * output for w, output in zip(weights[:, 0], outputs, strict=True))
    *_, side = shape = outputs[0].shape
    if len(shape) != 4 or len(band_names(side)) != weights.shape[1]:
        raise ValueError(
            f"weights for {weights.shape[1]} bands need predictions of side {2 ** (weights.shape[1] - 1)}, shape "
            f"(N, C, S, S); the denoiser's have the shape {tuple(shape)}"
        )
    pyramids = [bands(output) for output in outputs]
    return from_bands([_mixed(band, weights[:, [m]]) for m, band in enumerate(zip(*pyramids, strict=True))])


class DecidedShare(NamedTuple):
    """The share of every band that the second prompt decided, finest first, and the same for bootstrapped images."""

    share: Float[np.ndarray, " bands"]
    replicates: Float[np.ndarray, "replicates bands"]


def decided_share(
    switched: Float[np.ndarray, "images channels side side"],
    first: Float[np.ndarray, "images channels side side"],
    second: Float[np.ndarray, "images channels side side"],
    seed: int = 0,
) -> DecidedShare:
    """Measure the share of each band that the second prompt decided: 0 is all the first prompt's, 1 all the second's.

    It is the projection of each image between the two pure ones, `<b(x - a), b(c - a)> / ||b(c - a)||^2` for a band b,
    averaged over images with the weights `||b(c - a)||^2`.

    switched: images, or latents, made with both prompts. first, second: with one of them alone, from the same noise.
    seed: of the bootstrap over images.
    Raises ValueError where the pure images do not differ.
    """
    moved, apart = (bands(np.asarray(each - first, dtype=np.float64)) for each in (switched, second))
    inner, norm = (
        np.stack([4.0**m * np.sum(a * b, axis=(1, 2, 3)) for m, (a, b) in enumerate(zip(pair, apart, strict=True))])
        for pair in (moved, apart)
    )
    if not np.all(norm.sum(axis=1) > 0):
        same = band_names(first.shape[-1])[int(np.argmin(norm.sum(axis=1) > 0))]
        raise ValueError(f"the images of the two prompts must differ in every band; they are the same in {same}")
    mean = StreamingMean(seed)
    mean.add(np.stack([inner, norm]).transpose(2, 0, 1), 0)
    return DecidedShare(mean.mean[0] / mean.mean[1], mean.replicates[:, 0] / mean.replicates[:, 1])


def predicted_share(
    chromatogram: Chromatogram, eta: Float[np.ndarray, " switches"], end: float
) -> Float[np.ndarray, "bands switches"]:
    """Return the share of each band that is generated after a switch at t = eta T, and so by the second prompt.

    eta: in [0, 1]. end: T in the units of the chromatogram, such as 1000 timesteps.
    A band that never grows was there from the beginning: its share is 0.
    Raises ValueError for eta outside [0, 1].
    """
    for each in eta:
        _fraction("eta", float(each))
    return np.stack([np.interp(eta * end, chromatogram.edges, each) for each in _still_to_come(chromatogram)])


def half_decided(
    eta: Float[np.ndarray, " switches"], share: Float[np.ndarray, "bands switches"]
) -> Float[np.ndarray, " bands"]:
    """Return the eta at which half of each band is decided by the second prompt: the first crossing, interpolated.

    eta: rising. share: for instance of `predicted_share`.
    Raises ValueError for a band that does not rise through one half.
    """
    above = share >= 0.5
    after = above.argmax(axis=1)
    if not np.all(above.any(axis=1) & (after > 0)):
        raise ValueError("the share of every band must rise through one half between the first eta and the last")
    band = np.arange(len(share))
    low, high = share[band, after - 1], share[band, after]
    return eta[after - 1] + (0.5 - low) / (high - low) * (eta[after] - eta[after - 1])


def switch_time(chromatogram: Chromatogram, band: int, kept: float = 0.95) -> float:
    """Return the time from which another prompt may speak, so that bands coarser than `band` x `band` keep the first.

    It is the latest of the chromatogram's edges, and so the earliest moment of generation, at which each of these bands
    has got `kept` of all that it gains.
    Raises ValueError for a band that is not a resolution of 2x2 or finer.
    """
    side = chromatogram.side
    if band not in [side >> m for m in range(depth(side))]:
        raise ValueError(f"the band must be one of {', '.join(chromatogram.band_names[:-1])}; got {band}x{band}")
    coarser = _still_to_come(chromatogram)[depth(side // band) + 1 :]
    return float(chromatogram.edges[np.all(coarser <= 1 - kept, axis=0)].max())


def _still_to_come(chromatogram: Chromatogram) -> Float[np.ndarray, "bands edges"]:
    """Return the share of what each band gains that it gains after each edge: 0 at the image, 1 at noise."""
    gained = np.cumsum(np.pad(chromatogram.rates * np.diff(chromatogram.edges), ((0, 0), (1, 0))), axis=1)
    return gained / np.where(gained[:, -1:] > 0, gained[:, -1:], 1)


def _fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a fraction of the last time and lies in [0, 1]; got {value:g}")
