"""Denoisers of real pictures that can be written down: a mixture of small windows, and the nearest picture of a set.

The loss of any denoiser bounds the least one from above, so each of these says by when a band comes at the latest.
Nothing is trained on noise: both are fitted to clean images, once for every noise level and schedule.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from reschrom._arrays import Images, one_signal_power, whole_number
from reschrom._extras import naming_extra
from reschrom.denoisers._images import LEAST_NOISE, halving_images, known_generator, noised_images
from reschrom.theory.bands import bands, depth, downsample, from_bands, upsample

_WHOLE = 8  # an image of so many pixels is one window
_LEAST = 1e-2  # added to the variances of a component: a hundredth of those of pure noise
_ROUNDS = 4  # of expectation-maximisation; more did not lower the loss on other pictures
_AT_ONCE = 4096  # windows that are denoised together
_PAIRS = 2000  # images whose neighbours are compared to learn how much a neighbour tells


class WindowMixture:
    """Images whose windows are drawn from a mixture of Gaussians, at every resolution a mixture of its own.

    The 2x2 block of a band is estimated from what is around it in the image of that resolution: 4x4 pixels, and the
    ring around them, out to 8x8, in averages of 2x2. An image of 8x8 pixels or less is one window.

    images: two or more, shape (N, C, S, S), S a power of two. Each is seen as in a mirror, too.
    generator: draws the windows and the first components.
    components: of each mixture; fewer where a component had fewer windows than a window has numbers. One is a linear
        filter.
    windows: drawn at each resolution to fit the mixture, where there are more.
    """

    @naming_extra("WindowMixture")
    def __init__(
        self, images: Images, generator: np.random.Generator, components: int = 100, windows: int = 40_000
    ) -> None:
        images, generator = halving_images(images, least=2), known_generator(generator)
        components, windows = (whole_number("components and windows", each) for each in (components, windows))
        if components < 1 or windows < 2:
            raise ValueError(f"one or more components and two or more windows are needed; got {components}, {windows}")
        self._shape, self._fine = images.shape[1:], max(depth(images.shape[-1]) - depth(_WHOLE), 0)
        pooled = np.concatenate([images, images[..., ::-1]])
        self._mixtures = []
        for level in range(self._fine + 1):
            drawn = _drawn(pooled, windows, generator, whole=level == self._fine)
            self._mixtures.append(_Mixture.fit(drawn, components, generator))
            pooled = 2 * downsample(pooled, 1) if level < self._fine else pooled  # noise keeps its variance

    def denoise(self, x_t: Images, alpha: float) -> Images:
        """Return the estimate of x_0: every block from its window, the coarse image as a whole."""
        x_t, alpha = noised_images(x_t, self._shape), one_signal_power(alpha)
        details = []
        for mixture in self._mixtures[:-1]:
            details.append(_blocks_of(mixture.estimate(_windows(x_t), alpha, _block(len(x_t[0])))))
            x_t = 2 * downsample(x_t, 1)
        estimate = self._mixtures[-1].estimate(_whole(x_t), alpha).reshape(x_t.shape)
        for blocks in reversed(details):
            estimate = upsample(estimate / 2, 1) + blocks - upsample(downsample(blocks, 1), 1)
        return estimate


class NearestImage:
    """Images that are like one of a set: in every band a share of it, plus a rest that is a `WindowMixture`.

    Which one it is, is the nearest to the noised image, seen as in a mirror or not. How much of it to take, and what
    the rest is like, is learned from the nearest neighbours within the set.

    images: three or more, shape (N, C, S, S), S a power of two; thousands rather than millions, since
        several copies stay in memory.
    generator, components, windows: as for `WindowMixture`.
    """

    def __init__(
        self, images: Images, generator: np.random.Generator, components: int = 100, windows: int = 40_000
    ) -> None:
        images, generator = halving_images(images, least=3), known_generator(generator)
        self.mean, count = images.mean(axis=0), len(images)
        both = np.concatenate([images, images[..., ::-1]]) - self.mean
        chosen = generator.permutation(count)[:_PAIRS]
        flat = both.reshape(len(both), -1)
        distances = np.square(flat).sum(axis=1) - 2 * flat[chosen] @ flat.T
        distances[np.arange(len(chosen)), chosen] = distances[np.arange(len(chosen)), chosen + count] = np.inf
        nearest, shares = distances.argmin(axis=1), []
        pyramid = bands(both)
        for band in pyramid:
            own, other = band[chosen], band[nearest]
            energy = np.square(other).sum()
            shares.append(np.clip((own * other).sum() / energy, 0, 1) if energy else 0.0)
        self.shares = np.array(shares)
        self._scaled = from_bands([share * band for share, band in zip(shares, pyramid, strict=True)])
        self._flat = self._scaled.reshape(len(both), -1)
        self._energies = np.square(self._flat).sum(axis=1)
        self.rest = WindowMixture(both[chosen] - self._scaled[nearest], generator, components, windows)

    def denoise(self, x_t: Images, alpha: float) -> Images:
        """Return the estimate of x_0: the share of the nearest image, and the rest estimated from its windows."""
        x_t, alpha = noised_images(x_t, self.mean.shape), one_signal_power(alpha)
        difference = (x_t - np.sqrt(alpha) * self.mean).reshape(len(x_t), -1)
        nearest = (np.sqrt(alpha) * difference @ self._flat.T - alpha * self._energies / 2).argmax(axis=1)
        known = self.mean + self._scaled[nearest]
        return known + self.rest.denoise(x_t - np.sqrt(alpha) * known, alpha)


class _Mixture(NamedTuple):
    """A Gaussian mixture of vectors, each component in the directions in which it is uncorrelated."""

    weights: Float[np.ndarray, " components"]
    means: Float[np.ndarray, "components numbers"]
    variances: Float[np.ndarray, "components numbers"]
    directions: Float[np.ndarray, "components numbers numbers"]

    @classmethod
    def fit(cls, vectors: np.ndarray, components: int, generator: np.random.Generator) -> "_Mixture":
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        components = max(min(components, len(vectors) // vectors.shape[1]), 1)
        seed = int(generator.integers(2**31))
        mixture = GaussianMixture(components, reg_covar=_LEAST, max_iter=_ROUNDS, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # rounds are limited on purpose
            mixture.fit(vectors.astype(np.float32))
        covariances = np.asarray(mixture.covariances_, dtype=np.float64)
        parts = (mixture.weights_, mixture.means_, *np.linalg.eigh(covariances))
        return cls(*(np.asarray(part, dtype=np.float32) for part in parts))

    def estimate(self, noised: np.ndarray, alpha: float, wanted: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Return E[x_0 | x_t] of the wanted numbers of every vector, in single precision; the noise is white."""
        flat = noised.reshape(-1, noised.shape[-1]).astype(np.float32)
        parts = [self._estimate(part, alpha, wanted) for part in np.split(flat, range(_AT_ONCE, len(flat), _AT_ONCE))]
        return np.concatenate(parts).reshape(*noised.shape[:-1], -1)

    def _estimate(self, noised: np.ndarray, alpha: float, wanted: slice | np.ndarray) -> np.ndarray:
        from scipy.special import softmax

        signal, noise = np.float32(np.sqrt(alpha)), np.float32(max(1 - alpha, LEAST_NOISE))
        logs, estimates = [], []
        for weight, mean, variances, directions in zip(*self, strict=True):
            total = signal**2 * variances + noise
            rotated = (noised - signal * mean) @ directions
            logs.append(np.log(weight) - (np.square(rotated) @ (1 / total) + np.log(total).sum()) / 2)
            estimates.append(mean[wanted] + (rotated * (signal * variances / total)) @ directions[wanted].T)
        return np.einsum("kn,knd->nd", softmax(np.stack(logs), axis=0), np.stack(estimates), optimize=True)


