"""What an image keeps when it is noised to some time and generated again (SDEdit; "image to image" in diffusers).

Let x_t be a noised image x_0, and x_0' what is generated from it with fresh noise. If x_0' is a draw of the posterior,
then whatever the data, `E<b x_0, b x_0'> = E||b E[x_0 | x_t]||^2` in every band b: what survives is what is decided.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from reschrom.bootstrap import StreamingMean
from reschrom.chromatogram import Chromatogram
from reschrom.posteriors import Images
from reschrom.prompts import predicted_share
from reschrom.resolution import bands


class Survival(NamedTuple):
    """The share of every band that survived, finest first, and the same for every bootstrap replicate of the images."""

    share: Float[np.ndarray, " bands"]
    replicates: Float[np.ndarray, "replicates bands"]

    def interval(self, level: float = 0.95) -> tuple[Float[np.ndarray, " bands"], Float[np.ndarray, " bands"]]:
        """Return the bounds between which the middle `level` of the replicates lies, for every band."""
        outside = (1 - level) / 2
        return np.quantile(self.replicates, outside, axis=0), np.quantile(self.replicates, 1 - outside, axis=0)


def survival(original: Images, edited: Float[np.ndarray, "_ _ _ _"], seed: int = 0) -> Survival:
    """Measure how much of each resolution band of images survives in what was made of them: 0 is nothing, 1 is all.

    It is the regression coefficient of the bands of the results on those of the originals, about the mean images:
    `sum <b x', b x> / sum ||b x||^2` for a band b. An estimate of E[x_0 | x_t] may stand for the results that would be
    generated from x_t; with fresh noise they have this mean.

    original, edited: the same images before and after, two or more.
    seed: of the bootstrap over images.
    Raises ValueError for other shapes, and where the originals do not differ in a band.
    """
    if original.shape != edited.shape or original.ndim != 4 or len(original) < 2:
        raise ValueError(
            "survival needs two or more images before and after, of one shape (N, C, S, S); got "
            f"{original.shape} and {edited.shape}"
        )
    before, after = (bands(np.asarray(x - x.mean(axis=0), dtype=np.float64)) for x in (original, edited))
    inner = [4.0**m * np.sum(a * b, axis=(1, 2, 3)) for m, (a, b) in enumerate(zip(before, after, strict=True))]
    norm = [4.0**m * np.sum(a * a, axis=(1, 2, 3)) for m, a in enumerate(before)]
    mean = StreamingMean(seed)
    mean.add(np.stack([inner, norm]).transpose(2, 0, 1), 0)
    if not np.all(mean.mean[1] > 0):
        raise ValueError("the originals must differ in every band: what is the same in all cannot be seen to survive")
    return Survival(mean.mean[0] / mean.mean[1], mean.replicates[:, 0] / mean.replicates[:, 1])


def predicted_survival(
    chromatogram: Chromatogram, times: Float[np.ndarray, " times"]
) -> Float[np.ndarray, "bands times"]:
    """Return the share of each band that is generated before each time, and so survives noising to it.

    times: in the units of the chromatogram; at its last, pure noise, nothing survives.
    Exact for images from the distribution that is generated, and results that are draws of the posterior.
    """
    end = float(chromatogram.edges[-1])
    return 1 - predicted_share(chromatogram, times / end, end)
