"""A network of one's own as a denoiser: shown images and told times as in its training, its output made an estimate."""

import copy
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from reschrom._arrays import (
    Images,
    Number,
    finite,
    numpy_array,
    one_number,
    one_signal_power,
    shape_told,
    told,
    whole_number,
)
from reschrom.denoisers._calls import evaluating, prediction_in, with_tensors
from reschrom.theory.schedules import Schedule

# What a network predicts, by the names of diffusers; the first four are shorter, and mean the same.
_PREDICTIONS = {
    "epsilon": "epsilon",
    "x0": "sample",
    "v": "v_prediction",
    "flow": "flow_prediction",
    "sample": "sample",
    "v_prediction": "v_prediction",
    "flow_prediction": "flow_prediction",
}

# The estimate of x_0 is linear in x_t of Eq. (1) and in the output of the network. These are the factors of the two,
# from the amplitudes sqrt(alpha) and sqrt(1 - alpha): Eq. (7).
_ESTIMATES: dict[str, Callable[[float, float], tuple[float, float]]] = {
    "epsilon": lambda signal, noise: (1 / signal, -noise / signal),
    "sample": lambda signal, noise: (0.0, 1.0),
    "v_prediction": lambda signal, noise: (signal, -noise),
    "flow_prediction": lambda signal, noise: (1 / (signal + noise), -noise / (signal + noise)),
}

# By what x_t of Eq. (1) is multiplied where a network learned on another path, `Schedule.path`.
_SHOWN: dict[str, Callable[[float, float], float]] = {
    "preserving": lambda signal, noise: 1.0,
    "straight": lambda signal, noise: 1 / (signal + noise),
    "exploding": lambda signal, noise: 1 / signal,
}

# Noise predicted from less signal than this is divided by so much: it would be divided by zero.
_LEAST_SIGNAL = 1e-12

# By so much of its largest value a prediction may depend on the images beside its own, as it does in half precision.
_UNSTEADY = 0.05

# A prediction that changes by less of its largest value between these log SNRs, from noise to image, may be told its
# time in another unit.
_HEARD, _APART, _UNIT = 0.02, (-4.0, 4.0), 1000


def estimate_precision(alpha: Float[np.ndarray, " times"], prediction_type: str) -> Float[np.ndarray, " times"]:
    """Return how precise the band energy of a network's estimate is: 1 / (1 + s^2)^2.

    s: the error of the estimate of x_0 that an error of 1 in the output makes. A network that predicts the noise tells
        little of the image where there is little of it.
    prediction_type: as for `Denoiser`.
    """
    predicts = _PREDICTIONS[prediction_type]
    reach = [_ESTIMATES[predicts](*_amplitudes(_reached(float(each), predicts)))[1] for each in alpha]
    return 1 / (1 + np.square(reach)) ** 2


