"""Training: predict the noise of Eq. (1) from a noised picture, Eq. (3), or only its finest band, Eqs. (21) and (23).

One loop for all; a recipe says what the network sees and predicts. No level of a cascade needs another to be trained,
so its levels are trained by commands of their own, one after another or side by side.
"""

import csv
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reschrom._extras import naming_extra
from reschrom._files import replacing
from reschrom.train import checkpoints
from reschrom.train.folder import claimed
from reschrom.train.latents import PictureBatches, set_scale
from reschrom.train.models import build
from reschrom.train.objective import batches_of, step_loss, trained_module
from reschrom.train.pictures import load_gallery, save_gallery
from reschrom.train.recipe import Recipe
from reschrom.train.speed import chosen_precision

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@contextmanager
def _in_memory() -> Iterator[None]:
    """Say in one line that what is trained is too large for the machine."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        from accelerate.utils.memory import should_reduce_batch_size

        if not isinstance(error, MemoryError) and not should_reduce_batch_size(error):
            raise
        raise ValueError(
            "this recipe does not fit into memory: make its batch, channels, size, level or pieces smaller"
        ) from error


@naming_extra("train", "train")
@_in_memory()
def train(recipe: Recipe, source: str, out: str | Path, *, save_every: int = 250, show_every: int = 1000) -> Any:
    """Train a small model, write it to the folder `out` as a diffusers pipeline and return the pipeline.

    source: the photographs, see `pictures.photographs`.
    out: gets `checkpoints/`, `log.csv`, `samples/` while training runs and the pipeline itself, with averaged
        weights and the denoiser in half precision, at the end. One training at a time is at work in it.
    save_every, show_every: steps between checkpoints, and between grids of samples.

    A run that was stopped, in whatever way, goes on from its newest whole checkpoint when it is called again, in the
    precision of that checkpoint. On a CPU the result is the same to the bit as without the stop. Run it under
    `accelerate launch` for more than one GPU.
    Raises ValueError when the folder holds checkpoints or pictures of another recipe, the processes cannot share a
    batch, the machine cannot train so, or the loss is not finite; OSError where the folder cannot be written, or
    another training is at work in it.
    """
    if not isinstance(recipe, Recipe):
        raise TypeError(f"train needs a Recipe; got {type(recipe).__name__}")
    if not isinstance(source, str):
        raise TypeError(f"source must be text, as pictures.photographs takes it; got {type(source).__name__}")
    if any(not isinstance(every, (int, np.integer)) or isinstance(every, bool) for every in (save_every, show_every)):
        raise TypeError(f"save_every and show_every must be whole numbers; got {save_every!r} and {show_every!r}")
    if save_every < 1 or show_every < 1:
        raise ValueError(f"save_every and show_every must be 1 or more; got {save_every} and {show_every}")
    accelerator = accelerator_for(recipe)
    pipeline = build(recipe)
    with claimed(Path(out)) if accelerator.is_main_process else nullcontext():
        _train(recipe, source, Path(out), save_every, show_every, accelerator, pipeline)
    accelerator.end_training()
    return pipeline


def accelerator_for(recipe: Recipe) -> "Accelerator":
    """Return what knows the devices and processes of this machine.

    Raises ValueError where it cannot train, or its processes cannot share a batch of the recipe.
    """
    import torch
    from accelerate import Accelerator

    try:
        accelerator = Accelerator(mixed_precision="no")  # see `autocast`
        torch.empty(1, device=accelerator.device)  # which a device that is only named refuses
    except (AssertionError, ImportError, RuntimeError, ValueError) as error:  # whatever a missing device makes of it
        raise ValueError(f"this machine cannot train: {' '.join(str(error).split())}") from error
    if recipe.batch % accelerator.num_processes:
        raise ValueError(f"a batch of {recipe.batch} cannot be shared by {accelerator.num_processes} processes")
    return accelerator


def _train(
    recipe: Recipe,
    source: str,
    out: Path,
    save_every: int,
    show_every: int,
    accelerator: "Accelerator",
    pipeline: Any,
) -> None:
    import torch
    from diffusers.training_utils import EMAModel
    from tqdm import tqdm

    network = trained_module(pipeline)
    ema = EMAModel(network.parameters(), decay=recipe.ema)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    saved = checkpoints.newest(out / "checkpoints", recipe, _shapes(network))
    first = 0 if saved is None else saved.step
    precision = _precision(recipe, accelerator) if saved is None else saved.precision
    recipe = Recipe.from_dict({**recipe.as_dict(), "precision": precision})
    if saved is not None:
        _restore(network, ema, optimizer, first, saved.tensors)
    pictures = _gallery(recipe, source, out, accelerator)
    batches = batches_of(pipeline, pictures, recipe, accelerator.num_processes)
    ema.to(accelerator.device)
    prepared, optimizer = accelerator.prepare(network, optimizer)
    log = _Log(out / "log.csv", first) if accelerator.is_main_process else None
    steps = range(first, recipe.steps)
    for step in tqdm(steps, initial=first, total=recipe.steps, disable=None if accelerator.is_main_process else True):
        done = step + 1
        batch = batches.draw(step, accelerator.process_index, accelerator.device)
        loss = step_loss(prepared, batch, recipe)
        value = loss.item()
        if not math.isfinite(value):
            raise ValueError(f"the loss of step {done} is {value}: {checkpoints.SMALLER_RATE}")
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(prepared.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(network.parameters())
        if log is not None:
            log.add(done, value)
            # Samples first: a run that is stopped between the two goes on from before, and shows them again.
            if done % show_every == 0 and recipe.kind not in ("autoencoder", "residual"):  # which draw nothing alone
                _show(pipeline, network, ema, recipe, out / "samples" / f"step-{done:07d}.png")
            if done % save_every == 0 or done == recipe.steps:
                checkpoints.save(out / "checkpoints", done, _state(network, ema, optimizer), recipe)
    accelerator.wait_for_everyone()
    ema.copy_to(network.parameters())
    if accelerator.is_main_process:
        network.to("cpu")
        if isinstance(batches, PictureBatches) and not recipe.start:
            set_scale(pipeline, batches.draw(recipe.steps, accelerator.process_index, torch.device("cpu")))
        _halve(pipeline, recipe)
        _write(pipeline, out)


def _precision(recipe: Recipe, accelerator: "Accelerator") -> str:
    """Return the precision in which a new training computes, alike in all of its processes."""
    from accelerate.utils import broadcast_object_list

    share = replace(recipe, batch=recipe.batch // accelerator.num_processes)
    return str(broadcast_object_list([chosen_precision(share, accelerator.device)])[0])


def _halve(pipeline: Any, recipe: Recipe) -> None:
    """Give the denoiser and the autoencoder half precision, in which they are kept.

    Not the text encoder: diffusers reads half precision back as float32, transformers would leave it as it is. And not
    through the pipeline, which warns that half precision runs badly on a CPU.
    """
    if recipe.kind == "autoencoder":
        parts = [pipeline]
    else:
        parts = [pipeline.unet, pipeline.vae] if recipe.autoencoder else [pipeline.unet]
    for part in parts:
        part.to("cpu").half()
        if not all(bool(weights.isfinite().all()) for weights in part.parameters()):
            raise ValueError(
                f"the weights are beyond half precision after step {recipe.steps}: {checkpoints.SMALLER_RATE}"
            )


def _write(pipeline: Any, out: Path) -> None:
    """Write a pipeline part by part, each of which is whole; last what makes a pipeline of them, `model_index.json`."""
    from safetensors import SafetensorError

    temporary = out / f".pipeline.{os.getpid()}"
    try:
        pipeline.save_pretrained(temporary)
        for part in sorted(temporary.iterdir(), key=Path.is_file):
            if (out / part.name).is_dir():
                shutil.rmtree(out / part.name)
            part.replace(out / part.name)
    except SafetensorError as error:  # a full disk, too
        raise OSError(f"the pipeline cannot be written to {out}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate of a step: a short rise, a long constant stretch and a straight fall to zero."""
    rise = min(1.0, (step + 1) / max(1, recipe.warmup))
    fall = (recipe.steps - step) / max(1.0, recipe.cooldown * recipe.steps)
    return recipe.learning_rate * min(rise, fall, 1.0)


