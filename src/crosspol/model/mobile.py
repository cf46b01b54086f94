"""Candidate (b): a mobile trunk with a pyramid to 1/4, correlation by disparity, soft-argmax start."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crosspol.model.encoders import instance_norm
from crosspol.model.parts import StereoFeatures

# EfficientNet-Lite0 up to 1/16 (Tan and Le, ICML 2019): expansion, channels, kernel, stride of each block.
_BLOCKS = (
    (1, 16, 3, 1),
    (6, 24, 3, 2), (6, 24, 3, 1),
    (6, 40, 5, 2), (6, 40, 5, 1),
    (6, 80, 3, 2), (6, 80, 3, 1), (6, 80, 3, 1),
    (6, 112, 5, 1), (6, 112, 5, 1), (6, 112, 5, 1),
)  # fmt: skip


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=1e-3)


class MobileBlock(nn.Module):
    """Inverted residual: widen, filter each channel, narrow."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = expansion * in_channels
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [nn.Conv2d(in_channels, wide, 1, bias=False), _norm(wide), nn.ReLU6()]
        layers += [
            nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False), _norm(wide), nn.ReLU6(),
            nn.Conv2d(wide, out_channels, 1, bias=False), _norm(out_channels),
        ]  # fmt: skip
        self.layers = nn.Sequential(*layers)
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C_out, H / stride, W / stride)."""
        return x + self.layers(x) if self.shortcut else self.layers(x)


def conv_norm(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch norm, relu."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU()
    )


class MobileEncoder(nn.Module):
    """Features and context at 1/4 from a mobile trunk and a pyramid on it."""

    def __init__(self, feature_dim: int, hidden_dim: int, context_dim: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), _norm(32), nn.ReLU6())
        blocks, channels = [], 32
        for expansion, out, kernel, stride in _BLOCKS:
            blocks.append(MobileBlock(channels, out, expansion, kernel, stride))
            channels = out
        self.blocks = nn.ModuleList(blocks)
        width = 40
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1) for c in (24, 40, 112))
        self.smooth = nn.ModuleList(conv_norm(width, width) for _ in range(2))
        self.features = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), instance_norm(width), nn.ReLU(), nn.Conv2d(width, feature_dim, 1)
        )
        self.split = (hidden_dim, context_dim)
        self.heads = nn.ModuleList(nn.Conv2d(width, sum(self.split), 3, padding=1) for _ in range(2))

    def forward(self, left: Tensor, right: Tensor) -> StereoFeatures:
        """Map two views (B, 3, H, W) in [-1, 1] to their features and the left view's context."""
        x = self.stem(torch.cat([left, right]))
        levels = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in (2, 4, 10):
                levels.append(x)
        p4, p8, p16 = (lateral(level) for lateral, level in zip(self.laterals, levels, strict=True))
        p8 = self.smooth[0](p8 + F.interpolate(p16, size=p8.shape[-2:], mode="bilinear"))
        p4 = self.smooth[1](p4 + F.interpolate(p8, size=p4.shape[-2:], mode="bilinear"))
        stereo_left, stereo_right = self.features(p4).chunk(2)
        batch = left.shape[0]
        hidden, context = [], []
        for head, level in zip(self.heads, (p4[:batch], p8[:batch]), strict=True):
            h, c = head(level).split(self.split, dim=1)
            hidden.append(h)
            context.append(c)
        return StereoFeatures(stereo_left, stereo_right, hidden, context)


class VolumeStart(nn.Module):
    """Disparity before the first refinement: correlation by disparity, an hourglass over it, soft-argmax."""

    def __init__(self, context_dim: int, disparities: int = 48, groups: int = 8) -> None:
        super().__init__()
        self.disparities = disparities
        self.mix = conv_norm(disparities + context_dim, 32)
        self.down1 = nn.Sequential(conv_norm(32, 64, 2), conv_norm(64, 64))
        self.down2 = nn.Sequential(conv_norm(64, 96, 2), conv_norm(96, 96))
        self.up1 = conv_norm(96 + 64, 64)
        self.up0 = conv_norm(64 + 32, 32)
        self.logits = nn.Conv2d(32, disparities, 3, padding=1)

    def forward(self, left: Tensor, right: Tensor, context: list[Tensor]) -> Tensor:
        """Map features (B, C, h, w) and context to disparity (B, 1, h, w), feature pixels."""
        channels = left.shape[1]
        rows = []
        for d in range(self.disparities):
            if d >= left.shape[-1]:
                rows.append(torch.zeros_like(left[:, 0]))
                continue
            product = (left[..., d:] * right[..., : left.shape[-1] - d]).sum(1) / channels**0.5
            rows.append(F.pad(product, (d, 0)))
        volume = torch.stack(rows, dim=1)
        x = self.mix(torch.cat([volume, torch.relu(context[0])], dim=1))
        y = self.down1(x)
        z = self.down2(y)
        y = self.up1(torch.cat([y, F.interpolate(z, size=y.shape[-2:], mode="bilinear")], dim=1))
        x = self.up0(torch.cat([x, F.interpolate(y, size=x.shape[-2:], mode="bilinear")], dim=1))
        share = (volume + self.logits(x)).float().softmax(dim=1)
        return (share * torch.arange(self.disparities, device=x.device)[None, :, None, None]).sum(1, keepdim=True)
