"""Random closed rooms with glass in them: a plain description first, Mitsuba's second.

A description is a tree of frozen dataclasses of numbers and names, so that it can be written down beside its images
and two scenes can be compared. The world is Mitsuba's: x to the left of a camera that looks along z, y up, meters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crosspol.render.bsdfs import pane, plastic, solid
from crosspol.synthesis.textures import SHEET_SCALE, Sheet, environment, paint, room_light, sheet

__all__ = [
    "GENERATOR",
    "STYLES",
    "Camera",
    "Part",
    "RoomScene",
    "RoomStyle",
    "Style",
    "Surface",
    "describe",
    "draw_room_scene",
    "mitsuba_scene",
]

Array = NDArray[np.float64]
Generator = np.random.Generator
Kind = Literal["coated", "matt", "metal", "pane", "solid", "light", "outside"]
Style = Literal["rooms", "halls"]
Room = tuple[float, float, float]
"""Width, height and depth, meters."""

GENERATOR = 2
"""Generation of the rooms. To be raised by whoever changes what a series and an index draw: scenes of two generations
do not belong into one folder."""

_TEXTURE_SIZE = 512
_COATED = 0.65
"""Share of painted, varnished and papered surfaces that polarize. Never below one half: were polarization the mask of
glass, a network would find that out."""
_WATER_ETA = 1.33


@dataclass(frozen=True)
class RoomStyle:
    """What a series of rooms is like; shares and chances are in [0, 1].

    width_m, depth_m: of the room. furniture: least and most pieces. lights: where lamps hang, in depths of the room.
    panes: most panes of a partition. oblique: share of standing panes seen at 40 to 70 degrees of incidence, where
        what they mirror is polarized most. mirrors: share of these that mirror a window into the camera: what
        polarizes is light, and a dim room has little to mirror. mirrored_m: half the width of such a window.
    daylight: radiance of windows.
    empty: share of doors and partitions whose frame or rail stands there without a pane, so that it is no sign of one.
    chances: of a room to have a partition, a door, a window, a display case, a table with glass, and solid pieces.
    """

    width_m: tuple[float, float] = (3.2, 7.0)
    depth_m: tuple[float, float] = (4.0, 8.5)
    furniture: tuple[int, int] = (3, 8)
    lights: tuple[float, float] = (0.1, 0.85)
    panes: int = 2
    oblique: float = 0.75
    mirrors: float = 0.65
    mirrored_m: tuple[float, float] = (0.5, 1.1)
    daylight: tuple[float, float] = (1.0, 4.0)
    empty: float = 0.0
    chances: tuple[float, float, float, float, float, float] = (0.45, 0.4, 0.3, 0.28, 0.5, 0.2)


STYLES: dict[Style, RoomStyle] = {
    "rooms": RoomStyle(),
    # Clear panes that nothing but their borders and their polarization tells: far things behind them, light before.
    "halls": RoomStyle(
        width_m=(4.5, 9.0),
        depth_m=(8.0, 15.0),
        furniture=(6, 14),
        lights=(0.02, 0.4),
        panes=3,
        oblique=0.9,
        mirrors=0.9,
        mirrored_m=(1.2, 3.0),
        daylight=(2.0, 8.0),
        empty=0.4,
        chances=(0.85, 0.5, 0.1, 0.05, 0.05, 0.05),
    ),
}
"""Kinds of series: furnished rooms with every kind of glass, and deep halls with clear panes."""


@dataclass(frozen=True)
class Surface:
    """What a part is made of.

    kind: coated (polarizes), matt (does not), metal, pane (thin glass), solid (glass boundary), light, outside (a
        textured light behind a window).
    texture: seed of the image on it; None: plain.
    scale: size of the image's features, relative.
    level: reflectance in [0, 1] that a plain surface has and a texture is brought near; of a light its radiance.
    roughness: of the coat or the metal.
    eta: refractive index of glass or of the coat.
    """

    kind: Kind
    texture: int | None = None
    scale: float = 1.0
    level: float = 0.5
    roughness: float = 0.3
    eta: float = 1.5

    @property
    def glass(self) -> bool:
        """Whether this is glass."""
        return self.kind in ("pane", "solid")


@dataclass(frozen=True)
class Part:
    """One shape: a unit shape of Mitsuba and where it stands.

    shape: rectangle (2 x 2, normal z), cube (2 x 2 x 2), sphere (radius 1), cylinder (radius 1, z from 0 to 1), disk.
    to_world: (4, 4) by rows.
    """

    name: str
    shape: Literal["rectangle", "cube", "sphere", "cylinder", "disk"]
    to_world: tuple[tuple[float, ...], ...]
    surface: Surface


@dataclass(frozen=True)
class Camera:
    """The rectified pair.

    position: of the left camera. yaw, pitch: radians, to the left and up. focal: in widths of the image.
    """

    position: tuple[float, float, float]
    yaw: float
    pitch: float
    focal: float
    baseline_m: float


@dataclass(frozen=True)
class RoomScene:
    """A room. lamp: radiance of the polarized lamp beside the cameras; only the crossed rig turns it on."""

    seed: tuple[int, int]
    room_m: tuple[float, float, float]
    camera: Camera
    lamp: float
    parts: tuple[Part, ...]


def describe(scene: RoomScene) -> dict[str, Any]:
    """Return the scene as what JSON can hold."""
    return asdict(scene)


def draw_room_scene(seed: int, index: int, style: Style = "rooms") -> RoomScene:
    """Draw scene `index` of the series `seed`: the same numbers give the same scene, on every machine and shard.

    Args:
        seed: of the series, not negative.
        index: of the scene in it, not negative.
        style: what the series is like, of `STYLES`.
    """
    rng, like = np.random.default_rng([seed, index]), STYLES[style]
    width, height, depth = rng.uniform(*like.width_m), rng.uniform(2.4, 3.2), rng.uniform(*like.depth_m)
    camera = Camera(
        position=(float(rng.uniform(-0.2, 0.2) * width), float(rng.uniform(1.0, 1.65)), 0.35),
        yaw=float(rng.normal(0, 0.12)),
        pitch=float(rng.normal(-0.08, 0.06)),
        focal=float(rng.uniform(0.7, 1.25)),
        baseline_m=float(np.exp(rng.uniform(math.log(0.05), math.log(0.2)))),
    )
    parts = _room(rng, like, width, height, depth)
    parts += _furniture(rng, like, camera, width, depth)
    makers = (_partition, _door, _window, _case, _table_with_glass, _floor_pieces)
    chosen = [maker for maker, chance in zip(makers, like.chances, strict=True) if rng.random() < chance]
    # One scene in twelve stays without glass: a network must learn that as well.
    if not chosen and rng.random() > 0.5:
        chosen = [makers[int(rng.integers(len(makers)))]]
    for maker in chosen:
        parts += maker(rng, like, camera, (width, height, depth))
    return RoomScene((seed, index), (width, height, depth), camera, float(rng.uniform(150, 400)), tuple(parts))


def mitsuba_scene(
    mitsuba: Any, scene: RoomScene, color: bool = False, glass: bool = True, ambient: float = 1.0
) -> dict[str, Any]:
    """Return the room in Mitsuba's own description, without cameras and integrator.

    Args:
        mitsuba: the module, with a variant set and `register_bsdfs` called.
        scene: from `draw_room_scene`.
        color: textures in color rather than in gray.
        glass: False leaves everything of glass out.
        ambient: factor on the radiance of all lights.
    """
    description: dict[str, Any] = {"type": "scene"}
    for part in scene.parts:
        if part.surface.glass and not glass:
            continue
        shape: dict[str, Any] = {"type": part.shape}
        shape["to_world"] = mitsuba.ScalarTransform4f(np.array(part.to_world))
        surface = part.surface
        if surface.kind in ("light", "outside"):
            radiance = _radiance(mitsuba, surface, color, ambient)
            shape["emitter"] = {"type": "area", "radiance": radiance}
            shape["bsdf"] = {"type": "diffuse", "reflectance": {"type": "uniform", "value": 0.5}}
        else:
            shape["bsdf"] = _bsdf(mitsuba, surface, color)
        description[part.name] = shape
    return description


def _bsdf(mitsuba: Any, surface: Surface, color: bool) -> dict[str, Any]:
    if surface.kind == "pane":
        return pane(surface.eta)
    if surface.kind == "solid":
        return solid(surface.eta)
    if surface.kind == "metal":
        # Aluminium at 550 nm.
        metal = {"type": "roughconductor", "alpha": surface.roughness}
        metal |= {"eta": {"type": "uniform", "value": 0.96}, "k": {"type": "uniform", "value": 6.7}}
        return {"type": "twosided", "metal": metal}
    reflectance = _reflectance(mitsuba, surface, color)
    if surface.kind == "matt":
        return {"type": "twosided", "body": {"type": "diffuse", "reflectance": reflectance}}
    return plastic(reflectance, surface.roughness, surface.eta)


def _reflectance(mitsuba: Any, surface: Surface, color: bool) -> dict[str, Any]:
    if surface.texture is None:
        return {"type": "uniform", "value": surface.level}
    rng = np.random.default_rng(surface.texture)
    image = _light(_sheet(rng, _TEXTURE_SIZE, 2 * surface.scale), paint(rng, 1.0))
    return _bitmap(mitsuba, np.clip(image * np.float32(surface.level / max(image.mean(), 0.05)), 0.01, 0.9), color)


def _radiance(mitsuba: Any, surface: Surface, color: bool, ambient: float) -> dict[str, Any]:
    if surface.texture is None:
        return {"type": "uniform", "value": surface.level * ambient}
    rng = np.random.default_rng(surface.texture)
    image = _light(environment(rng, _sheet(rng, _TEXTURE_SIZE // 2, surface.scale)), room_light(1.0))
    return _bitmap(mitsuba, image * np.float32(ambient * surface.level / image.mean()), color)


def _sheet(rng: Generator, side: int, scale: float) -> Sheet:
    """Draw a square sheet (side, side, 3) with features of `scale` texels per image px."""
    import cv2

    drawn = max(8, round(side * SHEET_SCALE / scale))
    return np.asarray(cv2.resize(sheet(rng, (drawn, drawn)), (side, side), interpolation=cv2.INTER_LINEAR))


def _light(texels: Sheet, colors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the linear light (h, w, 3) of texels (h, w, 3) by what each color's values (3, 256) stand for."""
    return np.stack([colors[channel][texels[..., channel]] for channel in range(3)], axis=-1)


