"""Public stereo data sets, as they lie on a disk after unpacking: a file each, with the tree that it expects.

Each function finds the pairs of one data set in its folder and returns them as `PlainPairs`. `virtual_glass` can put
polarized panes into those without polarization. A new one is a file like these with a `READER`, and a line in
`crosspol.datasets.registry.SOURCES`.
"""

from crosspol.datasets.benchmarks.booster import booster
from crosspol.datasets.benchmarks.instereo2k import instereo2k
from crosspol.datasets.benchmarks.kitti import kitti
from crosspol.datasets.benchmarks.pair_folders import pair_folders
from crosspol.datasets.benchmarks.rps import rps
from crosspol.datasets.benchmarks.sceneflow import sceneflow
from crosspol.datasets.benchmarks.two_view import eth3d, middlebury
from crosspol.datasets.pairs import PlainPair, PlainPairs

__all__ = [
    "PlainPair",
    "PlainPairs",
    "booster",
    "eth3d",
    "instereo2k",
    "kitti",
    "middlebury",
    "pair_folders",
    "rps",
    "sceneflow",
]
