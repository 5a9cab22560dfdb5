"""Whatever stands in a file, its loader gives what it promises, or refuses in one line that names the file."""

import copy
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tiny
from doors.door import Row, refuse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reschrom import Chromatogram, MeasuredSpectrum, Schedule, chromatography, load_pipeline, measure_spectrum
from reschrom.theory.intervals import StreamingMean
from reschrom.theory.source import Source

# Few here, and the same each time; RESCHROM_EXAMPLES=10000 tries more by hand.
EXAMPLES = int(os.environ.get("RESCHROM_EXAMPLES", "100"))
GENERATED = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
PIXELS = np.random.default_rng(0).standard_normal((70, 1, 4, 4))
EDGES = np.array([0.0, 1.0, 3.0])


def measured_chromatogram(growth: bool) -> Chromatogram:
    edges = len(EDGES) if growth else len(EDGES) - 1
    energies = StreamingMean(seed=3)
    energies.add(np.random.default_rng(1).random((5, 3, edges)), 0)
    source = Source(energies, np.array([0.9, 0.5, 0.1]), np.ones(edges) if growth else None)
    return Chromatogram.measured(source, EDGES, 4, "made up", {"model": "none", "steps": "2"})


def check_chromatogram(found: Chromatogram) -> None:
    """What is true of every chromatogram."""
    assert np.all(np.isfinite(found.rates) & (found.rates >= 0))
    assert np.all(np.diff(found.edges) > 0)
    assert len(found.band_names) == len(found.rates)
    assert np.all(found.shares.sum(axis=0) <= 1 + 1e-9)
    assert np.all((found.gained_share >= 0) & (found.gained_share <= 1 + 1e-9))
    if found.replicates is not None:
        assert np.all(np.isfinite(found.interval()))
    if found.source is not None:
        assert found.images >= 1
        assert np.all(np.isfinite(found.expected().rates))
        assert np.all(np.isfinite(found.source.energies.replicates))
    assert isinstance(found.name, str)
    assert all(isinstance(text, str) for pair in found.about.items() for text in pair)


def check_spectrum(found: MeasuredSpectrum) -> None:
    """What is true of every measured spectrum."""
    assert np.all((found.lower >= 0) & (found.lower <= found.variance) & (found.variance <= found.upper))
    assert np.all(np.isfinite(found.upper))
    assert type(found.images) is int
    assert found.images >= 1
    assert all(isinstance(text, str) for pair in found.about.items() for text in pair)
    if np.all((found.variance > 1e-100) & (found.variance < 1e100)):
        assert np.isclose(chromatography(0.5, len(found.variance) - 1, found).sum(), 1)
    if found.sums is not None:
        np.testing.assert_allclose(MeasuredSpectrum.merge([found]).variance, found.variance)


class Loader(NamedTuple):
    """A loader: what is saved, how it is loaded, and what is true of all that it gives."""

    name: str
    saved: Callable[[], Any]
    load: Callable[[Path], Any]
    check: Callable[[Any], None]


LOADERS = {
    f"{what}{extension}": Loader(f"it{extension}", saved, load, check)
    for what, saved, load, check in (
        ("chromatogram", lambda: measured_chromatogram(False), Chromatogram.load, check_chromatogram),
        ("growth", lambda: measured_chromatogram(True), Chromatogram.load, check_chromatogram),
        (
            "theory",
            lambda: Chromatogram.predicted(Schedule.cosine(), 4, None, EDGES / 3),
            Chromatogram.load,
            check_chromatogram,
        ),
        ("spectrum", lambda: measure_spectrum(PIXELS, {"source": "s"}), MeasuredSpectrum.load, check_spectrum),
    )
    for extension in (".json", ".npz")
}
NPZ = [name for name in LOADERS if name.endswith(".npz")]
JSON = [name for name in LOADERS if name.endswith(".json")]