class Denoiser:
    """A network of one's own, in its own convention, as an estimate of x_0 given x_t and alpha: Eq. (7).

    Every measurement of this package takes it. Unlike a bare function of x_t and alpha, it is not taken to be exact:
    its estimates are clipped to the range of the data, and weighted by how precise they can be.

    Parameters
    ----------
    fn : callable
        `fn(x, t)`, or with a condition `fn(x, t, condition)`, which returns the prediction for images x, shape
        (N, C, H, W), at times t, shape (N,): an array, or an output of diffusers. A module of torch is given tensors of
        its own device and precision; another function NumPy arrays in float64, or, where it cannot work on these,
        tensors on the CPU in float32. Modules, and those that a function names, are in evaluation mode while they
        predict.
    prediction : {"epsilon", "x0", "v", "flow"}
        What it returns: the noise; the image; the velocity sqrt(alpha) noise - sqrt(1 - alpha) x_0; or noise - x_0, the
        velocity of a flow. The names of diffusers do too: sample, v_prediction, flow_prediction.
    schedule : Schedule
        Its time is what the network is told, and its path what it is shown. A scheduler of diffusers is read by
        `Schedule.from_diffusers`. Where a network rounds its time to a whole timestep or takes no other, as with a
        table of embeddings, the prediction at a time between two is interpolated from theirs.
    value_range : (float, float), optional
        The least and greatest value that images have, to which estimates are clipped. A network that predicts the noise
        needs it, because its estimate from much noise would lie far outside: (-1, 1) or (0, 1) for pixels, and
        (-inf, inf) for latents, which have no range.
    condition : array, shape (1, ...) or (N, ...), optional
        What else the network is told, such as labels: the same for all images, or a row for each.
    channels : int, optional
        How many the images have; others are then refused.
    batch : int
        Images at a time.

    Raises
    ------
    TypeError
        For what is no network, and what is no prediction.
    ValueError
        For settings out of range, and, at the first call, where a prediction has another shape than the images, is not
        finite, depends on the other images of its batch, or hardly on the time that it is told.

    Examples
    --------
    A velocity network of a flow, here an exact one, which is told t and shown (1 - t) x_0 + t noise.

    >>> import numpy as np
    >>> from reschrom import Denoiser, GaussianField, Schedule
    >>> field, schedule = GaussianField([1, 4, 16], channels=1), Schedule.flow_matching()
    >>> def velocity(x, t):
    ...     x_t = x / np.hypot(1 - t[0], t[0])  # at unit intensity
    ...     return (x - field.denoise(x_t, schedule.alpha(t[0]))) / t[0]
    >>> denoise = Denoiser(velocity, prediction="flow", schedule=schedule)
    >>> x_t = np.random.default_rng(0).standard_normal((2, 1, 4, 4))
    >>> np.allclose(denoise(x_t, alpha=0.3), field.denoise(x_t, alpha=0.3))
    True
    """

    def __init__(
        self,
        fn: Any,
        prediction: str,
        schedule: Any,
        *,
        value_range: tuple[Number, Number] | None = None,
        condition: Any = None,
        channels: int | None = None,
        batch: int = 32,
    ) -> None:
        pipeline = not hasattr(fn, "named_parameters") and hasattr(fn, "scheduler")
        if not callable(fn) or pipeline:
            hint = ": network_denoiser(pipeline) is that of a pipeline" if pipeline else ""
            raise TypeError(f"a network, fn(x, t), is needed; got {type(fn).__name__}{hint}")
        if not isinstance(prediction, str) or prediction not in _PREDICTIONS:
            raise ValueError(f"a network predicts {', '.join(_PREDICTIONS)}; got {told(prediction)}")
        self.prediction = _PREDICTIONS[prediction]
        if value_range is None and self.prediction == "epsilon":
            raise TypeError(
                "a network that predicts the noise needs the range of the data, to which its estimates are clipped: "
                "value_range=(-1, 1) or (0, 1) for pixels, (-math.inf, math.inf) for latents"
            )
        self.value_range = (-math.inf, math.inf) if value_range is None else value_range
        low, high = (one_number("an end of value_range", each) for each in self.value_range)
        if not low < high:
            raise ValueError(f"a range of values has a least and a greatest one; got {value_range}")
        if whole_number("the images of a batch", batch) < 1:
            raise ValueError(f"a batch holds one or more images; got {batch}")
        if channels is not None:
            channels = whole_number("the number of channels", channels, least=1)
        self.schedule = schedule if isinstance(schedule, Schedule) else Schedule.from_diffusers(schedule)
        if self.schedule.path not in _SHOWN:
            raise TypeError(
                f"{self.schedule.name} preconditions its network: wrap it in a function that is shown "
                "x_0 + sigma noise and returns the image, and give this Schedule.edm()"
            )
        self._fn, self._channels, self._batch = fn, channels, batch
        if condition is not None:
            condition = condition if hasattr(condition, "shape") else np.asarray(condition)
            condition = condition if condition.shape else condition.reshape(1)
        self._condition = condition
        self._call: Any = None  # with arrays or with tensors, as the first images tell
        self._rounds = False  # its time to a whole timestep

    def __call__(self, x_t: Images, alpha: float) -> Images:
        """Return the estimate of x_0 in noised images, shape (N, C, H, W), of signal power alpha, in float64."""
        if alpha == 1:  # the image itself
            return np.clip(self._checked(x_t), *self.value_range)
        return self.estimate(self.output(x_t, alpha), x_t, alpha)

    def output(self, x_t: Images, alpha: float, of_time: float | None = None) -> Images:
        """Return what the network predicts, as it is, for x_t of Eq. (1) at a signal power below 1.

        of_time: the signal power whose time the network is told in the place of its own.
        """
        x_t, alpha = self._checked(x_t), _reached(one_signal_power(alpha), self.prediction)
        shown = x_t * _SHOWN[self.schedule.path](*_amplitudes(alpha))
        of_time = alpha if of_time is None else _reached(one_signal_power(of_time), self.prediction)
        time = float(self.schedule.network_time(self.schedule.time(of_time)))
        if self._condition is not None and len(self._condition) not in (1, len(x_t)):
            raise ValueError(
                "one condition (a label, a prompt) for all images or one for each image of a batch is needed; "
                f"got {len(self._condition)} for {len(x_t)} images"
            )
        if self._call is None:
            self._get_to_know(shown, time)
        if not self._rounds or time.is_integer():
            return self._predicted_in_parts(shown, time)
        before, after = math.floor(time), math.ceil(time)
        outputs = (self._predicted_in_parts(shown, float(each)) for each in (before, after))
        return next(outputs) * (after - time) + next(outputs) * (time - before)

    def _predicted_in_parts(self, shown: np.ndarray, time: float) -> Images:
        numbers = range(len(shown))
        parts = [numbers[start : start + self._batch] for start in numbers[:: self._batch]]
        return np.concatenate([self._predicted(shown, time, part) for part in parts])

    @property
    def is_told_each(self) -> bool:
        """Whether each image of a batch has a condition of its own."""
        return self._condition is not None and len(self._condition) > 1

    def of_images(self, numbers: Sequence[int]) -> "Denoiser":
        """Return the network for these images of a batch alone, where each image has a condition of its own."""
        if not self.is_told_each:
            return self
        few = copy.copy(self)
        few._condition = self._condition[list(numbers)]
        return few

    def estimate(self, output: Images, x_t: Images, alpha: float) -> Images:
        """Return the estimate of x_0 that an output of the network means, clipped to the range of the data."""
        of_state, of_output = _ESTIMATES[self.prediction](*_amplitudes(_reached(alpha, self.prediction)))
        return np.clip(of_state * x_t + of_output * output, *self.value_range)

    def noise(self, output: Images, x_t: Images, alpha: float) -> Images:
        """Return the noise prediction that an output of the network means, at a signal power below 1; not clipped."""
        signal, noise = _amplitudes(_reached(alpha, self.prediction))
        of_state, _ = _ESTIMATES[self.prediction](signal, noise)
        return (1 - signal * of_state) / noise * x_t + self.noise_per_output(alpha) * output

    def noise_per_output(self, alpha: float) -> float:
        """Return by how much the noise prediction changes where the output does by 1, at a signal power below 1."""
        signal, noise = _amplitudes(_reached(alpha, self.prediction))
        return -signal / noise * _ESTIMATES[self.prediction](signal, noise)[1]

    def precision(self, alphas: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """Return how precise the band energy of the estimate is at each signal power: `estimate_precision`."""
        return estimate_precision(alphas, self.prediction)

    def _checked(self, x_t: Images) -> Images:
        x_t = numpy_array(x_t).astype(np.float64, copy=False)
        channels = self._channels or "C"
        if x_t.ndim != 4 or not x_t.size or self._channels not in (None, x_t.shape[1]):
            raise ValueError(f"noised images of the shape (N, {channels}, H, W) are needed; got {shape_told(x_t)}")
        finite("noised images", x_t)
        return x_t

    def _get_to_know(self, shown: np.ndarray, time: float) -> None:
        """Find out how the network is called, and check once that it predicts image by image and hears its time."""
        one, two = [0], [0, len(shown) - 1]
        counted = self.schedule.path != "exploding" and math.isfinite(self.schedule.end)
        middle = math.floor((self.schedule.start + self.schedule.end) / 2) if counted else 0
        time = float(max(round(time), 1)) if middle else time  # which a network of whole timesteps takes, too
        self._call = self._working_call([self._arguments(shown, time, numbers) for numbers in (one, two)])
        alone, beside = (self._predicted(shown, time, numbers)[0] for numbers in (one, two))
        if np.abs(alone - beside).max() > _UNSTEADY * np.abs(alone).max():
            self._call = None
            raise ValueError(
                "the prediction for an image must not change from call to call, or with the images beside it; this one "
                "does: is the network in training mode? Then call its eval()"
            )
        self._refuse_other_unit(shown)
        if middle:
            try:
                early, late, later = (self._predicted(shown, middle + part, one) for part in (0.1, 0.4, 1.0))
                self._rounds = np.array_equal(early, late) and not np.array_equal(late, later)
            except Exception:  # whatever a function raises where it needs a whole timestep
                self._rounds = True

    def _refuse_other_unit(self, shown: np.ndarray) -> None:
        """Refuse a network that hardly hears times from 0 to 1, and hears those from 0 to 1000."""
        if self.schedule.end > 1:
            return
        least = float(self.schedule.log_snr(self.schedule.end))
        times = [float(self.schedule.time_at(max(each, least))) for each in _APART]

        def change(unit: int) -> float:
            noise, image = (self._predicted(shown, unit * time, [0]) for time in times)
            return float(np.abs(noise - image).max() / max(np.abs(noise).max(), np.abs(image).max()))

        with np.errstate(invalid="ignore"):  # of zeros
            if not change(1) < _HEARD:
                return
            try:
                heard = change(_UNIT) > 10 * _HEARD
            except Exception:  # whatever a function raises at times beyond its clock
                return
        if heard:
            self._call = None
            raise ValueError(
                f"the network hardly hears a time from 0 to 1, and it hears one from 0 to {_UNIT}: write "
                f"lambda x, t: net(x, {_UNIT} * t)"
            )

    def _working_call(self, given: list[list[Any]]) -> Callable[..., Any]:
        """Return the call with arrays where the network works on these, else the one with tensors.

        given: arguments of calls that must work, from one image to more.
        """
        torch = sys.modules.get("torch")  # a network of torch exists only where torch is loaded
        ways = [self._fn] if torch is None else [self._fn, partial(with_tensors, self._fn)]
        if torch is not None and isinstance(self._fn, torch.nn.Module):
            ways = ways[1:]
        failures = []
        for call in ways:
            try:
                # Warnings are of an array where a tensor is expected.
                with warnings.catch_warnings(action="ignore"), evaluating(self._fn):
                    for arguments in given:
                        call(*arguments)
                return call
            except Exception as error:
                failures.append((arguments, error))
        said = "; and for tensors: ".join(str(error).partition("\n")[0] for _, error in failures)
        arguments, failure = failures[-1]
        images = "one image" if len(arguments[0]) == 1 else f"{len(arguments[0])} images"
        shapes = ", ".join(str(tuple(argument.shape)) for argument in arguments)
        raise TypeError(f"fn failed for {images}, called with the shapes {shapes}: {said}") from failure

    def _arguments(self, shown: np.ndarray, time: float, numbers: Sequence[int]) -> list[Any]:
        """Return what the network is given for some of the images: these, the time of each, and the condition."""
        numbers = list(numbers)
        arguments = [shown[numbers], np.full(len(numbers), time)]
        if self._condition is not None:
            arguments.append(self._condition[numbers if len(self._condition) > 1 else [0] * len(numbers)])
        return arguments

    def _predicted(self, shown: np.ndarray, time: float, numbers: Sequence[int]) -> np.ndarray:
        with evaluating(self._fn):
            output = self._call(*self._arguments(shown, time, numbers))
        return prediction_in(output, (len(numbers), *shown.shape[1:]), time)


def _amplitudes(alpha: float) -> tuple[float, float]:
    return math.sqrt(alpha), math.sqrt(1 - alpha)


def _reached(alpha: float, prediction: str) -> float:
    return max(alpha, _LEAST_SIGNAL) if prediction == "epsilon" else alpha
