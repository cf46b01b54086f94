"""What image files say of themselves before their pixels are decoded: sizes, channels, pages, and what they unpack to.

Decoders ask for the memory that a header claims; here it is compared with what the file can hold.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crosspol.errors import UsageError, one_line
from crosspol.io.reading import check_decoded
from crosspol.limits import MAXIMUM_PIXELS

__all__ = ["HeaderPages", "describe", "look_at"]

_FORMATS = ("PNG", "JPEG", "BMP", "PPM")
"""What Pillow is asked to recognize; TIFF and WebP are looked at here."""
_PNG_END = b"IEND\xaeB`\x82"
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
_DECODED_CHANNELS = {"P": 3, "PA": 4, "LA": 4, "CMYK": 3}
"""Channels after decoding, for Pillow's modes that have another number."""

_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_KIND, _WIDTH, _HEIGHT, _BITS, _COLORS, _SAMPLES = 254, 256, 257, 258, 262, 277
"""Tags of a TIFF page."""
_REDUCED = 1
"""Bit of a page's kind: a smaller copy of another page, which is no image of its own."""
_PALETTE = 3
"""A kind of colors."""
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""Types of a tag's values: struct's letter."""
_MOST_PAGES = 4096
_MOST_TAGS = 1024
_LONGEST_VALUE = 64

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    *((signature, "TIFF") for signature in _TIFF),
    (b"BM", "BMP"),
    (b"P5", "PGM"),
    (b"P6", "PPM"),
)


@dataclass(frozen=True)
class HeaderPages:
    """Size of the first image of a file, and which of its pages are images of their own.

    width, height: px.
    channels: after decoding.
    places: of the pages that are images, among all pages.
    """

    width: int
    height: int
    channels: int
    places: tuple[int, ...]


@dataclass(frozen=True)
class _Page:
    """channels: after decoding. value_bytes: of a value, likewise. reduced: no image of its own."""

    width: int
    height: int
    channels: int
    value_bytes: int
    reduced: bool = False


def look_at(data: bytes, path: Path) -> HeaderPages:
    """Look at the header of an image file.

    Args:
        data: the whole file.
        path: for the errors.

    Raises:
        UsageError: it is no image, larger than `MAXIMUM_PIXELS`, unpacks to more than a file of its size may, or, of a
            PNG, is damaged anywhere.
    """
    if data.startswith(_TIFF):
        read = _tiff_pages
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        read = _webp_page
    else:
        read = _page
    try:
        pages = read(data, path)
        own = [place for place, page in enumerate(pages) if not page.reduced]
        first = pages[own[0]]
    except UsageError:
        raise
    except Exception as error:
        # What a damaged header raises depends on the format, and on where it is damaged.
        raise UsageError(f"{path}: got {describe(data)}, wanted a complete image ({one_line(error):.200})") from error
    for page in pages:
        if page.width < 1 or page.height < 1 or page.channels < 1:
            raise UsageError(f"{path}: the header claims {page.width}x{page.height} px, wanted an image")
    pixels = sum(page.width * page.height for page in pages)
    if pixels > MAXIMUM_PIXELS:
        many = f"{len(pages)} times " if len(pages) > 1 else ""
        raise UsageError(
            f"{path}: the header claims {many}{first.width}x{first.height} px, wanted at most {MAXIMUM_PIXELS} px"
        )
    check_decoded(path, len(data), sum(page.width * page.height * page.channels * page.value_bytes for page in pages))
    return HeaderPages(first.width, first.height, first.channels, tuple(own))


def describe(data: bytes) -> str:
    """Say what a file that is no image looks like."""
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    for signature, format_name in _SIGNATURES:
        if data.startswith(signature):
            return f"a truncated or damaged {format_name} ({len(data)} bytes)"
    if not re.search(rb"[\x00-\x08\x0e-\x1f]", start):
        return f"a text file ({len(data)} bytes)"
    return f"{len(data)} bytes of another format"


def _page(data: bytes, path: Path) -> list[_Page]:
    """Of PNG, JPEG, BMP, PGM and PPM."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # What Pillow finds odd in a file that it takes all the same.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                width, height = image.size
                if image.format == "PNG":
                    # Some versions of the decoder fill what is missing with a constant and report success.
                    image.verify()
                    if _PNG_END not in data:
                        raise EOFError("no end")
                if image.format not in ("PNG", "BMP", "PPM") and data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN):
                    raise EOFError("no end")
                deep = image.format == "PPM" or (image.format == "PNG" and data[24] == 16)
                channels = _DECODED_CHANNELS.get(image.mode, len(image.getbands()))
    except Image.DecompressionBombError as error:
        found = re.search(r"\((\d+) pixels\)", str(error))
        size = f"{found[1]} px" if found else "a larger image"
        raise UsageError(f"{path}: the header claims {size}, wanted at most {MAXIMUM_PIXELS} px") from error
    return [_Page(width, height, channels, 2 if deep else 1)]


