"""InStereo2K: indoor pairs with structured light's disparities.

Source: Bao et al., InStereo2K: a large real dataset for stereo matching in indoor scenes, SCIS 2020.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from crosspol.data.truth import GroundTruth
from crosspol.datasets.pairs import PlainPair, PlainPairs, existing, found
from crosspol.datasets.reader import Reader
from crosspol.io.disparity import read_disparity

__all__ = ["READER", "instereo2k"]

# Its PNGs hold px times this.
_SCALE = 100


def instereo2k(root: str | os.PathLike[str], split: str | None = None) -> PlainPairs:
    """InStereo2K.

    Expects:

        train/000000/left.png, right.png                  or test
        train/000000/left_disp.png                        16 bits, px * 100; 0 = unknown

    Args:
        root: the folder.
        split: only pairs with this folder in their path, such as "train" or "test".

    Raises:
        MissingFileError: there is no such folder.
        UsageError: no pair is in it.
    """
    root = existing(root)
    pairs = []
    for disparity in sorted(root.rglob("left_disp.png")):
        scene = disparity.parent
        left, right, name = scene / "left.png", scene / "right.png", scene.relative_to(root)
        if left.exists() and right.exists() and (split is None or split in name.parts):
            pairs.append(PlainPair(name.as_posix(), left, right, partial(_truth, disparity)))
    return found(pairs, root, "SCENE/left.png with right.png and left_disp.png")


def _truth(disparity: Path) -> GroundTruth:
    return GroundTruth(read_disparity(disparity, scale=_SCALE))


READER = Reader(
    lambda request: instereo2k(request.path, request.split),
    settings=frozenset({"split", "validation_split"}),
    layout=("**/left_disp.png",),
    wanted="InStereo2K (train/SCENE/left.png, left_disp.png)",
)
