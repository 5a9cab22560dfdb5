"""The chromatogram: generation rates of every resolution over time, predicted or measured, in one type."""

import json
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Bool, Float

from reschrom._extras import naming_extra
from reschrom._files import replacing
from reschrom.theory.bands import Size, band_names, depth, sides, size_of
from reschrom.theory.chromatography import generated_signal
from reschrom.theory.intervals import Interval, interval_around
from reschrom.theory.schedules import Schedule
from reschrom.theory.spectrum import Spectrum

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


class Comparison(NamedTuple):
    """How far one chromatogram is from another.

    centroid_distance: mean distance between the centroids of the bands that both generate, in units of time; NaN where
        there is none.
    divergence: Jensen-Shannon divergence between the shares, in nats, averaged over the times at which both generate
        anything; NaN where there is none.
    """

    centroid_distance: float
    divergence: float


# Of all that is generated, the part that differences of sums over images may leave in a step without being there.
_ROUNDING = 1e-9


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", size_of(*sides(self.size)))
        object.__setattr__(self, "edges", _time_grid(self.edges))
        bands, steps = len(band_names(self.size)), len(self.edges) - 1
        object.__setattr__(self, "rates", _checked_rates(self.rates, (bands, steps), self.size))
        if self.replicates is not None:
            shape = (len(self.replicates), bands, steps)
            object.__setattr__(self, "replicates", _checked_rates(self.replicates, shape, self.size))

    @classmethod
    def from_signal(
        cls,
        signal: Float[np.ndarray, "bands edges"],
        edges: Float[np.ndarray, " edges"],
        size: Size,
        name: str,
        replicates: Float[np.ndarray, "replicates bands edges"] | None = None,
    ) -> "Chromatogram":
        """Build a chromatogram from the signal that each resolution holds at each time of `edges`.

        The rates are its loss per unit of time, so they integrate to the signal exactly, whatever the grid. The signal,
        shape (levels + 1, steps + 1), and its bootstrap replicates never rise from image to noise, else ValueError.
        """
        edges = _time_grid(edges)
        if signal.shape[1:] != edges.shape:
            raise ValueError(f"a signal has a value for each of the {len(edges)} edges; got the shape {signal.shape}")
        again = None if replicates is None else -np.diff(replicates) / np.diff(edges)
        return cls(-np.diff(signal) / np.diff(edges), edges, size, name, again)

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
        edges = _time_grid(edges)
        alpha = schedule.alpha(edges)
        gained = generated_signal(alpha[:-1], depth(size), spectrum, since=alpha[1:], size=size)
        default = "paper's $r_m$" if spectrum is None else "Gaussian field"
        return cls(gained / np.diff(edges), edges, size, name or default)

    @property
    def times(self) -> Float[np.ndarray, " steps"]:
        """The middle of every step."""
        return (self.edges[1:] + self.edges[:-1]) / 2

    @property
    def band_names(self) -> list[str]:
        """The resolutions, finest first, as rows x columns: "64x64", ..., "1x1"."""
        return band_names(self.size)

    @property
    def shares(self) -> Float[np.ndarray, "bands steps"]:
        """The share of each resolution at each time, Eq. (18): the rates divided by their sum, 0 where that is 0."""
        return _shares(self.rates)

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
        return interval_around(self.shares, _shares(self._replicates()), level, simultaneous, bounds=(0.0, 1.0))

    def centroids(self) -> Float[np.ndarray, " bands"]:
        """Return the mean time at which each resolution is generated, finest first, in the units of `edges`.

        NaN for a resolution that is never generated: it has no mean time.
        """
        return _centroids(self.rates, self.edges)

    def centroid_interval(self, level: float = 0.95) -> Interval:
        """Return the bootstrap confidence interval of every centroid, finest resolution first.

        It covers a centroid with probability `level` over draws of the images, and is NaN for a resolution that some
        replicates never generate. Raises ValueError for a chromatogram without replicates.
        """
        again = _centroids(self._replicates(), self.edges)
        return interval_around(self.centroids(), again, level, False, bounds=(self.edges[0], self.edges[-1]))

    def compare(self, other: "Chromatogram") -> Comparison:
        """Return the distance of the centroids and the divergence of the shares of two chromatograms on one time grid.

        Raises ValueError for other bands or another time grid.
        """
        if self.size != other.size or self.edges.shape != other.edges.shape or not np.allclose(self.edges, other.edges):
            raise ValueError(
                f"two chromatograms are compared on the same bands and the same time grid; got {self._grid()} "
                f"and {other._grid()}"
            )
        p, q = self.shares, other.shares
        middle = (p + q) / 2
        jensen_shannon = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
        distances = np.abs(self.centroids() - other.centroids())
        both = self._generates() & other._generates()
        return Comparison(
            _mean(distances, weights=np.isfinite(distances)),
            _mean(jensen_shannon, weights=np.diff(self.edges) * both),
        )

    @naming_extra("Chromatogram.to_dataframe")
    def to_dataframe(self) -> "pandas.DataFrame":
        """Return the shares as a table, one row per time and one column per resolution."""
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
        content: dict[str, Any] = {"name": self.name, "size": self.size, "edges": self.edges, "rates": self.rates}
        if self.replicates is not None:
            content["replicates"] = self.replicates
        extension = _extension(path)
        with replacing(path) as temporary:
            if extension == ".npz":
                np.savez_compressed(temporary, allow_pickle=False, **content)
            else:
                plain = {
                    key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in content.items()
                }
                temporary.write_text(json.dumps(plain), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Chromatogram":
        """Read a chromatogram that `save` wrote. Raises ValueError for any other file."""
        extension = _extension(path)
        try:
            with open(path, "rb") as file:
                content = dict(np.load(file, allow_pickle=False)) if extension == ".npz" else json.load(file)
            arrays = {key: np.array(content[key], dtype=np.float64) for key in ("rates", "edges")}
            if "replicates" in content:
                arrays["replicates"] = np.array(content["replicates"], dtype=np.float64)
            size, name = (np.asarray(content[key]).tolist() for key in ("size", "name"))
            return cls(size=tuple(size) if isinstance(size, list) else size, name=name, **arrays)
        except (ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} does not hold a chromatogram: {error}") from error

    def _generates(self) -> Bool[np.ndarray, " steps"]:
        """Tell at which steps more is generated than rounding leaves, whose shares differ between processors."""
        generated = self.rates.sum(axis=0) * np.diff(self.edges)
        return generated > _ROUNDING * generated.sum()

    def _replicates(self) -> Float[np.ndarray, "replicates bands steps"]:
        if self.replicates is None:
            raise ValueError(f"an interval needs the replicates of a measurement; {self.name} has none")
        return self.replicates

    def _grid(self) -> str:
        return f"{self.band_names[0]} on {len(self.edges) - 1} steps from {self.edges[0]:g} to {self.edges[-1]:g}"


def _time_grid(edges: Float[np.ndarray, " edges"]) -> Float[np.ndarray, " edges"]:
    edges = np.asarray(edges, dtype=np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not np.all(np.isfinite(edges)) or not np.all(np.diff(edges) > 0):
        raise ValueError(f"the edges of a chromatogram must rise, from image to noise; got {edges}")
    return edges


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    """Return the weighted mean of the values whose weight is not 0, NaN where there is none."""
    counted = weights > 0
    return float(np.average(values[counted], weights=weights[counted])) if counted.any() else float("nan")


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    from scipy.special import rel_entr

    return rel_entr(p, q).sum(axis=0)


def _checked_rates(rates: np.ndarray, shape: tuple[int, ...], size: Size) -> np.ndarray:
    rates = np.asarray(rates, dtype=np.float64)
    if rates.shape != shape:
        raise ValueError(
            f"a chromatogram of size {size} on {shape[-1]} steps has rates of shape {shape}; got {rates.shape}"
        )
    if not np.all(np.isfinite(rates)) or np.any(rates < 0):
        wrong = rates[~((rates >= 0) & np.isfinite(rates))]
        raise ValueError(f"the rates of a chromatogram must be finite and not negative; got {wrong[0]}")
    return rates


def _shares(rates: np.ndarray) -> np.ndarray:
    total = rates.sum(axis=-2, keepdims=True)
    return rates / np.where(total > 0, total, 1)


def _centroids(rates: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the mean time of each band, NaN where it is never generated."""
    weights, times = rates * np.diff(edges), (edges[1:] + edges[:-1]) / 2
    with np.errstate(invalid="ignore"):
        return (weights * times).sum(axis=-1) / weights.sum(axis=-1)


def _extension(path: str | Path) -> str:
    extension = Path(path).suffix.lower()
    if extension not in (".json", ".npz"):
        raise ValueError(f"a chromatogram is kept in a .json or .npz file; got {path}")
    return extension
