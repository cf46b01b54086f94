"""A camera's sensor, applied to the light of stored scenes when they are loaded: one scene, any camera, any noise.

Light becomes electrons (shot noise), electrons become stored numbers (read noise, black level, steps, saturation), and
the numbers go the way that a real camera's do: `crosspol.rigs.frames` makes a frame of them, with demosaicing and
validity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crosspol.polarimetry import mosaic
from crosspol.rigs.frames import Frame, Recording, frame_of
from crosspol.rigs.rig import Camera

__all__ = ["SensorConfig", "record", "sense"]

Range = tuple[float, float]
_LARGEST = {"exposure": 1e6, "full_well": 1e15, "read_noise": 1e15, "extinction_ratio": math.inf}
"""Of the ranges; what NumPy's Poisson numbers can count ends not far above."""


@dataclass(frozen=True)
class SensorConfig:
    """A sensor; of a range, every pair of frames draws its own value, the same for both views.

    The defaults are typical of a Sony IMX250MZR or MYR at 12 bits, as vendors' data sheets (EMVA 1288) state it.

    Raises:
        ValueError: a value out of its range.
    """

    exposure: Range = (0.5, 1.2)
    """Light that fills the wells, as a factor: 1 is a camera that puts the scene's bright parts at 0.7 of white."""
    full_well: Range = (9_500.0, 11_000.0)
    """Electrons at white; the square root of how many there are is their shot noise."""
    read_noise: Range = (2.0, 3.0)
    """Standard deviation, electrons."""
    extinction_ratio: Range = (150.0, 500.0)
    """Of the polarizers on the sensor: how much more light passes along them than across; infinite: perfect ones."""
    black_level: float = 0.02
    """Stored number of no light, as a share of the largest one."""
    bits: int = 12
    """Of a stored number."""
    mosaic: bool = True
    """Polarizers of the pixels, four angles in a 2x2 block; false: all four at every pixel."""
    bayer: Literal["RGGB", "BGGR", "GRBG", "GBRG"] | None = "RGGB"
    """Colors of a color mosaic, for scenes in color; None: mono sensors, also of plain cameras, which see the mean
    of the colors."""

    def __post_init__(self) -> None:
        for name, largest in _LARGEST.items():
            low, high = getattr(self, name)
            positive = low > 0 or (name == "read_noise" and low == 0)
            if not (positive and low <= high <= largest):
                limits = f"at least 0 and at most {largest:g}" if name == "read_noise" else f"in (0, {largest:g}]"
                raise ValueError(f"{name} must be (smallest, largest), both {limits}, got {(low, high)}")
        low, high = self.extinction_ratio
        if low < 1 or low < high == math.inf:
            raise ValueError(
                f"extinction_ratio must be at least 1, and finite or infinite throughout, got {(low, high)}"
            )
        if not 0 <= self.black_level < 0.5:
            raise ValueError(f"black_level must be in [0, 0.5), got {self.black_level}")
        if not 4 <= self.bits <= 16:
            raise ValueError(f"bits must be in [4, 16], got {self.bits}")


class _Sensor(NamedTuple):
    """What was drawn for a pair. contrast: share of S1 and S2 that polarizers of finite extinction leave."""

    exposure: float
    full_well: float
    read_noise: float
    contrast: float


def sense(left: Frame, right: Frame, rng: np.random.Generator, config: SensorConfig) -> tuple[Frame, Frame]:
    """Photograph what perfect cameras saw: a `CameraModel` of `SceneFolder`, once `config` is bound to it.

    A frame with Stokes parameters is seen by a polarization sensor. One with an intensity is seen by a plain one, of
    the same noise and bits and without a mosaic; what an external polarizer of a crossed pair leaks is not added, since
    the light that it should have stopped is not in the frame.

    Args:
        left, right: as `scene_frames` returns them: linear, not clipped, without noise.
        rng: the same state gives the same frames.
        config: the sensor.

    Returns:
        Frames on the same scale of light, exposed by the drawn factor, clipped, noisy and in steps. Where this sensor
        is saturated or sees nothing, they are not valid; what a perfect camera would clip may well be.
    """
    recorded = record(left, right, rng, config)
    return frame_of(recorded[0]), frame_of(recorded[1])


def record(left: Frame, right: Frame, rng: np.random.Generator, config: SensorConfig) -> tuple[Recording, Recording]:
    """Return what both cameras store: `sense` before anything is computed from it; arguments likewise."""
    sensor = _Sensor(
        _drawn(rng, config.exposure),
        _drawn(rng, config.full_well),
        float(rng.uniform(*config.read_noise)),
        _contrast(_drawn(rng, config.extinction_ratio)),
    )
    return _stored(left, rng, config, sensor), _stored(right, rng, config, sensor)


def _stored(frame: Frame, rng: np.random.Generator, config: SensorConfig, sensor: _Sensor) -> Recording:
    top = 2**config.bits - 1
    black = round(config.black_level * top)
    camera = Camera(black_level=float(black), white_level=float(top))
    if frame.stokes is None:
        assert frame.intensity is not None  # a frame has one of the two
        light = frame.intensity.mean(dim=0, keepdim=True) if config.bayer is None else frame.intensity
        return _recorded(light, replace(camera, content="image"), rng, sensor)
    stokes = frame.stokes
    if config.bayer is None:
        stokes = stokes.mean(dim=0, keepdim=True)
    s0, s1, s2 = stokes.unbind(dim=1)
    s1, s2 = sensor.contrast * s1, sensor.contrast * s2
    angles = (s0 + s1, s0 + s2, s0 - s1, s0 - s2)
    if not config.mosaic:
        return _recorded(torch.stack(angles), replace(camera, content="angles"), rng, sensor)
    bayer = config.bayer if len(stokes) == 3 else None
    camera = replace(camera, content="mosaic", bayer=bayer)
    planes = [angle if bayer else angle[0] for angle in angles]
    raw = mosaic(*planes, layout=camera.layout, bayer=bayer)
    return _recorded(raw, camera, rng, sensor)


def _recorded(light: Tensor, camera: Camera, rng: np.random.Generator, sensor: _Sensor) -> Recording:
    """Light, white 1, any shape, to the numbers that the camera stores."""
    assert camera.white_level is not None
    span = camera.white_level - camera.black_level
    wanted = np.maximum(light.numpy().astype(np.float64) * sensor.exposure, 0) * sensor.full_well
    # Beyond the well nothing is counted; drawn from there, saturated pixels stay saturated.
    electrons = np.minimum(rng.poisson(np.minimum(wanted, 2 * sensor.full_well)), sensor.full_well)
    electrons = electrons + sensor.read_noise * rng.standard_normal(electrons.shape)
    stored = np.rint(camera.black_level + electrons * (span / sensor.full_well))
    numbers: NDArray[np.float64] = np.clip(stored, 0, camera.white_level)
    scaled = torch.from_numpy(((numbers - camera.black_level) / span).astype(np.float32))
    return Recording([numbers], scaled, camera.white_level, camera, "the sensor model")


def _drawn(rng: np.random.Generator, limits: Range) -> float:
    """A number between the limits, evenly on a scale of ratios."""
    share, (low, high) = rng.random(), limits
    return low if low == high else float(low * (high / low) ** share)


def _contrast(extinction_ratio: float) -> float:
    return (1 - 1 / extinction_ratio) / (1 + 1 / extinction_ratio)
