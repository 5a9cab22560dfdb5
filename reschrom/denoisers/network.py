"""A network of one's own as a denoiser: shown images and told times as in its training, its output made an estimate."""

import copy
import math
import sys
import warnings
from collections.abc import Callable, Sequence
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
        tensors on the CPU in float32.
    prediction : {"epsilon", "x0", "v", "flow"}
        What it returns: the noise; the image; the velocity sqrt(alpha) noise - sqrt(1 - alpha) x_0; or noise - x_0, the
        velocity of a flow. The names of diffusers do too: sample, v_prediction, flow_prediction.
    schedule : Schedule
        Its time is what the network is told, and its path what it is shown. A scheduler of diffusers is read by
        `Schedule.from_diffusers`.
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
        finite, or depends on the other images of its batch, as in training mode.

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

    def __call__(self, x_t: Images, alpha: float) -> Images:
        """Return the estimate of x_0 in noised images, shape (N, C, H, W), of signal power alpha, in float64."""
        if alpha == 1:  # the image itself
            return np.clip(self._checked(x_t), *self.value_range)
        return self.estimate(self.output(x_t, alpha), x_t, alpha)

    def output(self, x_t: Images, alpha: float) -> Images:
        """Return what the network predicts, as it is, for x_t of Eq. (1) at a signal power below 1."""
        x_t, alpha = self._checked(x_t), _reached(one_signal_power(alpha), self.prediction)
        shown = x_t * _SHOWN[self.schedule.path](*_amplitudes(alpha))
        time = float(self.schedule.network_time(self.schedule.time(alpha)))
        if self._condition is not None and len(self._condition) not in (1, len(x_t)):
            raise ValueError(
                "one condition (a label, a prompt) for all images or one for each is needed; "
                f"got {len(self._condition)} for {len(x_t)} images"
            )
        if self._call is None:
            self._get_to_know(shown, time)
        numbers = range(len(x_t))
        parts = [numbers[start : start + self._batch] for start in numbers[:: self._batch]]
        return np.concatenate([self._predicted(shown, time, part) for part in parts])

    def of_first(self, count: int) -> "Denoiser":
        """Return the network for the first images of a batch alone, where each image has a condition of its own."""
        if self._condition is None or len(self._condition) == 1:
            return self
        few = copy.copy(self)
        few._condition = self._condition[:count]
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
        """Find out how the network is called, and check once that it predicts image by image."""
        few = [0], [0, len(shown) - 1]
        self._call = self._working_call([self._arguments(shown, time, numbers) for numbers in few])
        alone, beside = (self._predicted(shown, time, numbers)[0] for numbers in few)
        if np.abs(alone - beside).max() > _UNSTEADY * np.abs(alone).max():
            self._call = None
            raise ValueError(
                "the prediction for an image must not change from call to call, or with the images beside it; this one "
                "does: is the network in training mode? Then call its eval()"
            )

    def _working_call(self, given: list[list[Any]]) -> Callable[..., Any]:
        """Return the call with arrays where the network works on these, else the one with tensors.

        given: arguments of calls that must work, from one image to more.
        """
        torch = sys.modules.get("torch")  # a network of torch exists only where torch is loaded
        ways = [self._with_arrays] if torch is None else [self._with_arrays, self._with_tensors]
        if torch is not None and isinstance(self._fn, torch.nn.Module):
            ways = [self._with_tensors]
        failures = []
        for call in ways:
            try:
                with warnings.catch_warnings(action="ignore"):  # of an array where a tensor is expected
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

    def _with_arrays(self, *arguments: Any) -> Any:
        return self._fn(*arguments)

    def _with_tensors(self, x: np.ndarray, t: np.ndarray, *condition: Any) -> Any:
        torch = sys.modules["torch"]
        weights = self._fn.parameters() if isinstance(self._fn, torch.nn.Module) else ()
        like: Any = next((each for each in weights if each.is_floating_point()), torch.zeros(()))
        # A model of diffusers knows its own; a `dtype` alone may be that of its inner layers.
        if isinstance(getattr(self._fn, "device", None), torch.device) and hasattr(self._fn, "dtype"):
            like = self._fn
        images = torch.tensor(x, dtype=like.dtype, device=like.device)
        times = torch.tensor(t, dtype=torch.float32, device=like.device)
        told = [torch.as_tensor(each, device=like.device) for each in condition]
        with torch.no_grad():
            return self._fn(
                images, times, *(each.to(like.dtype) if each.is_floating_point() else each for each in told)
            )

    def _predicted(self, shown: np.ndarray, time: float, numbers: Sequence[int]) -> np.ndarray:
        output = self._call(*self._arguments(shown, time, numbers))
        return _prediction_in(output, (len(numbers), *shown.shape[1:]), time)


def _prediction_in(output: Any, shape: tuple[int, ...], time: float) -> np.ndarray:
    """Return the prediction in what a network returned, without a learned variance, which may follow it."""
    found = output[0] if isinstance(output, (tuple, list)) and len(output) == 1 else getattr(output, "sample", output)
    if hasattr(found, "detach"):  # a tensor of torch
        found = found.detach().cpu()
        found = found.double().numpy() if found.is_floating_point() else found.numpy()
    if not isinstance(found, np.ndarray) or found.dtype.kind != "f":
        kind = f"an array of {found.dtype}" if isinstance(found, np.ndarray) else type(output).__name__
        raise TypeError(f"fn must return one array or tensor of real numbers, its prediction alone; got {kind}")
    if found.shape == (shape[0], 2 * shape[1], *shape[2:]):
        found = found[:, : shape[1]]
    if found.shape != shape:
        hint = "; what differs from image to image is the condition" if found.shape[:1] != shape[:1] else ""
        raise ValueError(f"fn must return a prediction of the shape of its images, {shape}; got {found.shape}{hint}")
    if not np.all(np.isfinite(found)):
        raise ValueError(f"fn must return finite numbers; got NaN or infinity at its time {time:g}")
    return found.astype(np.float64)


def _amplitudes(alpha: float) -> tuple[float, float]:
    return math.sqrt(alpha), math.sqrt(1 - alpha)


def _reached(alpha: float, prediction: str) -> float:
    return max(alpha, _LEAST_SIGNAL) if prediction == "epsilon" else alpha
