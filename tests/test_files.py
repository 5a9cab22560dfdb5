"""A file is written whole or not at all, to where it was asked for, and nothing is left of what was killed."""

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from reschrom._files import replacing


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, content: str) -> None:
    with replacing(path) as temporary:
        assert temporary.name.endswith(Path(path).suffix)  # by which libraries choose the format
        temporary.write_text(content)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_a_file_that_is_replaced_keeps_its_mode(mode):
    Path("r.json").touch()
    Path("r.json").chmod(mode)
    write("r.json", "new")
    assert Path("r.json").read_text() == "new"
    assert stat.S_IMODE(Path("r.json").stat().st_mode) == mode


def test_a_new_file_has_the_mode_of_any_new_file():
    Path("other").touch()
    with replacing("r.json") as temporary:
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    assert Path("r.json").stat().st_mode == Path("other").stat().st_mode


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_written(there):
    Path("far").mkdir()
    Path("middle.json").symlink_to("far/end.data")
    Path("link.json").symlink_to("middle.json")
    if there:
        Path("far/end.data").write_text("old")
    write("link.json", "new")
    assert Path("link.json").is_symlink()
    assert Path("middle.json").is_symlink()
    assert Path("far/end.data").read_text() == "new"
    assert [path.name for path in Path("far").iterdir()] == ["end.data"]


def test_a_pipe_and_a_device_are_written_to():
    os.mkfifo("pipe.json")
    heard = []
    reader = threading.Thread(target=lambda: heard.append(Path("pipe.json").read_text()))
    reader.start()
    write("pipe.json", "through")
    reader.join()
    Path("null.json").symlink_to(os.devnull)
    write("null.json", "gone")
    assert heard == ["through"]
    assert stat.S_ISFIFO(Path("pipe.json").stat().st_mode)
    assert stat.S_ISCHR(Path("null.json").stat().st_mode)
    assert sorted(os.listdir()) == ["null.json", "pipe.json"]


def test_a_full_device_is_told_by_the_name_that_was_asked_for():
    Path("full.json").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: 'full\.json'"):
        write("full.json", "x")


def test_what_goes_wrong_with_the_temporary_file_is_told_of_the_one_that_was_asked_for():
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: 'r\.json'$"), replacing("r.json"):
        pass  # the block writes nothing
    with pytest.raises(FileNotFoundError, match=r"'other'$"), replacing("r.json"):
        Path("other").read_text()


def test_a_block_that_fails_leaves_what_was_there():
    write("r.json", "old")
    with pytest.raises(IsADirectoryError), replacing("r.json") as temporary:
        temporary.write_text("half") and Path(".").read_text()
    assert Path("r.json").read_text() == "old"
    assert os.listdir() == ["r.json"]


@pytest.mark.parametrize("name", ["é" * 120 + ".json", "a[b]*.json", "no suffix"])
def test_any_name_can_be_written(name):
    write(name, "new")
    write(name, "newer")
    assert os.listdir() == [name]


KILLED = """
import os, signal
from reschrom._files import replacing
with replacing("r[1].json") as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_of_a_file_goes_when_the_file_is_written(folder):
    killed = subprocess.run([sys.executable, "-c", KILLED], cwd=folder)
    assert killed.returncode == -signal.SIGKILL
    assert [path[:6] for path in os.listdir()] == [".r[1]."]
    others = [f".r[1].{os.getppid()}.json", ".r[1].old.json", ".r1.1.json"]  # of one that runs, and not of this kind
    for name in others:
        Path(name).touch()
    write("r[1].json", "whole")
    assert sorted(os.listdir()) == sorted([*others, "r[1].json"])
