"""What a procedural scene is made of, and what all that is drawn for one shares: camera, depths, sheets, light."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, exp, log, pi, sin, tan

import numpy as np
from numpy.typing import NDArray

from crosspol.synthesis.shapes import Outline, Surface
from crosspol.synthesis.textures import Sheet, Texture, paint

__all__ = [
    "NEAREST_TO_INFINITY",
    "Box",
    "Layer",
    "LayeredScene",
    "Pane",
    "Stage",
    "cover",
    "draw_layer",
    "span",
    "tilted",
]

Array = NDArray[np.float32]
Generator = np.random.Generator
Box = tuple[float, float, float, float]
SurfacePolarization = tuple[tuple[float, float, float], tuple[float, float, float]]

NEAREST_TO_INFINITY = 0.3
"""Smallest disparity, px."""
_PERSPECTIVE = (1.15, 3.0)
"""Where the disparities of a plane's ends have such a ratio, its texture recedes: below it would not show, above it the
sheet's resolution does not bear it."""

# Shares of surfaces that polarize next to nothing, and that or a little; the rest polarize as glass does.
_DULL, _SATIN = 0.90, 0.985

_ZOOM = log(0.55), log(1.25)
"""Range of texels a px, as logarithms."""


@dataclass(frozen=True)
class Layer:
    """An opaque surface.

    polarization: light that it adds: S1 and S2, each as (constant, slope along x, slope along y), about `middle`.
    lamp: share of its light that keeps the horizontal polarization of the lamp (crossed rigs), in [-1, 1].
    """

    outline: Outline
    surface: Surface
    span: tuple[float, float]
    texture: Texture
    polarization: SurfacePolarization = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    middle: tuple[float, float] = (0.0, 0.0)
    lamp: float = 0.0


@dataclass(frozen=True)
class Pane:
    """A glass pane: transmits what is behind, reflects a virtual image that lies deeper than the pane.

    normal: unit normal in camera axes (right, down, forward).
    tint: transmitted share by color. mirrored, mirrored_surface: image and plane of the virtual image.
    mirrored_polarization: (S1, S2) / S0 of the mirrored light. dirt: light that the pane's own surface scatters.
    """

    outline: Outline
    surface: Surface
    span: tuple[float, float]
    normal: tuple[float, float, float]
    tint: tuple[float, float, float]
    mirrored: Texture
    mirrored_surface: Surface
    mirrored_polarization: tuple[float, float] = (0.0, 0.0)
    dirt: Texture | None = None
    eta: float = 1.5


@dataclass(frozen=True)
class LayeredScene:
    """Surfaces from back to front; focal length and principal point, px, the same for both views."""

    surfaces: tuple[Layer | Pane, ...]
    focal: float
    center: tuple[float, float]


@dataclass(frozen=True)
class Depths:
    """Ranges that the distances of a scene are drawn from.

    nearest: disparity of the nearest object, as shares of the largest: from short baselines to long ones.
    farthest: disparity of what is farthest, as shares of the nearest's; 0 to 0: mostly near infinity, half at most.
    openings: where panes stand, from the farthest (0) to the nearest (1).
    focal: focal lengths, in widths.
    """

    nearest: tuple[float, float] = (0.1, 1.0)
    farthest: tuple[float, float] = (0.0, 0.0)
    openings: tuple[float, float] = (0.65, 1.0)
    focal: tuple[float, float] = (0.5, 2.0)


@dataclass(frozen=True)
class Stage:
    """What all draws of one scene share.

    height, width: px. focal: px. farthest, nearest: disparities, px, between which most of the scene is.
    largest: disparity, px, that nothing exceeds. unevenness: of the light, standard deviation of its logarithm.
    lamp: a horizontally polarized lamp shines. sheets: what surfaces are covered with.
    openings: where panes stand, from the farthest (0) to the nearest (1).
    """

    height: int
    width: int
    focal: float
    nearest: float
    farthest: float
    largest: float
    unevenness: float
    lamp: bool
    sheets: tuple[Sheet, ...]
    openings: tuple[float, float] = Depths.openings

    @property
    def center(self) -> tuple[float, float]:
        """Principal point, px."""
        return (self.width - 1) / 2, (self.height - 1) / 2

    def depth(self, share: float) -> float:
        """The disparity, px, at a share of the way from the farthest (0) to the nearest (1)."""
        return self.farthest + (self.nearest - self.farthest) * share

    def visible(self, box: Box) -> Box:
        """The part of a box that a view can see, left px: the right view sees past the left one's right edge."""
        x_min, y_min, x_max, y_max = box
        right, bottom = self.width + min(1.2 * self.nearest, self.largest), float(self.height)
        seen = max(x_min, -1.0), max(y_min, -1.0), min(x_max, right), min(y_max, bottom)
        return (
            min(seen[0], right - 1),
            min(seen[1], bottom - 1),
            max(seen[2], seen[0] + 1),
            max(seen[3], seen[1] + 1),
        )

    def within(
        self, surface: Surface, box: Box, low: float = NEAREST_TO_INFINITY, high: float | None = None
    ) -> Surface:
        """The surface, flattened and moved: over the visible part of `box` disparity is in [low, largest], px.

        It does not fold over either.
        """
        high = self.largest
        seen = self.visible(box)
        least, most = span(surface, seen)
        reach = max(abs(seen[0] - surface.x0), abs(seen[2] - surface.x0))
        steepest = abs(surface.slope_x) + 2 * abs(surface.bend_x) * reach
        shrink = min(1.0, 0.9 * (high - low) / max(most - least, 1e-6), 0.6 / max(steepest, 1e-6))
        offset = surface.offset
        least, most = offset + shrink * (least - offset), offset + shrink * (most - offset)
        offset += max(low - least, 0.0) - max(most - high, 0.0)
        return Surface(
            surface.x0,
            surface.y0,
            offset,
            shrink * surface.slope_x,
            shrink * surface.slope_y,
            shrink * surface.bend_x,
            shrink * surface.bend_y,
        )

    def sheet(self, rng: Generator) -> Sheet:
        """One of the sheets."""
        return self.sheets[int(rng.integers(len(self.sheets)))]


