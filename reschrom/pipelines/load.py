"""Pipelines of diffusers, loaded from safetensors files that are checked first."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten
from typing import Any

from reschrom._extras import naming_extra
from reschrom._files import sha256, shipped
from reschrom._reading import json_in, refusing, texts
from reschrom.pipelines.adapter import found_denoisers


@naming_extra("load_pipeline")
def load_pipeline(
    model_id: str | Path,
    device: str = "cpu",
    dtype: Any = None,
    variant: str | None = None,
    revision: str | None = None,
) -> Any:
    """Load a diffusers pipeline from its folder, or from the hub by its id.

    Only safetensors files are read, and for a folder nothing is asked of the network.

    Parameters
    ----------
    model_id : str or path
        A folder is looked for here, then in the checkout of this package ("data/models/pocket-if-64").
    device : str
        Where it shall run, as torch names it.
    dtype : torch dtype, optional
        Of its weights; float32 by default, whatever the files hold.
    variant : str, optional
        Which weights to read where there are several, such as "fp16".
    revision : str, optional
        Branch, tag or commit of a model on the hub.

    Raises
    ------
    ValueError
        For the revision of a folder; and, naming the file, for a folder in which a file is missing or damaged. Where
        the folder has `weights.json`, every file that it lists must have the SHA-256 that it states.

    Examples
    --------
    >>> from reschrom import load_pipeline
    >>> pipeline = load_pipeline("data/models/pocket-lowres-16")
    >>> type(pipeline).__name__, pipeline.unet.config.sample_size
    ('DDIMPipeline', 16)
    """
    import torch
    from diffusers import DiffusionPipeline

    # Diffusers imports no module because a folder names it, so the classes of this package are imported here.
    import reschrom.dvdp.pipeline
    import reschrom.pipelines.cascade_unet  # noqa: F401

    place = shipped(model_id)
    folder = place if place.is_dir() else None
    if folder is not None:
        if revision is not None:
            raise ValueError(f"a revision belongs to a model on the hub; {folder} is a folder; got {revision}")
        with _quiet():
            _check(folder)
    with _quiet(), _naming(folder):
        pipeline: Any = DiffusionPipeline.from_pretrained(
            str(folder or model_id),
            dtype=dtype or torch.float32,
            use_safetensors=True,
            variant=variant,
            revision=revision,
            local_files_only=folder is not None,
        )
    pipeline = pipeline.to(device)
    if pipeline.device.type == "cpu":
        # Processors convolve a sixth faster so. The attention of diffusers stays: plain products were no faster for
        # small images, and took half as long again for larger ones.
        for denoiser in found_denoisers(pipeline):
            torch.nn.utils.convert_conv2d_weight_memory_format(denoiser, torch.channels_last)
    return pipeline


@contextlib.contextmanager
def _naming(folder: Path | None) -> Iterator[None]:
    """Say in one line which folder it is that diffusers does not load; what a hub says passes as it is."""
    try:
        yield
    except ImportError:  # a package is missing, and the folder may be right
        raise
    except Exception as error:  # whatever the classes that a folder names make of what stands in it
        if folder is None:
            raise
        why = shorten(str(error), 300, placeholder=" ...")
        raise ValueError(f"{folder} is no pipeline that diffusers loads: {why}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries from warning of packages nobody asked for, and from progress bars where nobody watches."""
    import diffusers
    import transformers

    before = []
    for library in (diffusers.utils.logging, transformers.utils.logging):
        before.append((library, library.get_verbosity(), library.is_progress_bar_enabled()))
        library.set_verbosity(logging.CRITICAL)  # what goes wrong is raised
        if not sys.stderr.isatty():
            library.disable_progress_bar()
    try:
        yield
    finally:
        for library, verbosity, shown in before:
            library.set_verbosity(verbosity)
            if shown:
                library.enable_progress_bar()


def _check(folder: Path) -> None:
    from safetensors import SafetensorError, safe_open

    if not (folder / "model_index.json").is_file():
        raise ValueError(f"{folder} is no diffusers pipeline: it has no model_index.json")
    _check_configurations(folder)
    sums = folder / "weights.json"
    stated: dict[str, str] = {}
    if sums.is_file():
        with refusing(sums, "is damaged"):
            stated = texts(json_in(sums), "the SHA-256 of files")
            if outside := [name for name in stated if not _inside(folder, name)]:
                raise ValueError(f"it may list files of its own folder alone; got {outside[0]!r}")
    for name, expected in stated.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing: weights.json lists it")
        if sha256(path) != expected:
            raise ValueError(f"{path} is damaged: its SHA-256 is not the one that weights.json says")
    for path in sorted(folder.rglob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy"):
                pass
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged: {error}") from error


def _check_configurations(folder: Path) -> None:
    """Refuse configurations that are no JSON objects, and an index that names no pipeline."""
    import diffusers

    for path in (folder / "model_index.json", *folder.glob("*/config.json"), *folder.glob("*/scheduler_config.json")):
        with refusing(path, "is damaged"):
            if not isinstance(content := json_in(path), dict):
                raise ValueError(f"a configuration has names and values; got {type(content).__name__}")
            if path.parent != folder:
                continue
            name = content.get("_class_name")
            kind = getattr(diffusers, name, None) if isinstance(name, str) else None
            if not (isinstance(kind, type) and issubclass(kind, diffusers.DiffusionPipeline)):
                raise ValueError(f"its _class_name must be a pipeline of diffusers; got {name!r}")


def _inside(folder: Path, name: str) -> bool:
    """Tell whether a name leads to a place in the folder, wherever its links lead."""
    return (folder / name).resolve().is_relative_to(folder.resolve())
