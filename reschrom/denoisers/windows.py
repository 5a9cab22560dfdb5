"""Denoisers of real pictures that can be written down: a mixture of small windows, and the nearest picture of a set.

The loss of any denoiser bounds the least one from above, so each of these says by when a band comes at the latest.
Nothing is trained on noise: both are fitted to clean images, once for every noise level and schedule.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from reschrom._arrays import Images, one_signal_power, told, whole_number
from reschrom._extras import naming_extra
from reschrom.denoisers._images import LEAST_NOISE, halving_images, known_generator, noised_images
from reschrom.theory.bands import bands, depth, downsample, from_bands, upsample

_WHOLE = 8  # an image of so many pixels is one window
_LEAST = 1e-2  # added to the variances of a component: a hundredth of those of pure noise
_ROUNDS = 4  # of expectation-maximisation; more did not lower the loss on other pictures
_SETTLED = 1e-3  # nats by which a round changes the mean log-likelihood; less ends the fit
_FIRST = 12  # numbers of a vector that are looked at first; then twice as many, and so on
_LOST = 20  # nats below the likeliest component: e^-20 is lost in the rounding of single precision
_AT_ONCE = 4096  # windows that are denoised together
_PAIRS = 2000  # images whose neighbours are compared to learn how much a neighbour tells


class WindowMixture:
    """Images whose windows are drawn from a mixture of Gaussians, at every resolution a mixture of its own.

    The 2x2 block of a band is estimated from what is around it in the image of that resolution: 4x4 pixels, and the
    ring around them, out to 8x8, in averages of 2x2. An image of 8x8 pixels or less is one window.

    images: two or more, shape (N, C, S, S), S a power of two.
    generator: draws the windows and the first components.
    components: of each mixture; fewer where a component had fewer windows than a window has numbers. One is a linear
        filter.
    windows: drawn at each resolution to fit the mixture, where there are more.
    mirror: whether the mirror image of each is as likely as itself. That of a photograph is; that of a digit is none.
    """

    @naming_extra("WindowMixture")
    def __init__(
        self,
        images: Images,
        generator: np.random.Generator,
        components: int = 100,
        windows: int = 40_000,
        mirror: bool = True,
    ) -> None:
        images, generator = halving_images(images, least=2), known_generator(generator)
        components, windows = (whole_number("components and windows", each) for each in (components, windows))
        if components < 1 or windows < 2:
            raise ValueError(f"one or more components and two or more windows are needed; got {components}, {windows}")
        self._shape, self._fine = images.shape[1:], max(depth(images.shape[-1]) - depth(_WHOLE), 0)
        pooled = _with_mirrored(images, mirror)
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

    Which one it is, is the nearest to the noised image. How much of it to take, and what the rest is like, is learned
    from the nearest neighbours within the set.

    images: three or more, shape (N, C, S, S), S a power of two; thousands rather than millions, since
        several copies stay in memory.
    generator, components, windows, mirror: as for `WindowMixture`. A mirror image may be the nearest, too.
    """

    def __init__(
        self,
        images: Images,
        generator: np.random.Generator,
        components: int = 100,
        windows: int = 40_000,
        mirror: bool = True,
    ) -> None:
        images, generator = halving_images(images, least=3), known_generator(generator)
        self.mean, count = images.mean(axis=0), len(images)
        known = _with_mirrored(images, mirror) - self.mean
        chosen = generator.permutation(count)[:_PAIRS]
        flat = known.reshape(len(known), -1)
        distances = np.square(flat).sum(axis=1) - 2 * flat[chosen] @ flat.T
        for itself in range(0, len(known), count):  # and its mirror image
            distances[np.arange(len(chosen)), itself + chosen] = np.inf
        nearest, shares = distances.argmin(axis=1), []
        pyramid = bands(known)
        for band in pyramid:
            own, other = band[chosen], band[nearest]
            energy = np.square(other).sum()
            shares.append(np.clip((own * other).sum() / energy, 0, 1) if energy else 0.0)
        self.shares = np.array(shares)
        self._scaled = from_bands([share * band for share, band in zip(shares, pyramid, strict=True)])
        self._flat = self._scaled.reshape(len(known), -1)
        self._energies = np.square(self._flat).sum(axis=1)
        self.rest = WindowMixture(known[chosen] - self._scaled[nearest], generator, components, windows, mirror)

    def denoise(self, x_t: Images, alpha: float) -> Images:
        """Return the estimate of x_0: the share of the nearest image, and the rest estimated from its windows."""
        x_t, alpha = noised_images(x_t, self.mean.shape), one_signal_power(alpha)
        difference = (x_t - np.sqrt(alpha) * self.mean).reshape(len(x_t), -1)
        nearest = (np.sqrt(alpha) * difference @ self._flat.T - alpha * self._energies / 2).argmax(axis=1)
        known = self.mean + self._scaled[nearest]
        return known + self.rest.denoise(x_t - np.sqrt(alpha) * known, alpha)


def _with_mirrored(images: Images, mirror: bool) -> Float[np.ndarray, "twice channels height width"]:
    """Return the images, followed by their mirror images where these are wanted."""
    if not isinstance(mirror, (bool, np.bool_)):
        raise TypeError(f"mirror must be True or False; got {told(mirror)}")
    return np.concatenate([images, images[..., ::-1]]) if mirror else images


