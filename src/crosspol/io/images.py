"""Images: from files as people have them to arrays, and back. Every image file comes in through this door, where its
header is read before its pixels.

Channel order is RGB everywhere.
"""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosspol.errors import UsageError
from crosspol.io.arrays import read_array, read_array_header
from crosspol.io.atomic import write_bytes
from crosspol.io.image_headers import describe, look_at
from crosspol.io.reading import check_file, read_bytes

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".webp", ".npy")
"""Files that `read_image` takes; the search in folders looks for these."""

_PNM = re.compile(rb"P([2356])(?:(?:\s|#[^\n]*\n)+(\d{1,9})){3}\s")


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
    own = look_at(data, path)
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
    if len(whole) < len(pages) or whole[0].shape[:2] != (own.height, own.width):
        raise UsageError(f"{path}: got {describe(data)}, wanted a complete image (PNG, JPEG, TIFF, ... or .npy)")
    return ImageFile([_in_rgb(page) for page in whole], _maxval(data))


def read_image_header(path: str | os.PathLike[str]) -> ImageHeader:
    """Read an image file without its pixels; errors as `read_image`, but for what only decoding shows."""
    path = Path(path)
    own = look_at(read_bytes(path), path)
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
    if path.suffix.lower() == ".npy":
        shape, _ = read_array_header(path)
        if len(shape) < 2:
            raise UsageError(f"{path}: got an array of shape {shape}, wanted an image")
        return shape[0], shape[1]
    check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=("PNG", "JPEG", "BMP", "PPM")) as image:
                return image.height, image.width
    except Exception:
        # What Pillow cannot open is looked at in full: it may be fine all the same, and if not, the error says why.
        header = read_image_header(path)
        return header.height, header.width


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