def _bitmap(mitsuba: Any, image: NDArray[np.float32], color: bool) -> dict[str, Any]:
    if not color:
        image = np.repeat(image @ np.array([[0.2126], [0.7152], [0.0722]], np.float32), 3, axis=-1)
    return {"type": "bitmap", "bitmap": mitsuba.Bitmap(np.ascontiguousarray(image, np.float32)), "raw": False}


def _placed(
    position: Sequence[float], scale: Sequence[float] | Array, yaw: float = 0.0, pitch: float = 0.0
) -> tuple[tuple[float, ...], ...]:
    """Matrix that scales, tips about x (pitch), turns about y (yaw) and moves."""
    cos, sin, c, s = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag(scale)
    matrix[:3, 3] = position
    return tuple(tuple(float(value) for value in row) for row in matrix)


_UP = -math.pi / 2
"""Pitch that turns a shape's z axis upward."""


def _opaque(
    rng: Generator, plain: float = 0.1, scale: float = 1.0, level: tuple[float, float] = (0.12, 0.6)
) -> Surface:
    """A painted, varnished, tiled or papered surface; some are matt, most polarize."""
    return Surface(
        kind="coated" if rng.random() < _COATED else "matt",
        texture=None if rng.random() < plain else int(rng.integers(2**31)),
        scale=float(scale * rng.uniform(0.5, 1.6)),
        level=float(rng.uniform(*level)),
        roughness=float(np.exp(rng.uniform(math.log(0.15), math.log(0.6)))),
        eta=float(rng.uniform(1.4, 1.6)),
    )


