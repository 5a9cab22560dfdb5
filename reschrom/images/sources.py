"""Where pictures come from: files by name, in a folder, a zip, or a data set on the hub with its tables of pictures.

What is read here is one file by its name, whatever holds it, and nothing is unpacked. Readers of image folders, such as
those of torchvision and datasets, take whole folders of labelled classes, and would be a second way for zip and table.
"""

import functools
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from reschrom._extras import naming_extra

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@contextmanager
def opened(source: str) -> Iterator[tuple[Callable[[str], bytes], list[str]]]:
    """Give what reads a file of a source by its name, and the names of all its files.

    source: a zip file, a folder, or the id `owner/name` of a data set on the Hugging Face hub. Of a parquet file, the
        table in which the hub keeps most data sets, each row counts as a picture file, called `table/row.png`.
    """
    path = Path(located(source))
    if path.is_dir():
        files = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
        tables = {name: _Table(path / name) for name in files if name.endswith(".parquet")}
        rows = [f"{name}/{row:08d}.png" for name, table in tables.items() for row in range(len(table))]

        def read(name: str) -> bytes:
            folder, _, file = name.rpartition("/")
            return tables[folder][int(file[:8])] if folder in tables else (path / name).read_bytes()

        yield read, [name for name in files if name not in tables] + rows
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield archive.read, archive.namelist()
    else:
        raise ValueError(f"pictures come from a zip file, a folder, photos or owner/name on the hub; got {source}")


def located(source: str) -> str:
    """Return where a source is on this machine, after fetching it from the hub if that is where it is."""
    if re.fullmatch(r"[\w.-]+/[\w.-]+", source) and not Path(source).parent.exists():
        return str(_downloaded(source))
    return source


@functools.cache
@naming_extra("a data set on the hub")
def _downloaded(source: str) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(source, repo_type="dataset"))


class _Table:
    """The picture files in the rows of a parquet file, one part of the file at a time in memory."""

    @naming_extra("a parquet file")
    def __init__(self, path: Path) -> None:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile

        try:
            self._file = ParquetFile(path)
        except ArrowInvalid as error:
            raise ValueError(f"{path} is no parquet file: {error}") from error
        columns = [field.name for field in self._file.schema_arrow if "bytes: binary" in str(field.type)]
        if not columns:
            raise ValueError(f"{path} has no column of pictures; it has {', '.join(self._file.schema_arrow.names)}")
        self._column = columns[0]
        about = self._file.metadata
        self._ends = np.cumsum([about.row_group(index).num_rows for index in range(about.num_row_groups)])
        self._part = functools.lru_cache(maxsize=1)(self._read)

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def __getitem__(self, row: int) -> bytes:
        part = int(np.searchsorted(self._ends, row, side="right"))
        return bytes(self._part(part)[row - self._ends[part]]["bytes"])

    def _read(self, part: int) -> list[dict[str, bytes]]:
        return self._file.read_row_group(part, [self._column])[self._column].to_pylist()
