"""Kalibr's camchain: `cam0` and `cam1`, and the transformation from the one to the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from crosspol.errors import UsageError
from crosspol.rigs.calibration import DISTORTION_COUNTS, CameraCalibration, StereoCalibration, brief
from crosspol.rigs.calibration_files.values import camera, check_lens_model, checked, numbers, stereo


def is_camchain(values: Mapping[str, object]) -> bool:
    """Whether a file holds Kalibr's cameras."""
    first = values.get("cam0")
    return isinstance(first, Mapping) and "intrinsics" in first


def read(path: Path, values: Mapping[str, object]) -> StereoCalibration:
    """Return the calibration: cam0 is the left camera, T_cn_cnm1 of cam1 takes points from it to cam1, in meters.

    Raises:
        UsageError: a value is missing or cannot be, there is no second camera, or a lens is not a pinhole's.
    """
    cameras, second = [], {}
    for name in ("cam0", "cam1"):
        entries = values.get(name)
        if not isinstance(entries, Mapping):
            raise UsageError(f"{path}: {name}: got {brief(entries)}, wanted a stereo pair, cam0 and cam1")
        cameras.append(_camera(path, name, entries))
        second = dict(entries)
    key = "cam1.T_cn_cnm1"
    transformation = checked(path, key, numbers(path, key, second.get("T_cn_cnm1")), 16).reshape(4, 4)
    return stereo(path, cameras[0], cameras[1], transformation[:3, :3], transformation[:3, 3])


def _camera(path: Path, name: str, entries: Mapping[str, object]) -> CameraCalibration:
    check_lens_model(path, {f"{name}.{key}": value for key, value in entries.items()})
    key = f"{name}.intrinsics"
    fx, fy, cx, cy = checked(path, key, numbers(path, key, entries.get("intrinsics")), 4)
    key = f"{name}.distortion_coeffs"
    distortion = checked(path, key, numbers(path, key, entries.get("distortion_coeffs", [])), *DISTORTION_COUNTS)
    size = None
    if "resolution" in entries:
        key = f"{name}.resolution"
        width, height = checked(path, key, numbers(path, key, entries["resolution"]), 2)
        size = (int(width), int(height))
    return camera(f"{path}: {name}", np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1]), distortion, size)
