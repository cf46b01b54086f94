"""Files are whole or as they were, whoever writes them at once, and whoever is killed meanwhile."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from crosspol.io.atomic import neighbor, placing, remove_leftovers, write_bytes
from crosspol.io.exr import read_exr_channels, write_exr_channels

FORK = multiprocessing.get_context("fork")


def hold(path: Path, reached: Path) -> None:
    with placing(path):
        reached.touch()
        time.sleep(60)


def waiting_writer(folder: Path) -> multiprocessing.process.BaseProcess:
    process = FORK.Process(target=hold, args=(folder / "a", folder / "reached"))
    process.start()
    while not (folder / "reached").exists():
        time.sleep(0.01)
    (folder / "reached").unlink()
    return process


def test_two_names_are_never_the_same_whoever_thinks_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of two machines may have one number."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    assert len({neighbor(tmp_path / "a.png") for _ in range(100)}) == 100


def test_threads_that_write_one_file_leave_one_content(tmp_path: Path) -> None:
    contents = [bytes([number]) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda content: write_bytes(tmp_path / "a", content), contents * 4))
    assert (tmp_path / "a").read_bytes() in contents
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "a\nb", "-rf", "*?[a]", "\udce9t\udce9"])
def test_a_name_may_be_as_long_and_as_odd_as_the_file_system_allows(tmp_path: Path, name: str) -> None:
    write_bytes(tmp_path / name, b"one")
    write_bytes(tmp_path / name, b"other")
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == b"other"


def test_what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    process = waiting_writer(tmp_path)
    remove_leftovers(tmp_path)
    assert len(list(tmp_path.glob(".a.*.part"))) == 1
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == []


def test_nothing_goes_that_is_not_ours(tmp_path: Path) -> None:
    names = [".a.part", "a.part", ".a.0123.part", ".a.0123456789abcdef.parts"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / ".folder.0123456789abcdef.part").mkdir()
    (tmp_path / ".link.0123456789abcdef.part").symlink_to(tmp_path / "a.part")
    remove_leftovers(tmp_path)
    assert len(os.listdir(tmp_path)) == len(names) + 2


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_leaves_the_old_content_and_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    write_bytes(tmp_path / "a", b"old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match=r"/a'$") as raised:
        write_bytes(tmp_path / "a", b"new")
    assert raised.value.errno == error
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_an_exr_appears_whole_and_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    planes = {"S0": np.ones((3, 4), np.float16), "S1": np.arange(12, dtype=np.float16).reshape(4, 3).T}
    write_exr_channels(tmp_path / "a.exr", planes, {"holds": "stokes"})
    found = read_exr_channels(tmp_path / "a.exr")
    assert {name: plane.tolist() for name, plane in found.items()} == {
        name: plane.tolist() for name, plane in planes.items()
    }
    with pytest.raises(FileNotFoundError):
        write_exr_channels(tmp_path / "absent" / "a.exr", planes, {})
    assert os.listdir(tmp_path) == ["a.exr"]
