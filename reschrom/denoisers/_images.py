"""What exact denoisers share: the least noise, and the checks of what they are given."""

from typing import Protocol

import numpy as np

from reschrom._arrays import Images, finite, numpy_array, one_signal_power, refuse_as_in_files, shape_told, told

# At alpha = 1 each posterior is its limit, reached at a noise of standard deviation 1e-12.
LEAST_NOISE = 1e-24


class Posterior(Protocol):
    """A distribution of images whose denoising problem is solved exactly."""

    def denoise(self, x_t: Images, alpha: float) -> Images:
        """Return E[x_0 | x_t], the best estimate of the image in a noised image: Eq. (7)."""

    def sample(self, count: int, generator: np.random.Generator) -> Images:
        """Draw images x_0 from the distribution."""


def noised_images(x_t: Images, shape: tuple[int, ...]) -> Images:
    """Return noised images, after checking that they are finite and that each has the given shape."""
    x_t = numpy_array(x_t).astype(np.float64, copy=False)
    if x_t.ndim != 4 or x_t.shape[1:] != shape:
        raise ValueError(
            f"noised images of the shape (N, {', '.join(map(str, shape))}) are needed; got {shape_told(x_t)}"
        )
    finite("noised images", x_t)
    return x_t


def halving_images(images: Images, least: int) -> Images:
    """Return images, after checking that there are enough and that their sides halve into 2x2 blocks to the end."""
    images = numpy_array(images)
    side = images.shape[-1] if images.ndim else 0
    if images.ndim != 4 or len(images) < least or images.shape[-2] != side or side & (side - 1):
        raise ValueError(
            f"2x2 blocks in every band need {least} or more square images, shape (N, C, S, S), S a power of two; got "
            f"{shape_told(images)}"
        )
    finite("images", images)
    refuse_as_in_files(images)
    return images.astype(np.float64, copy=False)


def known_generator(generator: np.random.Generator) -> np.random.Generator:
    """Return `generator` after checking that it is one of NumPy."""
    if not isinstance(generator, np.random.Generator):
        raise TypeError(f"a generator of NumPy is needed, np.random.default_rng(seed); got {told(generator)}")
    return generator


def noise_power(alpha: float) -> float:
    """Return `1 - alpha`, after checking that there is noise to predict."""
    noise = 1 - one_signal_power(alpha)
    if noise == 0:
        raise ValueError("an image without noise holds no noise to predict: alpha must be below 1")
    return noise
