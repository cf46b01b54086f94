"""Scenes for a polarized rig: a drawn one, with everything `rig check` looks at (texture, even areas, polarization,
parallax), and the sample rooms, which are as hard as real ones."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crosspol.datasets.sample_rooms import sample_rooms
from crosspol.datasets.scene_format import read_index, read_scene, scene_frames
from crosspol.polarimetry import SONY_LAYOUT, Layout, intensity_at, mosaic

HEIGHT, WIDTH = 240, 320
_MARGIN = 40


def canvas(seed: int = 0, dolp: float = 0.5) -> Tensor:
    """(3, H + 80, W + 80) Stokes parameters, S0 (the mean intensity) in 0.05 to 0.5: overlapping even rectangles."""
    rng = np.random.default_rng(seed)
    height, width = HEIGHT + 2 * _MARGIN, WIDTH + 2 * _MARGIN
    scene = np.zeros((3, height, width), np.float32)
    scene[0] = 0.2
    for _ in range(260):
        y, x = rng.integers(-10, height), rng.integers(-10, width)
        h, w = rng.integers(8, 48, 2)
        s0, degree, angle = rng.uniform(0.05, 0.5), rng.uniform(0, dolp), rng.uniform(0, math.pi)
        stokes = s0 * np.array([1, degree * math.cos(2 * angle), degree * math.sin(2 * angle)])
        scene[:, max(y, 0) : y + h, max(x, 0) : x + w] = stokes[:, None, None]
    return torch.from_numpy(np.stack([cv2.GaussianBlur(plane, (0, 0), 0.7) for plane in scene]))


def views(
    seed: int = 0,
    *,
    dolp: float = 0.5,
    disparity: int = 6,
    rows_down: float = 0.0,
    moved_down: int = 0,
) -> tuple[Tensor, Tensor]:
    """Stokes parameters (3, H, W) of both views: a wall, and a square in front of it at twice the disparity.

    rows_down: px, by how much everything lies lower in the right view; moved_down: px, the square alone.
    """
    wall, front = canvas(seed, dolp), canvas(seed + 1, dolp)
    pair = []
    for shift, down in ((0, 0), (disparity, moved_down)):
        view = wall.clone()
        y, x = _MARGIN + 60 + down, _MARGIN + 120 - shift
        view[:, y : y + 120, x : x + 120] = front[:, 60:180, 60:180]
        x = _MARGIN + shift
        pair.append(view[:, _MARGIN : _MARGIN + HEIGHT, x : x + WIDTH])
    left, right = pair
    if rows_down:
        moved = np.array([[1, 0, 0], [0, 1, rows_down]], np.float32)
        planes = [
            cv2.warpAffine(plane.numpy(), moved, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT) for plane in right
        ]
        right = torch.from_numpy(np.stack(planes))
    return left, right


def room(name: str = "1-000039-quad") -> tuple[Tensor, Tensor]:
    """Stokes parameters (3, H, W) of both views of a sample room, exposed as `canvas` is: S0 is the mean intensity."""
    record = next(record for record in read_index(sample_rooms()) if record.name == name)
    pair = [frame.stokes for frame in scene_frames(read_scene(sample_rooms(), record))]
    gray = [stokes.mean(0) for stokes in pair if stokes is not None]
    bright = float(torch.quantile(gray[0][0], 0.95))
    return gray[0] * (0.6 / bright), gray[1] * (0.6 / bright)


def raw(
    stokes: Tensor, *, layout: Layout = SONY_LAYOUT, bayer: str | None = None, gamma: float = 1.0, seed: int = 0
) -> Tensor:
    """(H, W) in [0, 1]: what a polarization sensor makes of Stokes parameters whose S0 is the mean intensity."""
    generator = torch.Generator().manual_seed(seed)
    images = [2 * intensity_at(stokes, math.radians(angle)) for angle in (0, 45, 90, 135)]
    if bayer is not None:
        images = [torch.stack([image, 0.8 * image, 0.6 * image]) for image in images]
    light = mosaic(*images, layout=layout, bayer=bayer)
    noisy = light + 0.003 * torch.randn(light.shape, generator=generator)
    return noisy.clamp(0, 1) ** gamma


def eight_bits(values: Tensor) -> NDArray[np.uint8]:
    """Stored numbers of values in [0, 1]."""
    return (255 * values).round().to(torch.uint8).numpy()
