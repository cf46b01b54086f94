"""Division-of-focal-plane sensors: sampling and demosaicing of their mosaics.

A monochrome sensor repeats a 2x2 block of polarizers, one at each of 0, 45, 90 and 135 degrees. A color sensor places
that block inside each cell of a Bayer pattern, which makes a period of 4x4. A layout is written as it lies on the
sensor, top row first, in degrees; `SONY_LAYOUT` is that of the Sony IMX250MZR and, with `bayer="RGGB"`, IMX250MYR.

Both steps of demosaicing, color then polarization, separate four images from a 2x2 mosaic, and both do it the same
way. With signs v = +1, -1, ... down the rows and h = +1, -1, ... along the columns, the mosaic is a sum

    raw = mean + v * a + h * b + v * h * c

of the mean of the four images and three differences between them, each shifted to a spatial frequency of its own, and
the image at (row, column) of the block is mean +- a +- b +- c. What tells the methods apart is how smooth a, b and c
are taken to be; the mean is what is left of `raw`, so every sample keeps its value at its own pixel and angle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

__all__ = [
    "SONY_LAYOUT",
    "DemosaicMethod",
    "Layout",
    "bin_mosaic",
    "binned_side",
    "demosaic",
    "demosaic_reach",
    "mosaic",
]

Layout = Sequence[Sequence[int]]
DemosaicMethod = Literal["bilinear", "edge-aware"]

SONY_LAYOUT: Layout = ((90, 45), (135, 0))

_ANGLES = (0, 45, 90, 135)
_BLOCK = ((0, 0), (0, 1), (1, 0), (1, 1))
_BAYER = ("RGGB", "BGGR", "GRBG", "GBRG")

# Relative slope of the intensity (change per pixel over the local mean) at which a pixel's estimate of the differences
# counts 1 / sqrt(2). From 0.05 to 0.2 the error moves by less than 0.4 dB, on procedural and on real images.
_EDGE_SLOPE = 0.1


def mosaic(
    i0: Tensor, i45: Tensor, i90: Tensor, i135: Tensor, *, layout: Layout = SONY_LAYOUT, bayer: str | None = None
) -> Tensor:
    """Sample four full images as a division-of-focal-plane sensor does: the inverse of `demosaic`.

    Args:
        i0, i45, i90, i135: (..., H, W), or (..., 3, H, W) RGB where `bayer` is given; all of one shape.
        layout: 2x2 angles in degrees, top row first.
        bayer: colors of the 2x2 Bayer cell, left to right and top row first, such as "RGGB"; None for a mono sensor.

    Returns:
        (..., H, W), the raw frame.

    Raises:
        ValueError: a layout or Bayer pattern that does not exist, images that differ in shape, or are too small.
    """
    angles = checked_layout(layout)
    cell = None if bayer is None else _checked_bayer(bayer)
    images = {0: i0, 45: i45, 90: i90, 135: i135}
    for angle, image in images.items():
        _check_frame(f"i{angle}", image, minimum=2 if cell is None else 4)
        if image.shape != i0.shape:
            raise ValueError(f"i{angle} is {tuple(image.shape)} and i0 is {tuple(i0.shape)}; wanted one shape")
    if cell is not None and (i0.ndim < 3 or i0.shape[-3] != 3):
        raise ValueError(
            f"i0 is {tuple(i0.shape)}; wanted (..., 3, H, W), RGB, for a sensor with Bayer pattern {bayer}"
        )

    raw = torch.empty_like(i0 if cell is None else i0[..., 0, :, :])
    for (row, column), angle in zip(_BLOCK, angles, strict=True):
        if cell is None:
            raw[..., row::2, column::2] = images[angle][..., row::2, column::2]
            continue
        for (cell_row, cell_column), color in zip(_BLOCK, cell, strict=True):
            pixels = (..., slice(row + 2 * cell_row, None, 4), slice(column + 2 * cell_column, None, 4))
            raw[pixels] = images[angle][..., "RGB".index(color), :, :][pixels]
    return raw


def demosaic(
    raw: Tensor, layout: Layout = SONY_LAYOUT, bayer: str | None = None, method: DemosaicMethod = "edge-aware"
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four full images, one an angle, from a raw division-of-focal-plane frame.

    All four lie on the pixel grid of `raw`, not on grids half a pixel apart: a linear ramp comes out as the same ramp
    in each. Nothing is rounded or clamped. At the border of the frame the mosaic is continued by reflection.

    Args:
        raw: (..., H, W), linear intensities in any unit, floating point; at least 2x2, with `bayer` 4x4. A frame that
            was cropped at an odd row or column needs the layout that its own first pixels have.
        layout: 2x2 angles in degrees, top row first.
        bayer: colors of the 2x2 Bayer cell, left to right and top row first, such as "RGGB"; None for a mono sensor.
        method: "bilinear", or "edge-aware", which takes the differences between the angles (between the colors) to be
            smoother than the intensity and takes them from where the intensity has no edge. Its error is 4 to 11 dB
            smaller at edges and texture of the intensity, and 1 dB larger where polarization alone has an edge
            (mono; benchmarks/demosaic.py).

    Returns:
        (i0, i45, i90, i135), each (..., H, W) from a mono sensor and (..., 3, H, W), RGB, from a color sensor.

    Raises:
        ValueError: a layout, Bayer pattern or method that does not exist, or a frame that is too small or not floating
            point.

    Source: the sum of shifted differences is Tyo, LaCasse and Ratliff, Optics Letters 34, 3187 (2009); for how strongly
    the angles' images correlate see Mihoubi, Lapray and Bigue, Sensors 18, 3688 (2018); the weights are our own.
    """
    angles = checked_layout(layout)
    if method not in ("bilinear", "edge-aware"):
        raise ValueError(f"method is {method!r}; wanted 'bilinear' or 'edge-aware'")
    _check_frame("raw", raw, minimum=2 if bayer is None else 4)
    flat = raw if bayer is None else _full_color(raw, _checked_bayer(bayer), method)
    by_angle = dict(zip(angles, _unmix(flat, method), strict=True))
    return by_angle[0], by_angle[45], by_angle[90], by_angle[135]


