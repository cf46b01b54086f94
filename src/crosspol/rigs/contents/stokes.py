"""Ready Stokes parameters S0, S1, S2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from crosspol.errors import UsageError
from crosspol.rigs.contents.arrays import scaled, split
from crosspol.rigs.contents.content import Array, CameraSettings, Content, LoadFile, Measured, Stored


class Stokes(Content):
    """light: (C, 3, H, W), scaled as in `Frame`. A fourth parameter, S3, is left out: nothing here uses it."""

    name = "stokes"
    keys = frozenset({"planar", "stokes_zero", "angle_offset_deg"})
    exr_channels = tuple(
        tuple(tuple(f"S{order}{suffix}" for suffix in suffixes) for order in range(3))
        for suffixes in (("",), (".Y",), (".R", ".G", ".B"))
    )
    exr_wanted = "S0, S1, S2, or S0.R, S0.G, S0.B, ..."
    counts_light = False

    def planes(self, paths: Sequence[Path], load: LoadFile, height: int | None) -> list[Array]:  # noqa: D102
        stored = load(paths[0], 3)
        # Below each other: four of the rig's height, or three.
        four = 4 in stored.shape or (height is not None and stored.shape[0] == 4 * height)
        return split(stored, 4 if four else 3, str(paths[0]), height)[:3]

    def check_planes(self, planes: list[Array], name: str) -> None:  # noqa: D102
        if len({plane.ndim for plane in planes}) > 1:
            raise UsageError(f"{name}: got gray and color images together, wanted one kind")

    def between_levels(self, planes: list[Array]) -> list[Array]:  # noqa: D102
        return planes[:1]

    def light(self, stored: Stored, camera: CameraSettings, white: float) -> Tensor:
        """S0 between black and white level, S1 and S2 on its scale around their zero."""
        planes = stored.planes
        if camera.stokes_zero is None and planes[1].dtype.kind == "u":
            raise UsageError(
                f"{stored.name}: got {planes[1].dtype}, which has no negative numbers, wanted stokes_zero in the rig: "
                "the stored value that means 0 in S1 and S2"
            )
        zero = camera.stokes_zero or 0.0
        s0 = scaled(planes[0], camera.black_level, white)
        s1, s2 = (scaled(plane, zero, zero + white - camera.black_level) for plane in planes[1:])
        return torch.stack([s0, s1, s2], dim=1)

    def measure(self, light: Tensor, camera: CameraSettings) -> Measured:  # noqa: D102
        return measured_stokes(light, camera)

    def brightness(self, light: Tensor) -> Tensor:  # noqa: D102
        return light[:, 0]


def measured_stokes(light: Tensor, camera: CameraSettings) -> Measured:
    """Return ready Stokes parameters (C, 3, H, W) and where they can be trusted."""
    s0 = light[:, 0]
    valid = (s0 < camera.saturated).all(0) & (s0.mean(0) > camera.dark) & light.isfinite().all(0).all(0)
    return Measured(torch.where(light.isfinite(), light, light.new_zeros(())), None, valid)
