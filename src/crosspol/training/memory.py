"""Activation checkpointing through the refinement loop."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from crosspol.model import CrossPol


def checkpoint_refinement(net: CrossPol) -> None:
    """Keep only the inputs of every refinement, and compute it again when its gradient is due.

    Gradients are those without. The network's names, weights and arithmetic stay as they are: only how this one
    object runs its refinement in training changes.
    """
    update = net.update
    compute = update.forward

    def forward(*arguments: Any) -> Any:
        if not torch.is_grad_enabled():
            return compute(*arguments)
        return checkpoint(compute, *arguments, use_reentrant=False)

    update.forward = forward
