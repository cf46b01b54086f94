"""KITTI stereo 2012 and 2015.

Source: Menze and Geiger, CVPR 2015; Geiger, Lenz and Urtasun, CVPR 2012.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np

from crosspol.data.truth import GroundTruth
from crosspol.datasets.pairs import PlainPair, PlainPairs, existing, found
from crosspol.datasets.reader import Reader
from crosspol.errors import UsageError
from crosspol.io.disparity import read_disparity

__all__ = ["READER", "kitti"]

# Left and right images, all known disparities, those that both views see.
_YEARS = (
    ("image_2", "image_3", "disp_occ_0", "disp_noc_0"),
    ("colored_0", "colored_1", "disp_occ", "disp_noc"),
)
# 2012, and 2015's own archive of calibrations.
_CALIBRATIONS = ("calib", "calib_cam_to_cam")


def kitti(root: str | os.PathLike[str]) -> PlainPairs:
    """KITTI stereo, the training split.

    Expects, of 2015 and of 2012:

        training/image_2/000000_10.png                    training/colored_0/000000_10.png
        training/image_3/000000_10.png                    training/colored_1/000000_10.png
        training/disp_occ_0/000000_10.png                 training/disp_occ/000000_10.png
        training/disp_noc_0/000000_10.png                 training/disp_noc/000000_10.png
        training/calib_cam_to_cam/000000.txt              training/calib/000000.txt

    Disparities are 16-bit PNG, px * 256, 0 = unknown. Occluded is what `disp_noc` leaves out of `disp_occ`; elsewhere
    nothing is known of it. `disp_noc` and calibrations may be missing.

    Args:
        root: the folder that contains `training`, or `training` itself.

    Raises:
        MissingFileError: there is no such folder.
        UsageError: no pair is in it.
    """
    root = existing(root)
    folder = root / "training" if (root / "training").is_dir() else root
    pairs = []
    for left_name, right_name, every, seen in _YEARS:
        for disparity in sorted((folder / every).glob("*_10.png")):
            left, right = folder / left_name / disparity.name, folder / right_name / disparity.name
            if left.exists() and right.exists():
                unoccluded = folder / seen / disparity.name
                truth = partial(_truth, disparity, unoccluded if unoccluded.exists() else None)
                number = f"{disparity.stem.partition('_')[0]}.txt"
                files = (base / name / number for base in (folder, root) for name in _CALIBRATIONS)
                calibration = next((file for file in files if file.exists()), None)
                pairs.append(PlainPair(f"{left_name}/{disparity.stem}", left, right, truth, calibration))
    return found(pairs, root, "training/image_2/*_10.png (2015) or training/colored_0/*_10.png (2012)")


def _truth(disparity: Path, unoccluded: Path | None) -> GroundTruth:
    values = read_disparity(disparity)
    if unoccluded is None:
        return GroundTruth(values)
    seen = read_disparity(unoccluded)
    if seen.shape != values.shape:
        raise UsageError(f"{unoccluded}: got {seen.shape}, wanted {values.shape} as {disparity}")
    return GroundTruth(values, occluded=np.isfinite(values) & ~np.isfinite(seen))


READER = Reader(
    lambda request: kitti(request.path),
    layout=("training/disp_occ*", "disp_occ*"),
    wanted="KITTI (training/image_2, disp_occ_0)",
)
