"""Which left image belongs to which right one: files, folders and patterns of names."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crosspol.errors import MissingFileError, UsageError
from crosspol.io.images import IMAGE_SUFFIXES

# Words by which the names of a pair differ: left_007.png and right_007.png, 007_L.png and 007_R.png, 007_dolp.png.
_SIDE = re.compile(r"(?<![a-z])(left|right|l|r|dolp|pol|polarization|contrast)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Pair:
    """The files of one stereo pair, and how to call what is written for it."""

    left: Path
    right: Path
    polarization_left: Path | None
    polarization_right: Path | None
    stem: str

    def files(self) -> tuple[Path, ...]:
        """Return the files that there are."""
        every = (self.left, self.right, self.polarization_left, self.polarization_right)
        return tuple(path for path in every if path is not None)


def find_pairs(
    left: str, right: str, polarization_left: str | None = None, polarization_right: str | None = None
) -> list[Pair]:
    """Find the pairs that two arguments name, in the order of the left names.

    An argument is a file, a folder (all images in it) or a pattern such as ``run1/*_left.png``. Files belong together
    whose names agree but for words like left and right; where no names agree, the sorted names do in their order.

    Args:
        left: left views.
        right: right views, as many.
        polarization_left: polarization maps of the left views, as many; None where there are none.
        polarization_right: likewise of the right views.

    Raises:
        MissingFileError: an argument names nothing.
        UsageError: a folder without images, a pattern without matches, or an image without its partner.
    """
    lefts = _list_files(left)
    partners: list[Sequence[Path | None]] = [_match(lefts, _list_files(right), left, right)]
    for polarization in (polarization_left, polarization_right):
        partners.append(
            [None] * len(lefts)
            if polarization is None
            else _match(lefts, _list_files(polarization), left, polarization)
        )
    stems = _unique_stems(lefts)
    return [
        Pair(path, Path(right_path), pol_left, pol_right, stem)
        for path, right_path, pol_left, pol_right, stem in zip(lefts, *partners, stems, strict=True)
        if right_path is not None
    ]


def _list_files(argument: str) -> list[Path]:
    path = Path(argument)
    if path.is_dir():
        found = [file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()]
        if not found:
            raise UsageError(f"{path}: got a folder without images, wanted {', '.join(IMAGE_SUFFIXES)} files")
    elif path.exists():
        found = [path]
    elif re.search(r"[*?\[]", argument):
        found = [Path(name) for name in glob.glob(argument, recursive=True) if os.path.isfile(name)]
        if not found:
            raise MissingFileError(f"{argument}: no file has a name like this")
    else:
        raise MissingFileError(f"{path}: no such file or folder")
    return sorted(found)


def _match(lefts: list[Path], others: list[Path], left: str, other: str) -> list[Path]:
    """Return the partner of every left file."""
    left_keys, other_keys = _keys(lefts), _keys(others)
    by_key = dict(zip(other_keys, others, strict=True))
    common = set(left_keys) & by_key.keys()
    unique = len(set(left_keys)) == len(lefts) and len(by_key) == len(others)
    if common and unique and len(lefts) > 1:
        for path, key in zip(lefts, left_keys, strict=True):
            if key not in common:
                raise UsageError(f"{path}: got no partner of this name in {other}")
        for path, key in zip(others, other_keys, strict=True):
            if key not in common:
                raise UsageError(f"{path}: got no partner of this name in {left}")
        return [by_key[key] for key in left_keys]
    if len(lefts) != len(others):
        longer, shorter = (lefts, others) if len(lefts) > len(others) else (others, lefts)
        raise UsageError(
            f"{longer[len(shorter)]}: got no partner: {left} names {len(lefts)} files, {other} names {len(others)}"
        )
    return others


def _keys(paths: list[Path]) -> list[str]:
    """Return what is left of each path without the folder they share, the suffix, and the words of its side."""
    shared = os.path.commonpath([path.parent for path in paths]) or "."
    names = (path.relative_to(shared).with_suffix("").as_posix() for path in paths)
    return [re.sub(r"[\W_]+", " ", _SIDE.sub(" ", name)).strip() for name in names]


def _unique_stems(paths: list[Path]) -> list[str]:
    """Return names to write under: the files' own, with their folders' where they would collide."""
    stems = [path.stem for path in paths]
    if len(set(stems)) < len(stems):
        shared = os.path.commonpath([path.parent for path in paths]) or "."
        stems = ["_".join(path.relative_to(shared).with_suffix("").parts) for path in paths]
    stem, count = Counter(stems).most_common(1)[0]
    if count > 1:
        twins = [str(path) for path, own in zip(paths, stems, strict=True) if own == stem]
        raise UsageError(f"{' and '.join(twins[:2])}: got two images of one name, wanted different names")
    return stems
