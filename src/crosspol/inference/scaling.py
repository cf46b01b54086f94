"""Prediction at a smaller size: what has to be averaged is averaged, and the disparity comes back at full size.

`Scaled` and `CoarseToFine` are backends around another one, so that they go with any engine and with each other.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from crosspol.data.inputs import StereoInputs
from crosspol.errors import UsageError
from crosspol.inference.backends import Backend, Refinement
from crosspol.light import decode_srgb, encode_srgb
from crosspol.limits import MINIMUM_SIDE
from crosspol.model import CrossPolConfig, StereoOutput

__all__ = ["CoarseToFine", "Scaled", "coarse_start", "enlarge_disparity", "scaled_size", "shrink"]

_SIDES = ("left", "right")
_CHUNK_PIXELS = 1 << 20
_COLOR_RANGE = 0.05
"""Difference of display values at which a neighbor counts 1 / sqrt(e) of one of the pixel's own color."""
_SAME_SURFACE = 1.0
"""Pixels of the smaller image by which neighbors may differ and still be averaged: more is another surface."""


class Scaled:
    """A `Backend` that lets another one see a smaller image, and returns everything at full size.

    Images are averaged over areas in linear light. Polarization is averaged as Stokes parameters, before ratios are
    taken; what is left of DoLP alone is averaged by light. Where a pixel that has a share is not valid, the average is
    not. Disparity is in pixels of the full size; `enlarge_disparity` says how it gets there.

    Args:
        backend: what runs the network.
        scale: of width and height, in (0, 1].

    Raises:
        UsageError: a scale out of its range.
    """

    def __init__(self, backend: Backend, scale: float) -> None:
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale <= 1:
            raise UsageError(f"scale: got {scale!r}, wanted more than 0 and at most 1")
        self.backend = backend
        self.scale = float(scale)

    @property
    def config(self) -> CrossPolConfig:
        """The network's configuration."""
        return self.backend.config

    def run(self, inputs: StereoInputs, refinement: Refinement) -> StereoOutput:
        """Estimate the disparity of a batch; see `Backend.run`.

        The watch is told steps in pixels of the full size, on the grid of the smaller image.

        Raises:
            UsageError: the smaller image would have a side below 32 px.
        """
        size = scaled_size(inputs.size, self.scale)
        if size == inputs.size:
            return self.backend.run(inputs, refinement)
        ratio = inputs.size[1] / size[1]
        start, watch = refinement.initial_disparity, refinement.watch
        told = None if watch is None else lambda iteration, step: watch(iteration, ratio * step)
        output = self.backend.run(
            shrink(inputs, size),
            replace(
                refinement,
                initial_disparity=None if start is None else _picked(start, size) / ratio,
                watch=told,
            ),
        )
        disparity = ratio * enlarge_disparity(output.disparity.cpu(), inputs.left.cpu())
        maps: dict[str, Any] = {
            name: _enlarged(tensor.cpu(), inputs.size) for name, tensor in output_maps(output).items()
        }
        maps["last_step"] = ratio * maps["last_step"]
        if output.glass_logits is not None:
            maps["glass_logits"] = F.interpolate(
                output.glass_logits.cpu(), inputs.size, mode="bilinear", align_corners=False
            )
        # What is no map, such as the state of the refinement, stays that of the smaller image.
        return replace(output, **(maps | {"disparity": disparity, "predictions": (disparity,)}))


class CoarseToFine:
    """A `Backend` that lets another one see a small image first, and begins each larger one where that ended.

    A network that was trained on small images knows neither the disparities nor the sizes of things in large ones; what
    it makes of the small image is a start that the large one only has to refine (docs/high_resolution.md has figures).

    Args:
        backend: what runs the network.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def config(self) -> CrossPolConfig:
        """The network's configuration."""
        return self.backend.config

    def run(self, inputs: StereoInputs, refinement: Refinement) -> StereoOutput:
        """Estimate the disparity of a batch; see `Backend.run`. A given start takes the place of the small images."""
        if not begins_somewhere(refinement):
            refinement = replace(refinement, initial_disparity=coarse_start(self.backend, inputs, refinement))
        return self.backend.run(inputs, refinement)


COARSE_WIDTH = 400
"""Px, about the width that networks here are trained on: of the smallest image from which coarse-to-fine begins."""
_LARGEST_STEP = 4.0
"""By which sizes of coarse-to-fine grow at most."""