def _gallery(recipe: Recipe, source: str, out: Path, accelerator: "Accelerator") -> np.ndarray:
    """Make the pictures once, and read them from the folder of the run ever after."""
    path = out / "pictures.npy"
    with accelerator.main_process_first():
        if accelerator.is_main_process and not path.exists():
            save_gallery(path, recipe, source)
        return load_gallery(path, recipe, source)


def _state(network: "torch.nn.Module", ema: Any, optimizer: "torch.optim.Optimizer") -> dict[str, "torch.Tensor"]:
    names = [name for name, _ in network.named_parameters()]
    tensors: dict[str, torch.Tensor] = {f"weights.{name}": parameter for name, parameter in network.named_parameters()}
    tensors |= {f"ema.{name}": average for name, average in zip(names, ema.shadow_params, strict=True)}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{key}.{names[index]}": moments[key] for key in _MOMENTS}
    return tensors


def _shapes(network: "torch.nn.Module") -> dict[str, tuple[int, ...]]:
    """Return the shapes of what `_state` returns after the first step."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, parameter in network.named_parameters():
        for part in ("weights", "ema", "adam.exp_avg", "adam.exp_avg_sq"):
            shapes[f"{part}.{name}"] = tuple(parameter.shape)
        shapes[f"adam.step.{name}"] = ()
    return shapes


def _restore(network: "torch.nn.Module", ema: Any, optimizer: Any, step: int, saved: dict[str, "torch.Tensor"]) -> None:
    import torch

    state = {}
    with torch.no_grad():
        for index, (name, parameter) in enumerate(network.named_parameters()):
            parameter.copy_(saved[f"weights.{name}"])
            ema.shadow_params[index].copy_(saved[f"ema.{name}"])
            state[index] = {key: saved[f"adam.{key}.{name}"] for key in _MOMENTS}
    ema.optimization_step = step
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _show(pipeline: Any, network: "torch.nn.Module", ema: Any, recipe: Recipe, path: Path) -> None:
    """Draw with the averaged weights one sample of each caption, a row for a style, or without captions four rows."""
    import torch
    from PIL import Image

    ema.store(network.parameters())
    ema.copy_to(network.parameters())
    network.eval()
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(recipe.seed)
    columns = len(recipe.contents)
    asked: dict[str, Any] = {"batch_size": 4 * columns}
    if recipe.kind == "t2i":
        asked = {"prompt": recipe.captions, "guidance_scale": 4.0}
        asked |= {} if recipe.autoencoder else {"clean_caption": False}
    images = pipeline(**asked, num_inference_steps=20, generator=generator, output_type="np").images
    network.train()
    ema.restore(network.parameters())
    rows = np.round(255 * images).astype(np.uint8).reshape(-1, columns, recipe.size, recipe.size, 3).swapaxes(1, 2)
    pixels = rows.reshape(-1, columns * recipe.size, 3)
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary)


class _Log:
    """The loss of every step in a CSV file; after a stop, what came later than the checkpoint is written anew."""

    def __init__(self, path: Path, first: int) -> None:
        kept = []
        if path.is_file():
            try:
                with path.open(newline="", encoding="utf-8") as stream:
                    rows = [row for row in csv.reader(stream) if len(row) == 2 and row[0].isdecimal()]
            except (csv.Error, UnicodeDecodeError) as error:
                raise ValueError(f"{path} is not the log of a training: remove it, and it begins anew") from error
            kept = [row for row in rows if int(row[0]) <= first]
        self.path = path
        with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([["step", "loss"], *kept])

    def add(self, step: int, loss: float) -> None:
        with self.path.open("a", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerow([step, f"{loss:.6g}"])
