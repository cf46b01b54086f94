"""Files are whole or as they were, whoever writes them at once, and whoever is killed meanwhile."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, product
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest

from crosspol.io.atomic import neighbor, placing, remove_leftovers, write_bytes, write_together
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


@pytest.mark.parametrize("left", ["no table", "half a table", "no last byte", "half a head", "nothing"])
def test_an_exr_whose_last_bytes_could_not_be_written_is_an_os_error(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library closes a file in a destructor, which raises nothing when the disk fails."""
    chunks = 3

    class Failing(OpenEXR.File):  # type: ignore[misc]
        def write(self, name: str) -> None:
            super().write(name)
            data = Path(name).read_bytes()
            size = 8 * chunks
            table = next(at for at in range(len(data)) if int.from_bytes(data[at : at + 8], "little") == at + size)
            without = {
                "no table": data[:table] + bytes(size) + data[table + size :],
                "half a table": data[: table + 12] + bytes(size - 12) + data[table + size :],
                "no last byte": data[:-1],
                "half a head": data[: table // 2],
                "nothing": b"",
            }
            Path(name).write_bytes(without[left])

    planes = {"S0": np.arange(48 * 40, dtype=np.float32).reshape(48, 40)}
    write_exr_channels(tmp_path / "a.exr", planes, {})
    before = (tmp_path / "a.exr").read_bytes()
    monkeypatch.setattr(OpenEXR, "File", Failing)
    with pytest.raises(OSError, match=r"not all of it could be written.*/a\.exr'$") as raised:
        write_exr_channels(tmp_path / "a.exr", planes, {})
    assert raised.value.errno == errno.EIO
    assert os.listdir(tmp_path) == ["a.exr"]
    assert (tmp_path / "a.exr").read_bytes() == before


CALLS = ("open", "fsync", "rename", "replace", "unlink")
"""What of `os` changes files."""


class Killed(BaseException):
    """In place of a process that is gone."""


class Fault:
    """Makes the n-th call that changes a file go wrong, once or from there on.

    done: a rename is done before it is said to have failed, as an interrupt or a file system on a network may do.
    """

    def __init__(
        self, nth: int, error: Callable[[], BaseException], *, done: bool = False, lasting: bool = False
    ) -> None:
        self.nth, self.error, self.done, self.lasting = nth, error, done, lasting
        self.count, self.met = 0, ""

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in CALLS:
            monkeypatch.setattr(os, name, self._failing(name, getattr(os, name)))

    def _failing(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.count += 1
            if self.count != self.nth and not (self.lasting and self.met):
                return real(*arguments, **named)
            self.met = self.met or name
            if self.done and self.count == self.nth and name in ("rename", "replace"):
                real(*arguments, **named)
            raise self.error()

        return call


def io_error() -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO))


def visible(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}


def sets_of_files() -> Iterator[tuple[list[str], dict[str, bytes]]]:
    """Names that are written together, and what is there before: all, none and some of them."""
    for number in (1, 2, 3):
        names = [f"net.{suffix}" for suffix in ("xml", "bin", "txt")[:number]]
        for there in product((False, True), repeat=number):
            yield names, {name: b"old" for name, is_there in zip(names, there, strict=True) if is_there}


def every_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Callable[[], BaseException], **how: bool
) -> Iterator[tuple[Path, list[str], dict[str, bytes], Fault, bool]]:
    """Write every set of files, with a fault at every place; yield the folder, and whether writing said it failed."""
    # The disk need not be waited for: nothing is forgotten here.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    for number, (names, old) in enumerate(sets_of_files()):
        for nth in count(1):
            place = folder / f"{number}-{nth}"
            place.mkdir()
            for name, content in old.items():
                (place / name).write_bytes(content)
            fault, failed = Fault(nth, error, **how), False
            with monkeypatch.context() as patch:
                fault.patch(patch)
                try:
                    write_together([(place / name, b"new") for name in names])
                except (OSError, KeyboardInterrupt, Killed):
                    failed = True
            yield place, names, old, fault, failed
            if not fault.met:
                break


@pytest.mark.parametrize(("error", "done"), [(io_error, False), (io_error, True), (KeyboardInterrupt, True)])
def test_files_written_together_are_all_old_or_all_new_wherever_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Callable[[], BaseException], done: bool
) -> None:
    """Found so: when the first rename failed, the files that had not been moved yet were taken for new, and removed."""
    for place, names, old, fault, failed in every_fault(tmp_path, monkeypatch, error, done=done):
        found, new = visible(place), dict.fromkeys(names, b"new")
        assert found in ((old, new) if failed else (new,)), f"{names}, {old}, {fault.met} at {fault.nth}: {found}"
        # Of an unlink that fails, its file stays.
        assert fault.met == "unlink" or sorted(os.listdir(place)) == sorted(found), f"{fault.met} at {fault.nth}"


@pytest.mark.parametrize("error", [io_error, Killed])
def test_the_first_of_files_written_together_never_lies_beside_those_of_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Callable[[], BaseException]
) -> None:
    """Where nothing works any more, or nobody is there; and the next run brings everything in order."""
    for place, names, old, fault, _ in every_fault(tmp_path, monkeypatch, error, lasting=True):
        found, new = visible(place), dict.fromkeys(names, b"new")
        assert names[0] not in found or found in (old, new), f"{names}, {old}, {fault.met} at {fault.nth}: {found}"
        remove_leftovers(place)
        write_together([(place / name, b"new") for name in names])
        assert visible(place) == new
        assert sorted(os.listdir(place)) == sorted(names), f"{fault.met} at {fault.nth}"


def test_what_is_set_aside_is_nobodys_leftover_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run into the folder begins between the renames, and then one fails."""
    names = ["net.xml", "net.bin"]
    for name in names:
        (tmp_path / name).write_bytes(b"old")

    def fail(*_: object) -> None:
        monkeypatch.undo()
        remove_leftovers(tmp_path)
        raise io_error()

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        write_together([(tmp_path / name, b"new") for name in names])
    assert visible(tmp_path) == dict.fromkeys(names, b"old")
    assert sorted(os.listdir(tmp_path)) == sorted(names)


def test_a_folder_of_one_of_the_names_stays(tmp_path: Path) -> None:
    (tmp_path / "net.bin").mkdir()
    (tmp_path / "net.xml").write_bytes(b"old")
    with pytest.raises(IsADirectoryError):
        write_together([(tmp_path / name, b"new") for name in ("net.xml", "net.bin")])
    assert sorted(os.listdir(tmp_path)) == ["net.bin", "net.xml"]
    assert (tmp_path / "net.xml").read_bytes() == b"old"
