"""Calibration files in, calibration.json out."""

from __future__ import annotations

import json
import math
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crosspol.errors import MissingFileError, UsageError
from crosspol.io.atomic import read_bytes, write_bytes
from crosspol.rigs.calibration import (
    DISTORTION_COUNTS,
    LONGEST_BASELINE_M,
    Array,
    CameraCalibration,
    StereoCalibration,
    brief,
)

_FORMATS = "OpenCV YAML/XML, ROS CameraInfo YAML, Middlebury or KITTI text, or calibration.json"


_LARGEST_FILE = 1_000_000
"""Bytes; a calibration has a few thousand."""


def read_calibration(path: str | os.PathLike[str]) -> StereoCalibration:
    """Read a stereo calibration; the contents decide which format it is.

    - OpenCV YAML, XML or JSON with both cameras (``cameraMatrix1``, ``M1``, ``K1``; ``distCoeffs1``, ``D1``; ``R``,
      ``T``; ``imageSize``, or ``image_width`` and ``image_height``), or a folder with ``intrinsics.yml`` and
      ``extrinsics.yml``. OpenCV has no units: T is taken in meters.
    - ROS CameraInfo YAML: the left camera's file, with the right camera's beside it (``left.yaml`` and
      ``right.yaml``, ``cam_left_info.yaml`` and ``cam_right_info.yaml``), or the folder of ``left.yaml`` and
      ``right.yaml``. The rectification and projection matrices say how the cameras stand to each other.
    - Middlebury ``calib.txt`` (rectified; baseline in mm).
    - KITTI ``calib.txt`` (``P2``, ``P3``, or without them ``P0``, ``P1``) and ``calib_cam_to_cam.txt`` (``P_rect_02``,
      ``P_rect_03``, or 00 and 01): of the rectified images.
    - ``calibration.json`` as `write_calibration` writes it (rectified; baseline in meters).

    Warns in words where the baseline is longer than 5 m, which usually means millimeters.

    Raises:
        MissingFileError: there is no such file, or its other half is missing.
        UsageError: the file is of no known format, or a value is missing or cannot be; the message names the key.
    """
    path = Path(path)
    if path.is_dir():
        calibration = _read_folder(path)
    else:
        text = _read_text(path)
        calibration = _find_reader(path, text)(path, text)
    if calibration.baseline_m > LONGEST_BASELINE_M:
        warnings.warn(
            f"{path}: the baseline is {calibration.baseline_m:g} m, which is implausible: probably it is in mm, "
            "wanted meters; disparity is right all the same, depth is not",
            stacklevel=2,
        )
    return calibration


def write_calibration(path: str | os.PathLike[str], calibration: StereoCalibration) -> Path:
    """Write a rectified pair's calibration as ``calibration.json``, completely or not at all.

    Keys: fx, fy, cx_left, cx_right, cy (px), baseline_m, and width and height (px) where they are known.

    Raises:
        ValueError: the pair is not rectified.
        OSError: the folder is missing or cannot be written.
    """
    if not calibration.rectified:
        raise ValueError(f"{path}: got a calibration of raw views, wanted that of a rectified pair")
    names = ("fx", "fy", "cx_left", "cx_right", "cy", "baseline_m")
    values: dict[str, float] = {name: getattr(calibration, name) for name in names}
    if calibration.left.size is not None:
        values["width"], values["height"] = calibration.left.size
    return write_bytes(path, (json.dumps(values, indent=2) + "\n").encode())


def _read_text(path: Path) -> str:
    if path.is_file() and path.stat().st_size > _LARGEST_FILE:
        raise UsageError(f"{path}: got {path.stat().st_size} bytes, wanted a calibration ({_FORMATS})")
    return read_bytes(path).decode("utf-8", errors="replace")


def _read_folder(folder: Path) -> StereoCalibration:
    intrinsics, extrinsics = (_one_of(folder, stem) for stem in ("intrinsics", "extrinsics"))
    if intrinsics is not None and extrinsics is not None:
        return _from_opencv(intrinsics, _opencv_arrays(intrinsics) | _opencv_arrays(extrinsics))
    left = _one_of(folder, "left")
    if left is None:
        raise MissingFileError(
            f"{folder}: got neither left.yaml and right.yaml (ROS) nor intrinsics.yml and extrinsics.yml (OpenCV), "
            "wanted a calibration"
        )
    return _read_ros(left, _read_text(left))


