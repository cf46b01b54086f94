"""The network's boundary: what comes in is checked and padded here, what leaves is cropped here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from crosspol.light import decode_srgb
from crosspol.limits import MINIMUM_SIDE
from crosspol.model.config import CrossPolConfig
from crosspol.model.crossed import crossed_contrast
from crosspol.model.parts import PolView

_SIDES = ("left", "right")

_BEYOND = 0.01
"""How far rounding and resampling may carry an image beyond [0, 1]; 8-bit values go far beyond."""


class NetworkInputs:
    """The boundary: checks what came, pads it to the network's multiple, and crops what leaves.

    From here on masks are bool, thresholded at a half.
    """

    def __init__(
        self,
        config: CrossPolConfig,
        left: Tensor,
        right: Tensor,
        pol: tuple[Tensor | None, Tensor | None],
        valid: tuple[Tensor | None, Tensor | None],
        intensity: tuple[Tensor | None, Tensor | None],
        iters: int,
    ) -> None:
        if iters < 1:
            raise ValueError(f"iters: got {iters}, wanted at least 1")
        if left.dim() != 4 or left.shape[1] != 3 or min(left.shape[2:]) < MINIMUM_SIDE:
            raise ValueError(f"left: got shape {tuple(left.shape)}, wanted (B, 3, H, W) with H, W >= {MINIMUM_SIDE}")
        self._batch, _, self._height, self._width = left.shape
        self.crossed = intensity[0] is not None or intensity[1] is not None
        if self.crossed and (pol[0] is not None or pol[1] is not None):
            raise ValueError("got polarization maps and the intensities of a crossed pair; wanted one of the two")
        if self.crossed and (intensity[0] is None or intensity[1] is None):
            raise ValueError("intensity_left, intensity_right: got one of them; a crossed pair has both")
        self._channels = config.polarization.channels
        self._margins = _margins(self._height, self._width, config.record.padding)
        # What has to be finite, by name: looked at together, because each look at a GPU's values waits for it.
        self._to_check: list[tuple[str, Tensor]] = []
        self.left = self._image("left", left)
        self.right = self._image("right", right)
        masks = [self._mask(f"valid_{side}", mask) for side, mask in zip(_SIDES, valid, strict=True)]
        if config.fusion.kind == "none":
            self.crossed = False
            maps: tuple[Tensor | None, Tensor | None] = (None, None)
        else:
            maps = intensity if self.crossed else pol
        kind, channels = ("intensity", 1) if self.crossed else ("pol", self._channels)
        found = [
            None if value is None else self._view(f"{kind}_{side}", value, channels, mask, _linear_light(image))
            for side, value, mask, image in zip(_SIDES, maps, masks, (self.left, self.right), strict=True)
        ]
        _check_values(self._to_check, [("left", self.left), ("right", self.right)])
        self.views: tuple[PolView | None, PolView | None] = (None, None) if self.crossed else (found[0], found[1])
        self._intensities = [view for view in found if view is not None] if self.crossed else []

    def contrast(self, disparity: Tensor) -> tuple[PolView, PolView]:
        """Form a crossed pair's contrast from the network's estimate (B, 1, H, W), padded size."""
        left, right = self._intensities
        views = crossed_contrast(left.polarization, right.polarization, disparity, left.valid, right.valid)
        first = self._contrast_view(*views[0], left.light)
        return first, self._contrast_view(*views[1], right.light)

    def _contrast_view(self, contrast: Tensor, valid: Tensor, light: Callable[[], Tensor] | None) -> PolView:
        """Arrange a contrast (B, 1, H, W) as the network's channels: of three it is S1/S0, S2 stays unknown."""
        if self._channels == 1:
            return PolView(contrast, valid, light)
        channels = torch.cat([contrast, torch.zeros_like(contrast), contrast.abs()], dim=1)
        return PolView(channels, valid, light, contrast_only=True)

    def start(self, disparity: Tensor) -> Tensor:
        """Check and pad a disparity (B, 1, H, W), px, from which the refinement starts."""
        wanted = (self._batch, 1, self._height, self._width)
        if disparity.shape != wanted:
            raise ValueError(f"initial_disparity: got shape {tuple(disparity.shape)}, wanted {wanted}")
        _check_floating("initial_disparity", disparity)
        _check_values([("initial_disparity", disparity)])
        return self._pad(disparity.float())

    def crop(self, x: Tensor) -> Tensor:
        """Undo the padding of (B, C, H, W)."""
        x_before, _, y_before, _ = self._margins
        return x[..., y_before : y_before + self._height, x_before : x_before + self._width]

    def _pad(self, x: Tensor) -> Tensor:
        return F.pad(x, self._margins, mode="replicate") if any(self._margins) else x

    def _image(self, name: str, image: Tensor) -> Tensor:
        wanted = (self._batch, 3, self._height, self._width)
        if image.shape != wanted:
            raise ValueError(f"{name}: got shape {tuple(image.shape)}, wanted {wanted} as the left view")
        _check_floating(name, image)
        self._to_check.append((name, image))
        return self._pad(image.float())

    def _mask(self, name: str, mask: Tensor | None) -> Tensor:
        wanted = (self._batch, 1, self._height, self._width)
        if mask is not None and mask.shape != wanted:
            raise ValueError(f"{name}: got shape {tuple(mask.shape)}, wanted {wanted}")
        valid = torch.ones(wanted, dtype=torch.bool, device=self.left.device) if mask is None else mask >= 0.5
        if not any(self._margins):
            return valid
        # A crossed pair's contrast needs a partner in the other view, and the padding holds none.
        return F.pad(valid, self._margins) if self.crossed else self._pad(valid.float()) > 0

    def _view(self, name: str, value: Tensor, channels: int, mask: Tensor, light: Callable[[], Tensor]) -> PolView:
        wanted = (self._batch, channels, self._height, self._width)
        if value.shape != wanted:
            raise ValueError(f"{name}: got shape {tuple(value.shape)}, wanted {wanted}")
        _check_floating(name, value)
        padded = torch.where(mask, self._pad(value.float()), 0.0)
        self._to_check.append((f"{name} at valid pixels", padded))
        return PolView(padded, mask, light)


