"""From what a pipeline does to the steps of its runs: the denoiser's predictions, and what the scheduler makes of them.

A step is complete when the scheduler takes it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from reschrom.pipelines.branches import thrown_away
from reschrom.pipelines.calls import CallReader
from reschrom.pipelines.rows import Call, as_videos, is_finite, precise
from reschrom.pipelines.scheduler import (
    STRAIGHT,
    as_number,
    is_between,
    mixture_at,
    prediction_of,
    response,
    time_of,
)

# How far two coefficients of a combination may be apart that are the same number.
_SAME_SIZE = 1e-3


class Step(NamedTuple):
    """One step of a run, all images as (images, [frames,] C, H, W) in single precision or better.

    begins, ends: whether a run begins with it, and whether it is the last in the scheduler's list.
    time: of the schedule.
    x_t: what the network was shown, at the intensity of Eq. (1), or on the straight path of a flow.
    estimate: of x_0, by the conditional prediction.
    difference: the conditional minus the unconditional prediction, in the scheduler's terms; None without guidance.
    to_estimate, to_noise: what makes of it a difference of estimates and of noises.
    reach: the error of the estimate that an error of 1 in the network's output makes.
    """

    begins: bool
    ends: bool
    time: float
    x_t: Any
    estimate: Any
    difference: Any | None
    to_estimate: float
    to_noise: float
    reach: float


class StepReader(CallReader):
    """Read the steps of runs while a pipeline generates: call `take` with each."""

    def __init__(self, pipeline: Any, take: Callable[[Step], None], stated: Sequence[str] | None = None) -> None:
        super().__init__(pipeline, stated)
        self._take, self._last = take, math.inf
        self._final = math.nan  # the timestep of a run's last step with noise

    def open(self) -> None:
        """Start to listen."""
        super().open()
        self._last = math.inf

    def _step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        scheduler, calls = self._scheduler, self._calls
        if not calls or not self._is_own(original):
            return original(*args, **kwargs)  # a copy's, or one that nothing was predicted for
        given = self._given(args, kwargs).arguments
        model_output, stepped = given["model_output"].clone(), given["sample"].clone()  # before it steps in place
        index, between = getattr(scheduler, "step_index", None), is_between(scheduler)
        result = original(*args, **kwargs)
        after = getattr(scheduler, "step_index", None)
        self._calls = []
        self._stepped += 1
        if not between:  # a step of the sampler begins; its later evaluations are no steps
            place = after - 1 if index is None and after is not None else index
            self._read(calls, place, model_output, given["timestep"], stepped)
        return result

    def _read(self, calls: list[Call], place: int | None, model_output: Any, timestep: Any, stepped: Any) -> None:
        mixture = mixture_at(self._scheduler, place, timestep)
        if not mixture.noise:
            return  # of a list of sigmas that goes on to 0, where all is drawn
        if not is_finite(model_output):
            raise ValueError(f"the prediction at timestep {as_number(timestep):g} is not finite")
        model_output, stepped = (as_videos(calls, each) for each in (model_output, stepped))
        rows, found, stepped = self._combined(calls, model_output, stepped, mixture)
        if thrown_away(found, rows):
            return  # what is drawn does not depend on what was predicted, and tells nothing of its rows
        time = time_of(self.schedule, mixture, as_number(timestep))
        repeated = int((self._scheduler.timesteps == as_number(timestep)).sum()) > 1
        begins = self._begins or time > self._last or (time == self._last and not repeated)
        self._begins, self._last = False, time
        if begins:
            self._known = {}
            told = self._scheduler.timesteps
            noiseless = len(told) > 1 and not mixture_at(self._scheduler, len(told) - 1, told[-1]).noise
            self._final = as_number(told[-2 if noiseless else -1])
            first_order = getattr(self._scheduler, "order", 1) == 1  # others list what lies between two steps too
            rises, falls = bool((told[1:] > told[:-1]).any()), bool((told[1:] < told[:-1]).any())
            if first_order and rises and falls:
                raise ValueError(
                    f"{type(self._pipeline).__name__} goes back and forth in time, so that no growth can be measured"
                )
            if rises and not falls and prediction_of(self._scheduler) != "inverted_flow":
                raise ValueError(
                    f"{type(self._scheduler).__name__} goes from image to noise, so that nothing is generated"
                )
        names = self._names(calls, rows, found, stepped, mixture)
        layout = self._layout(calls, stepped, mixture)
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
                as_number(timestep) == self._final,
                time,
                layout(stepped if kind in STRAIGHT else stepped / mixture.size),
                layout((change.from_x * stepped + change.from_prediction * prediction) / change.divisor),
                None if reference is None else layout(conditional - precise(rows[names.index(reference)])),
                to_estimate,
                -mixture.signal / mixture.noise * to_estimate,
                abs(to_estimate),
            )
        )