def _one_of(folder: Path, stem: str) -> Path | None:
    return next((path for suffix in (".yaml", ".yml") if (path := folder / f"{stem}{suffix}").is_file()), None)


def _find_reader(path: Path, text: str) -> Any:
    """Tell the format by what only it has."""
    if "opencv-matrix" in text or "<opencv_storage" in text or text.startswith("%YAML"):
        return lambda path, text: _from_opencv(path, _opencv_arrays(path))
    signs = {
        r"\s*\{": _read_json,
        r"(?m)^\s*cam0\s*=": _read_middlebury,
        r"(?m)^P(_rect_0)?[0-3]\s*:": _read_kitti,
        r"(?m)^(camera_matrix|projection_matrix|[KkPp])\s*:": _read_ros,
    }
    for sign, reader in signs.items():
        if re.search(sign, text) if sign.startswith("(?m)") else re.match(sign, text):
            return reader
    raise UsageError(f"{path}: got no calibration of a known format, wanted {_FORMATS}")


def _read_json(path: Path, text: str) -> StereoCalibration:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a complete JSON file ({error})") from error
    number = partial(_number, path, values)
    size = (number("width", whole=True), number("height", whole=True)) if {"width", "height"} & values.keys() else None
    names = ("fx", "fy", "cx_left", "cx_right", "cy", "baseline_m")
    return _rectified(path, size=size, **{name: number(name) for name in names})


def _read_middlebury(path: Path, text: str) -> StereoCalibration:
    entries = dict(re.findall(r"(?m)^\s*(\w+)\s*=\s*(.*?)\s*$", text))
    left, right = (
        _checked(path, key, _numbers(path, key, re.split(r"[\[\];,\s]+", entries.get(key, "").strip("[]; "))), 9)
        for key in ("cam0", "cam1")
    )
    number = partial(_number, path, entries)
    size = (number("width", whole=True), number("height", whole=True)) if {"width", "height"} & entries.keys() else None
    return _rectified(
        path,
        fx=left[0],
        fy=left[4],
        cx_left=left[2],
        # `doffs` is this difference, rounded; the matrices have it exactly.
        cx_right=right[2],
        cy=left[5],
        baseline_m=number("baseline") / 1000,
        size=size,
    )


def _read_kitti(path: Path, text: str) -> StereoCalibration:
    entries = {key: value.split() for key, value in re.findall(r"(?m)^\s*(\w+)\s*:\s*(.*?)\s*$", text)}
    prefix = "P_rect_0" if any(key.startswith("P_rect_0") for key in entries) else "P"
    first = 2 if f"{prefix}2" in entries or f"{prefix}3" in entries else 0
    keys = (f"{prefix}{first}", f"{prefix}{first + 1}")
    left, right = (_checked(path, key, _numbers(path, key, entries.get(key, ())), 12) for key in keys)
    size = None
    if f"S_rect_0{first}" in entries:
        width, height = _checked(
            path, f"S_rect_0{first}", _numbers(path, f"S_rect_0{first}", entries[f"S_rect_0{first}"]), 2
        )
        size = (int(width), int(height))
    return _rectified(
        path,
        fx=left[0],
        fy=left[5],
        cx_left=left[2],
        cx_right=right[2],
        cy=left[6],
        # Both matrices start from camera 0, so that the pair's own baseline is the difference.
        baseline_m=left[3] / _nonzero(path, keys[0], left[0]) - right[3] / _nonzero(path, keys[1], right[0]),
        size=size,
    )


def _rectified(path: Path, **values: Any) -> StereoCalibration:
    try:
        return StereoCalibration.of_rectified(**values)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error


# The names under which programs store a camera's matrices, in lower case without underscores; {} is 1 or left, ...
_SIDES = {"left": ("1", "left", "l"), "right": ("2", "right", "r")}


_MATRIX = ("cameramatrix{}", "{}cameramatrix", "m{}", "k{}", "cm{}", "intrinsic{}", "intrinsicmatrix{}", "mtx{}")


_DISTORTION = ("distcoeffs{}", "{}distcoeffs", "d{}", "dist{}", "distortion{}", "distortioncoefficients{}", "dc{}")


_ROTATION = ("r", "rotation", "rotationmatrix", "rot", "om", "rvec")


_TRANSLATION = ("t", "translation", "translationvector", "trans", "tvec")


