"""From files to one camera's image in linear light, with its polarization and where it can be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from crosspol.errors import UsageError
from crosspol.polarimetry import rotate_frame
from crosspol.rigs.recordings import FrameFiles, read_stored, white_level
from crosspol.rigs.rig import Camera, Rig

__all__ = ["Frame", "Recording", "frame_of", "read_recording", "read_recordings"]


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera's image in linear light: 0 is the black level, 1 the white level.

    stokes: (C, 3, H, W), C = 1 mono or 3 RGB, or None. S0 in [0, 1]: S0 = 1 where unpolarized light brings every angle
        to the white level, so that S0 is the mean of the four intensities, half of what `polarimetry.stokes` makes of
        them; `polarimetry` describes the axes. Interpolation and noise can carry it a little beyond.
    intensity: (C, H, W) in [0, 1] of a camera without full Stokes, else None.
    valid: (1, H, W) in {0, 1}, float32: 1 where the light is neither dark nor saturated, in any angle or color.
    """

    stokes: Tensor | None
    intensity: Tensor | None
    valid: Tensor

    @property
    def image(self) -> Tensor:
        """What the camera saw: S0, or the intensity; (C, H, W), linear, in [0, 1]."""
        if self.stokes is not None:
            return self.stokes[:, 0].clamp(0, 1)
        if self.intensity is None:
            raise ValueError("a Frame has neither stokes nor intensity; wanted one of them")
        return self.intensity.clamp(0, 1)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.valid.shape[-2], self.valid.shape[-1]


@dataclass(frozen=True, eq=False)
class Recording:
    """One camera's frame before anything is computed from it.

    planes: what the files hold, as `recordings.read_stored` returns it.
    light: the same with black at 0 and white at 1, float32, not finite where the file is not: (H, W) of a mosaic,
        (4, C, H, W) of angles, (C, H, W) of an image; (C, 3, H, W) Stokes of ready polarization, scaled as in `Frame`.
    white: the stored value that became 1.
    """

    planes: list[NDArray[Any]]
    light: Tensor
    white: float
    camera: Camera
    name: str


def read_recordings(rig: Rig, left: FrameFiles, right: FrameFiles) -> tuple[Recording, Recording]:
    """Read what both cameras wrote, exchanged where the rig says `swap_views`, before anything is computed from it.

    Raises:
        MissingFileError: a file does not exist.
        UsageError: a file does not hold what the rig says, or the views differ in size.
    """
    if rig.swap_views:
        left, right = right, left
    pair = read_recording(left, rig.camera_of("left")), read_recording(right, rig.camera_of("right"))
    (height, width), (other_height, other_width) = (
        tuple(side // recording.camera.binning for side in recording.light.shape[-2:]) for recording in pair
    )
    if (height, width) != (other_height, other_width) and rig.calibration is None:
        raise UsageError(
            f"{pair[1].name}: got {other_width}x{other_height} px, wanted {width}x{height} px as the left view, or a "
            "calibration"
        )
    return pair


def read_recording(files: FrameFiles, camera: Camera) -> Recording:
    """Read a camera's frame and bring it between black and white level.

    Raises:
        MissingFileError: a file does not exist.
        UsageError: a file does not hold what the camera is said to write.
    """
    stored = read_stored(files, camera)
    white = white_level(camera, stored)
    if white <= camera.black_level:
        raise UsageError(
            f"{stored.name}: got black_level {camera.black_level:g}, wanted less than the white level {white:g}"
        )
    return Recording(stored.planes, camera.record.light(stored, camera, white), white, camera, stored.name)


def frame_of(recording: Recording) -> Frame:
    """Compute the frame: demosaic, Stokes parameters, validity.

    Values below black and above white count as black and white, values that are not finite as black and not valid.
    """
    camera = recording.camera
    stokes, intensity, valid = camera.record.measure(recording.light, camera)
    if stokes is not None:
        if camera.angle_offset_deg:
            stokes = rotate_frame(stokes, -math.radians(camera.angle_offset_deg))
        stokes = stokes.contiguous()
    return Frame(stokes, intensity, valid[None].float())
