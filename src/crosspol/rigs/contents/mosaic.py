"""Raw frames of a polarization sensor: one value a pixel, four polarizers in each 2x2 block, perhaps in color."""

from __future__ import annotations

import torch
from torch import Tensor

from crosspol.errors import UsageError
from crosspol.polarimetry import bin_mosaic, binned_side, binned_validity, demosaic, mosaic_validity, stokes
from crosspol.rigs.contents.arrays import scaled
from crosspol.rigs.contents.content import ANGLES_DEG, Array, CameraSettings, Content, Measured, Stored


class Mosaic(Content):
    """light: (H, W)."""

    name = "mosaic"
    keys = frozenset({"layout", "bayer", "demosaic", "angle_offset_deg"})
    records_angles = True

    def check_planes(self, planes: list[Array], name: str) -> None:  # noqa: D102
        if planes[0].ndim == 3:
            raise UsageError(f"{name}: got a color image, wanted the raw mosaic, one value a pixel")

    def light(self, stored: Stored, camera: CameraSettings, white: float) -> Tensor:  # noqa: D102
        return scaled(stored.planes[0], camera.black_level, white)[0]

    def measure(self, light: Tensor, camera: CameraSettings) -> Measured:  # noqa: D102
        limits = {"dark": camera.dark, "saturated": camera.saturated}
        finite = _finite(light).clamp(0, 1)
        if camera.demosaic == "binning":
            valid = binned_validity(light, camera.bayer, **limits)
            intensities = bin_mosaic(finite, camera.layout, camera.bayer)
        else:
            valid = mosaic_validity(light, camera.bayer, camera.demosaic, **limits)
            intensities = demosaic(finite, camera.layout, camera.bayer, camera.demosaic)
        polarization = stokes(*(i if i.ndim == 3 else i[None] for i in intensities)) / 2
        return Measured(polarization, None, valid)

    def binning(self, camera: CameraSettings) -> int:  # noqa: D102
        return binned_side(camera.bayer) if camera.demosaic == "binning" else 1

    def angle_images(self, light: Tensor, camera: CameraSettings) -> Tensor:
        """Interpolated linearly, without regard to edges."""
        return torch.stack(demosaic(_finite(light), camera.layout, camera.bayer, "bilinear")).reshape(
            4, -1, *light.shape
        )

    def angle_samples(self, light: Tensor, camera: CameraSettings) -> Tensor:
        """The four angles of a block lie together; in color, within one cell of the Bayer pattern."""
        period, cells = (2, ((0, 0),)) if camera.bayer is None else (4, ((0, 0), (0, 2), (2, 0), (2, 2)))
        height, width = (side // period * period for side in light.shape[-2:])
        places = {camera.layout[row][column]: (row, column) for row in (0, 1) for column in (0, 1)}
        return torch.stack(
            [
                torch.stack([light[row + y : height : period, column + x : width : period] for y, x in cells])
                for row, column in (places[angle] for angle in ANGLES_DEG)
            ]
        )


def _finite(light: Tensor) -> Tensor:
    return torch.where(light.isfinite(), light, light.new_zeros(()))
