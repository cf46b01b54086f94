"""What the cameras of a rig recorded, as the files that `read_recordings` reads: raw frames, rig.yaml, calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crosspol.io.images import write_image
from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.calibration_files import write_calibration
from crosspol.rigs.frames import Recording
from crosspol.rigs.kinds import RigKind
from crosspol.rigs.rig import Rig

__all__ = ["CALIBRATION", "RIG", "write_raw_pair"]

RIG = "rig.yaml"
CALIBRATION = "calibration.json"


def write_raw_pair(
    folder: Path, kind: RigKind, left: Recording, right: Recording, calibration: StereoCalibration | None
) -> list[Path]:
    """Write a pair as cameras write it, and the rig that reads it; replaces what is there.

    Args:
        folder: which exists; gets left_raw.png and right_raw.png (16 bits), rig.yaml, and calibration.json.
        kind: of the rig.
        left, right: whole numbers up to 65535 of one plane: a mosaic (H, W), or an image (1 or 3, H, W).
        calibration: of a rectified pair; None: without a file.

    Returns:
        The files.

    Raises:
        ValueError: several planes (four angles, say), or a calibration of raw views.
        OSError: a file cannot be written.
    """
    written = [_write_frame(folder / f"{side}_raw.png", view) for side, view in (("left", left), ("right", right))]
    if calibration is not None:
        written.append(write_calibration(folder / CALIBRATION, calibration))
    rig = Rig(
        kind=kind,
        camera=left.camera,
        right_camera=None if right.camera == left.camera else right.camera,
        calibration=None if calibration is None else CALIBRATION,
        folder=folder,
    )
    return [*written, rig.write(folder / RIG)]


def _write_frame(path: Path, recording: Recording) -> Path:
    plane = recording.planes[0]
    if plane.ndim == 3:
        plane = plane[0] if len(plane) == 1 else np.moveaxis(plane, 0, -1)
    if len(recording.planes) > 1 or plane.shape[2:] not in ((), (3,)):
        raise ValueError(f"{path}: got several planes, wanted a mosaic or an image")
    return write_image(path, np.rint(plane).astype(np.uint16))
