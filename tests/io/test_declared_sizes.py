"""Headers that claim more than their file holds are refused before anything of that size exists."""

from __future__ import annotations

import contextlib
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspol.errors import UsageError
from crosspol.io.declared_sizes import MAXIMUM_PIXELS, check_declared_size

IMAGE = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50)
COLOR = np.stack([IMAGE // 8] * 3, axis=-1).astype(np.uint8)
SUFFIXES = [".png", ".tif", ".bmp", ".pgm", ".jpg", ".exr"]


def encode(suffix: str, path: Path) -> bytes:
    if suffix == ".exr":
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header, {"S0": IMAGE.astype(np.float16), "S1": IMAGE.astype(np.float32)}).write(str(path))
        return path.read_bytes()
    stored = {".png": IMAGE, ".tif": IMAGE, ".pgm": IMAGE}.get(suffix, COLOR)
    encoded, data = cv2.imencode(suffix, stored)
    assert encoded
    return bytes(data)


def png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(width: int, height: int, strip: bytes, compression: int = 1, next_page: int = 0) -> bytes:
    entries = [(256, 4, width), (257, 4, height), (258, 3, 16), (259, 3, compression), (277, 3, 1), (273, 4, 8)]
    body = struct.pack("<H", len(entries))
    body += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + body + struct.pack("<I", next_page)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_honest_images_pass(suffix: str, tmp_path: Path) -> None:
    data = encode(suffix, tmp_path / "a.exr")
    assert check_declared_size(data, f"a{suffix}") is None


def test_other_formats_pass() -> None:
    assert check_declared_size(b"Plain text, not an image", "a.txt") is None
    assert check_declared_size(b"", "a") is None


def test_compressed_images_of_one_color_pass() -> None:
    even = np.zeros((2000, 3000), np.uint16)
    for suffix in (".png", ".tif", ".jpg"):
        _, data = cv2.imencode(suffix, even if suffix != ".jpg" else even.astype(np.uint8))
        assert len(data) < even.nbytes / 5
        assert check_declared_size(bytes(data), f"a{suffix}") is None


@pytest.mark.parametrize(
    ("name", "data", "claim"),
    [
        ("a.png", png(60000, 3000, b"\0" * 100), "60000x3000"),
        ("a.png", png(60000, 60000, b"\0" * 100), "60000x60000"),
        ("a.png", png(0, 3, b"\0" * 100), "0x3"),
        ("a.tif", tiff(4000, 3000, b"\0" * 100), "4000x3000"),
        ("a.tif", tiff(40000, 3000, b"\0" * 100, compression=5), "40000x3000"),
        ("a.tif", tiff(1 << 31, 1 << 31, b"\0" * 100, compression=5), "2147483648x2147483648"),
        ("a.bmp", b"BM" + struct.pack("<IIIIiiHHI", 0, 0, 54, 40, 5000, -4000, 1, 8, 0) + b"\0" * 60, "5000x4000"),
        ("a.pgm", b"P5\n# comment\n9000 8000\n65535\n" + b"\0" * 60, "9000x8000"),
        ("a.ppm", b"P6 900 800 255\n" + b"\0" * (900 * 800 * 3 - 100), "900x800"),
        ("a.jpg", b"\xff\xd8\xff\xc0\0\x0b\x08" + struct.pack(">HH", 65535, 65535) + b"\x01\x01\x11\0", "65535x65535"),
    ],
)
def test_lies_are_refused(name: str, data: bytes, claim: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: the header claims {claim} px") as caught:
        check_declared_size(data, name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("width", [1 << 18, 1 << 22])
def test_an_exr_that_claims_wide_lines_is_refused(tmp_path: Path, width: int) -> None:
    data = encode(".exr", tmp_path / "a.exr")
    window = struct.pack("<4i", 0, 0, 49, 39)
    assert data.count(window) == 2
    with pytest.raises(UsageError, match=f"claims {width}x40 px"):
        check_declared_size(data.replace(window, struct.pack("<4i", 0, 0, width - 1, 39)), "a.exr")


def test_truncated_exr_is_refused_before_the_library_complains(tmp_path: Path) -> None:
    data = encode(".exr", tmp_path / "a.exr")
    with pytest.raises(UsageError, match="truncated EXR"):
        check_declared_size(data[:-1], "a.exr")
    tiled = bytearray(data)
    tiled[5] |= 2
    with pytest.raises(UsageError, match="tiled"):
        check_declared_size(bytes(tiled), "a.exr")


def test_tiff_pages_that_go_round_in_circles_end() -> None:
    data = tiff(10, 1, b"\0" * 20, next_page=28)
    with pytest.raises(UsageError, match="claims 10x1 px, 1280 bytes"):
        check_declared_size(data, "a.tif")


def test_the_largest_image() -> None:
    side = int(MAXIMUM_PIXELS**0.5)
    header = b"P5 %d %d 255\n"
    with pytest.raises(UsageError, match="cannot hold them"):
        check_declared_size(header % (side, side), "a.pgm")
    with pytest.raises(UsageError, match=f"at most {MAXIMUM_PIXELS} px"):
        check_declared_size(header % (side, side + 1), "a.pgm")


@given(suffix=st.sampled_from(SUFFIXES), data=st.data())
def test_damage_is_refused_or_passes_but_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    original = encode(suffix, tmp_path_factory.getbasetemp() / "whole.exr")
    damaged = bytearray(original[: data.draw(st.integers(0, len(original)))])
    for place in data.draw(st.lists(st.integers(0, 80), max_size=4)):
        if place < len(damaged):
            damaged[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UsageError):
        assert check_declared_size(bytes(damaged), "a") is None
