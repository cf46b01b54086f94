"""Light: its display curve, its exposure, and where it can be trusted. The one place for all three.

Linear light is 0 at black and 1 at white; what a viewer shows is encoded by the sRGB curve (IEC 61966-2-1). Functions
of light take tensors and NumPy arrays alike and return what they were given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["DARK", "SATURATED", "decode_srgb", "display_image", "encode_srgb", "exposure", "well_exposed"]

Array = NDArray[np.float32]
Light = TypeVar("Light", Tensor, NDArray[Any])

DARK, SATURATED = 0.01, 0.99
"""Light is trusted above the one and below the other, in units of white: at 0.01 an 8-bit count is 40 % of it."""

# The 95th percentile of brightness is shown at 0.7 of white, which is 0.85 after the display curve: in the middle of
# what `ProceduralStereo` draws, so that the network has seen such exposures.
_BRIGHT_SHARE = 0.95
_BRIGHT_LEVEL = 0.7
# What reflects light is seldom further above an image's median: in rendered rooms without much of a lamp or window in
# view, the 95th percentile is 2 to 8 times the median; a lamp is 20 to 1000 times as bright as what it lights.
_MOST_OVER_MEDIAN = 8.0
# Where the curve's straight part ends, in linear light and on display.
_STRAIGHT, _STRAIGHT_SHOWN = 0.0031308, 0.04045


def encode_srgb(linear: Light) -> Light:
    """Linear light in [0, 1] to the display value in [0, 1], any shape."""
    curved = 1.055 * linear.clip(min=_STRAIGHT) ** (1 / 2.4) - 0.055
    return _where(linear <= _STRAIGHT, 12.92 * linear, curved)


def decode_srgb(display: Light) -> Light:
    """Display value in [0, 1] to linear light in [0, 1], any shape; below 0 the curve is straight."""
    curved = ((display.clip(min=0) + 0.055) / 1.055) ** 2.4
    return _where(display <= _STRAIGHT_SHOWN, display / 12.92, curved)


def display_image(linear: Light, gamma: float = 1.0) -> Light:
    """Linear light to an image as a viewer shows it: the sRGB curve, and 8 bits.

    Args:
        linear: any shape, float32, white 1; what is brighter is white, and NaN is black. A tensor lies on the CPU.
        gamma: exponent on the display value, for a camera with a tone curve of its own.

    Returns:
        The same shape in [0, 1], float32, multiples of 1/255.
    """
    if isinstance(linear, Tensor):
        # A view of the same memory. NumPy takes the powers for both kinds: torch's differ in their last bit, so that
        # four of a million pixels would be one step of 255 off the images that scenes' hashes were made of.
        return torch.from_numpy(display_image(linear.numpy(), gamma))
    shown = encode_srgb(np.nan_to_num(linear, nan=0).clip(0, 1).astype(np.float32, copy=False))
    return np.asarray(np.rint(255 * shown ** np.float32(gamma)) / np.float32(255), np.float32)


def well_exposed(light: Light, dark: float = DARK, saturated: float = SATURATED) -> Light:
    """Where an image without polarization is neither dark in every color nor saturated in one.

    Args:
        light: (C, H, W), linear, white 1.
        dark: some color has to lie above this.
        saturated: every color has to lie below this.

    Returns:
        (H, W), bool; NaN is never well exposed.
    """
    both: Any = (light > dark).any(0) & (light < saturated).all(0)
    valid: Light = both
    return valid


def exposure(images: Sequence[Array | Tensor]) -> np.float32:
    """Return the factor that brings images, together, to their place between black and white.

    It brings the 95th percentile of brightness to 0.7, but what emits light does not decide: where that percentile is
    more than 8 times the median, it counts as 8 times the median. So a lamp or a window that fills less than half of
    the view turns white, and the room beside it stays visible: the median of all lies at 0.09 of white or above. No
    exposure jumps when a lamp comes into view. The median is the brighter image's, so that a view behind a crossed
    polarizer does not count as the dark room around a lamp.

    Args:
        images: linear light (C, H, W) in a unit that all share, finite; tensors on the CPU.

    Returns:
        The factor; 1 where there is no light.
    """
    # Quantiles are NumPy's: torch's take no more than 16 million values.
    brightness = [np.asarray(image).mean(axis=0).ravel() for image in images]
    bright = float(np.quantile(np.concatenate(brightness), _BRIGHT_SHARE))
    limit = _MOST_OVER_MEDIAN * max(float(np.median(values)) for values in brightness)
    # More than half of the view without any light says nothing about lamps.
    bright = min(bright, limit) if limit > 0 else bright
    factor: np.float32 = np.float32(_BRIGHT_LEVEL / bright if bright > 0 else 1)
    return factor


def _where(condition: Any, one: Light, other: Light) -> Light:
    if isinstance(one, Tensor):
        return torch.where(condition, one, other)
    return np.where(condition, one, other)
