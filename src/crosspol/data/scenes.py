"""Random layered scenes: what stands where, what covers it, and what glass is in front of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from crosspol.data import shapes
from crosspol.data.panes import plane_normal
from crosspol.data.shapes import Outline, Surface
from crosspol.data.textures import albedo, environment

__all__ = ["Layer", "Pane", "Scene", "Texture", "draw_scene"]

Array = NDArray[np.float32]
Generator = np.random.Generator
Box = tuple[float, float, float, float]
Chart = Literal["picture", "floor", "wall"]
Paint = Callable[[Generator, tuple[int, int], float], Array]

_TEXELS_PER_PIXEL = 1.25
_NEAREST_TO_INFINITY = 0.3
_LARGEST_TEXTURE = 1400
# A pane lies this much (px of disparity) behind its frame, so that the frame covers its border.
_BEHIND_FRAME = 0.05


@dataclass(frozen=True)
class Texture:
    """A picture that sticks to a surface; sampled bilinearly, in either view, at left coordinates of surface points.

    picture: (1, 3, h, w), linear.
    origin: chart coordinates of the picture's first texel.
    chart: which coordinates the picture lies along. "picture": those of the left view. "floor" and "wall": lengths on
        the surface itself, so that the texture recedes in perspective (floor: depth runs along y, wall: along x).
    centre, reference, steepness: principal point in px, disparity at which the chart's scale is 1, and the disparity's
        slope along the receding direction; used by "floor" and "wall".
    """

    picture: torch.Tensor
    origin: tuple[float, float]
    chart: Chart = "picture"
    centre: tuple[float, float] = (0.0, 0.0)
    reference: float = 1.0
    steepness: float = 1.0

    def sample(self, x: Array, y: Array, disparity: Array) -> Array:
        """Colours (3, h, w) at left coordinates x, y (broadcastable to (h, w)) of points with that disparity."""
        across, down = _chart(self.chart, x, y, disparity, self.centre, self.reference, self.steepness)
        height, width = self.picture.shape[-2:]
        grid = np.empty((1, *np.broadcast_shapes(across.shape, down.shape), 2), np.float32)
        grid[0, ..., 0] = (across - np.float32(self.origin[0])) * np.float32(2 * _TEXELS_PER_PIXEL / (width - 1)) - 1
        grid[0, ..., 1] = (down - np.float32(self.origin[1])) * np.float32(2 * _TEXELS_PER_PIXEL / (height - 1)) - 1
        sampled = functional.grid_sample(
            self.picture, torch.from_numpy(grid), padding_mode="border", align_corners=True
        )
        return np.asarray(sampled[0].numpy(), dtype=np.float32)


@dataclass(frozen=True)
class Layer:
    """An opaque surface.

    coat: polarized light that it adds: S1 and S2, each as (constant, slope along x, slope along y), about `middle`.
    lamp: share of its light that keeps the horizontal polarization of the lamp (crossed rigs), in [-1, 1].
    """

    outline: Outline
    surface: Surface
    span: tuple[float, float]
    texture: Texture
    coat: tuple[tuple[float, float, float], tuple[float, float, float]] = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    middle: tuple[float, float] = (0.0, 0.0)
    lamp: float = 0.0


@dataclass(frozen=True)
class Pane:
    """A glass pane: transmits what is behind, reflects a virtual image that lies deeper than the pane.

    normal: unit normal in camera axes (right, down, forward).
    tint: transmitted share by colour. mirrored, mirrored_surface: picture and place of the virtual image.
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
class Scene:
    """Surfaces from back to front; focal length and principal point, px, the same for both views."""

    surfaces: tuple[Layer | Pane, ...]
    focal: float
    centre: tuple[float, float]


@dataclass(frozen=True)
class _Stage:
    """What all draws of one scene share: picture size, camera, range of disparity, unevenness of light, a lamp."""

    height: int
    width: int
    focal: float
    nearest: float
    farthest: float
    largest: float
    unevenness: float
    lamp: bool

    @property
    def centre(self) -> tuple[float, float]:
        return (self.width - 1) / 2, (self.height - 1) / 2


