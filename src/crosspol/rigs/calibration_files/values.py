"""Values out of what was parsed, checked, with errors that name file and key."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import SupportsFloat

import numpy as np

from crosspol.errors import UsageError
from crosspol.rigs.calibration import Array, CameraCalibration, StereoCalibration, brief

_PINHOLE = ("", "pinhole", "perspective", "plumbbob", "rationalpolynomial", "radtan", "radialtangential", "none")
"""What files call OpenCV's lens model, or no distortion at all; in lower case, letters only."""

_LARGEST = 1e12
"""Of a calibration's numbers, in px, m or mm: far from where products of a few of them overflow."""


def number(path: Path, values: Mapping[str, object], key: str) -> float:
    """Return the number under a key.

    Raises:
        UsageError: it is missing, or no finite number.
    """
    if key not in values:
        raise UsageError(f"{path}: got no {key}, wanted a number")
    found = numbers(path, key, [values[key]])
    return float(checked(path, key, found, 1)[0])


def whole(path: Path, values: Mapping[str, object], key: str) -> int:
    """Return the whole number under a key.

    Raises:
        UsageError: it is missing, or no whole number.
    """
    found = number(path, values, key)
    if found != round(found):
        raise UsageError(f"{path}: {key}: got {found:g}, wanted a whole number")
    return round(found)


def size_of(path: Path, values: Mapping[str, object], width: str, height: str) -> tuple[int, int] | None:
    """Return (width, height) in px; None where neither is there.

    Raises:
        UsageError: one of them is missing, or no whole number.
    """
    return (whole(path, values, width), whole(path, values, height)) if {width, height} & values.keys() else None


def numbers(path: Path, key: str, value: object) -> Array:
    """Return numbers, flat: a list that may be nested, or a mapping with ``data``; a text file may hold them as text.

    Raises:
        UsageError: it is something else, or a number is not finite.
    """
    if isinstance(value, Mapping):
        value = value.get("data")
    if value is None or isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise UsageError(f"{path}: {key}: got {brief(value)}, wanted a list of numbers")
    try:
        found = np.array(list(_flat(value)), np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"{path}: {key}: got {brief(value)}, wanted numbers") from error
    if not (np.abs(found) < _LARGEST).all():
        raise UsageError(f"{path}: {key}: got {brief(found)}, wanted finite numbers below {_LARGEST:g}")
    return found


def _flat(values: Iterable[object]) -> Iterable[float]:
    for value in values:
        if isinstance(value, bool | np.bool_):
            raise TypeError(f"got {value}, wanted a number")
        if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim):
            yield from _flat(value)
        elif isinstance(value, str | SupportsFloat) and value != "":
            yield float(value)
        elif value != "":
            raise TypeError(f"got {type(value).__name__}, wanted a number")


def checked(path: Path, key: str, found: Array, *counts: int) -> Array:
    """Return numbers whose count is one of `counts`.

    Raises:
        UsageError: there are more or fewer.
    """
    if len(found) not in counts:
        wanted = " or ".join(map(str, counts))
        raise UsageError(f"{path}: {key}: got {len(found) or 'no'} numbers, wanted {wanted}")
    return found


def positive_focal(path: Path, key: str, focal: float) -> float:
    """Return a focal length to divide by.

    Raises:
        UsageError: it is not positive.
    """
    if not focal > 0 or not math.isfinite(focal):
        raise UsageError(f"{path}: {key}: got a focal length of {focal:g} px, wanted a positive one")
    return focal


def check_lens_model(path: Path, values: Mapping[str, object]) -> None:
    """Refuse a lens model that is not OpenCV's, whichever key names it.

    Read as OpenCV's, a fisheye's coefficients put things tens of pixels off, and nothing looks broken.

    Raises:
        UsageError: some key says fisheye, equidistant, omni or another such word.
    """
    for key, value in values.items():
        name = _letters(key)
        if "fisheye" in name:
            said = value if isinstance(value, str) else np.any(np.asarray(value, dtype=object))
            wrong = said not in ("", "0", "no", "off", "false", "False") and bool(said)
        else:
            models = name.endswith(("model", "cameratype", "distortiontype", "modeltype"))
            wrong = models and isinstance(value, str) and _letters(value) not in _PINHOLE
        if wrong:
            raise UsageError(
                f"{path}: {key}: got {brief(value)}, wanted a pinhole camera with plumb_bob (radtan) or "
                "rational_polynomial distortion (no fisheye)"
            )


def _letters(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalpha())


def camera(where: str, matrix: Array, distortion: Array, size: tuple[int, int] | None) -> CameraCalibration:
    """Return a camera of 9 numbers and its distortion.

    Raises:
        UsageError: they cannot be a camera's; the message begins with `where`.
    """
    try:
        return CameraCalibration(matrix.reshape(3, 3), distortion, size)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error


def stereo(
    path: Path, left: CameraCalibration, right: CameraCalibration, rotation: Array, translation_m: Array
) -> StereoCalibration:
    """Return both cameras.

    Raises:
        UsageError: the rotation is none, or the right camera not on the right.
    """
    try:
        return StereoCalibration(left, right, rotation, translation_m)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error


def rectified(
    path: Path,
    *,
    fx: float,
    fy: float,
    cx_left: float,
    cx_right: float,
    cy: float,
    baseline_m: float,
    size: tuple[int, int] | None,
) -> StereoCalibration:
    """Return a pair that is rectified already.

    Raises:
        UsageError: a focal length or the baseline is not positive.
    """
    try:
        return StereoCalibration.of_rectified(
            fx=fx, fy=fy, cx_left=cx_left, cx_right=cx_right, cy=cy, baseline_m=baseline_m, size=size
        )
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
