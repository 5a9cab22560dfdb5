"""The source of a measured chromatogram: what each image adds to it, so that others can be added later."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from reschrom._reading import numbers
from reschrom.theory.intervals import StreamingMean


@dataclass(frozen=True, eq=False)
class Source:
    """What a measured chromatogram was made of, to which the energies of other images can be added.

    energies: of every band at every step, from image to noise, over images: shape (levels + 1, steps); or, where the
        chromatogram shows its growth, the signal at every edge, shape (levels + 1, steps + 1).
    alphas: signal power at every edge, by which theory predicts the same chromatogram (`Chromatogram.expected`).
    precision: of growth, the weight of each edge in the fit that never rises; None for energies that are shown as they
        are.
    guidance: whether the energies are those of a difference of two predictions of the noise, Eq. (19), summed over the
        coefficients of an image: half of them are nats (`Chromatogram.information`).
    """

    energies: StreamingMean
    alphas: Float[np.ndarray, " edges"]
    precision: Float[np.ndarray, " edges"] | None = None
    guidance: bool = False

    def check(self, bands: int, steps: int) -> None:
        """Refuse a source of another grid, whose merged chromatogram would be wrong."""
        energies, alphas, precision = self.energies.mean, self.alphas, self.precision
        shape = (bands, steps) if precision is None else (bands, steps + 1)
        lengths = {np.shape(each) for each in (alphas, precision) if each is not None}
        if energies.shape != shape or lengths != {(steps + 1,)}:
            raise ValueError(
                f"a chromatogram of {bands} bands on {steps} steps has a source of as many; got energies of the shape "
                f"{energies.shape} and {np.size(alphas)} alphas"
            )
        if not np.all((alphas >= 0) & (alphas <= 1)) or np.any(np.diff(alphas) > 0):
            raise ValueError("the alphas of a source fall from image to noise within [0, 1]")
        if precision is not None and not np.all((precision > 0) & (precision < np.inf)):
            raise ValueError("the precision of a source is positive and finite")

    def state(self) -> dict[str, Any]:
        """Return all of it as numbers and arrays, for a file."""
        state: dict[str, Any] = {**self.energies.state(), "alphas": self.alphas}
        if self.precision is not None:
            state["precision"] = self.precision
        if self.guidance:
            state["guidance"] = 1
        return state

    @classmethod
    def from_state(cls, held: dict[str, Any]) -> "Source":
        """Return the source of what `state` gave and a file held. Raises ValueError for anything else."""
        precision = numbers(held["precision"], "the precision must be numbers") if "precision" in held else None
        energies = StreamingMean.from_state(held)
        if precision is None and (np.any(energies.mean < 0) or np.any(energies.replicates < 0)):
            raise ValueError("the energies of a source are not negative")
        guidance = numbers(held.get("guidance", 0), "guidance must be a number")
        return cls(energies, numbers(held["alphas"], "the alphas must be numbers"), precision, bool(guidance == 1))
