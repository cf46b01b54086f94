"""What the left view attends to: the network's own attention weights on a grid of pixels, in few bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from crosspol.evaluation.attention import AttentionCall
from crosspol.model import CrossPolConfig

__all__ = ["SiteAttention", "left_attention"]

Array = NDArray[np.float32]

LONG_SIDE, SHORT_SIDE = 80, 60
"""Of the grid of pixels whose attention is kept."""
MOST_WEIGHTS = 5_760_000
"""Kept of all sites together, a byte each: all of a 640x480 pair's by the blueprint, and a page stays below 15 MB."""
_CHUNK_WEIGHTS = 16_000_000
"""Made at once."""

_SITES = {"fusion": "features", "context_fusion": "context", "hidden_fusion": "hidden"}


@dataclass(frozen=True, eq=False)
class SiteAttention:
    """Attention of the left view's stereo features to the cells of its polarization, at one place in the network.

    A pixel has one weight for each head and cell, and one for the null key, if there is any; together they are 1, or 0
    where no cell is valid. With a window the cells are those around the pixel's own, row by row; without one, all.

    site: features, context or hidden.
    weights: (rows, columns, heads, cells).
    null: (rows, columns, heads), weights of the null key; None without one.
    x, y: (columns,), (rows,), where the pixels of the grid are, image px.
    own_x, own_y: (columns,), (rows,), column and row of the cell that a pixel lies in.
    cells: rows and columns of all cells.
    cell_px: side of a cell, image px.
    origin: row and column of the corner of the first cell, image px; at or before the image's, which was padded.
    window: cells that a pixel looks in each direction from its own; None: all.
    """

    site: str
    weights: Array
    null: Array | None
    x: Array
    y: Array
    own_x: NDArray[np.int64]
    own_y: NDArray[np.int64]
    cells: tuple[int, int]
    cell_px: int
    origin: tuple[float, float]
    window: int | None


def left_attention(
    calls: Sequence[AttentionCall], config: CrossPolConfig, size: tuple[int, int]
) -> tuple[SiteAttention, ...]:
    """Return the attention of the left view, of its last refreshment in a crossed pair, by site.

    Args:
        calls: of one forward pass of one pair.
        config: of the network.
        size: (H, W) of the images.

    Returns:
        Nothing where no attention took place.
    """
    by_name: dict[str, list[AttentionCall]] = {}
    for call in calls:
        by_name.setdefault(call.name, []).append(call)
    chosen = []
    for name, found in by_name.items():
        site = _SITES.get(name.partition(".")[0])
        if site is None:
            continue
        # Of a pass the left view comes first; the right one has its turn at the features alone.
        both = site == "features" and config.fusion.views == "both"
        chosen.append((site, found[-2 if both else -1]))
    budget = MOST_WEIGHTS // max(len(chosen), 1)
    return tuple(_of_call(site, call, config.feature_stride, size, budget) for site, call in chosen)


def _of_call(site: str, call: AttentionCall, stride: int, size: tuple[int, int], budget: int) -> SiteAttention:
    module, shape = call.module, call.query.shape[-2:]
    pool = module.pool_size
    cells = tuple(-(-side // pool) for side in shape)
    near = math.prod(cells) if module.window is None else (2 * module.window + 1) ** 2
    most = max(1, budget // (module.num_heads * near))
    # As `crosspol.model.boundary` pads: centered.
    before = [(stride * padded - side) // 2 for padded, side in zip(shape, size, strict=True)]
    # The features that see some of the image, not of its padding alone.
    first = [pad // stride for pad in before]
    counts = [(side - 1 + pad) // stride - at + 1 for side, pad, at in zip(size, before, first, strict=True)]
    rows, columns = (
        at + _places(count, kept)
        for at, count, kept in zip(first, counts, _grid((counts[0], counts[1]), most), strict=True)
    )
    pixels = (rows[:, None] * shape[1] + columns).flatten()
    weights, null = _weights(call, pixels, (cells[0], cells[1]))
    grid = (len(rows), len(columns), module.num_heads)
    y, x = (
        (stride * (places.numpy() + 0.5) - 0.5 - pad).astype(np.float32)
        for places, pad in zip((rows, columns), before, strict=True)
    )
    return SiteAttention(
        site,
        weights.reshape(*grid, -1),
        None if null is None else null.reshape(grid),
        x,
        y,
        (columns // pool).numpy(),
        (rows // pool).numpy(),
        (cells[0], cells[1]),
        stride * pool,
        (-before[0] - 0.5, -before[1] - 0.5),
        module.window,
    )


def _grid(counts: tuple[int, int], most: int) -> tuple[int, int]:
    """Return how many of so many rows and columns are looked at: within the grid's limits, together at most `most`."""
    limits = (SHORT_SIDE, LONG_SIDE) if counts[0] <= counts[1] else (LONG_SIDE, SHORT_SIDE)
    rows, columns = (min(count, limit) for count, limit in zip(counts, limits, strict=True))
    shrink = min(1.0, math.sqrt(most / (rows * columns)))
    return max(1, int(rows * shrink)), max(1, int(columns * shrink))


def _places(count: int, kept: int) -> Tensor:
    """Return `kept` of the numbers up to `count`, evenly."""
    return ((torch.arange(kept) + 0.5) * count / kept).floor().long()


def _weights(call: AttentionCall, pixels: Tensor, cells: tuple[int, int]) -> tuple[Array, Array | None]:
    """Return weights (N, heads, cells of the window or all) and those of the null key (N, heads)."""
    module = call.module
    query, key_value = call.query[:1].float(), call.key_value[:1].float()
    mask = None if call.mask is None else call.mask[:1]
    count = math.prod(cells)
    parts, nulls = [], []
    many = max(1, _CHUNK_WEIGHTS // (module.num_heads * count))
    for start in range(0, len(pixels), many):
        chunk = pixels[start : start + many]
        with torch.inference_mode():
            found = module.weights(query, key_value, mask, chunk.to(query.device))[0].cpu().transpose(0, 1)
        nulls.append(found[..., count:])
        on_cells = found[..., :count].reshape(*found.shape[:2], *cells)
        if module.window is None:
            parts.append(on_cells.flatten(2))
            continue
        reach, side = module.window, 2 * module.window + 1
        around = F.pad(on_cells, (reach, reach, reach, reach)).unfold(2, side, 1).unfold(3, side, 1)
        width = call.query.shape[-1]
        own_y, own_x = chunk // width // module.pool_size, chunk % width // module.pool_size
        parts.append(around[torch.arange(len(chunk)), :, own_y, own_x].flatten(2))
    null = torch.cat(nulls)
    return torch.cat(parts).numpy(), null[..., 0].numpy() if module.null_key else None
