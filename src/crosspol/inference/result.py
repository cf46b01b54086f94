"""What was estimated for a stereo pair, or for a batch of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosspol import geometry
from crosspol.data.inputs import StereoInputs
from crosspol.errors import refuse
from crosspol.inference.outputs import OUTPUTS, Output, saved_before
from crosspol.inference.polarization import PolarizationMaps
from crosspol.model.network import State
from crosspol.rigs.calibration import StereoCalibration

__all__ = ["StereoResult", "check_calibration"]


@dataclass(frozen=True, eq=False)
class StereoResult:
    """What was estimated for a stereo pair, or for a batch of them.

    Raises:
        UsageError: a calibration of raw views, or of images of another size.
    """

    disparity: NDArray[np.float32]
    """(H, W), or (B, H, W) for a batch; px, positive: x_right = x_left - disparity. Sizes are those of the input."""
    polarization_use: NDArray[np.float32] | None = None
    """(H, W) or (B, H, W): size of what polarization added, relative to the stereo features; 0 = nothing. None where no
    polarization was given."""
    glass: NDArray[np.float32] | None = None
    """(H, W) or (B, H, W): probability in [0, 1] that the first surface is glass. None of a network without a glass
    head."""
    inputs: StereoInputs | None = None
    """What was predicted from, at full size, on the CPU: exposed images in [0, 1], polarization, validity; (C, H, W) or
    (B, C, H, W). The network saw it smaller where a scale was asked for."""
    confidence: NDArray[np.float32] | None = None
    """(H, W) or (B, H, W) in [0, 1]: estimated chance that the disparity is within 1 px of the truth. None where it was
    not asked for. See `crosspol.inference.confidence`."""
    occluded: NDArray[np.bool_] | None = None
    """(H, W) or (B, H, W): the right view misses the point, by the estimated disparity: it is outside of that view, or
    behind what is nearer. None where no confidence was asked for."""
    calibration: StereoCalibration | None = None
    """Of the rectified views, where it is known: focal length, principal points, baseline, for metric depth."""
    polarization: PolarizationMaps | None = None
    """Of the left view, of a single pair; None where nobody asked for images of it."""
    state: State | None = None
    """Where the refinement of a batch ended, for `StereoPredictor.estimate` to continue; None of a single pair."""

    def __post_init__(self) -> None:
        if self.calibration is not None:
            check_calibration(self.calibration, self.disparity.shape[-2:])

    @property
    def batched(self) -> bool:
        """Whether the arrays have a batch axis."""
        return self.disparity.ndim == 3

    @property
    def depth_m(self) -> NDArray[np.float32] | None:
        """(H, W) or (B, H, W): depth along the optical axis, m; NaN, never 0, where the disparity is not above that of
        a point at infinity. None without a calibration."""
        found = self.calibration
        if found is None:
            return None
        return geometry.depth(self.disparity, found.fx, found.baseline_m, found.cx_left, found.cx_right)

    @property
    def points(self) -> NDArray[np.float32] | None:
        """(H, W, 3) or (B, H, W, 3): points in the rectified left camera's axes, x right, y down, z forward, m; NaN
        where there is no depth. None without a calibration."""
        depth = self.depth_m
        return (
            None if depth is None or self.calibration is None else geometry.points(depth, self.calibration.left.matrix)
        )

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
        return replace(self, **maps, state=None, inputs=None if self.inputs is None else self.inputs.pair(index))

    def save(
        self,
        folder: str | os.PathLike[str],
        stem: str = "disparity",
        outputs: Sequence[Output] = OUTPUTS,
        keep_others: bool = False,
    ) -> list[Path]:
        """Write the result as files; each appears complete or not at all.

        Writes ``<stem>.pfm`` and ``<stem>.npy`` (exact), ``<stem>.png`` (16-bit, px * 256, as in KITTI; 0 to 255.99 px,
        the rest unknown) and ``<stem>_color.png`` (to look at, with a scale in px). The pairs of a batch are numbered:
        ``<stem>_000.pfm`` and so on.

        What else the result has goes into files whose word takes the place of ``disparity`` at the end of the stem;
        after another stem it follows: ``<stem>_depth.npy``. These are ``glass.png`` (8-bit, 255 = certain) where the
        network estimates glass; ``polarization_use.png`` if polarization changed anything; ``dolp.png``, ``aolp.png``
        and ``s0.png`` of `polarization`; ``confidence.png`` (8-bit, 255 = certain) and ``occluded.png`` (8-bit, 255 =
        occluded). With a calibration also ``depth.npy`` (m, NaN = unknown), ``depth.png`` (16-bit, mm, 0 = unknown, up
        to 65.535 m), ``depth_color.png``, ``cloud.ply`` (without far and flying points) and ``calibration.json``, from
        which all of it can be computed again.

        It replaces an earlier result of the same name: files of that one which this one does not have, such as the
        depth where there is no calibration now, are removed, so that all files of a name are of one result.

        Args:
            folder: made if it does not exist.
            stem: beginning of the file names.
            outputs: kinds of file, those that apply are written; `crosspol.inference.outputs.outputs_with` has options.
                Without the disparity nothing is replaced, and nothing removed.
            keep_others: remove nothing: for a folder in which files of such names may be somebody's own.

        Returns:
            The written paths.

        Raises:
            OSError: the folder cannot be made or written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self.batched:
            pairs = [self.pair(index) for index in range(len(self.disparity))]
            names = [f"{stem}_{index:03d}" for index in range(len(pairs))]
            every = [pair.save(folder, name, outputs, keep_others) for pair, name in zip(pairs, names, strict=True)]
            return [path for paths in every for path in paths]
        base = folder / stem
        earlier = [] if keep_others else saved_before(base)
        written = [Path(path) for output in outputs for path in output.write(self, base)]
        if all(output.path(base) in written for output in OUTPUTS if output.always):
            for path in earlier:
                if path not in written:
                    path.unlink(missing_ok=True)
        return written


def check_calibration(calibration: StereoCalibration, size: tuple[int, ...], name: object = "calibration") -> None:
    """Refuse a calibration that depth cannot be computed with.

    Args:
        calibration: of rectified views.
        size: (H, W) of the views, px.
        name: what to call the calibration.

    Raises:
        UsageError: it is of raw views, or of another size.
    """
    if not calibration.rectified:
        raise refuse(name, "a calibration of raw views", "one of the rectified pair")
    height, width = size
    for camera in (calibration.left, calibration.right):
        if camera.size is not None and camera.size != (width, height):
            raise refuse(
                name, f"a calibration of {camera.size[0]}x{camera.size[1]} px", f"{width}x{height} px as the views have"
            )
