"""Attention from every stereo pixel to pooled polarization cells (blueprint 3.1), its pooling and its positions."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def valid_cells(mask: Tensor, size: int) -> Tensor:
    """Say which cells of size x size pixels have at least half of their pixels trusted.

    Args:
        mask: (B, 1, H, W), 1 = trusted.
        size: side of a cell, pixels; cells at the border may be smaller.

    Returns:
        (B, 1, ceil(H / size), ceil(W / size)), bool.
    """
    trusted = (mask >= 0.5).float()
    return _cell_share(trusted, size) >= 0.5 * _cell_share(torch.ones_like(trusted), size)


def _cell_share(x: Tensor, size: int) -> Tensor:
    """Sum (B, C, H, W) over cells, as a share of size**2 pixels."""
    height, width = x.shape[-2:]
    return F.avg_pool2d(F.pad(x, (0, -width % size, 0, -height % size)), size)


def masked_pool(
    x: Tensor, mask: Tensor | None, size: int, kind: Literal["average", "max"] = "average"
) -> tuple[Tensor, Tensor]:
    """Pool over the trusted pixels of size x size cells; cells at the border may be smaller.

    Args:
        x: (B, C, H, W); what lies at untrusted pixels may be anything, NaN included.
        mask: (B, 1, H, W), 1 = trusted; None trusts every pixel.
        size: side of a cell, pixels.
        kind: average or maximum over the trusted pixels.

    Returns:
        Cells (B, C, ceil(H / size), ceil(W / size)), 0 where no pixel is trusted, and their validity
        (B, 1, ceil(H / size), ceil(W / size)), bool: at least half of the cell's pixels are trusted.
    """
    mask = x.new_ones(x.shape[0], 1, *x.shape[-2:]) if mask is None else mask
    trusted = mask >= 0.5
    share = _cell_share(trusted.to(x.dtype), size)
    if kind == "average":
        total = _cell_share(torch.where(trusted, x, x.new_zeros(())), size)
        cells = total / share.clamp_min(0.5 / size**2)
    else:
        height, width = x.shape[-2:]
        lowest = torch.where(trusted, x, x.new_full((), -math.inf))
        lowest = F.pad(lowest, (0, -width % size, 0, -height % size), value=-math.inf)
        cells = torch.where(share > 0, F.max_pool2d(lowest, size), x.new_zeros(()))
    return cells, valid_cells(mask, size)


def rotary_angles(height: int, width: int, pool_size: int, dims: int, like: Tensor) -> Tensor:
    """Angles (height * width, dims / 2) that turn channel pairs by their position, in float32.

    The first half of the pairs turns with y, the second with x, both in units of pooled cells with cell centres at
    integers: feature pixel i lies at (i + 0.5) / pool_size - 0.5. Cells themselves have `pool_size` 1. Periods run
    from 2 pi cells to hundreds, longer than any picture (Su et al. 2021; Heo et al., ECCV 2024 for two dimensions).
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


