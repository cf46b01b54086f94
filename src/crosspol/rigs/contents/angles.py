"""Images behind polarizers at 0, 45, 90 and 135 degrees, in four files or in one."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from crosspol.errors import UsageError
from crosspol.polarimetry import stokes
from crosspol.rigs.contents.arrays import clipped_beside, split, without_alpha
from crosspol.rigs.contents.content import (
    ANGLES_DEG,
    Array,
    CameraSettings,
    Content,
    LoadFile,
    Measured,
    Stored,
    color_light,
)

_ANGLE = re.compile(r"\{angle(?::0(\d)d?)?\}")


class Angles(Content):
    """light: (4, C, H, W). `{angle}` in a path stands for 0, 45, 90 and 135, `{angle:03}` for 000, 045, ..."""

    name = "angles"
    file_counts = (1, 4)
    several_files = ", or a path with {angle} in it"
    keys = frozenset({"planar", "bayer", "angle_offset_deg"})
    records_angles = True

    def paths(self, pattern: str | os.PathLike[str]) -> list[Path]:  # noqa: D102
        text = os.fspath(pattern)
        if not _ANGLE.search(text):
            return [Path(text)]
        return [Path(_ANGLE.sub(partial(_digits, angle), text)) for angle in ANGLES_DEG]

    def planes(self, paths: Sequence[Path], load: LoadFile, height: int | None) -> list[Array]:  # noqa: D102
        if len(paths) == 4:
            return [without_alpha(load(path, 1), str(path)) for path in paths]
        return split(load(paths[0], 4), 4, str(paths[0]), height, self.several_files)

    def check_planes(self, planes: list[Array], name: str) -> None:  # noqa: D102
        if len({plane.ndim for plane in planes}) > 1:
            raise UsageError(f"{name}: got gray and color images together, wanted one kind")

    def light(self, stored: Stored, camera: CameraSettings, white: float) -> Tensor:  # noqa: D102
        return torch.stack([color_light(plane, camera, white) for plane in stored.planes])

    def measure(self, light: Tensor, camera: CameraSettings) -> Measured:  # noqa: D102
        valid = (light < camera.saturated).all(0).all(0) & (light.mean((0, 1)) > camera.dark)
        valid &= ~clipped_beside(light, camera.bayer, camera.saturated).any(0)
        finite = torch.where(light.isfinite(), light, light.new_zeros(()))
        return Measured(stokes(*finite.clamp(0, 1).unbind(0)) / 2, None, valid)

    def angle_images(self, light: Tensor, camera: CameraSettings) -> Tensor:  # noqa: D102
        return light

    def angle_samples(self, light: Tensor, camera: CameraSettings) -> Tensor:  # noqa: D102
        return light


def _digits(angle: int, place: re.Match[str]) -> str:
    """Return an angle as `{angle}` asks for it: `{angle:03}` with leading zeros."""
    return f"{angle:0{place[1] or 1}d}"