def bin_mosaic(
    raw: Tensor, layout: Layout = SONY_LAYOUT, bayer: str | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One pixel for each period of the mosaic, from its own samples alone: nothing is interpolated.

    What demosaicing adds to that is a guess from neighbors; what it cannot undo is here too: the angles of a period
    look at places a pixel apart, so that edges of the intensity show some polarization.

    Args:
        raw: (..., H, W), linear intensities, floating point, at least one period; what is left over at the right and at
            the bottom is cut off.
        layout: 2x2 angles in degrees, top row first.
        bayer: as in `demosaic`; a color sensor's period is 4x4, of which each polarizer has R, B and the mean of two G.

    Returns:
        (i0, i45, i90, i135), each (..., H // 2, W // 2) from a mono sensor and (..., 3, H // 4, W // 4) from a color
        sensor.

    Raises:
        ValueError: a layout or Bayer pattern that does not exist, or a frame that is too small or not floating point.
    """
    angles = checked_layout(layout)
    side = binned_side(bayer)
    cell = None if bayer is None else _checked_bayer(bayer)
    _check_frame("raw", raw, minimum=side)
    height, width = (length // side * side for length in raw.shape[-2:])
    by_angle = {}
    for (row, column), angle in zip(_BLOCK, angles, strict=True):
        if cell is None:
            by_angle[angle] = raw[..., row:height:2, column:width:2]
            continue
        samples: dict[str, list[Tensor]] = {"R": [], "G": [], "B": []}
        for (cell_row, cell_column), letter in zip(_BLOCK, cell, strict=True):
            samples[letter].append(raw[..., row + 2 * cell_row : height : 4, column + 2 * cell_column : width : 4])
        by_angle[angle] = torch.stack([torch.stack(planes).mean(dim=0) for planes in samples.values()], dim=-3)
    return by_angle[0], by_angle[45], by_angle[90], by_angle[135]


def binned_side(bayer: str | None = None) -> int:
    """Side of the mosaic's period, px: what `bin_mosaic` makes one pixel of."""
    return 2 if bayer is None else 4


def demosaic_reach(method: DemosaicMethod = "edge-aware", bayer: str | None = None) -> int:
    """How far, in pixels along each axis, a sample of the mosaic can influence the images of `demosaic`."""
    one_step = 1 if method == "bilinear" else 2
    # The color step works on every second pixel, so that its reach counts twice.
    return one_step if bayer is None else 3 * one_step


def _full_color(raw: Tensor, cell: str, method: DemosaicMethod) -> Tensor:
    """(..., H, W) to (..., 3, H, W): RGB at every pixel, still one polarizer angle each."""
    color = raw.new_empty((*raw.shape[:-2], 3, *raw.shape[-2:]))
    for row, column in _BLOCK:
        # Pixels behind one polarizer angle form an ordinary Bayer image of their own.
        planes = _unmix(raw[..., row::2, column::2], method)
        red, blue = planes[cell.index("R")], planes[cell.index("B")]
        greens = [plane for plane, letter in zip(planes, cell, strict=True) if letter == "G"]
        green = (greens[0] + greens[1]) / 2
        for (cell_row, cell_column), letter, plane in zip(_BLOCK, cell, planes, strict=True):
            if letter == "G":
                pixels = (..., slice(cell_row, None, 2), slice(cell_column, None, 2))
                green[pixels] = plane[pixels]
        color[..., row::2, column::2] = torch.stack([red, green, blue], dim=-3)
    return color


def _unmix(raw: Tensor, method: DemosaicMethod) -> list[Tensor]:
    """The four images (..., H, W) behind a 2x2 mosaic, in the order of `_BLOCK`."""
    height, width = raw.shape[-2:]
    v = (1 - 2 * (torch.arange(height, device=raw.device) % 2)).to(raw.dtype).unsqueeze(-1)
    h = (1 - 2 * (torch.arange(width, device=raw.device) % 2)).to(raw.dtype)

    smooth_rows = _smooth(raw, -2)
    mean = _smooth(smooth_rows, -1)
    rest = raw - smooth_rows
    smooth_rest = _smooth(rest, -1)
    # Multiplying by the signs brings each difference down to low frequencies.
    a, b, c = v * smooth_rest, h * (smooth_rows - mean), v * h * (rest - smooth_rest)
    if method == "edge-aware":
        slope_squared = _slope(smooth_rows, -1) ** 2 + _slope(_smooth(raw, -1), -2) ** 2
        # The floor, 3e-10 in float32, keeps the weights of a black area positive and their derivatives finite.
        level = mean.clamp(min=torch.finfo(raw.dtype).tiny ** 0.25)
        weight = level / torch.sqrt(level**2 + slope_squared / _EDGE_SLOPE**2)
        total = _smooth(_smooth(weight, -1), -2)
        a, b, c = (_smooth(_smooth(weight * difference, -1), -2) / total for difference in (a, b, c))
        mean = raw - v * a - h * b - v * h * c
    return [mean + (1 - 2 * row) * a + (1 - 2 * column) * b + (1 - 2 * (row ^ column)) * c for row, column in _BLOCK]


def _smooth(x: Tensor, dim: int) -> Tensor:
    """(1, 2, 1) / 4 along an axis: it passes what is constant and stops what alternates."""
    before, after = _neighbors(x, dim)
    return x / 2 + (before + after) / 4


def _slope(x: Tensor, dim: int) -> Tensor:
    """Central difference, change a pixel: blind, like `_smooth`, to what alternates."""
    before, after = _neighbors(x, dim)
    return (after - before) / 2


def _neighbors(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The image one pixel earlier and one pixel later; reflection about the border pixel keeps the mosaic's phase."""
    size = x.shape[dim]
    first, last = x.narrow(dim, 1, 1), x.narrow(dim, size - 2, 1)
    before = torch.cat([first, x.narrow(dim, 0, size - 1)], dim)
    after = torch.cat([x.narrow(dim, 1, size - 1), last], dim)
    return before, after


def checked_layout(layout: Layout) -> list[int]:
    """The four angles of a layout as a list, row by row; ValueError where it is not a layout."""
    rows = [list(row) for row in layout]
    angles = [angle for row in rows for angle in row]
    if [len(row) for row in rows] != [2, 2] or sorted(angles) != list(_ANGLES):
        raise ValueError(f"layout is {rows}; wanted 0, 45, 90 and 135 in two rows of two")
    return angles


def _checked_bayer(bayer: str) -> str:
    if bayer not in _BAYER:
        raise ValueError(f"bayer is {bayer!r}; wanted one of {', '.join(_BAYER)}, or None for a mono sensor")
    return bayer


def _check_frame(name: str, frame: Tensor, minimum: int) -> None:
    if not isinstance(frame, Tensor) or not frame.is_floating_point():
        found = frame.dtype if isinstance(frame, Tensor) else type(frame).__name__
        raise ValueError(f"{name} is {found}; wanted a floating-point tensor, linear and scaled by the white level")
    if frame.ndim < 2 or min(frame.shape[-2:]) < minimum:
        raise ValueError(f"{name} is {tuple(frame.shape)}; wanted (..., H, W) with H and W at least {minimum}")
