"""The door that files come in by: nothing but a file, of a size that is taken, whatever the path leads to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from crosspol.errors import MissingFileError, UsageError
from crosspol.io.arrays import read_array, read_array_header, read_arrays
from crosspol.io.disparity import read_disparity
from crosspol.io.exr import read_exr_channels, read_exr_header
from crosspol.io.images import read_image, read_image_header, read_image_size
from crosspol.io.reading import check_decoded, check_file, read_bytes, read_lines
from crosspol.io.videos import Video
from crosspol.limits import DECODED_BYTES, DECODED_RATIO, LINE_BYTES

DOORS: dict[str, Callable[[Path], object]] = {
    ".bin": read_bytes,
    ".png": read_image,
    ".jpg": read_image_header,
    ".tif": read_image_size,
    ".npy": read_array,
    ".NPY": read_array_header,
    ".npz": read_arrays,
    ".pfm": read_disparity,
    ".exr": read_exr_channels,
    ".EXR": read_exr_header,
    ".mp4": Video,
}


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("suffix", DOORS)
@pytest.mark.parametrize(
    ("make", "says"), [(pipe, "got a named pipe"), (endless, "got a device"), (Path.mkdir, "got a folder")]
)
def test_only_files_come_in(suffix: str, make: Callable[[Path], None], says: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    make(path)
    with pytest.raises(UsageError, match=f"a{suffix}: {says}, wanted a file"):
        DOORS[suffix](path)


@pytest.mark.parametrize("suffix", DOORS)
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("b" * 300, "cannot be read"),
        ("b\0", "cannot be the name of a file"),
        ("\ud800", "cannot be the name of a file"),
        ("none", "no such file"),
        ("file/none", "no such file"),
        ("circle", "cannot be read"),
        ("empty", "got an empty file"),
    ],
)
def test_names_that_lead_nowhere(suffix: str, name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / f"circle{suffix}").symlink_to(tmp_path / f"circle{suffix}")
    (tmp_path / f"empty{suffix}").write_bytes(b"")
    with pytest.raises(UsageError, match=says) as caught:
        DOORS[suffix](tmp_path / f"{name}{suffix}")
    assert isinstance(caught.value, MissingFileError) == (says == "no such file")


def test_a_size_above_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 11)
    assert check_file(path, 11) == 11
    with pytest.raises(UsageError, match="got 11 bytes, wanted a table of at most 10"):
        read_bytes(path, 10, what="a table")
    with path.open("r+b") as file:
        file.truncate(3 << 30)
    with pytest.raises(UsageError, match=f"got {3 << 30} bytes"):
        read_bytes(path)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\n\ncut off", ["one", "", "cut off"]),
        (b"a\xffb\xe2\x80\xa8c\n", ["a\N{REPLACEMENT CHARACTER}b\N{LINE SEPARATOR}c"]),
        (b"x" * LINE_BYTES, ["x" * LINE_BYTES]),
    ],
    ids=["empty", "whole", "cut off", "no UTF-8", "longest"],
)
def test_lines_come_one_by_one(data: bytes, lines: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(data)
    assert list(read_lines(tmp_path / "a.jsonl")) == lines


def test_a_line_without_end_is_refused_and_what_is_written_meanwhile_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"one\ntwo")
    lines = read_lines(path)
    assert next(lines) == "one"
    with path.open("ab") as file:
        file.write(b" and more\nthree\n")
    assert list(lines) == ["two"]
    path.write_bytes(b"one\n" + b"x" * (LINE_BYTES + 1))
    lines = read_lines(path)
    assert next(lines) == "one"
    with pytest.raises(UsageError, match=rf"a\.jsonl: line 2: got a longer one, wanted at most {LINE_BYTES} bytes"):
        next(lines)


def test_what_unpacks_to_more_than_its_size_explains() -> None:
    check_decoded("a", 1000, DECODED_BYTES + 1000 * DECODED_RATIO)
    with pytest.raises(UsageError, match="a: got 1000 bytes that claim to unpack to"):
        check_decoded("a", 1000, DECODED_BYTES + 1000 * DECODED_RATIO + 1)
