"""The compact backbone of the preset ``crosspol``: one strided trunk, features at 1/8, three narrow GRU levels.

After RAFT-Stereo's real-time variant (Lipson et al., 3DV 2021), with a fifth of its arithmetic: the trunk strides at
once, states are narrow, and each GRU gets a few channels of its coarser neighbor instead of all.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crosspol.model.encoders import ResidualBlock, image_by_image, instance_norm, normalized
from crosspol.model.parts import StereoFeatures, Upsampler
from crosspol.model.update import ConvexUpsampler, ConvGRU, LevelContext, resize_to, with_term

LEVELS = 3


class CompactEncoder(nn.Module):
    """Features of both views and the left view's context at 1/8, the context also at 1/16 and 1/32."""

    def __init__(self, feature_dim: int, hidden_dim: int, context_dim: int) -> None:
        super().__init__()
        norm = nn.BatchNorm2d
        channels = 96
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1), norm(32), nn.ReLU(inplace=True),
            ResidualBlock(32, 48, 2, norm),
            ResidualBlock(48, channels, 2, norm),
            ResidualBlock(channels, channels, 1, norm),
        )  # fmt: skip
        self.features = nn.Sequential(
            nn.Conv2d(channels, 64, 3, padding=1),
            instance_norm(64),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, feature_dim, 1),
        )
        self.downs = nn.ModuleList(ResidualBlock(channels, channels, 2, norm) for _ in range(LEVELS - 1))
        self.split = (hidden_dim, context_dim)
        self.heads = nn.ModuleList(nn.Conv2d(channels, sum(self.split), 3, padding=1) for _ in range(LEVELS))

    def forward(self, left: Tensor, right: Tensor) -> StereoFeatures:
        """Map two views (B, 3, H, W) in [-1, 1] to their features (B, C, h, w) and the left view's context."""
        x, shared_right = image_by_image(self._shared, left, right)
        stereo_left, stereo_right = image_by_image(self._correlated, x, shared_right)
        hidden, context = [], []
        for level, head in enumerate(self.heads):
            x = x if level == 0 else self.downs[level - 1](x)
            h, c = head(x).split(self.split, dim=1)
            hidden.append(h)
            context.append(c)
        return StereoFeatures(stereo_left, stereo_right, hidden, context)

    def _shared(self, image: Tensor) -> Tensor:
        """Apply the trunk."""
        x = torch.relu_(normalized(self.trunk[0], self.trunk[1], image))
        blocks = list(self.trunk)[3:]
        for block in blocks:
            x = block(x)
        return x

    def _correlated(self, shared: Tensor) -> Tensor:
        """Apply the head of the features that are correlated."""
        features: Tensor = self.features[3](torch.relu_(normalized(self.features[0], self.features[1], shared)))
        return features


class CompactMotion(nn.Module):
    """Motion features of the correlation and the disparity: (B, `dim`, h, w)."""

    def __init__(self, correlation_dim: int, dim: int) -> None:
        super().__init__()
        self.correlation = nn.Sequential(
            nn.Conv2d(correlation_dim, 32, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.disparity = nn.Sequential(nn.Conv2d(1, 24, 7, padding=3), nn.ReLU(inplace=True))
        self.mix = nn.Conv2d(32 + 24, dim - 1, 3, padding=1)

    def forward(self, correlation: Tensor, disparity: Tensor) -> Tensor:
        """Map (B, levels * samples, h, w) and disparity (B, 1, h, w), feature pixels, to (B, dim, h, w)."""
        mixed = torch.relu_(self.mix(torch.cat([self.correlation(correlation), self.disparity(disparity)], dim=1)))
        return torch.cat([mixed, disparity.to(mixed.dtype)], dim=1)


class CompactUpdate(LevelContext):
    """GRUs at 1/8, 1/16 and 1/32 that exchange states, and convex upsampling."""

    def __init__(self, correlation_dim: int, hidden_dim: int, context_dim: int, factor: int, levels: int) -> None:
        super().__init__()
        self.factor, self.levels = factor, levels
        self.motion_dim = context_dim
        self.motion = CompactMotion(correlation_dim, self.motion_dim)
        coarse_dim = 16
        self.from_coarser = nn.ModuleList(nn.Conv2d(hidden_dim, coarse_dim, 1) for _ in range(levels - 1))
        self.grus = nn.ModuleList(
            ConvGRU(
                hidden_dim,
                (self.motion_dim if level == 0 else hidden_dim) + (coarse_dim if level < levels - 1 else 0),
                bias=False,
            )
            for level in range(levels)
        )
        self.context = nn.ModuleList(nn.Conv2d(context_dim, 3 * hidden_dim, 3, padding=1) for _ in range(levels))
        self.head = nn.Sequential(
            nn.Conv2d(hidden_dim, 64, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(64, 1, 3, padding=1)
        )
        self.mask = nn.Sequential(
            nn.Conv2d(hidden_dim, 48, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(48, 9 * factor**2, 1)
        )

    def forward(
        self,
        hidden: list[Tensor],
        terms: list[Tensor],
        correlation: Tensor,
        disparity: Tensor,
        motion_term: Tensor | None = None,
    ) -> tuple[list[Tensor], Tensor]:
        """Refine once; see `parts.Update`."""
        hidden = list(hidden)
        motion = with_term(self.motion(correlation, disparity), motion_term)
        for level in range(self.levels - 1, -1, -1):
            finer = motion if level == 0 else F.avg_pool2d(hidden[level - 1], 3, stride=2, padding=1)
            inputs = [finer]
            if level < self.levels - 1:
                inputs.append(resize_to(self.from_coarser[level](hidden[level + 1]), hidden[level]))
            hidden[level] = self.grus[level](hidden[level], terms[level], *inputs)
        return hidden, self.head(hidden[0])

    def upsampler(self, hidden: list[Tensor]) -> Upsampler:
        """Return convex upsampling with the weights that the finest state gives."""
        return ConvexUpsampler(self.mask(hidden[0]).float(), self.factor)
