"""How bright linear light is shown: one exposure for what the network sees and for what a scene's cameras record."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["exposure"]

Array = NDArray[np.float32]

# The 95th percentile of brightness is shown at 0.7 of white, which is 0.85 after the display curve: in the middle of
# what `ProceduralStereo` draws, so that the network has seen such exposures.
_BRIGHT_SHARE = 0.95
_BRIGHT_LEVEL = 0.7
# What reflects light is seldom further above an image's median: in rendered rooms without much of a lamp or window in
# view, the 95th percentile is 2 to 8 times the median; a lamp is 20 to 1000 times as bright as what it lights.
_MOST_OVER_MEDIAN = 8.0


def exposure(images: Sequence[Array]) -> np.float32:
    """Return the factor that brings images, together, to their place between black and white.

    It brings the 95th percentile of brightness to 0.7, but what emits light does not decide: where that percentile is
    more than 8 times the median, it counts as 8 times the median. So a lamp or a window that fills less than half of
    the view turns white, and the room beside it stays visible: the median of all lies at 0.09 of white or above. No
    exposure jumps when a lamp comes into view. The median is the brighter image's, so that a view behind a crossed
    polarizer does not count as the dark room around a lamp.

    Args:
        images: linear light (C, H, W) in a unit that all share, finite.

    Returns:
        The factor; 1 where there is no light.
    """
    brightness = [image.mean(axis=0).ravel() for image in images]
    bright = float(np.quantile(np.concatenate(brightness), _BRIGHT_SHARE))
    limit = _MOST_OVER_MEDIAN * max(float(np.median(values)) for values in brightness)
    # More than half of the view without any light says nothing about lamps.
    bright = min(bright, limit) if limit > 0 else bright
    return np.float32(_BRIGHT_LEVEL / bright if bright > 0 else 1)
