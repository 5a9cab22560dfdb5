"""Whatever stands in a file, its loader gives what it promises, or refuses in one line that names the file."""

import copy
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reschrom import Chromatogram, MeasuredSpectrum, Schedule, chromatography, measure_spectrum
from reschrom.theory.chromatogram import Source
from reschrom.theory.intervals import StreamingMean

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


@pytest.mark.parametrize("name", JSON)
@GENERATED
@given(changes=st.lists(CHANGES, min_size=1, max_size=2))
def test_json_that_says_something_else_is_refused_or_right(name, valid, tmp_path, changes):
    content = json.loads(valid[name])
    for change in changes:
        change.make(content)
    try_loading(LOADERS[name], json.dumps(content).encode(), tmp_path)
