"""What was estimated for a stereo pair, or for a batch of them."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosspol.data.inputs import StereoInputs
from crosspol.inference.outputs import OUTPUTS
from crosspol.rigs.calibration import StereoCalibration

__all__ = ["StereoResult"]


@dataclass(frozen=True, eq=False)
class StereoResult:
    """What was estimated for a stereo pair, or for a batch of them."""

    disparity: NDArray[np.float32]
    """(H, W), or (B, H, W) for a batch; px, positive: x_right = x_left - disparity. Sizes are those of the input."""
    polarization_use: NDArray[np.float32] | None = None
    """(H, W) or (B, H, W): size of what polarization added, relative to the stereo features; 0 = nothing. None where no
    polarization was given."""
    glass: NDArray[np.float32] | None = None
    """(H, W) or (B, H, W): probability in [0, 1] that the first surface is glass. None of a network without a glass
    head."""
    inputs: StereoInputs | None = None
    """What the network saw, on the CPU: exposed images in [0, 1], polarization, validity; (C, H, W) or (B, C, H, W)."""
    calibration: StereoCalibration | None = None
    """Of the rectified views, where it is known: focal length, principal points, baseline, for metric depth."""

    @property
    def batched(self) -> bool:
        """Whether the arrays have a batch axis."""
        return self.disparity.ndim == 3

    def pair(self, index: int) -> StereoResult:
        """Return one pair of a batch, without the batch axis.

        Raises:
            IndexError: there is no such pair, or this is no batch.
        """
        if not self.batched:
            raise IndexError("this result is of one pair already")
        maps = {
            field.name: value[index]
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), np.ndarray)
        }
        return replace(self, **maps, inputs=None if self.inputs is None else self.inputs.pair(index))

    def save(self, folder: str | os.PathLike[str], stem: str = "disparity") -> list[Path]:
        """Write the result as files; each appears complete or not at all.

        Writes ``<stem>.pfm`` and ``<stem>.npy`` (exact), ``<stem>.png`` (16-bit, px * 256, as in KITTI; 0 to 255.99 px,
        the rest unknown), ``<stem>_color.png`` (to look at, with a scale in px), ``<stem>_glass.png`` (8-bit, 255 =
        certain) where the network estimates glass and, if polarization changed anything,
        ``<stem>_polarization_use.png``. The pairs of a batch are numbered: ``<stem>_000.pfm`` and so on.

        Args:
            folder: made if it does not exist.
            stem: beginning of the file names.

        Returns:
            The written paths.

        Raises:
            OSError: the folder cannot be made or written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if not self.batched:
            return [Path(path) for output in OUTPUTS for path in output.write(self, folder / stem)]
        pairs = [self.pair(index) for index in range(len(self.disparity))]
        return [path for index, pair in enumerate(pairs) for path in pair.save(folder, f"{stem}_{index:03d}")]
