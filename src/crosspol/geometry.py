"""From disparity to meters: depth, points, what an error of disparity costs, and which pixels fly. Pure functions.

Every function takes and returns a NumPy array or a torch tensor (..., H, W), as it was given, and keeps the device and
the gradients of tensors. float64 is computed in float64, everything else in float32.

Camera axes are x right, y down, z forward, in meters; pixel centers are integer coordinates. Disparity is positive, of
the left view: x_right = x_left - disparity. **Unknown is NaN, never 0 m**: a disparity that is NaN or infinite, and one
at or beyond the point at infinity, which no point in front of the cameras has.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from crosspol.errors import refuse

__all__ = ["AGREEING_NEIGHBORS", "NEAREST_PLANE_M", "STEEPEST_DEG", "depth", "depth_error", "flying", "points"]

Map = TypeVar("Map", NDArray[Any], torch.Tensor)

STEEPEST_DEG = 85.0
"""A surface that is steeper than this to the image plane shows the camera a twelfth of itself; few are seen so."""

NEAREST_PLANE_M = 0.25
"""Floors, tables and walls are seen as steeply as one likes far away, but they pass the camera at some distance; what
hangs between foreground and background points at the camera."""

AGREEING_NEIGHBORS = 3
"""Of eight. A pixel at the straight edge of a surface has five neighbors on it, one at a right-angled corner three; one
in a smeared edge, between foreground and background, has the two along the edge."""


def depth(disparity: Map, focal_px: float, baseline_m: float, cx_left: float = 0.0, cx_right: float = 0.0) -> Map:
    """Depth along the optical axis (not along the ray): focal_px * baseline_m / (disparity + cx_right - cx_left).

    Args:
        disparity: (..., H, W), px.
        focal_px: focal length of both rectified views along rows, px.
        baseline_m: distance of the cameras, m.
        cx_left, cx_right: columns of the principal points, px; only their difference counts (Middlebury's `doffs`). A
            point at infinity has the disparity cx_left - cx_right.

    Returns:
        (..., H, W), m, positive; NaN where the disparity is not finite or not above that of infinity.

    Raises:
        UsageError: a focal length or baseline that is not positive, or a principal point that is not finite.
    """
    product, offset = _factors(focal_px, baseline_m, cx_left, cx_right)
    # Divided only where there is something to divide by, so that pixels without a depth have a gradient of 0, not NaN.
    shifted = _positive(_floats(disparity) + offset)
    with np.errstate(over="ignore"):
        return _positive(product / shifted)


def points(depth: Map, matrix: ArrayLike) -> Map:
    """Points of a depth map, in the camera's axes.

    Args:
        depth: (..., H, W), m, along the optical axis.
        matrix: (3, 3), px: [[fx, s, cx], [0, fy, cy], [0, 0, 1]].

    Returns:
        (..., H, W, 3), m: x right, y down, z forward; z is the depth. All three are NaN where it is NaN, infinite or
        not positive.

    Raises:
        UsageError: no camera matrix.
    """
    camera = np.asarray(matrix, np.float64)
    pinhole = camera.shape == (3, 3) and np.isfinite(camera).all() and min(camera[0, 0], camera[1, 1]) > 0
    if not pinhole or not np.allclose(camera[[1, 2, 2, 2], [0, 0, 1, 2]], [0, 0, 0, 1]):
        wanted = "[[fx, s, cx], [0, fy, cy], [0, 0, 1]] with positive focal lengths"
        raise refuse("matrix", " ".join(str(camera.tolist()).split()), wanted)
    z = _positive(_floats(depth))
    height, width = z.shape[-2:]
    # In float64, and rounded once: a ray's slope is small beside its coordinates.
    down = (np.arange(height)[:, None] - camera[1, 2]) / camera[1, 1]
    right = (np.arange(width) - camera[0, 2] - camera[0, 1] * down) / camera[0, 0]
    if isinstance(z, torch.Tensor):
        rays = [torch.as_tensor(slope, dtype=z.dtype, device=z.device) for slope in (right, down)]
        return torch.stack([z * rays[0], z * rays[1], z], dim=-1)
    return np.stack([z * right.astype(z.dtype), z * down.astype(z.dtype), z], axis=-1)


def depth_error(depth: Map, focal_px: float, baseline_m: float, disparity_error: float = 1.0) -> Map:
    """What a small error of disparity is in meters, to first order: depth**2 / (focal_px * baseline_m) * error.

    Args:
        depth: (..., H, W), m.
        focal_px, baseline_m: as in `depth`.
        disparity_error: px.

    Returns:
        (..., H, W), m; NaN where the depth is NaN, infinite or not positive.

    Raises:
        UsageError: a focal length or baseline that is not positive.
    """
    product, _ = _factors(focal_px, baseline_m, 0, 0)
    return _positive(_floats(depth)) ** 2 * (disparity_error / product)


def flying(
    depth: Map,
    focal_px: float,
    *,
    steepest_deg: float = STEEPEST_DEG,
    nearest_plane_m: float = NEAREST_PLANE_M,
    agreeing: int = AGREEING_NEIGHBORS,
) -> Map:
    """Find pixels that hang in the air at depth edges: too few of their neighbors are on the same surface.

    Networks smear the disparity over the last pixels before an edge; as points these are a curtain between foreground
    and background. Two neighbors are on one surface unless the surface through both would be too steep *and* pass the
    camera too closely. A sharp edge, and the corners of what is two pixels wide, stay; a line of one pixel goes.

    Args:
        depth: (..., H, W), m; NaN, infinite, 0 and negative = unknown.
        focal_px: focal length, px.
        steepest_deg: largest angle between a surface and the image plane, degrees.
        nearest_plane_m: a surface whose plane passes the camera at least this far away may be steeper, m; in disparity
            it changes by at most baseline / nearest_plane from pixel to pixel.
        agreeing: how many of the up to eight neighbors have to be on the same surface.

    Returns:
        (..., H, W), bool: True where a known pixel has fewer. At the image's border there are five neighbors, in its
        corners three.

    Raises:
        UsageError: a limit that cannot be, or more neighbors than there are.
    """
    _factors(focal_px, 1, 0, 0)
    if not 0 < steepest_deg < 90:
        raise refuse("steepest_deg", f"{steepest_deg:g}", "more than 0 and less than 90 degrees")
    if not nearest_plane_m > 0:
        raise refuse("nearest_plane_m", f"{nearest_plane_m:g}", "a positive number of meters")
    if not 0 <= agreeing <= 8:
        raise refuse("agreeing", agreeing, "0 to 8 neighbors")
    # A pixel's width on a surface at z is z / focal_px.
    slope, closeness = math.tan(math.radians(steepest_deg)) / focal_px, 1 / (focal_px * nearest_plane_m)
    z = _positive(_floats(depth))
    known = z > 0
    count = known.byte() if isinstance(known, torch.Tensor) else known.astype(np.uint8)
    count[...] = 0
    height, width = z.shape[-2:]
    for down, right in ((0, 1), (1, -1), (1, 0), (1, 1)):  # and, from the other pixel's side, the other four
        rows = slice(0, max(height - down, 0)), slice(down, height)
        left, on = max(-right, 0), max(right, 0)
        columns = slice(left, max(width - on, 0)), slice(on, max(width - left, 0))
        here, there = (..., rows[0], columns[0]), (..., rows[1], columns[1])
        one, other = z[here], z[there]
        with np.errstate(over="ignore"):
            apart = abs(one - other)
            # Comparisons with NaN, which is what is unknown, are False.
            same = ((apart <= slope * one) & (apart <= slope * other)) | (apart <= closeness * one * other)
        count[here] += same
        count[there] += same
    return known & (count < agreeing)


def _factors(focal_px: float, baseline_m: float, cx_left: float, cx_right: float) -> tuple[float, float]:
    """Focal length times baseline, px m, and what is added to a disparity, px."""
    for name, value in (("focal_px", focal_px), ("baseline_m", baseline_m)):
        if not (value > 0 and math.isfinite(value)):
            raise refuse(name, f"{value:g}", "a positive number")
    for name, value in (("cx_left", cx_left), ("cx_right", cx_right)):
        if not math.isfinite(value):
            raise refuse(name, f"{value:g}", "a finite number")
    return float(focal_px) * float(baseline_m), float(cx_right) - float(cx_left)


def _floats(values: Map) -> Map:
    if isinstance(values, torch.Tensor):
        return values if values.dtype == torch.float64 else values.float()
    array = np.asarray(values)
    return array if array.dtype == np.float64 else array.astype(np.float32)


def _positive(values: Map) -> Map:
    """NaN in place of what is not finite or not above 0."""
    wanted = (values > 0) & (values < math.inf)
    if isinstance(values, torch.Tensor):
        return torch.where(wanted, values, torch.nan)
    # A NumPy scalar of the same type: the result keeps it.
    return np.where(wanted, values, values.dtype.type(np.nan))
