"""Random layered scenes: what stands where, what covers it, and what glass is in front of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from crosspol.synthesis import shapes
from crosspol.synthesis.openings import draw_openings
from crosspol.synthesis.shapes import Outline, Surface
from crosspol.synthesis.stage import (
    NEAREST_TO_INFINITY,
    Box,
    Depths,
    Generator,
    Layer,
    LayeredScene,
    Pane,
    Stage,
    draw_layer,
    tilted,
)
from crosspol.synthesis.textures import Texture, sheet

__all__ = ["Layer", "LayeredScene", "Pane", "Texture", "draw_layered_scene"]

Array = NDArray[np.float32]

_SMALLEST_SHEET, _LARGEST_SHEET = 64, 512
_SHEETS = 3
_SECOND_STRUCTURE = 0.3


def draw_layered_scene(
    rng: Generator,
    size: tuple[int, int],
    max_disparity: float,
    layers: tuple[int, int] = (4, 10),
    glass_probability: float = 0.4,
    lamp: bool = False,
    opening_probability: float = 0.85,
    depths: Depths | None = None,
) -> LayeredScene:
    """A backdrop, objects in front of it and, among them, openings with or without glass.

    Args:
        rng: source of every choice.
        size: (H, W), px.
        max_disparity: px, no surface comes nearer.
        layers: fewest and most objects.
        glass_probability: share of scenes with glass.
        lamp: a horizontally polarized lamp shines (crossed rigs).
        opening_probability: share of the scenes without glass in which there are openings all the same.
        depths: where things stand; None: `Depths()`.
    """
    height, width = size
    depths = depths or Depths()
    # Log-uniform, so that far scenes and short baselines are as well covered as near ones and long ones.
    near = max(float(np.exp(rng.uniform(*np.log(depths.nearest)))) * max_disparity, 4 * NEAREST_TO_INFINITY)
    if not any(depths.farthest):
        far = NEAREST_TO_INFINITY + (0.5 * near - NEAREST_TO_INFINITY) * float(rng.beta(1.0, 5.0))
    else:
        far = max(NEAREST_TO_INFINITY, near * float(rng.uniform(*depths.farthest)))
    rows, columns = (int(np.clip(side, _SMALLEST_SHEET, _LARGEST_SHEET)) for side in (height, 0.75 * width))
    stage = Stage(
        height,
        width,
        float(np.exp(rng.uniform(*np.log(depths.focal)))) * width,
        near,
        far,
        max_disparity,
        float(rng.uniform(0.2, 0.9)),
        lamp,
        tuple(sheet(rng, (rows, columns)) for _ in range(_SHEETS)),
        depths.openings,
    )
    backdrop = _draw_backdrop(rng, stage)
    count = int(rng.integers(layers[0], layers[1] + 1))
    shares = ((np.arange(count) + rng.random(count)) / count) ** 2
    objects: list[Layer | Pane] = [_draw_object(rng, stage, float(share)) for share in shares]
    glass, open_ = rng.random() < glass_probability, rng.random() < opening_probability
    second = rng.random() < _SECOND_STRUCTURE
    if glass or open_:
        objects += draw_openings(rng, stage, glass)
        if second:
            objects += draw_openings(rng, stage, glass and rng.random() < 0.5)
    return LayeredScene((*backdrop, *sorted(objects, key=lambda item: _middle(item, stage))), stage.focal, stage.center)


def _draw_backdrop(rng: Generator, stage: Stage) -> list[Layer]:
    """A wall behind everything; often a floor, a ceiling or side walls that recede into it."""
    width, height = stage.width, stage.height
    depth = stage.depth(0.08 * rng.random())
    tilt = 0.25 * (stage.nearest - stage.farthest) * rng.normal(0, 0.4, 2)
    wall = Surface(*stage.center, depth, tilt[0] / width, tilt[1] / height)
    wall = stage.within(wall, shapes.everything().box)
    backdrop = [draw_layer(rng, stage, shapes.everything(), wall)]
    sides = {"floor": 0.35, "ceiling": 0.1, "left": 0.12, "right": 0.12}
    for side, probability in sides.items():
        if rng.random() > probability:
            continue
        reach = rng.uniform(0.15, 0.6)
        gain = rng.uniform(0.3, 1.0) * (stage.nearest - wall.offset)
        skew = rng.normal(0, 0.06) * gain
        if side in ("floor", "ceiling"):
            sign = 1.0 if side == "floor" else -1.0
            edge = stage.center[1] + sign * (0.5 - reach) * height
            steep = Surface(
                stage.center[0], edge, wall.offset, wall.slope_x + skew / width, sign * gain / (reach * height)
            )
            half: Box = (0.0, edge, width, height) if side == "floor" else (0.0, 0.0, width, edge)
        else:
            sign = 1.0 if side == "right" else -1.0
            edge = stage.center[0] + sign * (0.5 - reach) * width
            # A steeper wall on the right would turn its back to the right camera.
            slope = float(np.clip(sign * gain / (reach * width), -0.5, 0.5))
            steep = Surface(edge, stage.center[1], wall.offset, slope, wall.slope_y + skew / height)
            half = (edge, 0.0, width, height) if side == "right" else (0.0, 0.0, edge, height)
        steep = stage.within(steep, half)
        # It begins where it comes nearer than the wall.
        across, down = steep.slope_x - wall.slope_x, steep.slope_y - wall.slope_y
        steepness = float(np.hypot(across, down))
        ahead = steep.at(0, 0) - wall.at(0, 0)
        outline = shapes.half_plane(
            -ahead * across / steepness**2, -ahead * down / steepness**2, float(np.arctan2(down, across))
        )
        backdrop.append(draw_layer(rng, stage, outline, steep))
    return backdrop


def _draw_object(rng: Generator, stage: Stage, depth: float) -> Layer:
    """One opaque object at `depth` in [0, 1) of the scene's range of disparity (1 is nearest)."""
    x, y = rng.uniform(-0.02, 1.02) * stage.width, rng.uniform(-0.02, 1.02) * stage.height
    radius = float(np.exp(rng.uniform(np.log(0.025), np.log(0.32)))) * min(stage.width, stage.height)
    outline = _draw_outline(rng, x, y, radius)
    disparity = stage.depth(depth)
    tilt = np.radians(78) * rng.beta(1.0, 2.2)
    surface = tilted(stage, x, y, disparity, tilt, rng.uniform(0, 2 * np.pi))
    if rng.random() < 0.3:
        bulge = disparity / stage.focal * radius * rng.uniform(0.2, 0.9) * (-1 if rng.random() < 0.75 else 1)
        share = (1.0, 0.0) if rng.random() < 0.5 else (0.5, 0.5) if rng.random() < 0.5 else (0.0, 1.0)
        bend = bulge / radius**2
        surface = replace(surface, offset=surface.offset - bulge / 2, bend_x=share[0] * bend, bend_y=share[1] * bend)
    surface = stage.within(surface, outline.box)
    return draw_layer(rng, stage, outline, surface)


