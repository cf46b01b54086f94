"""Scenes that are drawn once and used several times.

A stream is divided into blocks of scenes. Each block is passed over `replay` times, every time in an order of its own,
and every use is changed otherwise. Which scene a place uses, and how, follows from the place: what is kept is only a
memo, and a run that is resumed draws again what it needs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from crosspol.data.sample import StereoSample
from crosspol.data.transforms import Change
from crosspol.io.atomic import neighbor

_ENDLESS = 2**62
# What a generator of `Replayed` is for: no two draw the same numbers.
_USING, _ORDERING = range(2)


Packed = dict[str, Any]
"""A sample as plain data, in a third of its memory."""

# Bytes of a pixel of a packed sample of a quad rig with three polarization channels: the most there is.
PACKED_BYTES = 6 + 12 + 2 + 4 + 3
_UNKNOWN = 255
_MASKS = ("valid", "glass", "occluded", "valid_left", "valid_right")


def pack(sample: StereoSample) -> Packed:
    """Return a sample as it is kept: images in 8 bits, polarization in half floats, masks in bytes.

    Images have 8 bits anyway, unless they were scaled; half floats are finer than any sensor's noise.
    """
    packed: Packed = {}
    for field in fields(sample):
        value = getattr(sample, field.name)
        if field.name in ("left", "right"):
            value = (255 * value).round().to(torch.uint8)
        elif field.name in _MASKS and value is not None:
            # Of glass not everything is known.
            value = torch.where(value.isfinite(), value, float(_UNKNOWN)).to(torch.uint8)
        elif field.name.startswith(("pol_", "intensity_")) and value is not None:
            value = value.half()
        elif field.name == "skipped":
            value = list(value)
        packed[field.name] = value
    return packed


def unpack(packed: Packed) -> StereoSample:
    """Return the sample that was packed."""
    values = {name: value.float() if isinstance(value, Tensor) else value for name, value in packed.items()}
    decoded = {name: values[name] / 255 for name in ("left", "right")}
    decoded["glass"] = torch.where(values["glass"] == _UNKNOWN, math.nan, values["glass"])
    return StereoSample(**(values | decoded | {"skipped": tuple(values["skipped"])}))


class Shelf(Protocol):
    """Where the scenes of a block are kept."""

    def get(self, block: int, scene: int) -> Packed | None:
        """Return a scene of a block, or None."""

    def put(self, block: int, scene: int, packed: Packed) -> None:
        """Keep a scene of a block; older blocks may go."""

    def clear(self) -> None:
        """Forget everything."""


class MemoryShelf:
    """Keeps one block, in this process."""

    def __init__(self) -> None:
        self._block = -1
        self._kept: dict[int, Packed] = {}

    def get(self, block: int, scene: int) -> Packed | None:
        """Return a scene of a block, or None."""
        return self._kept.get(scene) if block == self._block else None

    def put(self, block: int, scene: int, packed: Packed) -> None:
        """Keep a scene; those of another block go."""
        if block != self._block:
            self._kept.clear()
            self._block = block
        self._kept[scene] = packed

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

    def get(self, block: int, scene: int) -> Packed | None:
        """Return a scene of a block, or None."""
        try:
            packed: Packed = torch.load(self._path(block, scene), weights_only=True)
        except Exception:  # a damaged pickle raises whatever its bytes lead to
            return None
        return packed

    def put(self, block: int, scene: int, packed: Packed) -> None:
        """Keep a scene; blocks before the last one go. Where there is no room, it is drawn again instead."""
        if block > self._newest:
            self._newest = block
            self._remove(block - 1)
        path = self._path(block, scene)
        part = neighbor(path)
        try:
            torch.save(packed, part)
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
        packed = self.shelf.get(block, scene)
        if packed is None:
            packed = pack(self.draw(scene))
            self.shelf.put(block, scene, packed)
        return self.use(unpack(packed), np.random.default_rng([self.seed, _USING, index]))

    def scene(self, index: int) -> tuple[int, int]:
        """Return the block and the scene that a place uses."""
        block, rest = divmod(index, self.block * self.replay)
        turn, nth = divmod(rest, self.block)
        return block, block * self.block + int(_permutation(self.block, self.seed, block, turn)[nth])


@lru_cache(maxsize=16)
def _permutation(length: int, seed: int, block: int, turn: int) -> np.ndarray:
    return np.random.default_rng([seed, _ORDERING, block, turn]).permutation(length)
