"""Disparity files: PFM, KITTI's 16-bit PNG, ``.npy`` and ``.npz``.

In memory a disparity is (H, W) float32 in px, positive (x_right = x_left - disparity), and NaN where it is unknown.
Files say "unknown" in their own ways, all of which read as NaN:

- PNG (16 bits, px * 256): 0
- PFM: infinity or NaN
- NPY, NPZ: NaN or infinity

In PFM and NumPy files 0 is a number, a point infinitely far away, since predictions hold it; many data sets write it
where they know nothing, so that whoever reads ground truth says `zero_is_unknown`.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosspol.errors import UsageError
from crosspol.io.arrays import read_array, read_arrays
from crosspol.io.atomic import write_bytes
from crosspol.io.images import read_image, write_image
from crosspol.io.reading import read_bytes

DISPARITY_SUFFIXES = (".pfm", ".png", ".npy", ".npz")

_PFM_HEADER = 4096
"""Bytes within which a PFM's header ends, comments included."""

KITTI_SCALE = 256.0
"""Steps per pixel in KITTI's PNG."""

KITTI_LIMIT = 65535 / KITTI_SCALE
"""Largest disparity that KITTI's PNG can hold, px."""


def read_disparity(
    path: str | os.PathLike[str], *, scale: float | None = None, zero_is_unknown: bool = False
) -> NDArray[np.float32]:
    """Read a disparity file; the suffix says which kind.

    Args:
        path: ``.pfm`` (one channel, either byte order), ``.png`` (16-bit, value / 256, 0 = unknown), ``.npy``, or
            ``.npz`` with one array or one named ``disparity``.
        scale: what the file's values are divided by; None: 256 in a PNG (KITTI), 1 elsewhere.
        zero_is_unknown: in PFM and NumPy files as well.

    Returns:
        (H, W), float32, px; NaN = unknown.

    Raises:
        MissingFileError: there is no such file.
        UsageError: another suffix, or not a complete file of its kind.
    """
    path = Path(path)
    readers: dict[str, Callable[[Path], NDArray[Any]]] = {
        ".pfm": _read_pfm,
        ".png": _read_png,
        ".npy": read_array,
        ".npz": _read_npz,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: got the suffix {path.suffix!r}, wanted one of {', '.join(DISPARITY_SUFFIXES)}")
    array = reader(path)
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "fiu":
        raise UsageError(f"{path}: got {array.dtype} of shape {array.shape}, wanted numbers of shape (H, W)")
    if scale is None:
        scale = KITTI_SCALE if reader is _read_png else 1.0
    # What float32 cannot hold is no disparity.
    with np.errstate(all="ignore"):
        disparity: NDArray[np.float32] = array.astype(np.float32)
        if zero_is_unknown or reader is _read_png:
            disparity[disparity == 0] = np.nan
        disparity /= np.float32(scale)
    disparity[~np.isfinite(disparity)] = np.nan
    return disparity


def write_disparity(path: str | os.PathLike[str], disparity: NDArray[np.floating]) -> Path:
    """Write a disparity file, completely or not at all; the suffix says which kind.

    KITTI's PNG holds 1/256 px to 255.99 px in steps of 1/256 px. What lies above, or is negative, becomes unknown
    there; a known disparity of 0 becomes 1/256 px, as in KITTI's own tools. The other kinds hold float32 exactly.

    Args:
        path: ends in ``.pfm``, ``.png``, ``.npy`` or ``.npz``; its folder must exist.
        disparity: (H, W), px; NaN or infinite = unknown.

    Raises:
        ValueError: another suffix or shape.
        OSError: the folder cannot be written.
    """
    path = Path(path)
    disparity = np.asarray(disparity)
    if disparity.ndim != 2 or disparity.size == 0 or disparity.dtype.kind != "f":
        raise ValueError(f"{path}: got {disparity.dtype} of shape {disparity.shape}, wanted floats of shape (H, W)")
    disparity = np.ascontiguousarray(disparity, dtype=np.float32)
    suffix = path.suffix.lower()
    if suffix == ".png":
        return write_image(path, _to_kitti(disparity))
    if suffix == ".pfm":
        return write_bytes(path, _to_pfm(disparity))
    buffer = io.BytesIO()
    unknown_as_nan = np.where(np.isfinite(disparity), disparity, np.float32(np.nan))
    if suffix == ".npy":
        np.save(buffer, unknown_as_nan)
    elif suffix == ".npz":
        np.savez_compressed(buffer, disparity=unknown_as_nan)
    else:
        raise ValueError(f"{path}: got the suffix {path.suffix!r}, wanted one of {', '.join(DISPARITY_SUFFIXES)}")
    return write_bytes(path, buffer.getvalue())


def _to_kitti(disparity: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return KITTI's 16-bit steps, 0 = unknown."""
    known = np.where(np.isfinite(disparity), disparity, -1).astype(np.float64)
    steps = np.rint(known * KITTI_SCALE)
    representable = (known >= 0) & (steps <= 65535)
    return np.where(representable, np.maximum(steps, 1), 0).astype(np.uint16)


def _read_png(path: Path) -> NDArray[np.uint16]:
    image = read_image(path)
    if image.dtype != np.uint16 or image.ndim != 2:
        raise UsageError(
            f"{path}: got {image.dtype} of shape {image.shape}, wanted a 16-bit image of one channel (px * 256)"
        )
    return image


def _to_pfm(disparity: NDArray[np.float32]) -> bytes:
    """Return a little-endian PFM: rows from bottom to top, infinity = unknown (Middlebury's convention)."""
    height, width = disparity.shape
    stored = np.where(np.isfinite(disparity), disparity, np.float32(np.inf))[::-1]
    return f"Pf\n{width} {height}\n-1.0\n".encode() + stored.astype("<f4").tobytes()


def _read_pfm(path: Path) -> NDArray[np.float32]:
    data = read_bytes(path)
    # A comment line is no part of the format, but some writers put one after the magic number.
    header = re.match(
        rb"(?:\xef\xbb\xbf)?(Pf|PF)\s+(?:#[^\n]*\n\s*)*(\d{1,9})\s+(\d{1,9})\s+"
        rb"([-+]?(?:\d{1,20}\.?\d{0,20}|\.\d{1,20})(?:[eE][-+]?\d{1,3})?)\s",
        data[:_PFM_HEADER],
    )
    if header is None:
        raise UsageError(f"{path}: got no PFM header, wanted 'Pf', width, height and scale")
    if header[1] == b"PF":
        raise UsageError(f"{path}: got a color PFM (three channels), wanted one channel ('Pf')")
    width, height, scale = int(header[2]), int(header[3]), float(header[4])
    start, wanted = header.end(), 4 * width * height
    # One byte ends the header, so that pixels may begin with any; only their number tells that a line end had two.
    if data[start - 1 : start + 1] == b"\r\n" and len(data) - start == wanted + 1:
        start += 1
    found = len(data) - start
    if found != wanted or wanted == 0:
        raise UsageError(f"{path}: got {found} bytes of pixels, wanted {wanted} for {width}x{height}")
    values = np.frombuffer(data, "<f4" if scale < 0 else ">f4", offset=start).reshape(height, width)
    return values[::-1].astype(np.float32)


def _read_npz(path: Path) -> NDArray[Any]:
    arrays = read_arrays(path)
    if "disparity" not in arrays and len(arrays) != 1:
        raise UsageError(f"{path}: got the arrays {', '.join(arrays)}, wanted one, or one named disparity")
    return arrays["disparity"] if "disparity" in arrays else next(iter(arrays.values()))
