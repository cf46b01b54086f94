"""Pairs of images as they lie on a disk, with their ground truth: what the readers of public data sets return."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosspol.data.arguments import as_polarization, read_view
from crosspol.data.indexed import Indexed
from crosspol.data.inputs import StereoInputs
from crosspol.data.sample import StereoSample
from crosspol.data.truth import GroundTruth, make_sample
from crosspol.datasets.ranges import check_disparity
from crosspol.errors import MissingFileError, UsageError
from crosspol.io.images import read_image
from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.calibration_files import read_calibration
from crosspol.rigs.frames import Frame
from crosspol.rigs.kinds import RigKind

__all__ = ["PlainPair", "PlainPairs", "existing", "found", "image_plane"]


PolarizationMap = Path | Callable[[], NDArray[Any]]
"""A file that holds a view's polarization as `crosspol.data.arguments.as_polarization` takes it, or what returns it."""


@dataclass(frozen=True)
class PlainPair:
    """The files of a pair, and its polarization where it has any.

    name: its name within the data set.
    left, right: images as a viewer shows them.
    truth: reads the ground truth of the left view; every disparity that is known is in [0, width).
    calibration: a file that `read_calibration` takes, where the data set has one.
    maps: the left and the right view's DoLP (or, for three channels, S1/S0, S2/S0, DoLP), NaN = not measured: files as
        a manifest takes them, or, where files hold them otherwise, functions that return what such a file would. Rig
        "quad" has both, "quad-left" the left one.
    frames: reads both cameras' frames, rectified, in place of images and maps.
    """

    name: str
    left: Path
    right: Path
    truth: Callable[[], GroundTruth]
    calibration: Path | None = None
    maps: tuple[PolarizationMap | None, PolarizationMap | None] = (None, None)
    frames: Callable[[], tuple[Frame, Frame]] | None = None


class PlainPairs(Indexed):
    """Stereo pairs in files as samples, a `Source`."""

    def __init__(
        self, pairs: Sequence[PlainPair], rig: RigKind = "none", pol_channels: int = 1, splits: Collection[str] = ()
    ) -> None:
        """Keep the pairs; their files are read when they are asked for.

        Args:
            pairs: of one data set.
            rig: what to show of them; all but "none" needs maps or frames that have it.
            pol_channels: of the network, 1 or 3.
            splits: that the pairs are of, where the data set names some.
        """
        self.pairs, self.rig, self.pol_channels, self.splits = tuple(pairs), rig, pol_channels, splits

    @property
    def names(self) -> list[str]:
        """Names of the pairs, in their order."""
        return [pair.name for pair in self.pairs]

    def __len__(self) -> int:
        return len(self.pairs)

    def _sample(self, index: int) -> StereoSample:
        pair = self.pairs[index]
        inputs = self._inputs(pair)
        truth = pair.truth()
        planes = {"disparity": truth.disparity, "glass": truth.glass, "occluded": truth.occluded}
        for name, plane in planes.items():
            _check_size(pair, name, plane, inputs.size)
        check_disparity(truth.disparity, f"{pair.left}: its disparity")
        return make_sample(inputs, self.rig, truth, pair.name)

    def calibration(self, index: int) -> StereoCalibration | None:
        """The calibration of pair `index`; None where the data set has none.

        Raises:
            IndexError: `index` is not in [0, length).
            UsageError: the file cannot be read.
        """
        path = self.pairs[self._checked(index)].calibration
        return None if path is None else read_calibration(path)

    def _inputs(self, pair: PlainPair) -> StereoInputs:
        if pair.frames is not None:
            return StereoInputs.from_frames(*pair.frames(), self.rig, self.pol_channels)
        left, right = read_view(pair.left), read_view(pair.right)
        size = (left.shape[-2], left.shape[-1])
        _check_size(pair, "right view", right, size)
        if self.rig == "none":
            return StereoInputs.from_arrays(left, right)
        maps = {}
        for side, map_ in zip(("left", "right"), pair.maps, strict=True):
            if map_ is None or (self.rig == "quad-left" and side == "right"):
                continue
            stored, name = (
                (read_image(map_), str(map_)) if isinstance(map_, Path) else (map_(), f"{pair.left}: {side} map")
            )
            values = as_polarization(stored, name, self.pol_channels).transpose(2, 0, 1)
            _check_size(pair, f"{side} map", values, size)
            maps[f"pol_{side}"] = values
        return StereoInputs.from_arrays(left, right, **maps)


def _check_size(pair: PlainPair, name: str, plane: NDArray[Any] | None, size: tuple[int, int]) -> None:
    if plane is not None and tuple(plane.shape[-2:]) != size:
        height, width = plane.shape[-2:]
        raise UsageError(f"{pair.left}: got {size[1]}x{size[0]} px, wanted {width}x{height} px as its {name}")


def existing(root: str | os.PathLike[str]) -> Path:
    """Return the folder, which has to be there."""
    root = Path(root)
    if not root.is_dir():
        raise MissingFileError(f"{root}: no such folder")
    return root


def found(pairs: Iterable[PlainPair], root: Path, wanted: str) -> PlainPairs:
    """Return the pairs as samples, and refuse a folder without any."""
    samples = PlainPairs(list(pairs))
    if not len(samples):
        raise UsageError(f"{root}: got no pair in it, wanted {wanted}")
    return samples


def image_plane(path: Path, size: tuple[int, ...]) -> NDArray[np.generic]:
    """Read an image of one channel; colors are equal where there are any.

    Raises:
        UsageError: it is not of this size (H, W).
    """
    image = read_image(path)
    plane = image if image.ndim == 2 else image[..., 0]
    if plane.shape != size:
        raise UsageError(f"{path}: got {plane.shape[1]}x{plane.shape[0]} px, wanted {size[1]}x{size[0]} px")
    return plane
