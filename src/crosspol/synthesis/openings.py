"""Walls with windows, frames, rails, bare edges and showcases: openings that are glazed, or open and look the same.

A clear pane shows what is behind it. Its plane follows from what it is set into, once one knows that there is glass;
whether there is, polarization says, and little else: open ones are drawn alike, and about as often.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from crosspol.synthesis import shapes
from crosspol.synthesis.panes import plane_normal
from crosspol.synthesis.shapes import Outline, Surface
from crosspol.synthesis.stage import Box, Generator, Layer, Pane, Stage, cover, draw_layer, span, tilted
from crosspol.synthesis.textures import environment, paint, room_light

__all__ = ["draw_openings"]

# A pane lies this much (px of disparity) behind what it is set into, which covers its border, and reaches as far (px)
# into it.
_BEHIND = 0.05
_REBATE = 1.5
# Every attempt to keep a rectangle in the range of disparity, to this many px, takes a tenth off it.
_ATTEMPTS, _SETTLED = 12, 1e-3
# Share of panes that the eye finds: by bright reflections, dirt or a strong tint.
_SEEN = 0.2
# Degrees between a pane's normal and the optical axis, and the share that is seen frontally, where glass does not
# polarize: it decides how much polarization can tell.
_FRONTAL, _OBLIQUE = (0.0, 25.0), (42.0, 74.0)
_SEEN_FRONTALLY = 0.08
# Of what a clear pane mirrors, against the light of the scene: looking out of a dim room.
_DIM = (0.02, 0.35)
_BRIGHT = (0.4, 7.0)


@dataclass(frozen=True)
class _Opening:
    """An opening of one plane: what is opaque there, and where glass goes, if any."""

    surface: Surface
    opaque: tuple[Outline, ...]
    glass: Outline


def draw_openings(rng: Generator, stage: Stage, glazed: bool) -> list[Layer | Pane]:
    """Draw one structure with openings, all of them glazed or all of them open.

    The same state of `rng` gives the same structure either way.
    """
    # Panes draw from a generator of their own, so that the rest does not depend on them.
    own = np.random.default_rng(rng.integers(1 << 62))
    draw = _KINDS[int(np.searchsorted(_CUMULATED, rng.random(), side="right"))]
    items: list[Layer | Pane] = []
    for opening in draw(rng, stage):
        items += [draw_layer(rng, stage, outline, opening.surface) for outline in opening.opaque]
        if glazed:
            items.append(_pane(own, stage, opening))
    return items


def _wall(rng: Generator, stage: Stage) -> list[_Opening]:
    """A wall across the image or much of it, with one to six windows."""
    width, height = stage.width, stage.height
    x, y = rng.uniform(0.25, 0.75) * width, rng.uniform(0.25, 0.75) * height
    kind = rng.random()
    if kind < 0.5:
        region = shapes.everything()
    elif kind < 0.75:
        edge = x + float(rng.choice([-1, 1])) * rng.uniform(0.25, 0.5) * width
        region = shapes.half_plane(edge, y, np.pi * (edge > x) + float(rng.normal(0, 0.03)))
    else:
        half = rng.uniform(0.3, 0.6, 2) * (width, height)
        region = shapes.rectangle(x, y, float(half[0]), float(half[1]), float(rng.normal(0, 0.02)))
    # In the range wherever its windows may reach.
    surface = _facing(rng, stage, x, y, shapes.everything().box)
    columns, rows = int(rng.choice([1, 1, 1, 2, 2, 3])), int(rng.choice([1, 1, 1, 1, 2]))
    across, down = rng.uniform(0.3, 0.8) * width / columns, rng.uniform(0.4, 0.85) * height / rows
    bar = np.exp(rng.uniform(np.log(2), np.log(0.15 * width), 2))
    shrink = _shrink(surface, x, y, 0.5 * columns * (across + bar[0]), 0.5 * rows * (down + bar[1]))
    across, down, bar = shrink * across, shrink * down, shrink * bar
    holes = []
    for column in range(columns):
        for row in range(rows):
            left = (column - columns / 2) * across + (column - (columns - 1) / 2) * float(bar[0])
            top = (row - rows / 2) * down + (row - (rows - 1) / 2) * float(bar[1])
            holes.append(_on_plane(surface, x, y, (left, top, left + across, top + down)))
    if len(holes) == 1 and rng.random() < 0.3:
        radius = 0.5 * across, 0.5 * down
        holes = [shapes.ellipse(x, y, *radius, 0.0)]
    windows = shapes.bars(holes)
    opaque = [shapes.without(region, windows)]
    if rng.random() < 0.35:
        opaque.append(shapes.ring(shapes.grown(windows, 1.0), float(rng.uniform(1.5, 5))))
    return [_Opening(surface, tuple(opaque), shapes.grown(windows, _REBATE))]


def _window(rng: Generator, stage: Stage) -> list[_Opening]:
    """A window or door in its frame, with or without bars across."""
    surface, x, y, half = _quad(rng, stage)
    whole = _on_plane(surface, x, y, _about(half))
    thin = float(np.exp(rng.uniform(np.log(1.0), np.log(0.12 * min(half) + 2))))
    parts = [shapes.ring(whole, thin)]
    if rng.random() < 0.35:
        bar, at = 0.5 * thin + 0.4, rng.uniform(-0.4, 0.4, 2) * half
        parts.append(_on_plane(surface, x, y, (at[0] - bar, -half[1], at[0] + bar, half[1])))
        if rng.random() < 0.6:
            parts.append(_on_plane(surface, x, y, (-half[0], at[1] - bar, half[0], at[1] + bar)))
    return [_Opening(surface, (shapes.bars(parts),), whole)]


def _rails(rng: Generator, stage: Stage) -> list[_Opening]:
    """Posts or rails at one to three of the four sides: a balustrade, a partition, a bus shelter."""
    surface, x, y, half = _quad(rng, stage)
    thick = np.exp(rng.uniform(np.log(1.0), np.log(8.0), 2))
    across, down = half
    sides = (
        (-across, -down, -across + thick[0], down),
        (across - thick[0], -down, across, down),
        (-across, -down, across, -down + thick[1]),
        (-across, down - thick[1], across, down),
    )
    chosen = rng.permutation(4)[: int(rng.integers(1, 4))]
    parts = [_on_plane(surface, x, y, sides[side]) for side in chosen]
    return [_Opening(surface, (shapes.bars(parts),), _on_plane(surface, x, y, _about(half)))]


def _bare(rng: Generator, stage: Stage) -> list[_Opening]:
    """Nothing but a thin edge, and sometimes not even that."""
    surface, x, y, half = _quad(rng, stage)
    if rng.random() < 0.75:
        whole = _on_plane(surface, x, y, _about(half))
    else:
        whole = shapes.ellipse(x, y, *half, float(rng.normal(0, 0.2)))
    edge = float(np.exp(rng.uniform(np.log(0.35), np.log(1.3))))
    return [_Opening(surface, (shapes.ring(whole, edge),) if rng.random() < 0.85 else (), whole)]


def _showcase(rng: Generator, stage: Stage) -> list[_Opening]:
    """Two planes that meet at an upright edge toward the camera: a showcase, an aquarium, a glazed corner."""
    width, height = stage.width, stage.height
    x, y = rng.uniform(0.25, 0.75) * width, rng.uniform(0.3, 0.7) * height
    down = rng.uniform(0.25, 0.6) * height
    disparity = stage.depth(rng.uniform(0.7, 1.0))
    turn = rng.uniform(0.2, 0.8)
    thin = float(np.exp(rng.uniform(np.log(0.6), np.log(4.0))))
    halves = []
    for sign in (1.0, -1.0):
        # The left side comes nearer to the right, up to the edge, and the right side goes away from it.
        tilt = np.pi / 2 * (turn if sign > 0 else 1 - turn)
        reach = rng.uniform(0.2, 0.5) * width
        box = (x - reach, y - down, x, y + down) if sign > 0 else (x, y - down, x + reach, y + down)
        surface = tilted(stage, x, y, disparity, min(tilt, 1.2), 0.0 if sign > 0 else np.pi)
        # The edge must stay where it is: flattened only.
        lowest = min(surface.at(box[0], y), surface.at(box[2], y))
        room = disparity - stage.depth(0.12)
        steep = surface.slope_x * min(1.0, room / max(disparity - lowest, 1e-6))
        surface = replace(surface, slope_x=steep, slope_y=0.0)
        flat = (-reach, -down, 0.0, down) if sign > 0 else (0.0, -down, reach, down)
        whole = _on_plane(surface, x, y, flat)
        halves.append(_Opening(surface, (shapes.ring(whole, thin),), whole))
    return halves


_SHARES: dict[Callable[[Generator, Stage], list[_Opening]], float] = {
    _wall: 0.45,
    _window: 0.20,
    _rails: 0.12,
    _bare: 0.10,
    _showcase: 0.13,
}
_KINDS, _CUMULATED = tuple(_SHARES), np.cumsum(tuple(_SHARES.values()))


def _quad(rng: Generator, stage: Stage) -> tuple[Surface, float, float, tuple[float, float]]:
    """A plane with a rectangle on it: its middle in the image, and half its sides, px."""
    x, y = rng.uniform(0.2, 0.8) * stage.width, rng.uniform(0.2, 0.8) * stage.height
    half = np.exp(rng.uniform(np.log((0.13, 0.18)), np.log((0.42, 0.5)))) * (stage.width, stage.height)
    across, down = float(half[0]), float(half[1])
    surface = _facing(rng, stage, x, y, (x - across, y - down, x + across, y + down))
    low, high = stage.depth(0.1) - _SETTLED, stage.largest + _SETTLED
    # Where the rectangle appears depends on the plane, and which planes are allowed on where it appears.
    for _ in range(_ATTEMPTS):
        shrink = _shrink(surface, x, y, across, down)
        across, down = shrink * across, shrink * down
        box = _on_plane(surface, x, y, _about((across, down))).box
        least, most = span(surface, stage.visible(box))
        if low <= least and most <= high:
            break
        surface = stage.within(surface, box, stage.depth(0.1))
        across, down = 0.9 * across, 0.9 * down
    return surface, x, y, (across, down)


def _facing(rng: Generator, stage: Stage, x: float, y: float, box: Box) -> Surface:
    """A plane in the nearer part of the scene, mostly turned about the vertical and mostly oblique."""
    tilt = np.radians(rng.uniform(*_FRONTAL) if rng.random() < _SEEN_FRONTALLY else rng.uniform(*_OBLIQUE))
    kind = rng.random()
    upright = 0.0 if rng.random() < 0.5 else np.pi
    azimuth = upright + rng.normal(0, 0.1) if kind < 0.7 else rng.uniform(0, 2 * np.pi)
    surface = tilted(stage, x, y, stage.depth(rng.uniform(*stage.openings)), tilt, azimuth)
    return stage.within(surface, box, stage.depth(0.1))


def _shrink(surface: Surface, x: float, y: float, across: float, down: float) -> float:
    """The factor that keeps the near side of a steep rectangle at about twice the size of the far one."""
    steep = abs(surface.slope_x) * across + abs(surface.slope_y) * down
    return min(1.0, 0.4 * surface.at(x, y) / max(steep, 1e-6))


def _on_plane(surface: Surface, x: float, y: float, box: Box) -> Outline:
    return shapes.polygon(surface.corners(x, y, box))


def _about(half: tuple[float, float]) -> Box:
    return -half[0], -half[1], half[0], half[1]


def _pane(rng: Generator, stage: Stage, opening: _Opening) -> Pane:
    """Glass for an opening: mostly clear, before something brighter than what it mirrors."""
    surface = replace(opening.surface, offset=opening.surface.offset - _BEHIND)
    seen = stage.visible(opening.glass.box)
    x, y = (seen[0] + seen[2]) / 2, (seen[1] + seen[3]) / 2
    found = rng.random() < _SEEN
    brightness = float(np.exp(rng.uniform(*np.log(_BRIGHT if found else _DIM))))
    # The virtual image lies behind the pane by as much as the mirrored world lies before it.
    deeper = surface.at(x, y) * rng.uniform(0.1, 0.92)
    lean = rng.normal(0, 0.05, 2) * deeper / np.array([stage.width, stage.height])
    mirrored = stage.within(Surface(x, y, deeper, float(lean[0]), float(lean[1])), seen)
    room = environment(rng, stage.sheet(rng))
    if stage.lamp:
        polarization = (float(rng.uniform(-0.2, 0.8)), 0.0)
    else:
        angle, degree = rng.uniform(0, 2 * np.pi), 0.4 * rng.beta(0.6, 3)
        polarization = (float(degree * np.cos(angle)), float(degree * np.sin(angle)))
    tint = 1 - (rng.beta(1, 6) if found else 0.08 * rng.random()) * rng.random(3)
    dirt = None
    if found and rng.random() < 0.6:
        dirt = cover(rng, stage, seen, surface, stage.sheet(rng), paint(rng, 0.1 * float(rng.beta(1, 4))))
    at_centre = surface.at(*stage.center)
    return Pane(
        outline=opening.glass,
        surface=surface,
        span=span(surface, seen),
        normal=plane_normal(surface.slope_x, surface.slope_y, at_centre, stage.focal),
        tint=(float(tint[0]), float(tint[1]), float(tint[2])),
        mirrored=cover(rng, stage, seen, mirrored, room, room_light(brightness)),
        mirrored_surface=mirrored,
        mirrored_polarization=polarization,
        dirt=dirt,
        eta=float(rng.uniform(1.45, 1.62)),
    )