def _metal(rng: Generator) -> Surface:
    return Surface("metal", roughness=float(rng.uniform(0.12, 0.4)))


def _glass(rng: Generator, kind: Literal["pane", "solid"] = "pane") -> Surface:
    return Surface(kind, eta=float(rng.uniform(1.48, 1.56)))


def _room(rng: Generator, like: RoomStyle, width: float, height: float, depth: float) -> list[Part]:
    """Walls, floor, ceiling and lights."""
    half, middle = width / 2, depth / 2 - 0.5
    long = depth / 2 + 0.5
    walls = {
        "floor": _placed((0, 0, middle), (half, long, 1), pitch=_UP),
        "ceiling": _placed((0, height, middle), (half, long, 1), pitch=-_UP),
        "wall_end": _placed((0, height / 2, depth), (half, height / 2, 1), yaw=math.pi),
        "wall_back": _placed((0, height / 2, -1), (half, height / 2, 1)),
        "wall_left": _placed((half, height / 2, middle), (long, height / 2, 1), yaw=-math.pi / 2),
        "wall_right": _placed((-half, height / 2, middle), (long, height / 2, 1), yaw=math.pi / 2),
    }
    # Large walls need finer images than furniture. What panes mirror is brighter than what is seen through them.
    levels = dict.fromkeys(walls, (0.12, 0.6)) | {
        "wall_end": (0.08, 0.45),
        "wall_back": (0.4, 0.75),
        "wall_left": (0.2, 0.7),
        "wall_right": (0.2, 0.7),
    }
    parts = [
        Part(name, "rectangle", matrix, _opaque(rng, scale=0.5, level=levels[name])) for name, matrix in walls.items()
    ]
    for number in range(int(rng.integers(1, 4))):
        size = rng.uniform(0.2, 0.8, 2)
        place = (rng.uniform(-0.3, 0.3) * width, height - 0.02, rng.uniform(*like.lights) * depth)
        light = Surface("light", level=float(rng.uniform(4, 14) / (0.3 + size[0] * size[1])))
        parts.append(Part(f"light_{number}", "rectangle", _placed(place, (*size, 1), pitch=-_UP), light))
    return parts


