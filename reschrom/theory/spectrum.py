"""The band spectrum of a data set of any size, with intervals, and the small file that carries it to other commands."""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float, Num

from reschrom._arrays import Array, finite
from reschrom._files import replacing, shipped
from reschrom.theory.bands import Size, band_energies, band_names, band_sizes, sides, size_of
from reschrom.theory.intervals import Ranges, joined

# Two-sided 95 % point of the normal distribution.
_NORMAL = 1.959963984540054
# Images whose scatter is measured together: however many processes share the work, these stay the same.
CHUNK = 64


@dataclass(frozen=True, eq=False)
class MeasuredSpectrum:
    """The variance per coefficient of every resolution band of a data set, finest first, with intervals.

    variance: `band_spectrum` of all images, shape (levels + 1,).
    lower, upper: ends of the 95 % interval of every variance, over draws of the images.
    images: how many were measured.
    size: theirs, pixels along one side or (height, width).
    about: what they were, and how the file was made.
    sums: what `merge` needs, which holds an image; the small JSON file leaves it out.
    """

    variance: Float[np.ndarray, " bands"]
    lower: Float[np.ndarray, " bands"]
    upper: Float[np.ndarray, " bands"]
    images: int
    size: Size
    about: dict[str, str] = field(default_factory=dict)
    sums: "SpectrumSums | None" = None

    @classmethod
    def merge(cls, spectra: "Sequence[MeasuredSpectrum]") -> "MeasuredSpectrum":
        """Return what one measurement of all images gives that these measured apart: the same, up to rounding.

        Parts of one source are cut between chunks of CHUNK images for that. Raises ValueError for an image that two of
        them hold, for other settings than the source, and for what a JSON file gave, which does not hold enough.
        """
        sums = [each.sums for each in spectra if each.sums is not None]
        if not spectra or len(sums) < len(spectra):
            raise ValueError("spectra merge that were measured here or read from an .npz file; .json holds too little")
        sources = [each.about.get("source", "") for each in spectra]
        about = [{key: value for key, value in each.about.items() if key != "source"} for each in spectra]
        for key in {**about[0], **{key: "" for each in about for key in each}}:
            if len(different := sorted({str(each.get(key)) for each in about})) > 1:
                raise ValueError(f"only spectra with the same settings merge; {key} differs: {' and '.join(different)}")
        ordered = sorted(sums, key=lambda each: sorted(each.numbers.items()))
        together = {"source": ", ".join(dict.fromkeys(sources))} if any(sources) else {}
        return SpectrumSums.merge(ordered).measured({**together, **about[0]})

    def save(self, path: str | Path) -> None:
        """Write the spectrum, every number in full precision: to .json for reading, or to .npz, which merges too."""
        if Path(path).suffix.lower() == ".npz":
            arrays: dict[str, Any] = {
                "variance": self.variance,
                "lower": self.lower,
                "upper": self.upper,
                "images": self.images,
                "size": sides(self.size),
            }
            held = {} if self.sums is None else self.sums.state()
            about = json.dumps(self.about)
            with replacing(path) as temporary:
                np.savez_compressed(temporary, allow_pickle=False, about=about, **arrays, **held)
            return
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
            if Path(path).suffix.lower() == ".npz":
                return cls._from_arrays(shipped(path))
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
        except (ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} holds no spectrum: {error}") from error

    @classmethod
    def _from_arrays(cls, path: Path) -> "MeasuredSpectrum":
        with path.open("rb") as file:
            held = dict(np.load(file, allow_pickle=False))
        sums = SpectrumSums.from_state(held) if "mean" in held else None
        variance, lower, upper = (held[key] for key in ("variance", "lower", "upper"))
        size = tuple(held["size"].tolist())
        return cls(variance, lower, upper, int(held["images"]), size_of(*size), json.loads(str(held["about"])), sums)


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
    images: Num[Array, "images channels height width"] | Iterable[Array],
    about: dict[str, str] | None = None,
    first_image: int = 0,
) -> MeasuredSpectrum:
    """Measure the variance per coefficient of every resolution band, about the mean image, in constant memory.

    Parameters
    ----------
    images : array, shape (N, C, H, W), or iterable of such batches
        Two or more images of one size, else ValueError; each batch is dropped after its turn.
    about : dict, optional
        What the images are, for the file; "source" names where they come from.
    first_image : int
        The number of the first image in its source, a multiple of CHUNK, where parts of a source are measured apart and
        merged (`MeasuredSpectrum.merge`).

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
    about = about or {}
    batches: Iterable[Array] = [images] if hasattr(images, "shape") else images
    cut = enumerate(chunks(batches))
    sums = (SpectrumSums.of(chunk, first_image + CHUNK * number, about.get("source", "")) for number, chunk in cut)
    return SpectrumSums.merge(sums).measured(about)


@dataclass(frozen=True, eq=False)
class SpectrumSums:
    """What a spectrum is made of, to which other images can be added: energies of the bands per coefficient.

    numbers: which images of which source, as ranges.
    mean: the mean image, shape (C, H, W).
    energy: of all images about that mean, summed, shape (levels + 1,).
    within, squares: sums of the energies of the differences inside each chunk, and of their squares, same shape.
    differences: how many of these there are.
    """

    numbers: dict[str, Ranges]
    mean: Float[np.ndarray, "channels height width"]
    energy: Float[np.ndarray, " bands"]
    within: Float[np.ndarray, " bands"]
    squares: Float[np.ndarray, " bands"]
    differences: int

    @property
    def count(self) -> int:
        """How many images there are."""
        return sum(last - first for ranges in self.numbers.values() for first, last in ranges)

    @classmethod
    def of(cls, chunk: Array, first_image: int, source: str) -> "SpectrumSums":
        """Sum up one chunk of images, shape (N, C, H, W).

        The difference of each image from the mean of those before it, the k-th scaled by (k - 1) / k in energy, has the
        expected energy of the field, and these differences are uncorrelated (Helmert). So their energies sum to the
        unbiased variance, and their scatter is its error.
        """
        _check_images(chunk)
        chunk = np.asarray(chunk, dtype=np.float64)
        numbers = np.arange(1, len(chunk) + 1)[:, None, None, None]
        means = np.cumsum(chunk, axis=0) / numbers
        differences = (chunk[1:] - means[:-1]) * np.sqrt((numbers[1:] - 1) / numbers[1:])
        energies = _per_coefficient(differences)
        total = energies.sum(axis=1)
        mine: dict[str, Ranges] = {source: ((first_image, first_image + len(chunk)),)}
        return cls(mine, means[-1], total, total, np.square(energies).sum(axis=1), len(differences))

    @classmethod
    def merge(cls, sums: "Iterable[SpectrumSums]") -> "SpectrumSums":
        """Return the sums over the images of all these. Raises ValueError for images that two of them hold."""
        return reduce(cls._with, sums)

    def _with(self, other: "SpectrumSums") -> "SpectrumSums":
        if self.mean.shape != other.mean.shape:
            wanted = ", ".join(map(str, self.mean.shape))
            raise ValueError(
                f"a spectrum needs images of one size, shape (N, {wanted}); got {other.mean.shape} for one"
            )
        numbers = {
            source: joined(self.numbers.get(source, ()), other.numbers.get(source, ()))
            for source in {**self.numbers, **other.numbers}
        }
        one, two = self.count, other.count
        apart = other.mean - self.mean
        between = _per_coefficient(apart[None])[:, 0] * (one * two / (one + two))
        return SpectrumSums(
            numbers,
            self.mean + apart * (two / (one + two)),
            self.energy + other.energy + between,
            self.within + other.within,
            self.squares + other.squares,
            self.differences + other.differences,
        )

    def state(self) -> dict[str, Any]:
        """Return all that is held, as arrays to keep."""
        arrays = {name: getattr(self, name) for name in ("mean", "energy", "within", "squares")}
        return {**arrays, "differences": self.differences, "numbers": json.dumps(self.numbers)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "SpectrumSums":
        """Return the sums whose `state` this is."""
        numbers = {
            source: joined((), tuple((int(first), int(last)) for first, last in ranges))
            for source, ranges in json.loads(str(state["numbers"])).items()
        }
        mean, energy, within, squares = (state[name] for name in ("mean", "energy", "within", "squares"))
        return cls(numbers, mean, energy, within, squares, int(state["differences"]))

    def measured(self, about: dict[str, str]) -> MeasuredSpectrum:
        """Return the spectrum of these images, two or more."""
        if self.count < 2 or not self.differences:
            raise ValueError(f"a spectrum needs two or more images; got {self.count}")
        variance, typical = self.energy / (self.count - 1), self.within / self.differences
        scatter = np.maximum(self.squares / self.differences - typical**2, 0)
        scatter *= self.differences / max(self.differences - 1, 1)  # unbiased
        error = np.sqrt(scatter / (self.count - 1)) / np.where(variance > 0, variance, 1)
        factor = np.exp(_NORMAL * error)
        size = size_of(*self.mean.shape[-2:])
        return MeasuredSpectrum(variance, variance / factor, variance * factor, self.count, size, about, self)


def chunks(batches: Iterable[Array]) -> Iterator[np.ndarray]:
    """Cut batches of images into chunks of CHUNK, the last of which may be smaller."""
    waiting: list[np.ndarray] = []
    for batch in batches:
        _check_images(batch)
        if waiting and batch.shape[1:] != waiting[0].shape[1:]:
            wanted = ", ".join(map(str, waiting[0].shape[1:]))
            raise ValueError(f"a spectrum needs images of one size, shape (N, {wanted}); got {tuple(batch.shape)}")
        waiting.append(np.asarray(batch, dtype=np.float64))
        while sum(map(len, waiting)) >= CHUNK:
            together = np.concatenate(waiting)
            yield together[:CHUNK]
            waiting = [together[CHUNK:]]
    if sum(map(len, waiting)):
        yield np.concatenate(waiting)


def _check_images(images: Array) -> None:
    if images.ndim != 4:
        raise ValueError(f"a spectrum needs images of one size, shape (N, C, H, W); got {tuple(images.shape)}")
    finite("images", images)


def _per_coefficient(images: np.ndarray) -> np.ndarray:
    """Return the energy of every band of every image per coefficient, shape (levels + 1, images)."""
    return band_energies(images) / (images.shape[1] * np.array(band_sizes(images.shape[-2:])))[:, None]
