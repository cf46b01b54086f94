"""Attention from every stereo pixel to pooled polarization cells (blueprint 3.1), its pooling and its positions."""

from __future__ import annotations

import math
from typing import Literal, TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_CHUNK_NUMBERS = 8 << 20
"""Of keys and values that `PooledCrossAttention` copies at once where it has a window."""


def valid_cells(mask: Tensor, size: int) -> Tensor:
    """Say which cells of size x size pixels have at least half of their pixels valid.

    Args:
        mask: (B, 1, H, W), 1 = valid.
        size: side of a cell, pixels; cells at the border may be smaller.

    Returns:
        (B, 1, ceil(H / size), ceil(W / size)), bool.
    """
    valid = (mask >= 0.5).float()
    return _cell_share(valid, size) >= 0.5 * _cell_share(torch.ones_like(valid), size)


def _cell_share(x: Tensor, size: int) -> Tensor:
    """Sum (B, C, H, W) over cells, as a share of size**2 pixels."""
    height, width = x.shape[-2:]
    x = F.pad(x, (0, -width % size, 0, -height % size))
    if x.shape[1] == 1:
        # The same to the bit of a mask; OpenVINO in bfloat16 has no such pooling of a single channel.
        cells = x.reshape(x.shape[0], x.shape[-2] // size, size, x.shape[-1] // size, size)
        return cells.mean(dim=(2, 4))[:, None]
    return F.avg_pool2d(x, size)


def masked_pool(
    x: Tensor, mask: Tensor | None, size: int, kind: Literal["average", "max"] = "average"
) -> tuple[Tensor, Tensor]:
    """Pool over the valid pixels of size x size cells; cells at the border may be smaller.

    Args:
        x: (B, C, H, W); what lies at invalid pixels may be anything, NaN included.
        mask: (B, 1, H, W), 1 = valid; None: every pixel is.
        size: side of a cell, pixels.
        kind: average or maximum over the valid pixels.

    Returns:
        Cells (B, C, ceil(H / size), ceil(W / size)), 0 where no pixel is valid, and their validity
        (B, 1, ceil(H / size), ceil(W / size)), bool: at least half of the cell's pixels are valid.
    """
    mask = x.new_ones(x.shape[0], 1, *x.shape[-2:]) if mask is None else mask
    valid = mask >= 0.5
    share = _cell_share(valid.to(x.dtype), size)
    if kind == "average":
        total = _cell_share(torch.where(valid, x, x.new_zeros(())), size)
        cells = total / share.clamp_min(0.5 / size**2)
    else:
        height, width = x.shape[-2:]
        lowest = torch.where(valid, x, x.new_full((), -math.inf))
        lowest = F.pad(lowest, (0, -width % size, 0, -height % size), value=-math.inf)
        cells = torch.where(share > 0, F.max_pool2d(lowest, size), x.new_zeros(()))
    return cells, valid_cells(mask, size)


def rotary_angles(height: int, width: int, pool_size: int, dims: int, like: Tensor) -> Tensor:
    """Angles (height * width, dims / 2) that turn channel pairs by their position, in float32.

    The first half of the pairs turns with y, the second with x, both in units of pooled cells with cell centers at
    integers: feature pixel i lies at (i + 0.5) / pool_size - 0.5. Cells themselves have `pool_size` 1. Periods run
    from 2 pi cells to hundreds, longer than any image (Su et al. 2021; Heo et al., ECCV 2024 for two dimensions).
    """
    pairs = dims // 4
    frequency = 100.0 ** (-torch.arange(pairs, device=like.device, dtype=torch.float32) / pairs)
    y = (torch.arange(height, device=like.device, dtype=torch.float32) + 0.5) / pool_size - 0.5
    x = (torch.arange(width, device=like.device, dtype=torch.float32) + 0.5) / pool_size - 0.5
    angle_y = (y[:, None] * frequency)[:, None].expand(height, width, pairs)
    angle_x = (x[:, None] * frequency)[None].expand(height, width, pairs)
    return torch.cat([angle_y, angle_x], dim=-1).reshape(height * width, 2 * pairs)


def rotate(tokens: Tensor, angles: Tensor) -> Tensor:
    """Turn the channel pairs (c, c + dims / 2) of (B, heads, N, dims) by angles (N, dims / 2)."""
    cos, sin = angles.cos().to(tokens.dtype), angles.sin().to(tokens.dtype)
    first, second = tokens.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class AttentionOptions(TypedDict, total=False):
    """Arguments of `PooledCrossAttention` that a fusion hands on to it; what they mean is said there."""

    position: Literal["none", "rotary"]
    null_key: bool
    window: int | None
    locality: float
    pool: Literal["average", "max"]
    dropout: float


class PooledCrossAttention(nn.Module):
    """Every stereo pixel queries polarization pooled to cells (blueprint 3.1).

    K and V are pooled *before* they are projected, which is the same for an average and cheaper. The whole computation
    is the fused kernel's (docs/pitfalls.md#the-fused-kernel-is-silently-not-used): for N = H * W queries and
    M = N / pool_size**2 keys the N x M scores are never stored; with a window, N x (2 * window + 1)**2 products are all
    there are. `reference` is the same in plain steps.

    Args:
        dim: channels of the query and of the result.
        kv_dim: channels of the key and value source; `dim` where None.
        num_heads: heads; `dim` is a multiple of it.
        pool_size: side of a cell, pixels.
        position: "rotary" tells queries and keys where they are; with "none" the result does not change when the
            cells are shuffled.
        null_key: adds a key of logit 0 and value 0, so that weights on polarization may sum to less than 1.
        window: cells that a query looks in each direction from its own; None: all cells of the image. What is learned
            within a window holds at any image size, where rotary positions beyond those of training do not.
        locality: logit by which a query prefers its own cell to the next one at initialization, >= 0; its own cell
            and the null key then start equal. Training may unlearn it. Needs rotary positions.
        pool: "average" or "max" over the valid pixels of a cell.
        dropout: dropout of the weights, in training.

    Raises:
        ValueError: `dim` is not divisible as the heads (and rotary positions) need it, or a value is out of its range.
    """

    def __init__(
        self,
        dim: int,
        kv_dim: int | None = None,
        num_heads: int = 4,
        pool_size: int = 8,
        *,
        position: Literal["none", "rotary"] = "none",
        null_key: bool = False,
        window: int | None = None,
        locality: float = 0.0,
        pool: Literal["average", "max"] = "average",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        multiple = num_heads * (4 if position == "rotary" else 1)
        if dim % multiple:
            raise ValueError(
                f"PooledCrossAttention: got dim={dim}, wanted a multiple of {multiple} for {num_heads} heads"
            )
        if window is not None and (not isinstance(window, int) or window < 1):
            raise ValueError(f"PooledCrossAttention: got window={window!r}, wanted None or a whole number from 1 up")
        if locality and position == "none":
            raise ValueError(f"PooledCrossAttention: got locality={locality}, wanted 0 without rotary positions")
        self.num_heads, self.pool_size, self.pool = num_heads, pool_size, pool
        self.position, self.null_key, self.window, self.dropout = position, null_key, window, dropout
        self.to_query = nn.Linear(dim, dim)
        self.to_key_value = nn.Linear(dim if kv_dim is None else kv_dim, 2 * dim)
        self.to_out = nn.Linear(dim, dim)
        if locality and not self.to_query.weight.is_meta:  # there it has no values to set
            self._prefer_near_cells(locality)

    def forward(self, query: Tensor, key_value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend from every query pixel to the valid cells.

        Args:
            query: (B, dim, H, W).
            key_value: (B, kv_dim, H, W), the same H and W.
            mask: (B, 1, H, W), 1 = valid; None: every pixel is.

        Returns:
            (B, dim, H, W); exactly 0 for a sample, or a window, without a valid cell.

        Raises:
            ValueError: the shapes do not fit.
        """
        q, k, v, valid = self._project(query, key_value, mask)
        dropout = self.dropout if self.training else 0.0
        if self.window is not None:
            return self._attend_near(q, k, v, valid, query.shape, dropout)
        allowed, reached = self._reach(valid.flatten(1)[:, None], mask is None)
        k, v = self._with_null_key(k, v)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout)
        return self._merge_heads(attended, reached, query.shape)

    def reference(self, query: Tensor, key_value: Tensor, mask: Tensor | None = None) -> Tensor:
        """`forward` with an explicit softmax and without dropout: slow, plain, for parity tests and for reading."""
        weights, v, reached = self._explicit(query, key_value, mask)
        return self._merge_heads(weights @ v, reached, query.shape)

    def weights(
        self, query: Tensor, key_value: Tensor, mask: Tensor | None = None, pixels: Tensor | None = None
    ) -> Tensor:
        """Return the attention weights (B, heads, H * W, keys) for looking; the null key, if any, comes last.

        Rows sum to 1, or are 0 without a valid cell to attend to. Stores all scores: of small images, or of few pixels.

        Args:
            query, key_value, mask: as in `forward`.
            pixels: (N,), y * W + x of the query pixels to look at: (B, heads, N, keys) is returned; None: all of them.
        """
        weights, _, reached = self._explicit(query, key_value, mask, pixels)
        return torch.where(reached[:, None, :, None], weights, weights.new_zeros(()))

    def _attend_near(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor, shape: torch.Size, dropout: float) -> Tensor:
        """Attend within the window: the queries of a cell together, to the cells around it."""
        batch, _, height, width = shape
        rows, columns = valid.shape[-2:]
        size, heads, depth = self.pool_size, self.num_heads, q.shape[-1]
        queries = F.pad(
            q.transpose(-1, -2).reshape(batch, heads * depth, height, width),
            (0, columns * size - width, 0, rows * size - height),
        )
        queries = queries.reshape(batch, heads, depth, rows, size, columns, size)
        reach = self.window or 0
        # What lies around a cell is copied for each cell, window after window: for some rows of cells at a time.
        k, v, known = (
            F.pad(x, (reach, reach, reach, reach))
            for x in (
                k.transpose(-1, -2).reshape(batch, heads * depth, rows, columns),
                v.transpose(-1, -2).reshape(batch, heads * depth, rows, columns),
                valid[:, None].to(q.dtype),
            )
        )
        step = rows
        if not torch.compiler.is_compiling():
            copied = 2 * heads * depth * (2 * reach + 1) ** 2 * batch * columns
            step = min(max(_CHUNK_NUMBERS // copied, 1), rows)
        parts, reached_parts = [], []
        for first in range(0, rows, step):
            own, near = slice(first, first + step), slice(first, first + step + 2 * reach)
            keys, values = (self._around(x[:, :, near]) for x in (k, v))
            keys, values = (x.reshape(*x.shape[:-1], heads, depth).transpose(-2, -3) for x in (keys, values))
            allowed, reached = self._reach(self._around(known[:, :, near]).transpose(-1, -2) > 0, False)
            asked = queries[:, :, :, own].permute(0, 3, 5, 1, 4, 6, 2).reshape(-1, heads, size * size, depth)
            attended = F.scaled_dot_product_attention(
                asked, *self._with_null_key(keys, values), attn_mask=allowed, dropout_p=dropout
            )
            attended = attended.reshape(batch, -1, columns, heads, size, size, depth)
            attended = attended.permute(0, 3, 1, 4, 2, 5, 6).reshape(batch, heads, -1, columns * size, depth)
            parts.append(attended)
            reached_parts.append(reached.reshape(batch, -1, columns))
        attended, reached = (x[0] if len(x) == 1 else torch.cat(x, dim) for x, dim in ((parts, 2), (reached_parts, 1)))
        reached = reached.repeat_interleave(size, 1).repeat_interleave(size, 2)
        attended = attended[:, :, :height, :width].flatten(2, 3)
        return self._merge_heads(attended, reached[:, :height, :width].flatten(1), shape)

    def _around(self, x: Tensor) -> Tensor:
        """Return what lies around each cell of (B, C, rows, columns) that has its surroundings: (B * cells, window, C).

        Rows and columns are those of the cells asked for, and `window` more at each side.
        """
        side = 2 * (self.window or 0) + 1
        near = x.unfold(2, side, 1).unfold(3, side, 1)
        return near.permute(0, 2, 3, 4, 5, 1).reshape(-1, side * side, x.shape[1])

    @torch.no_grad()
    def _prefer_near_cells(self, locality: float) -> None:
        """Set the biases of q and k so that the scores they make alone fall with distance.

        Turned by rotary positions, constant vectors in q and k give a score ``b**2 * sum_i sign_i cos(f_i * offset)``
        over the channel pairs i. The faster half of the frequencies counts positive and makes it fall with distance,
        the slower half, hardly turned by near offsets, counts negative and makes it 0 at offset 0, as the null key's.
        """
        depth = self.to_query.out_features // self.num_heads
        pairs = depth // 4
        turns = rotary_angles(1, 2, 1, depth, self.to_query.weight)
        fast, slow = (pairs + 1) // 2, pairs // 2
        sign = torch.where(torch.arange(2 * pairs) % pairs < fast, 1.0, -fast / max(slow, 1))
        drop = float((sign * (1 - (turns[1] - turns[0]).cos())).sum())
        strength = math.sqrt(locality * math.sqrt(depth) / drop)
        first = torch.cat([strength * torch.ones(2 * pairs), torch.zeros(2 * pairs)])
        self.to_query.bias.copy_(first.repeat(self.num_heads))
        keys = torch.cat([strength * sign, torch.zeros(2 * pairs)]).repeat(self.num_heads)
        self.to_key_value.bias[: len(keys)].copy_(keys)

    def _project(self, query: Tensor, key_value: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return q (B, heads, N, d), k and v (B, heads, M, d), and the validity of the cells (B, rows, columns)."""
        self._check(query, key_value, mask)
        height, width = query.shape[-2:]
        cells, valid = masked_pool(key_value, mask, self.pool_size, self.pool)
        q = self._heads(self.to_query(query.flatten(2).transpose(1, 2)))
        k, v = (self._heads(part) for part in self.to_key_value(cells.flatten(2).transpose(1, 2)).chunk(2, dim=-1))
        if self.position == "rotary":
            q = rotate(q, rotary_angles(height, width, self.pool_size, q.shape[-1], q))
            rows, columns = cells.shape[-2:]
            k = rotate(k, rotary_angles(rows, columns, 1, k.shape[-1], k))
        return q, k, v, valid[:, 0]

    def _with_null_key(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add the key of logit 0 and value 0, last."""
        return (F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))) if self.null_key else (k, v)

    def _heads(self, tokens: Tensor) -> Tensor:
        """Split (B, N, dim) into (B, heads, N, d), d contiguous: else the fused kernel is silently not used."""
        depth = tokens.shape[-1] // self.num_heads
        return tokens.reshape(*tokens.shape[:-1], self.num_heads, depth).transpose(1, 2)

    def _reach(self, valid: Tensor, everything: bool) -> tuple[Tensor | None, Tensor]:
        """Say which keys may be attended to, and which queries have any.

        First line of defense (blueprint 3.4): where there is no valid cell nothing is masked here, so that no row is
        -inf, forward or backward; the result is set to 0 in `_merge_heads`. The rule is per sample: nobody's output
        depends on their batchmates.

        Args:
            valid: (B, N or 1, M), what each query could attend to.
            everything: it is all valid.

        Returns:
            (B, 1, N or 1, keys), None for all of them; and (B, N or 1).
        """
        reached = valid.any(dim=-1)
        if everything:
            return None, reached
        allowed = valid | ~reached[..., None]
        if self.null_key:
            allowed = F.pad(allowed, (0, 1), value=True)
        return allowed[:, None], reached

    def _explicit(
        self, query: Tensor, key_value: Tensor, mask: Tensor | None, pixels: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return weights (B, heads, N, keys), values (B, heads, keys, d) and which queries have a valid cell (B, N)."""
        q, k, v, valid = self._project(query, key_value, mask)
        k, v = self._with_null_key(k, v)
        pixels = torch.arange(q.shape[2], device=q.device) if pixels is None else pixels
        q = q[:, :, pixels]
        reachable = valid.flatten(1)[:, None] & self._near(pixels, query.shape[-1], valid.shape[-2:])
        allowed, reached = self._reach(reachable, False)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -math.inf)
        return torch.softmax(scores, dim=-1), v, reached

    def _near(self, pixels: Tensor, width: int, cells: torch.Size) -> Tensor:
        """Say which cells lie in the window of which pixel, (N, M); pixels are y * width + x."""
        reach = max(cells) if self.window is None else self.window
        near = []
        for place, count in zip((pixels // width, pixels % width), cells, strict=True):
            away = (place // self.pool_size)[:, None] - torch.arange(count, device=pixels.device)
            near.append(away.abs() <= reach)
        return (near[0][:, :, None] & near[1][:, None]).flatten(1)

    def _merge_heads(self, attended: Tensor, reached: Tensor, shape: torch.Size) -> Tensor:
        out = self.to_out(attended.transpose(1, 2).flatten(2))
        out = torch.where(reached[..., None], out, out.new_zeros(()))
        return out.transpose(1, 2).reshape(shape)

    def _check(self, query: Tensor, key_value: Tensor, mask: Tensor | None) -> None:
        dim, kv_dim = self.to_query.in_features, self.to_key_value.in_features
        if query.dim() != 4 or query.shape[1] != dim:
            raise ValueError(f"query: got shape {tuple(query.shape)}, wanted (B, {dim}, H, W)")
        batch, _, height, width = query.shape
        wanted = (batch, kv_dim, height, width)
        if key_value.shape != wanted:
            raise ValueError(f"key_value: got shape {tuple(key_value.shape)}, wanted {wanted} to fit the query")
        if mask is not None and mask.shape != (batch, 1, height, width):
            raise ValueError(
                f"mask: got shape {tuple(mask.shape)}, wanted {(batch, 1, height, width)} to fit the query"
            )
