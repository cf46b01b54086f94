"""From a run's configuration to its training samples and its held-out samples.

Every sample is a function of the configuration and its place in the stream, whichever process makes it.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from crosspol.data.scene_format import SceneFolder, read_index
from crosspol.data.sensor import sense
from crosspol.data.transforms import AugmentConfig, Augmented, add_noise, augment
from crosspol.data.virtual_glass import glaze
from crosspol.errors import RequestError
from crosspol.training.data_config import PLAIN, TRAINING, VALIDATION, DataConfig, SourceConfig
from crosspol.training.replay import PACKED_BYTES, FolderShelf, Replayed
from crosspol.training.schedule import Place
from crosspol.training.stream import endless, shuffled
from crosspol.training.validation import held_out

# More than any run asks for, and of any data set still an index.
_REPEATS = 2**40
# What a seed is drawn for: no two draw the same numbers.
_MIXING, _CHANGING, _SEEING, _REPLAYING = range(4)

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


class RunSamples(Dataset[StereoSample]):
    """The samples of a run, by their `Place`: of every rig that takes turns, in every size of the run's stages.

    Attributes:
        about: a line about what they are.
        contents: what each finite data set holds, by the setting that names it; the same only if its samples are.
    """

    def __init__(self, streams: Mapping[tuple[Rig, tuple[int, int]], Samples], about: str) -> None:
        self.streams, self.about = dict(streams), about
        self.contents: dict[str, str] = {}
        several = len({rig for rig, _ in streams}) > 1
        for (rig, _), stream in streams.items():
            # Of a data set each rig may have other scenes.
            self.contents |= {f"{key} ({rig})" if several else key: held for key, held in stream.contents.items()}
        self._size: tuple[int, int] | None = None

    def __getitem__(self, place: Place) -> StereoSample:
        """Make the sample of a place."""
        if place.size != self._size:
            # A stage ends: what was kept for the one before is of no more use.
            for (_, size), stream in self.streams.items():
                if size == self._size and isinstance(stream.samples, Replayed):
                    stream.samples.shelf.clear()
            self._size = place.size
        stream = self.streams[place.rig, place.size]
        return stream.samples[stream.order(place.number)]

    def keep_in(self, folder: Path) -> None:
        """Keep scenes that are used several times in a folder, for several processes."""
        for (rig, (height, width)), stream in self.streams.items():
            if isinstance(stream.samples, Replayed):
                stream.samples.shelf = FolderShelf(folder, f"{rig}-{height}x{width}")


class OwnSamples(Dataset[StereoSample]):
    """A data set that came from Python, by `Place`; each epoch has an order of its own."""

    def __init__(self, samples: Dataset[StereoSample], order: Callable[[int], int]) -> None:
        self.samples, self.order = samples, order
        count: int = len(samples)  # type: ignore[arg-type]
        self.about, self.contents = f"{count} samples", {"samples": f"{count} samples"}

    def __getitem__(self, place: Place) -> StereoSample:
        """Return the sample of a place."""
        return self.samples[self.order(place.position)]


def run_samples(data: DataConfig, sizes: Sequence[tuple[int, int]]) -> RunSamples:
    """Open what a run is trained on: for every rig that takes turns, and every size of its stages.

    Raises:
        RequestError: as `training_samples`.
    """
    rigs = list(dict.fromkeys(data.turns))
    streams = {}
    for number, rig in enumerate(rigs):
        # Of a block's scenes each rig has as many as it has turns.
        share = max(1, round(data.buffer * data.turns.count(rig) / len(data.turns)))
        for size in sizes:
            of_one = replace(data, rig=rig, size=size, buffer=share)
            scenes = training_samples(of_one) if data.replay == 1 else _scenes(of_one)
            # Numbered over all rigs, so that no two record the same scenes.
            scenes = scenes._replace(order=partial(_every, order=scenes.order, first=number, stride=len(rigs)))
            streams[rig, size] = scenes if data.replay == 1 else replayed(of_one, scenes, number)
    lines = {rig: streams[rig, sizes[0]].about for rig in rigs}
    if len(set(lines.values())) == 1:
        about = lines[rigs[0]] + (f", rigs {', '.join(data.turns)} in turns" if len(rigs) > 1 else "")
    else:
        about = "; ".join(f"{rig}: {line}" for rig, line in lines.items())
    if data.replay > 1:
        height, width = (max(side) for side in zip(*(larger(size, data.margin) for size in sizes), strict=True))
        megabytes = data.buffer * height * width * PACKED_BYTES / 2**20
        about += f"; each scene {data.replay} times, {data.buffer} in turns (up to {megabytes:.0f} MiB are kept)"
    return RunSamples(streams, about)


def training_samples(data: DataConfig) -> Samples:
    """Open the data sets of a run of one rig and size, every scene used once.

    A mixture is an endless stream; a single data set goes through in epochs, each in an order of its own and changed
    otherwise; procedural scenes never repeat.

    Raises:
        RequestError: a data set is not there, is damaged, or has not what the run wants; the line names the setting.
    """
    sources = _usable(data)
    if [source.kind for _, _, source in sources] == ["procedural"]:
        return Samples(ProceduralStereo(replace(data, length=sys.maxsize)), endless, "procedural scenes")
    return _combined(data, sources, _training_part)


def replayed(data: DataConfig, scenes: Samples, number: int = 0) -> Samples:
    """Return the stream in which each scene is used several times, as `data.replay` says.

    Each use takes a crop of its own, flips and light as `data.augment` says, and new noise as strong as `data.noise`.

    Args:
        data: of one rig and size.
        scenes: endless, larger than the size.
        number: of the rig; each has orders and changes of its own.
    """
    use = partial(_used, config=replace(data.augment, scale=(1.0, 1.0)), size=data.size, noise=data.noise)
    draw = partial(_drawn, samples=scenes.samples, order=scenes.order)
    uses = Replayed(draw, use, replay=data.replay, block=data.buffer, seed=_seed(data, number, _REPLAYING))
    return Samples(uses, endless, scenes.about, scenes.contents)


def larger(size: tuple[int, int], margin: float) -> tuple[int, int]:
    """Return the size (H, W), px, of scenes of which several crops of a size are taken."""
    return math.ceil(size[0] * (1 + margin)), math.ceil(size[1] * (1 + margin))


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
    for number, key, source in _usable(data):
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
    return partial(_counted_on, length=length, order=shuffled(length, seed))


def _counted_on(position: int, length: int, order: Callable[[int], int]) -> int:
    return position - position % length + order(position)


def contents(names: Iterable[str]) -> str:
    """Describe a data set so that two descriptions are the same only if the samples' names and their order are."""
    names = list(names)
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    return f"{len(names)} samples (names {digest[:12]})"


