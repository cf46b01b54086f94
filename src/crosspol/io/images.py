"""Images: from files as people have them to arrays, and back. Every image file comes in through this door, where its
header is read before its pixels.

Channel order is RGB everywhere.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosspol.errors import UsageError, one_line
from crosspol.io.atomic import read_bytes, write_bytes

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".webp", ".npy")
"""Files that `read_image` takes; the search in folders looks for these."""

MAXIMUM_PIXELS = 178_956_970
"""Largest image, px, all pages of its file together: above the largest sensors on sale (151 million), and where
Pillow begins to call a file a decompression bomb. Decoded, that is 1.4 GB in four channels of 16 bits."""

_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_REDUCED = 1
"""Bit of a TIFF page's kind: a smaller copy of another page, which is no image of its own."""
_PNG_END = b"IEND\xaeB`\x82"
_WIDTH, _HEIGHT, _KIND, _SAMPLES, _COLORS, _PALETTE = 256, 257, 254, 277, 262, 3
"""Tags of a TIFF page, and one of its kinds of color."""
_DECODED_CHANNELS = {"P": 3, "PA": 4, "LA": 4, "CMYK": 3}
"""Channels after decoding, for Pillow's modes that have another number."""
_PNM = re.compile(rb"P([2356])(?:(?:\s|#[^\n]*\n)+(\d+)){3}\s")


@dataclass(frozen=True, eq=False)
class ImageHeader:
    """What an image file says of itself.

    width, height: px.
    channels: values a pixel as `read_image` returns them: 1, 3 or 4.
    pages: images in it.
    """

    width: int
    height: int
    channels: int
    pages: int


@dataclass(frozen=True, eq=False)
class ImageFile:
    """The images in a file.

    pages: each (H, W), (H, W, 3) in RGB or (H, W, 4) with alpha last; uint8, uint16 or float.
    white: the largest value that the numbers can have, where the file says so (`maxval` of PGM and PPM) and it is not
        the largest of the type; else None.
    """

    pages: list[NDArray[Any]]
    white: int | None


