"""The image of a validation: what the network sees, what it says, and how far that is from the ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosspol.visualization.maps import (
    DISPARITY_COLORS,
    ERROR_COLORS,
    USE_COLORS,
    Scale,
    draw_map,
    render_figure,
    robust_range,
)

_LARGEST_ERROR = 10.0
_WIDTH, _DPI = 4.2, 80


@dataclass(frozen=True)
class ScenePrediction:
    """A scene and what a network says of it, as arrays (H, W); NaN = unknown."""

    name: str
    rig: str
    left: NDArray[np.floating]
    """(H, W, 3), RGB in [0, 1]."""
    right: NDArray[np.floating]
    """(H, W, 3), RGB in [0, 1]."""
    disparity: NDArray[np.floating]
    """Ground truth, px."""
    predicted: NDArray[np.floating]
    """Of the network, px."""
    glass: NDArray[np.bool_] | None
    """Where the first surface is glass; None: not known."""
    use: NDArray[np.floating]
    """|injected| / |stereo features|, >= 0."""
    signal: tuple[NDArray[np.floating] | None, NDArray[np.floating] | None] = (None, None)
    """What was recorded of polarization by the left and the right view, in [0, 1]: DoLP, or linear intensity."""
    signal_name: str = "DoLP"
    glass_probability: NDArray[np.floating] | None = None
    """In [0, 1]; None of a network without a glass head."""


def validation_figure(scene: ScenePrediction, title: str) -> NDArray[np.uint8]:
    """Draw a scene: both views, polarization, disparity, error and use of polarization, the glass outlined in all.

    Args:
        scene: what to draw.
        title: in front of the scene's name, rig and size.

    Returns:
        (height, width, 3), RGB.
    """
    from matplotlib.figure import Figure

    height, width = scene.disparity.shape
    error = np.abs(scene.predicted - np.where(np.isfinite(scene.disparity), scene.disparity, np.nan))
    pixels = Scale(*robust_range(scene.disparity), DISPARITY_COLORS, "px")
    wrong = Scale(0, _LARGEST_ERROR, ERROR_COLORS, "px")
    percent = Scale(0, max(robust_range(100 * scene.use)[1], 1e-3), USE_COLORS, "%")
    share = Scale(0, 1, USE_COLORS, "0..1")
    known = error[np.isfinite(error)]
    mean = f", mean {known.mean():.2f} px" if known.size else ", no valid pixel"

    figure = Figure(figsize=(3 * _WIDTH, 3 * (0.86 * _WIDTH * height / width + 0.5) + 0.4), dpi=_DPI)
    figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.06)
    axes = figure.subplots(3, 3)
    glass = scene.glass
    # The outline is the left view's; in the right one it would lie beside the glass.
    draw_map(axes[0, 0], scene.left, "left view", glass)
    draw_map(axes[1, 0], scene.right, "right view")
    for row, side in enumerate(("left", "right")):
        values = scene.signal[row]
        label = f"{scene.signal_name}, {side} view" if values is not None else f"no polarization, {side} view"
        unknown = np.full((height, width), np.nan)
        draw_map(axes[row, 1], unknown if values is None else values, label, glass if row == 0 else None, share)
    draw_map(axes[0, 2], scene.disparity, "true disparity, px (left view)", glass, pixels)
    draw_map(axes[1, 2], scene.predicted, "predicted disparity, px", glass, pixels)
    draw_map(axes[2, 0], 100 * scene.use, "use of polarization, % of the features", glass, percent)
    if scene.glass_probability is None:
        axes[2, 1].set_axis_off()
    else:
        draw_map(axes[2, 1], scene.glass_probability, "predicted probability of glass", glass, share)
    draw_map(axes[2, 2], error, f"error, px{mean}", glass, wrong)
    if glass is None:
        outline = "glass: not known"
    elif glass.any() and not glass.all():
        outline = "line: true glass"
    else:
        outline = f"glass {'everywhere' if glass.any() else 'nowhere'}"
    figure.suptitle(
        f"{title}: {scene.name}, rig {scene.rig}, {width}x{height} px; {outline}; gray: unknown", fontsize=11
    )
    return render_figure(figure)
