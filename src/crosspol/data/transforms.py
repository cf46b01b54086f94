"""Changes of samples that keep them physically right: flips, crops, scales, light.

Polarization angles are counter-clockwise from image-right: a mirror negates S2. Every function returns a new sample and
leaves the given one as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crosspol.data.indexed import Indexed, SizedSamples
from crosspol.data.inputs import StereoInputs, trusting_replace
from crosspol.data.noise import draw_noise
from crosspol.data.sample import StereoSample
from crosspol.data.warping import glass_seen_from_right, seen_from_right
from crosspol.light import decode_srgb, encode_srgb

__all__ = [
    "AugmentConfig",
    "Augmented",
    "add_noise",
    "augment",
    "crop",
    "exchange_views",
    "flip_horizontal",
    "flip_vertical",
    "jitter",
    "scale",
]

Change = Callable[[StereoSample, np.random.Generator], StereoSample]
"""What `Augmented` does to a sample."""

_SWAPPABLE = ("quad", "none")
# Disparities that differ by less than this (px) are mixed where an image is scaled.
_ONE_SURFACE = 0.5
# Light below which polarization is as noisy as at this much, in units of white.
_LEAST_LIGHT = 1e-3
# Beyond these, samples do not fit into memory, and their light is black or white.
_LARGEST_SCALE, _LARGEST_DEVIATION = 10.0, 5.0


def flip_vertical(sample: StereoSample) -> StereoSample:
    """Turn the rows around; S2 changes its sign. Any rig: the directions 0 and 90 degrees of a crossed pair stay."""
    return _mapped(sample, lambda name, tensor: _mirrored(name, tensor, -2))


def flip_horizontal(sample: StereoSample) -> StereoSample:
    """Mirror left to right and exchange the views, so that disparity stays positive; S2 changes its sign.

    The truth then belongs to what was the right view. It is known where the left view sees the same point; the rest is
    not valid, and occluded. Glass counts as none there, where the left view's was known.

    Raises:
        ValueError: the rig is "quad-left" or "crossed", whose cameras cannot be exchanged.
    """
    if sample.rig not in _SWAPPABLE:
        raise ValueError(f"rig must be one of {', '.join(_SWAPPABLE)} to exchange the views, got {sample.rig!r}")
    known = sample.valid[0].numpy() > 0
    disparity = np.where(known, sample.disparity[0].numpy(), np.float32(np.nan))
    disparity, glass = glass_seen_from_right(disparity, sample.glass[0].numpy())
    seen = np.isfinite(disparity)
    truth = {
        "disparity": np.nan_to_num(disparity, nan=0),
        "valid": seen,
        "glass": glass,
        "occluded": ~seen,
    }
    if sample.disparity_background is not None:
        background = sample.disparity_background[0].numpy()
        (background,) = seen_from_right(np.where(background > 0, background, np.float32(np.nan)))
        truth["disparity_background"] = np.nan_to_num(background, nan=0)
    tensors = {name: torch.from_numpy(plane.astype(np.float32)[None]) for name, plane in truth.items()}
    exchanged = {name: getattr(sample, _other_side(name)) for name in _of_views(sample)}
    return _mapped(trusting_replace(sample, **(exchanged | tensors)), lambda name, tensor: _mirrored(name, tensor, -1))


def exchange_views(inputs: StereoInputs) -> StereoInputs:
    """Mirror left to right and exchange the views: what was the right view is now a left one; S2 changes its sign.

    The disparity of the result is that of the right view, mirrored. What a crossed pair has of polarization is left
    out: its cameras cannot be exchanged, the contrast would have the other sign.

    Args:
        inputs: a pair (C, H, W), or a batch of pairs (B, C, H, W).
    """
    names = ("left", "right") if inputs.intensity_left is not None else _of_views(inputs)
    exchanged = {name: _mirrored(name, getattr(inputs, _other_side(name)), -1).contiguous() for name in names}
    return StereoInputs(**exchanged)


def crop(sample: StereoSample, top: int, left: int, height: int, width: int) -> StereoSample:
    """Cut the same window out of both views. What leaves the right view's window is occluded.

    Args:
        sample: any.
        top, left: first row and column, px.
        height, width: size of the window, px.

    Raises:
        ValueError: the window does not lie within the image.
    """
    rows, columns = sample.left.shape[-2:]
    if not (0 <= top <= top + height <= rows and 0 <= left <= left + width <= columns and height > 0 and width > 0):
        raise ValueError(
            f"the window must lie within {columns}x{rows} px, got {width}x{height} px from column {left}, row {top}"
        )
    cut = _mapped(sample, lambda _, tensor: tensor[..., top : top + height, left : left + width])
    place = torch.arange(width) - cut.disparity
    outside = (place < -0.5) & (cut.valid > 0)
    return trusting_replace(cut, occluded=torch.maximum(cut.occluded, outside.float()))


def scale(sample: StereoSample, height: int, width: int) -> StereoSample:
    """Resample to another size; disparities grow with the width.

    Images, intensities and polarization are averaged over what a new pixel covers, polarization over what is valid.
    Disparity is mixed within a surface, never across its border; masks take the nearest pixel.

    Args:
        sample: any.
        height, width: the new size, px.

    Raises:
        ValueError: a size below 1.
    """
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be at least 1, got {height} and {width}")
    size, factor = (height, width), width / sample.left.shape[-1]

    def averaged(tensor: Tensor) -> Tensor:
        return F.interpolate(tensor[None], size, mode="bilinear", antialias=True)[0]

    def nearest(tensor: Tensor) -> Tensor:
        return F.interpolate(tensor[None], size, mode="nearest-exact")[0]

    def disparities(tensor: Tensor, known: Tensor) -> Tensor:
        own = nearest(tensor)
        mixed = F.interpolate(tensor[None], size, mode="bilinear")[0]
        complete = F.interpolate(known[None], size, mode="bilinear")[0] > 1 - 1e-6
        return factor * torch.where(complete & ((mixed - own).abs() < _ONE_SURFACE), mixed, own)

    def changed(name: str, tensor: Tensor) -> Tensor:
        if name == "disparity":
            return disparities(tensor, sample.valid)
        if name == "disparity_background":
            return disparities(tensor, (tensor > 0).float())
        if name.startswith("pol"):
            valid = getattr(sample, name.replace("pol", "valid"))
            weight = averaged(valid)
            pol = averaged(torch.where(valid > 0, tensor, torch.zeros_like(tensor))) / weight.clamp(min=1e-6)
            # Light that is mixed is polarized less than its parts: DoLP follows from the mixed directions.
            return pol if len(pol) == 1 else torch.cat([pol[:2], pol[:2].norm(dim=0, keepdim=True)])
        if name in ("left", "right") or name.startswith("intensity"):
            return averaged(tensor).clamp(min=0)
        return nearest(tensor)

    return _mapped(sample, changed)


def jitter(
    sample: StereoSample,
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0),
    gamma: float = 1.0,
    right_gain: float = 1.0,
) -> StereoSample:
    """Change the light, as if cameras had been set otherwise.

    Gain acts on linear light: images are decoded, multiplied, clipped at white and encoded. DoLP and S/S0 are ratios
    and stay; where light is clipped now, they are not valid any more. The intensities of a crossed pair get the mean
    gain, the same in both views, so that their contrast stays.

    Args:
        sample: any.
        gain: of red, green and blue.
        gamma: exponent on the display value, a tone curve: of the images only.
        right_gain: further gain of the right view.

    Raises:
        ValueError: a value that is not positive and finite, or another gain for the right view of a crossed pair.
    """
    if not all(0 < value < math.inf for value in (*gain, gamma, right_gain)):
        raise ValueError(
            f"gain, gamma and right_gain must be positive and finite, got {gain}, {gamma} and {right_gain}"
        )
    if sample.rig == "crossed" and right_gain != 1:
        raise ValueError(
            f"right_gain must be 1 for a crossed pair, whose contrast is between the views, got {right_gain}"
        )
    changes: dict[str, Tensor] = {}
    for side, extra in (("left", 1.0), ("right", right_gain)):
        linear = decode_srgb(getattr(sample, side)) * (extra * torch.tensor(gain)[:, None, None])
        changes[side] = encode_srgb(linear.clamp(max=1)) ** gamma
        # What was white before was judged by whoever recorded it.
        clipped = (linear >= 1).any(0) & (getattr(sample, side) < 1).all(0)
        intensity = getattr(sample, f"intensity_{side}")
        if intensity is not None:
            brighter = intensity * (sum(gain) / 3)
            clipped = (brighter >= 1).all(0) & (intensity < 1).all(0)
            changes[f"intensity_{side}"] = brighter.clamp(max=1)
        valid = getattr(sample, f"valid_{side}")
        if valid is not None:
            changes[f"valid_{side}"] = valid * ~clipped
    return trusting_replace(sample, **changes)


def add_noise(sample: StereoSample, rng: np.random.Generator, strength: float = 1.0) -> StereoSample:
    """Add the noise of a sensor, on top of what the sample has: shot and read noise, both views of one sensor.

    Images get it in linear light, and are rounded to 8 bits again. Polarization gets what four noisy angle
    intensities of the image's brightness would give S1/S0 and S2/S0, from which the magnitude follows; DoLP alone the
    same in its own direction and across. Validity stays.

    Args:
        sample: any.
        rng: the same state gives the same noise.
        strength: 0: none; 1: of a typical sensor.

    Raises:
        ValueError: strength is negative or not finite.
    """
    if not 0 <= strength < math.inf:
        raise ValueError(f"strength must be at least 0 and finite, got {strength}")
    drawn = draw_noise(rng, strength)
    if strength == 0:
        return sample
    shot, read = drawn.shot, drawn.read

    def noisy(light: Tensor) -> Tensor:
        return light + (shot * light.clamp(min=0) + read**2).sqrt() * _normal(rng, light.shape)

    changes: dict[str, Tensor] = {}
    for side in ("left", "right"):
        linear = decode_srgb(getattr(sample, side))
        changes[side] = (255 * encode_srgb(noisy(linear).clamp(0, 1))).round() / 255
        intensity = getattr(sample, f"intensity_{side}")
        if intensity is not None:
            changes[f"intensity_{side}"] = noisy(intensity).clamp(0, 1)
        pol = getattr(sample, f"pol_{side}")
        if pol is not None:
            light = linear.mean(dim=0, keepdim=True).clamp(min=_LEAST_LIGHT)
            deviation = (shot * light + 2 * read**2).sqrt() / light
            across = torch.zeros_like(pol) if len(pol) == 1 else pol[1:2]
            stokes = torch.cat([pol[:1], across]) + deviation * _normal(rng, (2, *pol.shape[-2:]))
            # Not norm(dim=0), which takes ten times as long on a CPU.
            dolp = torch.hypot(stokes[:1], stokes[1:]).clamp(max=1)
            changes[f"pol_{side}"] = dolp if len(pol) == 1 else torch.cat([stokes.clamp(-1, 1), dolp])
    return trusting_replace(sample, **changes)


def _normal(rng: np.random.Generator, shape: Sequence[int]) -> Tensor:
    return torch.from_numpy(rng.standard_normal(tuple(shape), dtype=np.float32))


@dataclass(frozen=True)
class AugmentConfig:
    """What `augment` draws.

    Raises:
        ValueError: a value out of its range.
    """

    scale: tuple[float, float] = (0.8, 1.4)
    """Smallest and largest factor of size, before the crop."""
    flip_horizontal: float = 0.5
    """How often, in [0, 1]; only rigs whose views can be exchanged."""
    flip_vertical: float = 0.1
    """How often, in [0, 1]."""
    gain: float = 0.2
    """Standard deviation of the logarithm of the common gain."""
    white_balance: float = 0.05
    """The same of each color's own gain."""
    view_gain: float = 0.05
    """The same of the right view's own gain; a crossed pair has none."""
    gamma: float = 0.1
    """The same of the tone curve's exponent."""

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= _LARGEST_SCALE:
            raise ValueError(f"scale must be (smallest, largest), both in (0, {_LARGEST_SCALE:g}], got {self.scale}")
        if not (0 <= self.flip_horizontal <= 1 and 0 <= self.flip_vertical <= 1):
            raise ValueError(
                f"flip_horizontal and flip_vertical must be in [0, 1], got {self.flip_horizontal} and "
                f"{self.flip_vertical}"
            )
        deviations = (self.gain, self.white_balance, self.view_gain, self.gamma)
        if not all(0 <= deviation <= _LARGEST_DEVIATION for deviation in deviations):
            raise ValueError(
                f"gain, white_balance, view_gain and gamma must be in [0, {_LARGEST_DEVIATION:g}], got {self.gain}, "
                f"{self.white_balance}, {self.view_gain} and {self.gamma}"
            )


