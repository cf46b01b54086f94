"""What the network sees of a stereo pair: `StereoInputs`, the one door. Data sets and the predictor both pass here.

Rules that hold for every producer:

- Images are float32 in [0, 1], as a viewer shows them. Linear light is exposed (`crosspol.light.exposure`) and gets the
  sRGB curve and 8 bits (`crosspol.light.display_image`).
- A view's polarization, or a crossed pair's intensity, is valid where it is known. NaN (or infinity) is not valid, nor
  is what a mask leaves out, nor any pixel of a view without polarization beside one that has some: such a view has a
  map of zeros and a mask of zeros. What was not finite is 0 here.
- A mask is 1 where polarization, or an intensity, is valid. Without one, all that is known is valid.
- All tensors of a pair have one size.
- S0 is I0 + I90, as in `crosspol.polarimetry`: 2 where unpolarized light brings every angle to white. `Frame` alone
  holds half of it, the mean of the four intensities; `StereoInputs.from_frames` is where that becomes I0 + I90.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crosspol.light import display_image, exposure
from crosspol.polarimetry import dolp, normalized_stokes
from crosspol.rigs.frames import Frame
from crosspol.rigs.kinds import RigKind

__all__ = ["INPUTS", "PairTensors", "StereoInputs", "ViewRecord", "polarization_map"]

POLARIZATION_CHANNELS = (1, 3)

# S0 below which light counts as this much, 1e-4 of white: noise over no light would be any polarization.
_LEAST_S0 = 2e-4
_SIDES = ("left", "right")

_Pair = TypeVar("_Pair", bound="PairTensors")


class ViewRecord(NamedTuple):
    """What one camera made of a view: its image, and what it measured of polarization.

    image: (3, H, W) in [0, 1], as a viewer shows it.
    light: linear, white 1: Stokes parameters (3, H, W), averaged over colors, of a camera that measures polarization;
        the intensity (1, H, W) of a crossed pair's camera; None of a plain one.
    valid: (1, H, W) in {0, 1}, where `light` is valid; None: everywhere.
    """

    image: Tensor
    light: Tensor | None = None
    valid: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class PairTensors:
    """The tensors of a stereo pair, float32; `...` is nothing for a pair and (B,) for a batch of pairs.

    left, right: (..., 3, H, W) in [0, 1], display-referred (sRGB-like), as a viewer would show them.
    pol_left, pol_right: (..., P, H, W), P = 1: DoLP in [0, 1], or a crossed pair's contrast in [-1, 1]; P = 3:
        (S1/S0, S2/S0, DoLP). None: no polarization, or a crossed pair.
    valid_left, valid_right: (..., 1, H, W) in {0, 1}, 1 where polarization, or the intensity, is valid.
    intensity_left, intensity_right: (..., 1, H, W), linear, I_parallel and I_perpendicular of a crossed pair.
    """

    left: Tensor
    right: Tensor
    pol_left: Tensor | None = None
    pol_right: Tensor | None = None
    valid_left: Tensor | None = None
    valid_right: Tensor | None = None
    intensity_left: Tensor | None = None
    intensity_right: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that there is, by field."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def to(self: _Pair, device: torch.device | str, non_blocking: bool = False) -> _Pair:
        """The same data with every tensor on `device`."""
        return trusting_replace(
            self, **{name: tensor.to(device, non_blocking=non_blocking) for name, tensor in self.tensors().items()}
        )

    def pin_memory(self: _Pair) -> _Pair:
        """The same data in memory that a GPU copies from by itself, while others compute.

        A `DataLoader` that pins memory asks for this by name, and leaves what has no such method as it is.
        """
        return trusting_replace(self, **{name: tensor.pin_memory() for name, tensor in self.tensors().items()})

    def check_shapes(self, dims: int) -> None:
        """Check that every tensor has `dims` axes before the channels, the right channels, and the size of `left`.

        Raises:
            ValueError: one has not, or is not float32.
        """
        if self.left.ndim != dims + 3 or self.left.shape[dims] != 3:
            raise ValueError(f"left: got {tuple(self.left.shape)}, wanted ({'B, ' * dims}3, H, W)")
        for name, tensor in self.tensors().items():
            channels = {"left": (3,), "right": (3,), "pol_left": POLARIZATION_CHANNELS}.get(name, (1,))
            if name == "pol_right":
                channels = POLARIZATION_CHANNELS if self.pol_left is None else (self.pol_left.shape[dims],)
            _check(name, tensor, self.left, channels, dims)


@dataclass(frozen=True, kw_only=True, eq=False)
class StereoInputs(PairTensors):
    """Everything that the network sees of a pair (C, H, W), or of a batch of pairs (B, C, H, W).

    Make it with `from_frames`, `from_light` or `from_arrays`; the module's docstring has the rules that hold for all of
    them, `PairTensors` the fields. Either both views have polarization, or neither.

    Raises:
        ValueError: a tensor has another shape or type than stated, or the fields contradict each other.
    """

    _sides_together: ClassVar[tuple[str, ...]] = ("pol", "intensity", "valid")

    def __post_init__(self) -> None:
        self.check_shapes(1 if self.batch else 0)
        for kind in self._sides_together:
            there = [getattr(self, f"{kind}_{side}") is not None for side in _SIDES]
            if any(there) and not all(there):
                missing = f"{kind}_{'right' if there[0] else 'left'}"
                raise ValueError(f"{missing}: got None, wanted a tensor as the other view has")
        if self.pol_left is not None and self.intensity_left is not None:
            raise ValueError("intensity_left: got a tensor beside pol_left, wanted one of the two")
        if self.valid_left is not None and not self.polarized:
            raise ValueError("valid_left: got a tensor without pol_left or intensity_left, wanted None")

    @property
    def batch(self) -> bool:
        """Whether the tensors have a batch axis."""
        return self.left.ndim == 4

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.left.shape[-2], self.left.shape[-1]

    @property
    def polarized(self) -> bool:
        """Whether there is anything of polarization: maps, or a crossed pair's intensities."""
        return self.pol_left is not None or self.intensity_left is not None

    def kwargs(self) -> dict[str, Tensor]:
        """The tensors under the names of `CrossPol.forward`, without those that are None."""
        return self.tensors()

    def batched(self) -> StereoInputs:
        """The pair as a batch of one; a batch as it is."""
        if self.batch:
            return self
        return trusting_replace(self, **{name: tensor[None] for name, tensor in self.tensors().items()})

    def pair(self, index: int) -> StereoInputs:
        """One pair of a batch, without the batch axis."""
        return trusting_replace(self, **{name: tensor[index] for name, tensor in self.tensors().items()})

    @classmethod
    def from_frames(cls, left: Frame, right: Frame, rig: RigKind, pol_channels: int = 1) -> StereoInputs:
        """Make inputs of what two cameras recorded in linear light.

        Both views are exposed by one factor. The plain camera beside a polarization camera ("quad-left") has a factor
        of its own: a polarizer takes half the light, and no two sensors agree. Light that is not finite is black (white
        where it is infinite) in the image.

        Args:
            left, right: rectified frames of one size, on the CPU.
            rig: kind of the rig: which part of a frame is used, see `from_light`.
            pol_channels: of the network, 1 or 3.

        Raises:
            ValueError: sizes that differ, or a frame without what the rig measures.
        """
        _check_frames(left, right, rig)
        images = [frame.image.nan_to_num(nan=0, posinf=1, neginf=0) for frame in (left, right)]
        if (left.stokes is None) == (right.stokes is None):
            factors = [exposure(images)] * 2
        else:
            factors = [exposure([image]) for image in images]
        views = []
        for frame, image, factor in zip((left, right), images, factors, strict=True):
            shown = display_image(float(factor) * image).expand(3, *frame.size).contiguous()
            # A frame's S0 is (I0 + I90) / 2; colors mix as light does.
            light = _mixed(image)[None] if frame.stokes is None else 2 * _mixed(frame.stokes)
            views.append(ViewRecord(shown, light, frame.valid))
        return cls.from_light(views[0], views[1], rig, pol_channels)

    @classmethod
    def from_light(cls, left: ViewRecord, right: ViewRecord, rig: RigKind, pol_channels: int = 1) -> StereoInputs:
        """Make inputs of images that are shown already, and the linear light beside them.

        Args:
            left, right: the views, rectified, of one size.
            rig: its kind, which decides what of the record is used: "quad" both views' Stokes parameters, "quad-left"
                the left view's (the right view is invalid everywhere), "crossed" both intensities, "none" the images
                alone.
            pol_channels: 1: DoLP; 3: (S1/S0, S2/S0, DoLP). A crossed pair is an intensity a view either way.

        Raises:
            ValueError: sizes that differ, or a view without what the rig measures.
        """
        values: dict[str, Tensor] = {"left": left.image, "right": right.image}
        if rig == "none":
            return cls(**values)
        for side, view in zip(_SIDES, (left, right), strict=True):
            if rig == "quad-left" and side == "right":
                continue
            if view.light is None:
                raise ValueError(f"light of the {side} view: got None, wanted what a {rig} rig measures")
            if rig == "crossed":
                values[f"intensity_{side}"] = view.light
            else:
                values[f"pol_{side}"] = polarization_map(view.light, pol_channels)
            values[f"valid_{side}"] = torch.ones_like(view.light[:1]) if view.valid is None else view.valid
        return cls(**_complete(values))

    @classmethod
    def from_arrays(
        cls,
        left: NDArray[Any],
        right: NDArray[Any],
        *,
        pol_left: NDArray[Any] | None = None,
        pol_right: NDArray[Any] | None = None,
        valid_left: NDArray[Any] | None = None,
        valid_right: NDArray[Any] | None = None,
        intensity_left: NDArray[Any] | None = None,
        intensity_right: NDArray[Any] | None = None,
    ) -> StereoInputs:
        """Make inputs of arrays that `crosspol.data.arguments` has checked: of what people have in files.

        Args:
            left, right: (3, H, W) or (B, 3, H, W) in [0, 1].
            pol_left, pol_right: (..., P, H, W), NaN = not known; a side without one is not valid anywhere. None of
                both: no polarization.
            valid_left, valid_right: (..., 1, H, W), bool or 0 and 1; None: all that is known.
            intensity_left, intensity_right: (..., 1, H, W), linear, from 0 up: a crossed pair.

        Raises:
            ValueError: shapes that differ, one intensity without the other, intensities beside maps.
        """
        arrays = {
            "left": left, "right": right, "pol_left": pol_left, "pol_right": pol_right, "valid_left": valid_left,
            "valid_right": valid_right, "intensity_left": intensity_left, "intensity_right": intensity_right,
        }  # fmt: skip
        values = {name: _tensor(array) for name, array in arrays.items() if array is not None}
        return cls(**_complete(values))


