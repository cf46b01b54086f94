"""A rig made ready: its calibration read once, its rectification maps made once a size, and each file read once."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from crosspol.errors import UsageError
from crosspol.rigs.calibration import CameraCalibration, StereoCalibration
from crosspol.rigs.calibration_files import read_calibration
from crosspol.rigs.frames import Frame, frame_of, read_recordings
from crosspol.rigs.recordings import FrameFiles, frame_files, frame_size
from crosspol.rigs.rectification import (
    Rectification,
    check_calibrated_size,
    crossed_turns,
    rectification,
    resample,
)
from crosspol.rigs.rig import Rig, Side, read_rig

__all__ = ["RigReader", "StereoPair"]

_SIZES_KEPT = 4
"""Pairs of sizes of which the maps are kept; of 5 megapixels they take 120 MB each."""


@dataclass(frozen=True, eq=False)
class StereoPair:
    """Both views of a rig, rectified if it has a calibration.

    left, right: frames in linear light, of one size.
    calibration: holds for these frames; None where the rig has none.
    warnings: what will not be good, a line each; the same for every pair of a size.
    """

    left: Frame
    right: Frame
    calibration: StereoCalibration | None
    warnings: tuple[str, ...] = ()


class RigReader:
    """Reads a rig's pairs, rectified: for one pair, a folder of them, or a video.

        reader = RigReader("rig.yaml")
        pair = reader.read("left.raw", "right.raw")

    Args:
        rig: the rig, or its YAML file.
        calibration: its calibration, where it has been read already.

    Raises:
        MissingFileError: the rig's file or its calibration does not exist.
        UsageError: one of them cannot be read.
    """

    def __init__(self, rig: Rig | str | os.PathLike[str], calibration: StereoCalibration | None = None) -> None:
        self.rig = rig if isinstance(rig, Rig) else read_rig(rig)
        path = self.rig.calibration_path
        self.calibration = calibration if calibration is not None or path is None else read_calibration(path)
        self._maps: dict[tuple[tuple[int, int], tuple[int, int]], Rectification] = {}

    def files(self, left: FrameFiles, right: FrameFiles) -> list[Path]:
        """Return the files of both views.

        Raises:
            MissingFileError: a file does not exist.
            UsageError: not as many files as a camera writes for a frame.
        """
        if self.rig.swap_views:
            left, right = right, left
        return [*frame_files(left, self.rig.camera_of("left")), *frame_files(right, self.rig.camera_of("right"))]

    def check(self, left: FrameFiles, right: FrameFiles) -> None:
        """Look at names, headers and sizes of a pair, without reading pixels.

        What passes can still turn out wrong when it is read: pixels cut off or out of range.

        Args:
            left, right: as for `read`.

        Raises:
            MissingFileError: a file does not exist.
            UsageError: what the headers say does not fit the rig or its calibration.
        """
        if self.rig.swap_views:
            left, right = right, left
        sizes = self._size("left", left), self._size("right", right)
        if self.calibration is not None:
            self._check_calibrated(self.fitting(self.calibration, *sizes), *sizes)
        elif sizes[0] != sizes[1]:
            (height, width), (other_height, other_width) = sizes
            name = right if isinstance(right, (str, os.PathLike)) else right[0]
            raise UsageError(
                f"{name}: got {other_width}x{other_height} px, wanted {width}x{height} px as the left view, or a "
                "calibration"
            )

    def read(self, left: FrameFiles, right: FrameFiles) -> StereoPair:
        """Read a pair; each file is read once.

        Args:
            left, right: for each view a file, a path with {angle} or {map} in it, or those files in their order;
                exchanged where the rig says `swap_views`.

        Raises:
            MissingFileError: a file does not exist.
            UsageError: a file does not hold what the rig says, or sizes do not fit the calibration.
        """
        return self.rectify(*self.frames(left, right))

    def frames(self, left: FrameFiles, right: FrameFiles) -> tuple[Frame, Frame]:
        """Read a pair as the cameras saw it, not rectified: to calibrate them, say.

        Args:
            left, right: as for `read`.

        Raises:
            MissingFileError: a file does not exist.
            UsageError: a file does not hold what the rig says, or the views differ in size without a calibration.
        """
        recordings = read_recordings(self.rig, left, right)
        return frame_of(recordings[0]), frame_of(recordings[1])

    def rectify(self, left: Frame, right: Frame) -> StereoPair:
        """Rectify raw frames of the rig; without a calibration, and rectified already, they pass as they are.

        Raises:
            UsageError: a view has another size than it was calibrated with.
        """
        calibration = self.calibration
        if calibration is None:
            return StereoPair(left, right, None)
        calibration = self.fitting(calibration, left.size, right.size)
        self._check_calibrated(calibration, left.size, right.size)
        if calibration.rectified and left.size == right.size:
            return StereoPair(left, right, calibration, calibration.warnings)
        maps = self._maps_of(calibration, left.size, right.size)
        turned = crossed_turns(maps) if self.rig.kind == "crossed" else ()
        views = resample(left, maps.left), resample(right, maps.right)
        return StereoPair(*views, maps.calibration, (*calibration.warnings, *turned))

    def fitting(
        self, calibration: StereoCalibration, left: tuple[int, int], right: tuple[int, int]
    ) -> StereoCalibration:
        """Return a calibration as it is taken for frames of these sizes (H, W).

        Of binned frames: that of full-size frames is made to fit, also one that says no size; one of binned frames
        stays as it is.
        """
        views: dict[str, Any] = {}
        for side, (height, width) in zip(get_args(Side), (left, right), strict=True):
            camera: CameraCalibration = getattr(calibration, side)
            factor = self.rig.camera_of(side).binning
            if factor > 1 and camera.size != (width, height):
                views[side] = camera.binned(factor)
        return replace(calibration, **views) if views else calibration

    def _size(self, side: Side, files: FrameFiles) -> tuple[int, int]:
        """Height and width of a frame, px, by its header."""
        camera = self.rig.camera_of(side)
        height, width = frame_size(files, camera)
        return height // camera.binning, width // camera.binning

    def _maps_of(self, calibration: StereoCalibration, left: tuple[int, int], right: tuple[int, int]) -> Rectification:
        maps = self._maps.pop((left, right), None) or rectification(calibration, left, right)
        while len(self._maps) >= _SIZES_KEPT:
            del self._maps[next(iter(self._maps))]
        self._maps[left, right] = maps
        return maps

    def _check_calibrated(self, calibration: StereoCalibration, left: tuple[int, int], right: tuple[int, int]) -> None:
        try:
            check_calibrated_size(calibration, left, right)
        except UsageError as error:
            raise UsageError(f"{self.rig.calibration_path}: {error}") from error
