"""What was measured of a left view's polarization, as maps: for people to look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crosspol.data.inputs import StereoInputs
from crosspol.light import display_image, exposure
from crosspol.polarimetry import aolp, dolp
from crosspol.rigs.frames import Frame

__all__ = ["PolarizationMaps"]


@dataclass(frozen=True, eq=False)
class PolarizationMaps:
    """Polarization of the left view; pixels are those of the disparity.

    dolp: (H, W) float32 in [0, 1], NaN where it cannot be trusted.
    aolp: (H, W) float32, rad in [-pi/2, pi/2], in the view's frame; NaN likewise. None where only DoLP is known.
    s0: (H, W, 3) float32 in [0, 1], the whole light as a viewer shows it. None where it was not measured.
    """

    dolp: NDArray[np.float32]
    aolp: NDArray[np.float32] | None
    s0: NDArray[np.float32] | None

    @classmethod
    def of_frame(cls, frame: Frame) -> PolarizationMaps | None:
        """Maps of a rectified frame; None of one without Stokes parameters."""
        if frame.stokes is None:
            return None
        mean = frame.stokes.mean(0)
        image = frame.image.nan_to_num(nan=0, posinf=1, neginf=0)
        shown = display_image(float(exposure([image])) * image).expand(3, *frame.size)
        known = frame.valid[0] > 0
        return cls(
            _known(dolp(mean).clamp(0, 1), known), _known(aolp(mean), known), shown.permute(1, 2, 0).float().numpy()
        )

    @classmethod
    def of_inputs(cls, inputs: StereoInputs) -> PolarizationMaps | None:
        """Maps of what the network is given, one pair or a batch of one; None where that has no maps."""
        pair = inputs.pair(0) if inputs.batch else inputs
        if pair.pol_left is None or pair.valid_left is None:
            return None
        known = pair.valid_left[0] > 0
        degree = _known(pair.pol_left[-1].abs().clamp(0, 1), known)
        if len(pair.pol_left) == 1:
            return cls(degree, None, None)
        return cls(degree, _known(torch.atan2(pair.pol_left[1], pair.pol_left[0]) / 2, known), None)


def _known(values: Tensor, known: Tensor) -> NDArray[np.float32]:
    return torch.where(known, values, torch.nan).float().numpy()
