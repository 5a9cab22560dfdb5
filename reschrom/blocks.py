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
from reschrom.resolution import band_names, band_sizes, bands, depth
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
        found = self.energies.var(axis=1) / self.energies.mean(axis=1) ** 2
        gaussian = 2 * np.square(self.variances).sum(axis=1) / self.variances.sum(axis=1) ** 2
        return np.clip(1 - gaussian / np.where(found > 0, found, np.inf), 0, 1)

    def held(self, alpha: Float[np.ndarray, " alphas"]) -> Float[np.ndarray, "bands alphas"]:
        """Return the share of each band's energy that the estimate holds at each signal power, as predicted."""
        certain = self.certainty[:, None]
        return certain * _held(self.energies, alpha) + (1 - certain) * _held(self.variances, alpha)

    def predicted(self, schedule: Schedule, edges: Float[np.ndarray, " edges"], name: str = "blocks") -> Chromatogram:
        """Predict the generation rate of every resolution on a time grid of the schedule."""
        side = 2 ** (len(self.energies) - 1)
        counts = np.array([max(size // 3, 1) for size in band_sizes(side)])  # three details a block
        energy = counts * self.energies.mean(axis=1)
        return Chromatogram.from_signal(energy[:, None] * self.held(schedule.alpha(edges)), edges, side, name)

    @property
    def band_names(self) -> list[str]:
        """The resolutions, finest first: "64x64", ..., "1x1"."""
        return band_names(2 ** (len(self.energies) - 1))


def _blocks(band: np.ndarray) -> Float[np.ndarray, "blocks numbers"]:
    """Return all blocks of a band, each as the numbers in it: 2x2 pixels of every channel, or the one pixel."""
    n, channels, height, width = band.shape
    if height == 1:
        return band.reshape(n, channels)
    cut = band.reshape(n, channels, height // 2, 2, width // 2, 2)
    return np.moveaxis(cut, (2, 4), (1, 2)).reshape(-1, 4 * channels)


def _grouped(energies: np.ndarray) -> Float[np.ndarray, " groups"]:
    """Return the means of equal groups of sorted energies, however many there are."""
    total = np.concatenate([[0.0], np.cumsum(np.sort(energies))])
    shares = np.linspace(0, 1, _GROUPS + 1)
    return np.diff(np.interp(shares, np.arange(len(total)) / len(energies), total)) * _GROUPS / len(energies)


def _held(variances: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return the share that is held of the energy of independent numbers of the given variances, band by band."""
    v = variances[..., None]
    held = (v * v * alpha / np.maximum(v * alpha + (1 - alpha), 1e-300)).sum(axis=1)
    return held / variances.sum(axis=1)[:, None]