@pytest.fixture(scope="module")
def valid(tmp_path_factory) -> dict[str, bytes]:
    """A valid file for each loader."""
    files = {}
    for name, loader in LOADERS.items():
        path = tmp_path_factory.mktemp("valid") / loader.name
        loader.saved().save(path)
        files[name] = path.read_bytes()
    return files


def try_loading(loader: Loader, content: bytes, folder: Path) -> bool:
    """Assert that a file is loaded rightly or refused in one line that names it; tell whether it was loaded."""
    path = folder / loader.name
    path.write_bytes(content)
    try:
        found = loader.load(path)
    except ValueError as error:
        said = str(error)
    else:
        loader.check(found)
        return True
    assert str(path) in said
    assert "\n" not in said
    return False


class Damage(NamedTuple):
    """Bytes that flip, or a piece that is cut off or out, or put in. Places count on from the start of any content."""

    kind: str
    place: int
    flips: list[tuple[int, int]]
    length: int
    piece: bytes

    def of(self, content: bytes) -> bytes:
        place = self.place % len(content)
        if self.kind == "cut off":
            return content[:place]
        if self.kind == "cut out":
            return content[:place] + content[place + self.length :]
        if self.kind == "insert":
            return content[:place] + self.piece + content[place:]
        changed = bytearray(content)
        for where, by in self.flips:
            changed[where % len(content)] ^= by
        return bytes(changed)


PLACES = st.integers(0, 2**16)
DAMAGES = st.builds(
    Damage,
    st.sampled_from(["flip", "flip", "cut off", "cut out", "insert"]),
    PLACES,
    st.lists(st.tuples(PLACES, st.integers(1, 255)), min_size=1, max_size=3),
    st.integers(1, 40),
    st.binary(min_size=1, max_size=20),
)


@pytest.mark.parametrize("name", LOADERS)
def test_what_is_valid_is_loaded(name, valid, tmp_path):
    assert try_loading(LOADERS[name], valid[name], tmp_path)


@pytest.mark.lasting
@pytest.mark.parametrize("name", LOADERS)
@GENERATED
@given(damage=DAMAGES)
def test_a_damaged_file_is_refused_or_right(name, valid, tmp_path, damage):
    try_loading(LOADERS[name], damage.of(valid[name]), tmp_path)


