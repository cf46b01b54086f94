"""Light at a glass pane of a procedural scene: transmitted and reflected Stokes vectors in the frame of the image.

Polarization angles are counter-clockwise from image-right with y up; S1 > 0 is polarization along image-horizontal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crosspol.polarimetry.fresnel import fresnel_pane

__all__ = ["PaneOptics", "Stokes", "pane_optics", "plane_normal", "reflected", "transmitted"]

Array = NDArray[np.float32]
Stokes = tuple[Array, Array, Array]


@dataclass(frozen=True)
class PaneOptics:
    """What a pane does to light at each pixel, all (h, w) float32.

    Intensity shares: r_s, r_p reflected, t_s, t_p transmitted.
    cos_2s, sin_2s: twice the angle of the s direction in the image.
    """

    r_s: Array
    r_p: Array
    t_s: Array
    t_p: Array
    cos_2s: Array
    sin_2s: Array


def plane_normal(slope_x: float, slope_y: float, disparity_centre: float, focal: float) -> tuple[float, float, float]:
    """Unit normal, in camera axes (right, down, forward), of a plane in space from its disparity.

    The disparity is disparity_centre + slope_x * x + slope_y * y, px, with x, y in px from the principal point; `focal`
    is in px. A plane n . X = c has inverse depth n . ray / c, and disparity is inverse depth times focal length times
    baseline, so n is proportional to (slope_x, slope_y, disparity_centre / focal).
    """
    normal = np.array([slope_x, slope_y, disparity_centre / focal])
    normal /= np.linalg.norm(normal)
    return float(normal[0]), float(normal[1]), float(normal[2])


def pane_optics(normal: tuple[float, float, float], x: Array, y: Array, focal: float, eta: float = 1.5) -> PaneOptics:
    """Fresnel shares and s direction of a pane along the view rays of pixels.

    Args:
        normal: unit normal of the pane in camera axes (right, down, forward).
        x, y: px from the principal point, broadcastable to (h, w).
        focal: focal length, px.
        eta: refractive index of the pane.
    """
    ray_x: Array = x / np.float32(focal)
    ray_y: Array = y / np.float32(focal)
    n_x, n_y, n_z = (np.float32(part) for part in normal)
    length = np.sqrt(ray_x * ray_x + ray_y * ray_y + 1)
    cosine = np.abs(ray_x * n_x + ray_y * n_y + n_z) / length
    r_s, r_p, t_s, t_p = (
        share.numpy() for share in fresnel_pane(torch.from_numpy(np.ascontiguousarray(cosine)).clamp(0, 1), eta)
    )
    # s = n x ray; the image's y points up in angles, the camera's down.
    s_right: Array = n_y - n_z * ray_y
    s_up: Array = -(n_z * ray_x - n_x)
    power: Array = s_right * s_right + s_up * s_up + np.float32(1e-12)
    difference: Array = s_right * s_right - s_up * s_up
    return PaneOptics(r_s, r_p, t_s, t_p, difference / power, 2 * s_right * s_up / power)


def transmitted(optics: PaneOptics, light: Stokes) -> Stokes:
    """Stokes vector behind a pane -> what of it passes, both (S0, S1, S2), each (h, w), in the frame of the image."""
    return _diattenuate(optics.t_s, optics.t_p, optics, light)


def reflected(optics: PaneOptics, light: Stokes) -> Stokes:
    """Stokes vector of what a perfect mirror in the pane's place would show -> what of it the pane reflects.

    Reflection favors s and transmission p, so the two oppose each other: equally bright worlds on both sides cancel.
    """
    return _diattenuate(optics.r_s, optics.r_p, optics, light)


def _diattenuate(share_s: Array, share_p: Array, optics: PaneOptics, light: Stokes) -> Stokes:
    s0, s1, s2 = light
    along = s1 * optics.cos_2s + s2 * optics.sin_2s
    oblique = s2 * optics.cos_2s - s1 * optics.sin_2s
    mean, half = np.float32(0.5) * (share_s + share_p), np.float32(0.5) * (share_s - share_p)
    out_0, out_along, out_oblique = (
        mean * s0 + half * along,
        half * s0 + mean * along,
        np.sqrt(share_s * share_p) * oblique,
    )
    return (
        out_0,
        out_along * optics.cos_2s - out_oblique * optics.sin_2s,
        out_along * optics.sin_2s + out_oblique * optics.cos_2s,
    )
