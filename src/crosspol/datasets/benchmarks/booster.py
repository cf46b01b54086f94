"""Booster: transparent and mirroring surfaces, with the disparity of the first surface.

Source: Zama Ramirez et al., Open challenges in deep stereo: the Booster dataset, CVPR 2022.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Literal

from crosspol.data.truth import GroundTruth
from crosspol.datasets.benchmarks.two_view import truth_with_mask
from crosspol.datasets.pairs import PlainPair, PlainPairs, existing, found, image_plane
from crosspol.datasets.reader import Reader

__all__ = ["READER", "booster"]

# The category of transparent and mirroring surfaces.
_TRANSPARENT_OR_MIRROR = 3


def booster(root: str | os.PathLike[str], illuminations: Literal["first", "all"] = "all") -> PlainPairs:
    """Booster, the balanced training split.

    Expects:

        train/balanced/Bathroom/camera_00/im0.png, im1.png, ...     one an illumination
        train/balanced/Bathroom/camera_02/im0.png, im1.png, ...
        train/balanced/Bathroom/disp_00.npy                         px; 0 = unknown
        train/balanced/Bathroom/mask_00.png                         where there is one: 255 = both views see the point
        train/balanced/Bathroom/mask_cat.png                        where there is one: category 3 counts as glass

    Args:
        root: the folder with the scenes, or one above it.
        illuminations: every image of a scene, or the first one only.

    Raises:
        MissingFileError: there is no such folder.
        UsageError: no pair is in it.
    """
    root = existing(root)
    pairs = []
    for disparity in sorted(root.rglob("disp_00.npy")):
        scene = disparity.parent
        lefts = [left for left in sorted(scene.glob("camera_00/*.png")) if (scene / "camera_02" / left.name).exists()]
        for left in lefts[:1] if illuminations == "first" else lefts:
            name = (scene.relative_to(root) / left.stem).as_posix()
            pairs.append(PlainPair(name, left, scene / "camera_02" / left.name, partial(_truth, scene)))
    return found(pairs, root, "SCENE/camera_00/*.png with camera_02/*.png and disp_00.npy")


def _truth(scene: Path) -> GroundTruth:
    truth = truth_with_mask(scene / "disp_00.npy", path if (path := scene / "mask_00.png").exists() else None)
    categories = scene / "mask_cat.png"
    if not categories.exists():
        return truth
    glass = image_plane(categories, truth.disparity.shape) == _TRANSPARENT_OR_MIRROR
    return GroundTruth(truth.disparity, glass, truth.occluded)


READER = Reader(
    lambda request: booster(request.path),
    layout=("**/disp_00.npy",),
    wanted="Booster (SCENE/camera_00, disp_00.npy)",
)
