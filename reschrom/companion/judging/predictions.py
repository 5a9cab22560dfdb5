"""How far what formulas say of pictures was from networks that learned them: every comparison that ships."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from reschrom.companion.reference import prediction
from reschrom.companion.reference.losses import load as load_losses
from reschrom.companion.reference.prediction import Measured
from reschrom.denoisers.prediction import WORST
from reschrom.theory.chromatogram import Chromatogram
from reschrom.theory.intervals import Interval, interval_around
from reschrom.theory.schedules import Schedule

Bands = Float[np.ndarray, " bands"]
# Of each model that ships: the kind of its pictures, the files of its losses, of the formulas and of a small network.
_MODELS = {
    "all pictures, 64x64": ("all pictures", "pocket-if-64-start", "pocket-if-64-start", "scout-64"),
    "fruit, 64x64": ("fruit", "pocket-direct-64", "pocket-direct-64", "scout-fruit-64"),
    "fruit, 32x32": ("fruit", "pocket-lowres-32", "pocket-lowres-32", "scout-fruit-32"),
    "fruit, 16x16": ("fruit", "pocket-lowres-16", "pocket-lowres-16", "scout-fruit-16"),
}
_CAPTIONS = {
    "a photo of a pair of trousers": "pocket-if-64-start",
    "a photo of a leopard": "pocket-if-64-start-caption",
    "an oil painting of a sunflower": "pocket-if-64-start-caption",
    "a pencil sketch of a watch": "pocket-if-64-start-caption",
    "a photo of a pineapple": "pocket-if-64-start-caption",
}


class Case(NamedTuple):
    """One network, and what is predicted of it. Times are shares of the schedule's, bands finest first.

    kind: of its pictures; two cases of one kind are no two data sets.
    small: a network of fewer steps or weights that learned the same.
    pictures: how many were held out.
    flat: the share of 2x2 blocks of known pictures that show nothing; NaN where that was not measured.
    """

    kind: str
    label: str
    network: Measured
    formulas: dict[str, Measured]
    small: Measured
    pictures: int
    flat: float = float("nan")

    @property
    def chosen(self) -> str:
        """The formula that loses least."""
        return min(self.formulas, key=lambda name: self.formulas[name].noise)

    @property
    def paper(self) -> Bands:
        """The mean times of the paper's r_m."""
        edges = np.linspace(0, 1, 401)
        return Chromatogram.predicted(Schedule.cosine(), 2 ** (len(self.network.times) - 1), edges=edges).centroids()

    @property
    def better(self) -> str:
        """Which of the two formulas of `predicted_times` loses less."""
        return min(("windows", "nearest"), key=lambda name: self.formulas[name].noise)

    @property
    def ratio(self) -> float:
        """What the network loses, over what the better of the two does."""
        return self.network.noise / self.formulas[self.better].noise

    def interval(self, predicted: Measured) -> Interval:
        """Return the simultaneous interval of the error of a prediction, predicted less measured."""
        again = predicted.replicates - self.network.replicates
        return interval_around(predicted.times - self.network.times, again, 0.95, True, images=self.pictures)

    @property
    def range(self) -> Interval:
        """From what windows tell to what the better formula does: that of `predicted_times`, without its reach."""
        ends = [self._covered(self.formulas[name]) for name in ("windows", self.better)]
        return Interval(*(pick([each[i] for each in ends], axis=0) for i, pick in enumerate((np.min, np.max))))

    def _covered(self, formula: Measured) -> Interval:
        if not len(formula.replicates):  # not kept
            return Interval(formula.times, formula.times)
        return interval_around(formula.times, formula.replicates, 0.95, True, (0.0, 1.0), self.pictures)

    @property
    def outside(self) -> float:
        """How far the network is outside of the range, in its worst band; 0 within."""
        low, high = self.range
        return float(np.maximum(low - self.network.times, self.network.times - high).clip(0).max())


def of_kinds(folder: str | Path) -> list[Case]:
    """Return the networks that were trained for this on pictures of several kinds, each with two seeds."""
    found = []
    for kind in prediction.KINDS:
        for path in sorted(Path(folder).glob(f"{kind}-*.safetensors")):
            formulas, about = prediction.load(path.with_name(f"{kind}.safetensors"))
            networks, of_training = prediction.load(path)
            label = f"{kind}, seed {of_training['seed']}"
            found.append(
                Case(kind, label, networks["network"], formulas, networks["early"], about["new"], about["flat"])
            )
    return found


def of_models(folder: str | Path) -> list[Case]:
    """Return the models that ship and captions of one of them; of their formulas only the mean losses are kept."""
    rows = [(label, *row, "") for label, row in _MODELS.items()]
    for caption, file in _CAPTIONS.items():
        rows.append((caption, "all pictures", file, caption.split()[-1], "scout-64", caption))
    return [_of_model(Path(folder), *row) for row in rows]


def _of_model(folder: Path, label: str, kind: str, model: str, formulas: str, scout: str, caption: str) -> Case:
    clock, kept = load_losses(folder / "formulas" / f"{formulas}.safetensors")
    energies = next(iter(kept.values())).energies
    variance = kept["field"].losses.mean[:, -1:]  # about the mean picture: all that a field loses in noise
    numbers = 3 * 4 ** (len(variance) - 1)
    explicit = {name: prediction.measured(each.losses, variance, numbers, clock) for name, each in kept.items()}
    both = []
    for file in (model, scout):
        times, networks = load_losses(folder / f"{file}-losses.safetensors")
        found = networks[caption]
        share = (energies / found.energies)[:, None]  # as if its pictures had the energies of the others
        losses = found.losses._replace(mean=share * found.losses.mean, replicates=share * found.losses.replicates)
        both.append(prediction.measured(losses, variance, numbers, times / times[-1]))
    return Case(kind, label, both[0], explicit, both[1], found.pictures)


def reach(cases: Sequence[Case], but: str = "") -> float:
    """Return how far networks were outside of the range at most: of all kinds but one, if they lose little enough."""
    return max(case.outside for case in cases if case.kind != but and case.ratio <= WORST)