def coarse_start(backend: Backend, inputs: StereoInputs, refinement: Refinement) -> Tensor | None:
    """Estimate the disparity of smaller images, each from the one before: (B, 1, H, W), px of the full size.

    From 400 px of width on, sizes grow by equal factors of at most 4. None where the image is no wider than that.
    """
    start = None
    for scale in coarse_scales(inputs.size):
        smaller = Scaled(backend, scale)
        start = smaller.run(inputs, Refinement(refinement.iters, start, refinement.watch)).disparity
    return start


def coarse_scales(size: tuple[int, int]) -> tuple[float, ...]:
    """Return the scales of an image (H, W) that come before it, the smallest first; see `coarse_start`."""
    growth = size[1] / COARSE_WIDTH
    # A side may not become smaller than the network takes.
    growth = min(growth, min(size) / MINIMUM_SIDE)
    if growth <= 1:
        return ()
    steps = math.ceil(math.log(growth) / math.log(_LARGEST_STEP))
    return tuple(growth ** (-step / steps) for step in range(steps, 0, -1))


def begins_somewhere(refinement: Refinement) -> bool:
    """Say whether a refinement has a start: a disparity, or the state of an earlier one."""
    return refinement.initial_disparity is not None or refinement.initial_state is not None


def output_maps(output: StereoOutput) -> dict[str, Tensor]:
    """Return the tensors of an output that have the size of its disparity, by field."""
    values = {field.name: getattr(output, field.name) for field in fields(output)}
    size = output.disparity.shape[-2:]
    return {name: value for name, value in values.items() if isinstance(value, Tensor) and value.shape[-2:] == size}


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return (H, W) at a scale in (0, 1], each rounded.

    Raises:
        UsageError: a side would be below 32 px.
    """
    height, width = size
    scaled = round(scale * height), round(scale * width)
    if scale < 1 and min(scaled) < MINIMUM_SIDE:
        least = MINIMUM_SIDE / min(size)
        raise UsageError(
            f"scale: got {scale:g} with {width}x{height} px, wanted at least {least:.3g}: the network takes sides from "
            f"{MINIMUM_SIDE} px up"
        )
    return scaled


def shrink(inputs: StereoInputs, size: tuple[int, int]) -> StereoInputs:
    """Make a pair smaller: every pixel of the result is the mean of the light of its area, pixels at the rim in part.

    Args:
        inputs: (B, C, H, W).
        size: (h, w), at most (H, W).

    Returns:
        Inputs of the same kind on the CPU, (B, C, h, w).
    """
    values: dict[str, Tensor] = {}
    for side in _SIDES:
        # Color by color, for the memory: at full size, several copies of all would be more than the network takes.
        image = getattr(inputs, side).cpu()
        s0, averages = torch.full_like(image[:, :1], _LEAST_LIGHT), []
        for color in image.split(1, dim=1):
            light = decode_srgb(color)
            averages.append(_averaged(light, size))
            s0 += light / 3
        values[side] = encode_srgb(torch.cat(averages, dim=1)).clamp(0, 1)
        valid: Tensor | None = getattr(inputs, f"valid_{side}")
        if valid is not None:
            unknown = _averaged((valid.cpu() < 0.5).float(), size)
            # Shares are sums of floats: what is below a millionth of the area is rounding.
            values[f"valid_{side}"] = (unknown < 1e-6).float()
        intensity = getattr(inputs, f"intensity_{side}")
        if intensity is not None:
            values[f"intensity_{side}"] = _averaged(_where_valid(intensity, valid), size)
        polarization = getattr(inputs, f"pol_{side}")
        if polarization is not None:
            values[f"pol_{side}"] = _mixed(_where_valid(polarization, valid), s0, size)
    return StereoInputs(**values)


_LEAST_LIGHT = 1e-4
"""Of white: in the dark, pixels weigh alike."""


def _where_valid(values: Tensor, valid: Tensor | None) -> Tensor:
    """What lies at pixels that are not valid may be anything, NaN among that; here it is 0."""
    values = values.cpu()
    return values if valid is None else torch.where(valid.cpu() >= 0.5, values, values.new_zeros(()))


def _mixed(polarization: Tensor, s0: Tensor, size: tuple[int, int]) -> Tensor:
    """Average ratios to S0 as the light does: that of S1 over that of S0; of three channels the last is the DoLP."""
    channels = torch.split(polarization, 1, dim=1)
    averages = [_averaged(channel * s0, size) for channel in (channels if len(channels) == 1 else channels[:2])]
    ratios = torch.cat(averages, dim=1) / _averaged(s0, size)
    if len(channels) == 1:
        return ratios
    return torch.cat([ratios, torch.linalg.vector_norm(ratios, dim=1, keepdim=True).clamp_max(1)], dim=1)


def _averaged(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Average (B, C, H, W) over the areas of the pixels of another size, exactly, whatever the ratio.

    `F.interpolate` with mode "area" moves each area to whole pixels, which shifts what it shows by up to half a pixel,
    here and there: a disparity error.
    """
    import cv2

    height, width = size
    planes: list[NDArray[Any]] = [
        cv2.resize(plane.numpy(), (width, height), interpolation=cv2.INTER_AREA)
        for plane in images.contiguous().flatten(0, 1)
    ]
    return torch.from_numpy(np.stack(planes)).reshape(*images.shape[:2], height, width)


