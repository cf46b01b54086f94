"""Where a polarization measurement can be trusted: neither clipped at white nor lost in the dark."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from crosspol.light import DARK, SATURATED
from crosspol.polarimetry.focal_plane import DemosaicMethod, binned_side, demosaic_reach

__all__ = ["binned_validity", "mosaic_validity", "validity"]


def validity(
    i0: Tensor, i45: Tensor, i90: Tensor, i135: Tensor, *, dark: float = DARK, saturated: float = SATURATED
) -> Tensor:
    """Pixels of four separately taken angle images whose polarization can be trusted.

    For images that come from a mosaic use `mosaic_validity`: demosaicing averages a clipped sample with its
    neighbors, after which it no longer looks clipped.

    Args:
        i0, i45, i90, i135: (..., H, W), linear intensities, 0 black and 1 white.
        dark: the mean of the four has to lie above this. At 0.01 of full scale an 8-bit count, 0.004, is 40 % of it.
        saturated: each of the four has to lie below this.

    Returns:
        (..., H, W), bool. NaN is never valid.

    Raises:
        ValueError: the shapes differ.
    """
    if not i0.shape == i45.shape == i90.shape == i135.shape:
        found = ", ".join(str(tuple(image.shape)) for image in (i0, i45, i90, i135))
        raise ValueError(f"i0, i45, i90 and i135 are {found}; wanted one shape")
    images = torch.stack([i0, i45, i90, i135])
    return (images < saturated).all(dim=0) & (images.mean(dim=0) > dark)


def mosaic_validity(
    raw: Tensor,
    bayer: str | None = None,
    method: DemosaicMethod = "edge-aware",
    *,
    dark: float = DARK,
    saturated: float = SATURATED,
) -> Tensor:
    """Pixels of a raw frame whose demosaiced polarization can be trusted.

    A pixel is trusted where no sample that its demosaicing can use is clipped, and where the mean over one period of
    the mosaic around it is not dark.

    Args:
        raw: (..., H, W), linear intensities, 0 black and 1 white; at least 2x2, with `bayer` 4x4.
        bayer: as given to `demosaic`.
        method: as given to `demosaic`: the edge-aware one looks farther.
        dark: the local mean has to lie above this.
        saturated: each sample has to lie below this.

    Returns:
        (..., H, W), bool, one mask for all angles and colors. NaN and infinities are never valid, nor what they reach.

    Raises:
        ValueError: the frame is too small.
    """
    period = 2 if bayer is None else 4
    height, width = raw.shape[-2:] if raw.ndim >= 2 else (0, 0)
    if min(height, width) < period:
        raise ValueError(f"raw is {tuple(raw.shape)}; wanted (..., H, W) with H and W at least {period}")
    frames = raw.reshape(-1, 1, height, width)
    reach = demosaic_reach(method, bayer)
    clipped = F.max_pool2d((~(frames.abs() < saturated)).float(), 2 * reach + 1, stride=1, padding=reach) > 0

    # Two box means, over the period and over 2: every phase of the mosaic weighs the same, centerd on the pixel.
    around = F.pad(frames, [period // 2] * 4, mode="reflect")
    mean = F.avg_pool2d(F.avg_pool2d(around, period, stride=1), 2, stride=1)
    return (~clipped & (mean > dark)).reshape(raw.shape)


def binned_validity(
    raw: Tensor, bayer: str | None = None, *, dark: float = DARK, saturated: float = SATURATED
) -> Tensor:
    """Pixels of `bin_mosaic` whose polarization can be trusted: no sample is clipped, and their mean is not dark.

    Args:
        raw: (..., H, W), linear intensities, 0 black and 1 white; at least one period of the mosaic.
        bayer: as given to `bin_mosaic`.
        dark: the mean has to lie above this.
        saturated: each sample has to lie below this.

    Returns:
        (..., H // 2, W // 2), with `bayer` (..., H // 4, W // 4), bool. NaN and infinities are never valid.

    Raises:
        ValueError: the frame is too small.
    """
    side = binned_side(bayer)
    if raw.ndim < 2 or min(raw.shape[-2:]) < side:
        raise ValueError(f"raw is {tuple(raw.shape)}; wanted (..., H, W) with H and W at least {side}")
    rows, columns = (length // side for length in raw.shape[-2:])
    cells = raw[..., : rows * side, : columns * side].reshape(*raw.shape[:-2], rows, side, columns, side)
    cells = cells.transpose(-2, -3).flatten(-2)
    valid: Tensor = (cells.abs() < saturated).all(dim=-1) & (cells.mean(dim=-1) > dark)
    return valid