def repacked(members: dict[str, bytes]) -> bytes:
    """An archive whose checksums are right, whatever its arrays are."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def unpacked(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


ODD = [None, True, -1, 0, 1.5, 10**18, 10**30, 10**400, 1e300, -1e300, 5e-324, float("nan"), float("inf")]
ODD += ["", "x", "4x4", "\u0000\n", [], [[]], {}, [None], ["1"], [[1, 2], [3]], {"a": None}]
ARRAYS = [
    *(
        np.full(shape, value)
        for shape in [(), (2,), (3, 2)]
        for value in (0.0, -1.0, np.nan, np.inf, 1e300, 3, True, 1j)
    ),
    *(np.array(each) for each in ("x", "{}", "[", ["a", "b"], np.datetime64(1, "s"), np.zeros(2, "i4,f8"))),
    *(np.zeros(shape) for shape in [(0,), (0, 2), (2, 2, 2)]),
    *(np.ones((3, 2), dtype) for dtype in (">f8", "f2", "g", "u1", "i2")),
]


@pytest.mark.lasting
@pytest.mark.parametrize("name", NPZ)
@GENERATED
@given(
    member=PLACES,
    kind=st.sampled_from(["damage", "exchange", "leave out", "rename"]),
    damage=DAMAGES,
    array=st.sampled_from(range(len(ARRAYS))),
    new=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8),
)
def test_an_array_that_is_another_is_refused_or_right(name, valid, tmp_path, member, kind, damage, array, new):
    members = unpacked(valid[name])
    key = sorted(members)[member % len(members)]
    if kind == "damage":
        members[key] = damage.of(members[key])
    elif kind == "exchange":
        members[key] = npy(ARRAYS[array])
    else:
        content = members.pop(key)
        if kind == "rename":
            members[new + ".npy"] = content
    try_loading(LOADERS[name], repacked(members), tmp_path)


def places(value: Any, before: tuple = ()) -> list[tuple]:
    """Every place in JSON content, but only the first and last of a long list."""
    found = [before] if before else []
    if isinstance(value, dict):
        found += [place for key, each in value.items() for place in places(each, (*before, key))]
    if isinstance(value, list):
        for index in sorted({0, len(value) - 1} & set(range(len(value)))):
            found += places(value[index], (*before, index))
    return found


class Change(NamedTuple):
    """Another value in one place of JSON content."""

    place: int
    kind: str
    odd: int
    factor: float
    name: str

    def make(self, content: Any) -> None:
        if not (found := places(content)):
            return
        *outer, last = found[self.place % len(found)]
        at = content
        for key in outer:
            at = at[key]
        if self.kind == "leave out":
            del at[last]
        elif self.kind == "add" and isinstance(at, dict):
            at[self.name] = copy.deepcopy(ODD[self.odd])
        elif self.kind == "scale" and isinstance(at[last], float):
            at[last] *= self.factor
        else:
            at[last] = copy.deepcopy(ODD[self.odd])


CHANGES = st.builds(
    Change,
    PLACES,
    st.sampled_from(["exchange", "leave out", "scale", "add"]),
    st.integers(0, len(ODD) - 1),
    st.sampled_from([-1, 0, 2, 1e20]),
    st.text(max_size=4),
)


@pytest.mark.lasting
@pytest.mark.parametrize("name", JSON)
@GENERATED
@given(changes=st.lists(CHANGES, min_size=1, max_size=2))
def test_json_that_says_something_else_is_refused_or_right(name, valid, tmp_path, changes):
    content = json.loads(valid[name])
    for change in changes:
        change.make(content)
    try_loading(LOADERS[name], json.dumps(content).encode(), tmp_path)


def declared(shape: str, descr: str = "<f8", held: bytes = b"") -> bytes:
    """An array whose header says what it likes."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + held


def written(name: str, content: bytes | str) -> Path:
    """A file in the folder of the row, which is made anew for each."""
    path = Path(name)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def json_of(size: Any = 2, **changed: Any) -> str:
    return json.dumps({"name": "x", "size": size, "edges": [0, 1], "rates": [[1], [1]], **changed})


def spectrum_json(images: Any = 2, about: Any = None, **changed: Any) -> str:
    fine = {"variance": 1.0, "lower": 0.5, "upper": 2.0, **changed}
    coarse = {"variance": 1.0, "lower": 0.5, "upper": 2.0}
    return json.dumps({"bands": {"2x2": fine, "1x1": coarse}, "images": images, "about": about or {}})


