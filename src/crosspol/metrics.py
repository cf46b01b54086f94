"""How far a disparity is from the truth, per scene: EPE, bad-N and D1 under masks; how well glass is found.

Every function takes a batch and returns one number per scene, NaN where no pixel counts. NaN is not 0: a scene without
glass has no glass error, and whoever averages over scenes leaves it out (`torch.nanmean`).

A pixel counts where the mask is set (everywhere without one) and the truth is finite. A prediction that is not finite
there is infinitely wrong, never ignored.
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
        glass: (B, 1, H, W), nonzero where the first surface is glass.
        mask: (B, 1, H, W); pixels that count are nonzero. None counts every pixel.

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
        glass: (B, 1, H, W), nonzero where the first surface is glass.
        mask: (B, 1, H, W); pixels that count are nonzero. None counts every pixel.

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
    return _mean_over_counted(values, mask != 0)


def sparsification(
    predicted: Tensor,
    disparity: Tensor,
    confidence: Tensor,
    mask: Tensor | None = None,
    threshold: float | None = None,
    steps: int = 20,
) -> Tensor:
    """Error of what is kept when the least confident pixels are removed, for growing shares of removed pixels.

    Pixels of equal confidence are removed in random order, as it were: each counts with the mean of its equals.

    Args:
        predicted: (B, 1, H, W), px.
        disparity: (B, 1, H, W), px, the truth; infinite or NaN = unknown.
        confidence: (B, 1, H, W), finite; more is surer. The negative error is the oracle, a constant is chance.
        mask: (B, 1, H, W); pixels that count are nonzero. None counts every known pixel.
        threshold: px: the error is bad-N, percent; None: it is the EPE, px.
        steps: shares removed are 0, 1/steps, ..., (steps - 1)/steps, to the nearest whole pixel.

    Returns:
        (B, steps), the mean error over what is kept, at least one pixel; NaN where no pixel counts.

    Raises:
        ValueError: the shapes differ.

    Source: Aodha et al., Learning a confidence measure for optical flow, TPAMI 2013.
    """
    error, counted = _absolute_error(predicted, disparity, mask)
    _check_shapes({"predicted": predicted.shape, "confidence": confidence.shape})
    if threshold is not None:
        error = 100 * (error > threshold).to(error.dtype)
    curves = torch.full((len(error), steps), math.nan, dtype=torch.float64, device=error.device)
    for curve, *maps in zip(curves, error, confidence, counted, strict=True):
        cost, sure = (plane[maps[-1]].double() for plane in maps[:-1])
        if cost.numel():
            _, place, sizes = torch.unique(-sure, return_inverse=True, return_counts=True)
            shared = torch.zeros(len(sizes), dtype=cost.dtype, device=cost.device).index_add_(0, place, cost) / sizes
            total = torch.repeat_interleave(shared, sizes).cumsum(0)
            kept = 1 - torch.arange(steps, dtype=torch.float64, device=cost.device) / steps
            count = (cost.numel() * kept).round().long().clamp(min=1)
            curve[:] = total[count - 1] / count
    return curves


def ause(
    predicted: Tensor,
    disparity: Tensor,
    confidence: Tensor,
    mask: Tensor | None = None,
    threshold: float | None = None,
    steps: int = 20,
) -> Tensor:
    """Area between the sparsification curve and that of the oracle, which removes the largest errors first (AUSE).

    Arguments and errors are those of `sparsification`.

    Returns:
        (B,), in the error's unit, the mean over the shares removed: 0 is a perfect order. A constant confidence
        gives what chance has. Infinite where an error is; NaN where no pixel counts.

    Source: Ilg et al., Uncertainty estimates and multi-hypotheses networks for optical flow, ECCV 2018.
    """
    error, _ = _absolute_error(predicted, disparity, mask)
    own, best = (sparsification(predicted, disparity, order, mask, threshold, steps) for order in (confidence, -error))
    return area_between(own, best)


def area_between(curve: Tensor, oracle: Tensor) -> Tensor:
    """Mean difference of sparsification curves (B, steps): (B,), infinite where the curve is, NaN where one is NaN."""
    return torch.where(curve.isinf().any(dim=1), math.inf, (curve - oracle).mean(dim=1))


def calibration(
    predicted: Tensor,
    disparity: Tensor,
    confidence: Tensor,
    mask: Tensor | None = None,
    threshold: float = 1.0,
    bins: int = 10,
) -> Tensor:
    """Count, by bins of confidence, how often the error is at most `threshold`: what a reliability diagram shows.

    Args:
        predicted: (B, 1, H, W), px.
        disparity: (B, 1, H, W), px, the truth; infinite or NaN = unknown.
        confidence: (B, 1, H, W) in [0, 1].
        mask: (B, 1, H, W); pixels that count are nonzero. None counts every known pixel.
        threshold: px.
        bins: of equal width; the last one includes 1.

    Returns:
        (B, 3, bins): pixels, the sum of their confidence, and how many of them are within the threshold. Sums over
        scenes are those of all pixels.

    Raises:
        ValueError: the shapes differ.
    """
    error, counted = _absolute_error(predicted, disparity, mask)
    _check_shapes({"predicted": predicted.shape, "confidence": confidence.shape})
    sure = confidence.double()
    place = (sure * bins).long().clamp(0, bins - 1)
    rows = [torch.ones_like(sure), sure, (error <= threshold).double()]
    table = torch.zeros(len(error), 3, bins, dtype=torch.float64, device=error.device)
    for row, values in enumerate(rows):
        table[:, row].scatter_add_(1, place.flatten(1), torch.where(counted, values, 0).flatten(1))
    return table


def calibration_error(table: Tensor) -> float:
    """Expected calibration error: by how much mean confidence and share of hits differ, mean over pixels.

    Args:
        table: (3, bins), of `calibration`, or a sum of such.

    Returns:
        In [0, 1]; NaN where there are no pixels.

    Source: Guo et al., On calibration of modern neural networks, ICML 2017.
    """
    pixels, sure, hits = table.double()
    return float((sure - hits).abs().sum() / pixels.sum())


def glass_edge(glass: Tensor, reach: int = 3) -> Tensor:
    """Pixels on either side of a border of glass. The frame of the image is no border.

    Args:
        glass: (B, 1, H, W), nonzero where the first surface is glass.
        reach: how far the band goes on either side, px, measured as the larger of rows and columns.

    Returns:
        (B, 1, H, W), 1 in the band, else 0.
    """
    inside = (glass != 0).float()
    window = 2 * reach + 1
    # max_pool2d pads with -inf: what lies outside of the image is neither glass nor background.
    near_glass = F.max_pool2d(inside, window, stride=1, padding=reach)
    near_background = F.max_pool2d(1 - inside, window, stride=1, padding=reach)
    return near_glass * near_background


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
    counted = torch.ones_like(glass, dtype=torch.bool) if mask is None else mask != 0
    yes, true = (found != 0) & counted, (glass != 0) & counted
    both, only_found, only_glass = (
        plane.flatten(1).sum(dim=1).double() for plane in (yes & true, yes & ~true, ~yes & true)
    )
    return both, only_found, only_glass


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
        counted = counted & (mask != 0)
    # where, not multiplication: 0 * NaN is NaN.
    error = torch.where(counted, (predicted.float() - disparity.float()).abs(), 0)
    return torch.where(torch.isfinite(error), error, math.inf), counted


def _mean_over_counted(values: Tensor, counted: Tensor) -> Tensor:
    total = torch.where(counted, values, 0).flatten(1).sum(dim=1)
    return total / counted.flatten(1).sum(dim=1)  # 0 / 0 is the NaN that is wanted
