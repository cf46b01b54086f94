"""The polarization stream: soft threshold and encoder (blueprint sections 4 and 6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crosspol.model.config import PolarizationConfig
from crosspol.model.encoders import ChannelAffine, ResidualBlock


def soft_threshold(x: Tensor, threshold: float = 0.05, slope: float = 20.0) -> Tensor:
    """Hold back weak polarization: ``x * sigmoid(slope * (|x| - threshold))``, any shape, sign kept.

    Acts on the physical range [-1, 1]; a normalisation by the picture's maximum would let one highlight rescale
    all of it (FACTS 2.11).
    """
    return x * torch.sigmoid(slope * (x.abs() - threshold))


def feature_mask(valid: Tensor, stride: int) -> Tensor:
    """Reduce a pixel mask (B, 1, H, W) to feature pixels (B, 1, H / stride, W / stride).

    A feature pixel is trusted from half of its pixels on. H and W are multiples of `stride`.
    """
    return (F.avg_pool2d(valid.float(), stride) >= 0.5).to(valid.dtype)


class PolarizationEncoder(nn.Module):
    """Polarization maps to features: (B, P, H, W) in [-1, 1] to (B, pol_dim, H / stride, W / stride).

    Plain scales and biases stand where the blueprint's count has norms: the magnitude is the signal (FACTS 2.12).
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

    def forward(self, polarization: Tensor, valid: Tensor) -> Tensor:
        """Encode maps (B, P, H, W) where `valid` (B, 1, H, W) is not 0."""
        # where, not a product: what lies at invalid pixels may be NaN.
        x = torch.where(valid > 0, polarization, polarization.new_zeros(()))
        x = soft_threshold(x, self.threshold, self.slope)
        x = torch.relu(self.stem_norm(self.stem(x)))
        x = self.block2(self.block1(x))
        x = x * self.attention(x)
        return self.head_norm(self.head(x))
