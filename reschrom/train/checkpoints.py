"""Checkpoints of a training run: one safetensors file each, which knows whether it is whole."""

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from reschrom._files import replacing
from reschrom.train.recipe import Recipe

if TYPE_CHECKING:
    import torch

_KEPT = 2
SMALLER_RATE = "train into another folder with a smaller learning_rate"


def save(folder: Path, step: int, tensors: Mapping[str, "torch.Tensor"], recipe: Recipe) -> None:
    """Write the checkpoint of a step, then remove all but the newest two.

    Raises ValueError for numbers that are not finite, and OSError where the file cannot be written; both leave the
    checkpoints before.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if not _finite(tensors):
        raise ValueError(f"the weights are not finite after step {step}: {SMALLER_RATE}")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"step": str(step), "recipe": json.dumps(recipe.as_dict()), "sha256": _digest(plain)}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _name(step)
    with replacing(path) as temporary:
        try:
            save_file(plain, temporary, metadata)
        except SafetensorError as error:  # a full disk, too
            raise OSError(f"{path} cannot be written: {error}") from error
    for old in _all(folder)[:-_KEPT]:
        old.unlink()


class Saved(NamedTuple):
    """A checkpoint: the step after which it was made, its tensors, and the precision of the training."""

    step: int
    tensors: dict[str, "torch.Tensor"]
    precision: str


def newest(folder: Path, recipe: Recipe, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Saved | None:
    """Return the newest whole checkpoint, or None where there is none.

    shapes: of the tensors that a checkpoint must hold to be whole.

    Files that are not whole are named on standard error and passed over. Raises ValueError when the checkpoint was
    made by another recipe, of which only the number of steps may differ, or after more steps than the recipe has. To a
    recipe that leaves the precision open, each is its own.
    """
    for path in reversed(_all(folder)):
        try:
            step, tensors, made = _read(path, shapes or {})
        except ValueError as error:
            print(f"reschrom: {error}", file=sys.stderr)
            continue
        for name, value in recipe.as_dict().items():
            if name != "steps" and made[name] != value and (name, value) != ("precision", "auto"):
                raise ValueError(
                    f"{path} was made with {name} = {made[name]!r}, and this recipe says {value!r}: "
                    f"choose another folder, or go on with the old recipe"
                )
        if step > recipe.steps:
            raise ValueError(
                f"{path} was made after {step} steps, and this recipe has {recipe.steps}: choose another folder, or "
                f"at least as many steps"
            )
        return Saved(step, tensors, str(made["precision"]))
    return None


def _read(
    path: Path, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[int, dict[str, "torch.Tensor"], dict[str, object]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
        # A setting that is younger than the checkpoint has its usual value.
        step, made = int(metadata["step"]), Recipe.from_dict(json.loads(metadata["recipe"])).as_dict()
    except (SafetensorError, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a whole checkpoint: {' '.join(str(error).split())}") from error
    if _digest(tensors) != metadata.get("sha256"):
        raise ValueError(f"{path} is not a whole checkpoint: its numbers do not have the checksum they were saved with")
    if path.name != _name(step):
        raise ValueError(f"{path} is not a whole checkpoint: it was saved after step {step}")
    for name, shape in shapes.items():
        if name not in tensors or tuple(tensors[name].shape) != shape:
            raise ValueError(f"{path} is not a whole checkpoint: it has no {name} of the shape {shape}")
    if not _finite(tensors):
        raise ValueError(f"{path} is not a whole checkpoint: its numbers are not finite")
    return step, tensors, made


def _finite(tensors: Mapping[str, "torch.Tensor"]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors.values())


def _name(step: int) -> str:
    return f"step-{step:07d}.safetensors"


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"))


def _digest(tensors: Mapping[str, "torch.Tensor"]) -> str:
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
