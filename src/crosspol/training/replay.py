"""Scenes that are drawn once and used several times.

A stream is divided into blocks of scenes. Each block is passed over `replay` times, every time in an order of its own,
and every use is changed otherwise. Which scene a place uses, and how, follows from the place: what is kept is only a
memo, and a run that is resumed draws again what it needs.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from crosspol.data.sample import StereoSample
from crosspol.data.transforms import Change

_ENDLESS = 2**62
# What a generator of `Replayed` is for: no two draw the same numbers.
_USING, _ORDERING = range(2)


class Shelf(Protocol):
    """Where the scenes of a block are kept."""

    def get(self, block: int, scene: int) -> StereoSample | None:
        """Return a scene of a block, or None."""

    def put(self, block: int, scene: int, sample: StereoSample) -> None:
        """Keep a scene of a block; older blocks may go."""

    def clear(self) -> None:
        """Forget everything."""


class MemoryShelf:
    """Keeps one block, in this process."""

    def __init__(self) -> None:
        self._block = -1
        self._kept: dict[int, StereoSample] = {}

    def get(self, block: int, scene: int) -> StereoSample | None:
        """Return a scene of a block, or None."""
        return self._kept.get(scene) if block == self._block else None

    def put(self, block: int, scene: int, sample: StereoSample) -> None:
        """Keep a scene; those of another block go."""
        if block != self._block:
            self._kept.clear()
            self._block = block
        self._kept[scene] = sample

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()


class FolderShelf:
    """Keeps two blocks in a folder that several processes share: all draw into it, each scene is drawn once.

    Where two want a scene at the same time, both draw it, and the result is the same.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._newest = -1

    def get(self, block: int, scene: int) -> StereoSample | None:
        """Return a scene of a block, or None."""
        try:
            content = torch.load(self._path(block, scene), weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return None
        return StereoSample(**(content | {"skipped": tuple(content["skipped"])}))

    def put(self, block: int, scene: int, sample: StereoSample) -> None:
        """Keep a scene; blocks before the last one go. Where there is no room, it is drawn again instead."""
        if block > self._newest:
            self._newest = block
            self._remove(block - 1)
        path = self._path(block, scene)
        part = path.with_name(f"{path.name}.{os.getpid()}")
        content = {field.name: getattr(sample, field.name) for field in fields(sample)}
        try:
            torch.save(content | {"skipped": list(sample.skipped)}, part)
            os.replace(part, path)
        except (OSError, RuntimeError):
            part.unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget everything."""
        self._remove(_ENDLESS)

    def _remove(self, before: int) -> None:
        for path in self.folder.glob(f"{self.name}-*.pt"):
            if int(path.stem.split("-")[-2]) < before:
                path.unlink(missing_ok=True)

    def _path(self, block: int, scene: int) -> Path:
        return self.folder / f"{self.name}-{block}-{scene}.pt"


class Replayed(Dataset[StereoSample]):
    """An endless data set in which each scene is used several times; sample `index` is a function of `(seed, index)`.

    Args:
        draw: scene number to the scene as it is kept.
        use: what is done to it each time.
        replay: how often each scene is used.
        block: scenes that are used in turns.
        seed: of the orders and of the changes.
    """

    def __init__(
        self, draw: Callable[[int], StereoSample], use: Change, *, replay: int, block: int, seed: int = 0
    ) -> None:
        self.draw, self.use = draw, use
        self.replay, self.block, self.seed = replay, block, seed
        self.shelf: Shelf = MemoryShelf()

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, index: int) -> StereoSample:
        """Return the sample at a place of the stream."""
        block, scene = self.scene(index)
        sample = self.shelf.get(block, scene)
        if sample is None:
            sample = self.draw(scene)
            self.shelf.put(block, scene, sample)
        return self.use(sample, np.random.default_rng([self.seed, _USING, index]))

    def scene(self, index: int) -> tuple[int, int]:
        """Return the block and the scene that a place uses."""
        block, rest = divmod(index, self.block * self.replay)
        turn, nth = divmod(rest, self.block)
        return block, block * self.block + int(_permutation(self.block, self.seed, block, turn)[nth])


@lru_cache(maxsize=16)
def _permutation(length: int, seed: int, block: int, turn: int) -> np.ndarray:
    return np.random.default_rng([seed, _ORDERING, block, turn]).permutation(length)