def _webp_page(data: bytes, path: Path) -> list[_Page]:
    """Pillow's reader asks for the canvas's memory at once.

    Source: RFC 9649, 2.7 (VP8X), 3.4 (VP8L); RFC 6386, 9.1 (VP8).
    """
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X":
        has_alpha = bool(body[0] & 16)
        width, height = (1 + int.from_bytes(body[place : place + 3], "little") for place in (4, 7))
    elif kind == b"VP8L":
        bits = struct.unpack_from("<I", body, 1)[0]
        width, height, has_alpha = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1)
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", body, 6))
        has_alpha = False
    else:
        raise ValueError(f"WebP with the part {kind!r}")
    return [_Page(width, height, 4 if has_alpha else 3, 1)]


def _tiff_pages(data: bytes, path: Path) -> list[_Page]:
    """Pillow refuses to open kinds of TIFF that are fine (color in floating point), and copies what tags point to.

    Source: TIFF 6.0, section 2; BigTIFF (libtiff.gitlab.io/libtiff/specification/bigtiff.html).
    """
    order = "<" if data[:2] == b"II" else ">"
    big = b"+" in data[2:4]
    pages = []
    for tags in _tiff_directories(data, order, big):
        colors, samples = tags.get(_COLORS, [1])[0], tags.get(_SAMPLES, [1])[0]
        bits = max(tags.get(_BITS, [1]))
        pages.append(
            _Page(
                tags[_WIDTH][0],
                tags[_HEIGHT][0],
                3 if colors == _PALETTE else samples,
                max(1, -(-bits // 8)),
                bool(tags.get(_KIND, [0])[0] & _REDUCED),
            )
        )
    return pages


def _tiff_directories(data: bytes, order: str, big: bool) -> Iterator[dict[int, list[int]]]:
    """Yield the tags of each page that hold a few whole numbers."""
    word, count_of_tags, entry = ("Q", "Q", "HHQ") if big else ("I", "H", "HHI")
    word_bytes, start = struct.calcsize(f"={word}"), 8 if big else 4
    (offset,) = struct.unpack_from(order + word, data, start)
    visited = set[int]()
    while offset and offset not in visited:
        visited.add(offset)
        if len(visited) > _MOST_PAGES:
            raise ValueError(f"more than {_MOST_PAGES} pages")
        (count,) = struct.unpack_from(order + count_of_tags, data, offset)
        if count > _MOST_TAGS:
            raise ValueError(f"{count} tags of a page")
        place = offset + struct.calcsize(f"={count_of_tags}")
        tags: dict[int, list[int]] = {}
        for _ in range(count):
            tag, kind, values = struct.unpack_from(order + entry, data, place)
            place += struct.calcsize(f"={entry}")
            letter = _WHOLE_NUMBERS.get(kind)
            if tag in (_KIND, _WIDTH, _HEIGHT, _BITS, _COLORS, _SAMPLES) and letter and 0 < values <= _LONGEST_VALUE:
                within = struct.calcsize(f"={values}{letter}") <= word_bytes
                at = place if within else struct.unpack_from(order + word, data, place)[0]
                tags[tag] = list(struct.unpack_from(f"{order}{values}{letter}", data, at))
            place += word_bytes
        yield tags
        (offset,) = struct.unpack_from(order + word, data, place)