# The window of the block B at one resolution. The 4x4 pixels about it, c, count one by one; the ring around these, r,
# counts in averages of 2x2 pixels. The block itself is the middle of the 4x4.
#
#     r r r r r r r r
#     r r r r r r r r
#     r r c c c c r r      16 pixels c and B, row by row: the block has the numbers 5, 6, 9 and 10;
#     r r c B B c r r      then 12 averages r, row by row.
#     r r c B B c r r
#     r r c c c c r r
#     r r r r r r r r
#     r r r r r r r r
_REACH = 3  # pixels on each side of the block
_BLOCK = (5, 6, 9, 10)
_NUMBERS = 16 + 12  # in one channel of a window


_RING = np.pad(np.zeros((2, 2), dtype=bool), 1, constant_values=True)


def _windows(
    images: np.ndarray, places: Int[np.ndarray, "images drawn"] | None = None
) -> Float[np.ndarray, "images *places numbers"]:
    """Return the window of every 2x2 block: 4x4 pixels about it, then the ring of twelve 2x2 averages about these.

    places: numbers of the blocks of each image whose windows are wanted; all, in rows and columns, unless given.
    """
    # Mirrored at the edge of the image; averages keep the variance of the noise.
    padded = np.pad(images, ((0, 0), (0, 0), (_REACH, _REACH), (_REACH, _REACH)), mode="symmetric")
    rows = padded[..., ::2, :] + padded[..., 1::2, :]
    squares = np.lib.stride_tricks.sliding_window_view
    core = squares(padded[..., 2:-2, 2:-2], (4, 4), axis=(2, 3))[:, :, ::2, ::2]
    around = squares((rows[..., ::2] + rows[..., 1::2]) / 2, (4, 4), axis=(2, 3))
    if places is None:
        core, around = np.moveaxis(core, 1, 3), np.moveaxis(around, 1, 3)
    else:
        image, (row, column) = np.arange(len(images))[:, None], np.divmod(places, core.shape[3])
        core, around = core[image, :, row, column], around[image, :, row, column]
    numbers = np.concatenate([core.reshape(*core.shape[:-2], 16), around[..., _RING]], axis=-1)
    return numbers.reshape(*numbers.shape[:-2], -1)


def _block(channels: int) -> np.ndarray:
    """Return where the block is among the numbers of its window."""
    return (_NUMBERS * np.arange(channels)[:, None] + _BLOCK).ravel()


def _blocks_of(numbers: np.ndarray) -> np.ndarray:
    n, rows, columns, _ = numbers.shape
    blocks = numbers.reshape(n, rows, columns, -1, 2, 2)
    return np.moveaxis(blocks, (3, 4), (1, 3)).reshape(n, blocks.shape[3], 2 * rows, 2 * columns)


def _whole(images: np.ndarray) -> Float[np.ndarray, "images numbers"]:
    return images.reshape(len(images), -1)


def _drawn(
    images: np.ndarray, count: int, generator: np.random.Generator, whole: bool
) -> Float[np.ndarray, "windows numbers"]:
    """Return windows of the images, or the images as they are, at most `count` by chance."""
    windows, places = [], 1 if whole else (images.shape[-1] // 2) ** 2
    each = min(-(-count // len(images)), places)
    for part in np.array_split(images, max(len(images) // 256, 1)):
        drawn = generator.permuted(np.tile(np.arange(places), (len(part), 1)), axis=1)[:, :each]
        found = _whole(part) if whole else _windows(part, drawn)
        windows.append(found.reshape(-1, found.shape[-1]))
    drawn = np.concatenate(windows)
    return drawn[generator.permutation(len(drawn))[:count]] if len(drawn) > count else drawn
