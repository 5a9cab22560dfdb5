"""Where pictures come from: files by name, in a folder, a zip, or a data set on the hub with its tables of pictures.

What is read here is one file by its name, whatever holds it, and nothing is unpacked. Readers of image folders, such as
those of torchvision and datasets, take whole folders of labelled classes, and would be a second way for zip and table.
"""

import functools
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from reschrom._extras import naming_extra

# What Pillow reads and is a still picture in common use; of moving pictures and of pages the first is read.
SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".bmp",
    ".tif",
    ".tiff",
    ".apng",
    ".avif",
    ".gif",
    ".jfif",
    ".jp2",
    ".jpe",
    ".pbm",
    ".pgm",
    ".pnm",
    ".ppm",
)
# Bytes of one file: as many pixels as Pillow takes, in RGB, with room for what a file says besides.
_LARGEST = 600_000_000
# Bytes of one part of a table, which is read whole: Arrow holds no more in one array.
_LARGEST_PART = 2**31


class BrokenPicture(ValueError):
    """A picture that cannot be read, or not rightly; the message names its file."""


@contextmanager
def opened(source: str) -> Iterator[tuple[Callable[[str], bytes], list[str]]]:
    """Give what reads a file of a source by its name, and the names of all its files.

    source: a zip file, a folder, or the id `owner/name` of a data set on the Hugging Face hub. Of a parquet file, the
        table in which the hub keeps most data sets, each row counts as a picture file, called `table/row.png`.
        A link to a folder is not followed: it has a name that ends in a slash. Of files of one name in a zip only the
        last counts, as where it is unpacked.
    Raises ValueError for what is none of these; what reads raises BrokenPicture for a file that cannot be read.
    """
    path = Path(located(source))
    if not source:  # which would be the folder where one is
        _refuse("''", "names nothing")
    if path.is_dir():
        files = _files(path)
        tables = {name: _Table(path / name) for name in files if name.endswith(".parquet") and not of_a_mac(name)}
        rows = [f"{name}/{row:08d}.png" for name, table in tables.items() for row in range(len(table))]

        def read(name: str) -> bytes:
            folder, _, file = name.rpartition("/")
            return tables[folder][int(file[:8])] if folder in tables else _content(path, name)

        yield read, [name for name in files if name not in tables] + rows
        return
    if not path.is_file():
        _refuse(source, "is neither a file nor a folder here")
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            _refuse(source, what(file.read(1000)) or "is a file of another kind")
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:  # ValueError: names in no known letters
        raise ValueError(f"{shown(source)} is a broken zip file: {error}") from error
    with archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        yield functools.partial(_member, archive, source), list(dict.fromkeys(names))


def located(source: str) -> str:
    """Return where a source is on this machine, after fetching it from the hub if that is where it is."""
    if not isinstance(source, str):
        raise TypeError(f"a source of pictures is named by text; got {type(source).__name__}")
    if re.fullmatch(r"\w[\w.-]*/[\w.-]+", source) and not Path(source).parent.exists():
        return str(_downloaded(source))
    return source


def of_a_mac(name: str) -> bool:
    """Tell what macOS puts beside the files that it copies (AppleDouble), under the same endings."""
    folders = name.split("/")
    return "__MACOSX" in folders or folders[-1].startswith("._")


def what(content: bytes) -> str:
    """Say what a file is that should be something else, by its first bytes; nothing where they do not tell."""
    start = content[:1000].lstrip().lower()
    if not content:
        return "is empty"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer: fetch the file with git lfs pull"
    if start.startswith((b"<!doctype html", b"<html")):
        return "is a web page: download the file again"
    if start.startswith(b"pk\3\4"):
        return "is a broken zip file, perhaps cut short: copy it again"
    return ""


def shown(name: str) -> str:
    """Return a name as it can stand in one line."""
    return name if name.isprintable() else repr(name)


