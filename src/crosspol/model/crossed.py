"""The contrast of a crossed pair, formed from the network's own estimate.

The left camera sees I_parallel, the right one I_perpendicular: the contrast at a point needs both, hence a disparity.
It is always the network's own, detached: ground truth here made a published error look twice as good
(docs/pitfalls.md#ground-truth-in-the-input).
"""

from __future__ import annotations

import torch
from torch import Tensor

from crosspol.polarimetry import contrast


def warp_right_to_left(right: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
    """Sample the right view at x - d, linearly along rows.

    Args:
        right: (B, C, H, W).
        disparity: (B, 1, H, W), px of the left view.

    Returns:
        (B, C, H, W), and where x - d lies inside the right view (B, 1, H, W), bool.
    """
    width = right.shape[-1]
    columns = torch.arange(width, device=right.device, dtype=disparity.dtype)
    return _sample_rows(right, columns - disparity)


def splat_to_right(disparity: Tensor) -> tuple[Tensor, Tensor]:
    """Carry the left view's disparity to the right view; where several pixels land, the nearest surface stays.

    Args:
        disparity: (B, 1, H, W), px of the left view.

    Returns:
        Disparity of the right view (B, 1, H, W), 0 in holes, and where it is not a hole (B, 1, H, W), bool.
    """
    columns = torch.arange(disparity.shape[-1], device=disparity.device, dtype=disparity.dtype)
    landing = (columns - disparity).round()
    inside = (landing >= 0) & (landing <= len(columns) - 1)
    empty = -torch.inf
    carried = torch.where(inside, disparity, disparity.new_full((), empty))
    target = torch.where(inside, landing, landing.new_zeros(())).long()
    splat = torch.full_like(disparity, empty).scatter_reduce(3, target, carried, reduce="amax")
    covered = splat > empty
    return torch.where(covered, splat, splat.new_zeros(())), covered


@torch.no_grad()
def crossed_contrast(
    intensity_left: Tensor, intensity_right: Tensor, disparity: Tensor, valid_left: Tensor, valid_right: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Form (I_par - I_perp) / (I_par + I_perp) in both views.

    Args:
        intensity_left: I_parallel, linear, (B, 1, H, W).
        intensity_right: I_perpendicular, linear, (B, 1, H, W).
        disparity: the network's estimate in the left view, (B, 1, H, W), px.
        valid_left: where the left intensity is valid, (B, 1, H, W), bool, or 0 and 1.
        valid_right: the same of the right view.

    Returns:
        Contrast in [-1, 1] and its validity (bool), each (B, 1, H, W), of the left and of the right view. Pixels whose
        partner lies outside the other view, or that no left pixel lands on, are invalid.
    """
    disparity = disparity.detach()
    perpendicular, seen = warp_right_to_left(intensity_right, disparity)
    perpendicular_valid, _ = warp_right_to_left(valid_right.to(intensity_right.dtype), disparity)
    left_valid = (valid_left > 0) & (perpendicular_valid >= 1) & seen

    disparity_right, covered = splat_to_right(disparity)
    columns = torch.arange(disparity.shape[-1], device=disparity.device, dtype=disparity.dtype)
    parallel, seen = _sample_rows(intensity_left, columns + disparity_right)
    parallel_valid, _ = _sample_rows(valid_left.to(intensity_left.dtype), columns + disparity_right)
    right_valid = (valid_right > 0) & (parallel_valid >= 1) & seen & covered
    return (
        (contrast(intensity_left, perpendicular), left_valid),
        (contrast(parallel, intensity_right), right_valid),
    )


def _sample_rows(image: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Sample (B, C, H, W) at columns x (B, 1, H, W), linearly; also say where x lies inside."""
    width = image.shape[-1]
    inside = (x >= 0) & (x <= width - 1)
    # where, not a clamp, which keeps NaN: a diverged estimate must end in a reported loss, not in an index error.
    x = torch.where(inside, x, x.new_zeros(()))
    low = x.floor().clamp_max(max(width - 2, 0))
    fraction = (x - low).to(image.dtype)
    index = low.long().expand(-1, image.shape[1], -1, -1)
    sampled = torch.lerp(image.gather(3, index), image.gather(3, (index + 1).clamp_max(width - 1)), fraction)
    return sampled, inside
