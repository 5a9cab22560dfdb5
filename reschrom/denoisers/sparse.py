"""A sparse model of images with an exact denoiser: every 2x2 block of every band has a strength of its own.

Photographs are flat in most places and busy in a few. Here each block of a band, its three details in all channels, is
Gaussian with one covariance times an unknown scale, drawn for each block from a few values (a Gaussian scale mixture).
Blocks are independent, so E[x_0 | x_t] is a sum over the scales of one block.
"""

import numpy as np
from jaxtyping import Float

from reschrom._arrays import Images, one_signal_power, whole_number
from reschrom.denoisers._images import LEAST_NOISE, halving_images, known_generator, noised_images
from reschrom.theory.bands import bands, depth, from_bands

# The three details of a 2x2 block, orthonormal: horizontal, vertical, diagonal.
_DETAILS = np.array([[[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]]) / 2
_SCALES = np.geomspace(1e-4, 1e2, 25)


class ScaleMixture:
    """Images whose bands are made of independent blocks, each Gaussian with an unknown scale.

    images: two or more images, shape (N, C, S, S), S a power of two, at least 2. The covariance of the details and
        channels in every band is measured; the probabilities of 25 scales are fitted to the blocks
        (expectation-maximisation, 60 rounds).
    """

    def __init__(self, images: Images) -> None:
        images = halving_images(images, least=2)
        if depth(images.shape[-1]) < 1:
            raise ValueError(f"blocks of 2x2 pixels need images of two pixels or more; got {images.shape}")
        self.mean = images.mean(axis=0)
        *details, coarsest = bands(images - self.mean)
        blocks = [_to_blocks(band, m) for m, band in enumerate(details)]
        blocks.append(_to_pixels(coarsest, len(details)))
        self._variances, self._directions, self.scales, self.weights = [], [], [], []
        for block in blocks:
            flat = block.reshape(-1, block.shape[-1])
            variances, directions = np.linalg.eigh(flat.T @ flat / len(flat))
            used = variances > 1e-9 * variances.max()
            weights = _fit_weights(np.square(flat @ directions)[:, used], variances[used])
            self._variances.append(variances * used)
            self._directions.append(directions)
            self.weights.append(weights)
            self.scales.append(_SCALES / (weights @ _SCALES))  # the mean scale is 1, so the spectrum is as measured

    def denoise(self, x_t: Images, alpha: float) -> Images:
        """Return E[x_0 | x_t]: for every block the Wiener estimates of all scales, weighted by their probability."""
        x_t, alpha = noised_images(x_t, self.mean.shape), one_signal_power(alpha)
        *details, coarsest = bands(x_t - np.sqrt(alpha) * self.mean)
        estimates = [
            _from_blocks(self._estimate(_to_blocks(band, m), m, alpha), m, x_t.shape[1])
            for m, band in enumerate(details)
        ]
        level = len(details)
        estimates.append(_from_pixels(self._estimate(_to_pixels(coarsest, level), level, alpha), level))
        return self.mean + from_bands(estimates)

    def sample(self, count: int, generator: np.random.Generator) -> Images:
        """Draw images from the model."""
        count, generator = whole_number("the number of images", count), known_generator(generator)
        channels, side, _ = self.mean.shape
        drawn = []
        for m, (variances, directions) in enumerate(zip(self._variances, self._directions, strict=True)):
            places = max(side >> (m + 1), 1)
            scales = generator.choice(self.scales[m], size=(count, places, places, 1), p=self.weights[m])
            white = generator.standard_normal((count, places, places, len(variances)))
            block = np.sqrt(scales * variances) * white @ directions.T
            last = m == len(self._variances) - 1
            drawn.append(_from_pixels(block, m) if last else _from_blocks(block, m, channels))
        return self.mean + from_bands(drawn)

    def _estimate(self, blocks: np.ndarray, band: int, alpha: float) -> np.ndarray:
        noise = max(1 - alpha, LEAST_NOISE)
        y = blocks.reshape(-1, blocks.shape[-1]) @ self._directions[band]
        signal = self.scales[band][:, None] * self._variances[band]
        variances = alpha * signal + noise
        gains = np.sqrt(alpha) * signal / variances
        estimate = y * (_responsibilities(np.square(y), variances, self.weights[band]) @ gains)
        return (estimate @ self._directions[band].T).reshape(blocks.shape)


def _responsibilities(squares: np.ndarray, variances: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the probability of each scale for each block, shape (blocks, scales)."""
    from scipy.special import softmax

    logs = -(squares @ (1 / variances).T + np.log(variances).sum(axis=1)) / 2 + np.log(weights)
    return softmax(logs, axis=1)


def _fit_weights(squares: np.ndarray, variances: np.ndarray) -> np.ndarray:
    squares = squares[:: -(-len(squares) // 20_000)]  # enough blocks for 25 weights, spread over all images
    weights = np.full(len(_SCALES), 1 / len(_SCALES))
    likely = _responsibilities(squares, _SCALES[:, None] * variances, weights)  # up to a factor of each block
    for _ in range(60):  # of expectation-maximisation
        weights = weights * (likely.T @ (1 / (likely @ weights))) / len(likely)
        weights = np.maximum(weights, 1e-12)
        weights /= weights.sum()
    return weights


def _to_blocks(band: np.ndarray, level: int) -> Float[np.ndarray, "images rows columns details"]:
    """Return the orthonormal coefficients of every 2x2 block of a band: three details in each channel."""
    n, channels, height, width = band.shape
    blocks = band.reshape(n, channels, height // 2, 2, width // 2, 2)
    details = 2.0**level * np.einsum("ncyaxb,dab->nyxcd", blocks, _DETAILS, optimize=True)
    return details.reshape(n, height // 2, width // 2, 3 * channels)


def _from_blocks(details: np.ndarray, level: int, channels: int) -> np.ndarray:
    n, rows, columns, _ = details.shape
    split = details.reshape(n, rows, columns, channels, 3)
    blocks = np.einsum("nyxcd,dab->ncyaxb", split, _DETAILS, optimize=True) / 2.0**level
    return blocks.reshape(n, channels, 2 * rows, 2 * columns)


def _to_pixels(band: np.ndarray, level: int) -> np.ndarray:
    return 2.0**level * np.moveaxis(band, 1, -1)


def _from_pixels(values: np.ndarray, level: int) -> np.ndarray:
    return np.moveaxis(values, -1, 1) / 2.0**level
