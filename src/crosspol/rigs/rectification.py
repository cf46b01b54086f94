"""Rectification: raw views to views whose rows correspond, with polarization and validity carried along.

Stokes parameters are resampled, linearly, never DoLP or AoLP: a mixture of lights has the mixture of their Stokes
parameters, and a linear mixture of physical ones is physical, which a sharper (cubic, Lanczos) kernel does not grant.

S1 and S2 are measured against the image's own axes. Where rectification turns the image's content, those axes turn
against the scene, and the polarization has to be turned along. How far differs from pixel to pixel (distortion, and
toed-in cameras near the corners), so that it is taken from the map itself: the rotation nearest to its Jacobian.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crosspol.errors import UsageError
from crosspol.polarimetry import rotate_frame
from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.frames import Frame

__all__ = [
    "Rectification",
    "ViewMap",
    "check_calibrated_size",
    "crossed_turns",
    "rectification",
    "resample",
]

_ON_A_PIXEL = 1e-3
"""px. Maps are float32: a sample that is meant to lie on the border pixel lies beyond it by a rounding."""

_CROSSED_TURN_DEG = 3.0
"""Turned by this, a polarizer at 0 degrees passes 10 % of S2 beside S1."""


@dataclass(frozen=True, eq=False)
class ViewMap:
    """Where the pixels of a rectified view come from.

    x, y: (H, W) float32, px in the raw view; may lie outside of it.
    turn_rad: (H, W) float32, by how much the content turns counter-clockwise on its way to the rectified view.
    """

    x: Tensor
    y: Tensor
    turn_rad: Tensor


@dataclass(frozen=True, eq=False)
class Rectification:
    """The maps of both views, and the calibration of what they make."""

    left: ViewMap
    right: ViewMap
    calibration: StereoCalibration


def rectification(
    calibration: StereoCalibration, size: tuple[int, int], right_size: tuple[int, int], outside: float = 0.0
) -> Rectification:
    """Compute the maps that rectify a rig's raw views, for use with many frames.

    Args:
        calibration: of the raw views.
        size: (H, W) of the rectified views, px: that of the left raw view.
        right_size: (H, W) of the right raw view, px.
        outside: how much of what lies outside of the raw views is shown, in [0, 1]: 0 enlarges until nothing is, 1
            shows every raw pixel (`alpha` of OpenCV).

    Source: cv2.stereoRectify (Bouguet's method), zero disparity at infinity, and cv2.initUndistortRectifyMap.
    """
    import cv2

    height, width = size
    left, right = calibration.left, calibration.right
    turns_and_projections = cv2.stereoRectify(
        left.matrix,
        _coefficients(left.distortion),
        # OpenCV knows one size: what it looks for is the field of view that both have, on the left one's pixels.
        _on_grid(right.matrix, right_size, size),
        _coefficients(right.distortion),
        (width, height),
        calibration.rotation,
        calibration.translation_m[:, None],
        flags=cv2.CALIB_ZERO_DISPARITY,
        alpha=outside,
    )
    turn_left, turn_right, projection_left, projection_right = turns_and_projections[:4]
    maps = []
    for camera, turn, projection in ((left, turn_left, projection_left), (right, turn_right, projection_right)):
        x, y = cv2.initUndistortRectifyMap(
            camera.matrix, _coefficients(camera.distortion), turn, projection[:, :3], (width, height), cv2.CV_32FC1
        )
        maps.append(_view_map(*(torch.from_numpy(np.asarray(at, np.float32)) for at in (x, y))))
    rectified = StereoCalibration.of_rectified(
        fx=projection_left[0, 0],
        fy=projection_left[1, 1],
        cx_left=projection_left[0, 2],
        cx_right=projection_right[0, 2],
        cy=projection_left[1, 2],
        baseline_m=calibration.baseline_m,
        size=(width, height),
    )
    return Rectification(maps[0], maps[1], rectified)


def resample(frame: Frame, view: ViewMap) -> Frame:
    """Take a frame to the rectified view.

    A pixel is valid where every raw pixel that has a share in it exists and is valid. Outside of the raw view the
    image is black.

    Args:
        frame: as the camera took it.
        view: the map.

    Returns:
        The frame at the map's size; S1 and S2 are of the rectified image's axes.
    """
    sampler = _Bilinear(view, frame.size)
    untrusted = sampler.sample(1 - frame.valid) > 0
    valid = (sampler.inside & ~untrusted).to(frame.valid)
    if frame.stokes is None:
        return Frame(None, None if frame.intensity is None else sampler.sample(frame.intensity), valid)
    # The content turns counter-clockwise, so its axes turn clockwise relative to it.
    return Frame(rotate_frame(sampler.sample(frame.stokes), -view.turn_rad).contiguous(), None, valid)


def check_calibrated_size(calibration: StereoCalibration, left: tuple[int, int], right: tuple[int, int]) -> None:
    """Refuse views (height, width) of another size than they were calibrated with.

    Raises:
        UsageError: names the view.
    """
    for name, (height, width), camera in (("left", left, calibration.left), ("right", right, calibration.right)):
        if camera.size is not None and camera.size != (width, height):
            raise UsageError(
                f"{name} view: got {width}x{height} px, wanted {camera.size[0]}x{camera.size[1]} px as calibrated"
            )


def crossed_turns(maps: Rectification) -> tuple[str, ...]:
    """Return a warning for each view of a crossed pair whose polarizer the maps turn too far."""
    turns = {
        name: abs(math.degrees(view.turn_rad.median())) for name, view in (("left", maps.left), ("right", maps.right))
    }
    return tuple(
        f"rectification turns the {name} image by {turn:.1f} degrees, and its polarizer with it, so that the pair is "
        f"no longer crossed at 0 and 90 degrees; wanted at most {_CROSSED_TURN_DEG:g}: mount the camera level"
        for name, turn in turns.items()
        if turn > _CROSSED_TURN_DEG
    )


def _coefficients(distortion: NDArray[np.float64]) -> NDArray[np.float64]:
    return distortion if len(distortion) else np.zeros(4)


def _on_grid(matrix: NDArray[np.float64], own: tuple[int, int], wanted: tuple[int, int]) -> NDArray[np.float64]:
    """Camera matrix (3, 3) of an image of size `own` (H, W), once it is stretched to `wanted` (H, W)."""
    stretched = matrix.copy()
    for axis in (0, 1):
        factor = wanted[1 - axis] / own[1 - axis]
        stretched[axis] *= factor
        # Pixel centers are integers.
        stretched[axis, 2] += factor / 2 - 0.5
    return stretched


def _view_map(x: Tensor, y: Tensor) -> ViewMap:
    x, y = (torch.where((at - at.round()).abs() < _ON_A_PIXEL, at.round(), at) for at in (x, y))
    (x_down, x_along), (y_down, y_along) = torch.gradient(x), torch.gradient(y)
    # The rotation nearest to the Jacobian [[x_along, x_down], [y_along, y_down]], by its polar decomposition. y points
    # down, so that a positive angle is the rectified row's direction clockwise from the raw one: content turns back.
    return ViewMap(x, y, torch.atan2(y_along - x_down, x_along + y_down))


class _Bilinear:
    """Linear interpolation in images (..., H, W) of one size, at the places of a map.

    cv2.remap rounds places to 1/32 px, which is a disparity error, and torch's grid_sample cannot say which pixels have
    a share in a result.
    """

    def __init__(self, view: ViewMap, size: tuple[int, int]) -> None:
        height, width = size
        self.inside = (view.x >= 0) & (view.x <= width - 1) & (view.y >= 0) & (view.y <= height - 1)
        x, y = view.x.clamp(0, width - 1), view.y.clamp(0, height - 1)
        x0, y0 = x.floor(), y.floor()
        self._x_share, self._y_share = x - x0, y - y0
        # At the last column and row the share of the next one is 0, whichever pixel stands for it.
        next_x, next_y = (x0 + 1).clamp_max(width - 1), (y0 + 1).clamp_max(height - 1)
        self._corners = [(row * width + column).long() for row in (y0, next_y) for column in (x0, next_x)]

    def sample(self, images: Tensor) -> Tensor:
        planes = images.reshape(-1, images.shape[-2] * images.shape[-1])
        sampled = torch.stack([self._plane(plane) for plane in planes])
        return sampled.reshape(*images.shape[:-2], *self.inside.shape)

    def _plane(self, plane: Tensor) -> Tensor:
        top_left, top_right, bottom_left, bottom_right = (plane[corner] for corner in self._corners)
        top = torch.lerp(top_left, top_right, self._x_share)
        bottom = torch.lerp(bottom_left, bottom_right, self._x_share)
        return torch.where(self.inside, torch.lerp(top, bottom, self._y_share), top.new_zeros(()))
