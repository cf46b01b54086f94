"""From files to one camera's image in linear light, with its polarization and where it can be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from crosspol.errors import UsageError
from crosspol.light import decode_srgb, well_exposed
from crosspol.polarimetry import demosaic, mosaic_validity, rotate_frame, stokes
from crosspol.rigs.pixel_formats import parse_pixel_format
from crosspol.rigs.recordings import FrameFiles, read_stored, white_level
from crosspol.rigs.rig import Camera, Rig, Side

__all__ = ["Frame", "Recording", "frame_of", "read_frame", "read_pair", "read_recording", "read_recordings"]

_DOLP_SLACK = 1e-3
"""How far rounding may carry a stored DoLP beyond [0, 1]."""


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


def read_frame(files: FrameFiles, rig: Rig, side: Side = "left") -> Frame:
    """Read what the camera of a view wrote.

    Args:
        files: a file; a path with {angle} in it for angle images or {map} for ready maps; or those files in order.
        rig: says what the files hold.
        side: whose camera wrote them; `rig.swap_views` is left to `read_pair`.

    Raises:
        MissingFileError: a file does not exist.
        UsageError: a file does not hold what the rig says.
    """
    return frame_of(read_recording(files, rig.camera_of(side)))


def read_pair(rig: Rig, left: FrameFiles, right: FrameFiles) -> tuple[Frame, Frame]:
    """Read both views, exchanged where the rig says `swap_views`.

    Returns:
        The left and the right view.

    Raises:
        MissingFileError: a file does not exist.
        UsageError: a file does not hold what the rig says, or the views differ in size.
    """
    recordings = read_recordings(rig, left, right)
    return frame_of(recordings[0]), frame_of(recordings[1])


def read_recordings(rig: Rig, left: FrameFiles, right: FrameFiles) -> tuple[Recording, Recording]:
    """Read what both cameras wrote, as `read_pair` does, before anything is computed from it.

    Raises:
        MissingFileError: a file does not exist.
        UsageError: a file does not hold what the rig says, or the views differ in size.
    """
    if rig.swap_views:
        left, right = right, left
    pair = read_recording(left, rig.camera_of("left")), read_recording(right, rig.camera_of("right"))
    (height, width), (other_height, other_width) = pair[0].light.shape[-2:], pair[1].light.shape[-2:]
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
    planes, name = read_stored(files, camera)
    white = white_level(camera, planes[-1])
    if white <= camera.black_level:
        raise UsageError(f"{name}: got black_level {camera.black_level:g}, wanted less than the white level {white:g}")
    if camera.holds == "stokes":
        light = _stored_stokes(planes, camera, white, name)
    elif camera.holds == "dolp-aolp":
        light = _stokes_of_maps(planes, camera, white, name)
    else:
        lights = [_in_color(_scaled(plane, camera.black_level, white), camera) for plane in planes]
        light = torch.stack(lights) if camera.holds == "angles" else lights[0]
        if camera.encoding == "srgb":
            light = decode_srgb(light)
    return Recording(planes, light, white, camera, name)


def frame_of(recording: Recording) -> Frame:
    """Compute the frame: demosaic, Stokes parameters, validity.

    Values below black and above white count as black and white, values that are not finite as black and not valid.
    """
    camera, light = recording.camera, recording.light
    finite = torch.where(light.isfinite(), light, torch.zeros_like(light))
    limits = {"dark": camera.dark, "saturated": camera.saturated}
    if camera.holds == "image":
        return Frame(None, finite.clamp(0, 1), well_exposed(light, **limits)[None].float())
    if camera.holds == "mosaic":
        trusted = mosaic_validity(light, camera.bayer, camera.demosaic, **limits)
        intensities = demosaic(finite.clamp(0, 1), camera.layout, camera.bayer, camera.demosaic)
        polarization = stokes(*(i if i.ndim == 3 else i[None] for i in intensities)) / 2
    elif camera.holds == "angles":
        trusted = (light < camera.saturated).all(0).all(0) & (light.mean((0, 1)) > camera.dark)
        polarization = stokes(*finite.clamp(0, 1).unbind(0)) / 2
    else:
        s0 = light[:, 0]
        trusted = (s0 < camera.saturated).all(0) & (s0.mean(0) > camera.dark) & light.isfinite().all(0).all(0)
        polarization = finite
    if camera.angle_offset_deg:
        polarization = rotate_frame(polarization, -math.radians(camera.angle_offset_deg))
    return Frame(polarization.contiguous(), None, trusted[None].float())


def _scaled(plane: NDArray[Any], black: float, white: float) -> Tensor:
    """(H, W) or (H, W, 3) stored numbers to (C, H, W) between 0 and 1, in double precision until they are scaled."""
    channels = plane[None] if plane.ndim == 2 else np.moveaxis(plane, 2, 0)
    return torch.from_numpy(((channels - np.float64(black)) / (white - black)).astype(np.float32))


def _stored_stokes(planes: list[NDArray[Any]], camera: Camera, white: float, name: str) -> Tensor:
    """(C, 3, H, W): S0 between black and white level, S1 and S2 on its scale around their zero."""
    if camera.stokes_zero is None and planes[1].dtype.kind == "u":
        raise UsageError(
            f"{name}: got {planes[1].dtype}, which has no negative numbers, wanted stokes_zero in the rig: the "
            "stored value that means 0 in S1 and S2"
        )
    zero = camera.stokes_zero or 0.0
    s0 = _scaled(planes[0], camera.black_level, white)
    s1, s2 = (_scaled(plane, zero, zero + white - camera.black_level) for plane in planes[1:])
    return torch.stack([s0, s1, s2], dim=1)


def _stokes_of_maps(planes: list[NDArray[Any]], camera: Camera, white: float, name: str) -> Tensor:
    """(C, 3, H, W) of DoLP, AoLP and an intensity image; integers of DoLP are parts of the largest one."""
    dolp_map, aolp_map, image = planes
    half_turn = camera.aolp_half_turn
    if half_turn is None and aolp_map.dtype.kind != "f":
        raise UsageError(
            f"{name}: got AoLP as {aolp_map.dtype}, wanted aolp_half_turn in the rig: the stored value that means "
            "180 degrees"
        )
    dolp_white = 1.0 if dolp_map.dtype.kind == "f" else float(2 ** _bits(camera, dolp_map, name) - 1)
    dolp = _scaled(dolp_map, 0, dolp_white)
    known = dolp[dolp.isfinite()]
    if known.numel() and (known.min() < -_DOLP_SLACK or known.max() > 1 + _DOLP_SLACK):
        raise UsageError(f"{name}: got DoLP from {known.min():g} to {known.max():g}, wanted [0, 1]")
    angle = _scaled(aolp_map, 0, 1.0) * (math.pi / (half_turn or math.pi))
    s0 = _in_color(_scaled(image, camera.black_level, white), camera)
    return torch.stack([s0, s0 * dolp * torch.cos(2 * angle), s0 * dolp * torch.sin(2 * angle)], dim=1)


def _bits(camera: Camera, plane: NDArray[Any], name: str) -> int:
    if camera.pixel_format is not None:
        return parse_pixel_format(camera.pixel_format).bits
    if plane.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"{name}: got DoLP as {plane.dtype}, wanted uint8, uint16 or floating point")
    return 8 * plane.dtype.itemsize


def _in_color(light: Tensor, camera: Camera) -> Tensor:
    """(1, H, W) of a Bayer sensor to (3, H, W), by the mean of the samples around; a mosaic (H, W) and others as is."""
    if camera.holds == "mosaic":
        return light[0]
    if camera.bayer is None:
        return light
    height, width = light.shape[-2:]
    cell = torch.tensor([["RGB".index(letter) for letter in camera.bayer[row : row + 2]] for row in (0, 2)])
    color = cell.repeat(-(-height // 2), -(-width // 2))[:height, :width]
    sampled = torch.stack([color == index for index in range(3)]).float()[:, None]
    # Weights fall off with distance, so that a sample counts most at its own pixel; they sum to 1 over those there are.
    weight = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]).expand(1, 1, 3, 3)
    total = F.conv2d(sampled * light, weight, padding=1) / F.conv2d(sampled, weight, padding=1)
    return torch.where(sampled > 0, light.expand(3, 1, height, width), total)[:, 0]
