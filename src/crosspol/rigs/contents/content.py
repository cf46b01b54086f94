"""What every kind of camera content has to say of itself: one record a kind, and nobody else asks which kind it is."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from numpy.typing import NDArray
from torch import Tensor

from crosspol.rigs.contents.arrays import in_colors, scaled, without_alpha

__all__ = ["ANGLES_DEG", "CameraSettings", "Content", "LoadFile", "Measured", "MosaicReading", "Stored"]

ANGLES_DEG = (0, 45, 90, 135)

Array = NDArray[Any]

MosaicReading = Literal["edge-aware", "bilinear", "binning"]
"""How a mosaic becomes images: demosaiced to its own size, or one pixel for each period of the mosaic."""


class CameraSettings(Protocol):
    """What a content reads of `crosspol.rigs.rig.Camera`, which explains it."""

    @property
    def pixel_format(self) -> str | None: ...  # noqa: D102
    @property
    def layout(self) -> tuple[tuple[int, int], tuple[int, int]]: ...  # noqa: D102
    @property
    def bayer(self) -> str | None: ...  # noqa: D102
    @property
    def demosaic(self) -> MosaicReading: ...  # noqa: D102
    @property
    def black_level(self) -> float: ...  # noqa: D102
    @property
    def encoding(self) -> str: ...  # noqa: D102
    @property
    def stokes_zero(self) -> float | None: ...  # noqa: D102
    @property
    def aolp_half_turn(self) -> float | None: ...  # noqa: D102
    @property
    def dark(self) -> float: ...  # noqa: D102
    @property
    def saturated(self) -> float: ...  # noqa: D102


class LoadFile(Protocol):
    """Reads one file of a frame as the array that it holds."""

    def __call__(self, path: Path, channels: int) -> Array:
        """Return the numbers; `channels` is how many values a pixel of raw binary has, and from 2 on allows pages."""
        ...


@dataclass(frozen=True, eq=False)
class Stored:
    """The numbers of one frame as its files hold them.

    planes: as the content's `planes` returns them; uint8, uint16 or floating point.
    name: what to call the frame in an error: its first file.
    white: the largest value that the numbers can have, where the files say so (PGM); else None.
    """

    planes: list[Array]
    name: str
    white: int | None = None


class Measured(NamedTuple):
    """What a frame shows, as the fields of `crosspol.rigs.frames.Frame`."""

    stokes: Tensor | None
    intensity: Tensor | None
    valid: Tensor


class Content(ABC):
    """A kind of content of a camera's files. A new one is a file in this package and its name in the list of them.

    name: in `rig.yaml`.
    polarized: a frame alone has linear Stokes parameters; else the camera is plain, or behind one polarizer.
    file_counts: how many files a frame may have; `several_files` says how to name several at once.
    keys: the keys of the rig file that mean something for this content and not for all.
    exr_channels: for each way to name them, the EXR channels of each plane, one or three colors; `exr_wanted` in words.
    records_angles: intensities at four angles were recorded, so that `angle_images` and `angle_samples` have them.
    counts_light: the stored numbers are light between black and white, so that their histogram shows levels.
    """

    name: ClassVar[str]
    polarized: ClassVar[bool] = True
    file_counts: ClassVar[tuple[int, ...]] = (1,)
    several_files: ClassVar[str] = ""
    keys: ClassVar[frozenset[str]] = frozenset()
    exr_channels: ClassVar[tuple[tuple[tuple[str, ...], ...], ...]] = ((("R", "G", "B"),), (("Y",),))
    exr_wanted: ClassVar[str] = "R, G, B or Y"
    records_angles: ClassVar[bool] = False
    counts_light: ClassVar[bool] = True

    def paths(self, pattern: str | os.PathLike[str]) -> list[Path]:
        """Return the files that one path stands for, in the order that `planes` reads them."""
        return [Path(pattern)]

    def planes(self, paths: Sequence[Path], load: LoadFile, height: int | None) -> list[Array]:
        """Return the planes of a frame, each (H, W) or (H, W, 3) in RGB.

        Args:
            paths: its files.
            load: reads one of them.
            height: of the camera's images, px, where the rig says it: planes below each other are told by it.

        Raises:
            UsageError: an array that does not have them.
        """
        return [without_alpha(load(paths[0], 1), str(paths[0]))]

    def check_planes(self, planes: list[Array], name: str) -> None:  # noqa: B027
        """Refuse colors where there can be none.

        Raises:
            UsageError: the line begins with `name`.
        """

    def between_levels(self, planes: list[Array]) -> list[Array]:
        """Return those of the planes that lie between black and white level."""
        return planes

    @abstractmethod
    def light(self, stored: Stored, camera: CameraSettings, white: float) -> Tensor:
        """Return the light with black at 0 and white at 1, float32, not finite where the files are not."""

    @abstractmethod
    def measure(self, light: Tensor, camera: CameraSettings) -> Measured:
        """Compute the frame. Values that are not finite count as black and are not valid.

        Returns:
            Stokes (C, 3, H, W) before `angle_offset_deg`, S0 the mean of the intensities, or intensity (C, H, W);
            valid (H, W), bool.
        """

    def binning(self, camera: CameraSettings) -> int:
        """Return how many stored pixels, along each axis, become one of the frame."""
        return 1

    def brightness(self, light: Tensor) -> Tensor:
        """Return that part of the light that can be saturated; any shape."""
        return light

    def angle_images(self, light: Tensor, camera: CameraSettings) -> Tensor:
        """Return (4, C, H, W), the intensities at 0, 45, 90, 135 degrees, where `records_angles`."""
        raise NotImplementedError(f"{self.name} records no intensities at four angles")

    def angle_samples(self, light: Tensor, camera: CameraSettings) -> Tensor:
        """Return (4, N, h, w), intensities as recorded, not interpolated, that lie together; likewise."""
        raise NotImplementedError(f"{self.name} records no intensities at four angles")


def color_light(plane: Array, camera: CameraSettings, white: float) -> Tensor:
    """(C, H, W) light of a stored image, a Bayer sensor's in color."""
    return in_colors(scaled(plane, camera.black_level, white), camera.bayer)
