"""The sample type of every CrossPol data set: a stereo pair, its polarization and its ground truth.

Image convention: float32, channel first, row 0 on top, pixel centers at integer coordinates. Disparity is positive and
belongs to the left view: x_right = x_left - disparity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from crosspol.data.inputs import INPUTS, PairTensors, StereoInputs
from crosspol.rigs.kinds import RIG_KINDS, RigKind

__all__ = ["StereoBatch", "StereoSample", "stack"]

# What a rig records besides the two images; the rest of the inputs stays None, but for what it may record.
_RECORDED: dict[RigKind, tuple[str, ...]] = {
    "quad": ("pol_left", "pol_right", "valid_left", "valid_right"),
    "quad-left": ("pol_left", "pol_right", "valid_left", "valid_right"),
    "crossed": ("intensity_left", "intensity_right"),
    "none": (),
}
_OPTIONAL: dict[RigKind, tuple[str, ...]] = {"crossed": ("valid_left", "valid_right")}
_OF_POLARIZATION = tuple(name for name in INPUTS if name not in ("left", "right"))


@dataclass(frozen=True, kw_only=True, eq=False)
class _WithTruth(PairTensors):
    """What a sample and a batch have beside their inputs; `...` is nothing for a sample and (B,) for a batch.

    disparity: (..., 1, H, W), px, positive, first surface seen by the left view (glass counts).
    valid: (..., 1, H, W) in {0, 1}, 1 where the disparity is known.
    glass: (..., 1, H, W) in {0, 1}, 1 where the first surface is glass; NaN where that is not known. Not a mask and a
        flag: what forgets to ask is NaN as well, and not "no glass".
    occluded: (..., 1, H, W) in {0, 1}, 1 where the right view misses the left pixel's point, out of frame included.
    rig: what was recorded. "quad" and "quad-left" have pol_* and valid_* ("quad-left" with valid_right 0 everywhere),
        "crossed" has intensity_* and may have both valid_*, "none" has neither.
    disparity_background: (..., 1, H, W), px, the disparity with all glass removed.
    skipped: why samples could not be read in whose place these stand, one line each; see `crosspol.data.resilient`.
    """

    disparity: Tensor
    valid: Tensor
    glass: Tensor
    occluded: Tensor
    rig: RigKind
    disparity_background: Tensor | None = None
    skipped: tuple[str, ...] = ()

    _batch_dims: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if self.rig not in RIG_KINDS:
            raise ValueError(f"rig: got {self.rig!r}, wanted one of {', '.join(RIG_KINDS)}")
        self.check_shapes(self._batch_dims)
        for name in _OF_POLARIZATION:
            value = getattr(self, name)
            present, wanted = value is not None, name in _RECORDED[self.rig]
            if present != wanted and name not in _OPTIONAL.get(self.rig, ()):
                raise ValueError(
                    f"{name}: got {_describe(value)}, wanted {'one' if wanted else 'none'} with rig {self.rig!r}"
                )
        if (self.valid_left is None) != (self.valid_right is None):
            raise ValueError(
                f"valid_left, valid_right: got {_describe(self.valid_left)} and {_describe(self.valid_right)}, wanted "
                "both or neither"
            )

    @property
    def inputs(self) -> StereoInputs:
        """What the network may see: images and polarization, no truth."""
        # Checked with the rest when this was made.
        made = object.__new__(StereoInputs)
        made.__dict__.update({name: getattr(self, name) for name in INPUTS})
        return made


@dataclass(frozen=True, kw_only=True, eq=False)
class StereoSample(_WithTruth):
    """One stereo pair with its ground truth: float32 tensors (C, H, W), checked for shape at construction.

    What the network sees of it, `inputs`, has the fields of `crosspol.data.inputs.PairTensors`. The truth belongs to
    the left view:

    disparity: (1, H, W), px, positive, first surface seen (glass counts).
    valid: (1, H, W) in {0, 1}, 1 where the disparity is known.
    glass, occluded, disparity_background, rig: as `_WithTruth` has them.
    name: of the sample, unique within its data set.

    Raises:
        ValueError: a tensor has another shape or type than stated, or the rig and what it recorded disagree.
    """

    name: str

    _batch_dims: ClassVar[int] = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class StereoBatch(_WithTruth):
    """Samples of one rig and size, stacked: the fields of `StereoSample` as (B, C, H, W), and B `names`.

    Raises:
        ValueError: as `StereoSample`, or the number of names is not B.
    """

    names: tuple[str, ...]

    _batch_dims: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.names) != len(self.left):
            raise ValueError(f"names: got {len(self.names)}, wanted one a sample, {len(self.left)}")

    def tensor(self, name: str, device: torch.device | str, non_blocking: bool = False) -> Tensor:
        """One field (B, C, H, W), float32, on `device`."""
        tensor: Tensor = getattr(self, name)
        return tensor.to(device, non_blocking=non_blocking)


def stack(samples: Sequence[StereoSample]) -> StereoBatch:
    """Stack samples along a new leading dimension: the `collate_fn` of a `DataLoader`.

    Raises:
        ValueError: no samples, or samples of different rigs, sizes or with different optional fields.
    """
    if not samples:
        raise ValueError("samples: got none, wanted at least one")
    rigs = {sample.rig for sample in samples}
    if len(rigs) > 1:
        raise ValueError(f"samples: got the rigs {', '.join(sorted(rigs))}, wanted one rig in a batch")
    parts = [sample.tensors() for sample in samples]
    for part, sample in zip(parts, samples, strict=True):
        if part.keys() != parts[0].keys():
            names = ", ".join(sorted(part.keys() ^ parts[0].keys()))
            raise ValueError(
                f"samples: got {sample.name} and {samples[0].name}, which differ in {names}, wanted the same "
                "fields in a batch"
            )
        for name, tensor in part.items():
            if tensor.shape != parts[0][name].shape:
                raise ValueError(
                    f"{name} of {sample.name}: got {tuple(tensor.shape)}, wanted one size in a batch, "
                    f"{tuple(parts[0][name].shape)} as {samples[0].name}"
                )
    tensors = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
    skipped = tuple(line for sample in samples for line in sample.skipped)
    named = tuple(sample.name for sample in samples)
    return StereoBatch(**tensors, rig=samples[0].rig, names=named, skipped=skipped)


def _describe(value: Tensor | None) -> str:
    return "None" if value is None else f"a tensor {tuple(value.shape)}"
