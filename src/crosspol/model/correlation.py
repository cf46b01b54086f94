"""One-dimensional correlation pyramid and its lookup (Lipson et al., 3DV 2021, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from torch import Tensor

_VOLUME_LIMIT: ContextVar[int | None] = ContextVar("volume limit", default=None)

_CHUNK_BYTES = 16 << 20
"""Of the volume of some rows, where it is not kept: it then stays near the cache."""


class Correlation(Protocol):
    """Both views' features, correlated along rows."""

    def lookup(self, disparity: Tensor) -> Tensor:
        """Sample around x - d on every level; see `CorrelationPyramid.lookup`."""


@contextmanager
def volume_limit(bytes_: int | None) -> Iterator[None]:
    """Let `correlate` keep the volume only up to so many bytes, for the time of a call; None: whatever its size."""
    token = _VOLUME_LIMIT.set(bytes_)
    try:
        yield
    finally:
        _VOLUME_LIMIT.reset(token)


def current_volume_limit() -> int | None:
    """Return the limit that `volume_limit` has set here, bytes; None: there is none."""
    return _VOLUME_LIMIT.get()


def volume_bytes(batch: int, height: int, width: int, levels: int = 4) -> int:
    """Return the size of a `CorrelationPyramid` of features (batch, C, height, width), bytes."""
    return 4 * batch * height * width * sum(max(width >> level, 1) for level in range(levels))


def correlate(left: Tensor, right: Tensor, levels: int = 4, radius: int = 4) -> Correlation:
    """Correlate features (B, C, h, w) of both views, as a whole, or row by row where `volume_limit` asks for it."""
    limit = _VOLUME_LIMIT.get()
    batch, _, height, width = left.shape
    if limit is not None and volume_bytes(batch, height, width, levels) > limit:
        return CorrelationByRows(left, right, levels, radius)
    return CorrelationPyramid(left, right, levels, radius)


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
            volume = _halved(volume) if volume.shape[-1] > 1 else volume.new_zeros(volume.shape[0], 1, 1)
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


class CorrelationByRows:
    """The same lookup without the volume: every time, that of a few rows is computed, sampled and forgotten.

    Memory is that of the features. Up to a few thousand feature pixels a row, one matrix product a row takes less time
    than to gather the feature vectors of the samples that are needed, 2 * radius + 2 on each level, though those are
    fewer products (docs/high_resolution.md).
    """

    def __init__(self, left: Tensor, right: Tensor, levels: int = 4, radius: int = 4) -> None:
        """Correlate features (B, C, h, w) of both views."""
        self._features = left, right
        self._levels, self._radius = levels, radius
        batch, _, height, width = left.shape
        self._rows = max(_CHUNK_BYTES // volume_bytes(batch, 1, width, levels), 1)
        self.shape = (batch, height, width)

    def lookup(self, disparity: Tensor) -> Tensor:
        """Sample as `CorrelationPyramid.lookup` does; the values are the same."""
        left, right = self._features
        parts = []
        for first in range(0, self.shape[1], self._rows):
            rows = (slice(None), slice(None), slice(first, first + self._rows))
            pyramid = CorrelationPyramid(left[rows], right[rows], self._levels, self._radius)
            parts.append(pyramid.lookup(disparity[rows]))
            if left.is_meta:
                # Shapes and memory are all that is asked for, and one chunk has shown them.
                return parts[0].new_empty(self.shape[0], parts[0].shape[1], *self.shape[1:])
        return torch.cat(parts, dim=2)


def _halved(volume: Tensor) -> Tensor:
    """Average neighbors of the last axis, as `avg_pool1d(volume, 2)` to the bit, in a fifth of its time.

    OpenVINO in bfloat16 has no pooling of so many rows of a single channel.
    """
    even = volume.shape[-1] // 2 * 2
    return (volume[..., 0:even:2] + volume[..., 1:even:2]) * 0.5


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
