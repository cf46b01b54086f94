"""From one view to the other by disparity: what tests, checks and the mirrored view need."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["glass_seen_from_right", "seen_from_right", "warp_to_left"]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

_ONE_SURFACE = 1.0
"""px a pixel: neighbors whose disparities differ by less belong to one surface."""


def warp_to_left(right: Array, disparity: Array) -> tuple[Array, Mask]:
    """Look the right view up where the left view's points are, with linear interpolation.

    Args:
        right: (C, H, W).
        disparity: (H, W), px; NaN = unknown.

    Returns:
        (C, H, W), and (H, W) where it lies within the right view.
    """
    width = right.shape[-1]
    place = np.arange(width, dtype=np.float32) - disparity
    inside = np.isfinite(place) & (place >= 0) & (place <= width - 1)
    place = np.where(inside, place, 0)
    column = np.minimum(place.astype(np.int64), width - 2)
    share = (place - column).astype(np.float32)
    rows = np.arange(right.shape[-2])[:, None]
    return right[:, rows, column] * (1 - share) + right[:, rows, column + 1] * share, inside


def seen_from_right(disparity: Array, *masks: Mask) -> tuple[Array, ...]:
    """Disparity (and masks) of the left view, as the right view sees the same points.

    Between neighbors of one surface disparity is interpolated, so that planes stay planes; the nearest surface wins.

    Args:
        disparity: (H, W), px, of the left view; NaN = unknown.
        masks: (H, W) each, bool.

    Returns:
        (H, W), px: x_left = x_right + disparity, NaN where the left view sees nothing of a pixel; then each mask,
        float32, 0 there.
    """
    height, width = disparity.shape
    start, stop = disparity[:, :-1], disparity[:, 1:]
    first = np.arange(width - 1) - start
    step = 1 - (stop - start)
    with np.errstate(invalid="ignore"):
        joined = np.isfinite(first) & np.isfinite(step) & (np.abs(stop - start) < _ONE_SURFACE)
    rows, left = np.nonzero(joined)
    found = [_landed(first[rows, left], step[rows, left], ahead) for ahead in (0, 1)]
    row = np.concatenate([rows[hit] for _, _, hit in found])
    base = np.concatenate([left[hit] for _, _, hit in found])
    column = np.concatenate([column[hit] for column, _, hit in found])
    share = np.concatenate([share[hit] for _, share, hit in found])
    value = start[row, base] + share * (stop[row, base] - start[row, base])
    inside = (column >= 0) & (column < width)
    # In the order of disparity, so that what is nearest is written last.
    order = np.flatnonzero(inside)[np.argsort(value[inside], kind="stable")]
    row, base, column, share, value = (part[order] for part in (row, base, column, share, value))
    seen = np.full((height, width), np.nan, np.float32)
    seen[row, column] = value
    planes = [seen]
    for mask in masks:
        plane = np.zeros((height, width), np.float32)
        plane[row, column] = mask[row, base + (share > 0.5)]
        planes.append(plane)
    return tuple(planes)


def glass_seen_from_right(disparity: Array, glass: Array) -> tuple[Array, Array]:
    """Disparity and glass of the left view, as the right view sees the same points.

    Args:
        disparity: (H, W), px, of the left view; NaN = unknown.
        glass: (H, W) in {0, 1}; NaN = unknown.

    Returns:
        (H, W), px, as `seen_from_right`; (H, W) in {0, 1}, where the left view sees nothing of a pixel 0, or NaN if
        the left view's glass was not known either.
    """
    unknown = np.isnan(glass)
    if not unknown.any():
        seen, carried = seen_from_right(disparity, glass > 0)
        return seen, carried
    seen, carried, unsure = seen_from_right(disparity, glass > 0, unknown)
    return seen, np.where((unsure > 0) | np.isnan(seen), np.float32(np.nan), carried)


def _landed(
    first: NDArray[np.floating], step: NDArray[np.floating], ahead: int
) -> tuple[NDArray[np.int64], NDArray[np.floating], Mask]:
    """The whole column number `ahead` after `first`, how far between both neighbors it is, and whether it is."""
    column = np.ceil(first).astype(np.int64) + ahead
    share = (column - first) / step
    return column, share, share <= 1
