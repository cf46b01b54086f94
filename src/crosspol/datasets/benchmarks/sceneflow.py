"""SceneFlow: FlyingThings3D, Monkaa and Driving.

Source: Mayer et al., A large dataset to train convolutional networks for disparity, CVPR 2016.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Literal

from crosspol.data.truth import GroundTruth
from crosspol.datasets.pairs import PlainPair, PlainPairs, existing, found
from crosspol.datasets.ranges import largest_unknown, left_minus_right
from crosspol.datasets.reader import Reader
from crosspol.io.disparity import read_disparity

__all__ = ["READER", "sceneflow"]

_IMAGES = (".png", ".webp")


def sceneflow(
    root: str | os.PathLike[str], rendering: Literal["cleanpass", "finalpass"] = "finalpass", split: str | None = None
) -> PlainPairs:
    """SceneFlow, one of its data sets or a folder with several.

    Expects what the archives unpack to, PNG or WebP, also under the names that many programs give them, with
    `monkaa_`, `driving_` or the like before each:

        frames_finalpass/TRAIN/A/0000/left/0006.png       or frames_finalpass_webp/.../0006.webp
        frames_finalpass/TRAIN/A/0000/right/0006.png
        disparity/TRAIN/A/0000/left/0006.pfm              or frames_disparity/
        monkaa_frames_finalpass/a_rain_of_stones_x2/left/0001.png
        monkaa_disparity/a_rain_of_stones_x2/left/0001.pfm

    and the subset for DispNet:

        train/image_final/left/0000000.png                or val, image_clean
        train/image_final/right/0000000.png
        train/disparity/left/0000000.pfm

    Disparities are x_left - x_right. The subset's files hold the negative of that, and are turned around; 0, the few
    pixels of the other sign and those of at least the image's width, which some damaged frames have, are unknown.

    Args:
        root: the folder.
        rendering: with ("finalpass") or without ("cleanpass") blur and haze.
        split: only pairs with this folder in their path, such as "TRAIN" or "TEST" of FlyingThings3D.

    Raises:
        MissingFileError: there is no such folder.
        UsageError: no pair is in it.
    """
    root = existing(root)
    images = re.compile(rf"(?P<prefix>.*?)(?:frames_{rendering}|image_{rendering.removesuffix('pass')})(?:_webp)?")
    pairs = []
    for frames in sorted(path for path in root.rglob("*") if path.is_dir()):
        name = images.fullmatch(frames.name)
        if name is None:
            continue
        truths = [frames.parent / f"{name['prefix']}{kind}" for kind in ("disparity", "frames_disparity")]
        for left in sorted(path for path in frames.rglob("*") if path.suffix in _IMAGES and path.parent.name == "left"):
            inner = left.relative_to(frames)
            right = left.parent.parent / "right" / left.name
            disparity = next((path for truth in truths if (path := (truth / inner).with_suffix(".pfm")).exists()), None)
            place = left.relative_to(root)
            if (split is None or split in place.parts) and right.exists() and disparity is not None:
                pairs.append(PlainPair(place.with_suffix("").as_posix(), left, right, partial(_truth, disparity)))
    return found(pairs, root, f"frames_{rendering}/.../left/*.png with its right view and disparity/.../left/*.pfm")


def _truth(disparity: Path) -> GroundTruth:
    return GroundTruth(largest_unknown(left_minus_right(read_disparity(disparity))))


READER = Reader(
    lambda request: sceneflow(request.path, split=request.split),
    settings=frozenset({"split", "validation_split"}),
    layout=("**/*frames_finalpass*", "**/image_final"),
    wanted="SceneFlow (frames_finalpass, disparity)",
)
