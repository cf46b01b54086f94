"""Exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from crosspol.model import CrossPol


def moving_average(net: CrossPol, decay: float, step: int = 0) -> AveragedModel:
    """Return the moving average of a network that starts as the network is.

    After step ``s = 1, 2, ...`` it becomes ``d * average + (1 - d) * weights`` with
    ``d = min(decay, (1 + s) / (10 + s))``, so that the random start is soon forgotten. Buffers (norm statistics, the
    alpha cap) are copied. The averaged network is its ``module``.

    Args:
        net: copied; the copy takes no gradients.
        decay: in [0, 1).
        step: steps taken so far, >= 0.
    """

    @torch.no_grad()
    def move(means: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor | int) -> None:
        count = int(updates)
        share = 1 - min(decay, (1 + count) / (10 + count))
        for mean, weight in zip(means, weights, strict=True):
            mean.lerp_(weight, share)

    average = AveragedModel(net, multi_avg_fn=move)
    average.requires_grad_(False)
    resume_average(average, step)
    return average


def resume_average(average: AveragedModel, step: int) -> None:
    """Tell a moving average how many steps were taken."""
    # At a count of 0 torch would copy the weights instead of averaging them.
    average.n_averaged.fill_(step + 1)