def _in_view(rng: Generator, camera: Camera, nearest: float, farthest: float, spread: float = 0.8) -> tuple[float, ...]:
    """A place (x, z) on the floor that the cameras see, at a distance drawn so that disparities are spread evenly."""
    z = 1 / rng.uniform(1 / farthest, 1 / nearest)
    x = camera.position[0] + z * math.tan(camera.yaw) + z * rng.uniform(-spread, spread) * 0.5 / camera.focal
    return float(x), float(camera.position[2] + z)


def _furniture(rng: Generator, like: RoomStyle, camera: Camera, width: float, depth: float) -> list[Part]:
    """Cabinets, boxes, balls, columns, and images on the end wall."""
    parts: list[Part] = []
    for number in range(int(rng.integers(like.furniture[0], like.furniture[1] + 1))):
        x, z = _in_view(rng, camera, 1.6, max(depth - 0.8, 2.0), 1.1)
        x = float(np.clip(x, -width / 2 + 0.3, width / 2 - 0.3))
        kind, yaw = rng.random(), float(rng.uniform(-math.pi, math.pi))
        if kind < 0.55:
            size = rng.uniform(0.1, 0.45, 3)
            size[1] = rng.uniform(0.15, 0.9)
            parts.append(Part(f"box_{number}", "cube", _placed((x, size[1], z), size, yaw), _opaque(rng)))
        elif kind < 0.75:
            radius = float(rng.uniform(0.08, 0.35))
            parts.append(Part(f"ball_{number}", "sphere", _placed((x, radius, z), (radius,) * 3, yaw), _opaque(rng)))
        else:
            radius, tall = float(rng.uniform(0.05, 0.2)), float(rng.uniform(0.5, 2.2))
            surface = _metal(rng) if rng.random() < 0.25 else _opaque(rng)
            matrix = _placed((x, 0, z), (radius, radius, tall), pitch=_UP)
            parts.append(Part(f"column_{number}", "cylinder", matrix, surface))
            matrix = _placed((x, tall, z), (radius, radius, 1), pitch=_UP)
            parts.append(Part(f"column_{number}_top", "disk", matrix, surface))
    for number in range(int(rng.integers(0, 4))):
        size = rng.uniform(0.15, 0.5, 2)
        place = (rng.uniform(-0.4, 0.4) * width, rng.uniform(1.2, 1.9), depth - 0.02)
        parts.append(Part(f"image_{number}", "cube", _placed(place, (*size, 0.015)), _opaque(rng, plain=0.0)))
    return parts


