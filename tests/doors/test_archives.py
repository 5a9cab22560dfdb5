"""A zip, a table or a list of classes that is damaged or made to harm is named, with what in it is wrong."""

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from doors.door import Command, Row, refuse, refuse_command
from PIL import Image
from pyarrow import parquet

from reschrom.images import pictures, sources
from reschrom.images.pictures import photographs, stream
from reschrom.images.sources import BrokenPicture


def png(index: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(index).integers(0, 256, (16, 16, 3), np.uint8)).save(content, "PNG")
    return content.getvalue()


GOOD = {"p/a.png": png(0), "p/b.png": png(1)}


def zipped(files: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", how) as archive:
        for name, each in files.items():
            archive.writestr(name, each)
    return content.getvalue()


def damaged(how: int) -> bytes:
    """A zip whose first picture has wrong bytes in the middle."""
    content = bytearray(zipped({"p/a.png": bytes(1000) + png(0), "p/b.png": png(1)}, how))
    start = content.index(b"p/a.png") + len("p/a.png")
    content[start + 20 : start + 30] = b"\xff" * 10
    return bytes(content)


def changed(near: int, far: int, value: bytes, content: bytes | None = None) -> bytes:
    """A zip whose headers say something else: at `near` bytes in those before each file, at `far` in the directory."""
    changing = bytearray(zipped(GOOD) if content is None else content)
    for mark, at in ((b"PK\3\4", near), (b"PK\1\2", far)):
        place = -1
        while (place := changing.find(mark, place + 1)) >= 0:
            changing[place + at : place + at + len(value)] = value
    return bytes(changing)


WHOLE = zipped(GOOD)
KINDS = r"a zip file, a folder, photos or owner/name on the hub; got s\.zip, which"
# What the file s.zip holds, and what is said of it.
ZIPS = {
    "words": (b"words", rf"{KINDS} is a file of another kind"),
    "nothing": (b"", rf"{KINDS} is empty"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", rf"{KINDS} is a Git LFS pointer: fetch the file"),
    "web page": (b"<html>", rf"{KINDS} is a web page"),
    "cut short": (WHOLE[: len(WHOLE) // 2], rf"{KINDS} is a broken zip file, perhaps cut short"),
    "directory gone": (WHOLE.replace(b"PK\1\2", b"PK\0\0"), r"s\.zip is a broken zip file: "),
    "no files": (zipped({}), r"s\.zip holds no pictures: no file ends in \.png"),
    "only folders": (zipped({"p/": b"", "a.png/": b""}), r"s\.zip holds no pictures"),
    "only another zip": (zipped({"a.zip": WHOLE}), r"s\.zip holds no pictures: .*; there are 1 \.zip"),
    "wrong sum": (damaged(zipfile.ZIP_STORED), r"s\.zip/p/a\.png cannot be unpacked: Bad CRC-32"),
    "broken deflate": (damaged(zipfile.ZIP_DEFLATED), r"s\.zip/p/a\.png cannot be unpacked"),
    "broken bzip2": (damaged(zipfile.ZIP_BZIP2), r"s\.zip/p/a\.png cannot be unpacked"),
    "broken lzma": (damaged(zipfile.ZIP_LZMA), r"s\.zip/p/a\.png cannot be unpacked"),
    "password": (
        changed(6, 8, b"\1"),
        r"p/a\.png cannot be unpacked: .* encrypted.*: unpack the zip with another program",
    ),
    "deflate64": (changed(8, 10, b"\x09"), r"p/a\.png cannot be unpacked: .* method is not supported: unpack the zip"),
    "later zip": (changed(4, 6, b"\xff"), r"s\.zip is a broken zip file: zip file version"),
    "a file before its header": (WHOLE.replace(b"PK\3\4", b"PK\0\0"), r"s\.zip/p/a\.png cannot be unpacked"),
    "a gigabyte said": (changed(22, 24, struct.pack("<I", 2**30)), r"p/a\.png is too large .*: 1,073,741,824 bytes"),
    "less said than held": (
        changed(22, 24, struct.pack("<I", 100), zipped({"a.png": png(0)}, zipfile.ZIP_DEFLATED)),
        r"s\.zip/a\.png cannot be unpacked: Bad CRC-32",
    ),
    "a broken picture": (zipped({**GOOD, "p/c.png": b""}), r"s\.zip/p/c\.png is empty; --skip-broken measures"),
    "a name of two lines": (zipped({**GOOD, "p/c\n.png": b""}), r"'s\.zip/p/c\\n\.png' is empty"),
}


@pytest.mark.parametrize("kind", ZIPS)
def test_a_zip_is_named_with_what_is_wrong_in_it(kind, tmp_path):
    content, words = ZIPS[kind]
    (tmp_path / "s.zip").write_bytes(content)
    refuse_command(Command("spectrum s.zip --size 8", words), tmp_path)


@pytest.mark.lasting
@pytest.mark.parametrize("how", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_is_unpacked_no_further_than_it_says(how, tmp_path, monkeypatch):
    """It holds 16 MB and says 100 bytes: of the pieces that are unpacked, none is larger than what one piece holds."""
    held, pieces = bytes(2**24), []
    bomb = zipped({"a.png": held}, how)
    (tmp_path / "s.zip").write_bytes(changed(22, 24, struct.pack("<I", 100), bomb))
    read = zipfile.ZipExtFile.read
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda file, n=-1: pieces.append(n) or read(file, n))
    with pytest.raises(BrokenPicture, match=r"s\.zip/a\.png cannot be unpacked"):
        list(stream(str(tmp_path / "s.zip"), 8))
    assert set(pieces) == {4096}


SAME = {
    "names that lead out": {"/p/a.png": GOOD["p/a.png"], "../../p/b.png": GOOD["p/b.png"]},
    "what macOS adds": {**GOOD, "__MACOSX/p/._a.png": b"\0\5\x16\7", "p/._b.png": b""},
    "a file without a name": {**GOOD, "NAMELESS": b""},
    "files of other kinds": {**GOOD, "p/notes.txt": b"", "a.zip": b"", "a.parquet": b""},
}


@pytest.mark.parametrize("kind", SAME)
def test_a_zip_is_only_read(kind, tmp_path):
    (tmp_path / "in").mkdir()
    place, plain = tmp_path / "in" / "s.zip", tmp_path / "in" / "plain.zip"
    place.write_bytes(zipped(SAME[kind]).replace(b"NAMELESS", b"\0AMELESS"))
    plain.write_bytes(zipped(GOOD))
    found, expected = (np.concatenate(list(stream(str(path), 8))) for path in (place, plain))
    assert {each.tobytes() for each in found} == {each.tobytes() for each in expected}
    assert len(found) == 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["in", "plain.zip", "s.zip"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_files_of_one_name_the_last_counts(tmp_path):
    place = tmp_path / "s.zip"
    with zipfile.ZipFile(place, "w") as archive:
        for index in (0, 1):
            archive.writestr("a.png", png(index))
    (tmp_path / "last.zip").write_bytes(zipped({"a.png": png(1)}))
    found, expected = (np.concatenate(list(stream(str(path), 8))) for path in (place, tmp_path / "last.zip"))
    np.testing.assert_array_equal(found, expected)


STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
ROWS = [{"bytes": content, "path": None} for content in GOOD.values()]


def table(column: pa.Array, name: str = "image") -> Callable[[Path], None]:
    return lambda path: parquet.write_table(pa.table({"label": list(range(len(column))), name: column}), path)


def misspell(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"WORD", b"\xff\xff\xff\xff"))


def spoilt(path: Path) -> None:
    """A table with wrong bytes among the pictures."""
    table(pa.array([{"bytes": np.random.default_rng(0).bytes(5000), "path": None}] * 2, STRUCT))(path)
    content = bytearray(path.read_bytes())
    content[40:400] = b"\xff" * 360
    path.write_bytes(content)


# What the file s/t.parquet holds, and what is said of it.
TABLES = {
    "words": (lambda path: path.write_bytes(b"words"), r"s/t\.parquet is no parquet file"),
    "nothing": (lambda path: path.touch(), r"s/t\.parquet is empty"),
    "pointer": (lambda path: path.write_bytes(b"version https://git-lfs"), r"s/t\.parquet is a Git LFS pointer"),
    "cut short": (lambda path: path.write_bytes(b"PAR1" + bytes(100)), r"s/t\.parquet is no parquet file"),
    "no pictures": (table(pa.array(["a", "b"])), r"s/t\.parquet has no column of pictures; it has label, image"),
    "lists of pictures": (table(pa.array([ROWS], pa.list_(STRUCT))), r"has no column of pictures"),
    "no rows": (table(pa.array([], STRUCT)), r"s holds no pictures"),
    "an empty row": (table(pa.array([*ROWS, None], STRUCT)), r"s/t\.parquet/00000002\.png is missing: its row"),
    "a row without bytes": (
        table(pa.array([{"bytes": None, "path": "a.png"}, *ROWS], STRUCT)),
        r"s/t\.parquet/00000000\.png is missing: its row of the table is empty; --skip-broken",
    ),
    "a broken picture": (
        table(pa.array([*ROWS, {"bytes": b"words", "path": None}], STRUCT)),
        r"s/t\.parquet/00000002\.png is no picture",
    ),
    "a column in no letters": (
        lambda path: (table(pa.array(ROWS, STRUCT), "WORD")(path), misspell(path)),
        r"s/t\.parquet is no parquet file: .*codec can't decode",
    ),
    "a row of no letters": (
        lambda path: (table(pa.array([{"bytes": b"", "path": "WORD"}] * 2, STRUCT))(path), misspell(path)),
        r"s/t\.parquet/00000000\.png is empty",
    ),
    "wrong bytes": (spoilt, r"s/t\.parquet.* (cannot be unpacked in row group 0|is no picture)"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_named_with_what_is_wrong_in_it(kind, tmp_path):
    make, words = TABLES[kind]
    (tmp_path / "s").mkdir()
    make(tmp_path / "s" / "t.parquet")
    refuse_command(Command("spectrum s --size 8", words), tmp_path)


def test_a_row_group_too_large_to_read_is_refused(tmp_path, monkeypatch):
    table(pa.array(ROWS, STRUCT))(tmp_path / "t.parquet")
    monkeypatch.setattr(sources, "_LARGEST_PART", 1000)
    with pytest.raises(
        ValueError, match=r"t\.parquet has a row group of .* write the table with fewer rows in a group"
    ):
        list(stream(str(tmp_path), 8))


def test_rows_of_large_binary_are_pictures_too(tmp_path):
    table(pa.array(ROWS, pa.struct([("path", pa.string()), ("bytes", pa.large_binary())])))(tmp_path / "t.parquet")
    (found,) = stream(str(tmp_path), 8)
    assert len(found) == 2


CLASSES = r"s must have a metadata\.json whose classes include 'a cat': "
# What the file s/metadata.json holds, and what is said of it.
METADATA = {
    "empty": (b"", CLASSES + r"it is empty"),
    "words": (b"classes: a cat", CLASSES + r"it is no JSON"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", CLASSES + r"it is a Git LFS pointer"),
    "no text": (b'{"classes": ["\xff"]}', CLASSES + r"it is no JSON"),
    "deep": (b"[" * 100_000, CLASSES + r"it is nested too deep"),
    "long": (b" " * 2_000, CLASSES + r"it holds 2,000 bytes, where 1,000 are read"),
    "a list": (b'["a cat"]', CLASSES + r"it has no list of names under classes"),
    "no classes": (b"{}", CLASSES + r"it has no list of names"),
    "a number": (b'{"classes": 1}', CLASSES + r"it has no list of names"),
    "a word": (b'{"classes": "a cat"}', CLASSES + r"it has no list of names"),
    "numbers": (b'{"classes": [0, 1]}', CLASSES + r"it has no list of names"),
    "other classes": (b'{"classes": ["a dog"]}', CLASSES + r"'a cat' is not in list"),
    "no such split": (json.dumps({"classes": ["a cat"]}).encode(), r"s has no pictures of a cat in test/000/"),
}


@pytest.mark.parametrize("kind", METADATA)
def test_what_names_no_classes_is_refused(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "_LARGEST_METADATA", 200_000 if kind == "deep" else 1000)
    content, words = METADATA[kind]
    (tmp_path / "s" / "train" / "000").mkdir(parents=True)
    (tmp_path / "s" / "train" / "000" / "a.png").write_bytes(png(0))
    (tmp_path / "s" / "metadata.json").write_bytes(content)
    refuse(Row(lambda: photographs("s", "a cat", "test", 8), ValueError, words), tmp_path)
