"""Both views of a layered scene, its disparity and its occlusion, from closed forms."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crosspol.synthesis.panes import pane_optics, reflected, transmitted
from crosspol.synthesis.shapes import Surface
from crosspol.synthesis.stage import Layer, LayeredScene, Pane
from crosspol.synthesis.textures import Sheet, Texture

__all__ = ["RenderedView", "occlusion", "render_view"]

Array = NDArray[np.float32]
Side = Literal["left", "right"]

# Two disparities of one surface, computed in different ways, differ by rounding; an occluder is nearer by more (px).
_NEARER = 0.01


@dataclass(frozen=True)
class RenderedView:
    """Linear light and geometry of one view.

    rgb: (3, H, W), linear radiance S0 by color; its mean over colors is the S0 that s1 and s2 belong to.
    s1, s2: (H, W), linear, S1 > 0 horizontal, S2 > 0 toward the upper right.
    disparity: (H, W), px, first surface at the pixel center. background: (H, W), px, the same without glass.
    glass: (H, W), the first surface is glass.
    """

    rgb: Array
    s1: Array
    s2: Array
    disparity: Array
    background: Array
    glass: NDArray[np.bool_]


def render_view(scene: LayeredScene, size: tuple[int, int], side: Side) -> RenderedView:
    """Paint the surfaces back to front, each where it is nearer than what is there; border pixels are mixed by area."""
    disparity, glass = np.zeros(size, np.float32), np.zeros(size, bool)
    # Without glass, from the first pane on: until then it is the disparity.
    background: Array | None = None
    pieces = []
    for item in scene.surfaces:
        piece = _piece(item, size, side, disparity)
        if piece is None:
            continue
        pieces.append(piece)
        covered, window = piece.share >= 0.5, (piece.rows, piece.columns)
        if isinstance(item, Pane):
            background = disparity.copy() if background is None else background
            glass[window] |= covered
        elif background is not None:
            np.copyto(background[window], piece.here.disparity, where=covered)
            glass[window] &= ~covered
        np.copyto(disparity[window], piece.here.disparity, where=covered)
    # Red, green, blue, S1, S2.
    light = np.zeros((5, *size), np.float32)
    for number, piece in enumerate(_uncovered(pieces, size)):
        behind = light[:, piece.rows, piece.columns]
        if isinstance(piece.item, Layer):
            new = _layer_light(piece.item, piece)
        else:
            new = _pane_light(piece.item, scene, behind, piece)
        if number == 0 and piece.share.min() == 1:
            behind[:] = new
            continue
        new -= behind
        new *= piece.share
        behind += new
    background = disparity.copy() if background is None else background
    return RenderedView(light[:3], light[3], light[4], disparity, background, glass)


def occlusion(scene: LayeredScene, disparity: Array) -> NDArray[np.bool_]:
    """Left pixels (H, W) that the right view does not see: another surface is nearer there, or they are out of frame.

    disparity: (H, W), px, first surface of the left view. A pane hides what is behind it like any other.
    Every surface is asked at the exact place x - d of the right view, so nothing is rasterised.
    """
    height, width = disparity.shape
    right_x = np.arange(width, dtype=np.float32)[None, :] - disparity
    hidden: NDArray[np.bool_] = (right_x < -0.5) | (right_x > width - 0.5)
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


@dataclass(frozen=True)
class _Piece:
    """What a view sees of a surface: the window that holds it, and how much of every pixel there it covers, (h, w)."""

    item: Layer | Pane
    rows: slice
    columns: slice
    share: Array
    here: _Points

    def cut(self, rows: slice, columns: slice) -> _Piece:
        """A part of it; rows and columns count from its own first ones."""
        window = _within(self.rows, rows), _within(self.columns, columns)
        return _Piece(self.item, *window, self.share[rows, columns], self.here.cut(rows, columns))


def _piece(item: Layer | Pane, size: tuple[int, int], side: Side, first: Array) -> _Piece | None:
    """What is seen of a surface before what has disparity `first` (H, W); None: nothing."""
    rows, columns = _window(item, size, side)
    if rows.start == rows.stop or columns.start == columns.stop:
        return None
    x = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :]
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
    if side == "left":
        here = _Points(x, y, x, item.surface.disparity(x, y), side)
    else:
        left_x = item.surface.left_x(x, y)
        here = _Points(x, y, left_x, left_x - x, side)
    share = item.outline.distance(here.left_x, here.y) + np.float32(0.5)
    share = np.clip(share, 0, 1, out=share) * (here.disparity > first[rows, columns])
    seen = _bounds(share > 0)
    return None if seen is None else _Piece(item, rows, columns, share, here).cut(*seen)


def _uncovered(pieces: list[_Piece], size: tuple[int, int]) -> list[_Piece]:
    """The pieces, cut to where no opaque one is painted over them: light that nobody sees is not computed."""
    left = np.ones(size, bool)
    kept = []
    for piece in reversed(pieces):
        window = (piece.rows, piece.columns)
        seen = _bounds((piece.share > 0) & left[window])
        if seen is None:
            continue
        kept.append(piece.cut(*seen))
        if isinstance(piece.item, Layer):
            left[window] &= piece.share < 1
    return kept[::-1]


def _bounds(mask: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    """Rows and columns outside of which `mask` is false; None if it is false everywhere."""
    import cv2

    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return (slice(top, top + height), slice(left, left + width)) if width else None


def _within(outer: slice, inner: slice) -> slice:
    return slice(outer.start + inner.start, outer.start + inner.stop)


def _texels(texture: Texture, surface: Surface, piece: _Piece) -> Sheet:
    """What is seen of a texture on a surface, in the window of a piece of a scene."""
    if not surface.flat:
        return texture.at(np.broadcast_to(piece.here.left_x, piece.share.shape), piece.here.y)
    to_left = np.eye(3) if piece.here.side == "left" else surface.from_right()
    return texture.on_plane(to_left, piece.rows, piece.columns)


def _layer_light(layer: Layer, piece: _Piece) -> Array:
    """Red, green, blue, S1, S2 (5, h, w) of an opaque surface."""
    light = np.empty((5, *piece.share.shape), np.float32)
    texels = _texels(layer.texture, layer.surface, piece)
    (first, *slopes_1), (second, *slopes_2) = layer.polarization
    # The gloss is added to what the surface scatters: dark surfaces are polarized more, as in nature.
    if any(slopes_1) or any(slopes_2):
        across, down = (
            part - np.float32(at) for part, at in zip((piece.here.left_x, piece.here.y), layer.middle, strict=True)
        )
        for plane, (at, right, below) in zip(light[3:], layer.polarization, strict=True):
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


def _pane_light(pane: Pane, scene: LayeredScene, behind: Array, piece: _Piece) -> Array:
    """Red, green, blue, S1, S2 (5, h, w) of a pane before light (5, h, w)."""
    x, y = piece.here.x - np.float32(scene.center[0]), piece.here.y - np.float32(scene.center[1])
    optics = pane_optics(pane.normal, x, y, scene.focal, pane.eta)
    rgb, s1, s2 = behind[:3], behind[3], behind[4]
    mirror = pane.mirrored.light(_texels(pane.mirrored, pane.mirrored_surface, piece))
    tinted = rgb * np.array(pane.tint, np.float32)[:, None, None]
    mean, tinted_mean, mirror_mean = (colors.mean(axis=0) + np.float32(1e-9) for colors in (rgb, tinted, mirror))
    toned = tinted_mean / mean
    through = transmitted(optics, (tinted_mean, s1 * toned, s2 * toned))
    share_1, share_2 = pane.mirrored_polarization
    back = reflected(optics, (mirror_mean, np.float32(share_1) * mirror_mean, np.float32(share_2) * mirror_mean))
    light = np.empty(behind.shape, np.float32)
    light[:3] = tinted * (through[0] / tinted_mean) + mirror * (back[0] / mirror_mean)
    if pane.dirt is not None:
        light[:3] += pane.dirt.light(_texels(pane.dirt, pane.surface, piece))
    light[3], light[4] = through[1] + back[1], through[2] + back[2]
    return light


def _window(item: Layer | Pane, size: tuple[int, int], side: Side) -> tuple[slice, slice]:
    """Rows and columns of a view that an outline's box can reach."""
    x_min, y_min, x_max, y_max = item.outline.box
    if side == "right":
        x_min, x_max = x_min - item.span[1] - 1, x_max - item.span[0] + 1
    return _clipped(y_min, y_max, size[0]), _clipped(x_min, x_max, size[1])


def _clipped(low: float, high: float, count: int) -> slice:
    start, stop = max(floor(max(low, -1.0)), 0), min(ceil(min(high, float(count))) + 1, count)
    return slice(start, max(start, stop))
