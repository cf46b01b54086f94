"""Both views of a layered scene, its disparity and its occlusion, from closed forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crosspol.data.panes import pane_optics, reflected, transmitted
from crosspol.data.shapes import Surface
from crosspol.data.stage import Layer, Pane, Scene
from crosspol.data.textures import Sheet, Texture

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
    # Red, green, blue, S1, S2.
    light = np.zeros((5, *size), np.float32)
    disparity, glass = np.zeros(size, np.float32), np.zeros(size, bool)
    # Without glass, from the first pane on: until then it is the disparity.
    background: Array | None = None
    for item in scene.surfaces:
        window = _window(item, size, side)
        if window[0].start == window[0].stop or window[1].start == window[1].stop:
            continue
        here = _points(item, *window, side)
        share = _share(item, here, disparity[window])
        seen = _bounds(share)
        if seen is None:
            continue
        # From here on only where it shows: most of a floor or a wall is hidden.
        rows, columns = _within(window[0], seen[0]), _within(window[1], seen[1])
        share, here = share[seen], here.cut(*seen)
        behind, covered = light[:, rows, columns], share >= 0.5
        if isinstance(item, Layer):
            new = _layer_light(item, here, rows, columns)
            if background is not None:
                np.copyto(background[rows, columns], here.disparity, where=covered)
                glass[rows, columns] &= ~covered
        else:
            new = _pane_light(item, scene, behind, here, rows, columns)
            background = disparity.copy() if background is None else background
            glass[rows, columns] |= covered
        np.copyto(disparity[rows, columns], here.disparity, where=covered)
        new -= behind
        new *= share
        behind += new
    return View(light[:3], light[3], light[4], disparity, disparity if background is None else background, glass)


def occlusion(scene: Scene, disparity: Array) -> NDArray[np.bool_]:
    """Left pixels (H, W) that the right view does not see: another surface is nearer there, or they are out of frame.

    disparity: (H, W), px, first surface of the left view. A pane hides what is behind it like any other.
    Every surface is asked at the exact place x - d of the right view, so nothing is rasterised.
    """
    height, width = disparity.shape
    right_x = np.arange(width, dtype=np.float32)[None, :] - disparity
    hidden = (right_x < -0.5) | (right_x > width - 0.5)
    least, most = float(disparity.min()), float(disparity.max())
    for item in scene.surfaces:
        rows, columns = _window(item, (height, width), "right")
        if rows.start >= rows.stop or columns.start >= columns.stop or item.span[1] <= least:
            continue
        # Whatever lies in these columns of the right view.
        columns = _clipped(columns.start + least - 1, columns.stop + most + 1, width)
        y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
        place = right_x[rows, columns]
        left_x = item.surface.left_x(place, y)
        nearer = left_x - place > disparity[rows, columns] + np.float32(_NEARER)
        if nearer.any():
            hidden[rows, columns] |= nearer & (item.outline.distance(left_x, y) >= 0)
    return hidden


@dataclass(frozen=True)
class _Points:
    """Pixels x (1, w), y (h, 1) of a window, and left column and disparity, up to (h, w), of the points seen there."""

    x: Array
    y: Array
    left_x: Array
    disparity: Array
    side: Side

    def cut(self, rows: slice, columns: slice) -> _Points:
        """A smaller window."""
        left_x = self.left_x[:, columns] if len(self.left_x) == 1 else self.left_x[rows, columns]
        return _Points(self.x[:, columns], self.y[rows], left_x, self.disparity[rows, columns], self.side)


def _points(item: Layer | Pane, rows: slice, columns: slice, side: Side) -> _Points:
    x = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :]
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
    if side == "left":
        return _Points(x, y, x, item.surface.disparity(x, y), side)
    left_x = item.surface.left_x(x, y)
    return _Points(x, y, left_x, left_x - x, side)


def _share(item: Layer | Pane, here: _Points, first: Array) -> Array:
    """Share of each pixel that a surface covers and is nearest in."""
    share = item.outline.distance(here.left_x, here.y) + np.float32(0.5)
    np.clip(share, 0, 1, out=share)
    share *= here.disparity > first
    return share


def _bounds(share: Array) -> tuple[slice, slice] | None:
    """Rows and columns outside of which `share` is 0; None if it is 0 everywhere."""
    import cv2

    left, top, width, height = cv2.boundingRect((share > 0).view(np.uint8))
    return (slice(top, top + height), slice(left, left + width)) if width else None


def _within(outer: slice, inner: slice) -> slice:
    return slice(outer.start + inner.start, outer.start + inner.stop)


def _texels(texture: Texture, surface: Surface, here: _Points, rows: slice, columns: slice) -> Sheet:
    """What of a texture is seen in a window."""
    if not surface.flat:
        return texture.at(np.broadcast_to(here.left_x, here.disparity.shape), here.y)
    return texture.on_plane(np.eye(3) if here.side == "left" else surface.from_right(), rows, columns)


def _layer_light(layer: Layer, here: _Points, rows: slice, columns: slice) -> Array:
    """Red, green, blue, S1, S2 (5, h, w) of an opaque surface."""
    light = np.empty((5, *here.disparity.shape), np.float32)
    texels = _texels(layer.texture, layer.surface, here, rows, columns)
    (first, *slopes_1), (second, *slopes_2) = layer.coat
    # The coat's gloss is added to what the surface scatters: dark surfaces are polarized more, as in nature.
    if any(slopes_1) or any(slopes_2):
        across, down = here.left_x - np.float32(layer.middle[0]), here.y - np.float32(layer.middle[1])
        for plane, (at, right, below) in zip(light[3:], layer.coat, strict=True):
            np.add(np.float32(right) * across, np.float32(below) * down + np.float32(at), out=plane)
        layer.texture.light(texels, out=light[:3])
        light[:3] += np.sqrt(light[3] * light[3] + light[4] * light[4])
    else:
        layer.texture.light(texels, float(np.hypot(first, second)), out=light[:3])
        light[3], light[4] = first, second
    if layer.lamp:
        kept = 1 - np.abs(np.float32(layer.lamp))
        light[3:] *= kept
        light[3] += np.float32(layer.lamp) * light[:3].mean(axis=0)
    return light


def _pane_light(pane: Pane, scene: Scene, behind: Array, here: _Points, rows: slice, columns: slice) -> Array:
    """Red, green, blue, S1, S2 (5, h, w) of a pane before light (5, h, w)."""
    x, y = here.x - np.float32(scene.centre[0]), here.y - np.float32(scene.centre[1])
    optics = pane_optics(pane.normal, x, y, scene.focal, pane.eta)
    rgb, s1, s2 = behind[:3], behind[3], behind[4]
    mirrored_x = here.x if here.side == "left" else pane.mirrored_surface.left_x(here.x, here.y)
    deeper = _Points(here.x, here.y, mirrored_x, here.disparity, here.side)
    mirror = pane.mirrored.light(_texels(pane.mirrored, pane.mirrored_surface, deeper, rows, columns))
    tinted = rgb * np.array(pane.tint, np.float32)[:, None, None]
    mean, tinted_mean, mirror_mean = (colors.mean(axis=0) + np.float32(1e-9) for colors in (rgb, tinted, mirror))
    toned = tinted_mean / mean
    through = transmitted(optics, (tinted_mean, s1 * toned, s2 * toned))
    share_1, share_2 = pane.mirrored_polarization
    back = reflected(optics, (mirror_mean, np.float32(share_1) * mirror_mean, np.float32(share_2) * mirror_mean))
    light = np.empty(behind.shape, np.float32)
    light[:3] = tinted * (through[0] / tinted_mean) + mirror * (back[0] / mirror_mean)
    if pane.dirt is not None:
        light[:3] += pane.dirt.light(_texels(pane.dirt, pane.surface, here, rows, columns))
    light[3], light[4] = through[1] + back[1], through[2] + back[2]
    return light


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