def _draw_outline(rng: Generator, x: float, y: float, radius: float) -> Outline:
    """Boxes, discs, bars, plants, fences, blobs: some solid, some thin, some full of holes."""
    angle = float(rng.normal(0, 0.15)) if rng.random() < 0.6 else float(rng.uniform(0, np.pi))
    aspect = float(np.exp(rng.normal(0, 0.4)))
    long, short = radius * aspect, radius / aspect
    kind = rng.random()
    if kind < 0.22:
        return shapes.rectangle(x, y, long, short, angle)
    if kind < 0.36:
        return shapes.ellipse(x, y, long, short, angle)
    if kind < 0.50:
        around = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))) + 0.01 * rng.random())
        around = around if np.ptp(around) > np.pi else np.linspace(0, 2 * np.pi, 5)[:-1] + angle
        return shapes.polygon(np.stack([x + long * np.cos(around), y + short * np.sin(around)], axis=1))
    if kind < 0.64:
        orders = np.arange(1, int(rng.integers(3, 7)))
        return shapes.blob(
            x, y, radius, rng.normal(0, 0.35, len(orders)) / (orders + 1), rng.uniform(0, 2 * np.pi, len(orders))
        )
    if kind < 0.78:
        # Thin things: poles, branches, cables, the spokes and legs that a coarse network loses.
        parts = []
        spread = rng.uniform(0, 0.9) * radius
        thickness = float(np.exp(rng.uniform(np.log(0.6), np.log(4.0))))
        fan = rng.random() < 0.5
        for _ in range(int(rng.integers(1, 6))):
            at = rng.normal(0, 1, 2) * spread
            turn = float(rng.uniform(0, np.pi)) if fan else angle + float(rng.choice([0.0, np.pi / 2]))
            length = radius * float(rng.uniform(0.8, 2.5))
            parts.append(
                shapes.rectangle(
                    x + float(at[0]), y + float(at[1]), length, thickness * float(rng.uniform(0.7, 1.5)), turn
                )
            )
        return shapes.bars(parts)
    within = (
        shapes.ellipse(x, y, 1.5 * long, 1.5 * short, angle)
        if rng.random() < 0.5
        else shapes.rectangle(x, y, 1.4 * long, 1.4 * short, angle)
    )
    if kind < 0.86:
        period = float(np.exp(rng.uniform(np.log(6), np.log(30))))
        return shapes.fence(within, period, float(rng.uniform(0.2, 0.6)), angle + float(rng.choice([0.0, np.pi / 2])))
    if kind < 0.93:
        return shapes.ring(within, float(rng.uniform(1.5, 0.35 * min(long, short) + 2)))
    count = int(rng.integers(4, 7))
    lengths = np.exp(rng.uniform(np.log(7), np.log(max(8.0, radius)), count))
    turns = rng.uniform(0, 2 * np.pi, count)
    waves = (2 * np.pi / lengths)[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    return shapes.foliage(within, waves, rng.uniform(0, 2 * np.pi, count), float(rng.uniform(-0.8, 0.8)))


def _middle(item: Layer | Pane, stage: Stage) -> float:
    x_min, y_min, x_max, y_max = stage.visible(item.outline.box)
    return item.surface.at((x_min + x_max) / 2, (y_min + y_max) / 2)
