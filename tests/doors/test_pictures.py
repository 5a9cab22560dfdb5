"""A picture that cannot be read, or not rightly, is named; so is everything that makes a source none."""

import functools
import io
import multiprocessing
import os
import re
import signal
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from doors.door import Command, Row, refuse, refuse_command
from PIL import Image

from reschrom.cli.commands import main
from reschrom.images.pictures import mapped, numbered, photographs, stream
from reschrom.images.sources import BrokenPicture
from reschrom.theory.spectrum import MeasuredSpectrum

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)


def saved(picture: Image.Image, kind: str, **settings: object) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **settings)
    return content.getvalue()


PNG, JPEG = (saved(Image.fromarray(PIXELS), kind) for kind in ("PNG", "JPEG"))


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(side: int, bits: int, kind: int, rows: bytes, *more: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, bits, kind, 0, 0, 0)
    return b"".join([PNG[:8], chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")])


def tiff(bits: int, sign: int, white: int) -> bytes:
    """A grey TIFF of 4x1 pixels with tags that Pillow does not write."""
    tags = {256: 4, 257: 1, 258: bits, 259: 1, 262: white, 273: 8, 277: 1, 278: 1, 279: bits // 2, 339: sign}
    listed = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, tags[tag]) for tag in tags)
    return (
        b"II*\0"
        + struct.pack("<I", 8 + bits // 2)
        + bytes(bits // 2)
        + struct.pack("<H", len(tags))
        + listed
        + bytes(4)
    )


def spoilt(compression: str) -> bytes:
    """A TIFF of 96x96 pixels with wrong bytes in the middle."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96), np.uint8))
    content = saved(noise.convert("1") if compression == "group4" else noise, "TIFF", compression=compression)
    return content[:300] + b"\xff" * 50 + content[350:]


# What stands in pictures/z.png, and what is said of it.
BROKEN = {
    "empty": (b"", r"is empty"),
    "words": (b"no picture", r"is no picture of a known kind"),
    "web page": (b"\n<!DOCTYPE html><html></html>", r"is a web page: download the file again"),
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        r"is a Git LFS pointer: fetch the file with git lfs pull",
    ),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", r"is no picture of a known kind"),
    "half a PNG": (PNG[: len(PNG) // 2], r"is no picture that can be read: .*truncated"),
    "half a JPEG": (JPEG[:-100], r"is no picture that can be read: .*truncated"),
    "only the first bytes": (PNG[:20], r"is no picture"),
    "wrong byte": (PNG[:60] + bytes([PNG[60] ^ 255]) + PNG[61:], r"is no picture that can be read: .*broken"),
    "wrong sum": (PNG[:29] + b"abcd" + PNG[33:], r"is no picture"),
    "damaged fax": (spoilt("group4"), r"is no picture that can be read: Fax4Decode: Bad code word"),
    "damaged TIFF": (spoilt("tiff_adobe_deflate"), r"is no picture that can be read: decoder error"),
    "no pixels": (png(0, 8, 2, b""), r"is no picture"),
    "too many pixels": (png(30000, 1, 0, b""), r"900000000 pixels.* exceeds limit"),
    "floats": (
        saved(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"),
        r"black and white are not known \(mode F of TIFF\): save it with unsigned samples of 8 or 16 bits",
    ),
    "not a number": (saved(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF"), r"not known \(mode F"),
    "32 bits": (saved(Image.fromarray(np.zeros((4, 4), np.int32)), "TIFF"), r"not known \(mode I of TIFF\)"),
    "float map": (b"Pf\n1 1\n-1.0\n" + bytes(4), r"not known \(mode F of PPM\)"),
    "signed 16 bits": (tiff(16, 2, 1), r"not known \(mode I of TIFF\)"),
    "signed 8 bits": (tiff(8, 2, 1), r"not known \(mode L of TIFF\)"),
    "12 bits": (tiff(12, 1, 1), r"not known \(mode I;16 of TIFF\)"),
    "16 bits from white": (tiff(16, 1, 0), r"not known \(mode I;16 of TIFF\)"),
    "transparent grey of 2 bits": (
        png(4, 2, 0, b"\0\x1b" * 4, chunk(b"tRNS", b"\0\1")),
        r"transparent colour in other bits .*: save it with an alpha channel",
    ),
    "transparent grey of 16 bits": (
        png(1, 16, 0, b"\0\1\1", chunk(b"tRNS", b"\1\1")),
        r"transparent colour in other bits",
    ),
}


@pytest.fixture
def place(tmp_path):
    """A folder with two good pictures in pictures/."""
    (tmp_path / "pictures").mkdir()
    for index, turn in enumerate((0, 2)):
        Image.fromarray(np.rot90(PIXELS, turn)).save(tmp_path / "pictures" / f"a{index}.png")
    return tmp_path


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_picture_is_named_or_skipped(kind, place):
    content, words = BROKEN[kind]
    (place / "pictures" / "z.png").write_bytes(content)
    refuse(Row(lambda: list(stream("pictures", 8)), BrokenPicture, rf"^pictures/z\.png .*{words}"), place)
    (left,) = stream(str(place / "pictures"), 8, skip_broken=True)
    assert len(left) == 2


def test_what_libtiff_says_by_itself_does_not_reach_the_terminal(place, capfd):
    (place / "pictures" / "z.tif").write_bytes(spoilt("tiff_adobe_deflate"))
    with pytest.raises(BrokenPicture):
        list(stream(str(place / "pictures"), 8))
    assert capfd.readouterr().err == ""
    os.write(2, b"as before")
    assert capfd.readouterr().err == "as before"


def linked(to: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "z.png").symlink_to(to)


def written(name: str, content: bytes = b"") -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content)


# What else lies in the folder of the pictures, and what the command says of it.
PLACES = {
    "a link to nothing": (linked("nowhere.png"), r"pictures/z\.png is a link to no file; --skip-broken measures the"),
    "a link to itself": (linked("z.png"), r"pictures/z\.png is a link to no file"),
    "a link to a device": (linked("/dev/zero"), r"pictures/z\.png is a link to no file"),
    "a pipe": (lambda folder: os.mkfifo(folder / "z.png"), r"pictures/z\.png is no file"),
    "a name of two lines": (written("z\n.png"), r"'pictures/z\\n\.png' is empty"),
    "a name in no letters": (written("z\udcff.png"), r"'pictures/z\\udcff\.png' is empty"),
}


@pytest.mark.parametrize("options", ["", "--shard 1/1 --out part.npz"])
@pytest.mark.parametrize("kind", PLACES)
def test_what_is_no_file_is_named(kind, options, place):
    make, words = PLACES[kind]
    make(place / "pictures")
    refuse_command(Command(f"spectrum pictures --size 8 {options}", words), place)


def test_a_file_too_large_for_a_picture_is_not_read(place):
    with (place / "pictures" / "z.png").open("wb") as file:
        file.truncate(2**40)  # which takes no room
    with pytest.raises(BrokenPicture, match=r"pictures/z\.png is too large for a picture: 1,099,511,627,776 bytes"):
        list(stream(str(place / "pictures"), 8))


@pytest.mark.lasting
def test_a_broken_picture_is_named_by_the_process_that_reads_it(place):
    for index in range(65):
        (place / "pictures" / f"b{index:02d}.png").write_bytes(PNG if index < 64 else b"")
    words = r"pictures/b64\.png is empty; --skip-broken measures the others"
    refuse_command(Command("spectrum pictures --size 8 --workers 2", words), place)


FEW = "skipped 2 files that are no pictures: 1 .txt, 1 AppleDouble"
TOLD = {
    "files of other kinds": ({"n.txt": b"", "._a0.png": b""}, FEW),
    "what macOS adds": (
        {"__MACOSX/a0.png": b"", "m/._b.jpg": b""},
        "skipped 2 files that are no pictures: 2 AppleDouble",
    ),
    "one file": ({".DS_Store": b""}, "skipped 1 file that is no picture: 1 .DS_Store"),
    "a zip inside": ({"b.zip": b""}, "skipped 1 file that is no picture: 1 .zip"),
    "what Pillow cannot read": ({"b.heic": b"", "c.HEIC": b"", "d.jxl": b""}, r"skipped 3 files .*: 2 .heic, 1 .jxl"),
    "metadata": ({"metadata.json": b"{}"}, ""),
    "small pictures": (
        {"b.png": saved(Image.new("RGB", (7, 9)), "PNG"), "c.png": saved(Image.new("RGB", (9, 8)), "PNG")},
        "enlarged 1 small picture, which empties its finest bands",
    ),
    "broken pictures": (
        {f"{index}.png": b"" for index in range(5)},
        r"skipped 5 broken pictures: pictures/0.png is empty; pictures/1.png .*; pictures/2.png is empty; and 2 more",
    ),
}


@pytest.mark.parametrize("kind", TOLD)
def test_what_is_left_out_is_told_in_one_line(kind, place, monkeypatch, capsys):
    files, line = TOLD[kind]
    for name, content in files.items():
        (place / "pictures" / name).parent.mkdir(exist_ok=True)
        (place / "pictures" / name).write_bytes(content)
    monkeypatch.chdir(place)
    assert main(["spectrum", "pictures", "--size", "8", "--skip-broken"]) == 0
    said = capsys.readouterr().err
    assert re.fullmatch(f"reschrom: {line}\n" if line else "", said), said


def test_a_link_to_a_folder_is_told_and_not_followed(place, monkeypatch, capsys):
    (place / "pictures" / "again").symlink_to("..")
    monkeypatch.chdir(place)
    assert main(["spectrum", "pictures", "--size", "8"]) == 0
    captured = capsys.readouterr()
    assert "(2 images)" in captured.out
    assert captured.err == "reschrom: skipped 1 file that is no picture: 1 link to a folder\n"


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """150 pictures, three batches: of the first batch one is broken, of the second all but one, of the last none."""
    path = tmp_path_factory.mktemp("damaged")
    pixels = np.random.default_rng(0).integers(0, 256, (150, 8, 8, 3), np.uint8)
    for index, picture in enumerate(pixels):
        broken = index == 5 or 64 < index < 128
        (path / f"{index:03d}.png").write_bytes(b"" if broken else saved(Image.fromarray(picture), "PNG"))
    return path


@pytest.mark.lasting
def test_however_it_is_shared_the_same_pictures_are_skipped(damaged, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ["spectrum", str(damaged), "--size", "8", "--skip-broken"]
    assert main([*given, "--out", "one.npz"]) == 0
    one = capsys.readouterr()
    assert "(86 images)" in one.out
    assert "skipped 64 broken pictures" in one.err
    assert main([*given, "--workers", "2", "--out", "two.npz"]) == 0
    assert capsys.readouterr() == one
    for shard in ("1/2", "2/2"):
        assert main([*given, "--shard", shard, "--out", f"{shard[0]}.npz"]) == 0
    said = capsys.readouterr().err
    assert [int(count) for count in re.findall(r"skipped (\d+) broken", said)] == [1, 63]
    assert main(["merge", "2.npz", "1.npz", "--out", "all.npz"]) == 0
    assert capsys.readouterr().out == one.out
    whole, shared, merged = (MeasuredSpectrum.load(f"{name}.npz") for name in ("one", "two", "all"))
    for name in ("variance", "lower", "upper"):
        np.testing.assert_array_equal(getattr(shared, name), getattr(whole, name))
        np.testing.assert_allclose(getattr(merged, name), getattr(whole, name), rtol=1e-12)
    left = np.concatenate(list(stream(str(damaged), 8, skip_broken=True)))
    assert len(left) == whole.images
    np.testing.assert_allclose(whole.sums.mean, left.mean(axis=0), rtol=1e-12)


COMMANDS = {
    "no source": Command(
        "spectrum '' --size 8", r"a folder, photos or owner/name on the hub; got '', which names nothing"
    ),
    "a misspelt folder": Command(
        "spectrum ./data/picturs --size 8", r"got \./data/picturs, which is neither a file nor"
    ),
    "beside what is there": Command(
        "spectrum pictures/more --size 8", r"got pictures/more, which is neither a file nor"
    ),
    "above what is there": Command("spectrum ../picturs --size 8", r"got \.\./picturs, which is neither a file nor"),
    "a home": Command("spectrum ~nobody/pictures --size 8", r"got ~nobody/pictures, which is neither a file nor"),
    "a hidden place": Command("spectrum .no/pictures --size 8", r"got \.no/pictures, which is neither a file nor"),
    "a picture": Command("spectrum pictures/a0.png --size 8", r"got pictures/a0\.png, which is a file of another kind"),
    "no such data set": Command(
        "spectrum data/pictures --size 8",
        r"there is no file or folder data/pictures here, and no data set of that name came from the hub: not there",
    ),
    "all broken": Command(
        "spectrum broken --size 8 --skip-broken", r"none of the 2 pictures can be read: broken/a\.png is empty$"
    ),
    "all but one broken": Command("spectrum one --size 8 --skip-broken", r"needs two or more images; got 1"),
    "all the same": Command("spectrum same --size 8", r"the 3 pictures of same are all the same"),
    "no picture": Command("spectrum none --size 8", r"none holds no pictures: .*; there are 2 \.txt, 1 \.heic"),
    "images": Command("spectrum pictures --size 8 --images 0", r"--images: .* 2 or more; got 0"),
    "images below 0": Command("spectrum pictures --size 8 --images -3", r"--images: .* 2 or more; got -3"),
    "workers below 0": Command("spectrum pictures --size 8 --workers -1", r"--workers: .* 1 or more; got -1"),
    "workers without end": Command(
        "spectrum pictures --size 8 --workers 1000000", r"--workers: .* at most 1024; got 1000000"
    ),
    "an empty part": Command(
        "spectrum pictures --size 8 --shard 1/2 --out p.npz",
        r"part 1 of 2 of pictures is empty: parts are cut between batches of 64, and there are 2 pictures",
    ),
    "a folder to write": Command(
        "spectrum nowhere --size 8 --out folder.json", r"folder\.json cannot be written: .* folder"
    ),
    "an ending in capitals": Command(
        "spectrum nowhere --size 8 --out s.JSON", r"must end in \.json or \.npz; got s\.JSON"
    ),
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_command_that_cannot_be_right_is_refused(kind, place, monkeypatch):
    def not_there(*_: object, **__: object) -> str:
        raise OSError("not\nthere")

    monkeypatch.setattr("huggingface_hub.snapshot_download", not_there)
    for name in ("folder.json", "broken", "one", "same", "none"):
        (place / name).mkdir()
    for name in ("broken/a.png", "broken/b.png", "one/a.png", "none/a.txt", "none/b.txt", "none/c.heic"):
        (place / name).touch()
    for name in ("one/b.png", "same/a.png", "same/b.png", "same/c.png"):
        (place / name).write_bytes(PNG)
    refuse_command(COMMANDS[kind], place)


READERS = {
    "no name": Row(lambda: list(stream(None, 8)), TypeError, r"named by text; got NoneType"),
    "count of 0": Row(lambda: list(stream("pictures", 8, 0)), ValueError, r"1 or more, .* got 0, 64, 1 and \(0, 1\)"),
    "count below 0": Row(lambda: list(stream("pictures", 8, -1)), ValueError, r"1 or more, .* got -1, 64, 1"),
    "batches of 0": Row(lambda: list(stream("pictures", 8, at_once=0)), ValueError, r"1 or more, .* got None, 0, 1"),
    "workers": Row(lambda: list(mapped("pictures", 8, numbered, workers=0)), ValueError, r"got None, 64, 0 and"),
    "a part beyond": Row(lambda: list(mapped("pictures", 8, numbered, shard=(2, 2))), ValueError, r"and \(2, 2\)"),
    "no parts": Row(lambda: list(mapped("pictures", 8, numbered, shard=(0, 0))), ValueError, r"and \(0, 0\)"),
    "size of 0": Row(lambda: list(stream("pictures", 0)), ValueError, r"a size is a number of pixels"),
    "pictures of a class": Row(
        lambda: photographs("broken", "a picture", "train", 8), BrokenPicture, r"^broken/a\.png is empty"
    ),
}


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("kind", READERS)
def test_a_call_that_cannot_be_right_is_refused(kind, place):
    (place / "broken").mkdir()
    (place / "broken" / "a.png").touch()
    refuse(READERS[kind], place)


def killed(batch: np.ndarray, first: int) -> None:
    signal.raise_signal(signal.SIGKILL)


@pytest.mark.lasting
def test_a_process_that_is_killed_is_missed_at_once(place):
    for index in range(64):
        (place / "pictures" / f"b{index:02d}.png").write_bytes(PNG)
    with pytest.raises(ChildProcessError, match=r"ended from outside, perhaps for want of memory: fewer workers"):
        list(mapped(str(place / "pictures"), 8, killed, workers=2))
    assert multiprocessing.active_children() == []


def first_after_fourth(place: Path, batch: np.ndarray, first: int) -> np.ndarray:
    """Make more than a pipe holds; of the first picture only once the fourth was begun."""
    (place / str(first)).touch()
    for _ in range(1200):
        if first or (place / "3").exists():
            return np.full(100_000, first)
        time.sleep(0.1)
    raise TimeoutError("the fourth picture was never begun")


@pytest.mark.lasting
def test_a_process_goes_on_while_that_before_it_is_slow(place):
    for index in range(2):
        (place / "pictures" / f"b{index}.png").write_bytes(PNG)
    each = functools.partial(first_after_fourth, place)
    made = mapped(str(place / "pictures"), 8, each, at_once=1, workers=2)
    assert [one[0] for one in made] == [0, 1, 2, 3]


@pytest.mark.lasting
def test_who_stops_reading_leaves_no_process(place):
    for index in range(64):
        (place / "pictures" / f"b{index:02d}.png").write_bytes(PNG)
    batches = mapped(str(place / "pictures"), 8, numbered, workers=2)
    next(batches)
    batches.close()
    assert multiprocessing.active_children() == []
