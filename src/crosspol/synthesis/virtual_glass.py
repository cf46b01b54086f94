"""Panes of glass in stereo pairs that were taken without polarization.

A pane stands in front of everything that is known behind its outline. It transmits the scene and reflects a mirrored
world by Fresnel's equations, in linear light, in both views; the truth becomes the pane's, and the polarization maps
are what a rig would have measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crosspol.data.inputs import StereoInputs, ViewRecord, trusting_replace
from crosspol.data.noise import Noise, draw_noise
from crosspol.data.sample import StereoSample
from crosspol.data.truth import GroundTruth, make_sample
from crosspol.light import decode_srgb, display_image, well_exposed
from crosspol.polarimetry import validity
from crosspol.rigs.kinds import RigKind
from crosspol.synthesis.panes import pane_optics, plane_normal, reflected, transmitted

__all__ = ["BackgroundPolarization", "VirtualPane", "add_virtual_glass", "draw_pane", "insert_pane"]

Array = NDArray[np.float32]

# How often a pane is drawn until one fits.
_ATTEMPTS = 5
# Where no pixel is.
_NOWHERE = (-3.0, -3.0, -2.0, -2.0)


@dataclass(frozen=True)
class VirtualPane:
    """A flat pane, upright in the left view.

    box: left, top, right, bottom, px, of the left view.
    disparity: px at the principal point; slope_x, slope_y: px a pixel to the right and down.
    eta: refractive index.
    mirrored_disparity: px, of the mirrored world; smaller than the pane's, as it appears behind.
    brightness: of the mirrored world against the scene.
    """

    box: tuple[float, float, float, float]
    disparity: float
    slope_x: float = 0.0
    slope_y: float = 0.0
    eta: float = 1.5
    mirrored_disparity: float = 2.0
    brightness: float = 1.0

    def __post_init__(self) -> None:
        left, top, right, bottom = self.box
        if not (right > left and bottom > top):
            raise ValueError(f"box must be (left, top, right, bottom) with an area, got {self.box}")
        if not (1 <= self.eta < np.inf and 0 <= self.brightness < np.inf and abs(self.slope_x) < 0.9):
            raise ValueError(
                "eta must be at least 1, brightness at least 0, both finite, and slope_x within 0.9, got "
                f"{self.eta}, {self.brightness} and {self.slope_x}"
            )


@dataclass(frozen=True)
class BackgroundPolarization:
    """How everything else is polarized: a gloss, without which "is polarized" would mean "is glass".

    dolp: of black surfaces; brighter ones are polarized less (Umov's effect).
    angle_rad: direction in the first row; turn_rad: how far it turns until the last one.
    """

    dolp: float = 0.05
    angle_rad: float = 0.0
    turn_rad: float = 1.0


def insert_pane(
    sample: StereoSample,
    pane: VirtualPane,
    *,
    rig: RigKind = "quad",
    pol_channels: int = 1,
    focal: float | None = None,
    background: BackgroundPolarization | None = None,
    noise: Noise | None = None,
    seed: int = 0,
) -> StereoSample:
    """Put a pane into a pair without polarization.

    The mirrored world is the scene, turned around. Where light is clipped or dark, polarization, or a crossed
    pair's intensity, is not valid.

    Args:
        sample: of rig "none".
        pane: nearer than everything known behind its outline.
        rig: what records the result.
        pol_channels: of the network, 1 or 3.
        focal: px; None: the width. The principal point is in the middle.
        background: polarization of the scene; None: none at all.
        noise: of the polarization, or of a crossed pair's intensities; None: none. The images have their own already.
        seed: of the noise.

    Returns:
        The pair with the pane: `glass` and `disparity` are the pane's where it is, `disparity_background` is what was
        there before (0: unknown), `occluded` includes what the pane hides from the right view. Glass of the scene that
        is not known counts as none: a head that finds glass needs what is none, and that is nearly all of it.

    Raises:
        ValueError: the sample has polarization already, the pane is not in front, or the mirrored world not behind it.
    """
    if sample.rig != "none":
        raise ValueError(f"sample must be of rig 'none', got {sample.rig!r}")
    height, width = sample.left.shape[-2:]
    focal = focal or float(width)
    x, y = np.arange(width, dtype=np.float32)[None, :], np.arange(height, dtype=np.float32)[:, None]
    center = ((width - 1) / 2, (height - 1) / 2)
    at_zero = np.float32(pane.disparity - pane.slope_x * center[0] - pane.slope_y * center[1])
    here = at_zero + np.float32(pane.slope_x) * x + np.float32(pane.slope_y) * y
    # The point of the pane that the right view sees in a column, as a column of the left view.
    level: Array = x + at_zero
    tilt: Array = np.float32(pane.slope_y) * y
    left_x: Array = (level + tilt) / np.float32(1 - pane.slope_x)
    shares = [_share(pane, column, y) for column in (np.broadcast_to(x, here.shape), left_x)]
    covered = shares[0] >= 0.5
    before = np.where(sample.valid[0].numpy() > 0, sample.disparity[0].numpy(), np.float32(np.nan))
    _check_order(pane, here, covered, before)

    normal = plane_normal(pane.slope_x, pane.slope_y, pane.disparity, focal)
    optics = pane_optics(normal, x - np.float32(center[0]), y - np.float32(center[1]), focal, pane.eta)
    world = np.float32(pane.brightness) * decode_srgb(sample.left).numpy()[..., ::-1]
    shift = round(pane.mirrored_disparity)
    rng = np.random.default_rng(seed)
    views = []
    for side, share in zip(("left", "right"), shares, strict=True):
        scene = decode_srgb(getattr(sample, side)).numpy()
        columns = np.arange(width) + (shift if side == "right" else 0)
        # Beyond its border the mirrored world goes on as its own mirror image.
        mirror = world[..., np.minimum(columns, 2 * (width - 1) - columns)]
        mean, mirror_mean = (light.mean(axis=0) + np.float32(1e-9) for light in (scene, mirror))
        s1, s2 = _background_stokes(background, mean)
        through = transmitted(optics, (mean, s1, s2))
        nothing = np.zeros_like(mean)
        back = reflected(optics, (mirror_mean, nothing, nothing))
        light = scene * (through[0] / mean) + mirror * (back[0] / mirror_mean)
        rgb = scene + share * (light - scene)
        s1, s2 = (old + share * (a + b - old) for old, a, b in ((s1, through[1], back[1]), (s2, through[2], back[2])))
        views.append(_recorded(rig, side, rgb, s1, s2, noise or Noise(), rng))

    point = x - before
    # The pane also hides what the right view would see through it, as any nearer surface does.
    behind = (point + at_zero + np.float32(pane.slope_y) * y) / np.float32(1 - pane.slope_x)
    with np.errstate(invalid="ignore"):
        hidden = (_share(pane, np.nan_to_num(behind, nan=-1e6), y) >= 0.5) | (sample.occluded[0].numpy() > 0)
    out_of_frame = x - here < -0.5
    truth = GroundTruth(
        np.where(covered, here, before).astype(np.float32),
        covered | (sample.glass[0].numpy() > 0),
        np.where(covered, out_of_frame, hidden),
        before,
    )
    inputs = StereoInputs.from_light(views[0], views[1], rig, pol_channels)
    result = make_sample(inputs, rig, truth, sample.name)
    if sample.disparity_background is None:
        return result
    return trusting_replace(result, disparity_background=sample.disparity_background)


def draw_pane(sample: StereoSample, rng: np.random.Generator) -> VirtualPane | None:
    """Draw a pane in front of everything that is known in a sample's outline of it; None where none fits.

    Args:
        sample: any.
        rng: the same state gives the same pane.
    """
    height, width = sample.left.shape[-2:]
    w, h = rng.uniform(0.2, 0.6) * width, rng.uniform(0.25, 0.8) * height
    left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
    slope_x, slope_y = rng.uniform(-0.06, 0.06), rng.uniform(-0.02, 0.02)
    nearer, eta, brightness = rng.uniform(1, 8), rng.uniform(1.45, 1.7), rng.uniform(0.3, 3)
    box = (float(left), float(top), float(left + w), float(top + h))
    rows = slice(int(top), int(top + h) + 2)
    columns = slice(int(left), int(left + w) + 2)
    known = (sample.disparity * sample.valid)[0, rows, columns].numpy()
    x, y = np.arange(width)[None, columns] - (width - 1) / 2, np.arange(height)[rows, None] - (height - 1) / 2
    disparity = float((known - slope_x * x - slope_y * y).max() + nearer)
    if disparity > width / 3:
        return None
    smallest = disparity - abs(slope_x) * width / 2 - abs(slope_y) * height / 2
    if smallest < 1:
        return None
    mirrored = float(rng.uniform(0, smallest))
    return VirtualPane(box, disparity, slope_x, slope_y, eta, mirrored, brightness)


def add_virtual_glass(
    sample: StereoSample,
    rng: np.random.Generator,
    *,
    rig: RigKind = "quad",
    pol_channels: int = 1,
    probability: float = 1.0,
    noise: float = 1.0,
) -> StereoSample:
    """Give a pair without polarization a polarized background, and mostly a pane, drawn at random.

    Where none of a few panes fits before what is known, there is none.

    Args:
        sample: of rig "none".
        rng: the same state gives the same result.
        rig: what records the result.
        pol_channels: of the network, 1 or 3.
        probability: of a pane.
        noise: strength of sensor noise in polarization and intensities; 0: none, 1: realistic.

    Raises:
        ValueError: the sample has polarization already.
    """
    dolp, angle, turn = rng.uniform(0, 0.12), rng.uniform(0, np.pi), rng.uniform(-2, 2)
    background = BackgroundPolarization(float(dolp), float(angle), float(turn))
    panes = (draw_pane(sample, rng) for _ in range(_ATTEMPTS if rng.random() < probability else 0))
    nothing = VirtualPane(_NOWHERE, disparity=1, mirrored_disparity=0)
    pane = next((pane for pane in panes if pane is not None), nothing)
    sensor, seed = draw_noise(rng, noise), int(rng.integers(1 << 62))
    glazed = insert_pane(
        sample, pane, rig=rig, pol_channels=pol_channels, background=background, noise=sensor, seed=seed
    )
    return trusting_replace(glazed, skipped=sample.skipped)


def _share(pane: VirtualPane, left_x: Array, y: Array) -> Array:
    """Share of each pixel that the pane covers; `left_x`: column of the left view."""
    left, top, right, bottom = (np.float32(value) for value in pane.box)
    distance = np.minimum(np.minimum(left_x - left, right - left_x), np.minimum(y - top, bottom - y))
    return np.asarray(np.clip(distance + np.float32(0.5), 0, 1))


def _check_order(pane: VirtualPane, here: Array, covered: NDArray[np.bool_], before: Array) -> None:
    if covered.any() and here[covered].min() < round(pane.mirrored_disparity):
        raise ValueError(
            f"mirrored_disparity must be at most the pane's, {here[covered].min():g} px, got {pane.mirrored_disparity}"
        )
    behind = covered & np.isfinite(before)
    if (here[behind] <= before[behind]).any():
        excess = float((before[behind] - here[behind]).max())
        raise ValueError(f"the pane must be nearer than what is behind it, got {excess:g} px less disparity")


def _background_stokes(background: BackgroundPolarization | None, mean: Array) -> tuple[Array, Array]:
    """S1 and S2 of a scene of this brightness; functions of row and brightness, the same in both views."""
    if background is None:
        return np.zeros_like(mean), np.zeros_like(mean)
    rows = np.linspace(0, 1, len(mean), dtype=np.float32)[:, None]
    angle = 2 * (np.float32(background.angle_rad) + np.float32(background.turn_rad) * rows)
    strength = np.float32(background.dolp) * mean / (1 + 4 * mean)
    return strength * np.cos(angle), strength * np.sin(angle)


def _recorded(
    rig: RigKind, side: str, rgb: Array, s1: Array, s2: Array, noise: Noise, rng: np.random.Generator
) -> ViewRecord:
    """What a camera makes of a view's light: rgb (3, H, W), s1 and s2 (H, W), white 1."""
    mean = rgb.mean(axis=0)
    if rig == "crossed":
        # Behind a polarizer at 0 (left) or 90 degrees (right); doubled, because half the light passes.
        sign = np.float32(1 if side == "left" else -1)
        polarizer = 1 + sign * s1 / (mean + np.float32(1e-9))
        passed = rgb * polarizer
        intensity = np.clip(noise.added(rng, (mean * polarizer)[None]), 0, 1)
        return _record(passed, intensity, torch.from_numpy(well_exposed(passed)))
    # Behind each of the sensor's polarizers half the light passes.
    angles = np.float32(0.5) * np.stack([mean + s1, mean + s2, mean - s1, mean - s2])
    counted = np.maximum(noise.added(rng, angles), 0)
    valid = validity(*torch.from_numpy(2 * counted))
    i0, i45, i90, i135 = counted
    stokes = np.stack([counted.sum(axis=0) / 2, i0 - i90, i45 - i135])
    return _record(rgb, stokes, valid)


def _record(rgb: Array, light: Array, valid: torch.Tensor) -> ViewRecord:
    image, measured = (torch.from_numpy(array.astype(np.float32, copy=False)) for array in (display_image(rgb), light))
    return ViewRecord(image, measured, valid[None].float())
