"""Gradients clipped part by part, and how large the optimizer's steps really are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor


def clip_by_part(groups: Iterable[Mapping[str, Any]], largest: float) -> dict[str, float]:
    """Limit the gradient's norm of each part, backbone and polarization, by itself.

    One norm for everything lets the refinement, whose gradient is a hundred thousand times larger, scale away the
    polarization's (docs/pitfalls.md#one-clip-for-the-whole-gradient).

    Args:
        groups: of the optimizer; a part is what their ``name`` says before a comma.
        largest: norm that each part keeps.

    Returns:
        The norm of each part before.
    """
    parts: dict[str, list[Tensor]] = {}
    for group in groups:
        parts.setdefault(group["name"].partition(",")[0], []).extend(group["params"])
    return {name: float(torch.nn.utils.clip_grad_norm_(parts[name], largest)) for name in parts}


@torch.no_grad()
def step_sizes(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Return |step| / lr of each group of an Adam: the root mean square over its parameters, without weight decay.

    It is about 1 where gradients keep their sign, less where they are noise, and near 0 where they are below eps: the
    group's rate is then nominal, whatever the log says of it.

    Args:
        optimizer: torch's Adam or AdamW, without amsgrad; its groups have a ``name``.

    Returns:
        By the groups' names; groups that have not taken a step are left out.
    """
    sizes = {}
    for group in optimizer.param_groups:
        beta1, beta2 = group["betas"]
        total, count = 0.0, 0
        for parameter in group["params"]:
            state = optimizer.state.get(parameter)
            if not state:
                continue
            taken = float(state["step"])
            mean = state["exp_avg"].double() / (1 - beta1**taken)
            deviation = (state["exp_avg_sq"].double() / (1 - beta2**taken)).sqrt()
            total += float((mean / (deviation + group["eps"])).square().sum())
            count += parameter.numel()
        if count:
            sizes[group["name"]] = math.sqrt(total / count)
    return sizes