def _frame(
    rng: Generator, name: str, center: Sequence[float], half: Sequence[float], yaw: float, bar: float, surface: Surface
) -> list[Part]:
    """Four bars around a rectangle of half sizes `half`."""
    across = np.array([math.cos(yaw), 0, -math.sin(yaw)])
    up = np.array([0.0, 1.0, 0.0])
    parts: list[Part] = []
    for side, direction, length in (
        ("left", across * half[0], half[1] + bar),
        ("right", -across * half[0], half[1] + bar),
        ("top", up * half[1], half[0] + bar),
        ("bottom", -up * half[1], half[0] + bar),
    ):
        size = (bar, length, bar) if side in ("left", "right") else (length, bar, bar)
        matrix = _placed(tuple(np.asarray(center) + direction), size, yaw)
        parts.append(Part(f"{name}_{side}", "cube", matrix, surface))
    return parts


def _turned(rng: Generator, like: RoomStyle, camera: Camera, x: float, z: float) -> tuple[float, bool]:
    """Yaw of a pane that stands at (x, z), and whether it is seen obliquely."""
    bearing = math.atan2(x - camera.position[0], z - camera.position[2])
    if rng.random() < like.oblique:
        incidence = math.radians(rng.uniform(40, 70))
        return float(bearing + rng.choice([-1.0, 1.0]) * incidence), True
    return float(rng.normal(bearing, 0.35)), False


def _empty(rng: Generator, like: RoomStyle) -> bool:
    """Whether a frame or rail stands there without a pane; where a style knows no such thing, nothing is drawn."""
    return like.empty > 0 and bool(rng.random() < like.empty)


def _mirrored_window(
    rng: Generator, like: RoomStyle, name: str, camera: Camera, room: Room, place: tuple[float, float], yaw: float
) -> list[Part]:
    """A window where the camera sees a wall mirrored in a pane at `place` (x, z)."""
    width, height, depth = room
    toward = np.array(place) - np.array([camera.position[0], camera.position[2]])
    normal = np.array([math.sin(yaw), math.cos(yaw)])
    mirrored = toward - 2 * (toward @ normal) * normal
    # Wall that the mirrored ray meets first: how far, in lengths of the ray, where, and which way the wall faces.
    walls = []
    for axis, limits in ((0, (-width / 2, width / 2)), (1, (-1.0, depth))):
        limit = limits[int(mirrored[axis] > 0)]
        if abs(mirrored[axis]) > 1e-9:
            walls.append(((limit - place[axis]) / mirrored[axis], axis, math.copysign(1.0, mirrored[axis])))
    far, axis, sign = min(wall for wall in walls if wall[0] > 0)
    met = np.array(place) + far * mirrored
    facing = -sign * math.pi / 2 if axis == 0 else (math.pi if sign > 0 else 0.0)
    half = (float(rng.uniform(*like.mirrored_m)), float(rng.uniform(0.5, max(0.55, height / 2 - 0.3))))
    return _window_at(rng, like, name, (float(met[0]), height / 2, float(met[1])), facing, half)


def _partition(rng: Generator, like: RoomStyle, camera: Camera, room: Room) -> list[Part]:
    """Frameless panes that stand in the room, each at an angle of its own."""
    parts: list[Part] = []
    for number in range(int(rng.integers(1, like.panes + 1))):
        # Not nearer, so that seldom does a pane fill the image.
        x, z = _in_view(rng, camera, 1.7, max(room[2] - 1.0, 2.2), 0.6)
        yaw, oblique = _turned(rng, like, camera, x, z)
        # Foreshortened, a pane needs more width to be seen as much.
        half = (float(rng.uniform(0.35, 0.9) * (1.2 if oblique else 1)), float(rng.uniform(0.7, room[1] / 2)))
        empty = _empty(rng, like)
        if not empty:
            parts.append(Part(f"pane_{number}", "rectangle", _placed((x, half[1], z), (*half, 1), yaw), _glass(rng)))
        if empty or rng.random() < 0.5:
            foot = _placed((x, 0.03, z), (half[0], 0.03, 0.03), yaw)
            parts.append(Part(f"pane_{number}_foot", "cube", foot, _metal(rng)))
        if oblique and not empty and rng.random() < like.mirrors:
            parts += _mirrored_window(rng, like, f"daylight_{number}", camera, room, (x, z), yaw)
    return parts