def words(error: Exception) -> str:
    """Return what an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _refuse(source: str, why: str) -> NoReturn:
    raise ValueError(
        f"pictures come from a zip file, a folder, photos or owner/name on the hub; got {shown(source)}, which {why}"
    )


def _files(folder: Path) -> list[str]:
    def fail(error: OSError) -> NoReturn:
        raise error

    found = []
    for place, folders, files in os.walk(folder, onerror=fail):
        links = [f"{name}/" for name in folders if Path(place, name).is_symlink()]
        inside = Path(place).relative_to(folder).as_posix()
        found += [name if inside == "." else f"{inside}/{name}" for name in files + links]
    return found


def _content(folder: Path, name: str) -> bytes:
    path, place = folder / name, shown(f"{folder}/{name}")
    if not path.is_file():
        raise BrokenPicture(f"{place} is {'a link to no file' if path.is_symlink() else 'no file'}")
    _check_length(path.stat().st_size, place)
    try:
        return path.read_bytes()
    except PermissionError as error:
        raise BrokenPicture(f"{place} may not be read by this user: {error.strerror}") from error


def _member(archive: zipfile.ZipFile, source: str, name: str) -> bytes:
    place = shown(f"{source}/{name}")
    _check_length(archive.getinfo(name).file_size, place)
    try:
        # In small pieces, none of which unpacks to much: zipfile gives no more than the declared length in all.
        with archive.open(name) as file:
            return b"".join(iter(lambda: file.read(4096), b""))
    # RuntimeError: encrypted. NotImplementedError, a RuntimeError: packed in a way that zipfile does not know.
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError) as error:
        hint = ": unpack the zip with another program first" if isinstance(error, RuntimeError) else ""
        raise BrokenPicture(f"{place} cannot be unpacked: {words(error)}{hint}") from error


def _check_length(length: int, place: str) -> None:
    if length > _LARGEST:
        raise BrokenPicture(f"{place} is too large for a picture: {length:,} bytes, where {_LARGEST:,} are read")


@functools.cache
@naming_extra("a data set on the hub")
def _downloaded(source: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, repo_type="dataset"))
    except Exception as error:  # whatever the hub, its client and the network make of a name
        raise ValueError(
            f"there is no file or folder {source} here, and no data set of that name came from the hub: {words(error)}"
        ) from error


class _Table:
    """The picture files in the rows of a parquet file, one part of the file at a time in memory."""

    @naming_extra("a parquet file")
    def __init__(self, path: Path) -> None:
        from pyarrow import ArrowException, types
        from pyarrow.parquet import ParquetFile

        self._path = shown(str(path))
        with path.open("rb") as file:
            start = file.read(1000)
        try:
            self._file = ParquetFile(path)
            kinds = {each.name: each.type for each in self._file.schema_arrow}
        except (ArrowException, OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{self._path} {what(start) or f'is no parquet file: {words(error)}'}") from error
        columns = [
            name
            for name, kind in kinds.items()
            if types.is_struct(kind)
            and any(
                inner.name == "bytes" and (types.is_binary(inner.type) or types.is_large_binary(inner.type))
                for inner in kind
            )
        ]
        if not columns:
            raise ValueError(f"{self._path} has no column of pictures; it has {', '.join(map(shown, kinds))}")
        self._column = columns[0]
        about = self._file.metadata
        self._ends = np.cumsum([about.row_group(index).num_rows for index in range(about.num_row_groups)])
        self._part = functools.lru_cache(maxsize=1)(self._read)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, row: int) -> bytes:
        part = int(np.searchsorted(self._ends, row, side="right"))
        place = f"{self._path}/{row:08d}.png"
        held = self._part(part)[int(row - self._ends[part])]
        content = held["bytes"].as_py() if held.is_valid else None
        if content is None:
            raise BrokenPicture(f"{place} is missing: its row of the table is empty")
        _check_length(len(content), place)
        return bytes(content)

    def _read(self, part: int) -> Any:
        from pyarrow import ArrowException

        about = self._file.metadata.row_group(part)
        length = about.total_byte_size
        if length > _LARGEST_PART:
            raise ValueError(
                f"{self._path} has a row group of {length:,} bytes, where {_LARGEST_PART:,} are read at "
                "once: write the table with fewer rows in a group"
            )
        try:
            rows = self._file.read_row_group(part, [self._column])[self._column]
        except (ArrowException, OSError, UnicodeDecodeError) as error:
            raise BrokenPicture(f"{self._path} cannot be unpacked in row group {part}: {words(error)}") from error
        if len(rows) != about.num_rows:
            raise BrokenPicture(f"{self._path} holds {len(rows)} rows in row group {part}, and says {about.num_rows}")
        return rows
