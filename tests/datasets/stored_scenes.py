"""Scenes for tests of the native format: a textured wall and a square of glass before it, with exact truth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosspol.datasets.scene_format import StoredScene
from crosspol.rigs.calibration import StereoCalibration

Array = NDArray[np.float32]


def light(size: tuple[int, int], colors: int, stokes: bool, seed: int = 0) -> Array:
    """Linear light (C, 3, H, W) or (C, H, W) that half floats hold exactly."""
    rng = np.random.default_rng(seed)
    s0 = rng.uniform(0.2, 2.0, (colors, *size))
    degree, angle = rng.uniform(0, 0.6, (2, *size))
    parameters = [s0, s0 * degree * np.cos(angle), s0 * degree * np.sin(angle)]
    values = np.stack(parameters, axis=1) if stokes else s0
    return values.astype(np.float16).astype(np.float32)


def stored_scene(rig: str = "quad", size: tuple[int, int] = (32, 40), colors: int = 1, **changes: Any) -> StoredScene:
    """A pair whose right view is the left one, shifted by the wall's 4 px: the warp is exact outside the glass."""
    height, width = size
    wide = light((height, width + 4), colors, rig in ("quad", "quad-left"))
    left, right = wide[..., :width], wide[..., 4:]
    if rig == "quad-left":
        right = right[:, 0]
    disparity = np.full(size, 4.0, np.float32)
    background = disparity.copy()
    glass = np.zeros(size, bool)
    glass[10:20, 15:30] = True
    disparity[glass] = 6.5
    occluded = np.zeros(size, bool)
    occluded[:, :4] = True
    disparity[0, 0] = np.nan
    values: dict[str, Any] = {
        "name": f"{rig}-{colors}",
        "rig": rig,
        "left": np.ascontiguousarray(left),
        "right": np.ascontiguousarray(right),
        "disparity": disparity,
        "glass": glass,
        "occluded": occluded,
        "disparity_background": background,
        "calibration": StereoCalibration.of_rectified(
            fx=50, fy=50, cx_left=20, cx_right=20.5, cy=16, baseline_m=0.1, size=(width, height)
        ),
        "seed": 7,
        "parameters": {"room": {"width_m": 4.5}},
    }
    return StoredScene(**(values | changes))
