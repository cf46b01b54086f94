"""Images of a camera without polarization of its own, or behind one polarizer of a crossed pair."""

from __future__ import annotations

import torch
from torch import Tensor

from crosspol.light import decode_srgb, well_exposed
from crosspol.rigs.contents.arrays import clipped_beside
from crosspol.rigs.contents.content import CameraSettings, Content, Measured, Stored, color_light


class Image(Content):
    """light: (C, H, W)."""

    name = "image"
    polarized = False
    keys = frozenset({"bayer", "encoding"})

    def light(self, stored: Stored, camera: CameraSettings, white: float) -> Tensor:  # noqa: D102
        light = color_light(stored.planes[0], camera, white)
        return decode_srgb(light) if camera.encoding == "srgb" else light

    def measure(self, light: Tensor, camera: CameraSettings) -> Measured:  # noqa: D102
        finite = torch.where(light.isfinite(), light, light.new_zeros(()))
        valid = well_exposed(light, dark=camera.dark, saturated=camera.saturated)
        valid &= ~clipped_beside(light, camera.bayer, camera.saturated)
        return Measured(None, finite.clamp(0, 1), valid)
