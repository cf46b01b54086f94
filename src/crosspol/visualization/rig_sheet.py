"""The contact sheet of a rig: what each camera saw, its polarization, and where it can be trusted."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["aolp_colors", "write_rig_sheet"]

_PANEL_PX = 560
"""Longer side of a view in the sheet, px."""
_PANEL_INCHES = 4.0
_DPI = 140
_TRUSTED, _DARK, _SATURATED = (0.85, 0.9, 0.85), (0.1, 0.15, 0.45), (0.85, 0.15, 0.1)
_BRIGHT_SHARE = 0.99
_HOLE = (0.35, 0.2, 0.45)
_DIM = 0.1
"""S0 below which a pixel that is not trusted is taken for dark: one saturated angle alone makes more."""
_FULL_COLOR_DOLP = 0.3
"""DoLP from which AoLP has its full color: most of what is in a scene is less polarized."""


def write_rig_sheet(path: str | os.PathLike[str], frames: Mapping[str, Frame], names: Mapping[str, str]) -> Path:
    """Write a PNG with a row a view: S0, DoLP, AoLP with a color wheel, validity; of plain views the first and last.

    Args:
        path: the file; its folder must exist.
        frames: by view.
        names: of the views' files, by view.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = next(iter(frames.values())).size
    columns = 4 if any(frame.stokes is not None for frame in frames.values()) else 2
    panel = (_PANEL_INCHES * min(1, width / height), _PANEL_INCHES * min(1, height / width))
    figure = Figure(figsize=(columns * (panel[0] + 0.75), len(frames) * (panel[1] + 0.75)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(frames), columns, squeeze=False)
    for row, (view, frame) in zip(axes, frames.items(), strict=True):
        for axis in row:
            axis.set_axis_off()
        _draw_view(list(row), view, frame, names[view])
    buffer = io.BytesIO()
    # Tight: titles and keys lie outside of the axes that the layout counts.
    figure.savefig(buffer, format="png", dpi=_DPI, bbox_inches="tight", pad_inches=0.1)
    return write_bytes(path, buffer.getvalue())


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


def _draw_view(axes: list[Axes], view: str, frame: Frame, name: str) -> None:
    step = max(1, math.ceil(max(frame.size) / _PANEL_PX))
    valid = frame.valid[0, ::step, ::step] > 0
    image = frame.image[:, ::step, ::step]
    what = "intensity" if frame.stokes is None else "S0"
    axes[0].set_title(f"{view}: {what} of {Path(name).name}", fontsize=9)
    axes[0].imshow(_display(image), interpolation="nearest")
    if frame.stokes is not None:
        # Every color has a polarization of its own; their Stokes parameters add up.
        mean = frame.stokes.mean(0)[:, ::step, ::step]
        degree, angle = dolp(mean), aolp(mean)
        shown = axes[1].imshow(_masked(degree, valid), vmin=0, vmax=1, cmap=_gray_with_holes(), interpolation="nearest")
        axes[1].set_title(f"DoLP, mean {_mean(degree, valid):.3f} (violet: not trusted)", fontsize=9)
        axes[1].figure.colorbar(shown, ax=axes[1], shrink=0.8)
        colors = aolp_colors(angle, torch.where(valid, degree / _FULL_COLOR_DOLP, torch.zeros_like(degree)))
        axes[2].imshow(colors, interpolation="nearest")
        axes[2].set_title(f"AoLP, full color from DoLP {_FULL_COLOR_DOLP:g}", fontsize=9)
        _draw_wheel(axes[2])
    states = np.where(valid[..., None], _TRUSTED, np.where(image.mean(0)[..., None] < _DIM, _DARK, _SATURATED))
    axes[-1].imshow(states, interpolation="nearest")
    axes[-1].set_title(f"validity, {100 * frame.valid.mean():.1f} % trusted", fontsize=9)
    _draw_key(axes[-1])


def _display(image: Tensor) -> NDArray[np.float64]:
    """(H, W, 3) with the tone curve of photographs; the brightest hundredth is white, so that dim scenes show."""
    bright = float(torch.quantile(image.mean(0).flatten().double(), _BRIGHT_SHARE))
    shown = encode_srgb((image / max(bright, 1e-6)).clamp(0, 1))
    return np.asarray(shown.expand(3, *shown.shape[-2:]).permute(1, 2, 0).double().numpy())


def _masked(values: Tensor, valid: Tensor) -> Any:
    return np.ma.masked_array(values.numpy(), mask=~valid.numpy())


def _mean(values: Tensor, valid: Tensor) -> float:
    return float(values[valid].mean()) if valid.any() else math.nan


def _gray_with_holes() -> Any:
    from matplotlib import colormaps

    return colormaps["gray"].with_extremes(bad=_HOLE)


def _draw_wheel(axis: Axes) -> None:
    """A disk whose color in a direction is that of polarization along this direction."""
    inset = axis.inset_axes((1.02, 0.55, 0.22, 0.42))
    side = torch.linspace(-1, 1, 151)
    x, y = side[None, :].expand(151, 151), -side[:, None].expand(151, 151)
    radius = torch.hypot(x, y)
    colors = aolp_colors(torch.atan2(y, x), torch.ones_like(radius))
    inset.imshow(np.dstack([colors, (radius <= 1).double().numpy()]), extent=(-1, 1, -1, 1), interpolation="nearest")
    for degrees in (0, 45, 90, 135):
        angle = math.radians(degrees)
        inset.text(1.3 * math.cos(angle), 1.3 * math.sin(angle), f"{degrees}°", fontsize=6, ha="center", va="center")
    inset.set_xlim(-1.6, 1.6)
    inset.set_ylim(-1.6, 1.6)
    inset.set_aspect("equal")
    inset.set_axis_off()


def _draw_key(axis: Axes) -> None:
    from matplotlib.patches import Patch

    keys = {"trusted": _TRUSTED, "too dark": _DARK, "saturated, or beside it": _SATURATED}
    handles = [Patch(facecolor=color, edgecolor="0.3", label=label) for label, color in keys.items()]
    axis.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, -0.14), ncols=3, fontsize=7, frameon=False)