INPUTS = tuple(field.name for field in fields(StereoInputs))
"""The fields of `StereoInputs`, which are the arguments of `CrossPol.forward`."""


def polarization_map(stokes: Tensor, channels: int = 1) -> Tensor:
    """The network's polarization map of measured Stokes parameters, limited to what light can have.

    Args:
        stokes: (3, H, W), linear, S0 = I0 + I90.
        channels: 1: DoLP; 3: (S1/S0, S2/S0, DoLP).

    Returns:
        (channels, H, W), DoLP in [0, 1], the others in [-1, 1]. S0 below 2e-4 (1e-4 of white) counts as 2e-4.
    """
    lit = torch.cat([stokes[:1].clamp(min=_LEAST_S0), stokes[1:]])
    return dolp(lit)[None].clamp_(0, 1) if channels == 1 else normalized_stokes(lit).clamp_(-1, 1)


def trusting_replace(values: _Pair, **changes: Any) -> _Pair:
    """`dataclasses.replace` without the checks of construction: for changes that are right by how they are made."""
    made = object.__new__(type(values))
    made.__dict__.update(values.__dict__ | changes)
    return made


def _complete(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Apply the rule of validity: NaN, what a mask leaves out, and a side without a map are not valid; else all is."""
    maps = [values[name] for name in ("pol_left", "pol_right") if name in values]
    for side in _SIDES:
        pol, valid = f"pol_{side}", f"valid_{side}"
        if maps and pol not in values:
            values[pol], values[valid] = torch.zeros_like(maps[0]), torch.zeros_like(maps[0].narrow(-3, 0, 1))
            continue
        measured = pol if maps else f"intensity_{side}"
        if measured not in values:
            continue
        known = values[measured].isfinite().all(dim=-3, keepdim=True)
        mask = values.get(valid)
        if known.all():
            values[valid] = torch.ones_like(values[measured].narrow(-3, 0, 1)) if mask is None else mask
            continue
        values[measured] = torch.where(known, values[measured], 0.0)
        if mask is None:
            values[valid] = known.float()
        elif mask.shape == known.shape:  # another shape is refused, by name, when the inputs are made
            values[valid] = torch.where(known, mask, 0.0)
    return values


def _mixed(colors: Tensor) -> Tensor:
    """The mean over colors (C, ...); of one color it is that one."""
    return colors[0] if len(colors) == 1 else colors.mean(0)


def _tensor(array: NDArray[Any]) -> Tensor:
    """Numbers of any kind as float32; memory that may not be written is copied."""
    return torch.from_numpy(np.require(array, np.float32, ["C", "W"]))


def _check_frames(left: Frame, right: Frame, rig: RigKind) -> None:
    if left.size != right.size:
        raise ValueError(f"the right frame is {right.size} and the left frame {left.size}; wanted one size")
    for side, frame in zip(_SIDES, (left, right), strict=True):
        if frame.stokes is None and (rig == "quad" or (rig == "quad-left" and side == "left")):
            raise ValueError(f"the {side} frame has no Stokes parameters; a {rig} rig measures them")
        if frame.intensity is None and rig == "crossed":
            raise ValueError(f"the {side} frame has no intensity; a crossed rig measures one behind each polarizer")


def _check(name: str, tensor: Tensor, left: Tensor, channels: tuple[int, ...], dims: int) -> None:
    if tensor.dtype != torch.float32:
        raise ValueError(f"{name}: got {tensor.dtype}, wanted float32")
    batch, size = tuple(left.shape[:dims]), tuple(left.shape[-2:])
    if (
        tensor.ndim != dims + 3
        or tensor.shape[dims] not in channels
        or tensor.shape[:dims] != batch
        or tensor.shape[-2:] != size
    ):
        wanted = " or ".join(str((*batch, count, *size)) for count in channels)
        raise ValueError(f"{name}: got {tuple(tensor.shape)}, wanted {wanted} to match left")