def _door(rng: Generator, like: RoomStyle, camera: Camera, room: Room) -> list[Part]:
    """A framed glass door with a handle, ajar or shut, or an empty frame."""
    x, z = _in_view(rng, camera, 1.6, max(room[2] - 0.8, 2.0), 0.5)
    half, (yaw, oblique) = (float(rng.uniform(0.38, 0.5)), 1.0), _turned(rng, like, camera, x, z)
    surface = _metal(rng) if rng.random() < 0.4 else _opaque(rng, plain=0.6)
    center = (x, half[1] + 0.03, z)
    panes = [] if _empty(rng, like) else [Part("door_pane", "rectangle", _placed(center, (*half, 1), yaw), _glass(rng))]
    parts = panes + _frame(rng, "door", center, half, yaw, float(rng.uniform(0.03, 0.07)), surface)
    if not panes:
        return parts
    # A bar on the side of the camera.
    side = np.array([math.cos(yaw), 0, -math.sin(yaw)]) * half[0] * 0.8
    away = np.array([-math.sin(yaw), 0, -math.cos(yaw)]) * 0.06
    place = np.array([x, 0.85, z]) + side + away
    parts.append(Part("door_handle", "cylinder", _placed(tuple(place), (0.015, 0.015, 0.4), pitch=_UP), _metal(rng)))
    if oblique and rng.random() < like.mirrors:
        parts += _mirrored_window(rng, like, "daylight_door", camera, room, (x, z), yaw)
    return parts


def _window(rng: Generator, like: RoomStyle, camera: Camera, room: Room) -> list[Part]:
    """A framed window in the end wall or a side wall."""
    width, height, depth = room
    half = (float(rng.uniform(0.4, 0.9)), float(rng.uniform(0.4, min(0.75, height / 2 - 0.35))))
    wall = rng.choice(["end", "left", "right"], p=[0.4, 0.3, 0.3])
    if wall == "end":
        return _window_at(rng, like, "window", (float(rng.uniform(-0.25, 0.25) * width), 1.5, depth), math.pi, half)
    sign = 1.0 if wall == "left" else -1.0
    place = (sign * width / 2, 1.5, float(rng.uniform(0.5, 0.8) * depth))
    return _window_at(rng, like, "window", place, -sign * math.pi / 2, half)


def _window_at(
    rng: Generator,
    like: RoomStyle,
    name: str,
    on_wall: tuple[float, float, float],
    yaw: float,
    half: tuple[float, float],
) -> list[Part]:
    """A framed window before a point of a wall that faces `yaw`, with light and a view behind it."""
    behind = float(rng.uniform(0.06, 0.25))
    outward = -np.array([math.sin(yaw), 0, math.cos(yaw)])
    place = np.array(on_wall) - behind * outward
    view = Surface("outside", int(rng.integers(2**31)), level=float(rng.uniform(*like.daylight)))
    view_place = tuple(place + (behind - 0.01) * outward)
    parts = [
        Part(f"{name}_pane", "rectangle", _placed(tuple(place), (*half, 1), yaw), _glass(rng)),
        Part(f"{name}_view", "rectangle", _placed(view_place, (*half, 1), yaw), view),
    ]
    surface = _opaque(rng, plain=0.7)
    parts += _frame(rng, name, tuple(place), half, yaw, float(rng.uniform(0.025, 0.06)), surface)
    if rng.random() < 0.6:
        bar = _placed(tuple(place), (0.018, half[1], 0.02), yaw)
        parts.append(Part(f"{name}_bar", "cube", bar, surface))
    return parts


def _case(rng: Generator, like: RoomStyle, camera: Camera, room: Room) -> list[Part]:
    """A display case of five panes on a pedestal, with something in it."""
    x, z = _in_view(rng, camera, 1.3, max(room[2] - 1.0, 2.0), 0.6)
    # A corner toward the camera: two sides are seen obliquely, and the lid from above.
    yaw, base = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.05)), float(rng.uniform(0.5, 0.9))
    half = rng.uniform(0.15, 0.4, 3)
    center = np.array([x, base + half[1], z])
    parts = [Part("case_base", "cube", _placed((x, base / 2, z), (half[0], base / 2, half[2]), yaw), _opaque(rng))]
    across, forward = np.array([math.cos(yaw), 0, -math.sin(yaw)]), np.array([math.sin(yaw), 0, math.cos(yaw)])
    surface = _glass(rng)
    for name, direction, size, turn in (
        ("front", -forward * half[2], (half[0], half[1], 1), 0.0),
        ("rear", forward * half[2], (half[0], half[1], 1), 0.0),
        ("left", across * half[0], (half[2], half[1], 1), math.pi / 2),
        ("right", -across * half[0], (half[2], half[1], 1), math.pi / 2),
    ):
        matrix = _placed(tuple(center + direction), size, yaw + turn)
        parts.append(Part(f"case_{name}", "rectangle", matrix, surface))
    lid = _placed((x, base + 2 * half[1], z), (half[0], half[2], 1), yaw, _UP)
    parts.append(Part("case_top", "rectangle", lid, surface))
    inner = float(rng.uniform(0.3, 0.6) * min(half))
    place = (x, base + inner + 0.001, z)
    shape: Literal["sphere", "cube"] = "sphere" if rng.random() < 0.5 else "cube"
    parts.append(Part("case_content", shape, _placed(place, (inner,) * 3, 1.0), _opaque(rng, plain=0.0)))
    return parts


