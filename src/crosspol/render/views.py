"""Images of a scene: linear Stokes parameters of both views, cleaned of fireflies and noise."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crosspol.render.scene import RoomScene, mitsuba_scene
from crosspol.render.truth import GroundTruth, camera_frame, trace_truth

__all__ = ["RIGS", "Quality", "RenderedPair", "can_denoise", "render_pair"]

Array = NDArray[np.float32]
RenderRig = Literal["quad", "crossed"]
RIGS: tuple[RenderRig, ...] = ("quad", "crossed")

_PASSES = 4
"""An image is the mean of as many; one that lies far above the others is a firefly."""
_FIREFLY = 3.0
_AMBIENT_CROSSED = 0.15
"""What is left of the room's light where the polarized lamp is to dominate."""
_LAMP_HALF_M = 0.08
_VIEWS = ("left", "right")
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)


@dataclass(frozen=True)
class Quality:
    """How much work goes into an image.

    samples: rays per pixel and view. bounces: longest path; straight passage through panes does not count.
    denoise: clean with Open Image Denoise where it is installed.
    """

    samples: int = 32
    bounces: int = 7
    denoise: bool = True


@dataclass(frozen=True, eq=False)
class RenderedPair:
    """left, right: linear light, float32: Stokes (C, 3, H, W) of a quad rig, intensities (C, H, W) of a crossed one;
    C is 1 or 3."""

    rig: RenderRig
    left: Array
    right: Array
    truth: GroundTruth


def can_denoise() -> bool:
    """Whether Open Image Denoise is installed: `pyoidn`, and `cffi`, which it needs without declaring it."""
    return all(importlib.util.find_spec(name) is not None for name in ("pyoidn", "cffi"))


def render_pair(
    mitsuba: Any, scene: RoomScene, rig: RenderRig, size: tuple[int, int], quality: Quality, color: bool = False
) -> RenderedPair:
    """Render a pair and its ground truth.

    On one thread, the same arguments give the same bits.

    Args:
        mitsuba: the module, with a variant set and `register_bsdfs` called; for color a spectral one.
        scene: from `draw_room_scene`.
        rig: "quad": both cameras measure linear Stokes; "crossed": a lamp polarized along image-right beside the
            cameras, the left one behind a polarizer along image-right, the right one behind one across it.
        size: (H, W), px.
        quality: how much work to put in.
        color: three colors rather than one.
    """
    ambient = _AMBIENT_CROSSED if rig == "crossed" else 1.0
    description = mitsuba_scene(mitsuba, scene, color, ambient=ambient)
    bare = mitsuba_scene(mitsuba, scene, color, glass=False)
    for view in _VIEWS:
        for described in (description, bare):
            described[f"camera_{view}"] = _sensor(mitsuba, scene, view, size)
    if rig == "crossed":
        description |= _lamp(mitsuba, scene)
    inner = {"type": "volpath", "max_depth": quality.bounces, "rr_depth": 4}
    description["integrator"] = {"type": "stokes", "inner": inner}
    # What lies behind glass has the fine detail: the guide of the denoiser looks through.
    bare["integrator"] = {"type": "aov", "aovs": "albedo:albedo,normal:sh_normal"}
    # Optimizing would merge shapes, and loading in parallel numbers them in no fixed order.
    full, opaque = (mitsuba.load_dict(described, parallel=False, optimize=False) for described in (description, bare))

    seeds = np.random.SeedSequence([*scene.seed, RIGS.index(rig)]).generate_state(2 * (_PASSES + 1))
    views: list[Array] = []
    for number in range(2):
        own = [int(seed) for seed in seeds[number :: len(_VIEWS)]]
        light = _render_stokes(mitsuba, full, number, quality.samples, own[1:], color)
        if quality.denoise and can_denoise():
            light = _denoise(light, *_guides(mitsuba, opaque, number, own[0]))
        views.append(light)
    if rig == "crossed":
        # What passes a polarizer; noise may leave it a little below 0, light does not.
        through = (views[0][:, 0] + views[0][:, 1], views[1][:, 0] - views[1][:, 1])
        views = [np.maximum(view, 0) / np.float32(2) for view in through]
    left, right = (np.ascontiguousarray(view) for view in views)
    return RenderedPair(rig, left, right, trace_truth(mitsuba, full, opaque, scene.camera, size))


def _sensor(mitsuba: Any, scene: RoomScene, view: str, size: tuple[int, int]) -> dict[str, Any]:
    height, width = size
    place, axes = camera_frame(scene.camera, view)
    film = {"type": "hdrfilm", "width": width, "height": height, "component_format": "float32"}
    return {
        "type": "perspective",
        "fov": float(2 * np.degrees(np.arctan(0.5 / scene.camera.focal))),
        "fov_axis": "x",
        "near_clip": 0.01,
        "to_world": mitsuba.ScalarTransform4f().look_at(
            origin=place.tolist(), target=(place + axes[2]).tolist(), up=[0, 1, 0]
        ),
        "film": {**film, "rfilter": {"type": "box"}},
        "sampler": {"type": "independent"},
    }


