"""What a disparity can be: one rule for every data set, so that none trains on wrong numbers silently."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crosspol.errors import UsageError

__all__ = ["check_disparity", "largest_unknown", "left_minus_right"]

Array = NDArray[np.float32]


def check_disparity(disparity: Array, where: object, *, some: bool = True) -> None:
    """Refuse a disparity that no rectified pair can have.

    Args:
        disparity: (H, W), px; NaN = unknown.
        where: the file, for the message.
        some: it has to be known somewhere.

    Raises:
        UsageError: it is negative somewhere (x_left - x_right of a rectified pair is not), as wide as the image or
            wider (then the point is in no right view: depth in mm, or values that were not divided), or known nowhere.
    """
    known = np.isfinite(disparity)
    if not known.any():
        if some:
            raise UsageError(f"{where}: got no disparity that is known, wanted some")
        return
    width = disparity.shape[-1]
    # Unknown ones are NaN, and compare as false.
    below, beyond = disparity < 0, disparity >= width
    if below.any():
        hint = " (all of them: is it x_right - x_left?)" if not (disparity > 0).any() else ""
        raise UsageError(
            f"{where}: got down to {disparity[below].min():g} px ({int(below.sum())} below 0){hint}, wanted "
            "x_left - x_right, which is positive, and NaN where it is unknown"
        )
    if beyond.any():
        raise UsageError(
            f"{where}: got up to {disparity[beyond].max():g} px in {int(beyond.sum())} of {int(known.sum())} known "
            f"pixels, wanted less than the width of {width} px: disparities, not depth, and not px times a factor"
        )


def left_minus_right(disparity: Array) -> Array:
    """Return disparities as x_left - x_right, whichever of both signs a file has.

    FlyingThings3D's subset for DispNet holds x_right - x_left: what most known pixels have decides. The few pixels of
    the other sign, which SceneFlow's damaged frames have, become unknown, and so does 0, which these files have nowhere
    else.

    Args:
        disparity: (H, W), px; NaN = unknown.
    """
    if (disparity < 0).sum() > (disparity > 0).sum():
        disparity = -disparity
    return np.where(disparity > 0, disparity, np.float32(np.nan))


def largest_unknown(disparity: Array) -> Array:
    """Return disparities in which those of at least the image's width are unknown: no right view can show them."""
    return np.where(disparity < disparity.shape[-1], disparity, np.float32(np.nan))
