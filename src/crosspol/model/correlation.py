"""One-dimensional correlation pyramid and its lookup (Lipson et al., 3DV 2021, section 3.2)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class CorrelationPyramid:
    """All dot products along a row, in float32, pooled along the right view's axis only.

    Level i has shape (B * h * w_left, w_right // 2**i); the left axis is never pooled
    (docs/pitfalls.md#pooling-both-axes-of-the-correlation).
    """

    def __init__(self, left: Tensor, right: Tensor, levels: int = 4, radius: int = 4) -> None:
        """Correlate features (B, C, h, w) of both views."""
        batch, channels, height, width = left.shape
        self.shape = (batch, height, width)
        self.radius = radius
        with _without_autocast(left):
            rows_left = left.float().permute(0, 2, 3, 1).reshape(batch * height, width, channels)
            rows_right = right.float().permute(0, 2, 1, 3).reshape(batch * height, channels, width)
            # Scaling the narrow operand is cheaper than scaling the volume.
            volume = torch.bmm(rows_left / channels**0.5, rows_right).reshape(batch * height * width, 1, width)
        self.levels = [volume[:, 0]]
        for _ in range(levels - 1):
            # Below two cells there is nothing left to pool: the level is empty and reads as 0 everywhere.
            volume = F.avg_pool1d(volume, 2) if volume.shape[-1] > 1 else volume.new_zeros(volume.shape[0], 1, 1)
            self.levels.append(volume[:, 0])

    def lookup(self, disparity: Tensor) -> Tensor:
        """Sample 2 * radius + 1 values around x - d on every level, linearly interpolated, 0 outside.

        Args:
            disparity: (B, 1, h, w) float32, positive, in feature pixels.

        Returns:
            (B, levels * (2 * radius + 1), h, w) float32, coarser levels last, offsets ascending in x_right.
        """
        batch, height, width = self.shape
        columns = torch.arange(width, device=disparity.device, dtype=disparity.dtype)
        x_right = (columns - disparity[:, 0]).reshape(-1, 1)
        sampled = [_sample_row(level, x_right / 2**index, self.radius) for index, level in enumerate(self.levels)]
        return torch.cat(sampled, dim=-1).reshape(batch, height, width, -1).permute(0, 3, 1, 2)


def _without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Compute in the types that things have; the meta device, which counts and computes nothing, has no autocast."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def _sample_row(rows: Tensor, x: Tensor, radius: int) -> Tensor:
    """Sample rows (N, W) at x - radius, ..., x + radius, x (N, 1): (N, 2 * radius + 1).

    All offsets share one fraction, so 2 * radius + 2 neighbors are gathered once and mixed pairwise. Faster than
    grid_sample, and it exports (docs/pitfalls.md#lookups-that-do-not-export).
    """
    width = rows.shape[-1]
    # Far outside everything reads 0; the clamp keeps the conversion to integers defined for any finite estimate.
    x = x.clamp(-radius - 2.0, width + radius + 1.0)
    floor = x.floor()
    fraction = x - floor
    index = floor.long() + torch.arange(-radius, radius + 2, device=rows.device)
    inside = (index >= 0) & (index < width)
    values = rows.gather(1, index.clamp(0, width - 1)) * inside
    return torch.lerp(values[:, :-1], values[:, 1:], fraction)
