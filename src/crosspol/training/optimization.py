"""Parameter groups, learning rates, gradient norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from crosspol.errors import UsageError
from crosspol.model import CrossPol

# The schedule is spread over a few steps more, so that the last rate is above 0 (RAFT-Stereo: 100).
_MARGIN = 100
_INITIAL_DIVISOR = 25.0
_FINAL_DIVISOR = 1e4


def freeze(net: nn.Module, parts: Sequence[str]) -> None:
    """Take parts of a network out of training.

    Args:
        net: changed in place.
        parts: names of modules or parameters, as in ``net.named_parameters()`` without their ends: "encoders" is all
            of ``encoders.``.

    Raises:
        UsageError: a name is no part's, or nothing is left to train.
    """
    for part in parts:
        found = [parameter for name, parameter in net.named_parameters() if within(name, [part])]
        if not found:
            children = ", ".join(name for name, _ in net.named_children())
            raise UsageError(f"frozen: got {part!r}, which is no part of the network; wanted one of {children}")
        for parameter in found:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise UsageError(f"frozen: got {', '.join(parts)}, which is all of the network; wanted a part to train")


def within(name: str, parts: Sequence[str]) -> bool:
    """Say whether a module's or parameter's name is that of one of the parts, or of something inside one."""
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def parameter_groups(
    net: CrossPol, lr: float, pol_lr_mult: float = 5.0, weight_decay: float = 1e-5
) -> list[dict[str, Any]]:
    """Split the parameters into backbone and polarization, each with and without weight decay.

    Polarization is the polarization encoder and the fusion; its learning rate is `pol_lr_mult` times the backbone's
    (blueprint section 6). Norms, biases and alpha have fewer than two dimensions and are not decayed.

    Returns:
        Groups for a torch optimizer, each with a ``name`` and its own maximum ``max_lr``; empty groups are left out.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        polarized = name.partition(".")[0] in CrossPol.POLARIZED
        decayed = parameter.dim() >= 2
        key = ("polarization" if polarized else "backbone") + ("" if decayed else ", no decay")
        maximum = lr * (pol_lr_mult if polarized else 1.0)
        options = {"name": key, "params": [], "lr": maximum, "max_lr": maximum}
        group = groups.setdefault(key, {**options, "weight_decay": weight_decay if decayed else 0.0})
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def one_cycle(step: int, num_steps: int, warmup_share: float = 0.01) -> float:
    """Return the share of its maximum that a learning rate has at `step`.

    Linear up from 1/25, then linear down to 1/250,000: the one-cycle schedule (Smith and Topin, 2018) as torch's
    `OneCycleLR` computes it, but a function of the step alone, so that a resumed run, even one with another length,
    needs nothing but its step.
    """
    total = num_steps + _MARGIN
    peak = max(warmup_share * total, 2.0) - 1
    lowest, last = 1 / _INITIAL_DIVISOR, 1 / (_INITIAL_DIVISOR * _FINAL_DIVISOR)
    if step <= peak:
        return lowest + step / peak * (1 - lowest)
    return max(1 + (step - peak) / (total - 1 - peak) * (last - 1), last)


def set_rates(optimizer: torch.optim.Optimizer, step: int, num_steps: int, warmup_share: float = 0.01) -> None:
    """Give every group its share of its own maximum: one maximum for all would undo `pol_lr_mult`.

    See docs/pitfalls.md#one-maximum-for-all-learning-rates.
    """
    share = one_cycle(step, num_steps, warmup_share)
    for group in optimizer.param_groups:
        group["lr"] = share * group["max_lr"]


def gradient_norms(net: nn.Module) -> dict[str, float]:
    """Return the L2 norm of the gradients of each child module that has any, by name."""
    norms: dict[str, Tensor] = {}
    for name, child in net.named_children():
        gradients = [p.grad.detach().float() for p in child.parameters() if p.grad is not None]
        if gradients:
            norms[name] = torch.nn.utils.get_total_norm(gradients)
    # One transfer from a GPU, not one per child.
    return dict(zip(norms, torch.stack(list(norms.values())).tolist(), strict=True)) if norms else {}