class PooledCrossAttention(nn.Module):
    """Every stereo pixel queries polarization pooled to cells (blueprint 3.1).

    K and V are pooled *before* they are projected, which is the same for an average and cheaper (FACTS 7). The whole
    computation is the fused kernel's: for N = H * W queries and M = N / pool_size**2 keys the N x M scores are never
    stored. `reference` is the same in plain steps.

    Args:
        dim: channels of the query and of the result.
        kv_dim: channels of the key and value source; `dim` where None.
        num_heads: heads; `dim` is a multiple of it.
        pool_size: side of a cell, pixels.
        position: "rotary" tells queries and keys where they are; with "none" the result does not change when the
            cells are shuffled.
        null_key: adds a key of logit 0 and value 0, so that weights on polarization may sum to less than 1.
        locality: logit by which a query prefers its own cell to the next one at initialization, >= 0; its own cell
            and the null key then start equal. Training may unlearn it. Needs rotary positions.
        pool: "average" or "max" over the trusted pixels of a cell.
        dropout: dropout of the weights, in training.

    Raises:
        ValueError: `dim` is not divisible as the heads (and rotary positions) need it.
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
        self.num_heads, self.pool_size, self.pool = num_heads, pool_size, pool
        self.position, self.null_key, self.dropout = position, null_key, dropout
        self.to_query = nn.Linear(dim, dim)
        self.to_key_value = nn.Linear(dim if kv_dim is None else kv_dim, 2 * dim)
        self.to_out = nn.Linear(dim, dim)
        if locality:
            self._prefer_near_cells(locality)

    def forward(self, query: Tensor, key_value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend from every query pixel to the trusted cells.

        Args:
            query: (B, dim, H, W).
            key_value: (B, kv_dim, H, W), the same H and W.
            mask: (B, 1, H, W), 1 = trusted; None trusts every pixel.

        Returns:
            (B, dim, H, W); exactly 0 for a sample without a valid cell.

        Raises:
            ValueError: the shapes do not fit.
        """
        q, k, v, valid = self._project(query, key_value, mask)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias(valid, mask), dropout_p=dropout)
        return self._merge_heads(attended, valid, query.shape)

    def reference(self, query: Tensor, key_value: Tensor, mask: Tensor | None = None) -> Tensor:
        """`forward` with an explicit softmax and without dropout: slow, plain, for parity tests and for reading."""
        weights, v, valid = self._explicit(query, key_value, mask)
        return self._merge_heads(weights @ v, valid, query.shape)

    def weights(self, query: Tensor, key_value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the attention weights (B, heads, H * W, keys) for looking; the null key, if any, comes last.

        Rows sum to 1, or are 0 for a sample without a valid cell. Stores all scores: small pictures only.
        """
        weights, _, valid = self._explicit(query, key_value, mask)
        return torch.where(valid.any(dim=1)[:, None, None, None], weights, weights.new_zeros(()))

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
        """Return q (B, heads, N, d), k and v (B, heads, M, d), and the validity of the cells (B, M)."""
        self._check(query, key_value, mask)
        height, width = query.shape[-2:]
        cells, valid = masked_pool(key_value, mask, self.pool_size, self.pool)
        q = self._heads(self.to_query(query.flatten(2).transpose(1, 2)))
        k, v = (self._heads(part) for part in self.to_key_value(cells.flatten(2).transpose(1, 2)).chunk(2, dim=-1))
        if self.position == "rotary":
            q = rotate(q, rotary_angles(height, width, self.pool_size, q.shape[-1], q))
            rows, columns = cells.shape[-2:]
            k = rotate(k, rotary_angles(rows, columns, 1, k.shape[-1], k))
        if self.null_key:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        return q, k, v, valid.flatten(1)

    def _heads(self, tokens: Tensor) -> Tensor:
        """Split (B, N, dim) into (B, heads, N, d), d contiguous: else the fused kernel is silently not used."""
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _bias(self, valid: Tensor, mask: Tensor | None) -> Tensor | None:
        """Say which keys may be attended to, (B, 1, 1, M).

        First line of defence (blueprint 3.4): a sample without a valid cell is left unmasked here, so that no row is
        -inf, forward or backward; its result is set to 0 in `_merge_heads`. The rule is per sample: nobody's output
        depends on their batchmates.
        """
        if mask is None:
            return None
        allowed = valid | ~valid.any(dim=1, keepdim=True)
        if self.null_key:
            allowed = F.pad(allowed, (0, 1), value=True)
        return allowed[:, None, None, :]

    def _explicit(self, query: Tensor, key_value: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, valid = self._project(query, key_value, mask)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        allowed = self._bias(valid, mask)
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -math.inf)
        return torch.softmax(scores, dim=-1), v, valid

    def _merge_heads(self, attended: Tensor, valid: Tensor, shape: torch.Size) -> Tensor:
        out = self.to_out(attended.transpose(1, 2).flatten(2))
        out = torch.where(valid.any(dim=1)[:, None, None], out, out.new_zeros(()))
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
