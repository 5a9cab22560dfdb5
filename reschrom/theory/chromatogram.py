"""The chromatogram: generation rates of every resolution over time, predicted or measured, in one type."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from reschrom._arrays import numpy_array, real_number, told, whole_number
from reschrom._extras import naming_extra
from reschrom.theory.bands import Size, band_names, depth, sides, size_of
from reschrom.theory.chromatogram_files import read, write
from reschrom.theory.chromatography import generated_signal
from reschrom.theory.comparison import Comparison, check_same_settings, comparison
from reschrom.theory.information import Information, information_of_guidance
from reschrom.theory.intervals import Interval, StreamingMean, interval_around
from reschrom.theory.rates import centroids_of, checked_rates, generates, never_rising, ridge_of, shares_of, time_grid
from reschrom.theory.schedules import Schedule
from reschrom.theory.source import Source
from reschrom.theory.spectrum import Spectrum
from reschrom.theory.temporal_bands import frame_names

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Chromatogram:
    """Generation rates of each resolution on a time grid: r_m of Eq. (18) before normalisation, or a measurement.

    Attributes
    ----------
    rates : array, shape (levels + 1, steps)
        Energy generated per unit of time, finest resolution first, none negative.
    edges : array, shape (steps + 1,)
        The times between which each rate holds, rising from the image to the noise.
    size : int or (height, width)
        Pixels along one side of the finest resolution; one number where it is square.
    name : str
        How plots and tables call it.
    replicates : array, shape (replicates, levels + 1, steps), optional
        The same rates for every bootstrap replicate of the images; None for a theory, which has no uncertainty.
    source : Source, optional
        What `merge` needs of a measurement; the Chromatograph gives it.
    about : dict
        What was measured and how, in words, for files and reports.
    frames : int, optional
        Of a video whose bands are temporal: how many frames the finest one tells apart. None for bands of resolutions.
    images : int, optional
        How many were measured, those of the source where there is one; None where that is not known.
    noise_error : float
        Root mean square error of the network's prediction of the noise at the noisiest time, in [0, 1], where its
        losses told it (`rates_from_losses`): 0, as of an exact one, otherwise.

    Examples
    --------
    >>> from reschrom import Chromatogram, Schedule
    >>> paper = Chromatogram.predicted(Schedule.cosine(), size=4)
    >>> dict(zip(paper.band_names, paper.centroids().round(2).tolist()))  # mean time of each resolution
    {'4x4': 0.5, '2x2': 0.66, '1x1': 0.8}
    """

    rates: Float[np.ndarray, "bands steps"]
    edges: Float[np.ndarray, " edges"]
    size: Size
    name: str
    replicates: Float[np.ndarray, "replicates bands steps"] | None = None
    source: Source | None = None
    about: dict[str, str] = field(default_factory=dict)
    frames: int | None = None
    images: int | None = None
    noise_error: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", size_of(*sides(self.size)))
        object.__setattr__(self, "edges", time_grid(self.edges))
        bands, steps = len(self.band_names), len(self.edges) - 1
        object.__setattr__(self, "frames", None if self.frames is None else int(self.frames))
        what = f"size {self.size}" if self.frames is None else self.band_names[0]
        object.__setattr__(self, "rates", checked_rates(self.rates, (bands, steps), what))
        if not isinstance(self.name, str):
            raise TypeError(f"the name of a chromatogram is text; got {told(self.name)}")
        real_number("noise_error", self.noise_error, 0, 1)
        if self.replicates is not None:
            shape = (len(self.replicates), bands, steps)
            object.__setattr__(self, "replicates", checked_rates(self.replicates, shape, what))
            if shape[0] < 2:
                raise ValueError(f"a chromatogram has two or more replicates, or None; got {shape[0]}")
        if self.source is not None:
            self.source.check(bands, steps)
            object.__setattr__(self, "images", self.source.energies.count)
        elif self.images is not None:
            object.__setattr__(self, "images", whole_number("the number of images", self.images, least=1))

    @classmethod
    def from_signal(
        cls,
        signal: Float[np.ndarray, "bands edges"],
        edges: Float[np.ndarray, " edges"],
        size: Size,
        name: str,
        replicates: Float[np.ndarray, "replicates bands edges"] | None = None,
        frames: int | None = None,
        images: int | None = None,
    ) -> "Chromatogram":
        """Build a chromatogram from the signal that each resolution holds at each time of `edges`.

        The rates are its loss per unit of time, so they integrate to the signal exactly, whatever the grid. The signal,
        shape (levels + 1, steps + 1), and its bootstrap replicates never rise from image to noise, else ValueError.
        """
        edges, signal = time_grid(edges), numpy_array(signal)
        if signal.shape[1:] != edges.shape:
            raise ValueError(f"a signal has a value for each of the {len(edges)} edges; got the shape {signal.shape}")
        again = None if replicates is None else -np.diff(replicates) / np.diff(edges)
        return cls(-np.diff(signal) / np.diff(edges), edges, size, name, again, frames=frames, images=images)

    @classmethod
    def measured(
        cls,
        source: Source,
        edges: Float[np.ndarray, " edges"],
        size: Size,
        name: str,
        about: dict[str, str] | None = None,
        frames: int | None = None,
    ) -> "Chromatogram":
        """Build the chromatogram of energies that were measured image by image, with its replicates."""
        energies, precision = source.energies, source.precision
        if precision is None:
            return cls(energies.mean, edges, size, name, energies.replicates, source, about or {}, frames)
        signal, again = (never_rising(each, precision) for each in (energies.mean, energies.replicates))
        return replace(cls.from_signal(signal, edges, size, name, again, frames), source=source, about=about or {})

    @classmethod
    def merge(cls, chromatograms: "Sequence[Chromatogram]") -> "Chromatogram":
        """Return what one measurement of all images gives that these measured apart: the same, up to rounding.

        Their images must be others, told by their numbers (`first_image` of a Chromatograph), and all else the same:
        model, settings, timesteps, seed of the bootstrap. Raises ValueError otherwise, and for what was not measured by
        a Chromatograph.
        """
        sources = [each.source for each in chromatograms if each.source is not None]
        if not chromatograms or len(sources) < len(chromatograms):
            raise ValueError("only measurements of a Chromatograph merge, which hold what each image adds to them")
        first = chromatograms[0]
        for other in chromatograms[1:]:
            check_same_settings(first, other)
        source = replace(sources[0], energies=StreamingMean.merge([each.energies for each in sources]))
        return cls.measured(source, first.edges, first.size, first.name, first.about, first.frames)

    @classmethod
    def predicted(
        cls,
        schedule: Schedule,
        size: Size,
        spectrum: Spectrum | None = None,
        edges: Float[np.ndarray, " edges"] | None = None,
        name: str | None = None,
    ) -> "Chromatogram":
        """Build the chromatogram that a noise schedule fixes: the paper's (Eq. 18), or that of a Gaussian field.

        Parameters
        ----------
        schedule : Schedule
            Its time is that of the chromatogram.
        size : int or (height, width)
            Pixels along one side of the images, or along both.
        spectrum : array, MeasuredSpectrum or path, optional
            Variance per coefficient of each band, finest first; None gives the paper's r_m.
        edges : array, shape (steps + 1,), optional
            Times from image to noise; by default 1,000 equal steps over the schedule. A schedule without a last time
            raises ValueError without them.
        name : str, optional
            How plots and tables call it.
        """
        if edges is None:
            if not np.isfinite(schedule.end):
                raise ValueError(f"the {schedule.name} schedule has no last time: give the edges of the time grid")
            edges = np.linspace(schedule.start, schedule.end, 1001)
        edges = time_grid(edges)
        return cls._of_alphas(schedule.alpha(edges), edges, size, spectrum, name)

    @classmethod
    def _of_alphas(
        cls, alphas: np.ndarray, edges: np.ndarray, size: Size, spectrum: Spectrum | None, name: str | None
    ) -> "Chromatogram":
        gained = generated_signal(alphas[:-1], depth(size), spectrum, since=alphas[1:], size=size)
        default = "paper's $r_m$" if spectrum is None else "Gaussian field"
        return cls(gained / np.diff(edges), edges, size, name or default)

    def expected(self, spectrum: Spectrum | None = None) -> "Chromatogram":
        """Return what theory expects in the place of this measurement, on its time grid: `predicted`.

        Of temporal bands it is the paper's argument along time: the mean of n frames has n times less noise, so that a
        halving counts 2 where one of both sides of an image counts 4.

        Raises ValueError for what was not measured by a Chromatograph, and for a spectrum of temporal bands.
        """
        if self.source is None:
            raise ValueError(f"only a measurement of a Chromatograph knows the noise of its times; {self.name} is none")
        alphas = self.source.alphas
        if self.frames is None:
            return self._of_alphas(alphas, self.edges, self.size, spectrum, None)
        if spectrum is not None:
            raise ValueError("a spectrum of images does not say how frames change; expect temporal bands without one")
        levels = len(self.band_names) - 1
        powers = 2.0 ** np.arange(levels + 1)
        # Of its own signal, as the paper counts it.
        share = generated_signal(alphas[:-1], levels, powers, alphas[1:]) / generated_signal(np.ones(1), levels, powers)
        return Chromatogram(share / np.diff(self.edges), self.edges, self.size, "paper's $r_m$", frames=self.frames)

    def information(self) -> Information:
        """Return how fast guidance tells the condition, in nats per unit of log SNR: half the energy of Eq. (19).

        They are nats of the condition as far as the predictions are exact and the images are those of the condition:
        generated with guidance scale 1. Steps that end in the image itself or in pure noise, where the log SNR has no
        end, are left out. Raises ValueError for what is no energy of guidance in units of the noise.
        """
        if self.source is None or not self.source.guidance:
            raise ValueError(
                f"only the energy of guidance of two noise predictions is in nats; {self.name} is not that"
            )
        return information_of_guidance(self.rates, self.source.alphas, self.size, self.replicates, self.images)

    @property
    def times(self) -> Float[np.ndarray, " steps"]:
        """The middle of every step."""
        return (self.edges[1:] + self.edges[:-1]) / 2

    @property
    def band_names(self) -> list[str]:
        """The bands, finest first: as rows x columns, "64x64", ..., "1x1", or in time, "5 frames", ..., "1 frame"."""
        return band_names(self.size) if self.frames is None else frame_names(self.frames)

    @property
    def band_kind(self) -> str:
        """What one band is, in words."""
        return "resolution" if self.frames is None else "temporal resolution"

    @property
    def shares(self) -> Float[np.ndarray, "bands steps"]:
        """The share of each resolution at each time, Eq. (18): the rates divided by their sum, 0 where that is 0."""
        return shares_of(self.rates)

    @property
    def gained_share(self) -> Float[np.ndarray, "bands edges"]:
        """The share of all that each resolution gains which it gains between the image and each edge: 0 to 1.

        At the time of an edge in a generation this share is still to come. 0 for a resolution that never grows.
        """
        gained = np.cumsum(np.pad(self.rates * np.diff(self.edges), ((0, 0), (1, 0))), axis=1)
        return gained / np.where(gained[:, -1:] > 0, gained[:, -1:], 1)

    def named(self, name: str) -> "Chromatogram":
        """Return the same chromatogram under another name."""
        return replace(self, name=name)

    def interval(self, level: float = 0.95, simultaneous: bool = False) -> Interval:
        """Return the bootstrap confidence interval of every share: `lower` and `upper`, shape (levels + 1, steps).

        It covers a share with probability `level` over draws of the images; `simultaneous` widens all intervals by one
        factor, so that they cover all shares at once with that probability. Raises ValueError for a chromatogram
        without replicates.
        """
        again = shares_of(self._replicates())
        return interval_around(self.shares, again, level, simultaneous, (0.0, 1.0), self.images)

    def centroids(self) -> Float[np.ndarray, " bands"]:
        """Return the mean time at which each resolution is generated, finest first, in the units of `edges`.

        NaN for a resolution that is never generated: it has no mean time.
        """
        return centroids_of(self.rates, self.edges)

    def centroid_interval(self, level: float = 0.95, simultaneous: bool = False) -> Interval:
        """Return the bootstrap confidence interval of every centroid, finest resolution first.

        It covers a centroid with probability `level` over draws of the images, or all at once when `simultaneous`, and
        is NaN for a resolution that some replicates never generate. Raises ValueError for a chromatogram without
        replicates.
        """
        again = centroids_of(self._replicates(), self.edges)
        times = self.edges[0], self.edges[-1]
        return interval_around(self.centroids(), again, level, simultaneous, times, self.images)

    def ridge(self) -> Float[np.ndarray, " steps"]:
        """Return the share-weighted mean level of what is generated at each step: 0 is the finest resolution.

        NaN where nothing is generated but rounding.
        """
        return ridge_of(self.shares, generates(self.rates, self.edges))

    def ridge_interval(self, level: float = 0.95) -> Interval:
        """Return the bootstrap confidence interval of the ridge at each step; ValueError without replicates.

        NaN where some replicates generate nothing.
        """
        replicates = self._replicates()
        where = generates(self.rates, self.edges) & (replicates.sum(axis=1) > 0).all(axis=0)
        again = ridge_of(shares_of(replicates), where)
        return interval_around(self.ridge(), again, level, False, (0.0, float(len(self.rates) - 1)), self.images)

    def compare(self, other: "Chromatogram") -> Comparison:
        """Return the distance of the centroids and the divergence of the shares of two chromatograms on one time grid.

        Raises ValueError for other bands or another time grid.
        """
        if not isinstance(other, Chromatogram):
            raise TypeError(f"a chromatogram is compared with another; got {type(other).__name__}")
        return comparison(self, other)

    @naming_extra("Chromatogram.to_dataframe")
    def to_dataframe(self) -> "pandas.DataFrame":
        """Return the shares as a table, one row per time and one column per band."""
        import pandas

        table = pandas.DataFrame(self.shares.T, columns=self.band_names)
        table.insert(0, "time", self.times)
        return table

    def plot(self) -> "Figure":
        """Draw the paper's heat map: the share of each resolution over time, noise at the left."""
        from reschrom import plots

        return plots.chromatogram(self, title=self.name)

    def save(self, path: str | Path) -> None:
        """Write the chromatogram to a JSON or NPZ file, by its extension, every number in full precision."""
        write(self, path)

    @classmethod
    def load(cls, path: str | Path) -> "Chromatogram":
        """Read a chromatogram that `save` wrote. Raises ValueError for any other file."""
        return read(cls, path)

    def _replicates(self) -> Float[np.ndarray, "replicates bands steps"]:
        if self.replicates is None:
            raise ValueError(f"an interval needs the replicates of a measurement; {self.name} has none")
        return self.replicates
