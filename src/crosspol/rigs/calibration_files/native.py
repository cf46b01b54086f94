"""calibration.json: a rectified pair, as CrossPol writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.calibration_files.values import number, rectified, size_of

NAMES = ("fx", "fy", "cx_left", "cx_right", "cy", "baseline_m")

CONVENTION = (
    "rectified pair; pixel centers at integer coordinates; x_right = x_left - disparity; "
    "depth_m = fx * baseline_m / (disparity + cx_right - cx_left), along z; camera axes x right, y down, z forward; "
    "X_m = (column - cx_left) * depth_m / fx; Y_m = (row - cy) * depth_m / fy"
)


def unit(name: str) -> str:
    """What a value is counted in."""
    return "m" if name.endswith("_m") else "px"


def is_native(values: Mapping[str, object]) -> bool:
    """Whether a name is there that only this format has."""
    return bool({"cx_left", "cx_right", "baseline_m"} & values.keys())


def read(path: Path, values: Mapping[str, object]) -> StereoCalibration:
    """Return the calibration.

    Raises:
        UsageError: a value is missing or cannot be.
    """
    fx, fy, cx_left, cx_right, cy, baseline_m = (number(path, values, name) for name in NAMES)
    size = size_of(path, values, "width", "height")
    return rectified(path, fx=fx, fy=fy, cx_left=cx_left, cx_right=cx_right, cy=cy, baseline_m=baseline_m, size=size)