def bomb() -> bytes:
    """Many more zeros than the archive has bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("rates.npy", "w") as member:
        member.write(declared("(16777216,)"))
        for _ in range(2**3):
            member.write(bytes(2**24))
    return file.getvalue()


def archive(compression: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, content in members.items():
            made.writestr(f"{name}.npy", content)
    return file.getvalue()


def flagged() -> bytes:
    """An archive that says that its member has a password."""
    content = bytearray(archive(rates=npy(1.0)))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    content[6] |= 1
    return bytes(content)


def versioned() -> bytes:
    """An archive of a version that nobody has written."""
    content = bytearray(archive(rates=npy(1.0)))
    content[content.index(b"PK\x01\x02") + 6] = 200
    return bytes(content)


# The content of a file, and what is said of it, by each loader that takes files of that extension.
ANY_JSON = {
    "empty": ("", "Expecting value"),
    "no text": (b"\xff\xfe\xfd", "decode"),
    "nested deeply": ("[" * 100_000, "nested too deeply"),
    "objects nested deeply": ('{"a":' * 100_000, "nested too deeply"),
    "an integer of 5000 digits": ('{"size": ' + "9" * 5000 + "}", "digits"),
    "a list": ("[]", "list indices"),
    "nothing": ("null", "NoneType"),
    "a number": ("1", "int"),
    "a word": ('"a"', "string indices"),
}
ANY_NPZ = {
    "empty": (b"", "not a zip file"),
    "no archive": (b"PK\x03\x04", "not a zip file"),
    "a bomb": (bomb(), r"at most .* bytes; got 1 arrays of 1342\d* bytes"),
    "many arrays": (archive(**{f"a{n}": b"" for n in range(1001)}), "at most 1000 arrays"),
    "a password": (flagged(), "encrypted|password"),
    "another version": (versioned(), "version"),
    "another compression": (archive(zipfile.ZIP_LZMA, rates=npy(1.0)), "compressed in another way"),
    "no arrays": (archive(rates=b"PK"), "plain numbers or text|magic"),
    "objects": (archive(rates=declared("()", "|O", bytes(8))), "plain numbers or text"),
    "dates": (archive(rates=npy(np.datetime64(1, "s"))), "plain numbers or text"),
    "a larger array than there is": (archive(rates=declared("(1000000000000,)")), "does not have 0 bytes"),
    "a shape beyond all numbers": (archive(rates=declared(f"(0, {10**30})")), "does not have 0 bytes"),
    "a negative shape": (archive(rates=declared("(-1,)", held=bytes(8))), "plain numbers or text"),
    "text without letters": (archive(rates=declared("(3,)", "<U0")), "does not have 0 bytes"),
    "a number of no width": (archive(rates=declared("(3,)", "<f3", bytes(9))), "f3"),
    "a header that computes": (archive(rates=declared("(" + "-" * 9000 + "1,)")), "plain numbers or text"),
}
CHROMATOGRAMS = {
    "no rates": (json.dumps({"name": "x", "size": 2, "edges": [0, 1]}), "'rates'"),
    "rates in words": (json_of(rates=[["1"], ["1"]]), "rates of a chromatogram must be numbers; got <U1"),
    "rates of nothing": (json_of(rates=[[None], [1]]), "must be numbers; got object"),
    "rates of two lengths": (json_of(rates=[[1, 2], [1]]), "inhomogeneous"),
    "rates below 0": (json_of(rates=[[-1], [1]]), "not negative; got -1"),
    "rates without end": (json_of(rates=[[float("inf")], [1]]), "must be finite and not negative; got inf"),
    "rates whose sum has no end": (json_of(rates=[[1e308], [1e308]]), r"must be finite .* got 1e\+308"),
    "rates beyond all numbers": (json_of(rates=[[10**400], [1]]), "must be numbers; got object"),
    "edges that overflow": (json_of(edges=[-1e308, 1e308]), "edges of a chromatogram must rise"),
    "a size in words": (json_of(size="2"), "a size is"),
    "a size of a truth": (json_of(size=True), "a size is"),
    "a size beyond its rates": (json_of(size=10**30), "rates of shape"),
    "a name of a number": (json_of(name=3), "name must be text; got 3"),
    "about in a list": (json_of(about=["model"]), "about must be texts with names"),
    "about of numbers": (json_of(about={"steps": 3}), "about must be text; got 3"),
    "no replicates": (json_of(replicates=[]), "rates of shape"),
    "one replicate": (json_of(replicates=[[[1], [1]]]), "two or more replicates"),
    "a source of words": (json_of(source="x"), "string indices"),
    "a source of nothing": (json_of(source={}), "'alphas'|'seed'"),
}
SPECTRA = {
    "variance NaN": (spectrum_json(variance=float("nan")), "finite, none negative"),
    "variance below 0": (spectrum_json(variance=-1.0, lower=-2.0), "none negative"),
    "variance without end": (spectrum_json(variance=float("inf"), upper=float("inf")), "finite"),
    "variance in words": (spectrum_json(variance="1"), "variances of a spectrum are numbers; got <U"),
    "variance of nothing": (spectrum_json(variance=None), "variances of a spectrum are numbers; got object"),
    "lower above upper": (spectrum_json(lower=3.0), "each lies in its interval"),
    "upper below the variance": (spectrum_json(upper=0.7), "each lies in its interval"),
    "half an image": (spectrum_json(images=1.5), r"number of images must be a whole number, 0 or more; got 1\.5"),
    "no image": (spectrum_json(images=0), "number of images of a spectrum must be 1 or more; got 0"),
    "images below 0": (spectrum_json(images=-3), "whole number, 0 or more; got -3"),
    "images a truth": (spectrum_json(images=True), "whole number, 0 or more; got True"),
    "images beyond all numbers": (spectrum_json(images=10**30), "whole number, 0 or more; got 1000"),
    "about of numbers": (spectrum_json(about={"steps": 3}), "about must be text; got 3"),
    "bands of nothing": (json.dumps({"bands": {}, "images": 2, "about": {}}), "holds no spectrum"),
    "bands in a list": (json.dumps({"bands": [1], "images": 2, "about": {}}), "holds no spectrum"),
}
FILES = [
    (load, extension, key, *case)
    for load, cases in (
        (Chromatogram.load, {".json": {**ANY_JSON, **CHROMATOGRAMS}, ".npz": ANY_NPZ}),
        (MeasuredSpectrum.load, {".json": {**ANY_JSON, **SPECTRA}, ".npz": ANY_NPZ}),
    )
    for extension, table in cases.items()
    for key, case in table.items()
]


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("load", "extension", "content", "words"),
    [
        pytest.param(load, extension, *case, id=f"{load.__qualname__} {extension} {key}")
        for load, extension, key, *case in FILES
    ],
)
def test_a_file_that_is_wrong_is_refused_by_its_name(load, extension, content, words, tmp_path):
    path = written(str(tmp_path / f"it{extension}"), content)
    refuse(Row(lambda: load(path), ValueError, rf"it\{extension} .*({words})"), tmp_path)


@pytest.mark.parametrize("load", [Chromatogram.load, MeasuredSpectrum.load])
@pytest.mark.parametrize("extension", [".json", ".npz"])
def test_what_is_no_file_is_an_error_of_the_file_system(load, extension, tmp_path):
    (tmp_path / f"folder{extension}").mkdir()
    for name, kind in ((f"folder{extension}", IsADirectoryError), (f"nowhere{extension}", FileNotFoundError)):
        refuse(Row(lambda name=name: load(Path(name)), kind, name), tmp_path)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    for load, extension in ((Chromatogram.load, ".json"), (MeasuredSpectrum.load, ".npz")):
        path = tmp_path / f"large{extension}"
        with path.open("wb") as file:
            file.truncate(2**31)  # a hole, of which nothing is stored
        with pytest.raises(ValueError, match=rf"large\{extension} .* at most \d+ bytes; got 2147483648"):
            load(path)
        path.unlink()


# Model folders.


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A folder that is loaded."""
    folder = tmp_path_factory.mktemp("models") / "model"
    tiny.ddim().save_pretrained(folder)
    return folder


