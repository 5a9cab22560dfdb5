"""From what a pipeline does to the steps of its runs: the denoiser's predictions, and what the scheduler makes of them.

Both are listened to, because neither tells enough alone. The denoiser's calls hold the predictions, row by row; the
scheduler's `step` holds the image that is stepped, in its own units, how noised it is, and which combination of the
rows was wanted. A step is complete when the scheduler takes it.
"""

import contextlib
import inspect
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from reschrom.pipelines.adapter import denoisers_of, listening, replaced_method, uncompiled
from reschrom.pipelines.branches import BRANCHES, Combination, combination, named
from reschrom.pipelines.geometry import image_layout
from reschrom.pipelines.rows import (
    Call,
    as_batch,
    as_videos,
    conditions_of,
    equal,
    fit_to,
    is_shown,
    places_of,
    precise,
    rows_of,
    stand_last,
)
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
        self._calls: list[Call] = []  # since the last step
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
        self._calls.append(Call(denoiser, others, as_batch(shown).clone(), as_batch(predictions).clone()))
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

    def _read(self, calls: list[Call], place: int | None, model_output: Any, timestep: Any, stepped: Any) -> None:
        mixture = mixture_at(self._scheduler, place, timestep)
        if not bool(model_output.isfinite().all()):
            raise ValueError(f"the prediction at timestep {as_number(timestep):g} is not finite")
        model_output, stepped = (as_videos(calls, each) for each in (model_output, stepped))
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
        last = stand_last(calls[0], stepped, shown_scales(self._scheduler, mixture))
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
        stepped = precise(stepped)
        conditional = precise(rows[names.index("conditional")])
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
                None if reference is None else layout(conditional - precise(rows[names.index(reference)])),
                to_estimate,
                -mixture.signal / mixture.noise * to_estimate,
                abs(to_estimate),
            )
        )

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
