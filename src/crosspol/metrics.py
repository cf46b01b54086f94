"""How far a disparity is from the truth, per scene: EPE, bad-N and D1 under masks.

Every function takes a batch and returns one number a scene, NaN where no pixel counts. NaN is not 0: a scene without
glass has no glass error, and whoever averages over scenes leaves it out (`torch.nanmean`).

A pixel counts where the mask is set (everywhere without one) and the truth is finite. A prediction that is not finite
there is infinitely wrong, never ignored.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def epe(predicted: Tensor, disparity: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute disparity error of each scene, the end-point error of stereo.

    Args:
        predicted: (B, 1, H, W), px.
        disparity: (B, 1, H, W), px, the truth; infinite or NaN = unknown.
        mask: (B, 1, H, W), bool or numbers; pixels that count are nonzero. None counts every known pixel.

    Returns:
        (B,), px; NaN where no pixel counts.

    Raises:
        ValueError: the shapes differ.
    """
    error, counted = _absolute_error(predicted, disparity, mask)
    return _mean_over_counted(error, counted)


def bad(predicted: Tensor, disparity: Tensor, mask: Tensor | None = None, threshold: float = 2.0) -> Tensor:
    """Share of each scene's pixels whose error exceeds `threshold` (bad-N).

    Args:
        predicted: (B, 1, H, W), px.
        disparity: (B, 1, H, W), px, the truth; infinite or NaN = unknown.
        mask: (B, 1, H, W); pixels that count are nonzero. None counts every known pixel.
        threshold: N, px; an error of exactly N is not bad.

    Returns:
        (B,), percent in [0, 100]; NaN where no pixel counts.

    Raises:
        ValueError: the shapes differ, or the threshold is not positive.
    """
    if not threshold > 0:
        raise ValueError(f"bad: got threshold {threshold}, wanted more than 0 px")
    error, counted = _absolute_error(predicted, disparity, mask)
    return 100 * _mean_over_counted((error > threshold).to(error.dtype), counted)


def d1(predicted: Tensor, disparity: Tensor, mask: Tensor | None = None) -> Tensor:
    """Share of each scene's pixels that are off by more than 3 px and by more than 5 % (KITTI 2015's D1).

    Args:
        predicted: (B, 1, H, W), px.
        disparity: (B, 1, H, W), px, the truth; infinite or NaN = unknown.
        mask: (B, 1, H, W); pixels that count are nonzero. None counts every known pixel.

    Returns:
        (B,), percent in [0, 100]; NaN where no pixel counts.

    Raises:
        ValueError: the shapes differ.
    """
    error, counted = _absolute_error(predicted, disparity, mask)
    outlier = (error > 3) & (error > 0.05 * torch.where(counted, disparity, 0).abs())
    return 100 * _mean_over_counted(outlier.to(error.dtype), counted)


def _absolute_error(predicted: Tensor, disparity: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the error, 0 where nothing counts, and where something counts; both (B, 1, H, W)."""
    shapes = {"predicted": predicted.shape, "disparity": disparity.shape}
    if mask is not None:
        shapes["mask"] = mask.shape
    if predicted.ndim != 4 or predicted.shape[1] != 1 or len(set(shapes.values())) != 1:
        found = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        raise ValueError(f"metrics: got {found}; wanted the same (B, 1, H, W)")
    counted = torch.isfinite(disparity)
    if mask is not None:
        counted = counted & (mask != 0)
    # where, not multiplication: 0 * NaN is NaN.
    error = torch.where(counted, (predicted.float() - disparity.float()).abs(), 0)
    return torch.where(torch.isfinite(error), error, math.inf), counted


def _mean_over_counted(values: Tensor, counted: Tensor) -> Tensor:
    total = torch.where(counted, values, 0).flatten(1).sum(dim=1)
    return total / counted.flatten(1).sum(dim=1)  # 0 / 0 is the NaN that is wanted
