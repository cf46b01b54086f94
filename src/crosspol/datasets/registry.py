"""Every kind of data set that a run can take from a disk, by the word that names it in `data.sources`."""

from __future__ import annotations

from crosspol.datasets import manifest, scene_folder
from crosspol.datasets.benchmarks.booster import READER as BOOSTER
from crosspol.datasets.benchmarks.instereo2k import READER as INSTEREO2K
from crosspol.datasets.benchmarks.kitti import READER as KITTI
from crosspol.datasets.benchmarks.pair_folders import READER as PAIRS
from crosspol.datasets.benchmarks.rps import READER as RPS
from crosspol.datasets.benchmarks.sceneflow import READER as SCENEFLOW
from crosspol.datasets.benchmarks.two_view import ETH3D, MIDDLEBURY
from crosspol.datasets.reader import Reader

__all__ = ["KINDS", "PROCEDURAL", "SOURCES", "SourceKind"]

SourceKind = str
"""One of `KINDS`."""

PROCEDURAL: SourceKind = "procedural"
"""Scenes that are drawn when they are asked for, and on no disk."""

# Folders are recognized in this order: Booster's images have Middlebury's names.
SOURCES: dict[SourceKind, Reader] = {
    "scenes": scene_folder.READER,
    "manifest": manifest.READER,
    "pairs": PAIRS,
    "sceneflow": SCENEFLOW,
    "kitti": KITTI,
    "booster": BOOSTER,
    "instereo2k": INSTEREO2K,
    "middlebury": MIDDLEBURY,
    "eth3d": ETH3D,
    "rps": RPS,
}

KINDS: tuple[SourceKind, ...] = (PROCEDURAL, *SOURCES)
