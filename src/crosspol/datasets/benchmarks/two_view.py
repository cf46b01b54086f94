"""Middlebury and ETH3D two-view, which share the names of their files.

Source: Scharstein et al., High-resolution stereo datasets with subpixel-accurate ground truth, GCPR 2014; Schops et
al., A multi-view stereo benchmark, CVPR 2017.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np

from crosspol.data.truth import GroundTruth
from crosspol.datasets.pairs import PlainPair, PlainPairs, existing, found, image_plane
from crosspol.datasets.reader import Reader
from crosspol.io.disparity import read_disparity

__all__ = ["ETH3D", "MIDDLEBURY", "eth3d", "middlebury", "truth_with_mask"]

# The mask's value for what both views see.
_SEEN_BY_BOTH = 255
_DISPARITIES = ("disp0.pfm", "disp0GT.pfm")


def middlebury(root: str | os.PathLike[str]) -> PlainPairs:
    """Middlebury 2014 and 2021, and the evaluation's training sets.

    Expects a folder a scene, at any depth:

        Adirondack-perfect/im0.png, im1.png
        Adirondack-perfect/disp0.pfm                      or disp0GT.pfm
        Adirondack-perfect/calib.txt                      where there is one
        Adirondack-perfect/mask0nocc.png                  where there is one: 255 = both views see the point

    Disparities are PFM in px; infinity and 0 are unknown.

    Raises:
        MissingFileError: there is no such folder.
        UsageError: no pair is in it.
    """
    return _two_view(existing(root))


def eth3d(root: str | os.PathLike[str]) -> PlainPairs:
    """ETH3D two-view, the training split.

    Expects both archives side by side, or unpacked into one folder a scene:

        two_view_training/delivery_area_1l/im0.png, im1.png, calib.txt
        two_view_training_gt/delivery_area_1l/disp0GT.pfm, mask0nocc.png

    Disparities are PFM in px; infinity and 0 are unknown.

    Raises:
        MissingFileError: there is no such folder.
        UsageError: no pair is in it.
    """
    return _two_view(existing(root))


def _two_view(root: Path) -> PlainPairs:
    pairs = []
    for left in sorted(root.rglob("im0.png")):
        scene = left.parent
        # ETH3D's ground truth is an archive of its own, with the same scenes.
        folders = (scene, scene.parent.with_name(f"{scene.parent.name}_gt") / scene.name)
        disparity = _first(folders, *_DISPARITIES)
        if disparity is not None and (scene / "im1.png").exists():
            truth = partial(truth_with_mask, disparity, _first(folders, "mask0nocc.png"))
            name = scene.relative_to(root).as_posix() if scene != root else scene.name
            pairs.append(PlainPair(name, left, scene / "im1.png", truth, _first(folders, "calib.txt")))
    return found(pairs, root, "SCENE/im0.png with im1.png and disp0.pfm or disp0GT.pfm")


def _first(folders: tuple[Path, ...], *names: str) -> Path | None:
    return next((path for folder in folders for name in names if (path := folder / name).exists()), None)


def truth_with_mask(disparity: Path, seen_by_both: Path | None = None) -> GroundTruth:
    """Read a disparity in which 0 is unknown, and the mask of what both views see, 255."""
    values = read_disparity(disparity, zero_is_unknown=True)
    if seen_by_both is None:
        return GroundTruth(values)
    mask = image_plane(seen_by_both, values.shape)
    return GroundTruth(values, occluded=np.isfinite(values) & (mask != _SEEN_BY_BOTH))


MIDDLEBURY = Reader(
    lambda request: middlebury(request.path),
    layout=("**/im0.png",),
    wanted="Middlebury or ETH3D (SCENE/im0.png, disp0.pfm)",
)
ETH3D = Reader(lambda request: eth3d(request.path))