_Part = tuple[Dataset[StereoSample], list[str] | None]


def _usable(data: DataConfig) -> list[tuple[int, str, SourceConfig]]:
    """The data sets that have what `data.rig` records, with their numbers and the settings that name them.

    Where several rigs take turns, a data set may lack some of them; of a single one it is asked when it is opened.
    """
    sources = [(number, *named) for number, named in enumerate(data.named_sources())]
    if len(set(data.turns)) == 1:
        return sources
    usable = [entry for entry in sources if _serves(data, *entry[1:])]
    if not usable:
        raise RequestError(f"data.rigs: found no data set with what rig {data.rig} records, wanted one, or other rigs")
    return usable


def _serves(data: DataConfig, key: str, source: SourceConfig) -> bool:
    if source.kind == "procedural" or source.virtual_glass:
        return True
    if source.kind in PLAIN:
        return data.rig == "none"
    with _named(key):
        if source.kind == "manifest":
            return Manifest(str(source.path), rig=source.rig_file, pol_channels=data.pol_channels).rig == data.rig
        _ = read_index(Path(str(source.path)))
    try:
        SceneFolder(str(source.path), rig=data.rig)
    except RequestError:
        # The index itself is in order: there is no such scene in it.
        return False
    return True


def _scenes(data: DataConfig) -> Samples:
    """Open the data sets as scenes to be used several times, larger than the size by `data.margin`.

    Procedural scenes are drawn so; what is read is scaled, cut out and given virtual glass where that is wanted.
    """
    return _combined(data, _usable(data), _scene_part)


def _combined(
    data: DataConfig,
    sources: list[tuple[int, str, SourceConfig]],
    open_part: Callable[[DataConfig, SourceConfig, str | None, int], _Part],
) -> Samples:
    """One data set of all: a mixture by weight, or the epochs of a single finite one."""
    parts, lines, held = [], [], {}
    total = sum(source.weight for _, _, source in sources)
    for number, key, source in sources:
        with _named(key):
            split = _training_split(source)
            part, names = open_part(data, source, split, number)
        parts.append(part)
        if names is not None:
            held[key] = contents(names)
        count = "endless" if names is None else f"{len(names)} samples"
        lines.append(f"{_described(source, split)} ({count}, {100 * source.weight / total:.3g} %)")
    about = "; ".join(lines)
    if len(parts) == 1:
        order = endless if names is None else epochs(len(names), data.seed)
        return Samples(parts[0], order, about, held)
    weights = [source.weight for _, _, source in sources]
    mixture = Mixture(parts, weights, length=sys.maxsize, seed=_seed(data, 0, _MIXING))
    return Samples(mixture, endless, about, held)


def _scene_part(data: DataConfig, source: SourceConfig, split: str | None, number: int) -> _Part:
    """Return an endless data set of scenes as they are kept, and the names of its samples; None: it never repeats."""
    size = larger(data.size, data.margin)
    if source.kind == "procedural":
        # As large a disparity as without a margin, so that held-out scenes are of the same kind.
        reach = data.size[1] / 4 if data.max_disparity is None else data.max_disparity
        drawn = ProceduralStereo(replace(data, size=size, max_disparity=reach, length=_REPEATS))
        return Augmented(drawn, _alike), None
    samples = _open(data, source, split, number, _REPEATS)
    outer = 1 if isinstance(samples, SceneFolder) else _REPEATS
    change = partial(_cut_out, data=data, size=size, glass=source.virtual_glass)
    resilient = Resilient(samples, skip=data.on_bad == "skip")
    return Augmented(resilient, change, seed=_seed(data, number, _CHANGING), repeats=outer), _names(samples)


def _every(number: int, order: Callable[[int], int], first: int, stride: int) -> int:
    return order(first + stride * number)


def _drawn(scene: int, samples: Dataset[StereoSample], order: Callable[[int], int]) -> StereoSample:
    return samples[order(scene)]


def _cut_out(
    sample: StereoSample, rng: np.random.Generator, data: DataConfig, size: tuple[int, int], glass: bool
) -> StereoSample:
    """A piece of a sample from a disk, at a size of its own, as it is kept for several uses."""
    still = replace(_place_only(data.augment), flip_horizontal=0.0, flip_vertical=0.0)
    sample = augment(sample, still, rng, size)
    if glass:
        sample = _glazed(sample, rng, data)
    return _alike(sample)


def _used(
    sample: StereoSample, rng: np.random.Generator, config: AugmentConfig, size: tuple[int, int], noise: float
) -> StereoSample:
    """One use of a scene that was kept."""
    return add_noise(augment(sample, config, rng, size), rng, noise)


def _training_part(data: DataConfig, source: SourceConfig, split: str | None, number: int) -> _Part:
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
