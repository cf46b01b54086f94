"""Calibration files in, calibration.json out: what is in a file decides which format it is, not its name."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from crosspol.errors import MissingFileError, UsageError
from crosspol.io.atomic import write_bytes
from crosspol.rigs.calibration import LONGEST_BASELINE_M, StereoCalibration
from crosspol.rigs.calibration_files import benchmarks, kalibr, matrices, native, ros
from crosspol.rigs.calibration_files.parsing import parse_json, parse_npz, parse_opencv, parse_yaml, read_text

__all__ = ["read_calibration", "write_calibration"]

Reader = Callable[[Path, str], StereoCalibration]

_FORMATS = (
    "OpenCV YAML/XML, ROS CameraInfo YAML, a Kalibr camchain, YAML/JSON/NPZ with K1, D1, K2, D2, R and T, Middlebury "
    "or KITTI text, or calibration.json"
)


def read_calibration(path: str | os.PathLike[str]) -> StereoCalibration:
    """Read a stereo calibration; the contents decide which format it is.

    - OpenCV YAML, XML or JSON with both cameras (``cameraMatrix1``, ``M1``, ``K1``; ``distCoeffs1``, ``D1``; ``R``,
      ``T``; ``imageSize``, or ``image_width`` and ``image_height``), or a folder with ``intrinsics.yml`` and
      ``extrinsics.yml``. OpenCV has no units: T is taken in meters.
    - The same names in plain YAML, JSON or ``.npz``.
    - ROS CameraInfo YAML, also in OpenCV's dialect: the left camera's file, with the right camera's beside it
      (``left.yaml`` and ``right.yaml``, ``cam_left_info.yaml`` and ``cam_right_info.yaml``), or the folder of
      ``left.yaml`` and ``right.yaml``. The rectification and projection matrices say how the cameras stand to each
      other.
    - Kalibr ``camchain.yaml``: ``cam0`` is the left camera, ``cam1`` the right one.
    - Middlebury ``calib.txt`` (rectified; baseline in mm).
    - KITTI ``calib.txt`` (``P2``, ``P3``, or without them ``P0``, ``P1``) and ``calib_cam_to_cam.txt`` (``P_rect_02``,
      ``P_rect_03``, or 00 and 01): of the rectified images.
    - ``calibration.json`` as `write_calibration` writes it (rectified; baseline in meters).

    Lens models other than OpenCV's (fisheye, equidistant, omnidirectional) are refused, whichever key names them.
    Where the baseline is longer than 5 m, which usually means millimeters, the calibration's `warnings` say so.

    Raises:
        MissingFileError: there is no such file, or its other half is missing.
        UsageError: the file is of no known format, or a value is missing or cannot be; the message names the key.
    """
    path = Path(path)
    if path.is_dir():
        calibration = _read_folder(path)
    elif path.suffix.lower() == ".npz":
        calibration = matrices.read(path, parse_npz(path))
    else:
        text = read_text(path, _FORMATS)
        calibration = _find_reader(path, text)(path, text)
    if calibration.baseline_m > LONGEST_BASELINE_M:
        warning = (
            f"{path}: the baseline is {calibration.baseline_m:g} m, which is implausible: probably it is in mm, "
            "wanted meters; disparity is right all the same, depth is not"
        )
        calibration = replace(calibration, warnings=(*calibration.warnings, warning))
    return calibration


def write_calibration(path: str | os.PathLike[str], calibration: StereoCalibration) -> Path:
    """Write a rectified pair's calibration as ``calibration.json``, completely or not at all.

    Keys: fx, fy, cx_left, cx_right, cy (px), baseline_m, and width and height (px) where they are known; for whoever
    reads it without CrossPol, also the units of these, and what is computed with them in which axes.

    Raises:
        ValueError: the pair is not rectified.
        OSError: the folder is missing or cannot be written.
    """
    if not calibration.rectified:
        raise ValueError(f"{path}: got a calibration of raw views, wanted that of a rectified pair")
    values: dict[str, object] = {name: getattr(calibration, name) for name in native.NAMES}
    if calibration.left.size is not None:
        values["width"], values["height"] = calibration.left.size
    values |= {"units": {name: native.unit(name) for name in values}, "convention": native.CONVENTION}
    return write_bytes(path, (json.dumps(values, indent=2) + "\n").encode())


def _read_folder(folder: Path) -> StereoCalibration:
    intrinsics, extrinsics = (_one_of(folder, stem) for stem in ("intrinsics", "extrinsics"))
    if intrinsics is not None and extrinsics is not None:
        halves = [parse_opencv(half, read_text(half, _FORMATS)) for half in (intrinsics, extrinsics)]
        return matrices.read(intrinsics, halves[0] | halves[1])
    left = _one_of(folder, "left")
    if left is None:
        raise MissingFileError(
            f"{folder}: got neither left.yaml and right.yaml (ROS) nor intrinsics.yml and extrinsics.yml (OpenCV), "
            "wanted a calibration"
        )
    return _find_reader(left, text := read_text(left, _FORMATS))(left, text)


def _one_of(folder: Path, stem: str) -> Path | None:
    return next((path for suffix in (".yaml", ".yml") if (path := folder / f"{stem}{suffix}").is_file()), None)


def _find_reader(path: Path, text: str) -> Reader:
    """Tell the format by what only it has."""
    # An image's bytes may look like any of them; no text has a zero.
    if "\0" in text:
        raise _unknown(path)
    # YAML may have P1 as well, but not with its numbers in a row.
    for sign, reader in (
        (r"(?m)^[ \t]*cam0[ \t]*=", benchmarks.read_middlebury),
        (r"(?m)^P(_rect_0)?[0-3][ \t]*:[ \t]*[-+.\d]", benchmarks.read_kitti),
    ):
        if re.search(sign, text):
            return reader
    if "opencv-matrix" in text or "opencv_storage" in text or text.startswith("%YAML:"):
        return _read_opencv
    # YAML may be in braces as well, but seldom has its names in quotes.
    if path.suffix.lower() == ".json" or re.match(r"\s*\{\s*(\"|\}|$)", text):
        return _read_json
    if text.lstrip().startswith("{") or re.search(r"(?m)^[\"']?\w+[\"']?[ \t]*:", text):
        return _read_yaml
    raise _unknown(path)


def _read_opencv(path: Path, text: str) -> StereoCalibration:
    values = parse_opencv(path, text)
    if ros.is_camera_info(values):
        return ros.read(path, values, lambda right: parse_opencv(right, read_text(right, _FORMATS)))
    return matrices.read(path, values)


def _read_json(path: Path, text: str) -> StereoCalibration:
    values = parse_json(path, text)
    if native.is_native(values) or not matrices.has_cameras(values):
        return native.read(path, values)
    return matrices.read(path, values)


def _read_yaml(path: Path, text: str) -> StereoCalibration:
    values = parse_yaml(path, text)
    if kalibr.is_camchain(values):
        return kalibr.read(path, values)
    if ros.is_camera_info(values):
        return ros.read(path, values, lambda right: parse_yaml(right, read_text(right, _FORMATS)))
    if matrices.has_cameras(values):
        return matrices.read(path, values)
    raise _unknown(path)


def _unknown(path: Path) -> UsageError:
    return UsageError(f"{path}: got no calibration of a known format, wanted {_FORMATS}")
