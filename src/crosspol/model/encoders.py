"""Feature and context encoders of both backbones.

The trunk is RAFT-Stereo's (Lipson et al., 3DV 2021): a 7x7 stem and six residual blocks in three stages.
What differs between the backbones is the norm, the strides and the heads, and these are arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crosspol.model.parts import StereoFeatures

Norm = Callable[[int], nn.Module]


class ContextFeatures(NamedTuple):
    """What the refinement starts from, before tanh and relu, finest level first.

    Each entry of `hidden` and `context` is (B, C, h, w); every level halves h and w.
    """

    hidden: list[Tensor]
    context: list[Tensor]


class ChannelAffine(nn.Module):
    """Scale and bias per channel, without statistics.

    Stands where the blueprint's count has a norm but batch statistics would wash out the magnitude, which is the
    signal of polarization (docs/pitfalls.md#norms-that-wash-out-the-magnitude).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        return x * self.weight[:, None, None] + self.bias[:, None, None]


def instance_norm(channels: int) -> nn.Module:
    """RAFT-Stereo's feature norm: no parameters."""
    return nn.InstanceNorm2d(channels)


def affine_instance_norm(channels: int) -> nn.Module:
    """The blueprint's feature norm: the same statistics with a scale and a bias, which its count contains."""
    return nn.InstanceNorm2d(channels, affine=True)


def in_use() -> bool:
    """Whether a network is being used: no gradient will be asked for, and no graph of it is being made.

    Only then may memory be written twice.
    """
    return not (torch.is_grad_enabled() or _graph_is_made())


def _graph_is_made() -> bool:
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return tracing or torch.compiler.is_compiling()


def _hooked(module: nn.Module) -> bool:
    """Whether calling a module does more than its forward: hooks look on, or prune and reparametrize its weight."""
    hooks = (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
    return any(hooks)


def normalized(convolution: nn.Module, norm: nn.Module, x: Tensor) -> Tensor:
    """Convolve (B, C, H, W) and normalize what comes out.

    Statistics that are known become part of the convolution, which is one pass over the result less; one image whose
    channels lie together is normalized as they lie, which `nn.InstanceNorm2d` would copy there and back. A graph
    leaves both to whoever runs it.
    """
    as_they_are = _graph_is_made() or _hooked(convolution) or _hooked(norm)
    if as_they_are or type(convolution) is not nn.Conv2d or convolution.padding_mode != "zeros":
        y: Tensor = norm(convolution(x))
        return y
    if type(norm) is nn.BatchNorm2d and not norm.training and norm.affine and norm.running_var is not None:
        assert norm.running_mean is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
        bias = shift if convolution.bias is None else convolution.bias * scale + shift
        weight = convolution.weight * scale[:, None, None, None]
        return F.conv2d(
            x, weight, bias, convolution.stride, convolution.padding, convolution.dilation, convolution.groups
        )
    y = convolution(x)
    together = y.is_contiguous(memory_format=torch.channels_last) and not y.is_contiguous()
    if type(norm) is nn.InstanceNorm2d and not norm.track_running_stats and together and len(y) == 1:
        return F.batch_norm(y, None, None, norm.weight, norm.bias, training=True, momentum=0.0, eps=norm.eps)
    y = norm(y)
    return y


def image_by_image(encode: Callable[[Tensor], Tensor], *views: Tensor) -> tuple[Tensor, ...]:
    """Encode views (B, C, H, W) by what keeps images apart: in training and on a GPU all at once, else one by one.

    On a CPU nothing is gained by a large batch: its results are too large for the caches, and fresh memory costs as
    much time as the arithmetic.
    """
    # In training mode batch norm has the statistics of the batch, and keeps them, also where no gradient is asked for.
    trains = getattr(getattr(encode, "__self__", encode), "training", False)
    if trains or not in_use() or views[0].device.type != "cpu":
        return encode(torch.cat(views)).chunk(len(views))
    images = [torch.split(view, 1) for view in views]
    return tuple(encode(view[0]) if len(view) == 1 else torch.cat([encode(image) for image in view]) for view in images)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, each convolution followed by a norm."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        self.norm1 = norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.norm2 = norm(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride),
                norm(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C_out, H / stride, W / stride)."""
        # What a norm or a sum returns is nobody else's: relu may be written over it.
        y = torch.relu_(normalized(self.conv1, self.norm1, x))
        y = torch.relu_(normalized(self.conv2, self.norm2, y))
        if isinstance(self.shortcut, nn.Sequential):
            x = normalized(self.shortcut[0], self.shortcut[1], x)
        return torch.relu_(y.add_(x) if in_use() else x + y)


def residual_stage(in_channels: int, out_channels: int, stride: int, norm: Norm) -> nn.Sequential:
    """Two residual blocks, of which the first may stride."""
    return nn.Sequential(
        ResidualBlock(in_channels, out_channels, stride, norm),
        ResidualBlock(out_channels, out_channels, 1, norm),
    )


class Trunk(nn.Module):
    """Stem and three stages: (B, 3, H, W) in [-1, 1] to (B, 128, H / s, W / s), s the product of `strides`."""

    channels = 128

    def __init__(self, strides: tuple[int, int, int], norm: Norm) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 7, stride=strides[0], padding=3)
        self.stem_norm = norm(64)
        self.stage1 = residual_stage(64, 64, 1, norm)
        self.stage2 = residual_stage(64, 96, strides[1], norm)
        self.stage3 = residual_stage(96, 128, strides[2], norm)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, 128, h, w)."""
        x = torch.relu_(normalized(self.stem, self.stem_norm, image))
        features: Tensor = self.stage3(self.stage2(self.stage1(x)))
        return features


class FeatureEncoder(nn.Module):
    """The features that are correlated: (B, 3, H, W) in [-1, 1] to (B, `dim`, h, w)."""

    def __init__(self, dim: int, strides: tuple[int, int, int], norm: Norm) -> None:
        super().__init__()
        self.trunk = Trunk(strides, norm)
        self.head = nn.Conv2d(Trunk.channels, dim, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, dim, h, w)."""
        features: Tensor = self.head(self.trunk(image))
        return features


class ContextEncoder(nn.Module):
    """The blueprint's context: one level, a hidden state and a context."""

    def __init__(self, hidden_dim: int, context_dim: int, strides: tuple[int, int, int]) -> None:
        super().__init__()
        self.trunk = Trunk(strides, nn.BatchNorm2d)
        self.hidden = nn.Conv2d(Trunk.channels, hidden_dim, 1)
        self.context = nn.Conv2d(Trunk.channels, context_dim, 1)

    def forward(self, image: Tensor) -> ContextFeatures:
        """Map (B, 3, H, W) to one level of hidden state and context."""
        x = self.trunk(image)
        return ContextFeatures([self.hidden(x)], [self.context(x)])


class ContextPyramid(nn.Module):
    """RAFT-Stereo's context on the trunk's features: two or three levels, each half the size of the one before."""

    def __init__(self, levels: int, hidden_dim: int, context_dim: int) -> None:
        super().__init__()
        norm = nn.BatchNorm2d
        channels = Trunk.channels
        self.downs = nn.ModuleList(residual_stage(channels, channels, 2, norm) for _ in range(levels - 1))
        # The third level has a plain convolution as its head; the first two put a residual block before it.
        self.hidden = nn.ModuleList(_pyramid_head(level, hidden_dim) for level in range(levels))
        self.context = nn.ModuleList(_pyramid_head(level, context_dim) for level in range(levels))

    def forward(self, x: Tensor) -> ContextFeatures:
        """Map the trunk's (B, 128, h, w) to the levels of hidden state and context."""
        hidden, context = [], []
        for level, (hidden_head, context_head) in enumerate(zip(self.hidden, self.context, strict=True)):
            x = x if level == 0 else self.downs[level - 1](x)
            hidden.append(hidden_head(x))
            context.append(context_head(x))
        return ContextFeatures(hidden, context)


def _pyramid_head(level: int, dim: int) -> nn.Module:
    conv = nn.Conv2d(Trunk.channels, dim, 3, padding=1)
    if level == 2:
        return conv
    return nn.Sequential(ResidualBlock(Trunk.channels, Trunk.channels, 1, nn.BatchNorm2d), conv)


class SeparateEncoders(nn.Module):
    """Stereo features from one trunk, context from another (blueprint, RAFT-Stereo)."""

    def __init__(self, features: FeatureEncoder, context: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.context = context

    def forward(self, left: Tensor, right: Tensor) -> StereoFeatures:
        """Map two views (B, 3, H, W) in [-1, 1] to their features (B, C, h, w) and the left view's context."""
        stereo_left, stereo_right = image_by_image(self.features, left, right)
        return StereoFeatures(stereo_left, stereo_right, *self.context(left))


class OfficialContext(nn.Module):
    """RAFT-Stereo's context encoder: a trunk of its own and the pyramid on it."""

    def __init__(self, levels: int, hidden_dim: int, context_dim: int) -> None:
        super().__init__()
        self.trunk = Trunk((1, 2, 2), nn.BatchNorm2d)
        self.pyramid = ContextPyramid(levels, hidden_dim, context_dim)

    def forward(self, image: Tensor) -> ContextFeatures:
        """Map (B, 3, H, W) in [-1, 1] to the levels of hidden state and context."""
        levels: ContextFeatures = self.pyramid(self.trunk(image))
        return levels


class SharedEncoder(nn.Module):
    """One trunk for context and features, as in RAFT-Stereo's real-time variant."""

    def __init__(self, dim: int, levels: int, hidden_dim: int, context_dim: int) -> None:
        super().__init__()
        self.trunk = Trunk((2, 2, 2), nn.BatchNorm2d)
        self.pyramid = ContextPyramid(levels, hidden_dim, context_dim)
        self.features = nn.Sequential(
            ResidualBlock(Trunk.channels, Trunk.channels, 1, instance_norm),
            nn.Conv2d(Trunk.channels, dim, 3, padding=1),
        )

    def forward(self, left: Tensor, right: Tensor) -> StereoFeatures:
        """Map two views (B, 3, H, W) in [-1, 1] to their features (B, C, h, w) and the left view's context."""
        shared_left, shared_right = image_by_image(self.trunk, left, right)
        stereo_left, stereo_right = image_by_image(self.features, shared_left, shared_right)
        return StereoFeatures(stereo_left, stereo_right, *self.pyramid(shared_left))
