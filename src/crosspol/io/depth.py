"""Depth files: 16-bit PNG in millimeters, and ``.npy`` in meters.

In memory a depth is (H, W) float32 in meters along the optical axis, positive, and NaN where it is unknown: 0 m is
never written for what nobody knows, but in the PNG, whose 0 says "unknown" as in the files of depth cameras.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosspol.errors import UsageError
from crosspol.io.arrays import read_array
from crosspol.io.atomic import write_bytes
from crosspol.io.images import read_image, write_image

__all__ = ["DEPTH_SUFFIXES", "PNG_LIMIT_M", "read_depth", "write_depth"]

DEPTH_SUFFIXES = (".png", ".npy")

_STEPS_PER_M = 1000
_LAST_STEP = 65535

PNG_LIMIT_M = _LAST_STEP / _STEPS_PER_M
"""Largest depth that the PNG can hold, m."""


def write_depth(path: str | os.PathLike[str], depth: NDArray[np.floating]) -> Path:
    """Write a depth map, completely or not at all; the suffix says which kind.

    - ``.png``: 16 bits, depth in mm, rounded; 0 = unknown, and so is what is farther than 65.535 m. A known depth below
      half a millimeter is written as 1 mm.
    - ``.npy``: float32, m; NaN = unknown.

    Args:
        path: ends in ``.png`` or ``.npy``; its folder must exist.
        depth: (H, W), m; NaN, infinite, 0 and negative = unknown.

    Raises:
        ValueError: another suffix or shape.
        OSError: the folder cannot be written.
    """
    path = Path(path)
    depth = np.asarray(depth)
    if depth.ndim != 2 or depth.size == 0 or depth.dtype.kind != "f":
        raise ValueError(f"{path}: got {depth.dtype} of shape {depth.shape}, wanted floats of shape (H, W)")
    known = np.isfinite(depth) & (depth > 0)
    suffix = path.suffix.lower()
    if suffix == ".png":
        steps = np.rint(np.where(known, depth, 0).astype(np.float64) * _STEPS_PER_M)
        held = known & (steps <= _LAST_STEP)
        return write_image(path, np.where(held, np.maximum(steps, 1), 0).astype(np.uint16))
    if suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, np.where(known, depth, np.nan).astype(np.float32))
        return write_bytes(path, buffer.getvalue())
    raise ValueError(f"{path}: got the suffix {path.suffix!r}, wanted one of {', '.join(DEPTH_SUFFIXES)}")


def read_depth(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Read a depth map; the suffix says which kind.

    Args:
        path: ``.png`` (16 bits, mm, 0 = unknown) or ``.npy`` (m; NaN, infinite, 0 and negative = unknown).

    Returns:
        (H, W), float32, m; NaN = unknown.

    Raises:
        MissingFileError: there is no such file.
        UsageError: another suffix, or not a complete file of its kind.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".png":
        image = read_image(path)
        if image.dtype != np.uint16 or image.ndim != 2:
            raise UsageError(f"{path}: got {image.dtype} of shape {image.shape}, wanted a 16-bit image of one channel")
        depth = (image / _STEPS_PER_M).astype(np.float32)
    elif suffix == ".npy":
        array = read_array(path)
        if array.ndim != 2 or array.size == 0 or array.dtype.kind != "f":
            raise UsageError(f"{path}: got {array.dtype} of shape {array.shape}, wanted floats of shape (H, W)")
        with np.errstate(over="ignore"):
            depth = array.astype(np.float32)
    else:
        raise UsageError(f"{path}: got the suffix {path.suffix!r}, wanted one of {', '.join(DEPTH_SUFFIXES)}")
    depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    return depth