def _margins(height: int, width: int, multiple: int) -> tuple[int, int, int, int]:
    extra_x, extra_y = -width % multiple, -height % multiple
    # Centered, as RAFT-Stereo's own evaluation pads: the same weights then give the same disparity at any size.
    return extra_x // 2, extra_x - extra_x // 2, extra_y // 2, extra_y - extra_y // 2


def _linear_light(image: Tensor) -> Callable[[], Tensor]:
    """Return what gives the mean linear light, (B, 1, H, W) in [0, 1], of an image (B, 3, H, W); computed once."""
    known: list[Tensor] = []

    def light() -> Tensor:
        if not known:
            known.append(decode_srgb(image.clamp(0, 1)).mean(dim=1, keepdim=True))
        return known[0]

    return light


def _check_floating(name: str, x: Tensor) -> None:
    if not x.is_floating_point():
        raise ValueError(f"{name}: got {x.dtype}, wanted floating point")


def _check_values(named: Sequence[tuple[str, Tensor]], images: Sequence[tuple[str, Tensor]] = ()) -> None:
    """Refuse the first of some tensors that is not finite everywhere, and the first image that is not in [0, 1]."""
    # A traced or compiled graph has no values to look at, nor has a shadow on the meta device.
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if torch.compiler.is_compiling() or tracing or any(x.is_meta for _, x in named):
        return
    finite = [x.isfinite().all() for _, x in named]
    inside = [(x.min() >= -_BEYOND) & (x.max() <= 1 + _BEYOND) for _, x in images]
    if torch.stack([*finite, *inside]).all():
        return
    for name, x in named:
        if not x.isfinite().all():
            bad = int((~x.isfinite()).sum())
            raise ValueError(f"{name}: got {bad} NaN or infinite values of {x.numel()}, wanted finite ones")
    name, x = next(image for image, good in zip(images, inside, strict=True) if not good)
    raise ValueError(
        f"{name}: got values from {float(x.min()):g} to {float(x.max()):g}, wanted [0, 1]: divide 8-bit values by 255"
    )
