"""One data set of a run: which part of it, opened for which rig, and what it is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from crosspol.datasets.benchmarks import PlainPairs, booster, eth3d, kitti, middlebury, sceneflow
from crosspol.datasets.config import PLAIN, TRAINING, DataConfig, SourceConfig
from crosspol.datasets.manifest import Manifest, read_manifest
from crosspol.datasets.scene_format import SceneFolder, read_index
from crosspol.errors import UsageError
from crosspol.rigs.kinds import RigKind
from crosspol.rigs.sensor import sense

# More than any run asks for, and of any data set still an index.
REPEATS = 2**40
# What a seed is drawn for: no two draw the same numbers.
MIXING, CHANGING, SEEING, REPLAYING = range(4)

_FOLDERS: dict[str, Callable[[str], PlainPairs]] = {
    "kitti": kitti,
    "middlebury": middlebury,
    "eth3d": eth3d,
    "booster": booster,
}


def usable_sources(data: DataConfig) -> list[tuple[int, str, SourceConfig]]:
    """The data sets that have what `data.rig` records, with their numbers and the settings that name them.

    Where several rigs take turns, a data set may lack some of them; of a single one it is asked when it is opened.
    """
    sources = [(number, *named) for number, named in enumerate(data.named_sources())]
    if len(set(data.turns)) == 1:
        return sources
    usable = [entry for entry in sources if _serves(data, *entry[1:])]
    if not usable:
        raise UsageError(f"data.rigs: got no data set with what rig {data.rig} records, wanted one, or other rigs")
    return usable


def _serves(data: DataConfig, key: str, source: SourceConfig) -> bool:
    if source.kind == "procedural" or source.virtual_glass:
        return True
    if source.kind in PLAIN:
        return data.rig == "none"
    with named(key):
        if source.kind == "manifest":
            return Manifest(str(source.path), rig=source.rig_file, pol_channels=data.pol_channels).rig == data.rig
        _ = read_index(Path(str(source.path)))
    try:
        SceneFolder(str(source.path), rig=data.rig)
    except UsageError:
        # The index itself is in order: there is no such scene in it.
        return False
    return True


def open_source(
    data: DataConfig, source: SourceConfig, split: str | None, number: int, repeats: int
) -> SceneFolder | Manifest | PlainPairs:
    """Open a part of a data set on a disk, as it is; what a sensor has to see repeats."""
    path = str(source.path)
    rig = stored_rig(data, source)
    if source.kind == "scenes":
        camera = partial(sense, config=data.sensor) if source.sensor else None
        seed = seed_for(data, number, SEEING)
        folder = SceneFolder(
            path, split=split, rig=rig, pol_channels=data.pol_channels, camera=camera, seed=seed, repeats=repeats
        )
        polarized = sorted({record.rig for record in folder.records} - {"none"})
        if source.virtual_glass and polarized:
            raise UsageError(
                f"{path}: got scenes of rig {', '.join(polarized)}, wanted pairs without polarization for virtual_glass"
            )
        return folder
    if source.kind == "manifest":
        manifest = Manifest(path, split=split, rig=source.rig_file, pol_channels=data.pol_channels)
        if manifest.rig != rig:
            raise UsageError(f"{path}: got pairs of rig {manifest.rig}, wanted {rig} (all data have one rig)")
        return manifest
    if source.kind == "sceneflow":
        return sceneflow(path, part=split)
    return _FOLDERS[source.kind](path)


def source_names(samples: SceneFolder | Manifest | PlainPairs) -> list[str]:
    """Return the names of a data set's samples, in their order."""
    if isinstance(samples, SceneFolder):
        return [record.identity for record in samples.records]
    return [entry.identity for entry in (samples.rows if isinstance(samples, Manifest) else samples.pairs)]


def stored_rig(data: DataConfig, source: SourceConfig) -> RigKind:
    """What the source has to have recorded; virtual glass is recorded by the run's rig later."""
    return "none" if source.virtual_glass else data.rig


def training_split(source: SourceConfig) -> str | None:
    """The part of a data set that is trained on; None: all."""
    if source.split is not None:
        return source.split
    # A scene is always of some part.
    return TRAINING if source.kind == "scenes" or (source.kind == "manifest" and manifest_splits(source)) else None


def manifest_splits(source: SourceConfig) -> set[str]:
    """Return the parts that a manifest names."""
    return {row.split for row in read_manifest(str(source.path)) if row.split is not None}


def described(source: SourceConfig, split: str | None) -> str:
    """Say in words what a data set is."""
    if source.kind == "procedural":
        return "procedural scenes"
    glass = " with virtual glass" if source.virtual_glass else ""
    return f"{source.kind} {source.path}{'' if split is None else f' ({split})'}{glass}"


def seed_for(data: DataConfig, number: int, purpose: int) -> int:
    """Return the seed of one purpose (`MIXING`, ...) of data set or rig `number`."""
    return int(np.random.SeedSequence([data.seed, number, purpose]).generate_state(1)[0])


@contextmanager
def named(key: str) -> Iterator[None]:
    """Say which setting named the data set that cannot be used."""
    try:
        yield
    except UsageError as error:
        raise type(error)(f"{key}: {error}") from error
