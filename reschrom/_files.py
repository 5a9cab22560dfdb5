"""Files: where those of this package are found, and how one is written that is either whole or absent."""

import glob
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CHECKOUT = Path(__file__).parents[1]
_LARGEST_TEXT = 10_000_000


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
    except (SafetensorError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds {missing}: {error}") from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its extension; rename it to `path` if the block succeeds.

    When the block fails the temporary file is removed, and whatever was at `path` before stays. A file that is replaced
    keeps its mode; of a link, the file that it leads to is replaced. What is no regular file, such as `/dev/null` or a
    pipe, is written to. What a process that was killed left of the same file is removed.
    Raises an OSError that names `path`.
    """
    path, place = Path(path), destination(path)
    if place.exists() and not place.is_file():
        with tempfile.TemporaryDirectory() as folder, _named(path, Path(folder, path.name)) as written:
            yield written
            with written.open("rb") as source, place.open("wb") as target:
                shutil.copyfileobj(source, target)
        return
    stem = path.stem.encode()[:100].decode(errors="ignore")  # names have at most 255 bytes
    temporary = place.with_name(f".{stem}.{os.getpid()}{path.suffix}")
    for left in forsaken(place.parent, f".{stem}.", path.suffix):
        left.unlink(missing_ok=True)
    try:
        with _named(path, temporary):
            mode = _mode(place, temporary)
            yield temporary
            temporary.chmod(mode)  # some libraries write files that no one else may read
            temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


def _mode(place: Path, temporary: Path) -> int:
    """Return the mode of a file, or where there is none that of any new one."""
    if place.exists():
        return stat.S_IMODE(place.stat().st_mode)
    temporary.touch()
    mode = stat.S_IMODE(temporary.stat().st_mode)
    temporary.unlink()
    return mode


@contextmanager
def _named(path: Path, temporary: Path) -> Iterator[Path]:
    """Yield a temporary path; what goes wrong with it is told of the path that was asked for."""
    try:
        yield temporary
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error


def destination(path: str | Path) -> Path:
    """Return where a file is to be written, at the end of all links, after checking that it can be.

    Raises an OSError that names `path`.
    """
    try:
        place = Path(path).resolve(strict=False)
        there = place.exists()
    except (OSError, RuntimeError) as error:  # links that lead to themselves, a name that is too long
        raise OSError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from error
    if not place.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {Path(path).parent}")
    if place.is_dir():
        raise IsADirectoryError(f"{path} cannot be written: it is a folder")
    # Who may write everything shall not overwrite what is marked as read-only.
    if there and not (os.access(place, os.W_OK) and place.stat().st_mode & 0o222):
        raise PermissionError(f"{path} cannot be written: it is read-only")
    if (not there or place.is_file()) and not os.access(place.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} cannot be written: its folder is read-only")
    return place


def forsaken(folder: Path, begins: str, ends: str = "") -> Iterator[Path]:
    """Yield what processes that were killed left in a folder.

    begins, ends: of its name, which goes on with the number of the process. What is named after this process was left
    by an earlier one, of a container that numbers its processes from 1.
    """
    for path in folder.glob(f"{glob.escape(begins)}*{glob.escape(ends)}"):
        owner = path.name[len(begins) : len(path.name) - len(ends)].split("-")[0]
        if owner.isdecimal() and (int(owner) == os.getpid() or not _runs(int(owner))):
            yield path


def _runs(process: int) -> bool:
    """Tell whether a process runs, as far as can be known: where signals may do harm, each counts as running."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


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
    return json.loads(read_text(shipped(path)))


def read_text(path: Path) -> str:
    """Return the text of a file that someone wrote, or a program for them.

    Raises ValueError that names the file where it is not UTF-8, or larger than any such file.
    """
    size = path.stat().st_size
    if size > _LARGEST_TEXT:
        raise ValueError(f"{path} is too large: {size:,} bytes, where {_LARGEST_TEXT:,} are the most")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error}") from error
