"""Both views of a layered scene, its disparity and its occlusion, from closed forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crosspol.data.panes import pane_optics, reflected, transmitted
from crosspol.data.scenes import Layer, Pane, Scene

__all__ = ["View", "occlusion", "render_view"]

Array = NDArray[np.float32]
Side = Literal["left", "right"]

# Two disparities of one surface, computed in different ways, differ by rounding; an occluder is nearer by more (px).
_NEARER = 0.01


@dataclass(frozen=True)
class View:
    """Linear light and geometry of one view.

    rgb: (3, H, W), linear radiance S0 by colour; its mean over colours is the S0 that s1 and s2 belong to.
    s1, s2: (H, W), linear, S1 > 0 horizontal, S2 > 0 toward the upper right.
    disparity: (H, W), px, first surface at the pixel centre. background: (H, W), px, the same without glass.
    glass: (H, W), the first surface is glass.
    """

    rgb: Array
    s1: Array
    s2: Array
    disparity: Array
    background: Array
    glass: NDArray[np.bool_]


def render_view(scene: Scene, size: tuple[int, int], side: Side) -> View:
    """Paint the surfaces back to front, each where it is nearer than what is there; border pixels are mixed by area."""
    height, width = size
    rgb = np.zeros((3, height, width), np.float32)
    s1, s2, disparity, background = (np.zeros(size, np.float32) for _ in range(4))
    glass = np.zeros(size, bool)
    for item in scene.surfaces:
        rows, columns = _window(item, size, side)
        x, y, left_x, here = _points(item, rows, columns, side)
        share = _share(item, left_x, y, here, disparity[rows, columns])
        seen = _bounds(share)
        if seen is None:
            continue
        # From here on only where it shows: most of a floor or a wall is hidden.
        share = share[seen]
        rows, columns = _within(rows, seen[0]), _within(columns, seen[1])
        x, y, left_x, here = _points(item, rows, columns, side)
        behind = (rgb[:, rows, columns], s1[rows, columns], s2[rows, columns])
        if isinstance(item, Layer):
            light = _layer_light(item, left_x, y, here)
        else:
            light = _pane_light(item, scene, behind, x, y, left_x, here, side)
        for old, new in zip(behind, light, strict=True):
            old += share * (new - old)
        covered = share >= 0.5
        if isinstance(item, Layer):
            np.copyto(background[rows, columns], here, where=covered)
        np.copyto(disparity[rows, columns], here, where=covered)
        np.copyto(glass[rows, columns], isinstance(item, Pane), where=covered)
    return View(rgb, s1, s2, disparity, background, glass)


def occlusion(scene: Scene, disparity: Array) -> NDArray[np.bool_]:
    """Left pixels (H, W) that the right view does not see: another surface is nearer there, or they are out of frame.

    disparity: (H, W), px, first surface of the left view. A pane hides what is behind it like any other.
    Every surface is asked at the exact place x - d of the right view, so nothing is rasterised.
    """
    height, width = disparity.shape
    right_x = np.arange(width, dtype=np.float32)[None, :] - disparity
    hidden = (right_x < -0.5) | (right_x > width - 0.5)
    for item in scene.surfaces:
        rows, _ = _window(item, (height, width), "right")
        if rows.start >= rows.stop or item.span[1] <= disparity.min():
            continue
        y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
        left_x = item.surface.left_x(right_x[rows], y)
        nearer = left_x - right_x[rows] > disparity[rows] + np.float32(_NEARER)
        if nearer.any():
            hidden[rows] |= nearer & (item.outline.distance(left_x, y) >= 0)
    return hidden


def _points(item: Layer | Pane, rows: slice, columns: slice, side: Side) -> tuple[Array, Array, Array, Array]:
    """Pixels x (1, w), y (h, 1) of a window, and left column and disparity, up to (h, w), of the points seen there."""
    x = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :]
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
    left_x = x if side == "left" else item.surface.left_x(x, y)
    return x, y, left_x, item.surface.disparity(left_x, y)


def _share(item: Layer | Pane, left_x: Array, y: Array, disparity: Array, first: Array) -> Array:
    """Share of each pixel that a surface covers and is nearest in."""
    return np.clip(item.outline.distance(left_x, y) + np.float32(0.5), 0, 1) * (disparity > first)


def _bounds(share: Array) -> tuple[slice, slice] | None:
    """Rows and columns outside of which `share` is 0; None if it is 0 everywhere."""
    if share.size == 0:
        return None
    rows, columns = np.flatnonzero(share.any(axis=1)), np.flatnonzero(share.any(axis=0))
    return (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if len(rows) else None


def _within(outer: slice, inner: slice) -> slice:
    return slice(outer.start + inner.start, outer.start + inner.stop)


def _layer_light(layer: Layer, x: Array, y: Array, disparity: Array) -> tuple[Array, Array, Array]:
    rgb = layer.texture.sample(x, y, disparity)
    across, down = x - np.float32(layer.middle[0]), y - np.float32(layer.middle[1])
    s1, s2 = (np.float32(at) + np.float32(right) * across + np.float32(below) * down for at, right, below in layer.coat)
    # The coat's gloss is added to what the surface scatters: dark surfaces are polarized more, as in nature.
    rgb += np.sqrt(s1 * s1 + s2 * s2)
    if layer.lamp:
        mean = rgb.mean(axis=0)
        kept = 1 - np.abs(np.float32(layer.lamp))
        s1, s2 = s1 * kept + np.float32(layer.lamp) * mean, s2 * kept
    return rgb, s1, s2


def _pane_light(
    pane: Pane,
    scene: Scene,
    behind: tuple[Array, Array, Array],
    x: Array,
    y: Array,
    left_x: Array,
    disparity: Array,
    side: Side,
) -> tuple[Array, Array, Array]:
    optics = pane_optics(
        pane.normal, x - np.float32(scene.centre[0]), y - np.float32(scene.centre[1]), scene.focal, pane.eta
    )
    rgb, s1, s2 = behind
    mirrored_x = x if side == "left" else pane.mirrored_surface.left_x(x, y)
    mirror = pane.mirrored.sample(mirrored_x, y, pane.mirrored_surface.disparity(mirrored_x, y))
    tinted = rgb * np.array(pane.tint, np.float32)[:, None, None]
    mean, tinted_mean, mirror_mean = (colours.mean(axis=0) + np.float32(1e-9) for colours in (rgb, tinted, mirror))
    toned = tinted_mean / mean
    through = transmitted(optics, (tinted_mean, s1 * toned, s2 * toned))
    share_1, share_2 = pane.mirrored_polarization
    back = reflected(optics, (mirror_mean, np.float32(share_1) * mirror_mean, np.float32(share_2) * mirror_mean))
    light = tinted * (through[0] / tinted_mean) + mirror * (back[0] / mirror_mean)
    if pane.dirt is not None:
        light += pane.dirt.sample(left_x, y, disparity)
    return light, through[1] + back[1], through[2] + back[2]


def _window(item: Layer | Pane, size: tuple[int, int], side: Side) -> tuple[slice, slice]:
    """Rows and columns of a view that an outline's box can reach."""
    x_min, y_min, x_max, y_max = item.outline.box
    if side == "right":
        x_min, x_max = x_min - item.span[1] - 1, x_max - item.span[0] + 1
    rows, columns = ((low, high, count) for low, high, count in ((y_min, y_max, size[0]), (x_min, x_max, size[1])))
    return _clipped(*rows), _clipped(*columns)


def _clipped(low: float, high: float, count: int) -> slice:
    start, stop = max(int(np.floor(max(low, -1.0))), 0), min(int(np.ceil(min(high, float(count)))) + 1, count)
    return slice(start, max(start, stop))