def draw_scene(
    rng: Generator,
    size: tuple[int, int],
    max_disparity: float,
    layers: tuple[int, int] = (6, 14),
    glass_probability: float = 0.6,
    lamp: bool = False,
) -> Scene:
    """A backdrop, objects in front of it and, with `glass_probability`, one or two panes among them.

    size: (H, W), px. max_disparity: px, no surface comes nearer. layers: fewest and most objects.
    lamp: a horizontally polarized lamp shines (crossed rigs).
    """
    height, width = size
    # A typical scene uses part of the range: log-uniform, so that far scenes are as well covered as near ones.
    nearest = float(
        np.exp(rng.uniform(np.log(min(max(0.04 * width, 4.0), 0.9 * max_disparity)), np.log(max_disparity)))
    )
    farthest = _NEAREST_TO_INFINITY + (0.75 * nearest - _NEAREST_TO_INFINITY) * float(rng.beta(1.0, 3.2))
    stage = _Stage(
        height,
        width,
        float(rng.uniform(0.7, 1.6) * width),
        nearest,
        farthest,
        max_disparity,
        float(rng.uniform(0.2, 0.9)),
        lamp,
    )
    backdrop = _draw_backdrop(rng, stage)
    count = int(rng.integers(layers[0], layers[1] + 1))
    depths = (np.arange(count) + rng.random(count)) / count
    objects: list[Layer | Pane] = [_draw_object(rng, stage, float(depth)) for depth in depths]
    if rng.random() < glass_probability:
        for _ in range(1 if rng.random() < 0.75 else 2):
            objects += _draw_pane(rng, stage)
    return Scene(
        (*backdrop, *sorted(objects, key=lambda item: _middle_disparity(item, stage))), stage.focal, stage.centre
    )


def _draw_backdrop(rng: Generator, stage: _Stage) -> list[Layer]:
    """A wall behind everything; often a floor, a ceiling or side walls that recede into it."""
    width, height = stage.width, stage.height
    depth = stage.farthest + 0.15 * (stage.nearest - stage.farthest) * rng.random()
    tilt = 0.25 * (stage.nearest - stage.farthest) * rng.normal(0, 0.4, 2)
    wall = Surface(*stage.centre, depth, tilt[0] / width, tilt[1] / height)
    wall = _within_range(wall, _visible(shapes.everything(), stage), stage)
    backdrop = [_dress(rng, stage, shapes.everything(), wall)]
    sides = {"floor": 0.5, "ceiling": 0.12, "left": 0.15, "right": 0.15}
    for side, probability in sides.items():
        if rng.random() > probability:
            continue
        reach = rng.uniform(0.15, 0.6)
        gain = rng.uniform(0.4, 1.0) * (stage.nearest - wall.offset)
        skew = rng.normal(0, 0.06) * gain
        if side in ("floor", "ceiling"):
            sign = 1.0 if side == "floor" else -1.0
            edge = stage.centre[1] + sign * (0.5 - reach) * height
            steep = Surface(
                stage.centre[0], edge, wall.offset, wall.slope_x + skew / width, sign * gain / (reach * height)
            )
        else:
            sign = 1.0 if side == "right" else -1.0
            edge = stage.centre[0] + sign * (0.5 - reach) * width
            # A steeper wall on the right would turn its back to the right camera.
            slope = float(np.clip(sign * gain / (reach * width), -0.5, 0.5))
            steep = Surface(edge, stage.centre[1], wall.offset, slope, wall.slope_y + skew / height)
        # It begins where it comes nearer than the wall.
        across, down = steep.slope_x - wall.slope_x, steep.slope_y - wall.slope_y
        steepness = float(np.hypot(across, down))
        ahead = steep.at(0, 0) - wall.at(0, 0)
        outline = shapes.half_plane(
            -ahead * across / steepness**2, -ahead * down / steepness**2, float(np.arctan2(down, across))
        )
        backdrop.append(_dress(rng, stage, outline, steep))
    return backdrop


def _draw_object(rng: Generator, stage: _Stage, depth: float) -> Layer:
    """One opaque object at `depth` in [0, 1) of the scene's range of disparity (1 is nearest)."""
    x, y = rng.uniform(-0.02, 1.02) * stage.width, rng.uniform(-0.02, 1.02) * stage.height
    radius = float(np.exp(rng.uniform(np.log(0.025), np.log(0.32)))) * min(stage.width, stage.height)
    outline = _draw_outline(rng, x, y, radius)
    disparity = stage.farthest + (stage.nearest - stage.farthest) * depth
    tilt = np.radians(78) * rng.beta(1.0, 2.2)
    surface = _tilted(stage, x, y, disparity, tilt, rng.uniform(0, 2 * np.pi))
    if rng.random() < 0.3:
        bulge = disparity / stage.focal * radius * rng.uniform(0.2, 0.9) * (-1 if rng.random() < 0.75 else 1)
        share = (1.0, 0.0) if rng.random() < 0.5 else (0.5, 0.5) if rng.random() < 0.5 else (0.0, 1.0)
        bend = bulge / radius**2
        surface = replace(surface, offset=surface.offset - bulge / 2, bend_x=share[0] * bend, bend_y=share[1] * bend)
    surface = _within_range(surface, _visible(outline, stage), stage)
    return _dress(rng, stage, outline, surface)


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


