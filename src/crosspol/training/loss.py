"""The training losses: of disparity (blueprint section 6: glass_weight, pol_weight) and of the glass head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def sequence_loss(
    predictions: Sequence[Tensor],
    disparity: Tensor,
    valid: Tensor,
    glass: Tensor | None = None,
    polarization: Tensor | None = None,
    gamma: float = 0.9,
    glass_weight: float = 5.0,
    pol_weight: float = 2.0,
) -> Tensor:
    """Weigh the error of every iteration, later ones more, glass and polarized pixels more.

    Mean over samples of ``sum_i gamma^(N-1-i) * sum_x w |d_i - d| / sum_x w`` with
    ``w = valid * (1 + (glass_weight - 1) * glass + pol_weight * |polarization|)``: RAFT-Stereo's sequence loss
    (Lipson et al., 3DV 2021, eq. 7) under the blueprint's weights.

    Args:
        predictions: N disparities (B, 1, H, W), px, in the order of refinement.
        disparity: ground truth (B, 1, H, W), px; pixels where it is not finite are ignored.
        valid: (B, 1, H, W), 1 where the ground truth is known.
        glass: (B, 1, H, W), 1 on glass; NaN where it is not known, which weighs like 0; None: not known anywhere.
        polarization: DoLP or contrast (B, 1, H, W); values that are not finite weigh like 0; None: not known.
        gamma: how much less each earlier iteration weighs.
        glass_weight: weight of a glass pixel relative to any other.
        pol_weight: additional weight of a fully polarized pixel.

    Returns:
        Scalar, px. Samples without a valid pixel do not enter the mean; without any valid pixel it is 0 (and still
        differentiable).

    Raises:
        ValueError: no predictions, or a shape that differs from the ground truth's.
    """
    if not predictions:
        raise ValueError("predictions: got none, wanted at least one")
    named = {"valid": valid, "glass": glass, "polarization": polarization}
    named |= {f"predictions[{i}]": prediction for i, prediction in enumerate(predictions)}
    for name, tensor in named.items():
        if tensor is not None and tensor.shape != disparity.shape:
            raise ValueError(
                f"{name}: got shape {tuple(tensor.shape)}, wanted {tuple(disparity.shape)} as the disparity"
            )
    known = (valid >= 0.5) & disparity.isfinite()
    target = torch.where(known, disparity, disparity.new_zeros(()))
    weight = torch.ones_like(target)
    if glass is not None:
        weight = weight + (glass_weight - 1.0) * torch.nan_to_num(glass, nan=0.0)
    if polarization is not None:
        magnitude = torch.nan_to_num(polarization.abs(), nan=0.0, posinf=0.0, neginf=0.0)
        weight = weight + pol_weight * magnitude
    weight = weight * known
    weight = weight / weight.sum(dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
    per_sample = torch.zeros(len(target), device=target.device)
    for index, prediction in enumerate(predictions):
        # where, not a product: an unknown pixel's error must not turn 0 * inf into NaN, forward or backward.
        error = torch.where(known, prediction - target, target.new_zeros(())).abs()
        per_sample = per_sample + gamma ** (len(predictions) - 1 - index) * (weight * error).sum(dim=(1, 2, 3))
    return per_sample.sum() / known.flatten(1).any(dim=1).sum().clamp_min(1)


def glass_loss(logits: Tensor, glass: Tensor, valid: Tensor) -> Tensor:
    """Binary cross-entropy plus Dice loss (Milletari et al., 3DV 2016, with plain sums), mean over samples.

    Dice counts glass as a whole, however few pixels it covers; where a sample has none, it says nothing.

    Args:
        logits: of "the first surface is glass", (B, 1, H, W).
        glass: ground truth (B, 1, H, W) in {0, 1}; NaN where it is not known.
        valid: (B, 1, H, W), 1 where the ground truth is known.

    Returns:
        Scalar. Samples without a valid pixel whose glass is known do not enter the mean; without any it is 0.

    Raises:
        ValueError: a shape that differs from the ground truth's.
    """
    for name, tensor in (("logits", logits), ("valid", valid)):
        if tensor.shape != glass.shape:
            raise ValueError(f"{name}: got shape {tuple(tensor.shape)}, wanted {tuple(glass.shape)} as glass")
    known = (valid >= 0.5) & glass.isfinite()
    glass = torch.where(known, glass, glass.new_zeros(()))
    logits = torch.where(known, logits.float(), logits.new_zeros((), dtype=torch.float32))
    weight, dims = known.float(), (1, 2, 3)
    entropy = F.binary_cross_entropy_with_logits(logits, glass, weight=weight, reduction="none").sum(dims)
    entropy = entropy / weight.sum(dims).clamp_min(1)
    probability, truth = logits.sigmoid() * weight, glass * weight
    both, sizes = (probability * truth).sum(dims), (probability + truth).sum(dims)
    dice = torch.where(truth.sum(dims) > 0, 1 - (2 * both + 1) / (sizes + 1), sizes.new_zeros(()))
    return (entropy + dice).sum() / known.flatten(1).any(dim=1).sum().clamp_min(1)
