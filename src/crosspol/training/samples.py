"""From a run's configuration to its training samples and its held-out samples.

Every sample is a function of the configuration and its place in the stream, whichever process makes it.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset, Subset

from crosspol.data.data_check import Resilient
from crosspol.data.folders import PlainPairs, booster, eth3d, kitti, middlebury, sceneflow
from crosspol.data.manifest import Manifest, read_manifest
from crosspol.data.mixture import Interleaved, Mixture
from crosspol.data.procedural import ProceduralStereo
from crosspol.data.sample import Rig, StereoSample
from crosspol.data.scene_format import SceneFolder
from crosspol.data.sensor import sense
from crosspol.data.transforms import AugmentConfig, Augmented, augment
from crosspol.data.virtual_glass import glaze
from crosspol.errors import RequestError
from crosspol.training.data_config import TRAINING, VALIDATION, DataConfig, SourceConfig
from crosspol.training.stream import endless, shuffled
from crosspol.training.validation import held_out

# More than any run asks for, and of any data set still an index.
_REPEATS = 2**40
# What a seed is drawn for: no two draw the same numbers.
_MIXING, _CHANGING, _SEEING = range(3)

_FOLDERS: dict[str, Callable[[str], PlainPairs]] = {
    "kitti": kitti,
    "middlebury": middlebury,
    "eth3d": eth3d,
    "booster": booster,
}


class Samples(NamedTuple):
    """Samples, the order in which a run takes them, and a line about what they are.

    contents: what each finite data set holds, by the setting that names it; the same only if its samples are.
    """

    samples: Dataset[StereoSample]
    order: Callable[[int], int]
    about: str
    contents: Mapping[str, str] = {}


def training_samples(data: DataConfig) -> Samples:
    """Open the data sets of a run.

    A mixture is an endless stream; a single data set goes through in epochs, each in an order of its own and changed
    otherwise; procedural scenes never repeat.

    Raises:
        RequestError: a data set is not there, is damaged, or has not what the run wants; the line names the setting.
    """
    sources = list(data.named_sources())
    if [source.kind for _, source in sources] == ["procedural"]:
        return Samples(ProceduralStereo(replace(data, length=sys.maxsize)), endless, "procedural scenes")
    parts, lines, held = [], [], {}
    total = sum(source.weight for _, source in sources)
    for number, (key, source) in enumerate(sources):
        with _named(key):
            split = _training_split(source)
            part, names = _training_part(data, source, split, number)
        parts.append(part)
        if names is not None:
            held[key] = contents(names)
        count = "endless" if names is None else f"{len(names)} samples"
        lines.append(f"{_described(source, split)} ({count}, {100 * source.weight / total:.3g} %)")
    about = "; ".join(lines)
    if names is not None and len(parts) == 1:
        return Samples(parts[0], epochs(len(names), data.seed), about, held)
    weights = [source.weight for _, source in sources]
    mixture = Mixture(parts, weights, length=sys.maxsize, seed=_seed(data, 0, _MIXING))
    return Samples(mixture, endless, about, held)


def held_out_samples(data: DataConfig, count: int) -> Samples:
    """Open the held-out part of a run: at most `count` samples, whole and never changed.

    Scenes and manifests give their part for validation, in turn; where none has one, procedural scenes of the same
    settings are taken. All of them are read once: one that cannot be read is refused here, or left out.

    Raises:
        RequestError: as `training_samples`, or a sample cannot be read and is not to be skipped.
    """
    parts: list[Dataset[StereoSample]] = []
    names: list[str] = []
    skipped: list[str] = []
    trained = _trained_parts(data)
    for number, (key, source) in enumerate(data.named_sources()):
        if source.kind == "procedural":
            parts.append(held_out(data, count))
            names.append("procedural scenes")
            continue
        with _named(key):
            split = _validation_split(data, source, trained)
            if split is None:
                continue
            part = _held_out_part(data, source, split, number)
            good, bad = _readable(part, count, data.on_bad == "skip")
        parts.append(Subset(part, good))
        names.append(_described(source, split))
        skipped += [f"{key}: {line}" for line in bad]
    if not parts:
        parts, names = [held_out(data, count)], ["procedural scenes, as the data have no part for it"]
    samples = Interleaved(parts, count)
    lines = [f"{len(samples)} of {' and '.join(names)}", *(f"skipped {line}" for line in skipped)]
    return Samples(samples, endless, "; ".join(lines))


def epochs(length: int, seed: int) -> Callable[[int], int]:
    """Return the order of a data set that is changed otherwise in every epoch: `shuffled`, counted on."""
    order = shuffled(length, seed)
    return lambda position: position - position % length + order(position)


def contents(names: Iterable[str]) -> str:
    """Describe a data set so that two descriptions are the same only if the samples' names and their order are."""
    names = list(names)
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    return f"{len(names)} samples (names {digest[:12]})"


