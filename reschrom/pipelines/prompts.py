"""Time-dependent prompts: which prompt guides at each time and in each resolution (Eqs. 6 and 25).

Time is the fraction t / T of the scheduler's own timesteps: 1 is noise, 0 the image, and generation runs from 1 to 0.
"""

import contextlib
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from reschrom.pipelines.adapter import denoiser_of, replaced_method
from reschrom.pipelines.scheduler import share_of_time, time_of, upcoming
from reschrom.theory.bands import band_names, bands, from_bands
from reschrom.theory.schedules import Schedule
from reschrom.theory.shares import fraction

# t / T -> one weight for each prompt, or for each prompt (row) and each resolution band (column), finest first.
Weights = Callable[[float], Any]


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
    return lambda _: np.eye(max(prompt_of) + 1)[:, list(prompt_of)]


class PromptSchedule:
    """Let several prompts guide a diffusers pipeline, each at its own times or in its own resolutions: Eq. (6).

    Inside the block the pipeline is called with any of the prompts, as text. The prediction for it becomes the sum of
    w_i(t) times that for prompt i. So classifier-free guidance becomes Eq. (6) with the weights g w_i(t), where g is
    the guidance scale, and without guidance the predictions themselves are mixed. A learned variance is mixed alike.
    Weights per band mix the orthogonal bands of the predictions (`bands`), down to one pixel. Each step costs one pass
    of the denoiser for every prompt of which any weight is not 0.

    The conditional rows are found in the data: what `encode_prompt` returned for the prompt of the call, wherever it is
    passed to the denoiser, except in the first part of a guided batch. After the block the pipeline is as it was.

    Parameters
    ----------
    pipeline : diffusers pipeline
        With `encode_prompt`, a `unet` or `transformer`, and a scheduler that `Schedule.from_diffusers` reads.
    prompts : sequence of str or sequences of str
        One or more. Each is one text for all images of a call, or a list of one text for each image; the pipeline is
        called with such a list then.
    weights : callable
        Of t / T in [0, 1] (`heaviside`, `ramp`, `by_band`, or any): one weight for each prompt, or shape (prompts,
        bands), finest band first of the image or the latents. They sum to one, in every band.

    Raises
    ------
    TypeError
        For a pipeline without text.
    ValueError
        For weights that do not fit, and a call with another prompt.

    Examples
    --------
    >>> from reschrom import PromptSchedule, heaviside, load_pipeline
    >>> pipeline, prompts = load_pipeline("data/models/pocket-t2i-64"), ["a photo of a dress", "an oil painting"]
    >>> with PromptSchedule(pipeline, prompts, heaviside(0.8)):
    ...     image = pipeline("a photo of a dress", num_inference_steps=2).images[0]
    >>> image.size
    (64, 64)
    """

    def __init__(self, pipeline: Any, prompts: Sequence[str | Sequence[str]], weights: Weights) -> None:
        denoiser = denoiser_of(pipeline)
        if not hasattr(pipeline, "encode_prompt"):
            raise TypeError(
                f"a diffusers pipeline is needed that reads text (`encode_prompt`); got {type(pipeline).__name__}"
            )
        Schedule.from_diffusers(pipeline.scheduler)  # refuses times that are not counted like t
        self._pipeline, self._denoiser, self._weights = pipeline, denoiser, weights
        self._prompts = [prompt if isinstance(prompt, str) else list(prompt) for prompt in prompts]
        lengths = {len(prompt) for prompt in self._prompts if isinstance(prompt, list)}
        if len(lengths) > 1:
            raise ValueError(f"lists of prompts hold one text for each image; got lists of {sorted(lengths)} texts")
        self._at(1.0)
        self._encode, self._predict = pipeline.encode_prompt, denoiser.forward
        self._signature = inspect.signature(denoiser.forward)
        self._open = contextlib.ExitStack()
        # Of the run in progress: the encoding of the prompt that the pipeline was called with, those of every prompt of
        # the schedule, and the time of the last conditional prediction.
        self._called_with: list[Any] = []
        self._encodings: list[list[Any]] = []
        self._conditional_at: float | None = None

    def __enter__(self) -> "PromptSchedule":
        """Begin to mix the prompts."""
        self._open.enter_context(replaced_method(self._pipeline, "encode_prompt", self._encode_all))
        self._open.enter_context(replaced_method(self._denoiser, "forward", self._predict_mixed))
        return self

    def __exit__(self, *_: object) -> None:
        """Give the pipeline back its own."""
        self._open.close()
        self._called_with, self._encodings, self._conditional_at = [], [], None

    def _encode_all(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        """Encode what the call asks for, and the prompts of the schedule with the same settings."""
        encoding = self._encode(*args, **kwargs)
        call = inspect.signature(self._encode).bind(*args, **kwargs)
        texts = call.arguments.get("prompt")
        # Anything else is the negative prompt, in a call of its own.
        if texts in self._prompts or (isinstance(texts, list) and all(text in self._prompts for text in texts)):
            self._called_with, self._encodings, self._conditional_at = _tensors(encoding), [], None
            for prompt in self._prompts:
                call.arguments["prompt"] = (
                    [prompt] * len(texts) if isinstance(texts, list) and isinstance(prompt, str) else prompt
                )
                self._encodings.append(_tensors(self._encode(*call.args, **call.kwargs)))
        return encoding

    def _predict_mixed(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        """Predict with the prompts of this time, in the place of the prompt that the pipeline was called with.

        A call of the denoiser is one of three cases. It holds the encoding of that prompt: then it is made once for
        each prompt of any weight, and the predictions are mixed. It does not, but at this time another one did: then
        it is the unconditional half of guidance in two calls, and passes as it is. Otherwise the schedule is of no use.
        """
        call = self._signature.bind(*args, **kwargs)
        given = dict(call.arguments)
        scheduler = self._pipeline.scheduler
        schedule, (mixture, timestep) = Schedule.from_diffusers(scheduler), upcoming(scheduler, given["timestep"])
        t = share_of_time(scheduler, schedule, time_of(schedule, mixture, timestep))
        weights = self._at(t)

        def conditional(prompt: int) -> Any:
            call.arguments.update(_exchanged(given, self._called_with, self._encodings[prompt]))
            return self._predict(*call.args, **call.kwargs)

        holds_prompt = self._encodings and _exchanged(given, self._called_with, self._encodings[0]) is not given
        if not holds_prompt and t == self._conditional_at:
            return self._predict(*args, **kwargs)
        if not holds_prompt:
            raise ValueError(
                "inside a PromptSchedule the pipeline must be called with one of its prompts, as text, and pass its "
                f"denoiser what it encoded; the prompts are {self._prompts}"
            )
        self._conditional_at = t
        first, *others = np.flatnonzero(weights.any(axis=1)).tolist()
        output = conditional(first)
        if others:
            parts = [output[0], *(conditional(other)[0] for other in others)]
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


def _tensors(encoding: Any) -> list[Any]:
    return [each for each in encoding if hasattr(each, "shape")]


def _exchanged(value: Any, before: list[Any], after: list[Any]) -> Any:
    """Return `value` with all rows that repeat a tensor of `before` exchanged; `value` itself where there are none.

    For example, with guidance a text encoder's states reach the denoiser as [unconditional; conditional], and `before`
    holds the conditional ones: their half is exchanged, and the first stays.
    """
    if isinstance(value, dict):
        inner = {key: _exchanged(each, before, after) for key, each in value.items()}
        return inner if any(inner[key] is not value[key] for key in value) else value
    if not getattr(value, "ndim", 0):
        return value
    import torch

    parts = list(value.split(len(before[0])))
    found = False
    # The first part of a guided batch is the unconditional one, even where its prompt has the same words.
    for place in range(1 if len(parts) > 1 else 0, len(parts)):
        for old, new in zip(before, after, strict=True):
            if torch.equal(old.to(value), parts[place]):
                parts[place], found = new.to(value), True
                break
    return torch.cat(parts) if found else value


def _mixed(outputs: Sequence[Any], weights: Float[np.ndarray, "prompts bands"]) -> Any:
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
    return from_bands([_mixed(band, weights[:, [m]]) for m, band in enumerate(zip(*pyramids, strict=True))])
