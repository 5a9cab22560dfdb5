"""From what a pipeline does to the steps of its runs: the denoiser's predictions, and what the scheduler makes of them.

Both are listened to, because neither tells enough alone. The denoiser's calls hold the predictions, row by row; the
scheduler's `step` holds the image that is stepped, in its own units, how noised it is, and which combination of the
rows was wanted. A step is complete when the scheduler takes it.
"""

import contextlib
import inspect
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from reschrom.pipelines.adapter import denoisers_of, listening, replaced_method, uncompiled
from reschrom.pipelines.branches import BRANCHES, Combination, combination, named
from reschrom.pipelines.geometry import image_layout
from reschrom.pipelines.scheduler import (
    STRAIGHT,
    Mixture,
    as_number,
    mixture_at,
    prediction_of,
    response,
    schedule_of,
    shown_scales,
    time_of,
)

# How far, relative to its size, what the network sees may be from what is stepped.
_SHOWN = 0.02
# What a pipeline may leave unexplained by its predictions, of all that it gives its scheduler: where there is one
# prediction, only rounding; where several tell the branches by their signs, rescaling by pixel or frame as well.
_ALONE, _RELATED = 0.02, 0.5
# How far two coefficients of a combination may be apart that are the same number.
_SAME_SIZE = 1e-3


class Step(NamedTuple):
    """One step of a run, all images as (images, [frames,] C, H, W) in single precision or better.

    begins: whether a run begins with it.
    time: of the schedule.
    x_t: what the network was shown, at the intensity of Eq. (1), or on the straight path of a flow.
    estimate: of x_0, by the conditional prediction.
    difference: the conditional minus the unconditional prediction, in the scheduler's terms; None without guidance.
    to_estimate, to_noise: what makes of it a difference of estimates and of noises.
    reach: the error of the estimate that an error of 1 in the network's output makes.
    """

    begins: bool
    time: float
    x_t: Any
    estimate: Any
    difference: Any | None
    to_estimate: float
    to_noise: float
    reach: float


class _Call(NamedTuple):
    """One call of a denoiser: its arguments by name, the image among them, and the predictions."""

    denoiser: Any
    arguments: dict[str, Any]
    shown: Any
    predictions: Any