def _training_part(
    data: DataConfig, source: SourceConfig, split: str | None, number: int
) -> tuple[Dataset[StereoSample], list[str] | None]:
    """Return an endless data set, and the names of its samples; None: it never repeats."""
    if source.kind == "procedural":
        return Augmented(ProceduralStereo(replace(data, length=_REPEATS)), _alike), None
    samples = _open(data, source, split, number, _REPEATS)
    # Scenes repeat themselves, so that every time has noise of its own.
    outer = 1 if isinstance(samples, SceneFolder) else _REPEATS
    change = partial(_changed, data=data, glass=source.virtual_glass)
    resilient = Resilient(samples, skip=data.on_bad == "skip")
    endless_part = Augmented(resilient, change, seed=_seed(data, number, _CHANGING), repeats=outer)
    return endless_part, _names(samples)


def _names(samples: SceneFolder | Manifest | PlainPairs) -> list[str]:
    if isinstance(samples, SceneFolder):
        return [record.identity for record in samples.records]
    return [entry.identity for entry in (samples.rows if isinstance(samples, Manifest) else samples.pairs)]


def _held_out_part(data: DataConfig, source: SourceConfig, split: str, number: int) -> Dataset[StereoSample]:
    samples = _open(data, source, split, number, 1)
    if not source.virtual_glass:
        return samples
    return Augmented(samples, partial(_glazed, data=data), seed=_seed(data, number, _CHANGING))


def _open(
    data: DataConfig, source: SourceConfig, split: str | None, number: int, repeats: int
) -> SceneFolder | Manifest | PlainPairs:
    """Open a part of a data set on a disk, as it is; what a sensor has to see repeats."""
    path = str(source.path)
    rig = _stored_rig(data, source)
    if source.kind == "scenes":
        camera = partial(sense, config=data.sensor) if source.sensor else None
        seed = _seed(data, number, _SEEING)
        folder = SceneFolder(
            path, split=split, rig=rig, pol_channels=data.pol_channels, camera=camera, seed=seed, repeats=repeats
        )
        polarized = sorted({record.rig for record in folder.records} - {"none"})
        if source.virtual_glass and polarized:
            raise RequestError(
                f"{path}: found scenes of rig {', '.join(polarized)}, wanted pairs without polarization for "
                "virtual_glass"
            )
        return folder
    if source.kind == "manifest":
        manifest = Manifest(path, split=split, rig=source.rig_file, pol_channels=data.pol_channels)
        if manifest.rig != rig:
            raise RequestError(f"{path}: found pairs of rig {manifest.rig}, wanted {rig} (all data have one rig)")
        return manifest
    if source.kind == "sceneflow":
        return sceneflow(path, part=split)
    return _FOLDERS[source.kind](path)


def _stored_rig(data: DataConfig, source: SourceConfig) -> Rig:
    """What the source has to have recorded; virtual glass is recorded by the run's rig later."""
    return "none" if source.virtual_glass else data.rig


def _training_split(source: SourceConfig) -> str | None:
    """The part of a data set that is trained on; None: all."""
    if source.split is not None:
        return source.split
    # A scene is always of some part.
    return TRAINING if source.kind == "scenes" or (source.kind == "manifest" and _manifest_splits(source)) else None


