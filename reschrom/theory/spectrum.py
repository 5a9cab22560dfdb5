"""The band spectrum of a data set of any size, with intervals, and the small file that carries it to other commands."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Num

from reschrom._arrays import Array, finite
from reschrom._files import replacing, shipped
from reschrom.theory.bands import Size, band_energies, band_names, band_sizes, size_of

# Two-sided 95 % point of the normal distribution.
_NORMAL = 1.959963984540054


@dataclass(frozen=True, eq=False)
class MeasuredSpectrum:
    """The variance per coefficient of every resolution band of a data set, finest first, with intervals.

    variance: `band_spectrum` of all images, shape (levels + 1,).
    lower, upper: ends of the 95 % interval of every variance, over draws of the images.
    images: how many were measured.
    size: theirs, pixels along one side or (height, width).
    about: what they were, and how the file was made.
    """

    variance: Float[np.ndarray, " bands"]
    lower: Float[np.ndarray, " bands"]
    upper: Float[np.ndarray, " bands"]
    images: int
    size: Size
    about: dict[str, str] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write the spectrum to a JSON file, every number in full precision."""
        bands = {
            name: {"variance": float(v), "lower": float(low), "upper": float(high)}
            for name, v, low, high in zip(band_names(self.size), self.variance, self.lower, self.upper, strict=True)
        }
        content = {"bands": bands, "images": self.images, "about": self.about}
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "MeasuredSpectrum":
        """Read what `save` wrote. Raises ValueError, naming the file, for anything else."""
        try:
            content = json.loads(shipped(path).read_text(encoding="utf-8"))
            bands = content["bands"]
            height, width = (int(side) for side in next(iter(bands), "").split("x"))  # of the finest
            if list(bands) != band_names((height, width)):
                raise ValueError(f"its bands are {', '.join(bands)}")
            variance, lower, upper = (
                np.array([float(band[key]) for band in bands.values()]) for key in ("variance", "lower", "upper")
            )
            images, about = int(content["images"]), dict(content["about"])
            return cls(variance, lower, upper, images, size_of(height, width), about)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} holds no spectrum: {error}") from error


# What tells the variance of every band: numbers, finest first, or a measurement, or the file that holds one.
Spectrum = Num[Array, " bands"] | Sequence[float] | str | Path | MeasuredSpectrum


def loaded(spectrum: Spectrum) -> MeasuredSpectrum | Num[Array, " bands"] | Sequence[float]:
    """Return a spectrum, read from its file if it is one."""
    return MeasuredSpectrum.load(spectrum) if isinstance(spectrum, (str, Path)) else spectrum


def variances(spectrum: Spectrum) -> Num[Array, " bands"] | Sequence[float]:
    """Return the variance of every band: of a measurement, or of its file, or `spectrum` itself if it is numbers."""
    spectrum = loaded(spectrum)
    return spectrum.variance if isinstance(spectrum, MeasuredSpectrum) else spectrum


def measure_spectrum(
    images: Num[Array, "images channels height width"] | Iterable[Array], about: dict[str, str] | None = None
) -> MeasuredSpectrum:
    """Measure the variance per coefficient of every resolution band, about the mean image, in constant memory.

    Parameters
    ----------
    images : array, shape (N, C, H, W), or iterable of such batches
        Two or more images of one size, else ValueError; each batch is dropped after its turn.
    about : dict, optional
        What the images are, for the file.

    Returns
    -------
    MeasuredSpectrum
        The `band_spectrum` of all images together, with 95 % intervals, normal in the logarithm of the variance.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import measure_spectrum
    >>> noise = np.random.default_rng(0).standard_normal((1000, 3, 4, 4))
    >>> measure_spectrum(noise).variance.round(1).tolist()  # of 4x4, 2x2 and 1x1 pixels; white noise has 1 in each
    [1.0, 1.0, 1.0]
    """
    running = _RunningSpectrum()
    for batch in [images] if hasattr(images, "shape") else images:
        running.add(batch)
    return running.measured(about or {})


class _RunningSpectrum:
    """The band energies of images about their mean, as images come.

    The difference of each image from the mean of those before it, the k-th scaled by (k - 1) / k in energy, has the
    expected energy of the field, and these differences are uncorrelated (Helmert). So their energies sum to the
    unbiased variance, and their scatter is its error.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean: np.ndarray = np.zeros(())
        self._energy = self._squares = np.zeros(())

    def add(self, batch: Array) -> None:
        """Count one more batch of images, shape (N, C, H, W)."""
        differences = self._differences(batch)
        coefficients = differences.shape[1] * np.array(band_sizes(differences.shape[-2:]))
        energies = band_energies(differences) / coefficients[:, None]  # that of the first image is 0
        self._energy = self._energy + energies.sum(axis=1)
        self._squares = self._squares + np.square(energies).sum(axis=1)
        self._count += len(differences)

    def measured(self, about: dict[str, str]) -> MeasuredSpectrum:
        """Return the spectrum of all images so far, two or more."""
        if self._count < 2:
            raise ValueError(f"a spectrum needs two or more images; got {self._count}")
        variance = self._energy / (self._count - 1)
        scatter = np.maximum(self._squares / (self._count - 1) - variance**2, 0)
        error = np.sqrt(scatter / max(self._count - 2, 1)) / np.where(variance > 0, variance, 1)
        factor = np.exp(_NORMAL * error)
        size = size_of(*self._mean.shape[-2:])
        return MeasuredSpectrum(variance, variance / factor, variance * factor, self._count, size, about)

    def _differences(self, batch: Array) -> np.ndarray:
        """Return each image less the mean of all before it, scaled as Helmert does; renew the mean."""
        count, mean = self._count, self._mean
        if batch.ndim != 4 or (count and batch.shape[1:] != mean.shape):
            wanted = "(N, C, H, W)" if not count else f"(N, {', '.join(map(str, mean.shape))})"
            raise ValueError(f"a spectrum needs images of one size, shape {wanted}; got {tuple(batch.shape)}")
        finite("images", batch)
        batch = np.asarray(batch, dtype=np.float64)
        numbers = np.arange(count + 1, count + len(batch) + 1)[:, None, None, None]
        means = (np.cumsum(batch, axis=0) + count * mean) / numbers
        before = np.concatenate([means[:1] * 0 + mean, means[:-1]])
        self._mean = means[-1]
        return (batch - before) * np.sqrt((numbers - 1) / numbers)
