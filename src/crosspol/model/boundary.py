"""The network's boundary: what comes in is checked and padded here, what leaves is cropped here."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from crosspol.model.config import CrossPolConfig
from crosspol.model.crossed import crossed_contrast
from crosspol.model.parts import View

MINIMUM_SIDE = 32


class NetworkInputs:
    """The boundary: checks what came, pads it to the network's multiple, and crops what leaves."""

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
        self._multiple = config.record.padding
        self.left = self._image("left", left)
        self.right = self._image("right", right)
        sides = ("left", "right")
        masks = [self._mask(f"valid_{side}", mask) for side, mask in zip(sides, valid, strict=True)]
        self.views: tuple[View | None, View | None] = (None, None)
        if config.fusion.kind == "none":
            self.crossed = False
        elif self.crossed:
            self._intensities = [
                self._view(side, f"intensity_{side}", value, 1, mask)
                for side, value, mask in zip(sides, intensity, masks, strict=True)
                if value is not None
            ]
        else:
            left_view, right_view = (
                None if value is None else self._view(side, f"pol_{side}", value, self._channels, mask)
                for side, value, mask in zip(sides, pol, masks, strict=True)
            )
            self.views = (left_view, right_view)

    def contrast(self, disparity: Tensor) -> tuple[View, View]:
        """Form a crossed pair's contrast from the network's estimate (B, 1, H, W), padded size."""
        left, right = self._intensities
        views = crossed_contrast(left.polarization, right.polarization, disparity, left.valid, right.valid)
        first = self._contrast_view(*views[0], left.light)
        return first, self._contrast_view(*views[1], right.light)

    def _contrast_view(self, contrast: Tensor, valid: Tensor, light: Tensor | None) -> View:
        """Arrange a contrast (B, 1, H, W) as the network's channels: of three it is S1/S0, S2 stays unknown."""
        if self._channels == 1:
            return View(contrast, valid, light)
        channels = torch.cat([contrast, torch.zeros_like(contrast), contrast.abs()], dim=1)
        return View(channels, valid, light, contrast_only=True)

    def crop(self, x: Tensor) -> Tensor:
        """Undo the padding of (B, C, H, W)."""
        x_before, _, y_before, _ = self._margins()
        return x[..., y_before : y_before + self._height, x_before : x_before + self._width]

    def _margins(self) -> tuple[int, int, int, int]:
        extra_x, extra_y = -self._width % self._multiple, -self._height % self._multiple
        # Centerd, as RAFT-Stereo's own evaluation pads: the same weights then give the same disparity at any size.
        return extra_x // 2, extra_x - extra_x // 2, extra_y // 2, extra_y - extra_y // 2

    def _pad(self, x: Tensor) -> Tensor:
        return F.pad(x, self._margins(), mode="replicate") if any(self._margins()) else x

    def _image(self, name: str, image: Tensor) -> Tensor:
        wanted = (self._batch, 3, self._height, self._width)
        if image.shape != wanted:
            raise ValueError(f"{name}: got shape {tuple(image.shape)}, wanted {wanted} as the left view")
        _check_floating(name, image)
        _check_finite(name, image)
        return self._pad(image.float())

    def _mask(self, name: str, mask: Tensor | None) -> Tensor:
        wanted = (self._batch, 1, self._height, self._width)
        if mask is not None and mask.shape != wanted:
            raise ValueError(f"{name}: got shape {tuple(mask.shape)}, wanted {wanted}")
        trusted = torch.ones(wanted, device=self.left.device) if mask is None else (mask >= 0.5).float()
        # A crossed pair's contrast needs a partner in the other view, and the padding holds none.
        return F.pad(trusted, self._margins()) if self.crossed else self._pad(trusted)

    def _view(self, side: str, name: str, value: Tensor, channels: int, mask: Tensor) -> View:
        wanted = (self._batch, channels, self._height, self._width)
        if value.shape != wanted:
            raise ValueError(f"{name}: got shape {tuple(value.shape)}, wanted {wanted}")
        _check_floating(name, value)
        padded = torch.where(mask > 0, self._pad(value.float()), 0.0)
        _check_finite(f"{name} at trusted pixels", padded)
        return View(padded, mask, _linear_light(self.left if side == "left" else self.right))


def _linear_light(image: Tensor) -> Tensor:
    """Undo the display curve (sRGB, IEC 61966-2-1) of (B, 3, H, W): mean linear light, (B, 1, H, W) in [0, 1]."""
    shown = image.clamp(0, 1)
    linear = torch.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)
    return linear.mean(dim=1, keepdim=True)


def _check_floating(name: str, x: Tensor) -> None:
    if not x.is_floating_point():
        raise ValueError(f"{name}: got {x.dtype}, wanted floating point")


def _check_finite(name: str, x: Tensor) -> None:
    # A traced or compiled graph has no values to look at, nor has a shadow on the meta device.
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or x.is_meta:
        return
    if not torch.isfinite(x).all():
        bad = int((~torch.isfinite(x)).sum())
        raise ValueError(f"{name}: got {bad} NaN or infinite values of {x.numel()}, wanted finite ones")
