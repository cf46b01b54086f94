"""Point clouds as PLY, as CloudCompare, MeshLab, Open3D and PCL read them: binary, little-endian, colored."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosspol.io.atomic import write_bytes

__all__ = ["write_point_cloud"]


def write_point_cloud(
    path: str | os.PathLike[str],
    points: NDArray[np.floating],
    colors: NDArray[np.uint8] | None = None,
    *,
    keep: NDArray[np.bool_] | None = None,
    comments: Sequence[str] = (),
) -> Path:
    """Write a point cloud, completely or not at all.

    The file has one element, ``vertex``: x, y, z (float32, in the units of `points`) and, with colors, red, green, blue
    (uchar). A point that is NaN or infinite in any coordinate is left out.

    Args:
        path: ends in ``.ply``; its folder must exist.
        points: (..., 3), such as (H, W, 3).
        colors: (..., 3), RGB, of the same points.
        keep: (...), False where a point is to be left out.
        comments: lines for the file's header, ASCII.

    Raises:
        ValueError: another suffix, or shapes or types that do not fit.
        OSError: the folder cannot be written.
    """
    from plyfile import PlyData, PlyElement

    path = Path(path)
    points = np.asarray(points)
    if path.suffix.lower() != ".ply":
        raise ValueError(f"{path}: got the suffix {path.suffix!r}, wanted .ply")
    if points.ndim < 1 or points.shape[-1] != 3 or points.dtype.kind != "f":
        raise ValueError(f"{path}: got points of {points.dtype} and shape {points.shape}, wanted floats (..., 3)")
    kept = np.isfinite(points).all(axis=-1)
    if keep is not None:
        if keep.shape != kept.shape or keep.dtype != np.bool_:
            raise ValueError(f"{path}: got keep of {keep.dtype} and shape {keep.shape}, wanted bool {kept.shape}")
        kept &= keep
    layout = [(name, "<f4") for name in ("x", "y", "z")]
    if colors is not None:
        if colors.shape != points.shape or colors.dtype != np.uint8:
            found = f"colors of {colors.dtype} and shape {colors.shape}"
            raise ValueError(f"{path}: got {found}, wanted uint8 {points.shape}")
        layout += [(name, "u1") for name in ("red", "green", "blue")]
    vertices = np.empty(np.count_nonzero(kept), layout)
    for axis, name in enumerate(("x", "y", "z")):
        vertices[name] = points[..., axis][kept]
    if colors is not None:
        for channel, name in enumerate(("red", "green", "blue")):
            vertices[name] = colors[..., channel][kept]
    buffer = io.BytesIO()
    element = PlyElement.describe(vertices, "vertex")
    PlyData([element], text=False, byte_order="<", comments=list(comments)).write(buffer)
    return write_bytes(path, buffer.getbuffer())