class _Mixture(NamedTuple):
    """A Gaussian mixture of vectors, each component in the directions in which it is uncorrelated."""

    weights: Float[np.ndarray, " components"]
    means: Float[np.ndarray, "components numbers"]
    variances: Float[np.ndarray, "components numbers"]
    directions: Float[np.ndarray, "components numbers numbers"]

    @classmethod
    def fit(cls, vectors: np.ndarray, components: int, generator: np.random.Generator) -> "_Mixture":
        components = max(min(components, len(vectors) // vectors.shape[1]), 1)
        likely = _first_guess(vectors, components, seed=int(generator.integers(2**31)))
        # In the principal axes of all vectors, widest first, the first few numbers tell most components apart.
        centre = vectors.mean(axis=0, dtype=np.float64)
        away = vectors - centre
        axes = np.linalg.eigh(away.T @ away)[1][:, ::-1]
        turned = (away @ axes).astype(np.float32)
        last = -np.inf
        for _ in range(_ROUNDS):
            likely, reached = _responsibilities(turned, *_moments(turned, likely))
            if abs(reached - last) < _SETTLED:
                break
            last = reached
        weights, means, covariances = _moments(turned, likely)
        variances, directions = np.linalg.eigh(covariances)
        parts = (weights, centre + means @ axes.T, variances, axes @ directions)
        return cls(*(part.astype(np.float32) for part in parts))

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


# For each component, the vectors that it may have drawn and the probability that it drew each of them.
_Likely = list[tuple[np.ndarray, np.ndarray]]
_Moments = tuple[
    Float[np.ndarray, " components"],
    Float[np.ndarray, "components numbers"],
    Float[np.ndarray, "components numbers numbers"],
]


def _first_guess(vectors: np.ndarray, components: int, seed: int) -> _Likely:
    """Return the vectors of each component by k-means."""
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of equal vectors there may be fewer than components
        labels = KMeans(components, n_init=1, random_state=seed).fit(vectors.astype(np.float32)).labels_
    members = [np.flatnonzero(labels == k) for k in range(components)]
    return [(which, np.ones(len(which), dtype=np.float32)) for which in members]


def _moments(vectors: np.ndarray, likely: _Likely) -> _Moments:
    """Return the weight, mean and covariance of each component: the M-step of expectation-maximisation."""
    totals, means, covariances = [], [], []
    for which, share in likely:
        members, share = vectors[which].astype(np.float64), share.astype(np.float64)
        total = share.sum() + 1e-6  # a component may have no vector
        mean = share @ members / total
        away = members - mean
        totals.append(total)
        means.append(mean)
        covariances.append((share * away.T) @ away / total)
    floor = _LEAST * np.eye(vectors.shape[1])
    return np.array(totals) / sum(totals), np.array(means), np.array(covariances) + floor


def _responsibilities(
    vectors: np.ndarray, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray
) -> tuple[_Likely, float]:
    """Return how likely each component drew each vector, and the mean log-likelihood of the vectors: the E-step.

    A component is dropped for a vector once the density of its first numbers leaves too little, since those that
    follow only lower it. They are doubled each time, and most components are out after the first.
    """
    numbers = vectors.shape[1]
    # The inverse of a Cholesky factor is a triangle, so it whitens the first numbers without the others.
    whitening = np.linalg.inv(np.linalg.cholesky(covariances))
    centres = (whitening @ means[..., None])[..., 0].astype(np.float32)
    heights = np.log(weights) + np.log(np.diagonal(whitening, axis1=1, axis2=2)).sum(axis=1)
    heights, whitening = heights.astype(np.float32), whitening.astype(np.float32)

    def lowered(k: int, some: np.ndarray, start: int) -> np.ndarray:
        """By how much the numbers from `start` on lower the log-density of component k."""
        stop = some.shape[1]
        white = some @ whitening[k, start:stop, :stop].T - centres[k, start:stop]
        return np.einsum("nd,nd->n", white, white) / 2

    first = np.ascontiguousarray(vectors[:, :_FIRST])
    logs = np.stack([height - lowered(k, first, 0) for k, height in enumerate(heights)])
    best, kept = logs.argmax(axis=0), np.empty_like(logs[0])
    for k, height in enumerate(heights):
        own = np.flatnonzero(best == k)
        kept[own] = height - lowered(k, vectors[own], 0) - _LOST
    start = _FIRST
    while start < numbers:
        first = np.ascontiguousarray(vectors[:, : 2 * start])
        for k, log in enumerate(logs):
            which = np.flatnonzero(log > kept)
            log[which] -= lowered(k, first[which], start)
        start *= 2
    highest = logs.max(axis=0)
    shares = np.exp(logs - highest)
    total = shares.sum(axis=0)
    chosen = [np.flatnonzero(log > highest - _LOST) for log in logs]
    reached = float((highest + np.log(total)).mean(dtype=np.float64))
    return [(which, share[which] / total[which]) for which, share in zip(chosen, shares, strict=True)], reached


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
