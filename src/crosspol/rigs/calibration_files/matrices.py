"""Both cameras' matrices by name, as OpenCV's programs and people's own scripts store them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from crosspol.errors import UsageError
from crosspol.rigs.calibration import DISTORTION_COUNTS, Array, StereoCalibration
from crosspol.rigs.calibration_files.values import camera, check_lens_model, numbers, stereo, whole

# The names under which programs store a camera's matrices, in lower case without underscores; {} is 1 or left, ...
_SIDES = {"left": ("1", "left", "l"), "right": ("2", "right", "r")}

_MATRIX = (
    *("cameramatrix{}", "{}cameramatrix", "m{}", "k{}", "{}m", "{}k", "cm{}", "intrinsic{}", "intrinsics{}"),
    *("{}intrinsics", "intrinsicmatrix{}", "mtx{}", "{}mtx"),
)

_DISTORTION = (
    *("distcoeffs{}", "{}distcoeffs", "d{}", "{}d", "dist{}", "{}dist", "distortion{}", "{}distortion"),
    *("distortioncoefficients{}", "{}distortioncoefficients", "dc{}"),
)

_ROTATION = ("r", "rotation", "rotationmatrix", "rot", "om", "rvec")

_TRANSLATION = ("t", "translation", "translationvector", "trans", "tvec")

_WIDTH, _HEIGHT = ("imagewidth", "width", "w"), ("imageheight", "height", "h")
_SIZE = ("imagesize", "size", "imsize", "imgsize")


def has_cameras(values: Mapping[str, object]) -> bool:
    """Whether some name is that of a camera's matrix."""
    matrices = {name.format(side) for name in _MATRIX for sides in _SIDES.values() for side in sides}
    return not matrices.isdisjoint(_plain(key) for key in _with_blocks(values))


def read(path: Path, values: Mapping[str, object]) -> StereoCalibration:
    """Return the calibration; `values` may have a block for each camera, such as ``left: {K: ..., D: ...}``.

    Raises:
        UsageError: a value is missing or cannot be, or a lens is not a pinhole's.
    """
    entries = _with_blocks(values)
    check_lens_model(path, entries)
    keys = {_plain(key): key for key in entries}

    def find(what: str, example: str, names: Iterable[str], counts: tuple[int, ...]) -> Array:
        present = [keys[name] for name in names if name in keys]
        found = {key: numbers(path, key, _listed(entries[key])) for key in present}
        for array in found.values():
            if len(array) in counts:
                return array
        if present:
            wanted = " or ".join(map(str, counts))
            raise UsageError(f"{path}: {present[0]}: got {len(found[present[0]])} numbers, wanted {wanted}")
        raise UsageError(f"{path}: got no {what}, wanted it under a name such as {example}")

    size = None
    if any(name in keys for name in _SIZE):
        width, height = find("image size", "imageSize", _SIZE, (2,))
        size = (whole(path, {"image size": width}, "image size"), whole(path, {"image size": height}, "image size"))
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
        cameras.append(camera(f"{path}: {view} view", matrix, distortion, size))
    rotation = find("rotation", "R", _ROTATION, (9, 3))
    if rotation.size == 3:
        import cv2

        rotation = np.asarray(cv2.Rodrigues(rotation)[0])
    translation = find("translation", "T", _TRANSLATION, (3,))
    return stereo(path, cameras[0], cameras[1], rotation.reshape(3, 3), translation)


def _plain(key: str) -> str:
    return key.lower().replace("_", "")


def _with_blocks(values: Mapping[str, object]) -> dict[str, object]:
    """The values, and those in a camera's block under both names: K in `left` is left_K."""
    entries: dict[str, object] = {}
    for key, value in values.items():
        side = _plain(key).removeprefix("camera").removeprefix("cam").removesuffix("camera").removesuffix("cam")
        if isinstance(value, Mapping) and any(side in sides for sides in _SIDES.values()):
            entries |= {f"{side}_{inner}": content for inner, content in value.items()}
        else:
            entries[key] = value
    return entries


def _listed(value: object) -> object:
    """A value for `numbers`: a number alone is a list of one."""
    if isinstance(value, np.ndarray):
        return value.reshape(-1)
    return [value] if isinstance(value, int | float) else value
