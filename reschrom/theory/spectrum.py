"""The band spectrum of a data set of any size, with intervals, and the small file that carries it to other commands."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from reschrom._arrays import Array, finite, numpy_array, refuse_as_in_files, shape_told, whole_number
from reschrom._files import replacing, shipped
from reschrom._reading import arrays_in, json_in, numbers, parsed, refusing, text, texts, whole
from reschrom.theory.bands import Size, band_energies, band_names, band_sizes, depth, sides, size_of
from reschrom.theory.intervals import Ranges, joined, ranges_in

# Two-sided 95 % point of the normal distribution.
_NORMAL = 1.959963984540054
# The squares of the energies of smaller numbers are finite.
_LARGEST = 1e35
# Images whose scatter is measured together: however many processes share the work, these stay the same.
CHUNK = 64
# So many numbers are worked on at once: a processor holds them close by, which large images are not as a chunk.
_NEAR = 2**18


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

    def __post_init__(self) -> None:
        bands = depth(self.size) + 1
        ends = [numpy_array(each) for each in (self.lower, self.variance, self.upper)]
        if any(each.shape != (bands,) for each in ends):
            raise ValueError(
                f"a spectrum of {band_names(self.size)[0]} pixels has {bands} variances, each with an interval; "
                f"got {[each.shape for each in ends]}"
            )
        lower, variance, upper = ends
        if not np.all((lower >= 0) & (lower <= variance) & (variance <= upper) & (upper < np.inf)):
            raise ValueError("the variances of a spectrum are finite, none negative, and each lies in its interval")
        whole_number("the number of images of a spectrum", self.images, least=1)
        if self.sums is not None and (self.sums.count, self.sums.mean.shape[-2:]) != (self.images, sides(self.size)):
            raise ValueError(f"the sums of a spectrum are those of its {self.images} images; got {self.sums.count}")

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
        with refusing(path, "holds no spectrum"):
            if Path(path).suffix.lower() == ".npz":
                return cls._from_arrays(shipped(path))
            content = json_in(shipped(path))
            bands = content["bands"]
            height, width = (int(side) for side in next(iter(bands), "").split("x"))  # of the finest
            if list(bands) != band_names((height, width)):
                raise ValueError(f"its bands are {', '.join(bands)}")
            variance, lower, upper = (
                numbers([band[key] for band in bands.values()], "the variances of a spectrum are numbers")
                for key in ("variance", "lower", "upper")
            )
            images, about = whole(content["images"], "the number of images"), texts(content["about"], "about")
            return cls(variance, lower, upper, images, size_of(height, width), about)

    @classmethod
    def _from_arrays(cls, path: Path) -> "MeasuredSpectrum":
        held = arrays_in(path)
        sums = SpectrumSums.from_state(held) if "mean" in held else None
        variance, lower, upper = (
            numbers(held[key], "the variances of a spectrum are numbers") for key in ("variance", "lower", "upper")
        )
        if sums is not None and not np.allclose(sums.measured({}).variance, variance):
            raise ValueError("its variances are not those of its sums over images")
        size, images = size_of(*sides(tuple(held["size"].tolist()))), whole(held["images"], "the number of images")
        return cls(variance, lower, upper, images, size, texts(parsed(text(held["about"], "about")), "about"), sums)


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
    whole_number("the number of the first image", first_image)
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
        chunk = _checked(chunk)
        so_far, pieces = chunk[0], []
        at_once = max(_NEAR // so_far.size, 1)
        for before in range(1, max(len(chunk), 2), at_once):  # one image alone has a piece too, of no differences
            piece = chunk[before : before + at_once]
            numbers = np.arange(before, before + len(piece))[:, None, None, None]
            sums = np.cumsum([so_far, *piece], axis=0)
            pieces.append(_per_coefficient((piece - sums[:-1] / numbers) * np.sqrt(numbers / (numbers + 1))))
            so_far = sums[-1]
        energies = np.concatenate(pieces, axis=1)
        total = energies.sum(axis=1)
        mine: dict[str, Ranges] = {source: ((first_image, first_image + len(chunk)),)}
        return cls(mine, so_far / len(chunk), total, total, np.square(energies).sum(axis=1), energies.shape[1])

    @classmethod
    def merge(cls, sums: "Iterable[SpectrumSums]") -> "SpectrumSums":
        """Return the sums over the images of all these. Raises ValueError for images that two of them hold."""
        each = iter(sums)
        first = next(each, None)
        if first is None:
            raise ValueError("a spectrum needs two or more images; got none")
        return reduce(cls._with, each, first)

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
        named = parsed(text(state["numbers"], "the numbers of images")).items()
        images = {source: ranges_in(ranges) for source, ranges in named}
        mean, *sums = (
            numbers(state[name], "sums over images are numbers") for name in ("mean", "energy", "within", "squares")
        )
        energy, within, squares = sums
        found = cls(images, mean, energy, within, squares, whole(state["differences"], "differences"))
        finite("sums over images", mean, *sums)
        if max(np.abs(each).max(initial=0) for each in (mean, *sums)) > _LARGEST**4:
            raise ValueError("sums over images are too large")
        if found.mean.ndim != 3 or not found.mean.size or not 0 < found.differences < found.count:
            raise ValueError(f"sums over images have a mean image and fewer differences; got {found.mean.shape}")
        bands = depth(size_of(*found.mean.shape[-2:])) + 1
        if any(each.shape != (bands,) or np.any(each < 0) for each in sums):
            raise ValueError(f"sums over images are those of {bands} bands, none negative")
        return found

    def measured(self, about: dict[str, str]) -> MeasuredSpectrum:
        """Return the spectrum of these images, two or more."""
        if self.count < 2 or not self.differences:
            raise ValueError(f"a spectrum needs two or more images; got {self.count}")
        variance, typical = self.energy / (self.count - 1), self.within / self.differences
        scatter = np.maximum(self.squares / self.differences - typical**2, 0)
        scatter *= self.differences / max(self.differences - 1, 1)  # unbiased
        error = np.sqrt(scatter / (self.count - 1)) / np.where(variance > 0, variance, 1)
        with np.errstate(over="ignore"):  # an interval without end is refused
            factor = np.exp(_NORMAL * error)
        size = size_of(*self.mean.shape[-2:])
        return MeasuredSpectrum(variance, variance / factor, variance * factor, self.count, size, about, self)


def chunks(batches: Iterable[Array]) -> Iterator[np.ndarray]:
    """Cut batches of images into chunks of CHUNK, the last of which may be smaller."""
    waiting: list[np.ndarray] = []
    for given in batches:
        batch = _checked(given)
        if waiting and batch.shape[1:] != waiting[0].shape[1:]:
            wanted = ", ".join(map(str, waiting[0].shape[1:]))
            raise ValueError(f"a spectrum needs images of one size, shape (N, {wanted}); got {tuple(batch.shape)}")
        waiting.append(batch)
        while sum(map(len, waiting)) >= CHUNK:
            together = np.concatenate(waiting)
            yield together[:CHUNK]
            waiting = [together[CHUNK:]]
    if sum(map(len, waiting)):
        yield np.concatenate(waiting)


def _checked(images: Array) -> np.ndarray:
    """Return images in double precision, after checking that they are finite and have four axes."""
    images = numpy_array(images).astype(np.float64, copy=False)
    if images.ndim != 4 or not images.shape[1]:
        raise ValueError(f"a spectrum needs images of one size, shape (N, C, H, W); got {shape_told(images)}")
    finite("images", images)
    refuse_as_in_files(images)
    if images.size and max(images.max(), -images.min()) > _LARGEST:
        raise ValueError(f"a spectrum needs images whose squares are finite, values up to {_LARGEST:g}")
    return images


def _per_coefficient(images: np.ndarray) -> np.ndarray:
    """Return the energy of every band of every image per coefficient, shape (levels + 1, images)."""
    return band_energies(images) / (images.shape[1] * np.array(band_sizes(images.shape[-2:])))[:, None]
