"""The chromatogram: generation rates of every resolution over time, predicted or measured, in one type."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from reschrom._files import replacing
from reschrom.rates import Spectrum, generated_signal
from reschrom.resolution import band_names, depth
from reschrom.schedules import Schedule

if TYPE_CHECKING:
    import pandas


class Comparison(NamedTuple):
    """How far one chromatogram is from another.

    centroid_distance: mean over bands of the distance between centroids, in units of time.
    divergence: Jensen-Shannon divergence between the shares, in nats, averaged over the times at which both generate
        anything.
    """

    centroid_distance: float
    divergence: float


@dataclass(frozen=True, eq=False)
class Chromatogram:
    """Generation rates of each resolution on a time grid: r_m of Eq. (18) before normalisation, or a measurement.

    rates: energy generated per unit of time, shape (levels + 1, steps), finest resolution first, none negative.
    edges: the times between which each rate holds, shape (steps + 1,), rising from the image to the noise.
    side: pixels along one side of the finest resolution.
    name: how plots and tables call it.
    """

    rates: Float[np.ndarray, "bands steps"]
    edges: Float[np.ndarray, " edges"]
    side: int
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", _time_grid(self.edges))
        object.__setattr__(self, "rates", np.asarray(self.rates, dtype=np.float64))
        bands = len(band_names(self.side))
        if self.rates.shape != (bands, len(self.edges) - 1):
            raise ValueError(
                f"a chromatogram of side {self.side} on {len(self.edges) - 1} steps has rates of shape "
                f"{(bands, len(self.edges) - 1)}; got {self.rates.shape}"
            )
        if not np.all(np.isfinite(self.rates)) or np.any(self.rates < 0):
            wrong = self.rates[~((self.rates >= 0) & np.isfinite(self.rates))]
            raise ValueError(f"the rates of a chromatogram must be finite and not negative; got {wrong[0]}")

    @classmethod
    def from_signal(
        cls,
        signal: Float[np.ndarray, "bands edges"],
        edges: Float[np.ndarray, " edges"],
        side: int,
        name: str,
    ) -> "Chromatogram":
        """Build a chromatogram from the signal that each resolution holds at each time of `edges`.

        The rates are its loss per unit of time, so they integrate to the signal exactly, whatever the grid.
        """
        edges = _time_grid(edges)
        if signal.shape[1:] != edges.shape:
            raise ValueError(f"a signal has a value for each of the {len(edges)} edges; got the shape {signal.shape}")
        return cls(-np.diff(signal, axis=1) / np.diff(edges), edges, side, name)

    @classmethod
    def predicted(
        cls,
        schedule: Schedule,
        side: int,
        spectrum: Spectrum | None = None,
        edges: Float[np.ndarray, " edges"] | None = None,
        name: str | None = None,
    ) -> "Chromatogram":
        """Build the chromatogram that a noise schedule fixes: the paper's, or that of a Gaussian field.

        spectrum: variance per coefficient of each band, finest first; None gives the paper's r_m (Eq. 18).
        edges: times from image to noise; by default 1,000 equal steps over the schedule.
        """
        if edges is None:
            if not np.isfinite(schedule.end):
                raise ValueError(f"the {schedule.name} schedule has no last time: give the edges of the time grid")
            edges = np.linspace(schedule.start, schedule.end, 1001)
        edges = _time_grid(edges)
        alpha = schedule.alpha(edges)
        gained = generated_signal(alpha[:-1], depth(side), spectrum, since=alpha[1:])
        default = "paper's $r_m$" if spectrum is None else "Gaussian field"
        return cls(gained / np.diff(edges), edges, side, name or default)

    @property
    def times(self) -> Float[np.ndarray, " steps"]:
        """The middle of every step."""
        return (self.edges[1:] + self.edges[:-1]) / 2

    @property
    def band_names(self) -> list[str]:
        """The resolutions, finest first: "64x64", ..., "1x1"."""
        return band_names(self.side)

    @property
    def shares(self) -> Float[np.ndarray, "bands steps"]:
        """The share of each resolution at each time, Eq. (18): the rates divided by their sum, 0 where that is 0."""
        total = self.rates.sum(axis=0)
        return self.rates / np.where(total > 0, total, 1)

    def centroids(self) -> Float[np.ndarray, " bands"]:
        """Return the mean time at which each resolution is generated, finest first, in the units of `edges`.

        Raises ValueError when a resolution is never generated.
        """
        weights = self.rates * np.diff(self.edges)
        if not np.all(weights.sum(axis=1) > 0):
            never = self.band_names[int(np.argmin(weights.sum(axis=1)))]
            raise ValueError(f"a resolution that is never generated has no mean time: {never} in {self.name}")
        return (weights * self.times).sum(axis=1) / weights.sum(axis=1)

    def compare(self, other: "Chromatogram") -> Comparison:
        """Measure how far another chromatogram on the same time grid is from this one."""
        if self.side != other.side or self.edges.shape != other.edges.shape or not np.allclose(self.edges, other.edges):
            raise ValueError(
                f"two chromatograms are compared on the same bands and the same time grid; got {self._grid()} "
                f"and {other._grid()}"
            )
        both = (self.rates.sum(axis=0) > 0) & (other.rates.sum(axis=0) > 0)
        if not both.any():
            raise ValueError(f"{self.name} and {other.name} never generate anything at the same time")
        p, q = self.shares, other.shares
        middle = (p + q) / 2
        steps = np.diff(self.edges) * both
        jensen_shannon = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
        return Comparison(
            float(np.mean(np.abs(self.centroids() - other.centroids()))),
            float((jensen_shannon * steps).sum() / steps.sum()),
        )

    def to_dataframe(self) -> "pandas.DataFrame":
        """Return the shares as a table, one row per time and one column per resolution."""
        import pandas

        table = pandas.DataFrame(self.shares.T, columns=self.band_names)
        table.insert(0, "time", self.times)
        return table

    def save(self, path: str | Path) -> None:
        """Write the chromatogram to a JSON file, every number in full precision."""
        content = {"name": self.name, "side": self.side, "edges": self.edges.tolist(), "rates": self.rates.tolist()}
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Chromatogram":
        """Read a chromatogram that `save` wrote. Raises ValueError for any other file."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            rates, edges = (np.array(content[key], dtype=np.float64) for key in ("rates", "edges"))
            return cls(rates, edges, content["side"], content["name"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} does not hold a chromatogram: {error}") from error

    def _grid(self) -> str:
        return f"{self.side}x{self.side} on {len(self.edges) - 1} steps from {self.edges[0]:g} to {self.edges[-1]:g}"


def _time_grid(edges: Float[np.ndarray, " edges"]) -> Float[np.ndarray, " edges"]:
    edges = np.asarray(edges, dtype=np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not np.all(np.isfinite(edges)) or not np.all(np.diff(edges) > 0):
        raise ValueError(f"the edges of a chromatogram must rise, from image to noise; got {edges}")
    return edges


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    from scipy.special import rel_entr

    return rel_entr(p, q).sum(axis=0)
