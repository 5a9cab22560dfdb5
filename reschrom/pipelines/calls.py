"""Listening to a pipeline: what its denoiser predicts between two steps of its scheduler, and which row is what.

Both are listened to, because neither tells enough alone. The denoiser's calls hold the predictions, row by row; the
scheduler's `step` holds the image that is stepped, in its own units, and which combination of the rows was wanted.
"""

import abc
import contextlib
import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any

from reschrom.pipelines.adapter import (
    denoisers_of,
    forward_signature,
    given_by_name,
    listening,
    replaced_method,
    signature_of,
)
from reschrom.pipelines.branches import BRANCHES, Combination, combination, named
from reschrom.pipelines.geometry import Unpack, image_layout
from reschrom.pipelines.rows import (
    Call,
    as_batch,
    conditions_of,
    equal,
    fit_to,
    is_shown,
    places_of,
    rows_of,
    stand_last,
)
from reschrom.pipelines.scheduler import Mixture, prediction_of, schedule_of, shown_scales

# What a pipeline may leave unexplained by its predictions, of all that it gives its scheduler: where there is one
# prediction, only rounding; where several tell the branches by their signs, rescaling by pixel or frame as well.
_ALONE, _RELATED = 0.02, 0.5


class CallReader(abc.ABC):
    """Listen while a pipeline generates, and tell the branches of its predictions.

    stated: the names of the branches in the order of the rows, for a pipeline whose combination does not tell.
    """

    def __init__(self, pipeline: Any, stated: Sequence[str] | None = None) -> None:
        self._denoisers = denoisers_of(pipeline)
        self._pipeline = pipeline
        if stated is not None and (sorted(set(stated) - set(BRANCHES)) or "conditional" not in stated):
            raise ValueError(f"guidance= names the branch of each row, one of {', '.join(BRANCHES)}; got {stated!r}")
        for name in BRANCHES[:-1]:  # rows of one name would be measured by their first
            if stated is not None and list(stated).count(name) > 1:
                raise ValueError(f"guidance= names one row {name}, because one is measured; got {stated!r}")
        self._stated = stated
        self.schedule = schedule_of(pipeline.scheduler)  # refuses what has no known signal-to-noise ratio
        prediction_of(pipeline.scheduler)
        self._known: dict[tuple[int, ...], list[str]] = {}  # the branches of this run, by the sizes of its batches
        self._open = contextlib.ExitStack()
        self._scheduler: Any = None
        self._thread = 0
        self._calls: list[Call] = []  # since the last step
        self._heard = self._stepped = 0
        self._begins = True
        # Found once, because finding them takes as long as the least squares.
        self._forward_signatures: dict[Any, inspect.Signature] = {}
        self._step_signature = inspect.Signature()
        self._before: Combination | None = None  # that of the step before

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
        self._begins, self._forward_signatures, self._before = True, {}, None
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
        self._step_signature = signature_of(self._scheduler, "step")
        self.schedule = schedule_of(self._scheduler)
        self._open.enter_context(replaced_method(self._scheduler, "step", self._step))
        self._open.enter_context(replaced_method(self._scheduler, "set_timesteps", self._set_timesteps))

    def _hear(self, denoiser: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if threading.get_ident() != self._thread:
            raise ValueError("a pipeline is measured in the thread that opened the block; this call is in another")
        if self._pipeline.scheduler is not self._scheduler:
            self._follow()
            self._begins = True
        if denoiser not in self._forward_signatures:
            self._forward_signatures[denoiser] = forward_signature(denoiser)
        arguments = given_by_name(self._forward_signatures[denoiser], args, kwargs)
        name, shown = next(iter(arguments.items()))
        predictions = output if hasattr(output, "shape") else output[0]
        others = {key: value for key, value in arguments.items() if key != name}
        # As they are now: a pipeline may guide in place.
        self._calls.append(Call(denoiser, others, as_batch(shown).clone(), as_batch(predictions).clone()))
        self._heard += 1

    def _set_timesteps(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if self._is_own(original):
            self._begins, self._calls, self._before = True, [], None
            self.schedule = schedule_of(self._scheduler)  # some count other times than before
        return result

    def _is_own(self, method: Callable[..., Any]) -> bool:
        """Whether a method is that of the scheduler, or what somebody put in its place, and not that of a copy."""
        owner = getattr(method, "__self__", None)
        return owner is self._scheduler or type(owner) is not type(self._scheduler)

    def _given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        """Return what the scheduler's `step` is given, by name."""
        given = self._step_signature.bind(*args, **kwargs)
        if lacking := [name for name in ("model_output", "timestep", "sample") if name not in given.arguments]:
            raise ValueError(
                f"the `step` of {type(self._scheduler).__name__} must name what it is given as the schedulers of "
                f"diffusers do; it has no {' and no '.join(lacking)}"
            )
        return given

    @abc.abstractmethod
    def _step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Stand for the scheduler's `step`, after the denoiser's calls."""

    def _combined(
        self, calls: list[Call], model_output: Any, stepped: Any, mixture: Mixture
    ) -> tuple[list[Any], Combination, Any]:
        """Return the predictions row by row, how the scheduler's input combines them, and what is stepped, once."""
        whole = [(model_output, stepped)]
        if all(len(each) % 2 == 0 and equal(*each.chunk(2)) for each in whole[0]):
            whole.append((model_output.chunk(2)[0], stepped.chunk(2)[0]))  # DiT steps every image twice
        found, scales = None, shown_scales(self._scheduler, mixture)
        for output, images in whole:
            for last in places_of(calls[0], images, scales):
                rows, fitted = rows_of(calls, images, last), fit_to(output, images)
                if rows is None or fitted is None:
                    continue
                combined = combination(fitted, rows, images, self._before)
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
        if found[1].is_difference:
            raise ValueError(
                f"what {type(self._pipeline).__name__} gives its scheduler is a difference of predictions, which is "
                f"none itself: their weights are {found[1].rows.round(3).tolist()}"
            )
        self._before = found[1]
        return found

    def _names(
        self, calls: list[Call], rows: list[Any], found: Combination, stepped: Any, mixture: Mixture
    ) -> list[str]:
        """Return the branch of each row: as it was stated, as it was in the step before, or as the rows tell."""
        layout = tuple(len(call.predictions) for call in calls)
        if layout in self._known:
            return self._known[layout]
        scales = shown_scales(self._scheduler, mixture)
        shown = [part for call in calls for part in call.shown.chunk(len(call.predictions) // len(stepped))]
        of_this_image = [is_shown(part, stepped, scales) for part in shown]
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
            kinds = conditions_of(calls, len(stepped))
            conditions = [kind if here else None for kind, here in zip(kinds, of_this_image, strict=True)]
            names = named(found, conditions, len(calls) == 1)
        if found.distinct:
            self._known[layout] = names
        return names

    def _layout(self, calls: list[Call], stepped: Any, mixture: Mixture) -> Unpack:
        """Return how to read images in what is stepped, and in each row of the predictions."""
        last = stand_last(calls[0], stepped, shown_scales(self._scheduler, mixture))
        return image_layout(self._pipeline, calls[0].denoiser, calls[0].arguments, stepped, last)
