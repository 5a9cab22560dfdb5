"""Files: where those of this package are found, and how one is written that is either whole or absent."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CHECKOUT = Path(__file__).parents[1]


def shipped(path: str | Path) -> Path:
    """Return where a file or folder is: at `path`, or else at that path in the checkout of this package."""
    return next((place for place in (Path(path), _CHECKOUT / path) if place.exists()), Path(path))


@contextmanager
def opened_tensors(path: str | Path, missing: str) -> Iterator[Any]:
    """Open a safetensors file that may ship, for NumPy.

    missing: what the ValueError says that the file holds, where it or what the block looks for in it is wrong.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(shipped(path), framework="numpy") as file:
            yield file
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds {missing}: {error}") from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its extension; rename it to `path` if the block succeeds.

    When the block fails the temporary file is removed, and whatever was at `path` before stays.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}")
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every safetensors file of a folder, by its path inside it."""
    return {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(folder.rglob("*.safetensors"))}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: str | Path, values: dict[str, Any]) -> None:
    """Write a JSON file that is either whole or absent."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON file, here or in the checkout of this package."""
    return json.loads(shipped(path).read_text(encoding="utf-8"))
