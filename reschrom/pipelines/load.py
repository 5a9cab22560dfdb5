"""Pipelines of diffusers, loaded from safetensors files that are checked first."""

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reschrom._extras import naming_extra
from reschrom._files import shipped
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
        A folder is looked for here, then in the checkout of this package ("data/models/pocket-t2i-64").
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
        _check(folder)
    with _quiet():
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
def _quiet() -> Iterator[None]:
    """Keep the libraries from warning of packages nobody asked for, and from progress bars where nobody watches."""
    import diffusers
    import transformers

    before = []
    for library in (diffusers.utils.logging, transformers.utils.logging):
        before.append((library, library.get_verbosity(), library.is_progress_bar_enabled()))
        library.set_verbosity_error()
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
    sums = folder / "weights.json"
    try:
        stated = json.loads(sums.read_text(encoding="utf-8")) if sums.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{sums} is damaged: {error}") from error
    for name, expected in stated.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing: weights.json lists it")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise ValueError(f"{path} is damaged: its SHA-256 is {found}, and weights.json says {expected}")
    for path in sorted(folder.rglob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy"):
                pass
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged: {error}") from error
