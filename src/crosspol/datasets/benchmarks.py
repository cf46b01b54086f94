"""Well-known stereo data sets without polarization, as they lie on disk after unpacking.

Each function finds the pairs of one data set in its folder and returns them as `PlainPairs`, rig "none".
`virtual_glass` can put polarized panes into them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from crosspol.data.arguments import read_view
from crosspol.data.inputs import StereoInputs
from crosspol.data.sample import StereoSample
from crosspol.data.truth import Truth, make_sample
from crosspol.errors import MissingFileError, UsageError
from crosspol.io.disparity import read_disparity
from crosspol.io.images import read_image
from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.calibration_files import read_calibration

__all__ = ["PlainPair", "PlainPairs", "booster", "eth3d", "kitti", "middlebury", "sceneflow"]

Array = NDArray[np.float32]

# Middlebury's and ETH3D's mask: what both views see.
_SEEN_BY_BOTH = 255
# Booster's category of transparent and mirroring surfaces.
_TRANSPARENT_OR_MIRROR = 3


@dataclass(frozen=True)
class PlainPair:
    """The files of a pair.

    identity: its name within the data set.
    truth: reads the ground truth of the left view.
    calibration: a file that `read_calibration` takes, where the data set has one.
    """

    identity: str
    left: Path
    right: Path
    truth: Callable[[], Truth]
    calibration: Path | None = None


class PlainPairs(Dataset[StereoSample]):
    """Stereo pairs without polarization as samples of rig "none"."""

    def __init__(self, pairs: Sequence[PlainPair]) -> None:
        self.pairs = tuple(pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> StereoSample:
        """Read pair `index`.

        Raises:
            IndexError: `index` is not in [0, length).
            MissingFileError: a file does not exist.
            UsageError: a file is damaged or of another size than the left view.
        """
        pair = self._pair(index)
        left, right = read_view(pair.left), read_view(pair.right)
        truth = pair.truth()
        size = left.shape[-2:]
        planes = {"right view": right, "disparity": truth.disparity, "glass": truth.glass, "occluded": truth.occluded}
        for name, plane in planes.items():
            if plane is not None and plane.shape[-2:] != size:
                height, width = plane.shape[-2:]
                raise UsageError(f"{pair.left}: got {size[1]}x{size[0]} px, wanted {width}x{height} px as its {name}")
        return make_sample(StereoInputs.from_arrays(left, right), "none", truth, pair.identity)

    def calibration(self, index: int) -> StereoCalibration | None:
        """The calibration of pair `index`; None where the data set has none.

        Raises:
            IndexError: `index` is not in [0, length).
            UsageError: the file cannot be read.
        """
        path = self._pair(index).calibration
        return None if path is None else read_calibration(path)

    def _pair(self, index: int) -> PlainPair:
        if not 0 <= index < len(self.pairs):
            raise IndexError(f"index must be in [0, {len(self.pairs)}), got {index}")
        return self.pairs[index]


def sceneflow(
    root: str | os.PathLike[str], rendering: Literal["cleanpass", "finalpass"] = "finalpass", part: str | None = None
) -> PlainPairs:
    """SceneFlow: FlyingThings3D, Monkaa and Driving, one of them or a folder with several.

    Expects `frames_finalpass/.../left/0006.png`, the same under `right`, and `disparity/.../left/0006.pfm`.

    Args:
        root: the folder.
        rendering: with ("finalpass") or without ("cleanpass") blur and haze.
        part: only pairs with this folder in their path, such as "TRAIN" or "TEST" of FlyingThings3D.

    Raises:
        MissingFileError: there is no such folder.
        UsageError: no pair is in it.

    Source: Mayer et al., A large dataset to train convolutional networks for disparity, CVPR 2016.
    """
    root = _existing(root)
    pairs = []
    name = f"frames_{rendering}"
    for frames in sorted(path for path in root.rglob(name) if path.is_dir()):
        for left in sorted(frames.rglob("left/*.png")):
            inner = left.relative_to(frames)
            disparity = (frames.parent / "disparity" / inner).with_suffix(".pfm")
            right = left.parent.parent / "right" / left.name
            if (part is None or part in inner.parts) and right.exists() and disparity.exists():
                identity = left.relative_to(root).with_suffix("").as_posix()
                pairs.append(PlainPair(identity, left, right, partial(_truth, disparity)))
    return _found(pairs, root, f"{name}/.../left/*.png with its right view and disparity/.../left/*.pfm")


def kitti(root: str | os.PathLike[str]) -> PlainPairs:
    """KITTI stereo 2015 (`image_2`, `disp_occ_0`) and 2012 (`colored_0`, `disp_occ`), the training part.

    Occluded is what `disp_noc` leaves out of `disp_occ`; elsewhere nothing is known of it.

    Args:
        root: the folder that contains `training`, or `training` itself.

    Raises:
        MissingFileError: there is no such folder.
        UsageError: no pair is in it.

    Source: Menze and Geiger, CVPR 2015; Geiger, Lenz and Urtasun, CVPR 2012.
    """
    root = _existing(root)
    folder = root / "training" if (root / "training").is_dir() else root
    pairs = []
    for left_name, right_name, every, seen in (
        ("image_2", "image_3", "disp_occ_0", "disp_noc_0"),
        ("colored_0", "colored_1", "disp_occ", "disp_noc"),
    ):
        for disparity in sorted((folder / every).glob("*_10.png")):
            left, right = folder / left_name / disparity.name, folder / right_name / disparity.name
            if left.exists() and right.exists():
                unoccluded = folder / seen / disparity.name
                truth = partial(_kitti_truth, disparity, unoccluded if unoccluded.exists() else None)
                calibration = folder / "calib" / f"{disparity.stem.partition('_')[0]}.txt"
                known = calibration if calibration.exists() else None
                pairs.append(PlainPair(f"{left_name}/{disparity.stem}", left, right, truth, known))
    return _found(pairs, root, "training/image_2/*_10.png (2015) or training/colored_0/*_10.png (2012)")


def middlebury(root: str | os.PathLike[str]) -> PlainPairs:
    """Middlebury 2014 and 2021, and the evaluation's training sets: a folder a scene.

    Expects `im0.png`, `im1.png`, `disp0.pfm` or `disp0GT.pfm`, and where there are `calib.txt`, `mask0nocc.png`.

    Raises:
        MissingFileError: there is no such folder.
        UsageError: no pair is in it.

    Source: Scharstein et al., High-resolution stereo datasets with subpixel-accurate ground truth, GCPR 2014.
    """
    return _two_view(_existing(root))


def eth3d(root: str | os.PathLike[str]) -> PlainPairs:
    """ETH3D two-view, the training part: a folder a scene with `im0.png`, `im1.png`, `disp0GT.pfm`, `mask0nocc.png`.

    Raises:
        MissingFileError: there is no such folder.
        UsageError: no pair is in it.

    Source: Schops et al., A multi-view stereo benchmark, CVPR 2017.
    """
    return _two_view(_existing(root))


def booster(root: str | os.PathLike[str], illuminations: Literal["first", "all"] = "all") -> PlainPairs:
    """Booster, the balanced training part: transparent and mirroring surfaces, with truth for the first surface.

    Expects `camera_00/im0.png`, `camera_02/im0.png`, `disp_00.npy` and where there are `mask_00.png` (255 where both
    views see the point), `mask_cat.png`, whose category 3, transparent and mirroring surfaces, counts as glass.

    Args:
        root: the folder with the scenes, or one above it.
        illuminations: every image of a scene, or the first one only.

    Raises:
        MissingFileError: there is no such folder.
        UsageError: no pair is in it.

    Source: Zama Ramirez et al., Open challenges in deep stereo: the Booster dataset, CVPR 2022.
    """
    root = _existing(root)
    pairs = []
    for disparity in sorted(root.rglob("disp_00.npy")):
        scene = disparity.parent
        lefts = [left for left in sorted(scene.glob("camera_00/*.png")) if (scene / "camera_02" / left.name).exists()]
        for left in lefts[:1] if illuminations == "first" else lefts:
            identity = (scene.relative_to(root) / left.stem).as_posix()
            pairs.append(PlainPair(identity, left, scene / "camera_02" / left.name, partial(_booster_truth, scene)))
    return _found(pairs, root, "SCENE/camera_00/*.png with camera_02/*.png and disp_00.npy")


def _two_view(root: Path) -> PlainPairs:
    pairs = []
    for left in sorted(root.rglob("im0.png")):
        scene = left.parent
        disparity = next((path for name in ("disp0.pfm", "disp0GT.pfm") if (path := scene / name).exists()), None)
        if disparity is not None and (scene / "im1.png").exists():
            mask, calibration = scene / "mask0nocc.png", scene / "calib.txt"
            truth = partial(_truth, disparity, mask if mask.exists() else None)
            identity = scene.relative_to(root).as_posix() if scene != root else scene.name
            known = calibration if calibration.exists() else None
            pairs.append(PlainPair(identity, left, scene / "im1.png", truth, known))
    return _found(pairs, root, "SCENE/im0.png with im1.png and disp0.pfm or disp0GT.pfm")


def _truth(disparity: Path, seen_by_both: Path | None = None) -> Truth:
    values = _positive(read_disparity(disparity))
    if seen_by_both is None:
        return Truth(values)
    mask = _plane(seen_by_both, values.shape)
    return Truth(values, occluded=np.isfinite(values) & (mask != _SEEN_BY_BOTH))


def _kitti_truth(disparity: Path, unoccluded: Path | None) -> Truth:
    values = read_disparity(disparity)
    if unoccluded is None:
        return Truth(values)
    seen = read_disparity(unoccluded)
    if seen.shape != values.shape:
        raise UsageError(f"{unoccluded}: got {seen.shape}, wanted {values.shape} as {disparity}")
    return Truth(values, occluded=np.isfinite(values) & ~np.isfinite(seen))


def _booster_truth(scene: Path) -> Truth:
    truth = _truth(scene / "disp_00.npy", path if (path := scene / "mask_00.png").exists() else None)
    categories = scene / "mask_cat.png"
    if not categories.exists():
        return truth
    glass = _plane(categories, truth.disparity.shape) == _TRANSPARENT_OR_MIRROR
    return Truth(truth.disparity, glass, truth.occluded)


def _positive(disparity: Array) -> Array:
    """Without what is no disparity: 0 means unknown in some of these files."""
    return np.where(disparity > 0, disparity, np.float32(np.nan))


def _plane(path: Path, size: tuple[int, ...]) -> NDArray[np.generic]:
    """An image of one channel; colors are equal where there are any."""
    image = read_image(path)
    plane = image if image.ndim == 2 else image[..., 0]
    if plane.shape != size:
        raise UsageError(f"{path}: got {plane.shape[1]}x{plane.shape[0]} px, wanted {size[1]}x{size[0]} px")
    return plane


def _existing(root: str | os.PathLike[str]) -> Path:
    root = Path(root)
    if not root.is_dir():
        raise MissingFileError(f"{root}: no such folder")
    return root


def _found(pairs: Iterable[PlainPair], root: Path, wanted: str) -> PlainPairs:
    samples = PlainPairs(list(pairs))
    if not len(samples):
        raise UsageError(f"{root}: got no pair in it, wanted {wanted}")
    return samples
