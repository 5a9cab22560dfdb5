"""Reading: files that anyone may have written, measured before they are read and refused in one line."""

import io
import json
import math
import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import numpy as np

# Bytes that a file may have.
_MOST = {".json": 2**28, ".npz": 2**30}
# An archive may hold so many arrays, and inflate to so many bytes, or so many times its own.
_MEMBERS, _INFLATED, _RATIO = 1000, 2**26, 20
# The header of an array as NumPy writes it, of plain numbers or text.
_HEADER = re.compile(
    r"\{'descr': '[<>|][fiuUb]\d{1,9}', 'fortran_order': (?:True|False), 'shape': \((?:\d+,(?: \d+,?)*)?\), \} *\n"
)


@contextmanager
def refusing(path: str | Path, what: str) -> Iterator[None]:
    """Say in one line which file it is where the block finds that it does not hold what it should.

    what: the file does, or is, such as "does not hold a chromatogram". Errors of the file system pass as they are.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} {what}: {shorten(str(error), 300, placeholder=' ...')}") from error


def json_in(path: str | Path) -> Any:
    """Return what a JSON file holds. Raises ValueError for anything else."""
    return parsed(_bytes_in(path, ".json"))


def parsed(content: str | bytes) -> Any:
    """Return what JSON text says. Raises ValueError for anything else."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def arrays_in(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of an NPZ file by their names, numbers or text. Raises ValueError for anything else.

    What the arrays are said to be is compared with what the file can hold before any is made.
    """
    held = _bytes_in(path, ".npz")
    try:
        with ZipFile(io.BytesIO(held)) as archive:
            members = archive.infolist()
            inflated, most = sum(member.file_size for member in members), max(_INFLATED, _RATIO * len(held))
            if len(members) > _MEMBERS or inflated > most:
                raise ValueError(
                    f"an archive of {len(held)} bytes holds at most {_MEMBERS} arrays and {most} bytes; "
                    f"got {len(members)} arrays of {inflated} bytes"
                )
            if any(member.compress_type not in (ZIP_STORED, ZIP_DEFLATED) for member in members):
                raise ValueError("its arrays are compressed in another way than NumPy does it")
            return {member.filename.removesuffix(".npy"): _array(archive.read(member)) for member in members}
    # RuntimeError is what zipfile says of passwords and of versions that it does not know.
    except (BadZipFile, EOFError, RuntimeError, struct.error, zlib.error) as error:
        raise ValueError(str(error)) from error


def numbers(value: Any, rule: str) -> np.ndarray:
    """Return real numbers from a file, in double precision. Raises ValueError, with the rule, for anything else."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{rule}; got {array.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(np.float64)


def whole(value: Any, what: str) -> int:
    """Return a whole number from a file, 0 or more. Raises ValueError for anything else."""
    array = np.asarray(value)
    if array.ndim or array.dtype.kind not in "iu" or array < 0:
        raise ValueError(f"{what} must be a whole number, 0 or more; got {value!r}")
    return int(array)


def text(value: Any, what: str) -> str:
    """Return text from a file. Raises ValueError for anything else."""
    found = value.item() if isinstance(value, np.ndarray) and not value.ndim else value
    if not isinstance(found, str):
        raise ValueError(f"{what} must be text; got {found!r}")
    return found


def texts(value: Any, what: str) -> dict[str, str]:
    """Return texts by their names from a file. Raises ValueError for anything else."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be texts with names; got {value!r}")
    return {key: text(each, what) for key, each in value.items()}


def _bytes_in(path: str | Path, extension: str) -> bytes:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > _MOST[extension]:
            raise ValueError(f"a {extension} file has at most {_MOST[extension]} bytes; got {size}")
        return file.read(size)


def _array(member: bytes) -> np.ndarray:
    """Return one array of an archive, whose header must agree with its bytes."""
    file = io.BytesIO(member)
    if np.lib.format.read_magic(file) != (1, 0) or not _HEADER.fullmatch(_header(member)):
        raise ValueError("its arrays must be plain numbers or text, as NumPy writes them")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    held = len(member) - file.tell()
    if not dtype.itemsize or any(side > held for side in shape) or math.prod(shape) * dtype.itemsize != held:
        raise ValueError(f"an array of the shape {shape} and {dtype} does not have {held} bytes")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def _header(member: bytes) -> str:
    """Return the header of an array in version 1 of the format: after ten bytes, the last two its length."""
    return member[10 : 10 + int.from_bytes(member[8:10], "little")].decode("latin1")