def augment(
    sample: StereoSample, config: AugmentConfig, rng: np.random.Generator, size: tuple[int, int] | None = None
) -> StereoSample:
    """Scale, crop, flip and light a sample at random.

    Args:
        sample: any.
        config: what to draw.
        rng: the same state gives the same result.
        size: (H, W) of the result, px; smaller samples are scaled up to it. None: as it is.
    """
    rows, columns = sample.left.shape[-2:]
    height, width = size or (rows, columns)
    factor = float(np.exp(rng.uniform(*np.log(config.scale))))
    factor = max(factor, height / rows, width / columns)
    scaled = max(height, round(factor * rows)), max(width, round(factor * columns))
    # Resampling to the same size would change nothing, and costs more than all the rest.
    if scaled != (rows, columns):
        sample = scale(sample, *scaled)
    rows, columns = sample.left.shape[-2:]
    top, left = int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1))
    mirror, turn = rng.random(2)
    sample = crop(sample, top, left, height, width)
    if mirror < config.flip_horizontal and sample.rig in _SWAPPABLE:
        sample = flip_horizontal(sample)
    if turn < config.flip_vertical:
        sample = flip_vertical(sample)
    common, right, tone, *colors = rng.normal(size=6)
    gains = np.exp(config.gain * common + config.white_balance * np.array(colors))
    right_gain = 1.0 if sample.rig == "crossed" else float(np.exp(config.view_gain * right))
    gain = (float(gains[0]), float(gains[1]), float(gains[2]))
    return jitter(sample, gain, float(np.exp(config.gamma * tone)), right_gain)


