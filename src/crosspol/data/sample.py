"""The sample type of every CrossPol data set: a stereo pair, its polarization and its ground truth.

Image convention: float32, channel first, row 0 on top, pixel centers at integer coordinates. Disparity is positive and
belongs to the left view: x_right = x_left - disparity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from crosspol.rigs.kinds import RIG_KINDS, RigKind

__all__ = ["StereoBatch", "StereoSample", "stack"]


# What a rig records besides the two images; the rest of these fields stays None, but for what it may record.
_RECORDED: dict[RigKind, tuple[str, ...]] = {
    "quad": ("pol_left", "pol_right", "valid_left", "valid_right"),
    "quad-left": ("pol_left", "pol_right", "valid_left", "valid_right"),
    "crossed": ("intensity_left", "intensity_right"),
    "none": (),
}
_OPTIONAL: dict[RigKind, tuple[str, ...]] = {"crossed": ("valid_left", "valid_right")}
_RIG_FIELDS = ("pol_left", "pol_right", "valid_left", "valid_right", "intensity_left", "intensity_right")
_POLARIZATION_CHANNELS = (1, 3)

_Stereo = TypeVar("_Stereo", bound="_StereoTensors")


@dataclass(frozen=True, kw_only=True, eq=False)
class _StereoTensors:
    """What a sample and a batch have in common; `...` is nothing for a sample and (B,) for a batch.

    left, right: (..., 3, H, W) in [0, 1], display-referred (sRGB-like), as a viewer would show them.
    disparity: (..., 1, H, W), px, positive, first surface seen by the left view (glass counts).
    valid: (..., 1, H, W) in {0, 1}, 1 where the disparity is known.
    glass: (..., 1, H, W) in {0, 1}, 1 where the first surface is glass.
    occluded: (..., 1, H, W) in {0, 1}, 1 where the right view misses the left pixel's point, out of frame included.
    rig: what was recorded. "quad" and "quad-left" have pol_* and valid_* ("quad-left" with valid_right 0 everywhere),
        "crossed" has intensity_* and may have both valid_*, "none" has neither.
    pol_left, pol_right: (..., P, H, W), P = 1: DoLP in [0, 1]; P = 3: (S1/S0, S2/S0, DoLP).
    valid_left, valid_right: (..., 1, H, W) in {0, 1}, 1 where polarization, or the intensity, is trusted.
    intensity_left, intensity_right: (..., 1, H, W), linear, I_parallel and I_perpendicular of a crossed pair.
    disparity_background: (..., 1, H, W), px, the disparity with all glass removed.
    skipped: why samples could not be read in whose place these stand, one line each.
    """

    left: Tensor
    right: Tensor
    disparity: Tensor
    valid: Tensor
    glass: Tensor
    occluded: Tensor
    rig: RigKind
    pol_left: Tensor | None = None
    pol_right: Tensor | None = None
    valid_left: Tensor | None = None
    valid_right: Tensor | None = None
    intensity_left: Tensor | None = None
    intensity_right: Tensor | None = None
    disparity_background: Tensor | None = None
    skipped: tuple[str, ...] = ()

    _batch_dims: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if self.rig not in RIG_KINDS:
            raise ValueError(f"rig must be one of {', '.join(RIG_KINDS)}, got {self.rig!r}")
        dims = self._batch_dims
        if self.left.ndim != dims + 3 or self.left.shape[dims] != 3:
            raise ValueError(f"left must be {self._wanted('3')}, got {tuple(self.left.shape)}")
        for name, tensor in self._tensors().items():
            channels = {"left": (3,), "right": (3,), "pol_left": _POLARIZATION_CHANNELS}.get(name, (1,))
            if name == "pol_right" and self.pol_left is not None:
                channels = (self.pol_left.shape[dims],)
            _check(name, tensor, self.left, channels, dims)
        for name in _RIG_FIELDS:
            present, wanted = getattr(self, name) is not None, name in _RECORDED[self.rig]
            if present != wanted and name not in _OPTIONAL.get(self.rig, ()):
                raise ValueError(
                    f"rig {self.rig!r} {'needs' if wanted else 'has no'} {name}, got {_describe(getattr(self, name))}"
                )

        if (self.valid_left is None) != (self.valid_right is None):
            raise ValueError(
                f"valid_left and valid_right must both be there or not, got {_describe(self.valid_left)} and "
                f"{_describe(self.valid_right)}"
            )

    def _tensors(self) -> dict[str, Tensor]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def _wanted(self, channels: str) -> str:
        return f"({'B, ' * self._batch_dims}{channels}, H, W)"

    def to(self: _Stereo, device: torch.device | str, non_blocking: bool = False) -> _Stereo:
        """The same data with every tensor on `device`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {name: tensor.to(device, non_blocking=non_blocking) for name, tensor in self._tensors().items()}
        return type(self)(**(values | moved))

    def inputs(self) -> dict[str, Tensor]:
        """What the network may see, named as the arguments of `CrossPol.forward`: images, polarization, no truth."""
        tensors = self._tensors()
        return {name: tensors[name] for name in ("left", "right", *_RIG_FIELDS) if name in tensors}


