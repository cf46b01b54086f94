"""Headers are read before pixels: what claims too much, or more than its file holds, is refused in one quiet line."""

from __future__ import annotations

import contextlib
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from crosspol.errors import UsageError
from crosspol.io.exr import read_exr_channels, read_exr_header
from crosspol.io.image_headers import HeaderPages, look_at
from crosspol.io.images import read_image, read_image_file, read_image_header
from crosspol.limits import MAXIMUM_PIXELS

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


def read(path: Path) -> object:
    return read_exr_channels(path) if path.suffix == ".exr" else read_image(path)


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
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode(suffix, tmp_path / "a.exr"))
    read(path)
    if suffix == ".exr":
        assert read_exr_header(path) == (50, 40, ["S0", "S1"])
        return
    header = read_image_header(path)
    assert (header.width, header.height, header.pages) == (50, 40, 1)
    assert header.channels == (3 if suffix in (".bmp", ".jpg") else 1)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "I;16"])
def test_channels_are_those_of_the_decoded_image(mode: str, tmp_path: Path) -> None:
    Image.new(mode, (50, 40)).save(tmp_path / "a.png")
    decoded = read_image(tmp_path / "a.png")
    assert read_image_header(tmp_path / "a.png").channels == (1 if decoded.ndim == 2 else decoded.shape[2])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_kind_of_tiff(kind: type, channels: int, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 200, (40, 50, channels)).astype(kind).squeeze()
    stored = image if channels == 1 else image[..., [2, 1, 0, 3][:channels]]
    assert cv2.imwrite(str(tmp_path / "a.tif"), np.ascontiguousarray(stored))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), image)
    assert read_image_header(tmp_path / "a.tif").channels == channels


def test_compressed_images_of_one_color_pass(tmp_path: Path) -> None:
    even = np.zeros((2000, 3000), np.uint16)
    for suffix in (".png", ".tif", ".jpg"):
        _, data = cv2.imencode(suffix, even if suffix != ".jpg" else even.astype(np.uint8))
        assert len(data) < even.nbytes / 5
        (tmp_path / f"a{suffix}").write_bytes(bytes(data))
        assert read_image(tmp_path / f"a{suffix}").shape == even.shape


TOO_LARGE = f"wanted at most {MAXIMUM_PIXELS} px"
INCOMPLETE = "wanted a complete image"


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.png", png(6000, 3000, b"\0" * 100), INCOMPLETE),
        ("a.png", png(60000, 3000, b"\0" * 100), TOO_LARGE),
        ("a.png", png(60000, 60000, b"\0" * 100), TOO_LARGE),
        ("a.png", png(0, 3, b"\0" * 100), INCOMPLETE),
        ("a.tif", tiff(4000, 3000, b"\0" * 100), INCOMPLETE),
        ("a.tif", tiff(40000, 3000, b"\0" * 100, compression=5), "claim to unpack to 240000000, wanted at most 67"),
        ("a.tif", tiff(1 << 31, 1 << 31, b"\0" * 100, compression=5), f"claims 2147483648x2147483648 px, {TOO_LARGE}"),
        ("a.bmp", b"BM" + struct.pack("<IIIIiiHHI", 0, 0, 54, 40, 5000, -4000, 1, 8, 0) + b"\0" * 60, INCOMPLETE),
        ("a.pgm", b"P5\n# comment\n9000 8000\n65535\n" + b"\0" * 60, "claim to unpack to 144000000"),
        ("a.ppm", b"P6 900 800 255\n" + b"\0" * (900 * 800 * 3 - 100), INCOMPLETE),
        ("a.jpg", b"\xff\xd8\xff\xc0\0\x0b\x08" + struct.pack(">HH", 65535, 65535) + b"\x01\x01\x11\0", "wanted"),
    ],
)
def test_lies_are_refused(tmp_path: Path, name: str, data: bytes, says: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UsageError, match=f"{name}: .*{says}") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
    # libpng prints where a checksum is right and the data are too few; nothing can stop it.
    assert capfd.readouterr().err in ("", "libpng error: Not enough image data\n")


@pytest.mark.parametrize("width", [1 << 18, 1 << 23])
def test_an_exr_that_claims_wide_lines_is_refused(
    tmp_path: Path, width: int, capfd: pytest.CaptureFixture[str]
) -> None:
    data = encode(".exr", tmp_path / "a.exr")
    window = struct.pack("<4i", 0, 0, 49, 39)
    assert data.count(window) == 2
    (tmp_path / "a.exr").write_bytes(data.replace(window, struct.pack("<4i", 0, 0, width - 1, 39)))
    with pytest.raises(UsageError, match=r"a\.exr: (got 3072 bytes that claim|the header claims 8388608x40 px)"):
        read_exr_channels(tmp_path / "a.exr")
    assert capfd.readouterr() == ("", "")


