"""Cross-attention fusion of polarization into stereo features (blueprint sections 2 to 4), and its baseline."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crosspol.model.config import FusionConfig
from crosspol.model.encoders import ChannelAffine

GATE_LOGIT = -5.0
"""Initial alpha logit: sigmoid(-5) is 0.0067 (blueprint 3.2)."""


def alpha_cap(step: int, start: float = 0.05, warmup: int = 5000) -> float:
    """Cap on alpha after `step` optimizer steps: linear from `start` to 1 over `warmup` steps (blueprint 3.3).

    Raises:
        ValueError: `step` or `warmup` is negative, or `start` is outside [0, 1].
    """
    if step < 0 or warmup < 0 or not 0.0 <= start <= 1.0:
        raise ValueError(
            f"alpha_cap: got step={step}, start={start}, warmup={warmup}; wanted step, warmup >= 0, start in [0, 1]"
        )
    if step >= warmup:
        return 1.0
    return start + step / warmup * (1.0 - start)


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


class SafeCrossAttentionFusion(nn.Module):
    """Adds gated polarization to stereo features: ``stereo + alpha * injected`` (blueprint 3.2).

    ``injected = P(attended)``, P zero-initialised, and with a merge ``P(attended) + mask * M([stereo, affine(pol)])``,
    M zero-initialised too: everything that polarization injects passes the gate
    ``alpha = sigmoid(logit) * alpha_cap`` and is 0 for a sample without a valid cell. At initialisation the result is
    `stereo` bit for bit.

    Args:
        dim: channels of the stereo features.
        pol_dim: channels of the polarization features; `dim` where None.
        num_heads: attention heads.
        pool_size: side of the cells of K and V, feature pixels.
        merge: "gated" as above (the blueprint's count), "none" for the pure residual of its section 2.
        gate: "blueprint" as above; "projection" leaves alpha out (1): one zero attenuates instead of three
            (FACTS 2.8).
        enable_stereo_to_pol: first updates the polarization features from the stereo features, through a fusion of
            the same kind; the updated ones are then K and V.
        position: see `PooledCrossAttention`, as for the arguments after it.
        null_key: see there.
        pool: see there.
        dropout: see there.
    """

    def __init__(
        self,
        dim: int,
        pol_dim: int | None = None,
        num_heads: int = 4,
        pool_size: int = 8,
        *,
        merge: Literal["none", "gated"] = "gated",
        gate: Literal["blueprint", "projection"] = "blueprint",
        enable_stereo_to_pol: bool = False,
        position: Literal["none", "rotary"] = "none",
        null_key: bool = False,
        pool: Literal["average", "max"] = "average",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        pol_dim = dim if pol_dim is None else pol_dim
        self.pool_size = pool_size
        self.attention = PooledCrossAttention(
            dim, pol_dim, num_heads, pool_size, position=position, null_key=null_key, pool=pool, dropout=dropout
        )
        self.projection = _zero_initialised(nn.Conv2d(dim, dim, 1))
        self.alpha_logit = nn.Parameter(torch.tensor(GATE_LOGIT)) if gate == "blueprint" else None
        self.pol_affine = ChannelAffine(pol_dim) if merge == "gated" else None
        self.merge = _zero_initialised(nn.Conv2d(dim + pol_dim, dim, 1)) if merge == "gated" else None
        self.stereo_to_pol = (
            SafeCrossAttentionFusion(
                pol_dim, dim, num_heads, pool_size,
                merge="none", gate=gate, position=position, null_key=null_key, pool=pool, dropout=dropout,
            )
            if enable_stereo_to_pol
            else None
        )  # fmt: skip

    def forward(
        self, stereo: Tensor, pol: Tensor, mask: Tensor | None = None, alpha_cap: float | Tensor = 1.0
    ) -> Tensor:
        """Fuse one view.

        Args:
            stereo: (B, dim, H, W).
            pol: (B, pol_dim, H, W); what lies where `mask` is 0 may be anything, NaN included.
            mask: (B, 1, H, W), 1 = trusted polarization; None trusts every pixel.
            alpha_cap: cap on alpha, in [0, 1].

        Returns:
            (B, dim, H, W), of the type of `stereo`.

        Raises:
            ValueError: the shapes do not fit.
        """
        if mask is not None:
            pol = torch.where(mask >= 0.5, pol, pol.new_zeros(()))
        if self.stereo_to_pol is not None:
            pol = self.stereo_to_pol(pol, stereo, alpha_cap=alpha_cap)
        injected = self.projection(self.attention(stereo, pol, mask))
        if self.merge is not None and self.pol_affine is not None:
            merged = self.merge(torch.cat([stereo, self.pol_affine(pol).to(stereo.dtype)], dim=1))
            injected = injected + (merged if mask is None else merged * (mask >= 0.5))
        injected = (self.alpha(alpha_cap) * injected).to(stereo.dtype)
        return stereo + self._guard(injected, mask)

    def alpha(self, alpha_cap: float | Tensor = 1.0) -> Tensor | float:
        """Return the gate, ``sigmoid(logit) * alpha_cap``; 1 with the gate "projection"."""
        return 1.0 if self.alpha_logit is None else torch.sigmoid(self.alpha_logit) * alpha_cap

    def _guard(self, injected: Tensor, mask: Tensor | None) -> Tensor:
        """Third line of defence (blueprint 3.4): in use a non-finite injection is 0.

        In training it passes: the loss is then not finite, and the step is skipped and reported instead of hidden.
        """
        nothing = injected.new_zeros(())
        if mask is not None:
            trusted = valid_cells(mask, self.pool_size).flatten(1).any(dim=1)
            injected = torch.where(trusted[:, None, None, None], injected, nothing)
        return injected if self.training else torch.where(injected.isfinite(), injected, nothing)


class ConcatFusion(nn.Module):
    """The baseline that the blueprint replaces (its section 1): concatenate, convolve; no gate, no residual.

    Untrusted polarization reads as 0, which the convolution cannot tell from "not polarized".
    """

    def __init__(self, dim: int, pol_dim: int | None = None) -> None:
        super().__init__()
        self.fusion_conv = nn.Conv2d(dim + (dim if pol_dim is None else pol_dim), dim, 1)
        self.affine = ChannelAffine(dim)

    def forward(
        self, stereo: Tensor, pol: Tensor, mask: Tensor | None = None, alpha_cap: float | Tensor = 1.0
    ) -> Tensor:
        """Map stereo (B, dim, H, W) and polarization (B, pol_dim, H, W) to (B, dim, H, W); there is no gate to cap."""
        if mask is not None:
            pol = torch.where(mask >= 0.5, pol, pol.new_zeros(()))
        return self.affine(self.fusion_conv(torch.cat([stereo, pol.to(stereo.dtype)], dim=1)))


def build_fusion(config: FusionConfig, dim: int, pol_dim: int) -> SafeCrossAttentionFusion | ConcatFusion | None:
    """Return the fusion that the configuration describes; None without polarization."""
    if config.kind == "none":
        return None
    if config.kind == "concat":
        return ConcatFusion(dim, pol_dim)
    return SafeCrossAttentionFusion(
        dim,
        pol_dim,
        config.num_heads,
        config.pool_size,
        merge=config.merge,
        gate=config.gate,
        enable_stereo_to_pol=config.enable_stereo_to_pol,
        position=config.position,
        null_key=config.null_key,
        pool=config.pool,
        dropout=config.dropout,
    )


def _zero_initialised(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
