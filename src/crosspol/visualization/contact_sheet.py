"""The contact sheet of a data set in the scene format: a row per scene, with labels, units and the glass outlined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosspol.datasets.scene_format import SceneRecord, StoredScene, read_scene
from crosspol.io.images import read_image, write_image
from crosspol.io.inside import inside
from crosspol.light import encode_srgb, exposure
from crosspol.visualization.maps import DISPARITY_COLORS, USE_COLORS, Scale, draw_map, render_figure, robust_range

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["contact_sheet", "write_contact_sheet"]

Mask = NDArray[np.bool_]

_DPI = 100
# Inches.
_PANEL, _LABEL, _SCALE, _GAP, _TITLE = 2.6, 1.75, 0.55, 0.12, 0.28
_LARGEST_DOLP = 0.5
"""Where the scale of DoLP ends; most of what is in a scene is less polarized."""


def write_contact_sheet(root: Path, records: Sequence[SceneRecord], path: Path, most: int = 24) -> Path:
    """Write the contact sheet of a data set as a PNG.

    Args:
        root: folder of the data set.
        records: scenes, at least one; evenly chosen where there are more than `most`.
        path: of the PNG.
        most: rows.

    Raises:
        UsageError: a scene cannot be read.
    """
    chosen = [records[int(number)] for number in np.linspace(0, len(records) - 1, min(most, len(records)))]
    scenes = [read_scene(root, record) for record in chosen]
    return write_image(path, contact_sheet(scenes, [_glass_right(root, record) for record in chosen]))


def contact_sheet(scenes: Sequence[StoredScene], glass_right: Sequence[Mask | None] | None = None) -> NDArray[np.uint8]:
    """Draw a row per scene: its name, rig and size, both views, disparity, polarization, glass and occlusion.

    Polarization is the left view's DoLP where it has Stokes parameters, and of a crossed pair |contrast| of the views
    as they are, which only agrees where the disparity is small. Glass is outlined wherever its mask is known.

    Args:
        scenes: at least one.
        glass_right: the right view's glass (H, W), a mask per scene, None where it is not known.

    Returns:
        (height, width, 3), RGB.
    """
    from matplotlib.figure import Figure

    masks = [None] * len(scenes) if glass_right is None else glass_right
    heights = [_PANEL * scene.disparity.shape[0] / scene.disparity.shape[1] for scene in scenes]
    width = _LABEL + 5 * (_PANEL + _GAP) + 2 * _SCALE
    height = sum(heights) + len(scenes) * (_TITLE + _GAP) + _GAP
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    top = height - _GAP
    for scene, mask, inches in zip(scenes, masks, heights, strict=True):
        _draw_row(figure, scene, mask, top, inches)
        top -= inches + _TITLE + _GAP
    return render_figure(figure)


def _draw_row(figure: Figure, scene: StoredScene, glass_right: Mask | None, top: float, inches: float) -> None:
    """Draw a scene below `top`; its panels are `inches` high."""
    width, height = figure.get_size_inches()
    figure.text(0.1 / width, (top - _TITLE) / height, _label(scene), fontsize=9, va="top", linespacing=1.4)
    left, right = (_intensity(light) for light in (scene.left, scene.right))
    factor = exposure([left])
    title, polarization, largest = _polarization(scene)
    # Yellow and blue.
    masks = np.stack([scene.glass, scene.glass, scene.occluded], axis=-1).astype(np.float32)
    pixels = Scale(0, max(robust_range(scene.disparity)[1], 1e-3), DISPARITY_COLORS, "px")
    panels: list[tuple[NDArray[Any], str, Mask | None, Scale | None]] = [
        (_displayed(left * factor), "left view", scene.glass, None),
        (_displayed(right * factor), "right view", glass_right, None),
        (scene.disparity, "disparity, left", scene.glass, pixels),
        (polarization, title, scene.glass, Scale(0, largest, USE_COLORS, "")),
        (masks, "glass (yellow), occluded (blue), both (white)", None, None),
    ]
    x = _LABEL
    for content, name, glass, scale in panels:
        place = (x / width, (top - _TITLE - inches) / height, _PANEL / width, inches / height)
        draw_map(figure.add_axes(place), content, name, glass, scale, text=8)
        x += _PANEL + _GAP + (0 if scale is None else _SCALE)


def _label(scene: StoredScene) -> str:
    height, width = scene.disparity.shape
    lines = [scene.name, f"rig {scene.rig}", f"{width}x{height} px", f"split {scene.split}"]
    lines.append(f"{scene.glass.mean():.0%} glass")
    if scene.calibration is not None:
        lines.append(f"baseline {1000 * scene.calibration.baseline_m:.0f} mm")
    return "\n".join(lines)


def _polarization(scene: StoredScene) -> tuple[str, NDArray[np.float32], float]:
    """What is shown of a scene's polarization: its title, (H, W), and where the scale ends; NaN where there is none."""
    if scene.left.ndim == 4:
        s0, s1, s2 = scene.left.mean(axis=0)
        return "DoLP, left", _share(np.hypot(s1, s2), s0), _LARGEST_DOLP
    if scene.rig == "crossed":
        one, other = scene.left.mean(axis=0), scene.right.mean(axis=0)
        return "|contrast|, views not aligned", _share(np.abs(one - other), one + other), 1.0
    return "no polarization", np.full(scene.disparity.shape, np.nan, np.float32), 1.0


def _share(part: NDArray[np.float32], whole: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.float32(np.nan)).astype(np.float32)


def _intensity(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """S0 (C, H, W) of Stokes parameters, or the intensity itself."""
    return light[:, 0] if light.ndim == 4 else light


def _displayed(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear light (C, H, W) as a display shows it: (H, W, 3) in [0, 1]."""
    color = np.repeat(linear, 3 // len(linear), axis=0).transpose(1, 2, 0)
    return np.asarray(encode_srgb(color.clip(0, 1)), np.float32)


def _glass_right(root: Path, record: SceneRecord) -> Mask | None:
    """The right view's glass, which rendered scenes have beside what the format asks for."""
    name = record.files.get("glass_right")
    return None if name is None else read_image(inside(root, name, f"{record.name}: glass_right")) > 0
