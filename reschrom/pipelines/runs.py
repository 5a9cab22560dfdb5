"""What the runs inside one block of a chromatograph left: the energies of every band at every step, run by run."""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from reschrom.theory.bands import Size, band_energies, band_names
from reschrom.theory.intervals import StreamingMean
from reschrom.theory.temporal_bands import frame_names, temporal_bands

# Every step records these energies, in this order; that of guidance is NaN where guidance was off.
SIGNAL, CHANGE, GUIDANCE = range(3)


class Record(NamedTuple):
    """What one step of a run worked with, float32, shapes (images, C, S, S).

    guidance, unguided: the guidance term, and the estimate of the unconditional prediction; None when guidance was off.
    """

    timestep: float
    x_t: Float[np.ndarray, "images channels side side"]
    estimate: Float[np.ndarray, "images channels side side"]
    guidance: Float[np.ndarray, "images channels side side"] | None
    unguided: Float[np.ndarray, "images channels side side"] | None


@dataclass
class Moment:
    """What one step of the run in progress left: energies, shape (images, quantities, bands), and the estimate."""

    time: float
    ends: bool
    to_noise: float
    reach: float
    energies: Float[np.ndarray, "images quantities bands"]
    record: Record | None
    estimate: Any
    size: Size
    frames: int | None


@dataclass
class Runs:
    """All runs that ended: their energies, shape (quantities, bands, steps), and what is the same in all of them.

    frames: of videos, None of images; the bands are those of `energies_of`.
    ended: whether they went on to the end of the scheduler's list, and were not broken off.
    """

    energies: StreamingMean
    first_image: int = 0
    grid: list[float] = field(default_factory=list)
    to_noise: list[float] = field(default_factory=list)
    reach: list[float] = field(default_factory=list)
    ended: bool = False
    size: Size = 0
    frames: int | None = None
    records: list[Record] = field(default_factory=list)

    @property
    def times(self) -> Float[np.ndarray, " steps"]:
        """From image to noise."""
        return np.array(self.grid[::-1])

    @property
    def spatial(self) -> "Runs":
        """The same with the energies of every resolution alone."""
        return replace(self, energies=self.energies[:, : len(band_names(self.size))], frames=None)

    def temporal(self, resolution: str | None) -> "Runs":
        """Return the same with the energies of every temporal band alone, of one resolution or of all."""
        assert self.frames is not None
        names, count = band_names(self.size), len(frame_names(self.frames))
        if resolution is not None and resolution not in names:
            raise ValueError(f"a resolution of these videos is one of {', '.join(names)}; got {resolution!r}")
        first = len(names) + count * (0 if resolution is None else 1 + names.index(resolution))
        return replace(self, energies=self.energies[:, first : first + count])

    def add(self, run: list[Moment]) -> None:
        """Count one more run. A run that was broken off, before others went further, is not counted."""
        if not run:
            return
        grid = [moment.time for moment in run]
        energies = np.stack([moment.energies for moment in run], axis=-1)
        size, frames = run[0].size, run[0].frames
        if self.grid and not run[-1].ends and len(grid) < len(self.grid) and grid == self.grid[: len(grid)]:
            return
        if self.grid and not self.ended and len(grid) > len(self.grid) and self.grid == grid[: len(self.grid)]:
            self.energies, self.records, self.grid = StreamingMean(self.energies.seed), [], []
        if self.grid and (size, frames) != (self.size, self.frames):
            raise ValueError(
                "all runs inside one block must have the same size; got "
                f"{_shape(size, frames)} after {_shape(self.size, self.frames)}"
            )
        guided = np.isfinite(energies).all(axis=(0, 2))
        if self.grid and (grid != self.grid or (guided != np.isfinite(self.energies.mean).all(axis=1)).any()):
            if grid == self.grid:
                got = "guidance after none" if guided.all() else "no guidance after some"
            elif (len(grid), grid[0], grid[-1]) == (len(self.grid), self.grid[0], self.grid[-1]):
                got = next(f"{a:g} after {b:g}" for a, b in zip(grid, self.grid, strict=True) if a != b)
            else:
                got = (
                    f"{len(grid)} timesteps from {grid[0]:g} to {grid[-1]:g} after {len(self.grid)} from "
                    f"{self.grid[0]:g} to {self.grid[-1]:g}"
                )
            raise ValueError(f"all runs inside one block must have the same timesteps and the same guidance; got {got}")
        self.energies.add(energies, self.first_image + self.energies.count)
        self.records += [moment.record for moment in run if moment.record]
        self.grid, self.size, self.frames, self.ended = grid, size, frames, run[-1].ends
        self.to_noise, self.reach = [moment.to_noise for moment in run], [moment.reach for moment in run]


def energies_of(images: Any) -> Float[np.ndarray, "images bands"]:
    """Return the energies of images (N, C, H, W) by resolution, or those of videos (N, F, C, H, W) by all their bands.

    Of a video they are those of every resolution, summed over frames; then of every temporal band, first at all
    resolutions together and then at each.
    """
    import torch

    spatial = band_energies(images).double()
    if images.ndim == 4:
        return spatial.cpu().numpy().T
    pyramid = temporal_bands(images)
    coefficients = band_energies(torch.cat(pyramid, dim=1)).double().split([band.shape[1] for band in pyramid], dim=2)
    temporal = torch.stack([each.sum(dim=2) for each in coefficients], dim=1)  # (resolutions, temporal bands, N)
    return torch.cat([spatial.sum(dim=2), temporal.sum(dim=0), temporal.flatten(0, 1)]).cpu().numpy().T


def _shape(size: Size, frames: int | None) -> str:
    return band_names(size)[0] if frames is None else f"{frame_names(frames)[0]} of {band_names(size)[0]}"
