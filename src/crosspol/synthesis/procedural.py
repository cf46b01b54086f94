"""A stereo data set with polarized glass that needs no download: random layered scenes with exact ground truth.

Sample `index` depends on the seed and the index only. Everything is computed in linear light; the camera model at the
end adds exposure, differences between the two cameras, noise and the display curve.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crosspol.data.indexed import Indexed
from crosspol.data.inputs import StereoInputs, ViewRecord
from crosspol.data.noise import Noise, draw_noise
from crosspol.data.sample import StereoSample
from crosspol.light import DARK, SATURATED, display_image
from crosspol.limits import MINIMUM_SIDE
from crosspol.polarimetry import validity
from crosspol.rigs.kinds import RIG_KINDS, RigKind
from crosspol.synthesis.compositing import RenderedView, occlusion, render_view
from crosspol.synthesis.layout import LayeredScene, draw_layered_scene
from crosspol.synthesis.stage import Depths

__all__ = ["ProceduralConfig", "ProceduralStereo", "SceneConfig"]

Array = NDArray[np.float32]
Generator = np.random.Generator

# Of noise and of the cameras' differences: ten times the real ones leave nothing to see.
_STRONGEST = 10.0
# Where an angle of the polarization sensor saturates, in units of the image's white. Polarization is valid from an S0
# of `light.DARK` in these units on: of the sensor's own white the mean of the angles is then above 0.0083.
_BRIGHTEST_ANGLE = 0.6
# Of what is drawn from a range: how small and how large it may be.
_RANGES = {"nearest": (0.01, 1.0), "farthest": (0.0, 0.9), "openings": (0.0, 1.0), "focal": (0.2, 10.0)}
_ROOTS = np.linspace(0, 1, 4096, dtype=np.float32)
# Blur of a smaller standard deviation (px) than this does not show.
_SHARP = 0.2


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """What procedural scenes are like, whatever their size and the rig that records them.

    Raises:
        ValueError: a value is out of its range.
    """

    max_disparity: float | None = None
    """Px; None: a quarter of the width."""
    layers: tuple[int, int] = (4, 10)
    """Fewest and most objects in front of the backdrop."""
    glass_probability: float = 0.4
    """Share of scenes with glass, in [0, 1]."""
    opening_probability: float = 0.85
    """Share of the scenes without glass that have windows, frames and the like all the same, open ones, in [0, 1]."""
    nearest: tuple[float, float] = (0.1, 1.0)
    """Range of the nearest object's disparity, as shares of max_disparity: from short baselines to long ones."""
    farthest: tuple[float, float] = (0.0, 0.0)
    """Range of the farthest surface's disparity, as shares of the nearest object's, as within a room; 0 to 0: mostly
    near infinity, half at most."""
    openings: tuple[float, float] = (0.65, 1.0)
    """Where windows, frames and the like stand, with and without panes, from the farthest (0) to the nearest (1)."""
    focal: tuple[float, float] = (0.5, 2.0)
    """Range of focal lengths, in widths."""
    camera_difference: float = 1.0
    """Strength of gain, white balance, gamma and sharpness differences between the images; 0: none, 1: realistic."""
    noise: float = 1.0
    """Strength of sensor noise; 0: none, 1: realistic."""
    misalignment: float = 1.0
    """Px that rows of the right image are off at most, by a shift and a small turn, in half of the scenes."""

    def __post_init__(self) -> None:
        if not 0 <= self.layers[0] <= self.layers[1]:
            raise ValueError(f"layers must be (fewest, most), got {self.layers}")
        for name in ("glass_probability", "opening_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name, (least, most) in _RANGES.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ValueError(f"{name} must be (smallest, largest) in [{least:g}, {most:g}], got {(low, high)}")
        if not (0 <= self.camera_difference <= _STRONGEST and 0 <= self.noise <= _STRONGEST):
            raise ValueError(
                f"camera_difference and noise must be in [0, {_STRONGEST:g}], got {self.camera_difference} and "
                f"{self.noise}"
            )
        if not 0 <= self.misalignment <= _STRONGEST:
            raise ValueError(f"misalignment must be in [0, {_STRONGEST:g}], got {self.misalignment}")


@dataclass(frozen=True)
class ProceduralConfig(SceneConfig):
    """What a `ProceduralStereo` draws: so many scenes of this kind, in this size, for this rig.

    Raises:
        ValueError: a value is out of its range.
    """

    size: tuple[int, int] = (256, 320)
    """Height and width, px, both at least 32."""
    length: int = 10_000
    """Number of samples."""
    seed: int = 0
    """At least 0; another seed is another data set."""
    rig: RigKind = "quad"
    """What is recorded besides the images."""
    pol_channels: int = 1
    """1: DoLP; 3: S1/S0, S2/S0 and DoLP."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_recording(self.size, self.seed, self.rig, self.pol_channels)
        check_reach(self.max_disparity, self.size)
        if self.length < 1:
            raise ValueError(f"length must be at least 1, got {self.length}")


def check_recording(size: tuple[int, int], seed: int, rig: str, pol_channels: int) -> None:
    """Refuse what no samples can be made with.

    Raises:
        ValueError: a value is out of its range.
    """
    if len(size) != 2 or min(size) < MINIMUM_SIDE:
        raise ValueError(f"size must be (height, width), both at least {MINIMUM_SIDE}, got {size}")
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    if rig not in RIG_KINDS:
        raise ValueError(f"rig must be one of {', '.join(RIG_KINDS)}, got {rig!r}")
    if pol_channels not in (1, 3):
        raise ValueError(f"pol_channels must be 1 or 3, got {pol_channels}")


def check_reach(max_disparity: float | None, size: tuple[int, int]) -> None:
    """Refuse a largest disparity that scenes of a size cannot have.

    Raises:
        ValueError: it is out of its range.
    """
    if max_disparity is not None and not 2 <= max_disparity <= size[1] / 2:
        raise ValueError(f"max_disparity must be in [2, {size[1] / 2}] for width {size[1]}, got {max_disparity}")


@dataclass(frozen=True)
class _Camera:
    """How one camera turns radiance into an image.

    exposure: (3,), radiance to white. gamma: exponent on the display value. blur: standard deviation, px.
    """

    exposure: Array
    gamma: float
    blur: float
    noise: Noise


class ProceduralStereo(Indexed):
    """Random layered scenes with glass; sample `index` is a function of `(config.seed, index)`, whichever process asks.

    Use with `DataLoader(..., collate_fn=crosspol.data.sample.stack)`.
    """

    def __init__(self, config: ProceduralConfig | None = None) -> None:
        self.config = config or ProceduralConfig()

    def __len__(self) -> int:
        return self.config.length

    def _sample(self, index: int) -> StereoSample:
        """Draw, render and photograph scene `index`."""
        config = self.config
        rng = np.random.default_rng([config.seed, index])
        scene = self._scene(rng)
        left, right = render_view(scene, config.size, "left"), render_view(scene, config.size, "right")
        truth = {
            "disparity": left.disparity,
            "valid": np.ones_like(left.disparity),
            "glass": left.glass.astype(np.float32),
            "occluded": occlusion(scene, left.disparity).astype(np.float32),
            "disparity_background": left.background,
        }
        inputs = _photograph(rng, left, _misaligned(rng, right, config.misalignment), config)
        tensors: dict[str, Any] = {name: torch.from_numpy(plane[None]) for name, plane in truth.items()}
        tensors |= inputs.kwargs()
        return StereoSample(**tensors, rig=config.rig, name=f"procedural-{config.seed}-{index}")

    def scene(self, index: int) -> LayeredScene:
        """The scene behind sample `index`, for tests and images."""
        return self._scene(np.random.default_rng([self.config.seed, index]))

    def _scene(self, rng: Generator) -> LayeredScene:
        config = self.config
        largest = config.size[1] / 4 if config.max_disparity is None else config.max_disparity
        return draw_layered_scene(
            rng,
            config.size,
            largest,
            config.layers,
            config.glass_probability,
            config.rig == "crossed",
            config.opening_probability,
            Depths(config.nearest, config.farthest, config.openings, config.focal),
        )


def _misaligned(rng: Generator, view: RenderedView, most: float) -> RenderedView:
    """The light of a view as a camera sees it whose rectification is not perfect; the truth stays what it is.

    In half of the views, rows are off by a shift and a turn that together reach `most` px somewhere at most.
    """
    there, share, turned, sign, way = rng.random(5)
    if most == 0 or there < 0.5:
        return view
    import cv2

    # Small errors are more frequent than large ones.
    off = most * share**2 * (1.0 if sign < 0.5 else -1.0)
    height, width = view.s1.shape
    angle = 2 * turned * off / width * (1.0 if way < 0.5 else -1.0)
    middle = (width - 1) / 2, (height - 1) / 2
    place = np.array(
        [[1, -angle, angle * middle[1]], [angle, 1, (1 - turned) * off - angle * middle[0]]],
    )
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    s1, s2, *rgb = (
        cv2.warpAffine(plane, place, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        for plane in (view.s1, view.s2, *view.rgb)
    )
    # Cubic weights overshoot: light stays positive, and polarized by less than all of it.
    light = np.maximum(np.stack(rgb), 0)
    excess = np.sqrt(s1 * s1 + s2 * s2) / np.maximum(light.mean(axis=0), np.float32(1e-9))
    s1, s2 = (part / np.maximum(excess, 1) for part in (s1, s2))
    return replace(view, rgb=light, s1=s1, s2=s2)


def _photograph(rng: Generator, left: RenderedView, right: RenderedView, config: ProceduralConfig) -> StereoInputs:
    """Everything the rig records of two views."""
    cameras = _draw_cameras(rng, left, config)
    base = float(cameras[0].exposure.mean())
    views = []
    for view, camera, sign in zip((left, right), cameras, (1.0, -1.0), strict=True):
        rgb, light, valid = view.rgb, None, None
        if config.rig == "crossed":
            # Behind a polarizer at 0 (left) or 90 degrees (right); doubled, because half the light passes.
            polarizer = 1 + np.float32(sign) * view.s1 / (view.rgb.mean(axis=0) + np.float32(1e-9))
            rgb = rgb * polarizer
            mono = np.float32(base) * rgb.mean(axis=0)[None]
            light = torch.from_numpy(np.clip(_sensed(rng, mono, camera), 0, 1))
            valid = ((light > DARK) & (light < SATURATED)).float()
        image = _image(rng, rgb, camera)
        if config.rig == "quad" or (config.rig == "quad-left" and view is left):
            light, valid = _stokes(rng, view, base, camera)
        views.append(ViewRecord(torch.from_numpy(image), light, valid))
    return StereoInputs.from_light(views[0], views[1], config.rig, config.pol_channels)


def _draw_cameras(rng: Generator, view: RenderedView, config: ProceduralConfig) -> tuple[_Camera, _Camera]:
    """Two cameras set for this scene, alike but not the same."""
    bright = float(np.quantile(view.rgb[:, ::4, ::4].mean(axis=0), rng.uniform(0.8, 0.99)))
    exposure = rng.uniform(0.3, 0.85) / max(bright, 1e-3)
    tone, blur = float(np.exp(rng.normal(0, 0.1))), max(0.0, float(rng.normal(0.0, 0.35)))
    noise = draw_noise(rng, config.noise)
    # The common white balance is the color of the light; the rest is each camera's own.
    common = np.exp(rng.normal(0, 0.08, 3))
    cameras = []
    for _ in range(2):
        own = config.camera_difference * rng.normal(0, 1, 6)
        gain = exposure * common * np.exp(0.07 * own[0] + 0.025 * own[1:4])
        gamma = tone * float(np.exp(0.04 * own[4]))
        cameras.append(_Camera(gain.astype(np.float32), gamma, max(0.0, blur + 0.12 * float(own[5])), noise))
    return cameras[0], cameras[1]


def _image(rng: Generator, rgb: Array, camera: _Camera) -> Array:
    """Radiance (3, H, W) to an 8-bit display-referred image in [0, 1]."""
    signal = _sensed(rng, rgb * camera.exposure[:, None, None], camera)
    # The display curve from a table over the root of light, in which it is nearly straight: to 0.06 of an 8-bit step.
    table = display_image(_ROOTS * _ROOTS, camera.gamma)
    place = np.sqrt(np.clip(signal, 0, 1, out=signal), out=signal)
    place *= len(table) - 1
    place += np.float32(0.5)
    return np.take(table, place.astype(np.uint16))


def _stokes(rng: Generator, view: RenderedView, exposure: float, camera: _Camera) -> tuple[Tensor, Tensor]:
    """Four noisy angle intensities of a polarization sensor -> Stokes (3, H, W) and where to trust it (1, H, W)."""
    half = np.float32(exposure / 2)
    s0, s1, s2 = view.rgb.mean(axis=0), view.s1, view.s2
    angles = np.stack([s0 + s1, s0 + s2, s0 - s1, s0 - s2])
    angles *= half
    measured = np.clip(_sensed(rng, angles, camera), 0, _BRIGHTEST_ANGLE)
    i0, i45, i90, i135 = measured
    valid = validity(*torch.from_numpy(measured), dark=DARK / 2, saturated=_BRIGHTEST_ANGLE)
    stokes = np.stack([measured.sum(axis=0) / 2, i0 - i90, i45 - i135])
    return torch.from_numpy(stokes), valid[None].float()


def _sensed(rng: Generator, signal: Array, camera: _Camera) -> Array:
    """Light (C, H, W) after the lens's blur, with shot and read noise."""
    if camera.blur > _SHARP:
        signal = _blurred(signal, camera.blur)
    return camera.noise.added(rng, signal)


def _blurred(planes: Array, deviation: float) -> Array:
    import cv2

    return np.stack([cv2.GaussianBlur(plane, (0, 0), deviation) for plane in planes])


VALIDATION_SEED_OFFSET = 1_000_003
"""Added to the data seed for the held-out part: no training run with a smaller seed ever sees those scenes."""


def held_out(config: ProceduralConfig) -> ProceduralStereo:
    """Return as many scenes of the same kind that belong to validation."""
    return ProceduralStereo(replace(config, seed=config.seed + VALIDATION_SEED_OFFSET))
