"""RPS: pairs of two polarization cameras with dense disparities.

Source: Tian et al., DPS-Net: deep polarimetric stereo depth estimation, ICCV 2023; the layout and the units are those
that its authors' program reads. No file of the data set was at hand when this was written.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosspol.data.truth import GroundTruth
from crosspol.datasets.pairs import PlainPair, PlainPairs, existing, found, image_plane
from crosspol.datasets.reader import Reader, Request
from crosspol.errors import UsageError
from crosspol.io.disparity import read_disparity
from crosspol.io.images import read_image
from crosspol.io.reading import read_bytes
from crosspol.io.text import decode_text
from crosspol.rigs.kinds import RigKind

__all__ = ["READER", "rps"]

_RIGS: tuple[RigKind, ...] = ("quad", "quad-left", "none")
# Its PNGs hold DoLP, and AoLP in radians, times this; in RGB, blue is DoLP and green is AoLP.
_SCALE = 10_000
_DOLP, _AOLP = 2, 1
_LIST = "RPS_Dataset_{}.list"


def rps(root: str | os.PathLike[str], rig: RigKind = "quad", split: str | None = None) -> PlainPairs:
    """RPS, with DoLP as its polarization.

    Expects a folder a place, at any depth:

        RPS/Office1/l_103.png, r_103.png                  8 bits
        RPS/Office1/lpL_103.png, lpR_103.png              16 bits in color: DoLP x 10000 in blue, AoLP in green
        RPS/Office1/disp_103.pfm                          px
        RPS/Office1/v_103.png                             0 = the disparity is not valid
        RPS_Dataset_TRAIN.list, also VAL and TEST         from the authors' program, names the split; may be missing

    DoLP is not known where DoLP and AoLP are both 0, and where DoLP is above 1, as in the authors' program. AoLP is not
    used: which way it turns is said nowhere, and S2 of the wrong sign would train silently.

    Args:
        root: the folder with the places, or the one above it.
        rig: what to show of them: "quad" both views' DoLP, "quad-left" the left view's, "none" the images alone.
        split: train, val or test, where the list is there; None: all pairs.

    Raises:
        MissingFileError: there is no such folder.
        UsageError: no pair is in it, there is no such list, or the rig is another one.
    """
    root = existing(root)
    if rig not in _RIGS:
        raise UsageError(f"{root}: got rig {rig}, wanted one of {', '.join(_RIGS)} for RPS")
    lists = _lists(root)
    if split is not None and split not in lists:
        raise UsageError(
            f"{root}: got split {split!r}, wanted {_LIST.format(split.upper())} in it, which names its pairs"
        )
    wanted = None if split is None else _listed(lists[split])
    pairs = []
    for disparity in sorted(root.rglob("disp_*.pfm")):
        place, number = disparity.parent, disparity.stem.removeprefix("disp_")
        left, right, *maps = (place / f"{name}_{number}.png" for name in ("l", "r", "lpL", "lpR"))
        complete = all(path.exists() for path in (left, right, *maps))
        if complete and (wanted is None or (place.resolve().name, number) in wanted):
            name = (place.relative_to(root) / number).as_posix()
            dolp = partial(_dolp, maps[0]), partial(_dolp, maps[1])
            pairs.append(PlainPair(name, left, right, partial(_truth, disparity, place / f"v_{number}.png"), maps=dolp))
    samples = found(pairs, root, "PLACE/disp_*.pfm with l_*, r_*, lpL_* and lpR_*.png")
    return PlainPairs(samples.pairs, rig, splits=lists if split is None else (split,))


def _lists(root: Path) -> dict[str, Path]:
    """Return the lists that are there, by the names of their splits."""
    paths = {split: root / _LIST.format(split.upper()) for split in ("train", "val", "test")}
    return {split: path for split, path in paths.items() if path.exists()}


def _listed(path: Path) -> set[tuple[str, str]]:
    """Return place and number of the pairs in a list, whose lines are such as "RPS/Office1<tab>103"."""
    pairs = set()
    for count, line in enumerate(decode_text(read_bytes(path)).splitlines(), 1):
        if line.strip():
            words = line.split()
            if len(words) != 2:
                raise UsageError(f"{path}: line {count}: got {line.strip()!r}, wanted a folder and a number")
            pairs.add((Path(words[0]).name, words[1]))
    return pairs


def _dolp(path: Path) -> NDArray[np.float32]:
    """Read DoLP (H, W); NaN = not known."""
    stored: NDArray[Any] = read_image(path)
    if stored.dtype != np.uint16 or stored.ndim != 3:
        raise UsageError(
            f"{path}: got {stored.dtype} of shape {stored.shape}, wanted uint16 in color: DoLP, AoLP x 10000"
        )
    values, angle = stored[..., _DOLP], stored[..., _AOLP]
    known = (values <= _SCALE) & ((values > 0) | (angle > 0))
    dolp: NDArray[np.float32] = np.where(known, values / _SCALE, np.nan).astype(np.float32)
    return dolp


def _truth(disparity: Path, valid: Path) -> GroundTruth:
    values = read_disparity(disparity, zero_is_unknown=True)
    seen = image_plane(valid, values.shape) != 0
    return GroundTruth(np.where(seen, values, np.float32(np.nan)))


def _opened(request: Request) -> PlainPairs:
    if request.plain:
        raise UsageError(f"{request.path}: got RPS, wanted pairs without polarization for virtual_glass")
    if request.rig != "none" and request.pol_channels != 1:
        raise UsageError(
            f"{request.path}: got a network of {request.pol_channels} polarization channels, wanted one of 1 (DoLP) "
            "for RPS, or rig none: which way its AoLP turns is not known"
        )
    return rps(request.path, request.rig, request.split)


def _splits(request: Request) -> Collection[str]:
    return _lists(existing(request.path))


READER = Reader(
    _opened,
    lambda _: _RIGS,
    _splits,
    polarized=True,
    settings=frozenset({"split", "validation_split"}),
    layout=("**/lpL_*.png",),
    wanted="RPS (PLACE/l_1.png, lpL_1.png, disp_1.pfm)",
)
