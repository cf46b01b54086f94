"""Ready maps of DoLP and AoLP beside an intensity image."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crosspol.errors import UsageError
from crosspol.rigs.contents.arrays import scaled, split, without_alpha
from crosspol.rigs.contents.content import (
    Array,
    CameraSettings,
    Content,
    LoadFile,
    Measured,
    Stored,
    color_light,
)
from crosspol.rigs.contents.stokes import measured_stokes
from crosspol.rigs.pixel_formats import parse_pixel_format

_MAPS = ("dolp", "aolp", "intensity")
_SLACK = 1e-3
"""How far rounding may carry a stored DoLP beyond [0, 1], and an angle beyond half a turn, as a share."""


class Maps(Content):
    """light: (C, 3, H, W) Stokes parameters, scaled as in `Frame`.

    `{map}` in a path stands for dolp, aolp and intensity or, where DoLP and AoLP share a file, for dolpaolp and
    intensity.
    """

    name = "dolp-aolp"
    file_counts = (2, 3)
    several_files = " (a path with {map} in it)"
    keys = frozenset({"planar", "bayer", "aolp_half_turn", "angle_offset_deg"})
    counts_light = False

    def paths(self, pattern: str | os.PathLike[str]) -> list[Path]:  # noqa: D102
        text = os.fspath(pattern)
        if "{map}" not in text:
            return [Path(text)]
        paths = [Path(text.replace("{map}", name)) for name in _MAPS]
        joint = Path(text.replace("{map}", "dolpaolp"))
        return [joint, paths[2]] if joint.exists() and not paths[0].exists() else paths

    def planes(self, paths: Sequence[Path], load: LoadFile, height: int | None) -> list[Array]:  # noqa: D102
        intensity = without_alpha(load(paths[-1], 1), str(paths[-1]))
        if len(paths) == 3:
            maps = [without_alpha(load(path, 1), str(path)) for path in paths[:2]]
        else:
            maps = split(load(paths[0], 2), 2, str(paths[0]), height)
        return [*maps, intensity]

    def check_planes(self, planes: list[Array], name: str) -> None:  # noqa: D102
        if any(plane.ndim == 3 for plane in planes[:2]):
            raise UsageError(f"{name}: got colors, wanted DoLP and AoLP with one value a pixel")

    def between_levels(self, planes: list[Array]) -> list[Array]:  # noqa: D102
        return planes[2:]

    def light(self, stored: Stored, camera: CameraSettings, white: float) -> Tensor:
        """Integers of DoLP are parts of the largest one."""
        dolp_map, aolp_map, image = stored.planes
        angle = _radians(aolp_map, camera.aolp_half_turn, stored.name)
        dolp = scaled(dolp_map, 0, _dolp_white(stored, camera))
        known = dolp[dolp.isfinite()]
        if known.numel() and (known.min() < -_SLACK or known.max() > 1 + _SLACK):
            raise UsageError(f"{stored.name}: got DoLP from {known.min():g} to {known.max():g}, wanted [0, 1]")
        s0 = color_light(image, camera, white)
        return torch.stack([s0, s0 * dolp * torch.cos(2 * angle), s0 * dolp * torch.sin(2 * angle)], dim=1)

    def measure(self, light: Tensor, camera: CameraSettings) -> Measured:  # noqa: D102
        return measured_stokes(light, camera)

    def brightness(self, light: Tensor) -> Tensor:  # noqa: D102
        return light[:, 0]


def _radians(aolp_map: Array, half_turn: float | None, name: str) -> Tensor:
    """(1, H, W) of stored angles."""
    is_float = aolp_map.dtype.kind == "f"
    if half_turn is None and not is_float:
        raise UsageError(
            f"{name}: got AoLP as {aolp_map.dtype}, wanted aolp_half_turn in the rig: the stored value that means "
            "180 degrees"
        )
    if is_float:
        known = aolp_map[np.isfinite(aolp_map)]
        largest = float(np.abs(known).max()) if known.size else 0.0
        if half_turn is None and largest > math.pi * (1 + _SLACK):
            raise UsageError(
                f"{name}: got AoLP up to {largest:g}, wanted radians, at most pi; for degrees, set aolp_half_turn: 180 "
                "in the rig"
            )
        if half_turn is not None and largest > half_turn * (1 + _SLACK):
            raise UsageError(f"{name}: got AoLP up to {largest:g}, wanted at most aolp_half_turn, {half_turn:g}")
    return scaled(aolp_map, 0, 1.0) * (math.pi / (half_turn or math.pi))


def _dolp_white(stored: Stored, camera: CameraSettings) -> float:
    """The stored value that is a DoLP of 1."""
    dolp_map = stored.planes[0]
    if dolp_map.dtype.kind == "f":
        return 1.0
    if camera.pixel_format is not None:
        return float(2 ** parse_pixel_format(camera.pixel_format).bits - 1)
    if dolp_map.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"{stored.name}: got DoLP as {dolp_map.dtype}, wanted uint8, uint16 or floating point")
    return float(stored.white or np.iinfo(dolp_map.dtype).max)
