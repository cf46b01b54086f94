"""Ground truth of a left view, and the sample that it makes together with what the network sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crosspol.data.inputs import StereoInputs
from crosspol.data.sample import StereoSample
from crosspol.rigs.kinds import RigKind

__all__ = ["GroundTruth", "make_sample", "occlusion_of"]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

_NEARER = 1.0
"""px: what is nearer by less belongs to the same, slanted surface."""


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """What is known of the left view.

    disparity: (H, W), px, first surface; NaN = unknown.
    glass: (H, W), bool; None: not known.
    occluded: (H, W), bool, where the right view misses the point; None: as `occlusion_of` finds it.
    disparity_background: (H, W), px, with all glass removed; NaN = unknown.
    """

    disparity: Array
    glass: Mask | None = None
    occluded: Mask | None = None
    disparity_background: Array | None = None


def make_sample(inputs: StereoInputs, rig: RigKind, truth: GroundTruth, name: str) -> StereoSample:
    """Put what the network sees and what is true together.

    Args:
        inputs: what the network sees of it, (C, H, W) each.
        rig: what was recorded.
        truth: of the same size.
        name: of the sample, unique within its data set.

    Returns:
        The sample; disparities that are not known are 0, glass that is not known NaN.
    """
    known = np.isfinite(truth.disparity)
    planes = {
        "disparity": np.where(known, truth.disparity, 0),
        "valid": known,
        "glass": np.full(known.shape, np.nan) if truth.glass is None else truth.glass,
        "occluded": occlusion_of(truth.disparity) if truth.occluded is None else truth.occluded,
    }
    if truth.disparity_background is not None:
        planes["disparity_background"] = np.nan_to_num(truth.disparity_background, nan=0)
    tensors = {name: torch.from_numpy(plane.astype(np.float32)[None]) for name, plane in planes.items()}
    # The sample's other fields are no tensors: typed as what they are together.
    values: dict[str, Any] = {**inputs.kwargs(), **tensors}
    return StereoSample(**values, rig=rig, name=name)


def occlusion_of(disparity: Array) -> Mask:
    """Left pixels that the right view misses, as far as the left view's disparity tells.

    A pixel is hidden where it leaves the frame, or where a pixel of the same row that is nearer by more than 1 px lands
    on its place in the right view. Unknown disparities hide nothing and are not hidden.

    Args:
        disparity: (H, W), px; NaN = unknown.

    Returns:
        (H, W), bool.
    """
    height, width = disparity.shape
    known = np.isfinite(disparity)
    place = np.arange(width) - np.where(known, disparity, 0)
    column = np.rint(place).astype(np.int64)
    inside = known & (column >= 0) & (column < width)
    nearest = np.full((height, width + 2), -np.inf)
    rows = np.broadcast_to(np.arange(height)[:, None], disparity.shape)
    np.maximum.at(nearest, (rows[inside], column[inside] + 1), disparity[inside])
    # A surface that is stretched in the right view leaves single columns empty: what lies beside them hides as well.
    empty = ~np.isfinite(nearest[:, 1:-1])
    nearest[:, 1:-1][empty] = np.minimum(nearest[:, :-2], nearest[:, 2:])[empty]
    front = np.take_along_axis(nearest, np.clip(column, 0, width - 1) + 1, axis=1)
    out_of_frame = (place < -0.5) | (place > width - 0.5)
    return np.asarray(known & (out_of_frame | (front > np.where(known, disparity, 0) + _NEARER)))
