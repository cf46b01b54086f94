"""What the network sees. Data sets and the predictor both pass through here, so that training and use cannot differ.

In: linear light, as a scene has it or as cameras record it. Out: the keyword arguments of `CrossPol.forward`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crosspol.light import exposure
from crosspol.rigs.frames import Frame
from crosspol.rigs.kinds import RigKind

__all__ = ["Seen", "display_image", "frame_inputs", "network_inputs", "polarization_map"]

Array = NDArray[np.float32]

# S0 below which light counts as this much, in units of white: noise over no light would be any polarization.
_LEAST_S0 = 1e-4


class Seen(NamedTuple):
    """One view: its image, and what its camera measured of polarization.

    image: (3, H, W) in [0, 1], as a viewer shows it.
    light: linear, white about 1: Stokes parameters (3, H, W), averaged over colors, of a camera that measures
        polarization; the intensity (1, H, W) of a crossed pair's camera; None of a plain one.
    valid: (1, H, W) in {0, 1}, where `light` is trusted; None without knowledge of it.
    """

    image: Array
    light: Array | None = None
    valid: Array | None = None


def network_inputs(rig: RigKind, left: Seen, right: Seen, pol_channels: int = 1) -> dict[str, Array]:
    """Arrange what both cameras of a rig recorded as the network's arguments.

    Args:
        rig: its kind, which decides what of the record is used: "quad" both views' Stokes parameters, "quad-left" the
            left view's (the right view is invalid everywhere), "crossed" both intensities, "none" the images alone.
        left, right: the views, rectified, of one size.
        pol_channels: 1: DoLP; 3: (S1/S0, S2/S0, DoLP). A crossed pair is an intensity a view either way.

    Returns:
        Under the names of `CrossPol.forward`, without the batch axis: left, right (3, H, W); pol_left, pol_right
        (pol_channels, H, W), valid_left, valid_right (1, H, W); intensity_left, intensity_right (1, H, W).
    """
    inputs = {"left": left.image, "right": right.image}
    for side, view in (("left", left), ("right", right)):
        measures = rig == "quad" or (rig == "quad-left" and side == "left")
        if measures and view.light is not None:
            inputs[f"pol_{side}"] = polarization_map(view.light, pol_channels)
        elif rig == "quad-left":
            size = view.image.shape[-2:]
            inputs[f"pol_{side}"] = np.zeros((pol_channels, *size), np.float32)
            inputs[f"valid_{side}"] = np.zeros((1, *size), np.float32)
        elif rig == "crossed" and view.light is not None:
            inputs[f"intensity_{side}"] = view.light
        else:
            continue
        if view.valid is not None:
            inputs.setdefault(f"valid_{side}", view.valid)
    return inputs


def frame_inputs(left: Frame, right: Frame, rig: RigKind, pol_channels: int = 1) -> dict[str, Tensor]:
    """Turn two cameras' frames into the network's arguments.

    Images are exposed by `crosspol.light.exposure`, both views by one factor, and get the sRGB curve and 8 bits, as
    the images of training have. The plain camera beside a polarization camera ("quad-left") has
    a factor of its own: a polarizer takes half the light, and no two sensors agree.

    Args:
        left, right: rectified frames of one size.
        rig: kind of the rig.
        pol_channels: of the network, 1 or 3.

    Returns:
        As `network_inputs`; float32 tensors without the batch axis.

    Raises:
        ValueError: sizes that differ, or a frame without what the rig measures.
    """
    _check(left, right, rig)
    images = [_finite(frame.image.numpy()) for frame in (left, right)]
    if (left.stokes is None) == (right.stokes is None):
        factors = [exposure(images)] * 2
    else:
        factors = [exposure([image]) for image in images]
    views = []
    for frame, image, factor in zip((left, right), images, factors, strict=True):
        shown = display_image(np.broadcast_to(factor * image, (3, *frame.size)))
        light = image if frame.stokes is None else frame.stokes.numpy()
        views.append(Seen(shown, light.mean(axis=0, keepdims=frame.stokes is None), frame.valid.numpy()))
    inputs = network_inputs(rig, views[0], views[1], pol_channels)
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in inputs.items()}


def display_image(linear: Array, gamma: float = 1.0) -> Array:
    """Linear light to an image as a viewer shows it: the sRGB curve (IEC 61966-2-1), and 8 bits.

    Args:
        linear: (..., H, W), white 1; what is brighter is white.
        gamma: exponent on the display value, for a camera with a tone curve of its own.

    Returns:
        (..., H, W) in [0, 1], multiples of 1/255.
    """
    linear = np.clip(linear, 0, 1)
    curved = 1.055 * np.maximum(linear, 0.0031308) ** np.float32(1 / 2.4) - 0.055
    display = np.where(linear <= 0.0031308, 12.92 * linear, curved).astype(np.float32)
    return np.rint(255 * display ** np.float32(gamma)).astype(np.float32) / np.float32(255)


def polarization_map(stokes: Array, channels: int = 1) -> Array:
    """The network's polarization map of measured Stokes parameters, limited to what light can have.

    Args:
        stokes: (3, H, W), linear, white about 1.
        channels: 1: DoLP; 3: (S1/S0, S2/S0, DoLP).

    Returns:
        (channels, H, W), DoLP in [0, 1], the others in [-1, 1]. In S0 below 1e-4, light counts as 1e-4.
    """
    s0, s1, s2 = stokes
    # NumPy, not `polarimetry.dolp`: data sets' samples stay the same to the bit on every version of torch.
    safe = np.maximum(s0, np.float32(_LEAST_S0))
    dolp = np.clip(np.sqrt(s1 * s1 + s2 * s2) / safe, 0, 1)
    if channels == 1:
        return dolp[None]
    return np.stack([np.clip(s1 / safe, -1, 1), np.clip(s2 / safe, -1, 1), dolp])


def _check(left: Frame, right: Frame, rig: RigKind) -> None:
    if left.size != right.size:
        raise ValueError(f"the right frame is {right.size} and the left frame {left.size}; wanted one size")
    for side, frame in (("left", left), ("right", right)):
        if frame.stokes is None and (rig == "quad" or (rig == "quad-left" and side == "left")):
            raise ValueError(f"the {side} frame has no Stokes parameters; a {rig} rig measures them")
        if frame.intensity is None and rig == "crossed":
            raise ValueError(f"the {side} frame has no intensity; a crossed rig measures one behind each polarizer")


def _finite(image: Array) -> Array:
    return np.nan_to_num(image, nan=0, posinf=1, neginf=0)
