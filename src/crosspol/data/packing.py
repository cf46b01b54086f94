"""Samples in fewer bytes: images in 8 bits, polarization in half floats, masks in bytes, disparity as it is.

A sample of a quad rig with three polarization channels takes 72 bytes a pixel in float32, packed 27.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from crosspol.data.sample import StereoBatch
from crosspol.rigs.kinds import RigKind

__all__ = ["PACKED_BYTES", "PackedBatch", "half_floats", "pack_batch", "pack_tensor", "unpack_tensor"]

PACKED_BYTES = 6 + 12 + 2 + 4 + 3
"""Bytes of a pixel of a packed sample of a quad rig with three polarization channels: the most there is."""

_IMAGES = ("left", "right")
_MASKS = ("valid", "glass", "occluded", "valid_left", "valid_right")
_MEASURED = ("pol_left", "pol_right", "intensity_left", "intensity_right")
_UNKNOWN = 255


def pack_tensor(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor of a sample in fewer bytes, rounded to what they hold.

    Args:
        name: of the field of `StereoSample`, or `StereoBatch`.
        tensor: of any shape, float32. Images that are multiples of 1/255 and masks are kept exactly; polarization in
            [-1, 1] to within 1/4096.

    Returns:
        The same shape: uint8 of images and masks (255 where a mask is not finite), float16 of polarization and
        intensities, anything else as it is.
    """
    kind = _kind(name)
    return tensor if kind is tensor.dtype else _pack(name, tensor, tensor.new_empty(tensor.shape, dtype=kind))


def unpack_tensor(name: str, packed: Tensor) -> Tensor:
    """Return what `pack_tensor` packed as float32, the same to the bit on every device."""
    if packed.dtype == torch.float32:
        return packed
    return _unpack(name, packed, torch.empty_like(packed, dtype=torch.float32))


def half_floats(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return polarization and intensities among the tensors of a sample, rounded to half floats, float32 as before."""
    return {name: tensor.half().float() for name, tensor in tensors.items() if name in _MEASURED}


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedBatch:
    """A batch in fewer bytes, for the way from where it is made to where it is used; see `pack_batch`.

    tensors: by field of `StereoBatch`, (B, C, H, W), each packed or in float32.
    rig, names, skipped: as `StereoBatch` has them.
    """

    tensors: dict[str, Tensor]
    rig: RigKind
    names: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    def pin_memory(self) -> PackedBatch:
        """The same batch in memory that a GPU copies from by itself, while others compute."""
        return replace(self, tensors={name: tensor.pin_memory() for name, tensor in self.tensors.items()})

    def tensor(self, name: str, device: torch.device | str, non_blocking: bool = False) -> Tensor:
        """One field (B, C, H, W), float32, on `device`: unpacked there."""
        return unpack_tensor(name, self.tensors[name].to(device, non_blocking=non_blocking))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> StereoBatch:
        """The batch that was packed, with every tensor on `device`: unpacked there."""
        tensors = {name: self.tensor(name, device, non_blocking) for name in self.tensors}
        return StereoBatch(**tensors, rig=self.rig, names=self.names, skipped=self.skipped)


def pack_batch(batch: StereoBatch) -> PackedBatch:
    """Return a batch in as few bytes as lose nothing: a tensor that would be rounded stays in float32."""
    tensors = {name: _without_loss(name, tensor) for name, tensor in batch.tensors().items()}
    return PackedBatch(tensors=tensors, rig=batch.rig, names=batch.names, skipped=batch.skipped)


def _without_loss(name: str, tensor: Tensor) -> Tensor:
    kind = _kind(name)
    if kind is tensor.dtype:
        return tensor
    packed = tensor.new_empty(tensor.shape, dtype=kind)
    again = torch.empty_like(tensor[0])
    # One sample at a time, in memory that stays in a core's cache.
    for piece, small in zip(tensor, packed, strict=True):
        if not _same(_unpack(name, _pack(name, piece, small, again), again), piece):
            return tensor
    return packed


def _kind(name: str) -> torch.dtype:
    if name in _IMAGES or name in _MASKS:
        return torch.uint8
    return torch.float16 if name in _MEASURED else torch.float32


def _pack(name: str, tensor: Tensor, packed: Tensor, scratch: Tensor | None = None) -> Tensor:
    """Pack into `packed`; `scratch`: memory of the tensor's size and type to compute in."""
    if name in _IMAGES:
        tensor = torch.mul(tensor, 255, out=scratch).round_()
    elif name in _MASKS:
        # Of glass not everything is known.
        tensor = torch.nan_to_num(tensor, nan=_UNKNOWN, posinf=_UNKNOWN, neginf=_UNKNOWN, out=scratch)
    return packed.copy_(tensor)


def _unpack(name: str, packed: Tensor, tensor: Tensor) -> Tensor:
    """Unpack into `tensor`."""
    tensor.copy_(packed)
    if name in _IMAGES:
        # By a tensor: a GPU multiplies by the inverse of a number, which is another value in its last bit.
        return tensor.div_(torch.full((), 255.0, device=tensor.device))
    return tensor.masked_fill_(packed == _UNKNOWN, math.nan) if name in _MASKS else tensor


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other) or bool(((one == other) | (one.isnan() & other.isnan())).all())
