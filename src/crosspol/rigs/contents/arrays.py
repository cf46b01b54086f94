"""Arrays as files hold them, brought to (H, W) or (H, W, 3) planes and to light."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from crosspol.errors import UsageError
from crosspol.polarimetry.exact import without_autocast

__all__ = ["clipped_beside", "in_colors", "scaled", "split", "without_alpha"]

Array = NDArray[Any]


def without_alpha(plane: Array, name: str) -> Array:
    """Return (H, W) or (H, W, 3); an opaque alpha channel is dropped, and gray stored as color is gray."""
    if plane.ndim == 3 and plane.shape[0] == 1:
        plane = plane[0]
    if plane.ndim == 3 and plane.shape[2] == 1:
        plane = plane[..., 0]
    if plane.ndim == 3 and plane.shape[2] == 4:
        if (plane[..., 3] != (np.iinfo(plane.dtype).max if plane.dtype.kind in "ui" else 1)).any():
            raise UsageError(f"{name}: got four channels, wanted one, or opaque colors")
        plane = plane[..., :3]
    if plane.ndim == 3 and plane.shape[0] == 3 and plane.shape[2] != 3:
        plane = np.moveaxis(plane, 0, 2)
    if plane.ndim not in (2, 3) or plane.shape[2:] not in ((), (3,)):
        raise UsageError(f"{name}: got an array of shape {plane.shape}, wanted (H, W) or (H, W, 3)")
    if plane.ndim == 3 and (plane == plane[..., :1]).all():
        return np.ascontiguousarray(plane[..., 0])
    return plane


def split(stored: Array, count: int, name: str, height: int | None, otherwise: str = "") -> list[Array]:
    """Take an array with `count` channels or planes apart, into arrays (H, W) or (H, W, 3).

    The axis of the channels is the first, the last or, in color, the one before height and width; in an image of one
    channel the planes lie below each other.

    Args:
        stored: the array.
        count: of channels or planes.
        name: of the file, for errors.
        height: of one plane, px, as the rig says it. None: nothing tells planes below each other from a single plane.
        otherwise: what else the frame can be, for errors.

    Raises:
        UsageError: an array that does not have them.
    """
    shape = stored.shape
    if stored.ndim == 2:
        if height is not None and shape[0] == count * height:
            return list(stored.reshape(count, height, shape[1]))
        told = "" if height is None else f", which is {height},"
        raise UsageError(
            f"{name}: got one image of {shape[1]}x{shape[0]} px, wanted {count} in one file{otherwise}; for {count} "
            f"below each other height in the rig{told} has to be that of one of them"
        )
    if stored.ndim == 3 and shape[0] == count:
        return list(stored)
    if stored.ndim == 3 and shape[2] == count:
        return [np.ascontiguousarray(stored[..., channel]) for channel in range(count)]
    if stored.ndim == 4:
        for axis, colors in ((0, 3), (0, 1), (1, 0), (3, 2)):
            if shape[axis] == count and shape[colors] == 3:
                planes = np.moveaxis(stored, (axis, colors), (0, 3))
                return [np.ascontiguousarray(plane) for plane in planes]
    raise UsageError(
        f"{name}: got an array of shape {shape}, wanted {count} channels: ({count}, H, W), (H, W, {count}), or with "
        f"colors ({count}, H, W, 3), (3, {count}, H, W) or (H, W, 3, {count})"
    )


def scaled(plane: Array, black: float, white: float) -> Tensor:
    """(H, W) or (H, W, 3) stored numbers to (C, H, W) between 0 and 1, in double precision until they are scaled."""
    channels = plane[None] if plane.ndim == 2 else np.moveaxis(plane, 2, 0)
    return torch.from_numpy(((channels - np.float64(black)) / (white - black)).astype(np.float32))


def in_colors(light: Tensor, bayer: str | None) -> Tensor:
    """(1, H, W) of a Bayer sensor to (3, H, W), by the mean of the samples around; as it is without one."""
    if bayer is None:
        return light
    height, width = light.shape[-2:]
    color = _colors(bayer, height, width)
    sampled = torch.stack([color == index for index in range(3)]).float()[:, None]
    # Weights fall off with distance, so that a sample counts most at its own pixel; they sum to 1 over those there are.
    weight = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]).expand(1, 1, 3, 3)
    with without_autocast("cpu"):
        total = F.conv2d(sampled * light, weight, padding=1) / F.conv2d(sampled, weight, padding=1)
    return torch.where(sampled > 0, light.expand(3, 1, height, width), total)[:, 0]


def clipped_beside(light: Tensor, bayer: str | None, saturated: float) -> Tensor:
    """Return where `in_colors` used a sample that is clipped, or not finite: a mean no longer looks like that.

    Args:
        light: (..., C, H, W), as `in_colors` returned it.
        bayer: as given to it.
        saturated: every sample has to lie below this.

    Returns:
        (..., H, W), bool; nowhere without `bayer`.
    """
    *several, _, height, width = light.shape
    if bayer is None:
        return torch.zeros(*several, height, width, dtype=torch.bool)
    samples = torch.take_along_dim(light, _colors(bayer, height, width).expand(*several, 1, height, width), dim=-3)
    clipped = (~(samples.abs() < saturated)).float().reshape(-1, 1, height, width)
    return (F.max_pool2d(clipped, 3, stride=1, padding=1) > 0).reshape(*several, height, width)


def _colors(bayer: str, height: int, width: int) -> Tensor:
    """(H, W), the color of each sample: 0 red, 1 green, 2 blue."""
    cell = torch.tensor([["RGB".index(letter) for letter in bayer[row : row + 2]] for row in (0, 2)])
    return cell.repeat(-(-height // 2), -(-width // 2))[:height, :width]
