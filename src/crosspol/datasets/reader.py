"""What a data set is to a run, and what its reader says about its kind.

A new kind of data set is one file with a `Reader` (see `crosspol.datasets.benchmarks`), and one line in
`crosspol.datasets.registry.SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from crosspol.data.indexed import SizedSamples
from crosspol.rigs.frames import Frame
from crosspol.rigs.kinds import RigKind

__all__ = ["CameraModel", "Reader", "Request", "Source"]

CameraModel = Callable[[Frame, Frame, np.random.Generator], tuple[Frame, Frame]]
"""What stands between the light of a scene and what is recorded of it: both views' frames, to what the cameras make of
them."""


class Source(SizedSamples, Protocol):
    """A data set on a disk, opened for one rig and one of its splits."""

    @property
    def rig(self) -> RigKind:
        """What its samples were recorded by."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Names of its samples, in their order; a data set that repeats itself has fewer names than samples."""
        ...

    @property
    def splits(self) -> Collection[str]:
        """The splits that its samples name."""
        ...


@dataclass(frozen=True)
class Request:
    """How a run wants a data set opened; readers look at what concerns them.

    path: folder or file.
    rig: what the samples are to be recorded by.
    split: only samples of this split; None: all.
    plain: only pairs that were recorded without polarization, because panes are to be put into them.
    pol_channels: of the network, 1 or 3.
    rig_file: `rig.yaml` of the cameras whose frames a table lists.
    camera: what records the light of scenes; None: nothing is added to it.
    seed: of the camera's noise.
    repeats: how often a data set that passes `camera` goes through, recorded otherwise each time.
    """

    path: str
    rig: RigKind = "none"
    split: str | None = None
    plain: bool = False
    pol_channels: int = 1
    rig_file: str | None = None
    camera: CameraModel | None = None
    seed: int = 0
    repeats: int = 1


def _plain(_: Request) -> Collection[RigKind]:
    plain: tuple[RigKind, ...] = ("none",)
    return plain


@dataclass(frozen=True)
class Reader:
    """One kind of data set.

    open: the data set as a `Source`. Raises `UsageError` with the path, what was found there and what was wanted.
    rigs: the rigs that the data set at this path can serve; "none" unless said otherwise.
    splits: the splits that the data set at this path names, of which "train" is trained on unless a run says otherwise;
        None: the kind names none, and all is trained on.
    polarized: whether it may have been recorded with polarization; else panes are put into it, or the rig is none.
    settings: those of `SourceConfig` that not every kind has a use for: split, validation_split, rig_file, sensor.
    on_disk: what `path` is.
    layout: patterns by which a folder of this kind is recognized, where evaluation is given one; none: it is not.
    wanted: these in words.
    """

    open: Callable[[Request], Source]
    rigs: Callable[[Request], Collection[RigKind]] = _plain
    splits: Callable[[Request], Collection[str]] | None = None
    polarized: bool = False
    settings: frozenset[str] = frozenset()
    on_disk: str = "a folder"
    layout: tuple[str, ...] = ()
    wanted: str = ""

    @property
    def names_splits(self) -> bool:
        """Whether data sets of this kind can name splits."""
        return self.splits is not None

    def named_splits(self, request: Request) -> Collection[str]:
        """Return the splits that the data set at this path names."""
        return () if self.splits is None else self.splits(request)

    def serves(self, request: Request) -> bool:
        """Whether the data set at this path has what the rig of the request records."""
        return request.rig in self.rigs(request)

    def recognizes(self, folder: Path) -> bool:
        """Whether a folder holds a data set of this kind."""
        return any(next(folder.glob(pattern), None) is not None for pattern in self.layout)
