"""Images and polarization maps: from files and arrays of people's formats to checked float32 arrays, and back to
files.

Channel order is RGB everywhere. Functions that take `name` put it in front of their error messages, so that a caller
can say which file or argument was wrong.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosspol.errors import UsageError
from crosspol.io.atomic import read_bytes, write_bytes

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".webp", ".npy")
"""Files that `read_image` takes; the search in folders looks for these."""

MINIMUM_SIDE = 32
"""Smallest height and width of a view, px."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read_array(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Return the array in a ``.npy`` file; pickled objects are refused.

    Raises:
        MissingFileError: there is no such file.
        UsageError: the file is no complete ``.npy`` file, or holds objects.
    """
    import io

    data = read_bytes(path)
    try:
        array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, TypeError, OverflowError, MemoryError) as error:
        raise UsageError(f"{path}: not a complete .npy file of numbers ({_first_line(error)})") from error
    return array


def read_image(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an image as it is stored.

    Takes PNG, JPEG, TIFF, BMP, PPM/PGM, WebP and ``.npy``. The contents decide, not the suffix, except for ``.npy``.
    Orientation tags are ignored: a camera's rows stay rows.

    Returns:
        (H, W), (H, W, 3) in RGB or (H, W, 4) with alpha last; uint8, uint16 or float. A ``.npy`` file may hold any
        shape.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is a folder, empty, no image, or cut off.
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        return read_array(path)
    import cv2

    data = read_bytes(path)
    if data.startswith(_PNG_SIGNATURE):
        _check_png(data, path)
    level = cv2.utils.logging.getLogLevel()
    # Decoders print their own complaints; the one line that the caller gets is ours.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if image is None:
        raise UsageError(f"{path}: got {_describe(data)}, wanted a complete image (PNG, JPEG, TIFF, ... or .npy)")
    if image.ndim == 3:
        image = image[..., [2, 1, 0, 3][: image.shape[2]]]
    return np.ascontiguousarray(image)


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


def _check_png(data: bytes, path: Path) -> None:
    """Refuse a PNG that is cut off or damaged.

    Some versions of the decoder fill what is missing with a constant and report success.
    """
    position = len(_PNG_SIGNATURE)
    while True:
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 12 + length
        if len(data) < end:
            raise UsageError(f"{path}: got a truncated PNG ({len(data)} bytes), wanted a complete image")
        if zlib.crc32(data[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise UsageError(f"{path}: got a damaged PNG (checksum at byte {position}), wanted a complete image")
        if data[position + 4 : position + 8] == b"IEND":
            return
        position = end


def _describe(data: bytes) -> str:
    """Say what a file that is no image looks like."""
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    for signature, format_name in (
        (b"\xff\xd8\xff", "JPEG"),
        (b"II*\x00", "TIFF"),
        (b"MM\x00*", "TIFF"),
        (b"BM", "BMP"),
    ):
        if data.startswith(signature):
            return f"a truncated or damaged {format_name} ({len(data)} bytes)"
    if b"\x00" not in start:
        return f"a text file ({len(data)} bytes)"
    return f"{len(data)} bytes of another format"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