class Augmented(Indexed):
    """A data set whose samples are changed at random; sample `index` is a function of `(seed, index)`."""

    def __init__(
        self,
        samples: SizedSamples,
        change: Change,
        *,
        seed: int = 0,
        repeats: int = 1,
    ) -> None:
        """Prepare.

        Args:
            samples: with a length.
            change: such as `lambda sample, rng: augment(sample, config, rng)`; a function or `functools.partial` where
                workers are to make samples.
            seed: >= 0.
            repeats: how often the data set goes through, changed otherwise each time.

        Raises:
            ValueError: seed or repeats out of range.
        """
        if repeats < 1 or seed < 0:
            raise ValueError(f"repeats must be at least 1 and seed at least 0, got {repeats} and {seed}")
        self.samples, self.change, self.seed = samples, change, seed
        self.inner = len(samples)
        self.length = repeats * self.inner

    def __len__(self) -> int:
        return self.length

    def _sample(self, index: int) -> StereoSample:
        """Change sample `index` modulo the length of the data set."""
        rng = np.random.default_rng([self.seed, index])
        return self.change(self.samples[index % self.inner], rng)


def _mapped(sample: StereoSample, change: Callable[[str, Tensor], Tensor]) -> StereoSample:
    """The sample with every tensor changed."""
    changed = {name: change(name, tensor).contiguous() for name, tensor in sample.tensors().items()}
    return trusting_replace(sample, **changed)


def _mirrored(name: str, tensor: Tensor, axis: int) -> Tensor:
    tensor = tensor.flip(axis)
    if name.startswith("pol") and tensor.shape[-3] == 3:
        return tensor * tensor.new_tensor([1.0, -1.0, 1.0])[:, None, None]
    return tensor


def _of_views(pair: StereoSample | StereoInputs) -> list[str]:
    names = ("left", "right", "pol_left", "pol_right", "valid_left", "valid_right")
    return [name for name in names if getattr(pair, name) is not None]


def _other_side(name: str) -> str:
    return name.replace("left", "right") if "left" in name else name.replace("right", "left")
