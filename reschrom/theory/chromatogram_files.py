"""The files of chromatograms, JSON or NPZ: how one is written, and how one that anyone may have written is read."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reschrom._files import replacing
from reschrom._reading import arrays_in, json_in, numbers, refusing, text, texts, whole
from reschrom.theory.source import Source

if TYPE_CHECKING:
    from reschrom.theory.chromatogram import Chromatogram


def write(chromatogram: "Chromatogram", path: str | Path) -> None:
    """Write a chromatogram to a JSON or NPZ file, by its extension, every number in full precision."""
    one = chromatogram
    content: dict[str, Any] = {"name": one.name, "size": one.size, "edges": one.edges, "rates": one.rates}
    if one.frames is not None:
        content["frames"] = one.frames
    if one.about:
        content["about"] = one.about
    if one.noise_error:
        content["noise_error"] = one.noise_error
    if one.replicates is not None:
        content["replicates"] = one.replicates
    if one.source is not None:
        content["source"] = one.source.state()
    elif one.images is not None:
        content["images"] = one.images
    extension = _extension(path)
    with replacing(path) as temporary:
        if extension == ".npz":
            np.savez_compressed(temporary, allow_pickle=False, **_flat(content))
        else:
            temporary.write_text(json.dumps(content, default=np.ndarray.tolist), encoding="utf-8")


def read(kind: "type[Chromatogram]", path: str | Path) -> "Chromatogram":
    """Return the chromatogram that `write` wrote. Raises ValueError for any other file."""
    extension = _extension(path)
    with refusing(path, "does not hold a chromatogram"):
        content = _nested(arrays_in(path)) if extension == ".npz" else json_in(path)
        arrays = {"rates": numbers(content["rates"], "the rates of a chromatogram must be numbers")}
        arrays["edges"] = numbers(content["edges"], "the edges of a chromatogram must rise")
        if "replicates" in content:
            arrays["replicates"] = numbers(content["replicates"], "replicates must be numbers")
        size = np.asarray(content["size"]).tolist()
        about = texts(content.get("about", {}), "about")
        frames = np.asarray(content["frames"]).tolist() if "frames" in content else None
        return kind(
            size=tuple(size) if isinstance(size, list) else size,
            name=text(content["name"], "name"),
            images=whole(content["images"], "the number of images") if "images" in content else None,
            noise_error=np.asarray(content.get("noise_error", 0.0)).tolist(),
            source=Source.from_state(content["source"]) if "source" in content else None,
            about=about,
            frames=frames,
            **arrays,
        )


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    """Return nested content as an NPZ file takes it: `source/mean` for what stands in `source`."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= {f"{key}/{inner}": each for inner, each in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in flat.items():
        outer, _, inner = key.partition("/")
        if inner:
            content.setdefault(outer, {})[inner] = value
        else:
            content[key] = value
    return content


def _extension(path: str | Path) -> str:
    extension = Path(path).suffix.lower()
    if extension not in (".json", ".npz"):
        raise ValueError(f"a chromatogram is kept in a .json or .npz file; got {path}")
    return extension
