"""Telling the raw frame of a mosaic sensor from an ordinary image: only the first is full of 2x2 structure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["looks_like_mosaic"]

_BLOCK = 16
"""Side of the areas that are looked at, in 2x2 cells."""
_COHERENCE = 0.5
"""Of a pattern that alternates from pixel to pixel, its mean over an area as a share of its mean size: 1 for the same
pattern everywhere in it; noise and texture, whose sign changes from place to place, show about 0.05 to 0.2."""
_LEAST = 0.01
"""Its size, as a share of the light; JPEG's and a scanner's patterns are smaller."""
_AREAS = 0.4
"""Share of the areas with such a pattern from which on an image is full of it. Raw frames of an IMX250MZR show 0.65 to
1, photographs 0, a page of enlarged images with captions 0.28."""


def looks_like_mosaic(image: NDArray[Any]) -> bool:
    """Whether an image is full of 2x2 structure, as raw frames of polarization and color sensors are.

    In a mosaic the four places of the 2x2 block have their own polarizer or color filter, so that wherever the light is
    polarized (or has a color) neighbors differ, and differ alike over whole areas. An ordinary image alternates from
    pixel to pixel only in places, and not in step.

    Args:
        image: (H, W) or (H, W, C), any numbers. Colors that differ are no mosaic.
    """
    if image.ndim == 3:
        if image.shape[2] >= 3 and (image[..., :1] != image[..., 1:3]).any():
            return False
        image = image[..., 0]
    height, width = (side // (2 * _BLOCK) * 2 * _BLOCK for side in image.shape)
    if not height or not width:
        return False
    light = np.nan_to_num(image[:height, :width].astype(np.float32), nan=0, posinf=0, neginf=0)
    means = np.maximum(_area_means(light[::2, ::2]), np.float32(1e-12))
    alternating = np.zeros(means.shape, bool)
    for along, across in ((1, 0), (0, 1), (1, 1)):
        pattern = _alternation(light, along, across)
        size = np.abs(_area_means(pattern))
        alternating |= (size > _COHERENCE * _area_means(np.abs(pattern))) & (size > _LEAST * means)
    return bool(alternating.mean() > _AREAS)


def _alternation(light: NDArray[Any], along: int, across: int) -> NDArray[Any]:
    """(H / 2, W / 2): half of what a pixel has more than its neighbors in a row, a column, or both.

    Against the mean of both neighbors, so that a slope cancels, at even places and, with the other sign, at odd ones.
    """
    padded = np.pad(light, 1, mode="reflect")
    excess = light
    if along:
        excess = excess - (padded[1:-1, :-2] + padded[1:-1, 2:]) / 2
    if across:
        padded = np.pad(excess, ((1, 1), (0, 0)), mode="reflect")
        excess = excess - (padded[:-2] + padded[2:]) / 2
    signs = np.array([[1, -1 if along else 1], [-1 if across else 1, -1 if along != across else 1]], np.float32)
    height, width = light.shape
    cells = (excess.reshape(height // 2, 2, width // 2, 2) * signs[None, :, None, :]).mean((1, 3))
    return np.asarray(cells / 2, np.float32)


def _area_means(values: NDArray[Any]) -> NDArray[Any]:
    height, width = (side // _BLOCK for side in values.shape)
    return np.asarray(values.reshape(height, _BLOCK, width, _BLOCK).mean((1, 3)))
