"""One's own pairs without a table: a folder a pair."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from crosspol.data.truth import GroundTruth
from crosspol.datasets.pairs import PlainPair, PlainPairs, existing, found
from crosspol.datasets.reader import Reader
from crosspol.io.disparity import DISPARITY_SUFFIXES, read_disparity
from crosspol.io.images import IMAGE_SUFFIXES

__all__ = ["READER", "pair_folders"]

_FILES = (("left", IMAGE_SUFFIXES), ("right", IMAGE_SUFFIXES), ("disparity", DISPARITY_SUFFIXES))


def pair_folders(root: str | os.PathLike[str]) -> PlainPairs:
    """Folders with left, right and disparity, of any format; `root` may be one itself.

    Expects:

        NAME/left.png, right.png                          or any other image
        NAME/disparity.npz                                or .npy, .pfm, .png; px; NaN and 0 = unknown

    Raises:
        MissingFileError: there is no such folder.
        UsageError: no pair is in it.
    """
    root = existing(root)
    pairs = []
    for folder in (root, *sorted(path for path in root.iterdir() if path.is_dir())):
        left, right, disparity = (
            next((path for suffix in suffixes if (path := folder / f"{stem}{suffix}").exists()), None)
            for stem, suffixes in _FILES
        )
        if left is not None and right is not None and disparity is not None:
            pairs.append(PlainPair(folder.resolve().name, left, right, partial(_truth, disparity)))
    return found(pairs, root, _WANTED)


def _truth(path: Path) -> GroundTruth:
    return GroundTruth(read_disparity(path, zero_is_unknown=True))


_WANTED = "NAME/left.png, right.png, disparity.npz (.npy, .pfm, .png)"
READER = Reader(lambda request: pair_folders(request.path), layout=("disparity.*", "*/disparity.*"), wanted=_WANTED)
