"""What a denoiser was shown, told and predicted in its calls, cut into rows: batches of all images that are stepped."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from reschrom.pipelines.texts import tensors_in

# How far, relative to its size, what the network sees may be from what is stepped.
_SHOWN = 0.02


class Call(NamedTuple):
    """One call of a denoiser: its arguments by name, the image among them, and the predictions."""

    denoiser: Any
    arguments: dict[str, Any]
    shown: Any
    predictions: Any


def as_batch(value: Any) -> Any:
    """Return a tensor, or a list of them for one image each, as one batch."""
    import torch

    if isinstance(value, (list, tuple)) and all(isinstance(each, torch.Tensor) for each in value):
        return torch.stack(list(value))
    if not isinstance(value, torch.Tensor):
        raise ValueError(f"a denoiser is shown tensors and returns them; got {type(value).__name__}")
    return value


def precise(x: Any) -> Any:
    """Return a tensor in single precision or better."""
    import torch

    return x.detach().to(torch.promote_types(x.dtype, torch.float32))


def is_finite(x: Any) -> bool:
    """Whether all numbers of a tensor are finite. So is their sum, which takes far less time."""
    import torch

    return math.isfinite(float(x.sum(dtype=torch.float32)))


def equal(a: Any, b: Any) -> bool:
    """Whether two tensors have one shape and the same numbers."""
    import torch

    return a.shape == b.shape and torch.equal(a, b)


def as_videos(calls: list[Call], stepped: Any) -> Any:
    """Return as videos what a scheduler steps frame by frame, if its denoiser predicts videos (N, C, F, H, W)."""
    predictions = calls[0].predictions
    if predictions.ndim == 5 and stepped.ndim == 4 and predictions.shape[2] > 1:
        return stepped.unflatten(0, (-1, predictions.shape[2])).movedim(2, 1)
    return stepped


def fit_to(x: Any, like: Any, last: bool = False) -> Any | None:
    """Return x with the axes of `like`, or None: what stands behind is cut off, on one axis at most.

    That is a learned variance behind the prediction, or tokens of a reference picture behind those of the image.
    last: whether what stands before is cut off.
    """
    x, wanted = _without_single(x, like.ndim), tuple(like.shape[1:])
    if x.ndim != like.ndim or sum(a != b for a, b in zip(x.shape[1:], wanted, strict=True)) > 1:
        return None
    x = x[(slice(None), *(slice(-size, None) if last else slice(size) for size in wanted))]
    return x if tuple(x.shape[1:]) == wanted else None


def _without_single(x: Any, axes: int) -> Any:
    """Return x without axes of length 1 behind the first, as long as it has more than so many."""
    for axis in range(x.ndim - 1, 0, -1):
        if x.ndim > axes and x.shape[axis] == 1:
            x = x.squeeze(axis)
    return x


def rows_of(calls: list[Call], stepped: Any, last: bool) -> list[Any] | None:
    """Return the predictions of all calls, each a batch of what is stepped; None where they do not fit."""
    rows = []
    for call in calls:
        fitted = fit_to(call.predictions, stepped, last)
        if fitted is None or len(fitted) % len(stepped):
            return None
        rows += fitted.chunk(len(fitted) // len(stepped))
    return rows


def is_shown(shown: Any, stepped: Any, scales: Sequence[float]) -> bool:
    """Whether what a network is shown holds what is stepped, in any of its channels."""
    return any(_is_scaled(part, stepped, scales) for part in _parts(shown, stepped))


def places_of(call: Call, stepped: Any, scales: Sequence[float]) -> tuple[bool, ...]:
    """Return whether tokens that are stepped are the last of those that a network predicts, or both where it may be.

    Tokens of a reference picture stand behind those of the image, or before them, as the network is shown them. Tokens
    of text stand before, and it is not shown them there (Qwen-Image 2.1).
    """
    if stepped.ndim != 3 or stepped.shape[1] == call.predictions.shape[1]:
        return (False,)
    if call.shown.shape[1] != call.predictions.shape[1]:
        return (False, True)
    return (stand_last(call, stepped, scales),)


def stand_last(call: Call, stepped: Any, scales: Sequence[float]) -> bool:
    """Whether tokens that are stepped are the last of those that a network is shown, behind those of references."""
    if stepped.ndim != 3 or stepped.shape[1] == call.shown.shape[1]:
        return False
    return not is_shown(call.shown[: len(stepped), : stepped.shape[1]], stepped, scales)


def _is_scaled(part: Any, stepped: Any, scales: Sequence[float]) -> bool:
    """Whether a part of what a network is shown is what is stepped, scaled as its scheduler scales."""
    part, stepped = part.double(), stepped.double()
    power = float((stepped * stepped).sum())
    if not power:
        return not bool(part.any())
    scale = float((part * stepped).sum()) / power
    left = float((part - scale * stepped).norm()) / max(float(part.norm()), 1e-300)
    return left <= _SHOWN and any(abs(scale / each - 1) <= _SHOWN for each in scales)


def _parts(shown: Any, stepped: Any) -> Iterator[Any]:
    """Yield all parts of a shape, one after another along the one axis that is longer; of tokens the first and last."""
    shown = _without_single(shown, stepped.ndim)
    if shown.ndim != stepped.ndim or len(shown) != len(stepped):
        return
    longer = [axis for axis in range(1, shown.ndim) if shown.shape[axis] != stepped.shape[axis]]
    if not longer:
        yield shown
    elif len(longer) == 1 and (spare := shown.shape[longer[0]] - stepped.shape[longer[0]]) > 0:
        tokens = shown.ndim == 3 and longer == [1]
        for start in (0, spare) if tokens else range(spare + 1):
            yield shown.narrow(longer[0], start, stepped.shape[longer[0]])


def conditions_of(calls: list[Call], images: int) -> list[list[int]]:
    """Return what each row of all calls is told: a number for each argument, equal where they are told the same."""
    rows: list[dict[str, list[Any]]] = []
    for call in calls:
        count, lengths = len(call.predictions) // images, lengths_of(call.predictions)
        told = {"": call.shown} | call.arguments
        rows += [
            {name: list(tensors_in(row_of(value, row, count, lengths))) for name, value in told.items()}
            for row in range(count)
        ]
    numbers: list[list[int]] = [[] for _ in rows]
    for name in dict.fromkeys(name for row in rows for name in row):
        distinct: list[list[Any]] = []
        for number, row in zip(numbers, rows, strict=True):
            mine = row.get(name, [])
            same = (i for i, other in enumerate(distinct) if len(other) == len(mine) and all(map(equal, other, mine)))
            number.append(next(same, len(distinct)))
            if number[-1] == len(distinct):
                distinct.append(mine)
    return numbers


def row_of(value: Any, row: int, count: int, lengths: tuple[int, int]) -> Any:
    """Return what one row of a batch is told in an argument: its part of every tensor, or the whole of a shared one.

    count: the rows of the batch.
    lengths: of the batch, and of all frames of its videos.
    """
    import torch

    if isinstance(value, torch.Tensor):
        return value.chunk(count)[row] if value.ndim and len(value) in lengths else value
    if isinstance(value, dict):
        told = {name: row_of(each, row, count, lengths) for name, each in value.items()}
        return told if type(value) is dict else type(value)(**told)
    if isinstance(value, list) and len(value) == lengths[0] and all(isinstance(each, torch.Tensor) for each in value):
        batches = all(each.ndim and len(each) == len(value) for each in value)  # as the residuals of an adapter
        if not batches:  # but one tensor for each image
            return value[row * len(value) // count : (row + 1) * len(value) // count]
    if isinstance(value, (list, tuple)):
        parts = [row_of(each, row, count, lengths) for each in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def lengths_of(predictions: Any) -> tuple[int, int]:
    """Return how many predictions are in a batch, and how many frames in all of them."""
    return len(predictions), len(predictions) * (predictions.shape[2] if predictions.ndim == 5 else 1)
