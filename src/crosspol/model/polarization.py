"""The polarization stream: soft threshold and encoder (blueprint sections 4 and 6)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crosspol.model.config import PolarizationConfig
from crosspol.model.encoders import ChannelAffine, ResidualBlock
from crosspol.model.parts import PolView


def soft_threshold(x: Tensor, threshold: float = 0.05, slope: float = 20.0) -> Tensor:
    """Hold back weak polarization: ``x * sigmoid(slope * (|x| - threshold))``, any shape, sign kept.

    Acts on the physical range [-1, 1]; a normalization by the image's maximum would let one highlight rescale
    all of it (docs/pitfalls.md#normalizing-by-the-images-maximum).
    """
    return x * torch.sigmoid(slope * (x.abs() - threshold))


def feature_mask(valid: Tensor, stride: int) -> Tensor:
    """Reduce a pixel mask (B, 1, H, W) to feature pixels (B, 1, H / stride, W / stride).

    A feature pixel is valid from half of its pixels on. H and W are multiples of `stride`.
    """
    return (F.avg_pool2d(valid.float(), stride) >= 0.5).to(valid.dtype)


class PolarizationEncoder(nn.Module):
    """Polarization maps to features: (B, P, H, W) in [-1, 1] to (B, pol_dim, H / stride, W / stride).

    Plain scales and biases stand where the blueprint's count has norms: the magnitude is the signal
    (docs/pitfalls.md#norms-that-wash-out-the-magnitude).
    Invalid pixels are zeroed here, whatever they hold, so that they cannot reach the output.
    """

    def __init__(self, config: PolarizationConfig, stride: int = 4) -> None:
        super().__init__()
        self.threshold, self.slope = config.pol_threshold, config.threshold_slope
        self.stem = nn.Conv2d(config.channels, 32, 3, stride=2, padding=1)
        self.stem_norm = ChannelAffine(32)
        self.block1 = ResidualBlock(32, 64, 2, ChannelAffine)
        self.block2 = ResidualBlock(64, 128, stride // 4, ChannelAffine)
        self.attention = nn.Sequential(nn.Conv2d(128, 32, 1), nn.ReLU(), nn.Conv2d(32, 1, 1), nn.Sigmoid())
        self.head = nn.Conv2d(128, config.pol_dim, 1)
        self.head_norm = ChannelAffine(config.pol_dim)

    def forward(self, view: PolView) -> Tensor:
        """Encode the maps (B, P, H, W) of a view where they are valid."""
        # where, not a product: what lies at invalid pixels may be NaN.
        x = torch.where(view.valid > 0, view.polarization, view.polarization.new_zeros(()))
        x = soft_threshold(x, self.threshold, self.slope)
        x = torch.relu(self.stem_norm(self.stem(x)))
        x = self.block2(self.block1(x))
        x = x * self.attention(x)
        features: Tensor = self.head_norm(self.head(x))
        return features


class AveragedPolarizationEncoder(nn.Module):
    """Stokes parameters, averaged before their magnitude is taken, to features (B, pol_dim, H / stride, W / stride).

    S1/S0 and S2/S0 are averaged over the valid pixels of cells of half a feature pixel, one and two feature pixels,
    weighed by the image's linear light: the average is then that of S1 and S2 over that of S0, and dark pixels, whose
    ratios are mostly noise, count little. Each average is given with its magnitude, free of most of the noise that
    biases the DoLP of single pixels. ``asinh(x / knee)`` keeps what is weak apart and what is strong in range. Two
    planes say whether S1 and S2 were measured: of a crossed pair only S1/S0 is known. Nothing here has statistics or a
    dead side: the magnitude is the signal, and it reaches the output from the first step on.

    Args:
        config: `pol_threshold` is the knee, in units of DoLP.
        stride: side of a feature pixel in image pixels, even.
    """

    def __init__(self, config: PolarizationConfig, stride: int = 8) -> None:
        super().__init__()
        self.knee, self.stride = config.pol_threshold, stride
        self.stem = nn.Conv2d(3 * 3 + 2, 48, 3, stride=2, padding=1)
        self.conv = nn.Conv2d(48, 64, 3, padding=1)
        self.mix = nn.Conv2d(64, 64, 3, padding=1)
        self.head = nn.Conv2d(64, config.pol_dim, 1)
        for conv in (self.stem, self.conv, self.mix, self.head):
            nn.init.kaiming_normal_(conv.weight, a=_LEAK)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def forward(self, view: PolView) -> Tensor:
        """Encode S1/S0, S2/S0 (B, 3, H, W; the third channel is not read) of a view where they are valid."""
        x = _leaky(self.stem(self.signals(view)))
        x = _leaky(self.conv(x))
        features: Tensor = self.head(_leaky(x + self.mix(x)))
        return features

    def signals(self, view: PolView) -> Tensor:
        """Return what the convolutions see, (B, 11, 2 H / stride, 2 W / stride)."""
        valid = (view.valid > 0).to(view.polarization.dtype)
        known = valid.expand(-1, 2, -1, -1)
        if view.contrast_only:
            known = torch.cat([valid, torch.zeros_like(valid)], dim=1)
        ratios = torch.where(known > 0, view.polarization[:, :2], view.polarization.new_zeros(()))
        weight = valid if view.light is None else valid * (view.light() + _DARK)
        half = self.stride // 2
        total, share = F.avg_pool2d(ratios * weight, half), F.avg_pool2d(weight, half)
        size = total.shape[-2:]
        planes = []
        for cells in (1, 2, 4):
            if cells > 1:
                total, share = _halved(total), _halved(share)
            mean = total / share.clamp_min(0.1 * _DARK / self.stride**2)
            mean = torch.cat([mean, torch.linalg.vector_norm(mean, dim=1, keepdim=True)], dim=1)
            planes.append(F.interpolate(torch.asinh(mean / self.knee), size=size))
        flags = F.avg_pool2d(known, half)
        return torch.cat([*planes, _FLAG * flags], dim=1)


_LEAK = 0.1
# Light, in units of white, below which pixels hardly count less: an average needs some weight in the dark too.
_DARK = 1e-3
# A flag is the same everywhere in most images: small, so that at the start it does not drown what varies.
_FLAG = 0.25


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, _LEAK)


def _halved(x: Tensor) -> Tensor:
    """Average 2x2 cells; at the border what is there of them counts."""
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)


ENCODERS: dict[str, Callable[[PolarizationConfig, int], nn.Module]] = {
    "blueprint": PolarizationEncoder,
    "averaged": AveragedPolarizationEncoder,
}
"""How each kind is built from (configuration, stride)."""
