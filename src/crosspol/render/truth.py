"""Ground truth of a rendered pair, by rays through pixel centers: nothing is guessed from images.

Pixel centers are integer coordinates; the cameras look along z with x to the right and y down, as in
`crosspol.rigs.calibration`. Distances are meters along the optical axis, never along the ray.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosspol.render.scene import Camera
from crosspol.rigs.calibration import StereoCalibration

__all__ = ["GroundTruth", "calibration_of", "camera_frame", "trace_truth"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_SAME_M = 2e-3
"""Two distances along a ray that differ by less are one surface."""


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """What rays through pixel centers meet first; all (H, W), left view unless the name says right.

    disparity, disparity_background: px, of the first surface (glass counts) and with all glass removed; NaN: nothing.
    glass, glass_right: the first surface is glass.
    occluded: the right view misses the left pixel's first surface, or has it outside its frame.
    depth_m: along the optical axis, of the first surface.
    normals: (H, W, 3), of the first surface, toward the camera; x right, y down, z forward.
    incidence_rad: angle between the ray and that normal, in [0, pi / 2].
    """

    disparity: Array
    disparity_background: Array
    glass: Mask
    glass_right: Mask
    occluded: Mask
    depth_m: Array
    normals: Array
    incidence_rad: Array


def calibration_of(camera: Camera, size: tuple[int, int]) -> StereoCalibration:
    """Return the calibration of the pair that renders images of `size` = (H, W)."""
    height, width = size
    return StereoCalibration.of_rectified(
        fx=camera.focal * width,
        fy=camera.focal * width,
        cx_left=(width - 1) / 2,
        cx_right=(width - 1) / 2,
        cy=(height - 1) / 2,
        baseline_m=camera.baseline_m,
        size=(width, height),
    )


def camera_frame(camera: Camera, view: str) -> tuple[Array, Array]:
    """Return a view's place (3,) and axes (3, 3) in the world: rows are image-right, image-down and forward."""
    cos_yaw, sin_yaw = math.cos(camera.yaw), math.sin(camera.yaw)
    cos, sin = math.cos(camera.pitch), math.sin(camera.pitch)
    forward = np.array([sin_yaw * cos, sin, cos_yaw * cos])
    right = np.array([-cos_yaw, 0, sin_yaw])
    axes = np.stack([right, np.cross(forward, right), forward])
    return np.array(camera.position) + (camera.baseline_m * right if view == "right" else 0), axes


def trace_truth(mitsuba: Any, full: Any, opaque: Any, camera: Camera, size: tuple[int, int]) -> GroundTruth:
    """Trace the truth.

    Args:
        mitsuba: the module, with a variant set.
        full: the loaded scene.
        opaque: the same with all glass removed.
        camera: of the scene.
        size: (H, W), px.
    """
    height, width = size
    focal = camera.focal * width
    place, axes = camera_frame(camera, "left")
    rays, lengths = _pixel_rays(axes, focal, size)
    distance, normals = _trace(mitsuba, full, place, rays)
    behind, _ = _trace(mitsuba, opaque, place, rays)
    # Rays have unit length; along the axis a ray of length t reaches t / length.
    depth, depth_background = distance / lengths, behind / lengths
    cosine = -(normals * rays).sum(axis=1)
    normals = np.where(cosine[:, None] < 0, -normals, normals) @ axes.T

    points = place + distance[:, None] * rays
    other, _ = camera_frame(camera, "right")
    to_point = points - other
    far = np.linalg.norm(to_point, axis=1)
    with np.errstate(invalid="ignore"):
        seen, _ = _trace(mitsuba, full, other, np.nan_to_num(to_point / far[:, None], nan=1.0, posinf=1.0))
    disparity = focal * camera.baseline_m / depth
    column = np.arange(height * width) % width - disparity
    outside = (column < -0.5) | (column > width - 0.5)

    right_rays, _ = _pixel_rays(axes, focal, size)
    right_first, _ = _trace(mitsuba, full, other, right_rays)
    right_behind, _ = _trace(mitsuba, opaque, other, right_rays)
    planes = {
        "disparity": _known(disparity, depth),
        "disparity_background": _known(focal * camera.baseline_m / depth_background, depth_background),
        "glass": distance < behind - _SAME_M,
        "glass_right": right_first < right_behind - _SAME_M,
        "occluded": outside | (seen < far - _SAME_M),
        "depth_m": _known(depth, depth),
        "incidence_rad": np.arccos(np.clip(np.abs(cosine), 0, 1)),
    }
    shaped = {name: plane.reshape(size) for name, plane in planes.items()}
    return GroundTruth(normals=normals.reshape(height, width, 3), **shaped)


def _known(values: Array, depth: Array) -> Array:
    return np.where(np.isfinite(depth), values, np.nan)


def _pixel_rays(axes: Array, focal: float, size: tuple[int, int]) -> tuple[Array, Array]:
    """Unit directions (H * W, 3) through pixel centers, and the lengths that they had with a z component of 1."""
    height, width = size
    row, column = np.divmod(np.arange(height * width), width)
    local = np.stack(
        [(column - (width - 1) / 2) / focal, (row - (height - 1) / 2) / focal, np.ones(height * width)], axis=1
    )
    lengths = np.linalg.norm(local, axis=1)
    return (local / lengths[:, None]) @ axes, lengths


def _trace(mitsuba: Any, scene: Any, origin: Array, directions: Array) -> tuple[Array, Array]:
    """Distance (N,), infinite where nothing is met, and normal (N, 3) of what each ray meets first."""
    if mitsuba.variant().startswith("scalar"):
        found = [scene.ray_intersect(mitsuba.Ray3f(origin.tolist(), list(d))) for d in directions.tolist()]
        return np.array([hit.t for hit in found], float), np.array([np.array(hit.n) for hit in found], float)
    direction = mitsuba.Vector3f(*(np.ascontiguousarray(axis, np.float32) for axis in directions.T))
    hit = scene.ray_intersect(mitsuba.Ray3f(mitsuba.Point3f(*origin.tolist()), direction))
    return np.array(hit.t, np.float64), np.array(hit.n, np.float64).reshape(3, -1).T
