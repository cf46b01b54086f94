"""From a run's configuration to its training samples and its held-out samples.

Every sample is a function of the configuration and its place in the stream, whichever process makes it.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from crosspol.data.indexed import Indexed, SizedSamples
from crosspol.data.mixture import Chosen, Mixture, RoundRobin
from crosspol.data.order import endless, shuffled
from crosspol.data.resilient import SkipUnreadable
from crosspol.data.sample import StereoSample
from crosspol.data.transforms import AugmentConfig, Augmented, Change, augment
from crosspol.datasets.config import VALIDATION, DataConfig, SourceConfig
from crosspol.datasets.registry import PROCEDURAL, SourceKind
from crosspol.datasets.sources import (
    CHANGING,
    MIXING,
    REPEATS,
    described,
    named,
    named_splits,
    open_source,
    seed_for,
    training_split,
    usable_sources,
)
from crosspol.errors import UsageError, words_of
from crosspol.synthesis.procedural import ProceduralStereo, held_out
from crosspol.synthesis.virtual_glass import add_virtual_glass

_Part = tuple[Indexed, list[str] | None]


class Samples(NamedTuple):
    """Samples, the order in which a run takes them, and a line about what they are.

    contents: what each finite data set holds, by the setting that names it; the same only if its samples are.
    """

    samples: Dataset[StereoSample]
    order: Callable[[int], int]
    about: str
    contents: Mapping[str, str] = {}


def training_samples(data: DataConfig) -> Samples:
    """Open the data sets of a run of one rig and size, every scene used once.

    A mixture is an endless stream; a single data set goes through in epochs, each in an order of its own and changed
    otherwise; procedural scenes never repeat.

    Raises:
        UsageError: a data set is not there, is damaged, or has not what the run wants; the line names the setting.
    """
    sources = usable_sources(data)
    if [source.kind for _, _, source in sources] == [PROCEDURAL]:
        drawn = data.of(sources[0][2]).drawn(sys.maxsize)
        return Samples(ProceduralStereo(drawn), endless, described(sources[0][2], None))
    return _combined(data, sources, _training_part)


def larger(size: tuple[int, int], margin: float) -> tuple[int, int]:
    """Return the size (H, W), px, of scenes of which several crops of a size are taken."""
    return math.ceil(size[0] * (1 + margin)), math.ceil(size[1] * (1 + margin))


def held_out_samples(data: DataConfig, count: int) -> Samples:
    """Open the held-out split of a run: at most `count` samples, whole and never changed.

    Data sets give their split for validation, in turn; where none has one, procedural scenes of the same
    settings are taken. A split that several sources name counts once, as the first of them records it, and so do
    procedural scenes: the same scenes twice would say less than their number. All of them are read once: one that
    cannot be read is refused here, or left out.

    Raises:
        UsageError: as `training_samples`, or a sample cannot be read and is not to be skipped.
    """
    parts: list[SizedSamples] = []
    names: list[str] = []
    skipped: list[str] = []
    trained = _trained_splits(data)
    taken: set[tuple[SourceKind, Path | None, str | None, bool]] = set()

    def new(source: SourceConfig, split: str | None) -> bool:
        # Panes are put into the pairs without polarization of a table, of which others have it.
        path = None if source.path is None else Path(source.path).resolve()
        before = len(taken)
        taken.add((source.kind, path, split, source.virtual_glass))
        return len(taken) > before

    for number, key, source in usable_sources(data):
        if source.kind == PROCEDURAL:
            if not new(source, None):
                continue
            parts.append(held_out(data.of(source).drawn(count)))
            names.append("procedural scenes")
            continue
        with named(key):
            split = _validation_split(data, source, trained)
            if split is None or not new(source, split):
                continue
            part = _held_out_part(data.of(source), source, split, number)
            good, bad = _readable(part, count, data.on_bad == "skip")
        parts.append(Chosen(part, good))
        names.append(described(source, split))
        skipped += [f"{key}: {line}" for line in bad]
    if not parts:
        parts, names = [held_out(data.drawn(count))], ["procedural scenes, as the data have no split for it"]
    samples = RoundRobin(parts, count)
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


def scene_samples(data: DataConfig) -> Samples:
    """Open the data sets as scenes to be used several times, larger than the size by `data.margin`.

    Procedural scenes are drawn so; what is read is scaled, cut out and given virtual glass where that is wanted.
    """
    return _combined(data, usable_sources(data), _scene_part)


def _combined(
    data: DataConfig,
    sources: list[tuple[int, str, SourceConfig]],
    open_part: Callable[[DataConfig, SourceConfig, str | None, int], _Part],
) -> Samples:
    """One data set of all: a mixture by weight, or the epochs of a single finite one."""
    parts, lines, held = [], [], {}
    total = sum(source.weight for _, _, source in sources)
    for number, key, source in sources:
        with named(key):
            split = training_split(source)
            part, names = open_part(data.of(source), source, split, number)
        parts.append(part)
        if names is not None:
            held[key] = contents(names)
        count = "endless" if names is None else f"{len(names)} samples"
        lines.append(f"{described(source, split)} ({count}, {100 * source.weight / total:.3g} %)")
    about = "; ".join(lines)
    if len(parts) == 1:
        order = endless if names is None else epochs(len(names), data.seed)
        return Samples(parts[0], order, about, held)
    weights = [source.weight for _, _, source in sources]
    mixture = Mixture(parts, weights, length=sys.maxsize, seed=seed_for(data, 0, MIXING))
    return Samples(mixture, endless, about, held)


def _scene_part(data: DataConfig, source: SourceConfig, split: str | None, number: int) -> _Part:
    """Return an endless data set of scenes as they are kept, and the names of its samples; None: it never repeats."""
    size = larger(data.size, data.margin)
    if source.kind == PROCEDURAL:
        # As large a disparity as without a margin, so that held-out scenes are of the same kind.
        scenes = data.drawn(REPEATS)
        reach = data.size[1] / 4 if scenes.max_disparity is None else scenes.max_disparity
        drawn = ProceduralStereo(replace(scenes, size=size, max_disparity=reach))
        return Augmented(drawn, _alike), None
    return _repeated(data, source, split, number, partial(_cut_out, data=data, size=size, glass=source.virtual_glass))


def _cut_out(
    sample: StereoSample, rng: np.random.Generator, data: DataConfig, size: tuple[int, int], glass: bool
) -> StereoSample:
    """A piece of a sample from a disk, at a size of its own, as it is kept for several uses."""
    still = replace(_place_only(data.augment), flip_horizontal=0.0, flip_vertical=0.0)
    sample = augment(sample, still, rng, size)
    if glass:
        sample = _with_virtual_glass(sample, rng, data)
    return _alike(sample)


def _training_part(data: DataConfig, source: SourceConfig, split: str | None, number: int) -> _Part:
    """Return an endless data set, and the names of its samples; None: it never repeats."""
    if source.kind == PROCEDURAL:
        return Augmented(ProceduralStereo(data.drawn(REPEATS)), _alike), None
    return _repeated(data, source, split, number, partial(_changed, data=data, glass=source.virtual_glass))


def _repeated(data: DataConfig, source: SourceConfig, split: str | None, number: int, change: Change) -> _Part:
    """Return a data set on a disk again and again, changed otherwise every time, and the names of its samples."""
    samples = open_source(data, source, split, number, REPEATS)
    # What passes a sensor repeats itself, so that every time has noise of its own.
    outer = REPEATS * len(samples.names) // len(samples)
    readable = SkipUnreadable(samples, skip=data.on_bad == "skip")
    return Augmented(readable, change, seed=seed_for(data, number, CHANGING), repeats=outer), list(samples.names)


def _held_out_part(data: DataConfig, source: SourceConfig, split: str, number: int) -> SizedSamples:
    samples = open_source(data, source, split, number, 1)
    if not source.virtual_glass:
        return samples
    return Augmented(samples, partial(_with_virtual_glass, data=data), seed=seed_for(data, number, CHANGING))


def _trained_splits(data: DataConfig) -> dict[tuple[Path, str | None], str]:
    """Every split that the run trains on, with the setting that names it."""
    parts = {}
    for key, source in data.named_sources():
        if source.path is not None:
            with named(key):
                parts[Path(source.path).resolve(), training_split(source)] = key
    return parts


def _validation_split(
    data: DataConfig, source: SourceConfig, trained: Mapping[tuple[Path, str | None], str]
) -> str | None:
    """The split of a data set that is validated on; None: it has none that no source trains on.

    Raises:
        UsageError: the one that was asked for is trained on.
    """
    path = Path(str(source.path)).resolve()
    if source.validation_split is not None:
        for part in (source.validation_split, None):
            if (path, part) in trained:
                raise UsageError(
                    f"{source.path}: got split {source.validation_split!r} for validation, which "
                    f"{trained[path, part]} trains on; wanted another split"
                )
        return source.validation_split
    free = {split for split in named_splits(data, source) if (path, split) not in trained}
    return next((split for split in VALIDATION if split in free and (path, None) not in trained), None)


def _readable(samples: SizedSamples, count: int, skip: bool) -> tuple[list[int], list[str]]:
    """Find the first `count` samples that can be read, and say why others cannot."""
    good: list[int] = []
    bad: list[str] = []
    for index in range(len(samples)):
        if len(good) == count:
            break
        try:
            _ = samples[index]
            good.append(index)
        except (UsageError, OSError) as error:
            line = words_of(error)
            if not skip:
                raise UsageError(line) from error
            bad.append(line)
    if not good:
        raise UsageError(f"no sample of the split for validation can be read; the first: {bad[0]}")
    return good, bad


def _changed(sample: StereoSample, rng: np.random.Generator, data: DataConfig, glass: bool) -> StereoSample:
    """What happens to a sample from a disk: another place, size and light, and glass where that is wanted."""
    if glass:
        # Glass is put into what is left after the crop, and before the light changes: its polarization is of linear
        # light that both views share.
        sample = augment(sample, _place_only(data.augment), rng, data.size)
        sample = _with_virtual_glass(sample, rng, data)
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


def _with_virtual_glass(sample: StereoSample, rng: np.random.Generator, data: DataConfig) -> StereoSample:
    return add_virtual_glass(
        sample,
        rng,
        rig=data.rig,
        pol_channels=data.pol_channels,
        probability=data.procedural.glass_probability,
        noise=data.procedural.noise,
    )
