"""A data set in the native scene format, as samples."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import numpy as np

from crosspol.data.indexed import Indexed
from crosspol.data.inputs import StereoInputs
from crosspol.data.sample import StereoSample
from crosspol.data.truth import GroundTruth, make_sample
from crosspol.datasets.ranges import check_disparity
from crosspol.datasets.reader import CameraModel, Reader, Request
from crosspol.datasets.scene_format import CONTAINS, read_scene, scene_frames
from crosspol.datasets.scene_index import INDEX, read_index
from crosspol.errors import UsageError
from crosspol.rigs.kinds import RigKind

__all__ = ["READER", "SceneFolder", "noise_of"]


class SceneFolder(Indexed):
    """A data set in the native format; samples pass through `StereoInputs.from_frames`, as do a camera's frames.

    Sample `index` depends on the scene, `seed` and `index` only.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        split: str | None = None,
        rig: RigKind | None = None,
        pol_channels: int = 1,
        camera: CameraModel | None = None,
        seed: int = 0,
        repeats: int = 1,
    ) -> None:
        """Read the index; scenes are read when they are asked for.

        Args:
            root: folder of the data set.
            split: only scenes of this split, such as "train"; None: all.
            rig: only scenes that have what this rig records (a "quad" scene also has what "quad-left" and "none"
                record); None: all, which must be of one rig.
            pol_channels: of the network, 1 or 3.
            camera: what the cameras do to the light, with a generator of its own for every sample; None: nothing.
            seed: of these generators.
            repeats: how often the data set goes through, seen by the camera otherwise each time.

        Raises:
            ValueError: repeats below 1.
            MissingFileError: there is no data set.
            UsageError: its index is damaged, or no scene is left, or scenes of several rigs.
        """
        if repeats < 1:
            raise ValueError(f"repeats must be at least 1, got {repeats}")
        self.root, self.pol_channels, self.camera, self.seed = Path(root), pol_channels, camera, seed
        self.repeats = repeats
        found = read_index(self.root)
        records = [record for record in found if split is None or record.split == split]
        if not records:
            splits = ", ".join(sorted({record.split for record in found}))
            raise UsageError(f"{self.root / INDEX}: got no scene of split {split!r}, wanted one of {splits}")
        rigs = sorted({record.rig for record in records})
        if rig is None and len(rigs) > 1:
            raise UsageError(f"{self.root / INDEX}: got scenes of {', '.join(rigs)}, wanted one rig (--rig)")
        self.rig: RigKind = rig or records[0].rig
        self.records = [record for record in records if self.rig in CONTAINS[record.rig]]
        if not self.records:
            raise UsageError(f"{self.root / INDEX}: got scenes of {', '.join(rigs)}, wanted some of {self.rig}")

    @property
    def names(self) -> list[str]:
        """Names of the scenes, in their order."""
        return [record.name for record in self.records]

    @property
    def splits(self) -> set[str]:
        """The splits that the scenes are of."""
        return {record.split for record in self.records}

    def __len__(self) -> int:
        return self.repeats * len(self.records)

    def _sample(self, index: int) -> StereoSample:
        """Read scene `index` modulo the number of scenes."""
        record = self.records[index % len(self.records)]
        scene = read_scene(self.root, record)
        for name in ("disparity", "disparity_background"):
            if (plane := getattr(scene, name)) is not None:
                check_disparity(plane, self.root / record.files[name], some=name == "disparity")
        frames = scene_frames(scene, self.rig)
        if self.camera is not None:
            frames = self.camera(*frames, noise_of(self.seed, index))
        truth = GroundTruth(scene.disparity, scene.glass, scene.occluded, scene.disparity_background)
        inputs = StereoInputs.from_frames(*frames, self.rig, self.pol_channels)
        return make_sample(inputs, self.rig, truth, scene.name)


def noise_of(seed: int, index: int) -> np.random.Generator:
    """Return what the cameras' noise of sample `index` is drawn from."""
    return np.random.default_rng([seed, index])


def _opened(request: Request) -> SceneFolder:
    folder = SceneFolder(
        request.path,
        split=request.split,
        rig=request.rig,
        pol_channels=request.pol_channels,
        camera=request.camera,
        seed=request.seed,
        repeats=request.repeats,
    )
    polarized = sorted({record.rig for record in folder.records} - {"none"})
    if request.plain and polarized:
        raise UsageError(
            f"{request.path}: got scenes of rig {', '.join(polarized)}, wanted pairs without polarization for "
            "virtual_glass"
        )
    return folder


def _rigs(request: Request) -> Collection[RigKind]:
    return {rig for record in read_index(request.path) for rig in CONTAINS[record.rig]}


def _splits(request: Request) -> Collection[str]:
    return {record.split for record in read_index(request.path)}


READER = Reader(
    _opened,
    _rigs,
    _splits,
    polarized=True,
    settings=frozenset({"split", "validation_split", "sensor"}),
    layout=(INDEX,),
    wanted=f"a data set ({INDEX})",
)
