"""The scenes of an evaluation: procedural ones, stored ones, tables of files, pairs of images with a truth."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset

from crosspol.data.indexed import Indexed, SizedSamples
from crosspol.data.mixture import RoundRobin
from crosspol.data.sample import StereoSample
from crosspol.datasets.manifest import Manifest
from crosspol.datasets.reader import Request
from crosspol.datasets.registry import PROCEDURAL, SOURCES, SourceKind
from crosspol.datasets.scene_folder import SceneFolder, noise_of
from crosspol.datasets.scene_format import CONTAINS, StoredScene, scene_frames
from crosspol.datasets.scene_index import INDEX, SceneRecord, read_index
from crosspol.errors import MissingFileError, UsageError
from crosspol.rigs.frames import Frame
from crosspol.rigs.kinds import RIG_KINDS, RigKind
from crosspol.rigs.sensor import SensorConfig, sense
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo

TEST_SEED = 2_000_003
"""Data seed of procedural scenes for testing: neither trained on nor validated on by runs with a seed below."""

SENSOR = SensorConfig(exposure=(1.0, 1.0))
"""Stored light has no noise; a camera that is exposed for the scene adds it, the same every time."""

_PROCEDURAL_COUNT = 64
_PROCEDURAL_SIZE = (256, 320)
# The truth's median and largest value are found in steps of this, px.
_STEP = 1 / 16
# What the scenes' hash is over: what every row shares, whichever polarization it takes.
_HASHED = ("left", "right", "disparity", "valid", "glass", "occluded")

# By setting its flag, and of what it is.
_FLAGS = {
    "size": ("--size", "procedural scenes"),
    "seed": ("--seed", "procedural scenes and folders of scenes"),
    "split": ("--split", "data that name splits"),
    "rig_file": ("--rig-file", "a manifest of frames"),
    "sensor": ("--no-sensor", "folders of scenes"),
}

Open = Callable[[int], Dataset[StereoSample]]


@dataclass(frozen=True, eq=False)
class SceneSet:
    """Scenes to evaluate on.

    description: what they are, for the record; `omitted` says in words which scenes of the data are left out. open: the
    scenes with maps of so many polarization channels; images and truth do not depend on it.
    """

    description: dict[str, Any]
    open: Open


class Scene(NamedTuple):
    """One scene of a survey. sha256: of its images and truth. size: (H, W), px."""

    name: str
    sha256: str
    size: tuple[int, int]
    rig: RigKind


@dataclass(frozen=True)
class Survey:
    """What one look at all scenes tells.

    median_disparity, largest_disparity: of all known disparities, px, in steps of 1/16.
    """

    scenes: tuple[Scene, ...]
    median_disparity: float
    largest_disparity: float

    @property
    def sha256(self) -> str:
        """Of the scenes and their order: the same only if every pixel and every truth is."""
        return hashlib.sha256("\n".join(scene.sha256 for scene in self.scenes).encode()).hexdigest()

    def donor(self, index: int) -> int | None:
        """Return the next scene that can lend its polarization to scene `index`; None: none can.

        It has the same size and rig, and another name: two folders may hold the same scene.
        """
        count = len(self.scenes)
        others = ((index + step) % count for step in range(1, count))
        wanted = self.scenes[index]
        fitting = (other for other in others if self.scenes[other][2:] == wanted[2:])
        return next((other for other in fitting if self.scenes[other].name != wanted.name), None)


def survey(scenes: Dataset[StereoSample], watch: Callable[[range], Iterable[int]] = iter) -> Survey:
    """Read every scene once: what cannot be read is found before the work starts.

    Args:
        scenes: with a length.
        watch: goes through the indices, such as tqdm.

    Raises:
        UsageError: a scene cannot be read, or no disparity is known anywhere.
    """
    found: list[Scene] = []
    counts = np.zeros(1, np.int64)
    for index in watch(range(len(scenes))):  # type: ignore[arg-type]
        sample = scenes[index]
        digest = hashlib.sha256(sample.name.encode())
        for name in _HASHED:
            digest.update(np.ascontiguousarray(getattr(sample, name).numpy()).tobytes())
        height, width = sample.left.shape[-2:]
        found.append(Scene(sample.name, digest.hexdigest(), (height, width), sample.rig))
        known = sample.disparity[sample.valid > 0].numpy()
        steps = np.bincount(np.rint(np.clip(known, 0, None) / _STEP).astype(np.int64), minlength=len(counts))
        counts = np.pad(counts, (0, len(steps) - len(counts))) + steps
    total = np.cumsum(counts)
    if not total[-1]:
        raise UsageError("the scenes: got no known disparity in any of them, wanted ground truth")
    median = int(np.searchsorted(total, total[-1] / 2))
    return Survey(tuple(found), _STEP * median, _STEP * int(np.flatnonzero(counts)[-1]))


def open_scenes(
    data: str,
    *,
    rig: RigKind | None = None,
    count: int | None = None,
    seed: int | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
    rig_file: Path | None = None,
    sensor: bool = True,
) -> SceneSet:
    """Find out what scenes are meant; they are read when they are asked for.

    Args:
        data: "procedural", a folder in the scene format, a manifest, or a folder of pairs in one of the layouts of
            `crosspol.datasets.registry.SOURCES`.
        rig: what was recorded; None: quad for procedural scenes, else what the data have, or most of their scenes; of
            pairs with polarization in both views, quad.
        count: at most so many, the first ones; None: 64 procedural ones, else all.
        seed: of procedural scenes and of the sensor's noise; None: that of the test scenes.
        size: height and width of procedural scenes, px; None: 256x320.
        split: of data that name splits; None: all.
        rig_file: description of the cameras whose frames a manifest lists.
        sensor: stored light passes a sensor with noise.

    Raises:
        MissingFileError: a file or folder does not exist.
        UsageError: an argument that these data have no use for, or data that cannot be used.
    """
    path = Path(data)
    kind = _kind(data, path)
    given = {
        "size": size and f"{size[1]}x{size[0]}", "seed": seed, "split": split, "rig_file": rig_file,
        "sensor": None if sensor else "it",
    }  # fmt: skip
    for name, value in given.items():
        if value is not None and name not in _settings(kind):
            flag, wanted = _FLAGS[name]
            raise UsageError(f"{flag}: got {value}, which is for {wanted}, not for {data}")
    seed = TEST_SEED if seed is None else seed
    if kind == PROCEDURAL:
        return _procedural(rig or "quad", count or _PROCEDURAL_COUNT, seed, size)
    if kind == "manifest":
        return _manifest(path, rig, count, split, rig_file)
    if kind == "scenes":
        return _scene_folder(path, rig, count, split, seed, sensor)
    return _pairs(path, kind, rig, count, split)


def _kind(data: str, path: Path) -> SourceKind:
    """Find out of which kind the data are.

    Raises:
        MissingFileError: there is no such file or folder.
        UsageError: it is of no kind that is evaluated.
    """
    if data == PROCEDURAL:
        return PROCEDURAL
    if path.is_file():
        return "manifest"
    if not path.exists():
        raise MissingFileError(f"{path}: no such file or folder, wanted {PROCEDURAL}, a data set's folder or a table")
    if (path / INDEX).exists():
        return "scenes"
    readers = {kind: reader for kind, reader in SOURCES.items() if reader.layout and kind != "scenes"}
    kind = next((kind for kind, reader in readers.items() if reader.recognizes(path)), None)
    if kind is None:
        known = "; ".join(reader.wanted for reader in readers.values())
        raise UsageError(f"{path}: got neither {INDEX} nor pairs in it, wanted one of: {known}")
    return kind


def _settings(kind: SourceKind) -> frozenset[str]:
    """Return which settings data of a kind have a use for."""
    if kind == PROCEDURAL:
        return frozenset({"size", "seed"})
    settings = SOURCES[kind].settings
    # Of what passes a sensor, the noise is drawn.
    return settings | {"seed"} if "sensor" in settings else settings


def _procedural(rig: RigKind, count: int, seed: int, size: tuple[int, int] | None) -> SceneSet:
    try:
        config = ProceduralConfig(size=size or _PROCEDURAL_SIZE, length=count, seed=seed, rig=rig)
    except ValueError as error:
        raise UsageError(f"the procedural scenes: {error}") from error
    description = {"data": PROCEDURAL, "rig": rig, "seed": seed, "size": list(config.size)}
    return SceneSet(description, lambda channels: ProceduralStereo(replace(config, pol_channels=channels)))


def _scene_folder(
    path: Path, rig: RigKind | None, count: int | None, split: str | None, seed: int, sensor: bool
) -> SceneSet:
    camera = partial(sense, config=SENSOR) if sensor else None
    records = read_index(path)
    if rig is None:
        rig = _rig_of_most([record for record in records if split in (None, record.split)])
    first = SceneFolder(path, split=split, rig=rig)
    description = {"data": str(path), "rig": first.rig, "split": split, "sensor": sensor, "seed": seed}
    omitted = _omitted(records, first, split, count)
    if omitted:
        description["omitted"] = omitted

    def opened(channels: int) -> Indexed:
        folder = SceneFolder(path, split=split, rig=rig, pol_channels=channels, camera=camera, seed=seed)
        return _first(folder, count)

    return SceneSet(description, opened)


def _rig_of_most(records: Sequence[SceneRecord]) -> RigKind | None:
    """Return the rig of most scenes; None: there are no scenes, which `SceneFolder` refuses."""
    return Counter(record.rig for record in records).most_common(1)[0][0] if records else None


def _omitted(records: Sequence[SceneRecord], taken: SceneFolder, split: str | None, count: int | None) -> str:
    """Say in words which scenes of a folder are left out and why; "" where none is."""
    of_split = [record for record in records if split in (None, record.split)]
    rigs = Counter(record.rig for record in of_split if taken.rig not in CONTAINS[record.rig])
    parts = [f"{number} of rig {kind}" for kind, number in rigs.items()]
    if len(of_split) < len(records):
        parts.append(f"{len(records) - len(of_split)} of other splits")
    if count is not None and count < len(taken):
        parts.append(f"{len(taken) - count} after the first {count}")
    return ", ".join(parts)


def sensor_noise(records: Sequence[SceneRecord], name: str) -> np.random.Generator:
    """Return what a stored scene's sensor noise is drawn from where the scenes of its rig are evaluated.

    Whoever shows one scene shows the images that `open_scenes` measures, and gets the same errors.

    Args:
        records: of all scenes of the folder.
        name: the scene's.
    """
    rig = next(record.rig for record in records if record.name == name)
    same = [record.name for record in records if rig in CONTAINS[record.rig]]
    return noise_of(TEST_SEED, same.index(name))


def as_recorded(scene: StoredScene, records: Sequence[SceneRecord]) -> tuple[Frame, Frame]:
    """Return what both cameras make of a stored scene, as an evaluation of the scenes of its rig sees it.

    Args:
        scene: of the folder.
        records: of all scenes of the folder.
    """
    return sense(*scene_frames(scene), sensor_noise(records, scene.name), SENSOR)


def _manifest(path: Path, rig: RigKind | None, count: int | None, split: str | None, rig_file: Path | None) -> SceneSet:
    first = Manifest(path, split=split, rig=rig_file)
    if rig not in (None, first.rig):
        raise UsageError(f"--rig: got {rig} for {path}, which holds pairs of rig {first.rig}; wanted that")
    description = {"data": str(path), "rig": first.rig, "split": split}

    def opened(channels: int) -> Indexed:
        return _first(Manifest(path, split=split, rig=rig_file, pol_channels=channels), count)

    return SceneSet(description, opened)


def _pairs(path: Path, kind: SourceKind, rig: RigKind | None, count: int | None, split: str | None) -> SceneSet:
    reader = SOURCES[kind]
    asked = Request(str(path), split=split)
    served = [known for known in RIG_KINDS if reader.serves(replace(asked, rig=known))]
    if rig is not None and rig not in served:
        raise UsageError(f"--rig: got {rig} for {path}, of which there is no recording; wanted {' or '.join(served)}")
    asked = replace(asked, rig=served[0] if rig is None else rig)
    description = {"data": str(path), "rig": asked.rig, "layout": kind}
    if split is not None:
        description["split"] = split
    return SceneSet(description, lambda channels: _first(reader.open(replace(asked, pol_channels=channels)), count))


def _first(samples: SizedSamples, count: int | None) -> Indexed:
    return RoundRobin([samples], len(samples) if count is None else count)
