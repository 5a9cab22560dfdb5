"""Denoising losses on pictures held out, of networks and of formulas alike, and the one file format that keeps them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from reschrom._files import opened_tensors, replacing
from reschrom.denoisers.losses import BandLosses


class HeldOut(NamedTuple):
    """The losses of one denoiser at every time, the energy that its pictures hold in every band, and their count."""

    losses: BandLosses
    energies: Float[np.ndarray, " bands"]
    pictures: int


def mean_alone(mean: Float[np.ndarray, "bands times"]) -> BandLosses:
    """Return losses of which only the mean is kept: no replicates, and standard errors that are not known (NaN)."""
    return BandLosses(mean, np.full_like(mean, np.nan), np.empty((0, *mean.shape)))


def save(
    path: str | Path, times: Float[np.ndarray, " times"], measured: dict[str, HeldOut], provenance: Mapping[str, Any]
) -> None:
    """Write losses as safetensors, in single precision: each by the name of its caption or formula."""
    from safetensors.numpy import save_file

    tensors = {"times": times}
    for number, each in enumerate(measured.values()):
        names = ("mean", "standard_error", "replicates") if len(each.losses.replicates) else ("mean",)
        parts = {**{name: getattr(each.losses, name) for name in names}, "energies": each.energies}
        tensors |= {f"{number}.{name}": value.astype(np.float32) for name, value in parts.items()}
    about = {"pictures": {name: each.pictures for name, each in measured.items()}, **provenance}
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"about": json.dumps(about)})  # one entry: several come in any order


def load(path: str | Path) -> tuple[Float[np.ndarray, " times"], dict[str, HeldOut]]:
    """Read the times, and the losses by name. Raises ValueError, naming the file, where there are none."""
    with opened_tensors(path, "no losses") as file:
        times, measured = file.get_tensor("times").astype(np.float64), {}
        for number, (name, count) in enumerate(json.loads(file.metadata()["about"])["pictures"].items()):
            kept = [part for part in BandLosses._fields if f"{number}.{part}" in file.keys()]  # noqa: SIM118, no dict
            *losses, energies = (file.get_tensor(f"{number}.{part}").astype(np.float64) for part in (*kept, "energies"))
            found = mean_alone(losses[0]) if kept == ["mean"] else BandLosses(*losses)._replace(images=count)
            measured[name] = HeldOut(found, energies, count)
    return times, measured