def _enlarged(map_: Tensor, size: tuple[int, int]) -> Tensor:
    """Repeat pixels."""
    return F.interpolate(map_, size, mode="nearest-exact")


def _picked(disparity: Tensor, size: tuple[int, int]) -> Tensor:
    """Take one pixel of an area, not its mean, which at an edge is a depth where nothing is."""
    return F.interpolate(disparity.cpu(), size, mode="nearest-exact")


def enlarge_disparity(disparity: Tensor, image: Tensor) -> Tensor:
    """Bring a disparity to the size of an image, edges where the image has them, no depth that is not there.

    Each pixel looks at the 4x4 nearest pixels of the smaller map. They weigh by distance (linear interpolation's tent,
    twice as wide) and by how alike the image is there. The heaviest one says which surface it is; those within a pixel
    of it are averaged as linear interpolation does it. So slopes stay slopes, and a jump stays a jump.

    Args:
        disparity: (B, 1, h, w), px of its own size.
        image: (B, 3, H, W), as a viewer shows it, on the same device; H >= h, W >= w.

    Returns:
        (B, 1, H, W), px of the smaller size still.
    """
    height, width = image.shape[-2:]
    small = _averaged(image, (disparity.shape[-2], disparity.shape[-1]))
    around = F.pad(disparity, (2, 2, 2, 2), mode="replicate")
    # Of the 4x4 pixels around each gap between pixels, beyond the border too.
    jumps = (F.max_pool2d(around, 4, stride=1) + F.max_pool2d(-around, 4, stride=1))[:, 0] > _SAME_SURFACE
    enlarged = F.interpolate(disparity, (height, width), mode="bilinear", align_corners=False)
    rows = max(_CHUNK_PIXELS // width, 1)
    y_low, y_share = _places(height, disparity.shape[-2])
    x_low, x_share = _places(width, disparity.shape[-1])
    for first in range(0, height, rows):
        chunk = slice(first, first + rows)
        b, y, x = jumps[:, y_low[chunk] + 1][:, :, x_low + 1].nonzero(as_tuple=True)
        y = y + first
        enlarged[b, 0, y, x] = _at_jumps(
            disparity, small, image[b, :, y, x], (b, y_low[y], x_low[x]), y_share[y], x_share[x]
        )
    return enlarged


def _at_jumps(
    disparity: Tensor, small: Tensor, color: Tensor, place: tuple[Tensor, Tensor, Tensor], down: Tensor, along: Tensor
) -> Tensor:
    """Enlarge single pixels of the colors (N, 3): `down` and `along` past the pixel `place` of the smaller map."""
    b, row, column = place
    last_row, last_column = disparity.shape[-2] - 1, disparity.shape[-1] - 1
    best, surface = torch.full_like(down, -torch.inf), torch.zeros_like(down)
    near = []
    for dy in (-1, 0, 1, 2):
        for dx in (-1, 0, 1, 2):
            at = b, slice(None), (row + dy).clamp(0, last_row), (column + dx).clamp(0, last_column)
            value = disparity[at][:, 0]
            tent = (1 - (down - dy).abs() / 2) * (1 - (along - dx).abs() / 2)
            unlike = (small[at] - color).square().mean(dim=1)
            weight = tent.clamp_min(1e-6).log() - unlike / (2 * _COLOR_RANGE**2)
            surface = torch.where(weight > best, value, surface)
            best = torch.maximum(weight, best)
            if dy in (0, 1) and dx in (0, 1):
                near.append((value, (1 - (down - dy).abs()) * (1 - (along - dx).abs())))
    total, share = torch.zeros_like(surface), torch.zeros_like(surface)
    for value, weight in near:
        same = weight * ((value - surface).abs() <= _SAME_SURFACE)
        total, share = total + same * value, share + same
    return torch.where(share > 1e-3, total / share.clamp_min(1e-3), surface)


def _places(count: int, small: int) -> tuple[Tensor, Tensor]:
    """Return for each of `count` pixels which of the `small` lies before it, from -1 up, and how far it is past it."""
    at = (torch.arange(count, dtype=torch.float64) + 0.5) * (small / count) - 0.5
    low = at.floor()
    return low.long(), (at - low).float()
