"""The exact denoiser of a finite set of images: their mean, weighted by the probability of each (Eq. 7)."""

import numpy as np
from jaxtyping import Float

from reschrom._arrays import Images, numpy_array, one_signal_power, refuse_as_in_files, shape_told, whole_number
from reschrom.denoisers._images import LEAST_NOISE, known_generator, noised_images


class FiniteDataset:
    """The images of a set, each as likely as any other: what a network that fits its training set perfectly generates.

    Its denoiser is exact (Eq. 7).

    Parameters
    ----------
    images : array, shape (N, C, H, W)
        One or more finite images, else ValueError.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import FiniteDataset
    >>> black_or_white = FiniteDataset(np.array([-1.0, 1.0]).reshape(2, 1, 1, 1))
    >>> black_or_white.responsibilities(np.full((1, 1, 1, 1), 0.5), alpha=0.5).round(3).tolist()
    [[0.196], [0.804]]
    """

    def __init__(self, images: Images) -> None:
        images = numpy_array(images).astype(np.float64, copy=False)
        if images.ndim != 4 or not images.size or not np.all(np.isfinite(images)):
            raise ValueError(f"a dataset holds one or more finite images, shape (N, C, H, W); got {shape_told(images)}")
        refuse_as_in_files(images)
        self.images = images
        self._flat = self.images.reshape(len(images), -1)
        self._energies = np.square(self._flat).sum(axis=1)

    def responsibilities(self, x_t: Images, alpha: float) -> Float[np.ndarray, "dataset images"]:
        """Return the probability of each image of the set given each noised image, shape (dataset, N)."""
        from scipy.special import softmax

        x_t, alpha = noised_images(x_t, self.images.shape[1:]), one_signal_power(alpha)
        # -||x_t - sqrt(alpha) x||^2 / 2 up to a term that all images of the set share.
        closeness = self._flat @ (np.sqrt(alpha) * x_t).reshape(len(x_t), -1).T - alpha * self._energies[:, None] / 2
        return softmax((closeness - closeness.max(axis=0)) / max(1 - alpha, LEAST_NOISE), axis=0)

    def denoise(self, x_t: Images, alpha: float) -> Images:
        """Return E[x_0 | x_t] of Eq. (7): the images of the set, weighted by their probability.

        x_t has the shape (N, C, H, W), and alpha, its signal power, is one number in [0, 1].
        """
        shares = self.responsibilities(x_t, alpha)
        possible = shares.max(axis=1) > 1e-20  # the others, near the image most, change no digit
        return (shares[possible].T @ self._flat[possible]).reshape(-1, *self.images.shape[1:])

    def sample(self, count: int, generator: np.random.Generator) -> Images:
        """Draw images of the set, with replacement."""
        count = whole_number("the number of images", count)
        return self.images[known_generator(generator).integers(len(self.images), size=count)]