def tilted(stage: Stage, x: float, y: float, disparity: float, tilt: float, azimuth: float) -> Surface:
    """The plane at (x, y, disparity) whose normal is `tilt` radians away from the optical axis."""
    # A plane n . X = c has a disparity whose gradient is n_x, n_y over n . ray, times d over f.
    right, down = tan(tilt) * cos(azimuth), tan(tilt) * sin(azimuth)
    toward = 1 + (right * (x - stage.center[0]) + down * (y - stage.center[1])) / stage.focal
    scale = disparity / stage.focal / max(toward, 0.3)
    return Surface(x, y, disparity, min(max(scale * right, -0.5), 0.5), min(max(scale * down, -0.8), 0.8))


def span(surface: Surface, box: Box) -> tuple[float, float]:
    """Smallest and largest disparity, px, over a box."""
    if surface.flat:
        ends = [surface.at(x, y) for x in (box[0], box[2]) for y in (box[1], box[3])]
        return min(ends), max(ends)
    x = np.linspace(box[0], box[2], 9, dtype=np.float32)[None, :]
    y = np.linspace(box[1], box[3], 9, dtype=np.float32)[:, None]
    disparity = surface.disparity(x, y)
    return float(disparity.min()), float(disparity.max())


def draw_layer(rng: Generator, stage: Stage, outline: Outline, surface: Surface) -> Layer:
    """Draw texture, light and polarization of a surface."""
    seen = stage.visible(outline.box)
    light = exp(rng.normal(0, stage.unevenness))
    texture = cover(rng, stage, seen, surface, stage.sheet(rng), paint(rng, light))
    x, y = (seen[0] + seen[2]) / 2, (seen[1] + seen[3]) / 2
    # Most things shine a little, some (varnish, plastic, leather, wet ground) as much as glass or more.
    kind = rng.random()
    degree = (
        abs(rng.normal(0, 0.012))
        if kind < _DULL
        else rng.uniform(0.02, 0.1)
        if kind < _SATIN
        else rng.uniform(0.12, 0.4)
    )
    radiance = float(texture.colors[:, 64:192:16].mean()) * degree / (1 - degree)
    angle = rng.uniform(0, 2 * pi)
    drift = [0.0] * 4
    if kind > _DULL:
        reach = max(seen[2] - seen[0], seen[3] - seen[1], 8.0) / 2
        drift = (rng.normal(0, 0.5, 4) * radiance / reach).tolist()
    polarization = ((radiance * cos(angle), drift[0], drift[1]), (radiance * sin(angle), drift[2], drift[3]))
    # Rough surfaces depolarize the lamp's light, smooth ones keep some of it, and some turn it.
    kept = rng.normal(0.02, 0.04) if rng.random() < 0.75 else rng.normal(0.1, 0.2)
    lamp = min(max(float(kept), -0.3), 0.8) if stage.lamp else 0.0
    return Layer(outline, surface, span(surface, seen), texture, polarization, (x, y), lamp)


def cover(rng: Generator, stage: Stage, seen: Box, surface: Surface, sheet: Sheet, colors: Array) -> Texture:
    """A sheet laid on the visible part of a surface at a random place, turned, mirrored and enlarged."""
    x, y = (seen[0] + seen[2]) / 2, (seen[1] + seen[3]) / 2
    low, high = span(surface, seen)
    zoom = exp(rng.uniform(*_ZOOM))
    turn = rng.normal(0, 0.08) + pi / 2 * int(4 * rng.random()) if rng.random() < 0.6 else rng.uniform(0, 2 * pi)
    cosine, sine, mirror = zoom * cos(turn), zoom * sin(turn), 1 if rng.random() < 0.5 else -1
    at = rng.random(2) * sheet.shape[1::-1]
    place = np.array([[mirror * cosine, -mirror * sine, at[0]], [sine, cosine, at[1]], [0, 0, 1]])
    ahead = np.array([[1.0, 0, -x], [0, 1, -y], [0, 0, 1]])
    if surface.flat and low > 0 and _PERSPECTIVE[0] < high / low < _PERSPECTIVE[1]:
        # Lengths on the plane are px over disparity. At the far end the sheet is as fine as elsewhere at most.
        middle = surface.at(x, y)
        reference = max(1.6 * low * low / middle, 0.1)
        at_zero = surface.offset - surface.slope_x * surface.x0 - surface.slope_y * surface.y0
        ahead[2] = np.array([surface.slope_x, surface.slope_y, at_zero]) / reference
    return Texture(sheet, colors, place @ ahead)
