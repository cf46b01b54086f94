"""The angle of linear polarization as an image, with the color wheel that explains it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from crosspol.visualization.maps import UNKNOWN_GRAY, render_figure
from crosspol.visualization.rig_sheet import FULL_COLOR_DOLP, aolp_colors, draw_wheel

__all__ = ["aolp_image", "aolp_map"]

_DPI = 100


def aolp_image(aolp_rad: NDArray[np.floating], dolp: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colored angle of linear polarization with its color wheel at the right.

    What is hardly polarized has no angle worth a color and is dark; from `FULL_COLOR_DOLP` on colors are full.

    Args:
        aolp_rad: (H, W), radians, in the image's frame: 0 along the rows, then counter-clockwise.
        dolp: (H, W) in [0, 1]; NaN = not valid (gray).

    Returns:
        (H, W + wheel, 3), RGB; the left W columns are the map, pixel for pixel.
    """
    from matplotlib.figure import Figure

    image = aolp_map(aolp_rad, dolp)
    height = image.shape[0]
    side = min(max(height / 3, 96.0), 320.0)
    figure = Figure(figsize=(side / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    share = min(1.0, side / height)
    draw_wheel(figure.add_axes((0.02, 1 - 0.98 * share, 0.96, 0.96 * share)), text=side / 16)
    wheel = render_figure(figure)
    return np.concatenate([image, wheel[:height]], axis=1)


def aolp_map(aolp_rad: NDArray[np.floating], dolp: NDArray[np.floating]) -> NDArray[np.uint8]:
    """`aolp_image` without the wheel: (H, W, 3), RGB."""
    known = np.isfinite(dolp) & np.isfinite(aolp_rad)
    angle, strength = (np.where(known, values, 0).astype(np.float32) for values in (aolp_rad, dolp / FULL_COLOR_DOLP))
    colors = aolp_colors(torch.from_numpy(angle), torch.from_numpy(strength))
    image = np.asarray(np.rint(255 * colors), np.uint8)
    image[~known] = UNKNOWN_GRAY
    return image