def _table_with_glass(rng: Generator, like: RoomStyle, camera: Camera, room: Room) -> list[Part]:
    """A table with bottles, drinking glasses, balls and slabs, and some things that are not glass."""
    x, z = _in_view(rng, camera, 0.9, max(min(room[2] - 1.5, 3.0), 1.2), 0.4)
    half, top = (float(rng.uniform(0.4, 0.8)), float(rng.uniform(0.25, 0.5))), float(rng.uniform(0.65, 0.9))
    z += half[1]
    surface = _opaque(rng)
    parts = [Part("table_top", "cube", _placed((x, top - 0.02, z), (half[0], 0.02, half[1])), surface)]
    for number, (a, b) in enumerate(((1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0))):
        place = (x + 0.92 * a * half[0], top / 2 - 0.02, z + 0.92 * b * half[1])
        parts.append(Part(f"table_leg_{number}", "cube", _placed(place, (0.025, top / 2 - 0.02, 0.025)), surface))
    if rng.random() < 0.45:
        # Glass shows by its edges before what is darker or lighter than they are, and textured.
        board = (float(rng.uniform(0.5, 1.0) * half[0]), float(rng.uniform(0.12, 0.22)), 0.012)
        place = (x, top + board[1] + 0.001, z + 0.93 * half[1])
        level = (0.05, 0.15) if rng.random() < 0.7 else (0.55, 0.75)
        parts.append(Part("table_board", "cube", _placed(place, board), _opaque(rng, 0.3, 0.6, level)))
    taken: list[tuple[float, float]] = []
    for number in range(int(rng.integers(3, 8))):
        a, b = float(rng.uniform(-0.85, 0.85) * half[0]), float(rng.uniform(-0.8, 0.65) * half[1])
        if any(math.hypot(a - other_a, b - other_b) < 0.17 for other_a, other_b in taken):
            continue
        taken.append((a, b))
        maker = (_bottle, _drinking_glass, _ball, _slab, _thing)[int(rng.choice(5, p=[0.27, 0.27, 0.12, 0.12, 0.22]))]
        parts += maker(rng, f"item_{number}", (x + a, top + 0.001, z + b))
    return parts


def _floor_pieces(rng: Generator, like: RoomStyle, camera: Camera, room: Room) -> list[Part]:
    """Large solid pieces on the floor."""
    parts: list[Part] = []
    for number in range(int(rng.integers(1, 3))):
        x, z = _in_view(rng, camera, 1.5, max(room[2] - 1.0, 2.0), 0.6)
        size = float(rng.uniform(0.15, 0.4))
        if rng.random() < 0.5:
            parts.append(Part(f"globe_{number}", "sphere", _placed((x, size, z), (size,) * 3), _glass(rng, "solid")))
        else:
            block = (size, float(rng.uniform(0.3, 0.8)), float(rng.uniform(0.05, 0.2)))
            matrix = _placed((x, block[1] + 0.001, z), block, float(rng.uniform(-1, 1)))
            parts.append(Part(f"block_{number}", "cube", matrix, _glass(rng, "solid")))
    return parts


