"""Stereo calibrations: what calibration programs and data sets write, as one description in pixels and meters.

Cameras look along +z, x points to the right in the image and y down; pixel centers are integer coordinates. A point
at X in the left camera's frame is at `rotation @ X + translation_m` in the right camera's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["CameraCalibration", "StereoCalibration"]

Array: TypeAlias = NDArray[np.float64]

DISTORTION_COUNTS = (0, 4, 5, 8, 12, 14)
LONGEST_BASELINE_M = 5.0
_FARTHEST_M = 1e6
"""No cameras are so far apart; and sums of squares stay finite."""
_EXACT = 1e-9
"""How far a rectified pair's rotation and distortion may be from none."""


@dataclass(frozen=True, eq=False)
class CameraCalibration:
    """One camera, in the model of OpenCV.

    matrix: (3, 3), px: [[fx, s, cx], [0, fy, cy], [0, 0, 1]].
    distortion: (N,), N one of 0, 4, 5, 8, 12, 14: k1, k2, p1, p2[, k3[, k4, k5, k6[, s1 to s4[, tx, ty]]]].
    size: (width, height) of the images it was calibrated with, px; None where the file does not say.

    Raises:
        ValueError: a value of another shape, not finite, or a focal length that is not positive.
    """

    matrix: Array
    distortion: Array
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "matrix", np.asarray(self.matrix, np.float64))
        object.__setattr__(self, "distortion", np.asarray(self.distortion, np.float64).reshape(-1))
        if self.matrix.shape != (3, 3) or not np.isfinite(self.matrix).all():
            raise ValueError(f"got a camera matrix {brief(self.matrix)}, wanted 3x3 finite numbers")
        fx, fy = self.matrix[0, 0], self.matrix[1, 1]
        if fx <= 0 or fy <= 0 or not np.allclose(self.matrix[[1, 2, 2, 2], [0, 0, 1, 2]], [0, 0, 0, 1]):
            raise ValueError(
                f"got a camera matrix {brief(self.matrix)}, wanted [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] with "
                "positive focal lengths"
            )
        if len(self.distortion) not in DISTORTION_COUNTS or not np.isfinite(self.distortion).all():
            counts = ", ".join(map(str, DISTORTION_COUNTS))
            raise ValueError(f"got distortion {brief(self.distortion)}, wanted {counts} finite coefficients")
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"got an image size of {self.size[0]}x{self.size[1]} px, wanted at least 1x1")

    def binned(self, factor: int) -> CameraCalibration:
        """Return the same camera with each `factor` x `factor` pixels made one; what is left over is cut off.

        Pixel centers are integers: what was at column i is then at (i - (factor - 1) / 2) / factor, rows likewise.
        """
        matrix = self.matrix.copy()
        matrix[:2] /= factor
        matrix[:2, 2] += 0.5 / factor - 0.5
        size = None if self.size is None else (self.size[0] // factor, self.size[1] // factor)
        return CameraCalibration(matrix, self.distortion, size)


@dataclass(frozen=True, eq=False)
class StereoCalibration:
    """Two cameras and where the right one is. A rectified pair is the case without rotation and distortion.

    left, right: the cameras.
    rotation: (3, 3), from the left camera's frame to the right one's.
    translation_m: (3,), meters, likewise: (-baseline, 0, 0) for a rectified pair.
    warnings: what is implausible in the file that it was read from, a line each.

    Raises:
        ValueError: no rotation matrix, or a right camera that is not on the right.
    """

    left: CameraCalibration
    right: CameraCalibration
    rotation: Array
    translation_m: Array
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "rotation", np.asarray(self.rotation, np.float64))
        object.__setattr__(self, "translation_m", np.asarray(self.translation_m, np.float64).reshape(-1))
        rotation = self.rotation
        # Files print few digits, so that the product of a rotation with its transpose is not exactly 1.
        if (
            rotation.shape != (3, 3)
            or not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)
            or np.linalg.det(rotation) < 0
        ):
            raise ValueError(f"got a rotation {brief(rotation)}, wanted a 3x3 rotation matrix")
        if self.translation_m.shape != (3,) or not (np.abs(self.translation_m) < _FARTHEST_M).all():
            wanted = f"3 numbers below {_FARTHEST_M:g} m"
            raise ValueError(f"got a translation {brief(self.translation_m)}, wanted {wanted}")
        x, y, z = -rotation.T @ self.translation_m
        if not x > max(abs(y), abs(z)):
            raise ValueError(
                f"got the right camera at x {x:.4g}, y {y:.4g}, z {z:.4g} m from the left one, wanted it on the "
                "right (x positive and the largest); are the views swapped?"
            )

    @classmethod
    def of_rectified(
        cls,
        *,
        fx: float,
        fy: float,
        cx_left: float,
        cx_right: float,
        cy: float,
        baseline_m: float,
        size: tuple[int, int] | None = None,
    ) -> StereoCalibration:
        """Describe a pair that is rectified already.

        Args:
            fx, fy: focal lengths of both views, px.
            cx_left, cx_right: column of the principal point in each view, px.
            cy: row of the principal points, px.
            baseline_m: distance of the cameras, meters.
            size: (width, height), px.

        Raises:
            ValueError: a value that is not finite, or a focal length or baseline that is not positive.
        """
        left, right = (
            CameraCalibration(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), np.zeros(0), size)
            for cx in (cx_left, cx_right)
        )
        return cls(left, right, np.eye(3), np.array([-baseline_m, 0, 0]))

    @property
    def rectified(self) -> bool:
        """Whether rows correspond already: no rotation, no distortion, the same focal lengths and rows."""
        same = np.delete(self.left.matrix - self.right.matrix, 2)  # all but cx, which may differ
        rest = (same, self.left.distortion, self.right.distortion, self.rotation - np.eye(3), self.translation_m[1:])
        return all(np.abs(values).max(initial=0) < _EXACT for values in rest)

    @property
    def fx(self) -> float:
        """Focal length of the left view along rows, px; of a rectified pair that of both."""
        return float(self.left.matrix[0, 0])

    @property
    def fy(self) -> float:
        """Focal length of the left view along columns, px; of a rectified pair that of both."""
        return float(self.left.matrix[1, 1])

    @property
    def cx_left(self) -> float:
        """Column of the left view's principal point, px."""
        return float(self.left.matrix[0, 2])

    @property
    def cx_right(self) -> float:
        """Column of the right view's principal point, px: z = fx * baseline_m / (disparity + cx_right - cx_left)."""
        return float(self.right.matrix[0, 2])

    @property
    def cy(self) -> float:
        """Row of the left view's principal point, px; of a rectified pair that of both."""
        return float(self.left.matrix[1, 2])

    @property
    def baseline_m(self) -> float:
        """Distance between the cameras, meters."""
        return float(np.linalg.norm(self.translation_m))


def brief(value: Any) -> str:
    """A value in a few characters on one line."""
    text = " ".join((str(value.tolist()) if isinstance(value, np.ndarray) else repr(value)).split())
    return text if len(text) <= 100 else f"{text[:97]}..."
