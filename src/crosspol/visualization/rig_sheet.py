"""The contact sheet of a rig: what each camera saw, its polarization, what can be trusted, and the pair row by row."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crosspol.io.atomic import write_bytes
from crosspol.light import encode_srgb
from crosspol.polarimetry import aolp, dolp
from crosspol.rigs.frames import Frame
from crosspol.visualization.maps import USE_COLORS, Scale, draw_map, robust_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FULL_COLOR_DOLP", "aolp_colors", "draw_wheel", "unused_name", "write_rig_sheet"]

Mask = NDArray[np.bool_]

_PANEL_PX = 560
"""Longer side of a view in the sheet, px."""
_PANEL_INCHES = 4.0
_DPI = 140
_TEXT = 9
_VALID, _DARK, _SATURATED = (0.85, 0.9, 0.85), (0.1, 0.15, 0.45), (0.85, 0.15, 0.1)
_BRIGHT_SHARE = 0.99
_DIM = 0.1
"""S0 below which a pixel that is not valid is taken for dark: one saturated angle alone makes more."""
FULL_COLOR_DOLP = 0.3
"""DoLP from which AoLP has its full color: most of what is in a scene is less polarized."""
_LEAST_DOLP = 0.1
"""Where the scale of DoLP ends at least, so that noise does not look like polarization."""
_ROW_LINES = 12
_GAP = 0.02
"""Between both views of the pair, of their width."""


def write_rig_sheet(
    path: str | os.PathLike[str],
    frames: Mapping[str, Frame],
    names: Mapping[str, str],
    rig: str = "",
    glass: Mapping[str, Mask] | None = None,
) -> Path:
    """Write a PNG with a row a view, and both views side by side under lines along their rows.

    A view's row has S0, DoLP, AoLP with a color wheel, validity; that of a plain view the first and the last.

    Args:
        path: the file; its folder must exist.
        frames: by view, as the network gets them: rectified where the rig has a calibration.
        names: of the views' files, by view.
        rig: the title: which rig, and what rectified the views.
        glass: (H, W) by view, where it is known; outlined.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = next(iter(frames.values())).size
    columns = 4 if any(frame.stokes is not None for frame in frames.values()) else 2
    panel = (_PANEL_INCHES * min(1, width / height), _PANEL_INCHES * min(1, height / width))
    wide = columns * (panel[0] + 0.75)
    # The pair fills the width, unless that makes it higher than two rows of views.
    pair_high = min(wide * height / (2 * width), 2 * panel[1]) + 0.75 if len(frames) == 2 else 0
    ratios = [panel[1] + 0.75] * len(frames) + [pair_high] * (pair_high > 0)
    figure = Figure(figsize=(wide, sum(ratios) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(ratios), columns, height_ratios=ratios)
    scale = Scale(0, _largest_dolp(frames.values()), USE_COLORS, "DoLP")
    figure.suptitle(rig, fontsize=_TEXT + 2)
    for row, (view, frame) in enumerate(frames.items()):
        axes = [figure.add_subplot(grid[row, column]) for column in range(columns)]
        for axis in axes:
            axis.set_axis_off()
        _draw_view(axes, view, frame, names[view], None if glass is None else glass.get(view), scale)
    if pair_high:
        left, right = frames.values()
        _draw_pair(figure.add_subplot(grid[len(frames), :]), left, right)
    buffer = io.BytesIO()
    # Tight: titles and keys lie outside of the axes that the layout counts.
    figure.savefig(buffer, format="png", dpi=_DPI, bbox_inches="tight", pad_inches=0.1)
    return write_bytes(path, buffer.getvalue())


def unused_name(path: Path) -> Path:
    """Return the path, or the first that does not exist of ``name_2.png``, ``name_3.png`` and so on."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_stem(f"{path.stem}_{number}")
    return candidate


def aolp_colors(aolp_rad: Tensor, strength: Tensor) -> NDArray[np.float64]:
    """Colors for angles that repeat after 180 degrees: red along the rows, then counter-clockwise round the wheel.

    Args:
        aolp_rad: (H, W), radians.
        strength: (H, W) in [0, 1]: 0 is black, 1 the full color.

    Returns:
        (H, W, 3), RGB in [0, 1].
    """
    from matplotlib.colors import hsv_to_rgb

    hue = (aolp_rad / math.pi) % 1
    saturation = torch.full_like(hue, 0.9)
    return np.asarray(hsv_to_rgb(torch.stack([hue, saturation, strength.clamp(0, 1)], dim=-1).double().numpy()))


def _draw_view(axes: list[Axes], view: str, frame: Frame, name: str, glass: Mask | None, scale: Scale) -> None:
    step = max(1, math.ceil(max(frame.size) / _PANEL_PX))
    valid = frame.valid[0, ::step, ::step] > 0
    image = frame.image[:, ::step, ::step]
    outline = None if glass is None else glass[::step, ::step]
    what = "intensity" if frame.stokes is None else "S0"
    height, width = frame.size
    _show(axes[0], _display(image), f"{view}: {what} of {Path(name).name}, {width}x{height} px", outline)
    if frame.stokes is not None:
        # Every color has a polarization of its own; their Stokes parameters add up.
        mean = frame.stokes.mean(0)[:, ::step, ::step]
        degree, angle = dolp(mean), aolp(mean)
        known = np.where(valid.numpy(), degree.numpy(), np.nan)
        _show(axes[1], known, f"{view}: DoLP, mean {_mean(degree, valid):.3f} (gray: not valid)", outline, scale)
        colors = aolp_colors(angle, torch.where(valid, degree / FULL_COLOR_DOLP, torch.zeros_like(degree)))
        _show(axes[2], colors, f"{view}: AoLP, full color from DoLP {FULL_COLOR_DOLP:g}", outline)
        draw_wheel(axes[2].inset_axes((1.02, 0.55, 0.22, 0.42)))
    states = np.where(valid[..., None], _VALID, np.where(image.mean(0)[..., None] < _DIM, _DARK, _SATURATED))
    _show(axes[-1], states, f"{view}: validity, {100 * frame.valid.mean():.1f} % valid", outline)
    _draw_key(axes[-1])


def _largest_dolp(frames: Iterable[Frame]) -> float:
    """Where the scale of DoLP ends, the same for all views."""
    largest = [_LEAST_DOLP]
    for frame in frames:
        if frame.stokes is not None:
            step = max(1, math.ceil(max(frame.size) / _PANEL_PX))
            degree = dolp(frame.stokes.mean(0)[:, ::step, ::step])
            valid = frame.valid[0, ::step, ::step] > 0
            largest.append(robust_range(np.where(valid.numpy(), degree.numpy(), np.nan))[1] if valid.any() else 0)
    return min(1.0, max(largest))


def _show(axis: Axes, content: NDArray[Any], title: str, glass: Mask | None, scale: Scale | None = None) -> None:
    axis.set_axis_on()
    draw_map(axis, content, title, glass, scale, text=_TEXT)


def _draw_pair(axis: Axes, left: Frame, right: Frame) -> None:
    """Both views beside each other, with lines along rows: the same thing lies at the same line in both."""
    height, width = max(left.size[0], right.size[0]), left.size[1]
    start = width * (1 + _GAP)
    for name, frame, offset in (("left", left, 0.0), ("right", right, start)):
        rows, columns = frame.size
        step = max(1, math.ceil(max(frame.size) / (2 * _PANEL_PX)))
        shown = _display(frame.image[:, ::step, ::step])
        axis.imshow(shown, extent=(offset - 0.5, offset + columns - 0.5, rows - 0.5, -0.5), interpolation="nearest")
        axis.text(offset + columns / 2, rows + 0.5, name, fontsize=_TEXT, ha="center", va="top")
    end = start + right.size[1]
    lines = [round(row) for row in np.linspace(0, height, _ROW_LINES + 2)[1:-1]]
    for number, row in enumerate(lines):
        axis.plot((-0.5, end - 0.5), (row, row), color=("#ffd21f", "#2fd6ff")[number % 2], linewidth=0.7)
    axis.set_xlim(-0.5, end - 0.5)
    axis.set_ylim(height - 0.5, -0.5)
    axis.set_yticks(lines)
    axis.set_xticks([])
    axis.tick_params(labelsize=_TEXT - 2)
    axis.set_ylabel("row, px", fontsize=_TEXT)
    axis.set_title(
        "left and right: the same thing has to lie at the same line in both, and on the right further to the left",
        fontsize=_TEXT,
    )


def _display(image: Tensor) -> NDArray[np.float64]:
    """(H, W, 3) with the tone curve of photographs; the brightest hundredth is white, so that dim scenes show."""
    bright = float(torch.quantile(image.mean(0).flatten().double(), _BRIGHT_SHARE))
    shown = encode_srgb((image / max(bright, 1e-6)).clamp(0, 1))
    return np.asarray(shown.expand(3, *shown.shape[-2:]).permute(1, 2, 0).double().numpy())


def _mean(values: Tensor, valid: Tensor) -> float:
    return float(values[valid].mean()) if valid.any() else math.nan


def draw_wheel(inset: Axes, text: float = 6) -> None:
    """Draw a disk whose color in a direction is that of polarization along this direction; text: size, points."""
    side = torch.linspace(-1, 1, 151)
    x, y = side[None, :].expand(151, 151), -side[:, None].expand(151, 151)
    radius = torch.hypot(x, y)
    colors = aolp_colors(torch.atan2(y, x), torch.ones_like(radius))
    inset.imshow(np.dstack([colors, (radius <= 1).double().numpy()]), extent=(-1, 1, -1, 1), interpolation="nearest")
    for degrees in (0, 45, 90, 135):
        angle = math.radians(degrees)
        inset.text(1.3 * math.cos(angle), 1.3 * math.sin(angle), f"{degrees}°", fontsize=text, ha="center", va="center")
    inset.set_xlim(-1.6, 1.6)
    inset.set_ylim(-1.6, 1.6)
    inset.set_aspect("equal")
    inset.set_axis_off()


def _draw_key(axis: Axes) -> None:
    from matplotlib.patches import Patch

    keys = {"valid": _VALID, "too dark": _DARK, "saturated, or beside it": _SATURATED}
    handles = [Patch(facecolor=color, edgecolor="0.3", label=label) for label, color in keys.items()]
    axis.legend(
        handles=handles, loc="lower center", bbox_to_anchor=(0.5, -0.14), ncols=3, fontsize=_TEXT - 2, frameon=False
    )