@dataclass(frozen=True, kw_only=True, eq=False)
class StereoSample(_StereoTensors):
    """One stereo pair with its ground truth: float32 tensors (C, H, W), checked for shape at construction.

    left, right: (3, H, W) in [0, 1], display-referred (sRGB-like), as a viewer would show them.
    disparity: (1, H, W), px, positive, first surface seen by the left view (glass counts).
    valid: (1, H, W) in {0, 1}, 1 where the disparity is known.
    glass: (1, H, W) in {0, 1}, 1 where the first surface is glass.
    occluded: (1, H, W) in {0, 1}, 1 where the right view misses the left pixel's point, out of frame included.
    rig: what was recorded. "quad" and "quad-left" have pol_* and valid_* ("quad-left" with valid_right 0 everywhere),
        "crossed" has intensity_* and may have both valid_*, "none" has neither.
    pol_left, pol_right: (P, H, W), P = 1: DoLP in [0, 1]; P = 3: (S1/S0, S2/S0, DoLP).
    valid_left, valid_right: (1, H, W) in {0, 1}, 1 where polarization, or the intensity, is trusted.
    intensity_left, intensity_right: (1, H, W), linear, I_parallel and I_perpendicular of a crossed pair.
    disparity_background: (1, H, W), px, the disparity with all glass removed.
    identity: names the sample within its data set.
    skipped: why samples could not be read in whose place this one stands, one line each; see `SkipUnreadable`.

    Raises:
        ValueError: a tensor has another shape or type than stated, or the rig and what it recorded disagree.
    """

    identity: str

    _batch_dims: ClassVar[int] = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class StereoBatch(_StereoTensors):
    """Samples of one rig and size, stacked: the fields of `StereoSample` as (B, C, H, W), and B identities.

    Raises:
        ValueError: as `StereoSample`, or the number of identities is not B.
    """

    identity: tuple[str, ...]

    _batch_dims: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.identity) != len(self.left):
            raise ValueError(f"identity must name {len(self.left)} samples, got {len(self.identity)}")


def stack(samples: Sequence[StereoSample]) -> StereoBatch:
    """Stack samples along a new leading dimension: the `collate_fn` of a `DataLoader`.

    Raises:
        ValueError: no samples, or samples of different rigs, sizes or with different optional fields.
    """
    if not samples:
        raise ValueError("stack needs at least one sample, got none")
    rigs = {sample.rig for sample in samples}
    if len(rigs) > 1:
        raise ValueError(f"samples of one batch must share one rig, got {', '.join(sorted(rigs))}")
    parts = [sample._tensors() for sample in samples]
    for part, sample in zip(parts, samples, strict=True):
        if part.keys() != parts[0].keys():
            names = ", ".join(sorted(part.keys() ^ parts[0].keys()))
            raise ValueError(
                f"samples of one batch must have the same fields; {sample.identity} and {samples[0].identity} "
                f"differ in {names}"
            )
        for name, tensor in part.items():
            if tensor.shape != parts[0][name].shape:
                raise ValueError(
                    f"samples of one batch must have one size; {name} of {sample.identity} is {tuple(tensor.shape)}, "
                    f"of {samples[0].identity} {tuple(parts[0][name].shape)}"
                )
    tensors = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
    skipped = tuple(line for sample in samples for line in sample.skipped)
    identity = tuple(sample.identity for sample in samples)
    return StereoBatch(**tensors, rig=samples[0].rig, identity=identity, skipped=skipped)


def _check(name: str, tensor: Tensor, left: Tensor, channels: tuple[int, ...], dims: int) -> None:
    if tensor.dtype != torch.float32:
        raise ValueError(f"{name} must be float32, got {tensor.dtype}")
    batch, size = tuple(left.shape[:dims]), tuple(left.shape[-2:])
    if (
        tensor.ndim != dims + 3
        or tensor.shape[dims] not in channels
        or tensor.shape[:dims] != batch
        or tensor.shape[-2:] != size
    ):
        wanted = " or ".join(str((*batch, count, *size)) for count in channels)
        raise ValueError(f"{name} must be {wanted} to match left, got {tuple(tensor.shape)}")


def _describe(value: Tensor | None) -> str:
    return "None" if value is None else f"a tensor {tuple(value.shape)}"