def test_truncated_and_tiled_exr_are_refused_quietly(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.exr"
    data = encode(".exr", path)
    path.write_bytes(data[:-1])
    with pytest.raises(UsageError, match="truncated EXR"):
        read_exr_channels(path)
    path.write_bytes(data[:100])
    with pytest.raises(UsageError, match="not a complete EXR"):
        read_exr_channels(path)
    description = OpenEXR.TileDescription()
    description.xSize = description.ySize = 16
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.tiledimage, "tiles": description}
    OpenEXR.File(header, {"Y": IMAGE.astype(np.float32)}).write(str(path))
    with pytest.raises(UsageError, match="tiled"):
        read_exr_channels(path)
    assert capfd.readouterr() == ("", "")


def test_tiff_pages_that_go_round_in_circles_end(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(10, 1, b"\0" * 20, next_page=28))
    assert read_image_header(tmp_path / "a.tif").pages == 1


def webp(kind: bytes, body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 12 + len(body)) + b"WEBP" + kind + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.png", png(20000, 20000, b"\0" * 100), "the header claims 400000000 px"),
        ("a.png", png(8000, 8000, b"\0" * 100), "claim to unpack to 128000000"),
        ("a.webp", webp(b"VP8X", b"\0\0\0\0" + b"\xff\x3f\0" * 2), "the header claims 16384x16384 px"),
        ("a.webp", webp(b"VP8L", b"\x2f" + struct.pack("<I", 9999 | 9999 << 14)), "claim to unpack to 300000000"),
        ("a.webp", webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 9999, 9999)), "claim to unpack to"),
        ("a.webp", webp(b"VP8 ", b"\0\0"), "another format"),
        ("a.tif", tiff(40, 30, b"\0" * 3000)[:-90] + b"\xff" * 90, "TIFF"),
        ("a.tif", b"II*\0\x08\0\0\0\xff\xff" + b"\0\1\2\0\xff\xff\xff\xff\0\0\0\0" * 9000, "65535 tags of a page"),
        ("a.gif", b"GIF89a" + bytes(100), "another format"),
    ],
)
def test_what_is_not_unpacked(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    for reads in (read_image, read_image_header):
        with pytest.raises(UsageError, match=f"{name}: .*{says}"):
            reads(path)


def test_pages_count_together(tmp_path: Path) -> None:
    path = pages(tmp_path / "a.tif", *[np.zeros((40, 50), np.uint8)] * 3)
    assert look_at(path.read_bytes(), path) == HeaderPages(50, 40, 1, (0, 1, 2))
    first = tiff(12000, 12000, b"\0" * 100, next_page=len(tiff(12000, 12000, b"\0" * 100)))
    with pytest.raises(UsageError, match=r"a\.tif: the header claims 2 times 12000x12000 px"):
        look_at(first + tiff(12000, 12000, b"")[8:], path)


def test_the_largest_image(tmp_path: Path) -> None:
    side = int(MAXIMUM_PIXELS**0.5)
    header = b"P5 %d %d 255\n"
    path = tmp_path / "a.pgm"
    path.write_bytes(header % (side, side) + bytes(4 << 20))
    assert read_image_header(path).width == side
    path.write_bytes(header % (side, side + 5))
    with pytest.raises(UsageError, match=TOO_LARGE):
        read_image_header(path)


def pages(path: Path, *images: NDArray[np.generic]) -> Path:
    assert cv2.imwritemulti(str(path), [image[..., ::-1] if image.ndim == 3 else image for image in images])
    return path


def test_pages_are_images_in_red_green_blue(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    path = pages(tmp_path / "a.tif", *images)
    np.testing.assert_array_equal(read_image_file(path).pages, images)
    assert read_image_header(path).pages == 3
    with pytest.raises(UsageError, match=r"a\.tif: got 3 images \(pages\) in one file, wanted one"):
        read_image(path)


def test_a_smaller_copy_of_an_image_is_no_page(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    small = Image.fromarray(image[::2, ::2])
    small.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(image).save(tmp_path / "a.tif", save_all=True, append_images=[small])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), image)


@pytest.mark.parametrize(("maxval", "stored"), [(4095, ">u2"), (1023, ">u2"), (63, "u1"), (255, "u1"), (65535, ">u2")])
def test_maxval_of_pgm_is_white(tmp_path: Path, maxval: int, stored: str) -> None:
    values = np.linspace(0, maxval, 40 * 50).round().astype(stored).reshape(40, 50)
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5\n# of a camera\n50 40\n%d\n" % maxval + values.tobytes())
    file = read_image_file(path)
    np.testing.assert_array_equal(file.pages[0], values)
    assert file.white == (None if maxval in (255, 65535) else maxval)
    image = read_image(path)
    np.testing.assert_allclose(image / np.iinfo(image.dtype).max, values / maxval, atol=1 / 255 / 2)
    assert image.max() == np.iinfo(image.dtype).max


@settings(deadline=None, max_examples=60)
@given(suffix=st.sampled_from(SUFFIXES), data=st.data())
def test_damage_is_refused_or_passes_but_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    base = tmp_path_factory.getbasetemp()
    original = encode(suffix, base / "whole.exr")
    damaged = bytearray(original[: data.draw(st.integers(0, len(original)))])
    for place in data.draw(st.lists(st.integers(0, 80), max_size=4)):
        if place < len(damaged):
            damaged[place] = data.draw(st.integers(0, 255))
    path = base / f"damaged{suffix}"
    path.write_bytes(damaged)
    with contextlib.suppress(UsageError):
        read(path)