class StepReader:
    """Read the steps of runs while a pipeline generates: call `take` with each.

    stated: the names of the branches in the order of the rows, for a pipeline whose combination does not tell.
    """

    def __init__(self, pipeline: Any, take: Callable[[Step], None], stated: Sequence[str] | None = None) -> None:
        self._denoisers = denoisers_of(pipeline)
        self._pipeline, self._take = pipeline, take
        if stated is not None and (sorted(set(stated) - set(BRANCHES)) or "conditional" not in stated):
            raise ValueError(f"guidance= names the branch of each row, one of {', '.join(BRANCHES)}; got {stated!r}")
        self._stated = stated
        self.schedule = schedule_of(pipeline.scheduler)  # refuses what has no known signal-to-noise ratio
        prediction_of(pipeline.scheduler)
        self._known: dict[tuple[int, ...], list[str]] = {}  # the branches of this run, by the sizes of its batches
        self._open = contextlib.ExitStack()
        self._scheduler: Any = None
        self._thread = 0
        self._calls: list[_Call] = []  # since the last step
        self._heard = self._stepped = 0
        self._begins, self._last = True, math.inf

    @property
    def branches(self) -> tuple[str, ...]:
        """The names of the rows of the last layout that was told apart."""
        return tuple(next(reversed(self._known.values()), ()))

    @property
    def is_open(self) -> bool:
        """Whether it listens."""
        return self._scheduler is not None

    def open(self) -> None:
        """Start to listen."""
        if self.is_open:
            raise ValueError("this block is open already: one block measures one pipeline at a time")
        self._thread = threading.get_ident()
        self._calls, self._heard, self._stepped = [], 0, 0
        self._begins, self._last = True, math.inf
        for denoiser in self._denoisers:
            self._open.enter_context(listening(denoiser, self._hear))
        self._follow()

    def close(self) -> None:
        """Stop listening."""
        self._open.close()
        self._calls, self._scheduler = [], None

    def check(self) -> None:
        """Raise ValueError where the pipeline predicted and its scheduler took no step."""
        if self._heard and not self._stepped:
            raise ValueError(
                f"{type(self._pipeline).__name__} never called `scheduler.step`, or that of a copy, so that what its "
                "denoiser predicted cannot be placed"
            )

    def _follow(self) -> None:
        """Listen to the scheduler that the pipeline has now."""
        self._scheduler = self._pipeline.scheduler
        self.schedule = schedule_of(self._scheduler)
        self._open.enter_context(replaced_method(self._scheduler, "step", self._step))
        self._open.enter_context(replaced_method(self._scheduler, "set_timesteps", self._set_timesteps))

    def _hear(self, denoiser: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if threading.get_ident() != self._thread:
            raise ValueError("a pipeline is measured in the thread that opened the block; this call is in another")
        if self._pipeline.scheduler is not self._scheduler:
            self._follow()
            self._begins = True
        arguments = inspect.signature(uncompiled(denoiser).forward).bind(*args, **kwargs).arguments
        name, shown = next(iter(arguments.items()))
        predictions = output if hasattr(output, "shape") else output[0]
        others = {key: value for key, value in arguments.items() if key != name}
        # As they are now: a pipeline may guide in place.
        self._calls.append(_Call(denoiser, others, _tensor(shown).clone(), _tensor(predictions).clone()))
        self._heard += 1

    def _set_timesteps(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if original.__self__ is self._scheduler:  # type: ignore[attr-defined]
            self._begins, self._calls = True, []
            self.schedule = schedule_of(self._scheduler)  # some count other times than before
        return result

    def _step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        scheduler, calls = self._scheduler, self._calls
        if original.__self__ is not scheduler or not calls:  # type: ignore[attr-defined]
            return original(*args, **kwargs)  # a copy's, or one that nothing was predicted for
        given = inspect.signature(original).bind(*args, **kwargs).arguments
        model_output, stepped = given["model_output"].clone(), given["sample"].clone()  # before it steps in place
        index, first_order = getattr(scheduler, "step_index", None), getattr(scheduler, "state_in_first_order", True)
        result = original(*args, **kwargs)
        after = getattr(scheduler, "step_index", None)
        self._calls = []
        self._stepped += 1
        if first_order:  # a step of the sampler begins; its later evaluations are no steps
            place = after - 1 if index is None and after is not None else index
            self._read(calls, place, model_output, given["timestep"], stepped)
        return result

    def _read(self, calls: list[_Call], place: int | None, model_output: Any, timestep: Any, stepped: Any) -> None:
        mixture = mixture_at(self._scheduler, place, timestep)
        if not bool(model_output.isfinite().all()):
            raise ValueError(f"the prediction at timestep {as_number(timestep):g} is not finite")
        model_output, stepped = (_as_videos(calls, each) for each in (model_output, stepped))
        rows, found, stepped = self._combined(calls, model_output, stepped, mixture)
        time = time_of(self.schedule, mixture, as_number(timestep))
        repeated = int((self._scheduler.timesteps == as_number(timestep)).sum()) > 1
        begins = self._begins or time > self._last or (time == self._last and not repeated)
        self._begins, self._last = False, time
        if begins:
            self._known = {}
            told = self._scheduler.timesteps
            first_order = getattr(self._scheduler, "order", 1) == 1  # others list what lies between two steps too
            if first_order and bool((told[1:] > told[:-1]).any()) and bool((told[1:] < told[:-1]).any()):
                raise ValueError(
                    f"{type(self._pipeline).__name__} goes back and forth in time, so that no growth can be measured"
                )
        names = self._names(calls, rows, found, stepped, mixture)
        last = _stand_last(calls[0], stepped, shown_scales(self._scheduler, mixture))
        layout = image_layout(self._pipeline, calls[0].denoiser, calls[0].arguments, stepped, last)
        kind, data = prediction_of(self._scheduler), float(self._scheduler.config.get("sigma_data") or 0.5)
        change, scale, image = response(kind, mixture, data), found.scale, found.image
        if kind == "flow_prediction" and abs(image + scale) < _SAME_SIZE * abs(scale):
            # The network estimates x_0, and the pipeline makes it the velocity (x - x_0) / sigma, of a sigma that it
            # may keep from being small.
            change, scale, image = response("sample", mixture), 1.0, 0.0
        if not change.divisor:
            raise ValueError(
                f"at timestep {as_number(timestep):g} there is no signal, so that a prediction of the noise tells "
                "nothing of the image"
            )
        stepped = _precise(stepped)
        conditional = _precise(rows[names.index("conditional")])
        prediction = conditional if scale == 1 else scale * conditional
        if image:
            prediction = prediction + image * stepped
        reference = next((name for name in ("image-conditional", "unconditional") if name in names), None)
        to_estimate = scale * change.from_prediction / change.divisor
        self._take(
            Step(
                begins,
                time,
                layout(stepped if kind in STRAIGHT else stepped / mixture.size),
                layout((change.from_x * stepped + change.from_prediction * prediction) / change.divisor),
                None if reference is None else layout(conditional - _precise(rows[names.index(reference)])),
                to_estimate,
                -mixture.signal / mixture.noise * to_estimate,
                abs(to_estimate),
            )
        )

    def _combined(
        self, calls: list[_Call], model_output: Any, stepped: Any, mixture: Mixture
    ) -> tuple[list[Any], Combination, Any]:
        """Return the predictions row by row, how the scheduler's input combines them, and what is stepped, once."""
        whole = [(model_output, stepped)]
        if all(len(each) % 2 == 0 and _equal(*each.chunk(2)) for each in whole[0]):
            whole.append((model_output.chunk(2)[0], stepped.chunk(2)[0]))  # DiT steps every image twice
        found, scales = None, shown_scales(self._scheduler, mixture)
        for output, images in whole:
            for last in _places(calls[0], images, scales):
                rows, fitted = _rows(calls, images, last), _fitted(output, images)
                if rows is None or fitted is None:
                    continue
                combined = combination(fitted, rows, images)
                if found is None or combined.unexplained < found[1].unexplained:
                    found = rows, combined, images
            if found is not None and found[1].linear:
                break
        if found is None:
            raise ValueError(
                f"the denoiser of {type(self._pipeline).__name__} predicts the shapes "
                f"{[tuple(call.predictions.shape) for call in calls]}, which are no rows of what its scheduler steps, "
                f"{tuple(stepped.shape)}"
            )
        if found[1].unexplained > (_RELATED if len(found[0]) > 1 else _ALONE):
            raise ValueError(
                f"what {type(self._pipeline).__name__} gives its scheduler is no combination of what its denoiser "
                f"predicts: {found[1].unexplained:.0%} of it has another source"
            )
        return found

    def _names(
        self, calls: list[_Call], rows: list[Any], found: Combination, stepped: Any, mixture: Mixture
    ) -> list[str]:
        """Return the branch of each row: as it was stated, as it was in the step before, or as the rows tell."""
        layout = tuple(len(call.predictions) for call in calls)
        if layout in self._known:
            return self._known[layout]
        scales = shown_scales(self._scheduler, mixture)
        shown = [part for call in calls for part in call.shown.chunk(len(call.predictions) // len(stepped))]
        of_this_image = [_is_shown(part, stepped, scales) for part in shown]
        if not any(of_this_image):
            raise ValueError(
                f"the denoiser of {type(self._pipeline).__name__} is not shown what its scheduler steps, so that its "
                "predictions cannot be placed"
            )
        if self._stated is not None and len(rows) > 1:
            if len(self._stated) != len(rows):
                raise ValueError(f"guidance= names {len(self._stated)} rows; the pipeline predicts {len(rows)}")
            names = list(self._stated)
        else:
            kinds = _conditions(calls, len(stepped))
            conditions = [kind if here else None for kind, here in zip(kinds, of_this_image, strict=True)]
            names = named(found, conditions, len(calls) == 1)
        if found.distinct:
            self._known[layout] = names
        return names


def _tensor(value: Any) -> Any:
    """Return a tensor, or a list of them for one image each, as one batch."""
    import torch

    if isinstance(value, (list, tuple)) and all(isinstance(each, torch.Tensor) for each in value):
        return torch.stack(list(value))
    if not isinstance(value, torch.Tensor):
        raise ValueError(f"a denoiser is shown tensors and returns them; got {type(value).__name__}")
    return value


def _precise(x: Any) -> Any:
    import torch

    return x.detach().to(torch.promote_types(x.dtype, torch.float32))


def _equal(a: Any, b: Any) -> bool:
    import torch

    return a.shape == b.shape and torch.equal(a, b)


def _as_videos(calls: list[_Call], stepped: Any) -> Any:
    """Return as videos what a scheduler steps frame by frame, if its denoiser predicts videos (N, C, F, H, W)."""
    predictions = calls[0].predictions
    if predictions.ndim == 5 and stepped.ndim == 4 and predictions.shape[2] > 1:
        return stepped.unflatten(0, (-1, predictions.shape[2])).movedim(2, 1)
    return stepped


def _fitted(x: Any, like: Any, last: bool = False) -> Any | None:
    """Return x with the axes of `like`, or None: what stands behind is cut off, on one axis at most.

    That is a learned variance behind the prediction, or tokens of a reference picture behind those of the image.
    last: whether what stands before is cut off.
    """
    for axis in range(x.ndim - 1, 0, -1):
        if x.ndim > like.ndim and x.shape[axis] == 1:
            x = x.squeeze(axis)
    wanted = tuple(like.shape[1:])
    if x.ndim != like.ndim or sum(a != b for a, b in zip(x.shape[1:], wanted, strict=True)) > 1:
        return None
    x = x[(slice(None), *(slice(-size, None) if last else slice(size) for size in wanted))]
    return x if tuple(x.shape[1:]) == wanted else None


def _rows(calls: list[_Call], stepped: Any, last: bool) -> list[Any] | None:
    """Return the predictions of all calls, each a batch of what is stepped; None where they do not fit."""
    rows = []
    for call in calls:
        fitted = _fitted(call.predictions, stepped, last)
        if fitted is None or len(fitted) % len(stepped):
            return None
        rows += fitted.chunk(len(fitted) // len(stepped))
    return rows


def _is_shown(shown: Any, stepped: Any, scales: Sequence[float]) -> bool:
    """Whether what a network is shown holds what is stepped, in any of its channels."""
    return any(_is_scaled(part, stepped, scales) for part in _parts(shown, stepped))


def _places(call: _Call, stepped: Any, scales: Sequence[float]) -> tuple[bool, ...]:
    """Return whether tokens that are stepped are the last of those that a network predicts, or both where it may be.

    Tokens of a reference picture stand behind those of the image, or before them, as the network is shown them. Tokens
    of text stand before, and it is not shown them there (Qwen-Image 2.1).
    """
    if stepped.ndim != 3 or stepped.shape[1] == call.predictions.shape[1]:
        return (False,)
    if call.shown.shape[1] != call.predictions.shape[1]:
        return (False, True)
    return (_stand_last(call, stepped, scales),)


def _stand_last(call: _Call, stepped: Any, scales: Sequence[float]) -> bool:
    """Whether tokens that are stepped are the last of those that a network is shown, behind those of references."""
    if stepped.ndim != 3 or stepped.shape[1] == call.shown.shape[1]:
        return False
    return not _is_shown(call.shown[: len(stepped), : stepped.shape[1]], stepped, scales)


def _is_scaled(part: Any, stepped: Any, scales: Sequence[float]) -> bool:
    """Whether a part of what a network is shown is what is stepped, scaled as its scheduler scales."""
    part, stepped = part.double(), stepped.double()
    power = float((stepped * stepped).sum())
    scale = float((part * stepped).sum()) / power if power else 0.0
    left = float((part - scale * stepped).norm()) / max(float(part.norm()), 1e-300)
    return left <= _SHOWN and any(abs(scale / each - 1) <= _SHOWN for each in scales)


def _parts(shown: Any, stepped: Any) -> Iterator[Any]:
    """Yield all parts of a shape, one after another along the one axis that is longer; of tokens the first and last."""
    for axis in range(shown.ndim - 1, 0, -1):
        if shown.ndim > stepped.ndim and shown.shape[axis] == 1:
            shown = shown.squeeze(axis)
    if shown.ndim != stepped.ndim or len(shown) != len(stepped):
        return
    longer = [axis for axis in range(1, shown.ndim) if shown.shape[axis] != stepped.shape[axis]]
    if not longer:
        yield shown
    elif len(longer) == 1 and (spare := shown.shape[longer[0]] - stepped.shape[longer[0]]) > 0:
        tokens = shown.ndim == 3 and longer == [1]
        for start in (0, spare) if tokens else range(spare + 1):
            yield shown.narrow(longer[0], start, stepped.shape[longer[0]])


def _conditions(calls: list[_Call], images: int) -> list[list[int]]:
    """Return what each row of all calls is told: a number for each argument, equal where they are told the same."""
    rows: list[dict[str, list[Any]]] = []
    for call in calls:
        count, frames = len(call.predictions) // images, call.predictions.shape[2] if call.predictions.ndim == 5 else 1
        told = {"": call.shown} | call.arguments
        lengths = (len(call.predictions), len(call.predictions) * frames)
        rows += [
            {name: list(_slices(value, row, count, lengths)) for name, value in told.items()} for row in range(count)
        ]
    numbers: list[list[int]] = [[] for _ in rows]
    for name in dict.fromkeys(name for row in rows for name in row):
        distinct: list[list[Any]] = []
        for number, row in zip(numbers, rows, strict=True):
            mine = row.get(name, [])
            same = (i for i, other in enumerate(distinct) if len(other) == len(mine) and all(map(_equal, other, mine)))
            number.append(next(same, len(distinct)))
            if number[-1] == len(distinct):
                distinct.append(mine)
    return numbers


def _slices(value: Any, row: int, count: int, lengths: tuple[int, int]) -> Iterator[Any]:
    """Yield what one row of a batch is told in an argument: its part of every tensor, or the whole of a shared one."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value.chunk(count)[row] if value.ndim and len(value) in lengths else value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _slices(each, row, count, lengths)
    elif isinstance(value, (list, tuple)):
        if len(value) == lengths[0] and all(isinstance(each, torch.Tensor) for each in value):
            value = value[row * len(value) // count : (row + 1) * len(value) // count]
            yield from value
        else:
            for each in value:
                yield from _slices(each, row, count, lengths)