def _draw_pane(rng: Generator, stage: _Stage) -> list[Layer | Pane]:
    """A pane, mostly a four-cornered window, and its frame if it has one."""
    width, height = stage.width, stage.height
    x, y = rng.uniform(0.15, 0.85) * width, rng.uniform(0.15, 0.85) * height
    half_x, half_y = (np.exp(rng.uniform(np.log(0.12), np.log(0.6), 2)) * (width, height)).tolist()
    if rng.random() < 0.7:
        corners = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
        corners *= 1 + rng.normal(0, 0.07, 2) * corners[:, ::-1]
        outline = shapes.polygon(np.array([x, y]) + corners * (half_x, half_y))
    elif rng.random() < 0.5:
        outline = shapes.ellipse(x, y, half_x, half_y, float(rng.normal(0, 0.2)))
    else:
        outline = shapes.rectangle(x, y, 0.8 * half_x, 0.8 * half_y, float(rng.uniform(0, np.pi)))
    visible = _visible(outline, stage)
    disparity = stage.farthest + (stage.nearest - stage.farthest) * rng.uniform(0.3, 0.9)
    tilt = np.radians(rng.uniform(3, 70))
    surface = _within_range(_tilted(stage, x, y, disparity, tilt, rng.uniform(0, 2 * np.pi)), visible, stage)
    at_centre = surface.offset + surface.slope_x * (stage.centre[0] - x) + surface.slope_y * (stage.centre[1] - y)
    # The virtual image lies behind the pane by as much as the mirrored world lies before it.
    deeper = surface.offset * rng.uniform(0.1, 0.92)
    lean = rng.normal(0, 0.05, 2) * deeper / np.array([width, height])
    mirrored_surface = _within_range(Surface(x, y, deeper, lean[0], lean[1]), visible, stage)
    brightness = float(np.exp(rng.uniform(np.log(0.4), np.log(7.0))))
    tint = 1 - rng.beta(1, 6) * rng.random(3) if rng.random() < 0.6 else np.ones(3)
    if stage.lamp:
        polarization = (float(rng.uniform(-0.2, 0.8)), 0.0)
    else:
        angle, degree = rng.uniform(0, 2 * np.pi), 0.4 * rng.beta(0.6, 3)
        polarization = (float(degree * np.cos(angle)), float(degree * np.sin(angle)))
    dirt = None
    if rng.random() < 0.5:
        dirt = _cover(rng, stage, visible, surface, float(0.08 * rng.beta(1, 4)), albedo)
    frame = float(rng.uniform(1.5, 0.12 * min(half_x, half_y) + 2)) if rng.random() < 0.55 else 0.0
    behind_frame = replace(surface, offset=surface.offset - _BEHIND_FRAME)
    pane = Pane(
        outline=outline,
        surface=behind_frame,
        span=_span(behind_frame, visible),
        normal=plane_normal(surface.slope_x, surface.slope_y, at_centre, stage.focal),
        tint=(float(tint[0]), float(tint[1]), float(tint[2])),
        mirrored=_cover(rng, stage, visible, mirrored_surface, brightness, environment),
        mirrored_surface=mirrored_surface,
        mirrored_polarization=polarization,
        dirt=dirt,
        eta=float(rng.uniform(1.45, 1.62)),
    )
    return [pane, _dress(rng, stage, shapes.ring(outline, frame), surface)] if frame else [pane]


def _dress(rng: Generator, stage: _Stage, outline: Outline, surface: Surface) -> Layer:
    """Texture, light and coat for a surface."""
    visible = _visible(outline, stage)
    light = float(np.exp(rng.normal(0, stage.unevenness)))
    texture = _cover(rng, stage, visible, surface, light, albedo)
    x, y = (visible[0] + visible[2]) / 2, (visible[1] + visible[3]) / 2
    reach = max(visible[2] - visible[0], visible[3] - visible[1], 8.0) / 2
    # Most things shine a little, some (varnish, plastic, leather, wet ground) as much as glass or more.
    kind = rng.random()
    degree = (
        abs(rng.normal(0, 0.015)) if kind < 0.72 else rng.uniform(0.02, 0.12) if kind < 0.92 else rng.uniform(0.12, 0.4)
    )
    radiance = float(texture.picture.mean()) * degree / (1 - degree)
    angle = rng.uniform(0, 2 * np.pi)
    drift = rng.normal(0, 0.5, (2, 2)) * radiance / reach
    coat = (
        (radiance * float(np.cos(angle)), float(drift[0, 0]), float(drift[0, 1])),
        (radiance * float(np.sin(angle)), float(drift[1, 0]), float(drift[1, 1])),
    )
    lamp = float(np.clip(rng.normal(0.12, 0.2), -0.3, 0.8)) if stage.lamp else 0.0
    return Layer(outline, surface, _span(surface, visible), texture, coat, (x, y), lamp)


