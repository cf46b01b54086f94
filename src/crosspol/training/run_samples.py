"""The samples of a run by their places: rigs in turns, the sizes of its stages, scenes used several times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from crosspol.data.inputs import trusting_replace
from crosspol.data.order import endless
from crosspol.data.packing import PACKED_BYTES, half_floats
from crosspol.data.sample import StereoSample
from crosspol.data.transforms import AugmentConfig, add_noise, augment
from crosspol.datasets.config import DataConfig
from crosspol.datasets.samples import Samples, larger, scene_samples, training_samples
from crosspol.datasets.sources import REPLAYING, seed_for
from crosspol.errors import refuse
from crosspol.rigs.kinds import RigKind
from crosspol.training.replay import ORDER, FolderShelf, Replayed
from crosspol.training.schedule import Place


class RunSamples(Dataset[StereoSample]):
    """The samples of a run, by their `Place`: of every rig that takes turns, in every size of the run's stages.

    Attributes:
        description: a line about what they are.
        contents: what each finite data set holds, by the setting that names it, and the order of scenes that are used
            several times; the same only if its samples are.
    """

    def __init__(self, streams: Mapping[tuple[RigKind, tuple[int, int]], Samples], description: str) -> None:
        self.streams, self.description = dict(streams), description
        self.contents: dict[str, str] = {}
        if any(isinstance(stream.samples, Replayed) for stream in streams.values()):
            self.contents["data.replay"] = ORDER
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
                # Twice as many as are under way: one process may be ahead of another.
                places = 2 * stream.samples.buffer
                stream.samples.shelf = FolderShelf(folder, f"{rig}-{height}x{width}", places)


class OwnSamples(Dataset[StereoSample]):
    """A data set that came from Python, by `Place`; each epoch has an order of its own."""

    def __init__(self, samples: Dataset[StereoSample], order: Callable[[int], int]) -> None:
        self.samples, self.order = samples, order
        count: int = len(samples)  # type: ignore[arg-type]
        self.description, self.contents = f"{count} samples", {"samples": f"{count} samples"}

    def __getitem__(self, place: Place) -> StereoSample:
        """Return the sample of a place.

        Raises:
            UsageError: it is none.
        """
        index = self.order(place.position)
        return checked_sample(self.samples[index], f"samples[{index}]")


def checked_sample(sample: object, name: str) -> StereoSample:
    """Return a sample that came from Python.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(sample, StereoSample):
        raise refuse(name, type(sample).__name__, "a crosspol.StereoSample")
    return sample


def run_samples(data: DataConfig, sizes: Sequence[tuple[int, int]]) -> RunSamples:
    """Open what a run is trained on: for every rig that takes turns, and every size of its stages.

    Raises:
        UsageError: as `training_samples`.
    """
    rigs = list(dict.fromkeys(data.turns))
    streams = {}
    for number, rig in enumerate(rigs):
        # Of the scenes that are kept each rig has as many as it has turns.
        share = max(1, round(data.buffer * data.turns.count(rig) / len(data.turns)))
        for size in sizes:
            of_one = replace(data, rig=rig, size=size, buffer=share)
            scenes = training_samples(of_one) if data.replay == 1 else scene_samples(of_one)
            # Numbered over all rigs, so that no two record the same scenes.
            scenes = scenes._replace(order=partial(_every, order=scenes.order, first=number, stride=len(rigs)))
            streams[rig, size] = scenes if data.replay == 1 else replayed(of_one, scenes, number)
    lines = {rig: streams[rig, sizes[0]].about for rig in rigs}
    if len(set(lines.values())) == 1:
        description = lines[rigs[0]] + (f", rigs {', '.join(data.turns)} in turns" if len(rigs) > 1 else "")
    else:
        description = "; ".join(f"{rig}: {line}" for rig, line in lines.items())
    if data.replay > 1:
        height, width = (max(side) for side in zip(*(larger(size, data.margin) for size in sizes), strict=True))
        megabytes = data.buffer * height * width * PACKED_BYTES / 2**20
        description += f"; each scene {data.replay} times, {data.buffer} in turns (up to {megabytes:.0f} MiB are kept)"
    return RunSamples(streams, description)


def replayed(data: DataConfig, scenes: Samples, number: int = 0) -> Samples:
    """Return the stream in which each scene is used several times, as `data.replay` says.

    Each use takes a crop of its own, flips and light as `data.augment` says, and new noise as strong as
    `data.procedural.noise`. Polarization is rounded to half floats, by at most 1/4096.

    Args:
        data: of one rig and size.
        scenes: endless, larger than the size.
        number: of the rig; each has orders and changes of its own.
    """
    use = partial(_used, config=replace(data.augment, scale=(1.0, 1.0)), size=data.size, noise=data.procedural.noise)
    draw = partial(_drawn, samples=scenes.samples, order=scenes.order)
    uses = Replayed(draw, use, replay=data.replay, buffer=data.buffer, seed=seed_for(data, number, REPLAYING))
    return Samples(uses, endless, scenes.about, scenes.contents)


def _every(number: int, order: Callable[[int], int], first: int, stride: int) -> int:
    return order(first + stride * number)


def _drawn(scene: int, samples: Dataset[StereoSample], order: Callable[[int], int]) -> StereoSample:
    return samples[order(scene)]


def _used(
    sample: StereoSample, rng: np.random.Generator, config: AugmentConfig, size: tuple[int, int], noise: float
) -> StereoSample:
    """One use of a scene that was kept, in the precision of what is kept: the way to the training is short then."""
    used = add_noise(augment(sample, config, rng, size), rng, noise)
    return trusting_replace(used, **half_floats(used.tensors()))
