"""Calibrations of benchmarks: Middlebury and KITTI, both of rectified images."""

from __future__ import annotations

import re
from pathlib import Path

from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.calibration_files.values import checked, number, numbers, positive_focal, rectified, size_of


def read_middlebury(path: Path, text: str) -> StereoCalibration:
    """Return what a Middlebury ``calib.txt`` says; its baseline is in mm.

    Raises:
        UsageError: a value is missing or cannot be.
    """
    entries: dict[str, str] = _entries(text, "=")
    left, right = (
        checked(path, key, numbers(path, key, re.split(r"[\[\];,\s]+", entries.get(key, "").strip("[]; "))), 9)
        for key in ("cam0", "cam1")
    )
    return rectified(
        path,
        fx=left[0],
        fy=left[4],
        cx_left=left[2],
        # `doffs` is this difference, rounded; the matrices have it exactly.
        cx_right=right[2],
        cy=left[5],
        baseline_m=number(path, entries, "baseline") / 1000,
        size=size_of(path, entries, "width", "height"),
    )


def read_kitti(path: Path, text: str) -> StereoCalibration:
    """Return what KITTI's ``calib.txt`` or ``calib_cam_to_cam.txt`` says of the color pair, else of the gray one.

    KITTI 2012 has a file of the first kind a frame, KITTI 2015 one of the second kind.

    Raises:
        UsageError: a value is missing or cannot be.
    """
    entries = {key: value.split() for key, value in _entries(text, ":").items()}
    prefix = "P_rect_0" if any(key.startswith("P_rect_0") for key in entries) else "P"
    first = 2 if f"{prefix}2" in entries or f"{prefix}3" in entries else 0
    keys = (f"{prefix}{first}", f"{prefix}{first + 1}")
    left, right = (checked(path, key, numbers(path, key, entries.get(key, ())), 12) for key in keys)
    # Both matrices start from camera 0, so that the pair's own baseline is the difference.
    starts = [matrix[3] / positive_focal(path, key, matrix[0]) for key, matrix in zip(keys, (left, right), strict=True)]
    size = None
    if (key := f"S_rect_0{first}") in entries:
        width, height = checked(path, key, numbers(path, key, entries[key]), 2)
        size = (int(width), int(height))
    return rectified(
        path,
        fx=left[0],
        fy=left[5],
        cx_left=left[2],
        cx_right=right[2],
        cy=left[6],
        baseline_m=starts[0] - starts[1],
        size=size,
    )


def _entries(text: str, sign: str) -> dict[str, str]:
    """Return what stands behind the sign in each line, by the word before it."""
    lines = (line.partition(sign) for line in text.split("\n") if sign in line)
    return {key.strip(): value.strip() for key, _, value in lines if re.fullmatch(r"\w+", key.strip())}