_WIDTH, _HEIGHT = ("imagewidth", "width", "w"), ("imageheight", "height", "h")
_SIZE = ("imagesize", "size", "imsize", "imgsize")


def _from_opencv(path: Path, arrays: Mapping[str, Array]) -> StereoCalibration:
    """A calibration from what is in an OpenCV file."""
    keys = {key.lower().replace("_", ""): key for key in arrays}

    def find(what: str, example: str, names: Iterable[str], counts: tuple[int, ...]) -> Array:
        present = [keys[name] for name in names if name in keys]
        for key in present:
            if arrays[key].size in counts:
                if not np.isfinite(arrays[key]).all():
                    raise UsageError(f"{path}: {key}: got {brief(arrays[key])}, wanted finite numbers")
                return arrays[key]
        if present:
            found, wanted = arrays[present[0]].size, " or ".join(map(str, counts))
            raise UsageError(f"{path}: {present[0]}: got {found} numbers, wanted {wanted}")
        raise UsageError(f"{path}: got no {what}, wanted it under a name such as {example}")

    size = None
    if any(name in keys for name in _SIZE):
        width, height = find("image size", "imageSize", _SIZE, (2,))
        size = (int(width), int(height))
    elif any(name in keys for name in _WIDTH):
        width, height = (
            find(f"image {what}", f"image_{what}", names, (1,))[0]
            for what, names in (("width", _WIDTH), ("height", _HEIGHT))
        )
        size = (int(width), int(height))
    cameras = []
    for number, view in ((1, "left"), (2, "right")):
        matrices, distortions = (
            [name.format(side) for name in names for side in _SIDES[view]] for names in (_MATRIX, _DISTORTION)
        )
        matrix = find(f"camera matrix of the {view} view", f"cameraMatrix{number} or M{number}", matrices, (9,))
        distortion = find(
            f"distortion of the {view} view", f"distCoeffs{number} or D{number}", distortions, DISTORTION_COUNTS
        )
        cameras.append(_camera(f"{path}: {view} view", matrix, distortion, size))
    rotation = find("rotation", "R", _ROTATION, (9, 3))
    if rotation.size == 3:
        import cv2

        rotation = np.asarray(cv2.Rodrigues(rotation)[0])
    translation = find("translation", "T", _TRANSLATION, (3,))
    return _stereo(path, cameras[0], cameras[1], rotation.reshape(3, 3), translation)


def _opencv_arrays(path: Path) -> dict[str, Array]:
    """Every number, list of numbers and matrix at the top level of an OpenCV file, flat."""
    import cv2

    text = _read_text(path)
    level = cv2.utils.logging.getLogLevel()
    # The parser prints its own complaints; the one line that the caller gets is ours.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        storage = cv2.FileStorage(text, cv2.FileStorage_READ | cv2.FileStorage_MEMORY)
        root = storage.root()
        if not root.isMap():
            raise UsageError(f"{path}: got no names in it, wanted an OpenCV calibration")
        arrays = {}
        for key in root.keys():  # noqa: SIM118  a FileNode, not a dict
            values = _opencv_values(root.getNode(key))
            if values is not None:
                arrays[key] = np.array(values, np.float64)
        return arrays
    except (cv2.error, SystemError) as error:
        # SystemError is what a constructor of OpenCV 5 that raised looks like from Python.
        cause = error.__cause__ if isinstance(error, SystemError) and error.__cause__ else error
        reason = (str(cause).strip().splitlines() or ["it cannot be parsed"])[0]
        reason = re.sub(r"^OpenCV\(.*?: error: ", "", reason)
        raise UsageError(f"{path}: not a complete OpenCV file ({reason})") from error
    finally:
        cv2.utils.logging.setLogLevel(level)


def _opencv_values(node: Any) -> list[float] | None:
    """The numbers of a node; None where it holds something else."""
    if node.isInt() or node.isReal():
        return [node.real()]
    if node.isMap() and "data" in node.keys():  # noqa: SIM118  a FileNode, not a dict
        # Read as a list, not as a matrix, whose memory would follow the rows and columns that the header claims.
        return _opencv_values(node.getNode("data"))
    if not node.isSeq() or not node.size():
        return [] if node.isSeq() else None
    values: list[float] = []
    for index in range(node.size()):
        inner = _opencv_values(node.at(index))
        if inner is None:
            return None
        values += inner
    return values


