"""Scenes that are drawn once and used several times, spread evenly over an endless stream.

Every `replay`-th place of the stream draws a scene; the places between use one of those before again. The uses of a
scene are about `buffer` / `replay` scenes apart, in an order that is mixed anew each time, and each is changed
otherwise. Which scene a place uses, and how, follows from the place: what is kept is only a memo, and a run that is
resumed draws again what it needs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from crosspol.data.packing import pack_tensor, unpack_tensor
from crosspol.data.sample import StereoSample
from crosspol.data.transforms import Change
from crosspol.io.atomic import neighbor

ORDER = "uses spread over the stream"
"""Name of the order in which scenes are used: a run that was begun with another one has other samples."""

_ENDLESS = 2**62
# What a generator of `Replayed` is for: no two draw the same numbers.
_USING, _ORDERING = range(2)


Packed = dict[str, Any]
"""A sample as plain data, in a third of its memory."""


def pack(sample: StereoSample) -> Packed:
    """Return a sample as it is kept: images in 8 bits, polarization in half floats, masks in bytes.

    Images have 8 bits anyway, unless they were scaled; half floats are finer than any sensor's noise.
    """
    tensors = {name: pack_tensor(name, tensor) for name, tensor in sample.tensors().items()}
    return {**tensors, "rig": sample.rig, "name": sample.name, "skipped": list(sample.skipped)}


def unpack(packed: Packed) -> StereoSample:
    """Return the sample that was packed."""
    values = {
        name: unpack_tensor(name, value) if isinstance(value, Tensor) else value for name, value in packed.items()
    }
    return StereoSample(**(values | {"skipped": tuple(values["skipped"])}))


class Shelf(Protocol):
    """Where scenes are kept: a number of places, a scene in the place of its number modulo theirs."""

    def get(self, scene: int) -> Packed | None:
        """Return a scene, or None."""

    def put(self, scene: int, packed: Packed) -> None:
        """Keep a scene instead of the one that was in its place."""

    def clear(self) -> None:
        """Forget everything."""


class MemoryShelf:
    """Keeps scenes in this process."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._kept: dict[int, tuple[int, Packed]] = {}

    def get(self, scene: int) -> Packed | None:
        """Return a scene, or None."""
        there, packed = self._kept.get(scene % self.places, (None, None))
        return packed if there == scene else None

    def put(self, scene: int, packed: Packed) -> None:
        """Keep a scene instead of the one that was in its place."""
        self._kept[scene % self.places] = (scene, packed)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()


class FolderShelf:
    """Keeps scenes in a folder that several processes share: all draw into it, each scene is drawn once.

    Where two want a scene at the same time, both draw it, and the result is the same.
    """

    def __init__(self, folder: Path, name: str, places: int) -> None:
        self.folder, self.name, self.places = folder, name, places

    def get(self, scene: int) -> Packed | None:
        """Return a scene, or None."""
        try:
            there, packed = torch.load(self._path(scene), weights_only=True)
        except Exception:  # a damaged pickle raises whatever its bytes lead to
            return None
        kept: Packed = packed
        return kept if there == scene else None

    def put(self, scene: int, packed: Packed) -> None:
        """Keep a scene instead of the one that was in its place. Where there is no room, it is drawn again instead."""
        path = self._path(scene)
        part = neighbor(path)
        try:
            torch.save((scene, packed), part)
            os.replace(part, path)
        except (OSError, RuntimeError):
            part.unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget everything."""
        for path in self.folder.glob(f"{self.name}-*.pt"):
            path.unlink(missing_ok=True)

    def _path(self, scene: int) -> Path:
        return self.folder / f"{self.name}-{scene % self.places}.pt"


class Use(NamedTuple):
    """What a place of the stream uses."""

    scene: int
    turn: int
    """How often the scene was used before, in [0, replay)."""


class Turns:
    """Which scene is used when: a function of the place in the stream.

    The stream is a row of groups. Group `g` draws scene `g` (turn 0) and uses one scene again for every further turn:
    in turn `t` scenes come in the order of their numbers, `t * gap` groups after they were drawn, but mixed within
    windows of half a gap. So from one use of a scene to the next there are between half a gap and one and a half gaps
    of groups, and no more than `buffer` scenes are under way. Where a group begins among its turns goes round, so that
    processes that take places in turns draw equally many.

    At the start there is nothing to be used again: the first gap has groups of one place, the second of two, and so on.
    Every scene is used exactly `replay` times.

    Args:
        replay: uses of a scene, at least 1.
        buffer: scenes that may be under way, at least 1; fewer than `replay` follow one another at once.
        seed: of the orders.
    """

    def __init__(self, replay: int, buffer: int, seed: int = 0) -> None:
        self.replay, self.seed = replay, seed
        self.gap = 2 * buffer // (2 * replay - 1)
        self.window = max(1, (self.gap + 1) // 2)

    def __getitem__(self, index: int) -> Use:
        """Return the scene and the turn of a place, from 0 up."""
        if not self.gap:
            return Use(*divmod(index, self.replay))
        # Stage k, of `gap` groups with k + 1 places each, is preceded by gap * (1 + ... + k) places.
        stage = min((math.isqrt(8 * (index // self.gap) + 1) - 1) // 2, self.replay - 1)
        group, place = divmod(index - self.gap * stage * (stage + 1) // 2, stage + 1)
        group += self.gap * stage
        turn = (place + group) % (stage + 1)
        return Use(self._scene(group - turn * self.gap, turn), turn)

    def _scene(self, nth: int, turn: int) -> int:
        """The scene that is the n-th of a turn."""
        if not turn:
            return nth
        window, place = divmod(nth, self.window)
        return window * self.window + int(_permutation(self.window, self.seed, turn, window)[place])


@lru_cache(maxsize=256)
def _permutation(length: int, seed: int, turn: int, window: int) -> np.ndarray:
    return np.random.default_rng([seed, _ORDERING, turn, window]).permutation(length)


class Replayed(Dataset[StereoSample]):
    """An endless data set in which each scene is used several times; sample `index` is a function of `(seed, index)`.

    Args:
        draw: scene number to the scene as it is kept.
        use: what is done to it each time.
        replay: how often each scene is used.
        buffer: scenes that are kept at most.
        seed: of the orders and of the changes.
    """

    def __init__(
        self, draw: Callable[[int], StereoSample], use: Change, *, replay: int, buffer: int, seed: int = 0
    ) -> None:
        self.draw, self.use = draw, use
        self.buffer, self.seed = buffer, seed
        self.turns = Turns(replay, buffer, seed)
        self.shelf: Shelf = MemoryShelf(buffer)

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, index: int) -> StereoSample:
        """Return the sample at a place of the stream."""
        scene = self.turns[index].scene
        packed = self.shelf.get(scene)
        if packed is None:
            packed = pack(self.draw(scene))
            self.shelf.put(scene, packed)
        return self.use(unpack(packed), np.random.default_rng([self.seed, _USING, index]))
