"""When each resolution of real images comes, from the energies of their 2x2 blocks alone: no denoiser, no network.

A band of an image is cut into blocks of 2x2 pixels, all channels together; the last band, one pixel, is one block.
Suppose that all about a block were known but one number of variance E, the block's own energy: in which direction of
its details and channels it points, and how strong it is. Then its best estimate holds the share
`alpha E / (alpha E + 1 - alpha)` of it: the ideal attenuation of Donoho and Johnstone (1994), block by block. In a
Gaussian field nothing is known of a block, and each of its directions has the Wiener gain of its own variance. The
prediction lies between the two, by how far the energies of the blocks are from those of a Gaussian field.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from reschrom._arrays import finite
from reschrom.chromatogram import Chromatogram
from reschrom.posteriors import Images
from reschrom.resolution import band_names, band_sizes, band_spectrum, bands, depth, from_bands
from reschrom.schedules import Schedule

_GROUPS = 256


@dataclass(frozen=True)
class BlockEnergies:
    """What the prediction needs of a set of images, finest band first.

    energies: mean energies of 256 equal groups of blocks, from the weakest to the strongest.
    variances: variances of a block in the directions in which it is uncorrelated; 0 beyond their number.
    """

    energies: Float[np.ndarray, "bands groups"]
    variances: Float[np.ndarray, "bands directions"]

    @classmethod
    def of(cls, images: Images, mean: Float[np.ndarray, "channels side side"] | None = None) -> "BlockEnergies":
        """Measure two or more images, shape (N, C, S, S), about a mean image: their own unless given."""
        if len(images) < 2 or images.shape[-1] != images.shape[-2]:
            raise ValueError(f"two or more square images are needed, shape (N, C, S, S); got {images.shape}")
        finite("images", images)
        pyramid = bands(images - (images.mean(axis=0) if mean is None else mean), depth(images.shape[-1]))
        energies, variances = [], np.zeros((len(pyramid), 4 * images.shape[1]))
        for m, band in enumerate(pyramid):
            blocks = _blocks(2.0**m * band)
            energies.append(_grouped(np.square(blocks).sum(axis=1)))
            found = np.linalg.eigvalsh(blocks.T @ blocks / len(blocks))
            variances[m, : len(found)] = np.maximum(found, 0)
        return cls(np.stack(energies), variances)

    @property
    def certainty(self) -> Float[np.ndarray, " bands"]:
        """How far from Gaussian the energies of blocks are: 0 as in a Gaussian field, towards 1 as they differ more.

        One minus the ratio of two relative variances: in a Gaussian field with the same `variances`, and as found.
        """
        found = self.energies.var(axis=1) / _or_one(self.energies.mean(axis=1)) ** 2
        gaussian = 2 * np.square(self.variances).sum(axis=1) / _or_one(self.variances.sum(axis=1)) ** 2
        return np.where(found > gaussian, 1 - gaussian / _or_one(found), 0.0)

    def held(self, alpha: Float[np.ndarray, " alphas"]) -> Float[np.ndarray, "bands alphas"]:
        """Return the share of each band's energy that the estimate holds at each signal power, as predicted."""
        certain = self.certainty[:, None]
        return certain * _held(self.energies, alpha) + (1 - certain) * _held(self.variances, alpha)

    def predicted(self, schedule: Schedule, edges: Float[np.ndarray, " edges"], name: str = "blocks") -> Chromatogram:
        """Predict the generation rate of every resolution on a time grid of the schedule."""
        held = self.band_energies[:, None] * self.held(schedule.alpha(edges))
        return Chromatogram.from_signal(held, edges, 2 ** (len(self.energies) - 1), name)

    @property
    def band_energies(self) -> Float[np.ndarray, " bands"]:
        """The energy of every band of an image, about the mean image."""
        side = 2 ** (len(self.energies) - 1)
        counts = [max(size // 3, 1) for size in band_sizes(side)]  # three details a block
        return np.array(counts) * self.energies.mean(axis=1)

    @property
    def band_names(self) -> list[str]:
        """The resolutions, finest first: "64x64", ..., "1x1"."""
        return band_names(2 ** (len(self.energies) - 1))


@dataclass(frozen=True)
class Recall:
    """What a set of training images tells of images like them: in which bands a nearest neighbour helps.

    A model can know a picture because it knows one like it. Then all bands come at once, when noise leaves the log N
    nats that tell which of the N training images it is. Only what differs from the neighbour comes later, by its own
    block energies. At each time the band holds what the better of the two ways tells.

    fresh: block energies of images that are not in the training set, about its mean.
    left: share of each band's energy that differs from the nearest training image, seen as in a mirror or not.
    rest: block energies of what differs.
    log_snr: at which N Gaussian images of the spectrum of the training set are told apart.
    """

    fresh: BlockEnergies
    left: Float[np.ndarray, " bands"]
    rest: BlockEnergies
    log_snr: float

    @classmethod
    def of(cls, training: Images, fresh: Float[np.ndarray, "new channels side side"]) -> "Recall":
        """Measure images that are new, shape (N, C, S, S), against those of a training set."""
        mean, spectrum = training.mean(axis=0), band_spectrum(training)
        fresh, training = fresh - mean, np.concatenate([training, training[..., ::-1]]) - mean
        flat = training.reshape(len(training), -1)
        distances = np.square(flat).sum(axis=1) - 2 * fresh.reshape(len(fresh), -1) @ flat.T
        nearest = training[distances.argmin(axis=1)]
        rest, left = [], []
        for own, other in zip(bands(fresh), bands(nearest), strict=True):
            share = np.clip((own * other).sum() / np.square(other).sum(), 0, 1)
            rest.append(own - share * other)
            left.append(np.square(rest[-1]).sum() / np.square(own).sum())
        nothing = np.zeros(mean.shape)
        log_snr = np.linspace(-16, 8, 2401)
        sizes = mean.shape[0] * np.array(band_sizes(mean.shape[-1]))
        nats = sizes / 2 @ np.log1p(spectrum[:, None] * np.exp(log_snr))
        known = float(np.interp(np.log(len(training)), nats, log_snr))
        return cls(BlockEnergies.of(fresh, nothing), np.array(left), BlockEnergies.of(from_bands(rest), nothing), known)

    def predicted(self, schedule: Schedule, edges: Float[np.ndarray, " edges"], name: str = "recall") -> Chromatogram:
        """Predict the generation rate of every resolution on a time grid of the schedule."""
        alpha, left = schedule.alpha(edges), self.left[:, None]
        recognised = schedule.log_snr(edges) >= self.log_snr
        recalled = (1 - left) * recognised + left * self.rest.held(alpha)
        held = self.fresh.band_energies[:, None] * np.maximum(self.fresh.held(alpha), recalled)
        return Chromatogram.from_signal(held, edges, 2 ** (len(held) - 1), name)


def _blocks(band: np.ndarray) -> Float[np.ndarray, "blocks numbers"]:
    """Return all blocks of a band, each as the numbers in it: 2x2 pixels of every channel, or the one pixel."""
    n, channels, height, width = band.shape
    if height == 1:
        return band.reshape(n, channels)
    cut = band.reshape(n, channels, height // 2, 2, width // 2, 2)
    return np.moveaxis(cut, (2, 4), (1, 2)).reshape(-1, 4 * channels)


def _grouped(energies: np.ndarray) -> Float[np.ndarray, " groups"]:
    """Return the means of equal groups of sorted energies, however many there are."""
    total = np.concatenate([[0.0], np.cumsum(np.sort(energies), dtype=np.float64)])
    shares = np.linspace(0, 1, _GROUPS + 1)
    return np.diff(np.interp(shares, np.arange(len(total)) / len(energies), total)) * _GROUPS / len(energies)


def _held(variances: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return the share that is held of the energy of independent numbers of the given variances, band by band."""
    v = variances[..., None]
    held = (v * v * alpha / np.maximum(v * alpha + (1 - alpha), 1e-300)).sum(axis=1)
    return held / _or_one(variances.sum(axis=1))[:, None]


def _or_one(totals: np.ndarray) -> np.ndarray:
    """Return totals to divide by: 1 where there is nothing, whose share is then 0."""
    return np.where(totals > 0, totals, 1)
