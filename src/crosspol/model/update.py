"""The refinement step of both backbones: motion features, ConvGRU, disparity head, upsampling.

Disparity is positive throughout, in feature pixels. The official weights regress the horizontal flow, which is
minus the disparity; `MultiLevelUpdate` turns the sign where they enter and leave.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crosspol.model.encoders import in_use
from crosspol.model.parts import Upsampler


class ConvGRU(nn.Module):
    """Convolutional GRU whose context enters as terms convolved once, before the loop.

    The update and reset gates share one convolution; the arithmetic is that of two.
    """

    def __init__(self, hidden_dim: int, input_dim: int, bias: bool = True) -> None:
        super().__init__()
        self.gates = nn.Conv2d(hidden_dim + input_dim, 2 * hidden_dim, 3, padding=1, bias=bias)
        self.candidate = nn.Conv2d(hidden_dim + input_dim, hidden_dim, 3, padding=1, bias=bias)

    def forward(self, h: Tensor, context_term: Tensor, *inputs: Tensor) -> Tensor:
        """Map the state (B, C, h, w), its context term (B, 3C, h, w) and inputs to the next state."""
        channels = h.shape[1]
        gate_term, candidate_term = torch.split(context_term, [2 * channels, channels], dim=1)
        seen = torch.cat([h, *inputs], dim=1)
        update, reset = torch.sigmoid_(self.gates(seen) + gate_term).chunk(2, dim=1)
        if in_use():
            seen[:, :channels].mul_(reset)
        else:
            seen = torch.cat([reset * h, *inputs], dim=1)
        candidate = torch.tanh_(self.candidate(seen) + candidate_term)
        return (1 - update) * h + update * candidate


def upsample_bilinear(disparity: Tensor, factor: int) -> Tensor:
    """Upsample (B, 1, h, w) to (B, 1, factor * h, factor * w); values keep their unit.

    Feature pixel i sits at image pixel factor * i (that is where strided convolutions with odd kernels put it), so
    image pixel x reads at x / factor. Neither of interpolate's own conventions does, hence the row and column of
    padding.
    """
    height, width = disparity.shape[-2:]
    padded = F.pad(disparity, (0, 1, 0, 1), mode="replicate")
    size = (factor * height + 1, factor * width + 1)
    full = F.interpolate(padded, size=size, mode="bilinear", align_corners=True)
    return full[..., :-1, :-1]


class ConvexUpsampler:
    """Upsamples by learned convex combinations of 3x3 neighbors (Teed and Deng, ECCV 2020); values keep their unit.

    Args:
        weights: (B, 9 * factor**2, h, w), before the softmax over the nine neighbors.
        factor: side of a feature pixel in image pixels.
    """

    def __init__(self, weights: Tensor, factor: int) -> None:
        batch, _, height, width = weights.shape
        self.factor = factor
        self.mixture = weights.view(batch, 9, factor * factor, height, width).softmax(dim=1)

    def __call__(self, x: Tensor) -> Tensor:
        """Upsample (B, 1, h, w) to (B, 1, factor * h, factor * w); outside the image there is 0."""
        batch, _, height, width = x.shape
        neighbors = F.unfold(x, 3, padding=1).view(batch, 9, 1, height, width)
        return F.pixel_shuffle((self.mixture * neighbors).sum(dim=1), self.factor)


def with_term(motion: Tensor, term: Tensor | None) -> Tensor:
    """Add a motion term (B, C, h, w) to motion features of that shape; None adds nothing."""
    return motion if term is None else motion + term


class SingleLevelUpdate(nn.Module):
    """The blueprint's update block: one GRU at feature resolution, bilinear upsampling."""

    motion_dim = 128

    def __init__(self, correlation_dim: int, hidden_dim: int, context_dim: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.motion = nn.Sequential(
            nn.Conv2d(correlation_dim + 1, 128, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(128, self.motion_dim, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        # One convolution over [state, motion, context] with a bias, split by its input: the context's part does not
        # change during refinement and is convolved once.
        self.gru = ConvGRU(hidden_dim, self.motion_dim, bias=False)
        self.context = nn.Conv2d(context_dim, 3 * hidden_dim, 3, padding=1)
        self.head = nn.Sequential(
            nn.Conv2d(hidden_dim, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 1, 3, padding=1),
        )

    def context_terms(self, context: list[Tensor]) -> list[Tensor]:
        """Convolve the context (B, C, h, w) of each level once, for all iterations."""
        return [self.context(context[0])]

    def forward(
        self,
        hidden: list[Tensor],
        terms: list[Tensor],
        correlation: Tensor,
        disparity: Tensor,
        motion_term: Tensor | None = None,
    ) -> tuple[list[Tensor], Tensor]:
        """Refine once; see `parts.Update`."""
        motion = with_term(self.motion(torch.cat([correlation, disparity], dim=1)), motion_term)
        state = self.gru(hidden[0], terms[0], motion)
        return [state], self.head(state)

    def upsampler(self, hidden: list[Tensor]) -> Upsampler:
        """Return bilinear upsampling, whatever the states."""
        return lambda x: upsample_bilinear(x, self.factor)


class MotionEncoder(nn.Module):
    """RAFT-Stereo's motion features: correlation and flow, (B, 128, h, w).

    The convolutions keep the official shapes, y flow included; the y flow is 0 in stereo, so its weights are left
    out of the arithmetic.
    """

    def __init__(self, correlation_dim: int) -> None:
        super().__init__()
        self.correlation1 = nn.Conv2d(correlation_dim, 64, 1)
        self.correlation2 = nn.Conv2d(64, 64, 3, padding=1)
        self.flow1 = nn.Conv2d(2, 64, 7, padding=3)
        self.flow2 = nn.Conv2d(64, 64, 3, padding=1)
        self.mix = nn.Conv2d(128, 126, 3, padding=1)

    def forward(self, correlation: Tensor, flow: Tensor) -> Tensor:
        """Map (B, levels * samples, h, w) and the horizontal flow (B, 1, h, w) to (B, 128, h, w)."""
        c = torch.relu_(self.correlation2(torch.relu_(self.correlation1(correlation))))
        f = F.conv2d(flow, self.flow1.weight[:, :1], self.flow1.bias, padding=3)
        f = torch.relu_(self.flow2(torch.relu_(f)))
        mixed = torch.relu_(self.mix(torch.cat([c, f], dim=1)))
        flow = flow.to(mixed.dtype)
        return torch.cat([mixed, flow, torch.zeros_like(flow)], dim=1)


class LevelContext(nn.Module):
    """An update block with a context of its own at each level."""

    context: nn.ModuleList

    def context_terms(self, context: list[Tensor]) -> list[Tensor]:
        """Convolve the context (B, C, h, w) of each level once, for all iterations."""
        return [conv(level) for conv, level in zip(self.context, context, strict=True)]


class MultiLevelUpdate(LevelContext):
    """RAFT-Stereo's update block: two or three GRUs that exchange states, convex upsampling.

    With `slow_fast` the coarser GRUs run once more before each refinement, as in the real-time variant.
    """

    motion_dim = 128

    def __init__(
        self, correlation_dim: int, levels: int, hidden_dim: int, context_dim: int, factor: int, slow_fast: bool
    ) -> None:
        super().__init__()
        self.levels, self.factor, self.slow_fast = levels, factor, slow_fast
        self.motion = MotionEncoder(correlation_dim)
        coarsest = levels - 1
        self.grus = nn.ModuleList(
            ConvGRU(hidden_dim, 128 + hidden_dim if level == 0 else hidden_dim * (1 if level == coarsest else 2))
            for level in range(levels)
        )
        self.context = nn.ModuleList(nn.Conv2d(context_dim, 3 * hidden_dim, 3, padding=1) for _ in range(levels))
        self.flow_head1 = nn.Conv2d(hidden_dim, 256, 3, padding=1)
        self.flow_head2 = nn.Conv2d(256, 2, 3, padding=1)
        self.mask = nn.Sequential(
            nn.Conv2d(hidden_dim, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 9 * factor**2, 1),
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
        if self.slow_fast:
            if self.levels == 3:
                hidden = update_coarser(self.grus, hidden, terms, finest=2)
            hidden = update_coarser(self.grus, hidden, terms, finest=1)
        hidden = update_coarser(self.grus, hidden, terms, finest=1)
        motion = with_term(self.motion(correlation, -disparity), motion_term)
        finest = self.grus[0](hidden[0], terms[0], motion, resize_to(hidden[1], hidden[0]))
        step = torch.relu_(self.flow_head1(finest))
        # The second output of the head is the y flow, which stereo discards.
        flow = F.conv2d(step, self.flow_head2.weight[:1], _first(self.flow_head2.bias), padding=1)
        return [finest, *hidden[1:]], -flow

    def upsampler(self, hidden: list[Tensor]) -> Upsampler:
        """Return convex upsampling with the weights that the finest state gives."""
        # A quarter balances the gradients of mask and flow (RAFT).
        return ConvexUpsampler(0.25 * self.mask(hidden[0]).float(), self.factor)


def update_coarser(grus: nn.ModuleList, hidden: list[Tensor], terms: list[Tensor], finest: int) -> list[Tensor]:
    """Update the levels from the coarsest up to `finest`, each from the next finer one and the next coarser one."""
    hidden = list(hidden)
    for level in range(len(grus) - 1, finest - 1, -1):
        inputs = [F.avg_pool2d(hidden[level - 1], 3, stride=2, padding=1)]
        if level + 1 < len(grus):
            inputs.append(resize_to(hidden[level + 1], hidden[level]))
        hidden[level] = grus[level](hidden[level], terms[level], *inputs)
    return hidden


def resize_to(coarse: Tensor, like: Tensor) -> Tensor:
    """Bring (B, C, h, w) to the size of another map, bilinearly."""
    return F.interpolate(coarse, size=like.shape[-2:], mode="bilinear", align_corners=True)


def _first(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias[:1]