def _cover(
    rng: Generator,
    stage: _Stage,
    visible: Box,
    surface: Surface,
    brightness: float,
    paint: Paint,
) -> Texture:
    """A texture large enough for the visible part of a surface."""
    low, high = _span(surface, visible)
    bent = surface.bend_x != 0 or surface.bend_y != 0
    chart: Chart = "picture"
    steepness, reference = 1.0, max(low, _NEAREST_TO_INFINITY)
    # Perspective only where it shows, and no deeper than the texture's resolution bears.
    if not bent and 1.25 < high / reference < 6:
        if abs(surface.slope_y) > 2 * abs(surface.slope_x):
            chart, steepness = "floor", surface.slope_y
        elif abs(surface.slope_x) > 2 * abs(surface.slope_y):
            chart, steepness = "wall", surface.slope_x
    x, y = np.array(visible, np.float32)[[0, 2, 0, 2]], np.array(visible, np.float32)[[1, 1, 3, 3]]
    disparity = np.maximum(surface.disparity(x, y), np.float32(reference))
    across, down = _chart(chart, x, y, disparity, stage.centre, reference, steepness)
    margin = 2 + rng.random(2)
    extent = (np.array([np.ptp(across), np.ptp(down)]) + 2 * margin) * _TEXELS_PER_PIXEL
    width, height = (int(np.clip(np.ceil(side), 8, _LARGEST_TEXTURE)) for side in extent)
    picture = paint(rng, (height, width), _TEXELS_PER_PIXEL)
    picture *= np.float32(brightness)
    tensor = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None]
    origin = (float(across.min() - margin[0]), float(down.min() - margin[1]))
    return Texture(tensor, origin, chart, stage.centre, reference, steepness)


def _chart(
    chart: Chart, x: Array, y: Array, disparity: Array, centre: tuple[float, float], reference: float, steepness: float
) -> tuple[Array, Array]:
    if chart == "picture":
        return x, y
    shrink = np.float32(reference) / np.maximum(disparity, np.float32(0.05))
    receding = np.float32(reference / steepness) * (1 - shrink)
    if chart == "floor":
        return (x - np.float32(centre[0])) * shrink, receding
    return receding, (y - np.float32(centre[1])) * shrink


def _tilted(stage: _Stage, x: float, y: float, disparity: float, tilt: float, azimuth: float) -> Surface:
    """The plane at (x, y, disparity) whose normal is `tilt` radians away from the optical axis."""
    slope = np.tan(tilt) * disparity / stage.focal
    return Surface(
        x,
        y,
        disparity,
        float(np.clip(slope * np.cos(azimuth), -0.5, 0.5)),
        float(np.clip(slope * np.sin(azimuth), -0.8, 0.8)),
    )


def _within_range(surface: Surface, visible: Box, stage: _Stage) -> Surface:
    """The surface, flattened and moved: its visible part stays in the range of disparity and does not fold over."""
    low, high = _span(surface, visible)
    room = 0.8 * (stage.largest - _NEAREST_TO_INFINITY)
    reach = max(abs(visible[0] - surface.x0), abs(visible[2] - surface.x0))
    steepest = abs(surface.slope_x) + 2 * abs(surface.bend_x) * reach
    shrink = min(1.0, room / max(high - low, 1e-6), 0.6 / max(steepest, 1e-6))
    offset = surface.offset
    low, high = offset + shrink * (low - offset), offset + shrink * (high - offset)
    offset += max(_NEAREST_TO_INFINITY - low, 0.0) - max(high - stage.largest, 0.0)
    shrunk = {name: shrink * getattr(surface, name) for name in ("slope_x", "slope_y", "bend_x", "bend_y")}
    return replace(surface, offset=offset, **shrunk)


def _span(surface: Surface, visible: Box) -> tuple[float, float]:
    """Smallest and largest disparity over a box."""
    x, y = (
        np.linspace(visible[0], visible[2], 9, dtype=np.float32)[None, :],
        np.linspace(visible[1], visible[3], 9, dtype=np.float32)[:, None],
    )
    disparity = surface.disparity(x, y)
    return float(disparity.min()), float(disparity.max())


def _visible(outline: Outline, stage: _Stage) -> Box:
    """The part of an outline's box that a view can see, left px: the right view sees past the left one's right edge."""
    x_min, y_min, x_max, y_max = outline.box
    right, bottom = stage.width + min(1.2 * stage.nearest, stage.largest), float(stage.height)
    box = max(x_min, -1.0), max(y_min, -1.0), min(x_max, right), min(y_max, bottom)
    return min(box[0], right - 1), min(box[1], bottom - 1), max(box[2], box[0] + 1), max(box[3], box[1] + 1)


def _middle_disparity(item: Layer | Pane, stage: _Stage) -> float:
    x_min, y_min, x_max, y_max = _visible(item.outline, stage)
    return item.surface.at((x_min + x_max) / 2, (y_min + y_max) / 2)