def index(**changed: Any) -> Callable[[Path], None]:
    return lambda folder: edited(folder / "model_index.json", changed)


def configured(part: str, **changed: Any) -> Callable[[Path], None]:
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    return lambda folder: edited(folder / part / name, changed)


def edited(path: Path, changed: dict[str, Any]) -> None:
    content = {**json.loads(path.read_text()), **changed}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


def holds(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content)


def sums(**stated: Any) -> Callable[[Path], None]:
    return holds("weights.json", json.dumps(stated))


def linked(folder: Path) -> None:
    (folder / "link").symlink_to("/etc/hostname")
    sums(link="0")(folder)


FOLDERS = {
    "no index": (lambda folder: (folder / "model_index.json").unlink(), "has no model_index.json"),
    "an index of no class": (index(_class_name=...), "model_index.json .*must be a pipeline of diffusers; got None"),
    "an index of an unknown class": (index(_class_name="Nope"), "must be a pipeline of diffusers; got 'Nope'"),
    "an index of what is no class": (index(_class_name="__version__"), "got '__version__'"),
    "an index of no pipeline": (index(_class_name="UNet2DModel"), "got 'UNet2DModel'"),
    "an index of a number": (index(_class_name=3), "must be a pipeline of diffusers; got 3"),
    "an index that is a list": (holds("model_index.json", "[]"), "names and values; got list"),
    "an index that is empty": (holds("model_index.json", ""), "model_index.json is damaged: Expecting value"),
    "an index nested deeply": (holds("model_index.json", "[" * 100_000), "model_index.json is damaged: .* too deeply"),
    "a part of nothing": (index(unet=None), "model is no pipeline that diffusers loads"),
    "a part of a word": (index(unet="x"), "model is no pipeline that diffusers loads"),
    "a part of an unknown class": (index(unet=["diffusers", "Nope"]), "diffusers loads: .*no class `Nope`"),
    "a part of an unknown package": (index(unet=["nolib", "Nope"]), "model is no pipeline that diffusers loads"),
    "a part that is not listed": (index(unet=...), "model is no pipeline that diffusers loads"),
    "a part that is not there": (lambda folder: shutil.rmtree(folder / "unet"), "no pipeline that diffusers loads"),
    "settings that are a list": (holds("scheduler/scheduler_config.json", "[]"), "scheduler_config.json is damaged"),
    "settings cut off": (holds("unet/config.json", "{"), r"unet/config\.json is damaged"),
    "settings of another kind": (configured("scheduler", num_train_timesteps="x"), "that diffusers loads"),
    "settings of other weights": (configured("unet", in_channels=9), "that diffusers loads"),
    "weights cut off": (
        lambda folder: (folder / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"12345678"),
        "safetensors is damaged",
    ),
    "sums in a list": (holds("weights.json", "[]"), "weights.json is damaged: .* texts with names"),
    "sums of numbers": (sums(a=3), "weights.json is damaged: .* must be text; got 3"),
    "sums nested deeply": (holds("weights.json", "[" * 100_000), "weights.json is damaged: it is nested too deeply"),
    "sums of a missing file": (sums(a="0"), "a is missing: weights.json lists it"),
    "sums of another file": (sums(**{"unet/config.json": "0"}), "is damaged: its SHA-256 is not the one"),
    "sums of a file elsewhere": (sums(**{"/etc/hostname": "0"}), "its own folder alone; got '/etc/hostname'"),
    "sums of a file above": (sums(**{"../x": "0"}), r"its own folder alone; got '\.\./x'"),
    "sums of a file above, within": (sums(**{"unet/../../x": "0"}), "its own folder alone"),
    "sums through a link": (linked, "its own folder alone; got 'link'"),
    "sums of no name": (sums(**{"a\u0000": "0"}), "weights.json is damaged: embedded null byte"),
}


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("case", FOLDERS)
def test_a_model_folder_that_is_wrong_is_refused_by_its_name(case, model, tmp_path, capfd):
    change, words = FOLDERS[case]
    shutil.copytree(model, tmp_path / "model")
    change(tmp_path / "model")
    refuse(Row(lambda: load_pipeline(tmp_path / "model"), ValueError, rf"model.*{words}"), tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("part", ["model_index.json", "scheduler/scheduler_config.json", "unet/config.json"])
@settings(GENERATED, max_examples=max(EXAMPLES // 10, 10))
@given(damage=DAMAGES)
def test_a_damaged_model_folder_is_refused_or_right(part, model, tmp_path, damage):
    content = (model / part).read_bytes()
    shutil.rmtree(tmp_path / "model", ignore_errors=True)
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / part).write_bytes(damage.of(content))
    try:
        load_pipeline(tmp_path / "model")
    except ValueError as error:
        said = str(error)
    else:
        return
    assert str(tmp_path / "model") in said
    assert "\n" not in said
