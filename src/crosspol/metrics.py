"""How far a disparity is from the truth, per scene: EPE, bad-N and D1 under masks; how well glass is found.

Every function takes a batch and returns one number per scene, NaN where no pixel counts. NaN is not 0: a scene without
glass has no glass error, and whoever averages over scenes leaves it out (`torch.nanmean`).

A pixel counts where the mask is set (everywhere without one) and the truth is finite. A mask is NaN where it is not
known, and nothing counts there: a scene whose glass is not known has no figure on glass, nor one beside it. A
prediction that is not finite where a pixel counts is infinitely wrong, never ignored.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# Luma of ITU-R BT.601, as OpenCV and the Middlebury benchmark turn colors into gray.
_LUMA = (0.299, 0.587, 0.114)


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


def iou(found: Tensor, glass: Tensor, mask: Tensor | None = None) -> Tensor:
    """Intersection over union of found and true glass in each scene.

    Args:
        found: (B, 1, H, W), nonzero where glass was found.
        glass: (B, 1, H, W), nonzero where the first surface is glass, NaN = unknown.
        mask: (B, 1, H, W); pixels that count are nonzero. None counts every pixel whose glass is known.

    Returns:
        (B,), in [0, 1]; NaN where the scene has no glass that counts.

    Raises:
        ValueError: the shapes differ.
    """
    both, only_found, only_glass = _agreement(found, glass, mask)
    return _where_glass(both / (both + only_found + only_glass), both + only_glass)


def f_score(found: Tensor, glass: Tensor, mask: Tensor | None = None) -> Tensor:
    """Harmonic mean of precision and recall of found glass in each scene (F1).

    Args:
        found: (B, 1, H, W), nonzero where glass was found.
        glass: (B, 1, H, W), nonzero where the first surface is glass, NaN = unknown.
        mask: (B, 1, H, W); pixels that count are nonzero. None counts every pixel whose glass is known.

    Returns:
        (B,), in [0, 1]; NaN where the scene has no glass that counts.

    Raises:
        ValueError: the shapes differ.
    """
    both, only_found, only_glass = _agreement(found, glass, mask)
    return _where_glass(2 * both / (2 * both + only_found + only_glass), both + only_glass)


def mean_under(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of a map of each scene over the pixels of a mask.

    Args:
        values: (B, 1, H, W).
        mask: (B, 1, H, W); pixels that count are nonzero.

    Returns:
        (B,); NaN where no pixel counts.
    """
    return _mean_over_counted(values, _set(mask))


def glass_edge(glass: Tensor, reach: int = 3) -> Tensor:
    """Pixels on either side of a border of glass. The frame of the image is no border.

    Args:
        glass: (B, 1, H, W), nonzero where the first surface is glass, NaN = unknown.
        reach: how far the band goes on either side, px, measured as the larger of rows and columns.

    Returns:
        (B, 1, H, W), 1 in the band, else 0, NaN where the glass is unknown.
    """
    inside, outside = _set(glass).float(), (glass == 0).float()
    window = 2 * reach + 1
    # max_pool2d pads with -inf: what lies outside of the image is neither glass nor background.
    near_glass = F.max_pool2d(inside, window, stride=1, padding=reach)
    near_background = F.max_pool2d(outside, window, stride=1, padding=reach)
    return torch.where(glass.isnan(), math.nan, near_glass * near_background)


def textureless(left: Tensor, window: int = 3, threshold: float = 4.0) -> Tensor:
    """Pixels around which rows hardly change: the squared horizontal gradient averages to less than `threshold`.

    Args:
        left: (B, 3, H, W) in [0, 1], as a viewer would show it; gradients are of its luma in [0, 255].
        window: side of the square over which the squared gradient is averaged, px, odd.
        threshold: in gray levels squared.

    Returns:
        (B, 1, H, W), 1 where there is no texture, else 0.

    Source: Scharstein and Szeliski, A taxonomy and evaluation of dense two-frame stereo correspondence algorithms, IJCV
        2002, section 5.1 (window 3, threshold 4).
    """
    luma = 255 * (left * left.new_tensor(_LUMA)[:, None, None]).sum(dim=1, keepdim=True)
    gradient = F.pad(luma.diff(dim=-1), (0, 1, 0, 0), mode="replicate")
    mean = F.avg_pool2d(gradient.square(), window, stride=1, padding=window // 2, count_include_pad=False)
    return (mean < threshold).float()


def _agreement(found: Tensor, glass: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Count pixels that are found and glass, only found, only glass; each (B,)."""
    shapes = {"found": found.shape, "glass": glass.shape}
    if mask is not None:
        shapes["mask"] = mask.shape
    _check_shapes(shapes)
    counted = ~glass.isnan() if mask is None else _set(mask) & ~glass.isnan()
    yes, true = (found != 0) & counted, (glass != 0) & counted
    both, only_found, only_glass = (
        plane.flatten(1).sum(dim=1).double() for plane in (yes & true, yes & ~true, ~yes & true)
    )
    return both, only_found, only_glass


def _set(mask: Tensor) -> Tensor:
    """Where a mask is set for certain."""
    return (mask != 0) & ~mask.isnan()


def _where_glass(values: Tensor, glass: Tensor) -> Tensor:
    return torch.where(glass > 0, values, math.nan)


def _check_shapes(shapes: dict[str, torch.Size]) -> None:
    first = next(iter(shapes.values()))
    if len(first) != 4 or first[1] != 1 or len(set(shapes.values())) != 1:
        found = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        raise ValueError(f"metrics: got {found}; wanted the same (B, 1, H, W)")


def _absolute_error(predicted: Tensor, disparity: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the error, 0 where nothing counts, and where something counts; both (B, 1, H, W)."""
    shapes = {"predicted": predicted.shape, "disparity": disparity.shape}
    if mask is not None:
        shapes["mask"] = mask.shape
    _check_shapes(shapes)
    counted = torch.isfinite(disparity)
    if mask is not None:
        counted = counted & _set(mask)
    # where, not multiplication: 0 * NaN is NaN.
    error = torch.where(counted, (predicted.float() - disparity.float()).abs(), 0)
    return torch.where(torch.isfinite(error), error, math.inf), counted


def _mean_over_counted(values: Tensor, counted: Tensor) -> Tensor:
    total = torch.where(counted, values, 0).flatten(1).sum(dim=1)
    return total / counted.flatten(1).sum(dim=1)  # 0 / 0 is the NaN that is wanted
