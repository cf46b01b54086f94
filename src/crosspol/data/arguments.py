"""Arrays in the formats that people have, checked and turned into what the network takes."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crosspol.errors import UsageError, words_of
from crosspol.io.images import read_image
from crosspol.limits import MINIMUM_SIDE

_LARGEST = 1e30
"""Intensities up to which sums and squares of float32 stay finite."""
_ROUNDING = 1e-3
"""How far resampling and float16 may carry a value beyond its range before it counts as another range."""


def as_array(values: object, name: str) -> NDArray[Any]:
    """Return numbers that a caller holds as an array: of NumPy, or a tensor of any type and device.

    Args:
        values: bfloat16 becomes float32, gradients are left behind.
        name: what to call it in an error.

    Raises:
        UsageError: it is no array.
    """
    try:
        if isinstance(values, Tensor):
            values = values.detach().cpu()
            values = (values.float() if values.dtype == torch.bfloat16 else values).resolve_neg().numpy()
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{name}: got {_described(values)}, wanted an array ({words_of(error)[:120]})") from error


def as_view(image: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Check a view's image, or a batch of them, and bring it to three channels in [0, 1].

    Args:
        image: (H, W), (H, W, 1), (H, W, 3) in RGB, (H, W, 4) with opaque alpha, or (B, H, W, C) of the last three.
            uint8 and uint16 are divided by their full range; floats must lie in [0, 1].
        name: what to call it in an error.

    Returns:
        (H, W, 3) or (B, H, W, 3), float32 in [0, 1]. One channel is repeated; an opaque alpha channel is dropped.

    Raises:
        UsageError: shape, type, size, range, a pixel that is not finite, or one that is transparent.
    """
    image = _check_shape(image, name, channels=(1, 3, 4))
    unit = _in_unit_range(image, name)
    if not np.isfinite(unit).all():
        raise UsageError(f"{name}: {_count_non_finite(unit)}, wanted numbers in [0, 1] everywhere")
    if unit.min() < -_ROUNDING or unit.max() > 1 + _ROUNDING:
        hint = "; divide 8-bit values by 255" if 1 < unit.max() <= 255 and unit.min() >= 0 else ""
        raise UsageError(f"{name}: got float values from {unit.min():g} to {unit.max():g}, wanted [0, 1]{hint}")
    if unit.shape[-1] == 4:
        if unit[..., 3].min() < 1 - _ROUNDING:
            raise UsageError(f"{name}: got transparent pixels, wanted an opaque image")
        unit = unit[..., :3]
    if unit.shape[-1] == 1:
        unit = np.repeat(unit, 3, axis=-1)
    return np.ascontiguousarray(unit.clip(0, 1), dtype=np.float32)


