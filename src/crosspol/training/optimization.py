"""Parameter groups, optimizer and learning-rate schedule."""

from __future__ import annotations

import torch
from torch import nn

from crosspol.model import CrossPol


def parameter_groups(net: CrossPol, lr: float, pol_lr_mult: float = 5.0, weight_decay: float = 1e-5) -> list[dict]:
    """Split the parameters into backbone and polarization, each with and without weight decay.

    Polarization is the polarization encoder and the fusion; its learning rate is `pol_lr_mult` times the backbone's
    (blueprint section 6). Norms, biases and alpha have fewer than two dimensions and are not decayed.

    Returns:
        Groups for a torch optimizer, each with a ``name``; empty groups are left out.
    """
    groups: dict[str, dict] = {}
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        polarized = name.startswith(("polarization_encoder.", "fusion."))
        decayed = parameter.dim() >= 2
        key = ("polarization" if polarized else "backbone") + ("" if decayed else ", no decay")
        group = groups.setdefault(
            key,
            {
                "name": key,
                "params": [],
                "lr": lr * (pol_lr_mult if polarized else 1.0),
                "weight_decay": weight_decay if decayed else 0.0,
            },
        )
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def one_cycle(
    optimizer: torch.optim.Optimizer, num_steps: int, warmup_share: float = 0.01
) -> torch.optim.lr_scheduler.LRScheduler:
    """Return a linear one-cycle schedule over `num_steps` steps with one maximum per group.

    Each group's present learning rate is its maximum: a scheduler given one scalar would overwrite them all
    (FACTS 2.4).
    """
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        # The last scheduler step lands on total_steps - 1; a few more keep the final rate above 0 (RAFT-Stereo: 100).
        total_steps=num_steps + 100,
        pct_start=max(warmup_share, 2.0 / (num_steps + 100)),
        anneal_strategy="linear",
        cycle_momentum=False,
    )


def gradient_norms(net: nn.Module) -> dict[str, float]:
    """Return the L2 norm of the gradients of each child module that has any, by name."""
    norms = {}
    for name, child in net.named_children():
        gradients = [p.grad.detach().float() for p in child.parameters() if p.grad is not None]
        if gradients:
            norms[name] = float(torch.nn.utils.get_total_norm(gradients))
    return norms
