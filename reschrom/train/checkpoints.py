"""Checkpoints of a training run: one safetensors file each, which knows whether it is whole."""

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from reschrom._files import replacing
from reschrom.train.recipe import Recipe

if TYPE_CHECKING:
    import torch

_KEPT = 2


def save(folder: Path, step: int, tensors: Mapping[str, "torch.Tensor"], recipe: Recipe) -> None:
    """Write the checkpoint of a step, then remove all but the newest two."""
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"step": str(step), "recipe": json.dumps(recipe.as_dict()), "sha256": _digest(plain)}
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / f"step-{step:07d}.safetensors") as temporary:
        save_file(plain, temporary, metadata)
    for old in _all(folder)[:-_KEPT]:
        old.unlink()


def newest(folder: Path, recipe: Recipe) -> tuple[int, dict[str, "torch.Tensor"]] | None:
    """Return the step and the tensors of the newest whole checkpoint, or None where there is none.

    Files that are not whole are named on standard error and passed over. Raises ValueError when the checkpoint was
    made by another recipe; only the number of steps may differ.
    """
    for path in reversed(_all(folder)):
        try:
            step, tensors, made = _read(path)
        except ValueError as error:
            print(f"reschrom: {error}", file=sys.stderr)
            continue
        for name, value in recipe.as_dict().items():
            if name != "steps" and made[name] != value:
                raise ValueError(
                    f"{path} was made with {name} = {made[name]!r}, and this recipe says {value!r}: "
                    f"choose another folder, or go on with the old recipe"
                )
        return step, tensors
    return None


def _read(path: Path) -> tuple[int, dict[str, "torch.Tensor"], dict[str, object]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
        # A setting that is younger than the checkpoint has its usual value.
        step, made = int(metadata["step"]), Recipe.from_dict(json.loads(metadata["recipe"])).as_dict()
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a whole checkpoint: {error}") from error
    if _digest(tensors) != metadata.get("sha256"):
        raise ValueError(f"{path} is not a whole checkpoint: its numbers do not have the checksum they were saved with")
    return step, tensors, made


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"))


def _digest(tensors: Mapping[str, "torch.Tensor"]) -> str:
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
