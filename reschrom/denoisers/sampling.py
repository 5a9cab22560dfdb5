"""Sampling with any denoiser, a function `(x_t, alpha) -> estimate of x_0`; images are (N, C, H, W), float64."""

from collections.abc import Callable, Iterator
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from reschrom._arrays import Images, finite, numpy_array, shape_told, signal_power, told
from reschrom.denoisers._images import noise_power
from reschrom.denoisers.network import Denoiser

Denoise = Callable[[np.ndarray, float], np.ndarray]
Times = Float[np.ndarray, " times"]

# How a function that is told a time, and not alpha, calls its second argument.
_TIMES = ("t", "time", "times", "timestep", "timesteps", "sigma", "sigmas", "noise_labels")
_NEEDED = "a denoiser is a function of x_t and alpha that returns an array, its estimate of x_0"
WRAP = "Wrap a network of your own: Denoiser(fn, prediction=..., schedule=...)"


class Step(NamedTuple):
    """One state of a generation: the signal power, the noised images and the estimate of the final ones."""

    alpha: float
    x_t: Images
    estimate: Images


def predicted_noise(denoise: Denoise, x_t: Images, alpha: float) -> Images:
    """Return the noise prediction that an estimate of the image implies: Eq. (7) solved for epsilon.

    alpha: signal power below 1.
    """
    noise, x_t = noise_power(alpha), numpy_array(x_t)
    return (x_t - np.sqrt(alpha) * estimate_of(denoise, x_t, alpha)) / np.sqrt(noise)


def ddim(denoise: Denoise, x_t: Images, alphas: Times) -> Iterator[Step]:
    """Generate images with DDIM, Eq. (4), and yield every state on the way.

    Parameters
    ----------
    denoise : callable
        Estimate of x_0 given x_t and alpha.
    x_t : array, shape (N, C, H, W)
        The state at the first alpha; white noise where that is 0.
    alphas : array, shape (steps,)
        Rising signal powers, else ValueError; the last may be 1.

    Yields
    ------
    Step
        `alpha`, `x_t` and the `estimate` of x_0.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import GaussianField, ddim
    >>> noise = np.random.default_rng(0).standard_normal((4, 3, 8, 8))
    >>> *_, last = ddim(GaussianField([1, 4, 16, 64]).denoise, noise, np.linspace(0, 1, 11))
    >>> last.x_t.shape
    (4, 3, 8, 8)
    """
    alphas, x_t = numpy_array(signal_power(alphas)[0]), numpy_array(x_t)
    if alphas.ndim != 1 or not alphas.size or not np.all(np.diff(alphas) > 0):
        raise ValueError(f"generation runs from noise to image: alphas must rise; got {told(alphas)}")
    if x_t.ndim != 4:
        raise ValueError(f"noised images of the shape (N, C, H, W) are needed; got {shape_told(x_t)}")
    finite("noised images", x_t)
    for now, after in zip(alphas, [*alphas[1:], None], strict=True):
        estimate = estimate_of(denoise, x_t, now)
        yield Step(now, x_t, estimate)
        if after is not None:
            noise = (x_t - np.sqrt(now) * estimate) / np.sqrt(1 - now)
            x_t = np.sqrt(after) * estimate + np.sqrt(1 - after) * noise


def estimate_of(denoise: Denoise, x_t: Images, alpha: float) -> Images:
    """Return what a denoiser estimates, after checking that it is no network in a convention of its own."""
    if isinstance(denoise, Denoiser):
        return denoise(x_t, alpha)
    second = _second_argument(denoise)
    if hasattr(denoise, "named_parameters") or second in _TIMES:  # a module of torch, or told a time
        takes = f", which takes {second!r}" if second in _TIMES else ""
        raise TypeError(f"{_NEEDED}; got {type(denoise).__name__}{takes}. {WRAP}")
    try:
        estimate = denoise(x_t, alpha)
    except (TypeError, AttributeError) as error:  # as where a tensor was expected
        why = str(error).partition("\n")[0]
        raise TypeError(f"{_NEEDED}; this one failed: {why}. {WRAP}") from error
    if not isinstance(estimate, np.ndarray) or estimate.dtype.kind not in "fiu":
        kind = f"an array of {estimate.dtype}" if isinstance(estimate, np.ndarray) else type(estimate).__name__
        raise TypeError(f"{_NEEDED}; this one returned {kind}. {WRAP}")
    if np.shape(estimate) != x_t.shape or not np.all(np.isfinite(estimate)):
        raise ValueError(
            f"a denoiser must return finite images of the shape it is given, {x_t.shape}; got the shape "
            f"{np.shape(estimate)}, at alpha = {alpha:g}"
        )
    return estimate


def _second_argument(function: Any) -> str | None:
    try:
        return [*signature(function).parameters][1]
    except (IndexError, TypeError, ValueError):  # not every callable has a signature
        return None
