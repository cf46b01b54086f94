"""Exponential moving average of a network's weights."""

from __future__ import annotations

import torch

from crosspol.model import CrossPol


@torch.no_grad()
def update_average(average: CrossPol, net: CrossPol, decay: float, step: int) -> None:
    """Move the average towards the network: ``average = d * average + (1 - d) * weights``.

    Early on ``d = min(decay, (1 + step) / (10 + step))``, so that the random start is soon forgotten. Buffers (norm
    statistics, the alpha cap) are copied.

    Args:
        average: changed in place.
        net: the network after its step.
        decay: in [0, 1).
        step: how many steps were taken before, >= 0.
    """
    decay = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average.parameters(), net.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
    for kept, current in zip(average.buffers(), net.buffers(), strict=True):
        kept.copy_(current)
