"""Where the first surface is glass: a light head on what the refinement ends with."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GlassHead(nn.Module):
    """State, context and features of the left view to the logit of glass, at feature resolution.

    A dense target at every pixel: what polarization tells gets a gradient long before disparity needs it.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(in_channels, 32, 1), nn.ReLU(), nn.Conv2d(32, 1, 3, padding=1))

    def forward(self, *maps: Tensor) -> Tensor:
        """Map tensors (B, C_i, h, w) to logits (B, 1, h, w)."""
        logits: Tensor = self.layers(torch.cat(maps, dim=1))
        return logits
