"""From the calls of a denoiser to the steps of a run: noised images, and predictions with and without condition.

A pipeline guides in one of three layouts, which are told apart by what the calls hold:

- `ALONE`: one call a timestep, one prediction of each image;
- `ONE_BATCH`: one call whose batch is two equal halves with different conditions, the unconditional rows first;
- `TWO_CALLS`: two calls with the same input, the conditional one first.
"""

import inspect
from enum import Enum, auto
from typing import Any, NamedTuple

from reschrom.pipelines.adapter import TimestepReader


class Layout(Enum):
    """Where the conditional and the unconditional predictions of a timestep are found."""

    ALONE = auto()
    ONE_BATCH = auto()
    TWO_CALLS = auto()


class Step(NamedTuple):
    """One timestep of a run: tensors of shape (images, C, S, S); `unconditional` is None where guidance is off."""

    timestep: float
    x_t: Any
    conditional: Any
    unconditional: Any | None


class _Call(NamedTuple):
    """One call of the denoiser. `equal_halves`: its batch is one input twice, with different conditions."""

    timestep: float
    x_t: Any
    prediction: Any
    equal_halves: bool


class StepReader:
    """Read the steps of runs from the calls of a pipeline's denoiser, one after another.

    A step is complete when the next one begins, or the run ends, because a second call may belong to it.
    """

    def __init__(self, pipeline: Any, denoiser: Any) -> None:
        self._pipeline = pipeline
        self._signature = inspect.signature(denoiser.forward)
        self._timesteps = TimestepReader(pipeline)
        self._calls: list[_Call] = []  # of the current timestep
        self._running = False

    def read(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> tuple[Step | None, bool]:
        """Count one more call; return the step that it completes, if any, and whether a new run begins with it."""
        if not self._running:
            self._timesteps.begin()
        call = self._call(self._signature.bind(*args, **kwargs).arguments, output)
        last = self._calls[-1] if self._calls else None
        if last and call.timestep == last.timestep and _equal(call.x_t, last.x_t[-len(call.x_t) :]):
            self._calls.append(call)  # another prediction from the same input
            return None, False
        step, begins = None, False
        if last is None or call.timestep > last.timestep or len(self._pipeline.scheduler.timesteps) == 1:
            step, begins = self.end(), True
        elif call.timestep < last.timestep:
            step = self._completed(call.equal_halves)
        self._calls, self._running = [call], True  # in place of an earlier one at this timestep: the last counts
        return step, begins

    def end(self) -> Step | None:
        """Return the last step of the run in progress, if any; the next call begins another."""
        step = self._completed(True) if self._calls else None
        self.forget()
        return step

    def forget(self) -> None:
        """Drop the run in progress."""
        self._calls, self._running = [], False

    def _call(self, arguments: dict[str, Any], output: Any) -> _Call:
        x_t, *conditions = arguments.values()
        prediction = output[0]
        equal_halves = len(x_t) % 2 == 0 and _equal(*x_t.chunk(2)) and _differ(conditions, len(x_t))
        if x_t.ndim == 3:
            x_t, prediction = _unpacked(x_t), _unpacked(prediction)
        if x_t.ndim != 4 or x_t.shape[-1] != x_t.shape[-2] or x_t.shape[-1] & (x_t.shape[-1] - 1):
            raise ValueError(
                "the denoiser must see square images or latents with a power of two as side, shape (N, C, S, S); got "
                f"{tuple(x_t.shape)}"
            )
        # More channels in than out: a picture to start from stands behind the noised one. More out than in: the learned
        # variance stands behind the prediction.
        x_t = x_t[:, : prediction.shape[1]]
        return _Call(self._timesteps.read(arguments["timestep"]), x_t, prediction, equal_halves)

    def _layout(self, next_equal_halves: bool) -> Layout:
        # Two images may begin with the same noise, so the halves must still be equal at the next step.
        if self._calls[0].equal_halves and next_equal_halves:
            return Layout.ONE_BATCH
        return Layout.TWO_CALLS if len(self._calls) > 1 else Layout.ALONE

    def _completed(self, next_equal_halves: bool) -> Step:
        first, *others = self._calls
        match self._layout(next_equal_halves):
            case Layout.ONE_BATCH:
                unconditional, conditional = first.prediction.chunk(2)
                return Step(first.timestep, first.x_t.chunk(2)[1], conditional, unconditional)
            case Layout.TWO_CALLS:
                return Step(first.timestep, first.x_t, first.prediction, others[0].prediction)
            case _:
                return Step(first.timestep, first.x_t, first.prediction, None)


def _equal(a: Any, b: Any) -> bool:
    import torch

    return a.shape == b.shape and torch.equal(a, b)


def _differ(conditions: Any, batch: int) -> bool:
    """Whether the two halves of a batch are told different things, anywhere in the other arguments."""
    import torch

    if isinstance(conditions, torch.Tensor):
        halves = conditions.chunk(2) if conditions.ndim and len(conditions) == batch else ()
        return bool(halves) and not torch.equal(*halves)
    inner = list(conditions.values()) if isinstance(conditions, dict) else conditions
    return isinstance(inner, (list, tuple)) and any(_differ(each, batch) for each in inner)


def _unpacked(tokens: Any) -> Any:
    """Return latents (N, C, S, S) from tokens (N, S^2 / 4, 4C) of 2x2 patches, as Flux packs them."""
    count, patches, width = tokens.shape
    side = int(patches**0.5)
    if side * side != patches or width % 4:
        raise ValueError(f"tokens must be the 2x2 patches of square latents, shape (N, n^2, 4C); got {tokens.shape}")
    grid = tokens.reshape(count, side, side, width // 4, 2, 2)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(count, width // 4, 2 * side, 2 * side)