def _trained_parts(data: DataConfig) -> dict[tuple[Path, str | None], str]:
    """Every part that the run trains on, with the setting that names it."""
    parts = {}
    for key, source in data.named_sources():
        if source.path is not None:
            with _named(key):
                parts[Path(source.path).resolve(), _training_split(source)] = key
    return parts


def _validation_split(
    data: DataConfig, source: SourceConfig, trained: Mapping[tuple[Path, str | None], str]
) -> str | None:
    """The part of a data set that is validated on; None: it has none that no source trains on.

    Raises:
        RequestError: the one that was asked for is trained on.
    """
    path = Path(str(source.path)).resolve()
    if source.validation_split is not None:
        for part in (source.validation_split, None):
            if (path, part) in trained:
                raise RequestError(
                    f"{source.path}: found part {source.validation_split!r} for validation, which "
                    f"{trained[path, part]} trains on; wanted another part"
                )
        return source.validation_split
    free = {split for split in _splits(data, source) if (path, split) not in trained}
    return next((split for split in VALIDATION if split in free and (path, None) not in trained), None)


def _splits(data: DataConfig, source: SourceConfig) -> set[str]:
    """The parts that a data set names, of what the run's rig can use."""
    if source.kind == "scenes":
        return {record.split for record in SceneFolder(str(source.path), rig=_stored_rig(data, source)).records}
    return _manifest_splits(source) if source.kind == "manifest" else set()


def _manifest_splits(source: SourceConfig) -> set[str]:
    return {row.split for row in read_manifest(str(source.path)) if row.split is not None}


def _readable(samples: Dataset[StereoSample], count: int, skip: bool) -> tuple[list[int], list[str]]:
    """Find the first `count` samples that can be read, and say why others cannot."""
    good: list[int] = []
    bad: list[str] = []
    for index in range(len(samples)):  # type: ignore[arg-type]
        if len(good) == count:
            break
        try:
            _ = samples[index]
            good.append(index)
        except (RequestError, OSError) as error:
            line = " ".join(str(error).split())
            if not skip:
                raise RequestError(line) from error
            bad.append(line)
    if not good:
        raise RequestError(f"no sample of the part for validation can be read; the first: {bad[0]}")
    return good, bad


def _changed(sample: StereoSample, rng: np.random.Generator, data: DataConfig, glass: bool) -> StereoSample:
    """What happens to a sample from a disk: another place, size and light, and glass where that is wanted."""
    if glass:
        # Glass is put into what is left after the crop, and before the light changes: its polarization is of linear
        # light that both views share.
        sample = augment(sample, _place_only(data.augment), rng, data.size)
        sample = _glazed(sample, rng, data)
        sample = augment(sample, _light_only(data.augment), rng)
    else:
        sample = augment(sample, data.augment, rng, data.size)
    return _alike(sample)


def _alike(sample: StereoSample, _: np.random.Generator | None = None) -> StereoSample:
    """The sample with the tensors that those of all sources have, so that they fit into one batch."""
    return replace(sample, disparity_background=None)


def _place_only(config: AugmentConfig) -> AugmentConfig:
    return replace(config, gain=0.0, white_balance=0.0, view_gain=0.0, gamma=0.0)


def _light_only(config: AugmentConfig) -> AugmentConfig:
    return replace(config, scale=(1.0, 1.0), flip_horizontal=0.0, flip_vertical=0.0)


def _glazed(sample: StereoSample, rng: np.random.Generator, data: DataConfig) -> StereoSample:
    return glaze(sample, rng, rig=data.rig, pol_channels=data.pol_channels, probability=data.glass_probability)


def _seed(data: DataConfig, number: int, purpose: int) -> int:
    return int(np.random.SeedSequence([data.seed, number, purpose]).generate_state(1)[0])


def _described(source: SourceConfig, split: str | None) -> str:
    if source.kind == "procedural":
        return "procedural scenes"
    glass = " with virtual glass" if source.virtual_glass else ""
    return f"{source.kind} {source.path}{'' if split is None else f' ({split})'}{glass}"


@contextmanager
def _named(key: str) -> Iterator[None]:
    """Say which setting named the data set that cannot be used."""
    try:
        yield
    except RequestError as error:
        raise type(error)(f"{key}: {error}") from error