def read_array(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Return the array in a ``.npy`` file; pickled objects are refused.

    Raises:
        MissingFileError: there is no such file.
        UsageError: the file is no complete ``.npy`` file, or holds objects.
    """
    data = read_bytes(path)
    try:
        array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, TypeError, OverflowError, MemoryError) as error:
        raise UsageError(f"{path}: not a complete .npy file of numbers ({_first_line(error)})") from error
    return array


def read_image(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an image.

    Takes PNG, JPEG, TIFF, BMP, PPM/PGM, WebP and ``.npy``. The contents decide, not the suffix, except for ``.npy``.
    Orientation tags are ignored: a camera's rows stay rows. Values are as stored, but for PGM and PPM whose `maxval` is
    not the largest value of the type: those are scaled to the whole range of it, as every reader of the type expects.

    Returns:
        (H, W), (H, W, 3) in RGB or (H, W, 4) with alpha last; uint8, uint16 or float. A ``.npy`` file may hold any
        shape.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is a folder, empty, no image, cut off, larger than `MAXIMUM_PIXELS`, or holds several images.
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        return read_array(path)
    file = read_image_file(path)
    if len(file.pages) > 1:
        raise UsageError(f"{path}: got {len(file.pages)} images (pages) in one file, wanted one")
    image = file.pages[0]
    if file.white is None:
        return image
    scaled = image.astype(np.float64) * (np.iinfo(image.dtype).max / file.white)
    return np.rint(np.minimum(scaled, np.iinfo(image.dtype).max)).astype(image.dtype)


def read_image_file(path: str | os.PathLike[str]) -> ImageFile:
    """Read all images of a file as they are stored; arguments and errors as `read_image`, without ``.npy``."""
    import cv2

    path = Path(path)
    data = read_bytes(path)
    own = _own_pages(data, path)
    pages: list[NDArray[Any] | None]
    level = cv2.utils.logging.getLogLevel()
    # Decoders print their own complaints; the one line that the caller gets is ours.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        buffer = np.frombuffer(data, np.uint8)
        if len(own.places) > 1:
            decoded, every = cv2.imdecodemulti(buffer, cv2.IMREAD_UNCHANGED)
            pages = [every[place] for place in own.places] if decoded and len(every) > own.places[-1] else [None]
        else:
            pages = [cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)]
    except cv2.error:
        pages = [None]
    finally:
        cv2.utils.logging.setLogLevel(level)
    whole = [page for page in pages if page is not None]
    if len(whole) < len(pages):
        raise UsageError(f"{path}: got {_describe(data)}, wanted a complete image (PNG, JPEG, TIFF, ... or .npy)")
    return ImageFile([_in_rgb(page) for page in whole], _maxval(data))


def read_image_header(path: str | os.PathLike[str]) -> ImageHeader:
    """Read an image file without its pixels; errors as `read_image`, but for what only decoding shows."""
    path = Path(path)
    own = _own_pages(read_bytes(path), path)
    return ImageHeader(own.width, own.height, own.channels, len(own.places))


def read_image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return height and width of an image, px, from the beginning of its file: for looking at very many.

    What is damaged further on is found when the image is read.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is no image.
    """
    from PIL import Image

    path = Path(path)
    try:
        if path.suffix.lower() == ".npy":
            return tuple(np.load(path, mmap_mode="r", allow_pickle=False).shape[:2])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return image.height, image.width
    except Exception:
        # What Pillow cannot open is looked at in full: it may be fine all the same, and if not, the error says why.
        header = read_image_header(path)
        return header.height, header.width


@dataclass(frozen=True)
class _Pages:
    """Size of the first image of a file, and which of its pages are images of their own."""

    width: int
    height: int
    channels: int
    places: tuple[int, ...]


def _own_pages(data: bytes, path: Path) -> _Pages:
    """Look at the header: refuse what is no image, too large or, of a PNG, damaged anywhere."""
    from PIL import Image

    if data.startswith(_TIFF):
        return _tiff_pages(data, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
                channels = _DECODED_CHANNELS.get(image.mode, len(image.getbands()))
                _check_size(width, height, 1, path)
                if image.format == "PNG":
                    # Some versions of the decoder fill what is missing with a constant and report success.
                    image.verify()
                    if _PNG_END not in data:
                        raise EOFError("no end")
    except UsageError:
        raise
    except Image.DecompressionBombError as error:
        found = re.search(r"\((\d+) pixels\)", str(error))
        size = f"{found[1]} px" if found else "a larger image"
        raise UsageError(f"{path}: the header claims {size}, wanted at most {MAXIMUM_PIXELS} px") from error
    except Exception as error:
        # What a damaged header raises depends on the format: SyntaxError, OSError, ValueError, struct.error and more.
        raise UsageError(
            f"{path}: got {_describe(data)}, wanted a complete image (PNG, JPEG, TIFF, ... or .npy)"
        ) from error
    return _Pages(width, height, channels, (0,))


def _tiff_pages(data: bytes, path: Path) -> _Pages:
    """Pillow refuses to open kinds of TIFF that are fine (color in floating point), but reads the tags of all."""
    from PIL import TiffImagePlugin

    stream = io.BytesIO(data)
    sizes, samples, places, visited = [], [], [], set[int]()
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(stream.read(16 if b"+" in data[2:4] else 8))
        offset = directory.next
        while offset and offset not in visited:
            visited.add(offset)
            stream.seek(offset)
            directory.load(stream)
            if not int(directory.get(_KIND, 0)) & _REDUCED:
                places.append(len(visited) - 1)
                sizes.append((int(directory[_WIDTH]), int(directory[_HEIGHT])))
                samples.append(3 if directory.get(_COLORS) == _PALETTE else int(directory.get(_SAMPLES, 1)))
            offset = directory.next
        (width, height), channels, count = sizes[0], samples[0], len(sizes)
    except Exception as error:
        # What damaged tags raise depends on where they are damaged.
        raise UsageError(f"{path}: got {_describe(data)}, wanted a complete image ({one_line(error)})") from error
    for size in sizes:
        _check_size(*size, 1, path)
    _check_size(width, height, count, path)
    return _Pages(width, height, channels, tuple(places))


def _check_size(width: int, height: int, pages: int, path: Path) -> None:
    if width < 1 or height < 1:
        raise UsageError(f"{path}: the header claims {width}x{height} px, wanted an image")
    if width * height * pages > MAXIMUM_PIXELS:
        many = f"{pages} times " if pages > 1 else ""
        raise UsageError(f"{path}: the header claims {many}{width}x{height} px, wanted at most {MAXIMUM_PIXELS} px")


def _maxval(data: bytes) -> int | None:
    """The largest value of a PGM or PPM if it is not that of the type; OpenCV scales text of 8 bits itself."""
    match = _PNM.match(data[:4096])
    if match is None:
        return None
    maxval = int(match[2])
    scaled_already = match[1] in b"23" and maxval < 256
    return None if scaled_already or maxval in (255, 65535) or maxval < 1 else maxval


def _in_rgb(page: NDArray[Any]) -> NDArray[Any]:
    page = np.asarray(page)
    if page.ndim == 3:
        page = page[..., [2, 1, 0, 3][: page.shape[2]]]
    return np.ascontiguousarray(page)


def write_image(path: str | os.PathLike[str], image: NDArray[np.uint8] | NDArray[np.uint16]) -> Path:
    """Write a lossless PNG, completely or not at all.

    Args:
        path: the file; its folder must exist.
        image: (H, W) or (H, W, 3) in RGB; uint8 or uint16.

    Raises:
        ValueError: another shape or type.
        OSError: the folder cannot be written.
    """
    import cv2

    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ValueError(f"{path}: got {image.dtype} {image.shape}, wanted uint8 or uint16 (H, W) or (H, W, 3)")
    stored = image if image.ndim == 2 else np.ascontiguousarray(image[..., ::-1])
    encoded, data = cv2.imencode(".png", stored)  # type: ignore[arg-type]
    if not encoded:
        raise ValueError(f"{path}: an image of {image.shape} could not be encoded as PNG")
    return write_bytes(path, data.tobytes())


def _describe(data: bytes) -> str:
    """Say what a file that is no image looks like."""
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    for signature, format_name in (
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"II*\x00", "TIFF"),
        (b"MM\x00*", "TIFF"),
        (b"II+\x00", "TIFF"),
        (b"MM\x00+", "TIFF"),
        (b"BM", "BMP"),
        (b"P5", "PGM"),
        (b"P6", "PPM"),
    ):
        if data.startswith(signature):
            return f"a truncated or damaged {format_name} ({len(data)} bytes)"
    if not re.search(rb"[\x00-\x08\x0e-\x1f]", start):
        return f"a text file ({len(data)} bytes)"
    return f"{len(data)} bytes of another format"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