def read_view(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Read a view's image as the network takes it.

    Returns:
        (3, H, W), float32 in [0, 1].

    Raises:
        MissingFileError: there is no such file.
        UsageError: as `read_image` and `as_view`.
    """
    return np.ascontiguousarray(as_view(read_image(path), os.fspath(path)).transpose(2, 0, 1))


def as_polarization(polarization: NDArray[Any], name: str, channels: int = 1) -> NDArray[np.float32]:
    """Check a view's polarization map, or a batch of them.

    Args:
        polarization: with one channel (H, W), (H, W, 1), or (H, W, 3) or (H, W, 4) whose colors are equal; with three,
            (H, W, 3) of S1/S0, S2/S0, DoLP; each with an optional batch axis in front (then the channel axis is
            needed). float: DoLP in [0, 1] or a crossed pair's contrast in [-1, 1], NaN = invalid there. uint8 and
            uint16 (one channel only): DoLP times the full range.
        name: what to call it in an error.
        channels: polarization channels of the network, 1 or 3.

    Returns:
        (H, W, channels) or (B, H, W, channels), float32 in [-1, 1]; NaN in every channel where one was NaN.

    Raises:
        UsageError: shape, type or range.
    """
    polarization = np.asarray(polarization)
    if channels == 3 and (polarization.ndim == 2 or polarization.shape[-1:] == (1,)):
        raise UsageError(
            f"{name}: got one channel, shape {polarization.shape}, as DoLP alone has, wanted (H, W, 3): this network "
            "takes S1/S0, S2/S0, DoLP (of the weights that ship, blueprint's take DoLP alone)"
        )
    polarization = _check_shape(polarization, name, channels=(1, 3, 4) if channels == 1 else (3,))
    if channels == 3 and polarization.dtype.kind != "f":
        raise UsageError(f"{name}: got {polarization.dtype}, wanted float S1/S0, S2/S0, DoLP (signed values)")
    unit = _in_unit_range(polarization, name)
    if channels == 1:
        gray = unit[..., :1]
        if unit.shape[-1] > 1 and not np.array_equal(unit[..., :3], np.repeat(gray, 3, axis=-1), equal_nan=True):
            raise UsageError(f"{name}: got a color image, wanted one channel (DoLP or contrast)")
        unit = gray
    unknown = np.isnan(unit).any(axis=-1, keepdims=True)
    known = np.where(unknown, 0, unit)
    if np.abs(known).max() > 1 + _ROUNDING:
        raise UsageError(
            f"{name}: got values from {known.min():g} to {known.max():g}, wanted [-1, 1] (DoLP or contrast)"
        )
    return np.where(unknown, np.float32(np.nan), known.clip(-1, 1)).astype(np.float32)


def as_intensity(intensity: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Check the linear intensity that one camera of a crossed pair saw, or a batch of them.

    Args:
        intensity: (H, W), (H, W, 1) or (B, H, W, 1). uint8 and uint16 are divided by their full range; floats may have
            any scale that both views share, from 0 to 1e30.
        name: what to call it in an error.

    Returns:
        (H, W, 1) or (B, H, W, 1), float32.

    Raises:
        UsageError: shape, type, a negative value, one above 1e30, or a pixel that is not finite.
    """
    unit = _in_unit_range(_check_shape(intensity, name, channels=(1,)), name)
    if not np.isfinite(unit).all():
        raise UsageError(f"{name}: {_count_non_finite(unit)}, wanted linear intensities from 0 up")
    if unit.min() < 0:
        raise UsageError(f"{name}: got values down to {unit.min():g}, wanted linear intensities from 0 up")
    if unit.max() > _LARGEST:
        raise UsageError(f"{name}: got values up to {unit.max():g}, wanted linear intensities up to {_LARGEST:g}")
    # Not the caller's own memory, which may be read-only, or change.
    return np.array(unit, dtype=np.float32, order="C")


def as_mask(mask: NDArray[Any], name: str) -> NDArray[np.bool_]:
    """Check a mask, or a batch of them: trusted where it is neither 0 nor NaN.

    Args:
        mask: (H, W), (H, W, 1) or (B, H, W, 1); bool, integers or floats.
        name: what to call it in an error.

    Returns:
        (H, W, 1) or (B, H, W, 1), bool.

    Raises:
        UsageError: shape or type.
    """
    mask = np.asarray(mask)
    if mask.dtype.kind not in "buif":
        raise UsageError(f"{name}: got {mask.dtype}, wanted bool or numbers (0 = not trusted)")
    mask = _check_shape(mask, name, channels=(1,))
    return np.asarray((mask != 0) & ~np.isnan(mask) if mask.dtype.kind == "f" else mask != 0)


def _check_shape(array: NDArray[Any], name: str, channels: tuple[int, ...]) -> NDArray[Any]:
    """Return the array with a channel axis; refuse shapes that are no image and sizes below the minimum."""
    array = np.asarray(array)
    shape = array.shape
    wanted = " or ".join(f"(H, W, {count})" for count in channels)
    if array.ndim == 2 and 1 in channels:
        array = array[..., None]
    if array.ndim not in (3, 4) or array.shape[-1] not in channels or 0 in array.shape:
        gray = "(H, W), " if 1 in channels else ""
        raise UsageError(f"{name}: got an array of shape {shape}, wanted {gray}{wanted}, or a batch (B, H, W, C)")
    height, width = array.shape[-3:-1]
    if height < MINIMUM_SIDE or width < MINIMUM_SIDE:
        raise UsageError(f"{name}: got {width}x{height} px, wanted at least {MINIMUM_SIDE}x{MINIMUM_SIDE} px")
    return array


def _in_unit_range(array: NDArray[Any], name: str) -> NDArray[np.floating[Any]]:
    """Divide uint8 and uint16 by their full range; pass floats on as they are."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype in (np.uint8, np.uint16):
        return np.asarray(array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max))
    if array.dtype.kind != "f":
        raise UsageError(f"{name}: got values of type {array.dtype}, wanted uint8, uint16 or float")
    return array


def _described(values: object) -> str:
    return f"a tensor of {values.dtype}" if isinstance(values, Tensor) else type(values).__name__


def _count_non_finite(array: NDArray[Any]) -> str:
    count = int(np.count_nonzero(~np.isfinite(array)))
    kind = "NaN" if np.isnan(array).any() else "infinite"
    return f"got {'only' if count == array.size else count} {kind} values"