def _lamp(mitsuba: Any, scene: RoomScene) -> dict[str, Any]:
    """A square lamp above the cameras behind a polarizer along image-right."""
    left, axes = camera_frame(scene.camera, "left")
    right, _ = camera_frame(scene.camera, "right")
    place = (left + right) / 2 - 0.14 * axes[1]
    transform = mitsuba.ScalarTransform4f

    def facing(origin: Any, half: float) -> Any:
        turned = transform().look_at(origin=origin.tolist(), target=(origin + axes[2]).tolist(), up=[0, 1, 0])
        return turned @ transform().scale([half, half, 1])

    return {
        "lamp": {
            "type": "rectangle",
            "to_world": facing(place, _LAMP_HALF_M),
            "emitter": {"type": "area", "radiance": {"type": "uniform", "value": scene.lamp}},
            "bsdf": {"type": "diffuse", "reflectance": {"type": "uniform", "value": 0.0}},
        },
        "lamp_polarizer": {
            "type": "rectangle",
            # Wider, so that no light leaves past it at a slant that the cameras see.
            "to_world": facing(place + 0.004 * axes[2], 1.5 * _LAMP_HALF_M),
            "bsdf": {"type": "polarizer", "theta": {"type": "uniform", "value": 0.0}},
        },
    }


def _render_stokes(mitsuba: Any, scene: Any, number: int, samples: int, seeds: list[int], color: bool) -> Array:
    """Return (C, 3, H, W), linear."""
    share = max(samples // _PASSES, 1)
    passes = []
    for seed in seeds[:_PASSES]:
        pixels = np.array(mitsuba.render(scene, sensor=number, seed=seed, spp=share), np.float32)
        # The last twelve channels are S0 to S3, each as red, green and blue; S3 is not recorded.
        stokes = pixels[..., -12:].reshape(*pixels.shape[:2], 4, 3)[..., :3, :]
        # A monochrome variant repeats its one channel.
        passes.append(stokes if color else (stokes @ _LUMINANCE)[..., None])
    return np.ascontiguousarray(_without_fireflies(np.nan_to_num(np.stack(passes))).transpose(3, 2, 0, 1))


def _without_fireflies(passes: Array) -> Array:
    """Mean over the passes (N, H, W, 3, C), each scaled down to a few times the brightness that the others agree on.

    All Stokes parameters are scaled alike, so that no polarization is made.
    """
    import cv2

    brightness = passes[:, :, :, 0].mean(axis=-1)
    agreed = np.median(brightness, axis=0)
    # Where few passes met the light at all, the neighborhood says what is likely.
    likely = np.maximum(agreed, cv2.medianBlur(np.ascontiguousarray(agreed), 3))
    limit = _FIREFLY * likely + np.float32(0.02 * np.median(agreed))
    scale = np.minimum(1, limit / np.maximum(brightness, 1e-12))
    return np.asarray((passes * scale[..., None, None]).mean(axis=0), np.float32)


def _guides(mitsuba: Any, opaque: Any, number: int, seed: int) -> tuple[Array, Array]:
    """Albedo and normals (H, W, 3) of what is not glass."""
    pixels = np.array(mitsuba.render(opaque, sensor=number, seed=seed, spp=16), np.float32)
    albedo, normals = np.nan_to_num(pixels[..., -6:-3]), np.nan_to_num(pixels[..., -3:])
    return np.ascontiguousarray(np.clip(albedo, 0, 1)), np.ascontiguousarray(np.clip(normals, -1, 1))


def _denoise(light: Array, albedo: Array, normals: Array) -> Array:
    """Denoise (I0, I45, I90) of each color as an image, so that polarization is cleaned with brightness."""
    oidn: Any = import_module("pyoidn")
    cleaned = np.empty_like(light)
    for color, (s0, s1, s2) in enumerate(light):
        # (S0 + S1) / 2 and so on may fall below 0 by noise; light does not.
        angles = np.maximum(np.stack([s0 + s1, s0 + s2, s0 - s1], axis=-1) / 2, 0)
        gray = np.repeat(albedo[..., color : color + 1], 3, axis=-1) if len(light) == 3 else albedo
        i0, i45, i90 = np.moveaxis(oidn.denoise(np.ascontiguousarray(angles), gray, normals, hdr=True), -1, 0)
        cleaned[color] = i0 + i90, i0 - i90, 2 * i45 - i0 - i90
    return cleaned