def _bottle(rng: Generator, name: str, place: tuple[float, float, float]) -> list[Part]:
    """A thin-walled bottle: body, shoulder, neck and stopper."""
    x, y, z = place
    radius, tall = float(rng.uniform(0.03, 0.05)), float(rng.uniform(0.14, 0.24))
    neck, neck_tall = 0.35 * radius, float(rng.uniform(0.05, 0.09))
    surface = _glass(rng)
    # The shoulder is half a ball seen from outside; what lies inside the body is seen through two walls, as in life.
    return [
        Part(f"{name}_body", "cylinder", _placed(place, (radius, radius, tall), pitch=_UP), surface),
        Part(f"{name}_shoulder", "sphere", _placed((x, y + tall, z), (radius, 0.6 * radius, radius)), surface),
        Part(
            f"{name}_neck",
            "cylinder",
            _placed((x, y + tall + 0.5 * radius, z), (neck, neck, neck_tall), pitch=_UP),
            surface,
        ),
        Part(
            f"{name}_stopper",
            "sphere",
            _placed((x, y + tall + 0.5 * radius + neck_tall, z), (1.2 * neck,) * 3),
            _opaque(rng, plain=0.8),
        ),
    ]


def _drinking_glass(rng: Generator, name: str, place: tuple[float, float, float]) -> list[Part]:
    """A thin wall with a rim on a thick bottom; empty, or filled with water or with a drink that hides what is behind.

    A thin wall alone is nearly invisible, in life as well. Lead crystal has an index of up to 1.7.
    """
    x, y, z = place
    radius, tall = float(rng.uniform(0.032, 0.055)), float(rng.uniform(0.09, 0.18))
    eta = float(rng.uniform(1.5, 1.7))
    wall, solid_glass = Surface("pane", eta=eta), Surface("solid", eta=eta)
    bottom, rim = float(rng.uniform(0.008, 0.02)), 0.006
    # A tumbler's wall, and more than ground truth takes for one surface.
    inner = radius - 0.004
    parts = [
        Part(f"{name}_wall", "cylinder", _placed(place, (radius, radius, tall), pitch=_UP), wall),
        # Rounded edges send light back more than once: a rim is seen as a second sheet inside the first.
        Part(f"{name}_rim", "cylinder", _placed((x, y + tall - rim, z), (inner, inner, rim), pitch=_UP), wall),
        *_closed_cylinder(f"{name}_bottom", (x, y + 0.001, z), inner, bottom, solid_glass),
    ]
    filled = rng.random()
    level = float(rng.uniform(0.4, 0.8) * (tall - bottom))
    surface = None
    if filled < 0.4:
        surface = Surface("solid", eta=_WATER_ETA)
    elif filled < 0.75:
        surface = Surface("coated", level=float(rng.choice([0.03, 0.2, 0.7])), roughness=0.12, eta=_WATER_ETA)
    if surface is not None:
        parts += _closed_cylinder(f"{name}_filling", (x, y + bottom + 0.002, z), inner, level, surface)
    return parts


def _closed_cylinder(
    name: str, place: tuple[float, float, float], radius: float, tall: float, surface: Surface
) -> list[Part]:
    """A standing cylinder with both of its ends, all normals outward."""
    x, y, z = place
    return [
        Part(f"{name}_side", "cylinder", _placed(place, (radius, radius, tall), pitch=_UP), surface),
        Part(f"{name}_top", "disk", _placed((x, y + tall, z), (radius, radius, 1), pitch=_UP), surface),
        Part(f"{name}_under", "disk", _placed(place, (radius, radius, 1), pitch=-_UP), surface),
    ]


def _ball(rng: Generator, name: str, place: tuple[float, float, float]) -> list[Part]:
    radius = float(rng.uniform(0.04, 0.09))
    matrix = _placed((place[0], place[1] + radius, place[2]), (radius,) * 3)
    return [Part(name, "sphere", matrix, _glass(rng, "solid"))]


def _slab(rng: Generator, name: str, place: tuple[float, float, float]) -> list[Part]:
    size = (float(rng.uniform(0.05, 0.1)), float(rng.uniform(0.06, 0.14)), float(rng.uniform(0.01, 0.03)))
    matrix = _placed((place[0], place[1] + size[1], place[2]), size, float(rng.uniform(-1.2, 1.2)))
    return [Part(name, "cube", matrix, _glass(rng, "solid"))]


def _thing(rng: Generator, name: str, place: tuple[float, float, float]) -> list[Part]:
    size = float(rng.uniform(0.03, 0.08))
    shape: Literal["sphere", "cube"] = "sphere" if rng.random() < 0.4 else "cube"
    return [Part(name, shape, _placed((place[0], place[1] + size, place[2]), (size,) * 3, 0.7), _opaque(rng))]