def _read_ros(path: Path, text: str) -> StereoCalibration:
    partner = _right_file(path)
    views = [(path, _ros_fields(path, text)), (partner, _ros_fields(partner, _read_text(partner)))]
    cameras, rectifications, projections = [], [], []
    for file, fields_ in views:
        model = fields_.get("distortion_model") or "plumb_bob"
        if model not in ("plumb_bob", "rational_polynomial"):
            raise UsageError(
                f"{file}: distortion_model: got {model!r}, wanted plumb_bob or rational_polynomial (no fisheye)"
            )
        size = None
        for width, height in (("image_width", "image_height"), ("width", "height")):
            if width in fields_:
                size = (_number(file, fields_, width, whole=True), _number(file, fields_, height, whole=True))
        matrix = _ros_array(file, fields_, ("camera_matrix", "K", "k"), (9,))
        distortion = _ros_array(file, fields_, ("distortion_coefficients", "D", "d"), DISTORTION_COUNTS)
        cameras.append(_camera(str(file), matrix, distortion, size))
        rectifications.append(_ros_array(file, fields_, ("rectification_matrix", "R", "r"), (9,)).reshape(3, 3))
        projections.append(_ros_array(file, fields_, ("projection_matrix", "P", "p"), (12,)).reshape(3, 4))
    left, right = (
        projection[:, 3] / _nonzero(file, "projection matrix", projection[0, 0])
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
    return _stereo(path, cameras[0], cameras[1], back @ rectifications[0], back @ offset)


def _right_file(left: Path) -> Path:
    """The right camera's file beside the left one's, by its name."""
    for word, other in (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT")):
        if word in left.name:
            right = left.with_name(left.name.replace(word, other))
            if not right.is_file():
                raise MissingFileError(f"{right}: no such file, wanted the right camera's half of {left}")
            return right
    raise UsageError(f"{left}: got one camera's calibration, wanted the left one's under a name with 'left' in it")


def _ros_fields(path: Path, text: str) -> Mapping[str, Any]:
    import yaml

    try:
        values = next(iter(yaml.safe_load_all(text)), None)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path}: not a complete YAML file ({reason})") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path}: got {type(values).__name__}, wanted a CameraInfo with camera_matrix and others")
    return values


def _ros_array(path: Path, fields: Mapping[str, Any], names: tuple[str, ...], counts: tuple[int, ...]) -> Array:
    key = next((name for name in names if name in fields), names[0])
    value = fields.get(key)
    return _checked(path, key, _numbers(path, key, value.get("data") if isinstance(value, dict) else value), *counts)


def _camera(where: str, matrix: Array, distortion: Array, size: tuple[int, int] | None) -> CameraCalibration:
    try:
        return CameraCalibration(matrix.reshape(3, 3), distortion, size)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error


def _stereo(
    path: Path, left: CameraCalibration, right: CameraCalibration, rotation: Array, translation: Array
) -> StereoCalibration:
    try:
        return StereoCalibration(left, right, rotation, translation)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error


def _number(path: Path, values: Mapping[str, Any], key: str, whole: bool = False) -> Any:
    """A number under a key, as float or int."""
    if key not in values:
        raise UsageError(f"{path}: got no {key}, wanted a number")
    number = _numbers(path, key, [values[key]])[0]
    if whole and number != round(number):
        raise UsageError(f"{path}: {key}: got {number:g}, wanted a whole number")
    return round(number) if whole else float(number)


def _numbers(path: Path, key: str, values: Any) -> Array:
    """Numbers that a text file may hold as text."""
    if values is None or isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise UsageError(f"{path}: {key}: got {brief(values)}, wanted a list of numbers")
    try:
        numbers = np.array([float(value) for value in values if value != ""], np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{path}: {key}: got {brief(values)}, wanted numbers") from error
    if not np.isfinite(numbers).all():
        raise UsageError(f"{path}: {key}: got {brief(numbers)}, wanted finite numbers")
    return numbers


def _checked(path: Path, key: str, numbers: Array, *counts: int) -> Array:
    if len(numbers) not in counts:
        wanted = " or ".join(map(str, counts))
        raise UsageError(f"{path}: {key}: got {len(numbers) or 'no'} numbers, wanted {wanted}")
    return numbers


def _nonzero(path: Path, key: str, focal: float) -> float:
    if not focal > 0 or not math.isfinite(focal):
        raise UsageError(f"{path}: {key}: got a focal length of {focal:g} px, wanted a positive one")
    return focal
