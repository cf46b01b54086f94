"""ROS CameraInfo: a file a camera, in ROS's YAML, as a message, or in OpenCV's dialect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from crosspol.errors import MissingFileError, UsageError
from crosspol.rigs.calibration import DISTORTION_COUNTS, Array, StereoCalibration
from crosspol.rigs.calibration_files.values import (
    camera,
    check_lens_model,
    checked,
    numbers,
    positive_focal,
    size_of,
    stereo,
)

_SIGNS = {"camera_matrix", "projection_matrix", "K", "k", "P", "p"}


def is_camera_info(values: Mapping[str, object]) -> bool:
    """Whether a file describes one camera, in ROS's words."""
    return bool(_SIGNS & values.keys())


def read(
    path: Path, values: Mapping[str, object], read_values: Callable[[Path], Mapping[str, object]]
) -> StereoCalibration:
    """Return the calibration of a camera and of the one beside it.

    Args:
        path: the left camera's file.
        values: what it holds.
        read_values: reads the right camera's file.

    Raises:
        MissingFileError: there is no right camera's file.
        UsageError: a value is missing or cannot be, or a lens is not a pinhole's.
    """
    partner = _right_file(path)
    views = [(path, values), (partner, read_values(partner))]
    cameras, rectifications, projections = [], [], []
    for file, entries in views:
        check_lens_model(file, entries)
        size = size_of(file, entries, "image_width", "image_height") or size_of(file, entries, "width", "height")
        matrix = _array(file, entries, ("camera_matrix", "K", "k"), (9,))
        distortion = _array(file, entries, ("distortion_coefficients", "D", "d"), DISTORTION_COUNTS)
        cameras.append(camera(str(file), matrix, distortion, size))
        rectifications.append(_array(file, entries, ("rectification_matrix", "R", "r"), (9,)).reshape(3, 3))
        projections.append(_array(file, entries, ("projection_matrix", "P", "p"), (12,)).reshape(3, 4))
    left, right = (
        projection[:, 3] / positive_focal(file, "projection matrix", projection[0, 0])
        for projection, (file, _) in zip(projections, views, strict=True)
    )
    offset = np.array([right[0] - left[0], 0, 0])
    if not offset[0] < 0:
        raise UsageError(
            f"{partner}: projection matrix: got a baseline of {-offset[0]:g} m (P[0][3] / P[0][0]), wanted a "
            "positive one; are the views swapped?"
        )
    # Both rectified frames are parallel and the right one is `offset` away: go there from the left and back to raw.
    back = rectifications[1].T
    return stereo(path, cameras[0], cameras[1], back @ rectifications[0], back @ offset)


def _right_file(left: Path) -> Path:
    """The right camera's file beside the left one's, by its name."""
    for word, other in (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT")):
        if word in left.name:
            right = left.with_name(left.name.replace(word, other))
            if not right.is_file():
                raise MissingFileError(f"{right}: no such file, wanted the right camera's half of {left}")
            return right
    raise UsageError(f"{left}: got one camera's calibration, wanted the left one's under a name with 'left' in it")


def _array(path: Path, entries: Mapping[str, object], names: tuple[str, ...], counts: tuple[int, ...]) -> Array:
    key = next((name for name in names if name in entries), names[0])
    return checked(path, key, numbers(path, key, entries.get(key)), *counts)
