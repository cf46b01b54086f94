"""Cross-attention fusion of polarization into stereo features (blueprint sections 2 to 4), and its baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from crosspol.model.attention import AttentionOptions, PooledCrossAttention, valid_cells
from crosspol.model.config import FusionConfig
from crosspol.model.encoders import ChannelAffine

if TYPE_CHECKING:
    from typing_extensions import Unpack

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


class SafeCrossAttentionFusion(nn.Module):
    """Adds gated polarization to stereo features: ``stereo + alpha * injected`` (blueprint 3.2).

    ``injected = P(attended)``, P zero-initialized, and with a merge ``P(attended) + mask * M([stereo, affine(pol)])``,
    M zero-initialized too: everything that polarization injects passes the gate
    ``alpha = sigmoid(logit) * alpha_cap`` and is 0 for a sample without a valid cell. At initialization the result is
    `stereo` bit for bit.

    Args:
        dim: channels of the stereo features.
        pol_dim: channels of the polarization features; `dim` where None.
        num_heads: attention heads.
        pool_size: side of the cells of K and V, feature pixels.
        merge: "gated" as above (the blueprint's count), "none" for the pure residual of its section 2.
        gate: "blueprint" as above; "projection" leaves alpha out (1): one zero attenuates instead of three
            (docs/pitfalls.md#attenuated-three-times).
        enable_stereo_to_pol: first updates the polarization features from the stereo features, through a fusion of
            the same kind; the updated ones are then K and V.
        attention: position, null_key, window, locality, pool, dropout of `PooledCrossAttention`.
    """

    ignores_unknown = True

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
        **attention: Unpack[AttentionOptions],
    ) -> None:
        super().__init__()
        pol_dim = dim if pol_dim is None else pol_dim
        self.pool_size = pool_size
        self.attention = PooledCrossAttention(dim, pol_dim, num_heads, pool_size, **attention)
        self.projection = _zero_initialised(nn.Conv2d(dim, dim, 1))
        self.alpha_logit = nn.Parameter(torch.tensor(GATE_LOGIT)) if gate == "blueprint" else None
        self.pol_affine = ChannelAffine(pol_dim) if merge == "gated" else None
        self.merge = _zero_initialised(nn.Conv2d(dim + pol_dim, dim, 1)) if merge == "gated" else None
        self.stereo_to_pol = (
            SafeCrossAttentionFusion(pol_dim, dim, num_heads, pool_size, merge="none", gate=gate, **attention)
            if enable_stereo_to_pol
            else None
        )

    def forward(
        self, stereo: Tensor, pol: Tensor, mask: Tensor | None = None, alpha_cap: float | Tensor = 1.0
    ) -> Tensor:
        """Fuse one view.

        Args:
            stereo: (B, dim, H, W).
            pol: (B, pol_dim, H, W); what lies where `mask` is 0 may be anything, NaN included.
            mask: (B, 1, H, W), 1 = valid polarization; None: all of it.
            alpha_cap: cap on alpha, in [0, 1].

        Returns:
            (B, dim, H, W), of the type of `stereo`.

        Raises:
            ValueError: the shapes do not fit.
        """
        return stereo + self.injection(stereo, pol, mask, alpha_cap)

    def injection(
        self, stereo: Tensor, pol: Tensor, mask: Tensor | None = None, alpha_cap: float | Tensor = 1.0
    ) -> Tensor:
        """Return what `forward` adds to `stereo`, (B, dim, H, W); arguments as there."""
        if mask is not None:
            pol = torch.where(mask >= 0.5, pol, pol.new_zeros(()))
        if self.stereo_to_pol is not None:
            pol = self.stereo_to_pol(pol, stereo, alpha_cap=alpha_cap)
        injected = self.projection(self.attention(stereo, pol, mask))
        if self.merge is not None and self.pol_affine is not None:
            merged = self.merge(torch.cat([stereo, self.pol_affine(pol).to(stereo.dtype)], dim=1))
            injected = injected + (merged if mask is None else merged * (mask >= 0.5))
        injected = (self.alpha(alpha_cap) * injected).to(stereo.dtype)
        return self._guard(injected, mask)

    def alpha(self, alpha_cap: float | Tensor = 1.0) -> Tensor | float:
        """Return the gate, ``sigmoid(logit) * alpha_cap``; 1 with the gate "projection"."""
        return 1.0 if self.alpha_logit is None else torch.sigmoid(self.alpha_logit) * alpha_cap

    def gate(self, alpha_cap: float | Tensor = 1.0) -> float:
        """Return `alpha` as a number, for logs."""
        return float(torch.as_tensor(self.alpha(alpha_cap)).detach())

    def _guard(self, injected: Tensor, mask: Tensor | None) -> Tensor:
        """Third line of defense (blueprint 3.4): in use a non-finite injection is 0.

        In training it passes: the loss is then not finite, and the step is skipped and reported instead of hidden.
        """
        nothing = injected.new_zeros(())
        if mask is not None:
            valid = valid_cells(mask, self.pool_size).flatten(1).any(dim=1)
            injected = torch.where(valid[:, None, None, None], injected, nothing)
        return injected if self.training else torch.where(injected.isfinite(), injected, nothing)


class ConcatFusion(nn.Module):
    """The baseline that the blueprint replaces (its section 1): concatenate, convolve; no gate, no residual.

    Untrusted polarization reads as 0, which the convolution cannot tell from "not polarized".
    """

    ignores_unknown = False

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
        fused: Tensor = self.affine(self.fusion_conv(torch.cat([stereo, pol.to(stereo.dtype)], dim=1)))
        return fused

    def gate(self, alpha_cap: float | Tensor = 1.0) -> float:
        """Return 1: nothing holds it back."""
        return 1.0


def _cross_attention(config: FusionConfig, dim: int, pol_dim: int) -> SafeCrossAttentionFusion:
    return SafeCrossAttentionFusion(
        dim,
        pol_dim,
        merge=config.merge,
        gate=config.gate,
        enable_stereo_to_pol=config.enable_stereo_to_pol,
        **asdict(config.attention),
    )


FUSIONS: dict[str, Callable[[FusionConfig, int, int], nn.Module]] = {
    "concat": lambda config, dim, pol_dim: ConcatFusion(dim, pol_dim),
    "cross-attention": _cross_attention,
}
"""How each kind is built from (configuration, channels of the stereo features, channels of the polarization's)."""


def _zero_initialised(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
