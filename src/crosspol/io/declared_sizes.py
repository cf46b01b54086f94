"""Refusing images whose headers claim more than their files can hold, before a decoder believes them.

A decoder allocates what the header says. Here the header is read first and compared with the bytes that are there: what
is stored plainly has to be there in full, and no compression in use makes data more than some two thousand times
smaller.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

from crosspol.errors import UsageError

__all__ = ["MAXIMUM_PIXELS", "check_declared_size"]

MAXIMUM_PIXELS = 1 << 28
"""Largest image, px: twice the largest sensors on sale."""

_DEFLATE_RATIO = 1032
_COMPRESSION_RATIO = 2048
_TIFF_PAGES = 64
_EXR_LINES = {0: 1, 1: 1, 2: 1, 3: 16, 4: 32, 5: 16, 6: 32, 7: 32, 8: 32, 9: 256}
"""Lines in a chunk, by the number of the compression."""
_EXR_PIXEL_BYTES = {0: 4, 1: 2, 2: 4}


def check_declared_size(data: bytes, path: str | os.PathLike[str]) -> None:
    """Refuse an image file whose header does not fit its contents.

    Knows PNG, TIFF, OpenEXR, BMP, PNM and JPEG; says nothing about other formats. Of JPEG, the size of the image is
    checked, not the ratio to the file: its compression has no limit.

    Args:
        data: contents of the file.
        path: what to call it in an error.

    Raises:
        UsageError: the image is larger than the file can hold or than `MAXIMUM_PIXELS`, or the header is damaged.
    """
    path = Path(path)
    for signature, check in (
        (b"\x89PNG\r\n\x1a\n", _check_png),
        (b"II*\x00", _check_tiff),
        (b"MM\x00*", _check_tiff),
        (b"II+\x00", _check_tiff),
        (b"MM\x00+", _check_tiff),
        (b"\x76\x2f\x31\x01", _check_exr),
        (b"BM", _check_bmp),
        (b"P", _check_pnm),
        (b"\xff\xd8\xff", _check_jpeg),
    ):
        if data.startswith(signature):
            try:
                check(data, path)
            except UsageError:
                raise
            except (struct.error, IndexError, KeyError, ValueError) as error:
                raise UsageError(f"{path}: got a damaged header, wanted a complete image") from error
            return


def _check(path: Path, width: int, height: int, claimed: int, possible: int, present: int) -> None:
    """Compare the claimed bytes of pixels with what the file could hold."""
    if width < 1 or height < 1:
        raise UsageError(f"{path}: the header claims {width}x{height} px, wanted an image")
    if width * height > MAXIMUM_PIXELS:
        raise UsageError(f"{path}: the header claims {width}x{height} px, wanted at most {MAXIMUM_PIXELS} px")
    if claimed > possible:
        raise UsageError(
            f"{path}: the header claims {width}x{height} px, {claimed} bytes, and the file of {present} bytes cannot "
            "hold them"
        )


def _check_png(data: bytes, path: Path) -> None:
    width, height, depth, color = struct.unpack_from(">IIBB", data, 16)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    claimed = height * (1 + (width * depth * channels + 7) // 8)
    _check(path, width, height, claimed, _DEFLATE_RATIO * len(data), len(data))


def _check_bmp(data: bytes, path: Path) -> None:
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    height = abs(height)
    claimed = (width * bits + 31) // 32 * 4 * height
    ratio = 1 if compression in (0, 3) else _COMPRESSION_RATIO
    _check(path, width, height, claimed, ratio * len(data), len(data))


def _check_pnm(data: bytes, path: Path) -> None:
    gap = rb"(?:\s|#[^\n]*\n)+"
    match = re.match(rb"P([1-6])" + gap + rb"(\d{1,9})" + gap + rb"(\d{1,9})" + gap + rb"(\d{1,9})?", data[:4096])
    if match is None:
        return
    kind, width, height = int(match[1]), int(match[2]), int(match[3])
    channels = 3 if kind in (3, 6) else 1
    value_bytes = 2 if kind in (5, 6) and int(match[4] or 0) > 255 else 1
    claimed = height * ((width + 7) // 8) if kind == 4 else width * height * channels * value_bytes
    _check(path, width, height, claimed, len(data), len(data))


def _check_jpeg(data: bytes, path: Path) -> None:
    position = 2
    while position + 9 <= len(data):
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, position + 5)
            _check(path, width, height, 0, 0, len(data))
            return
        position += 2 + length


def _check_tiff(data: bytes, path: Path) -> None:
    order = "<" if data.startswith(b"II") else ">"
    big = data[2:4] in (b"+\x00", b"\x00+")
    offset = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    claimed = possible = width = height = 0
    for _ in range(_TIFF_PAGES):
        entries, offset = _tiff_page(data, order, big, offset)
        width, height = entries.get(256, 0), entries.get(257, 0)
        _check(path, width, height, 0, 0, len(data))
        claimed += height * ((width * entries.get(258, 1) * entries.get(277, 1) + 7) // 8)
        # The largest ratio among the pages; plainly stored pages have to be there in full.
        possible = max(possible, (1 if entries.get(259, 1) == 1 else _COMPRESSION_RATIO) * len(data))
        if not offset:
            break
    _check(path, width, height, claimed, possible, len(data))


def _tiff_page(data: bytes, order: str, big: bool, offset: int) -> tuple[dict[int, int], int]:
    """Return the first value of each integer tag of a page, and where the next page is (0: nowhere)."""
    count = struct.unpack_from(order + ("Q" if big else "H"), data, offset)[0]
    first, size, inline = (offset + 8, 20, 8) if big else (offset + 2, 12, 4)
    if first + count * size > len(data):
        raise struct.error
    values = {}
    for position in range(first, first + count * size, size):
        tag, kind = struct.unpack_from(order + "HH", data, position)
        number = struct.unpack_from(order + ("Q" if big else "I"), data, position + 4)[0]
        code = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind)
        if code is None or number < 1:
            continue
        where = position + (12 if big else 8)
        if number * struct.calcsize("=" + code) > inline:
            where = struct.unpack_from(order + ("Q" if big else "I"), data, where)[0]
        values[tag] = struct.unpack_from(order + code, data, where)[0]
    return values, struct.unpack_from(order + ("Q" if big else "I"), data, first + count * size)[0]


def _check_exr(data: bytes, path: Path) -> None:
    """Besides the size, check that every chunk lies within the file: the library prints its own complaints."""
    if struct.unpack_from("<I", data, 4)[0] & 0x1A00:
        raise UsageError(f"{path}: got a tiled, deep or multi-part EXR, wanted one part of scan lines")
    attributes, position = _exr_attributes(data)
    x0, y0, x1, y1 = struct.unpack("<4i", attributes["dataWindow"])
    width, height, compression = x1 - x0 + 1, y1 - y0 + 1, attributes["compression"][0]
    claimed = width * height * _exr_pixel_bytes(attributes["channels"])
    ratio = 1 if compression == 0 else _COMPRESSION_RATIO
    _check(path, width, height, claimed, ratio * len(data), len(data))
    lines = _EXR_LINES[compression]
    for offset in struct.unpack_from(f"<{-(-height // lines)}Q", data, position):
        if offset + 8 + struct.unpack_from("<i", data, offset + 4)[0] > len(data):
            raise UsageError(f"{path}: got a truncated EXR ({len(data)} bytes), wanted a complete image")


def _exr_attributes(data: bytes) -> tuple[dict[str, bytes], int]:
    """Return the values in the header by name, and where the header ends."""
    attributes, position = {}, 8
    while data[position]:
        name_end = data.index(0, position)
        kind_end = data.index(0, name_end + 1)
        size = struct.unpack_from("<i", data, kind_end + 1)[0]
        start = kind_end + 5
        if size < 0 or start + size > len(data):
            raise struct.error
        attributes[data[position:name_end].decode("latin-1")] = data[start : start + size]
        position = start + size
    return attributes, position + 1


def _exr_pixel_bytes(channels: bytes) -> int:
    """Return the bytes of a pixel in all channels."""
    total = position = 0
    while channels[position]:
        end = channels.index(0, position)
        total += _EXR_PIXEL_BYTES[struct.unpack_from("<i", channels, end + 1)[0]]
        position = end + 17
    return total
