"""Which left image belongs to which right one: files, folders and patterns of names."""

from __future__ import annotations

import bisect
import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Literal

from crosspol.errors import MissingFileError, UsageError
from crosspol.io.images import IMAGE_SUFFIXES

RAW_SUFFIXES = (".raw", ".bin")
"""Of the raw binary frames that are looked for in a folder; a pattern or a file may have any."""

# Words by which the names of a pair differ: left_007.png and right_007.png, 007_L.png and 007_R.png, 007_dolp.png.
_SIDE = re.compile(r"(?<![a-z])(left|right|l|r|dolp|pol|polarization|contrast)(?![a-z])", re.IGNORECASE)

_SIDES: dict[str, Literal["left", "right"]] = {"left": "left", "l": "left", "right": "right", "r": "right"}


@dataclass(frozen=True)
class Pair:
    """The files of one stereo pair, and how to call what is written for it."""

    left: Path
    right: Path
    polarization_left: Path | None
    polarization_right: Path | None
    stem: str
    apart: Fraction | None = None
    """By how much the numbers in the names of the views differ, where they were paired by that."""

    def files(self) -> tuple[Path, ...]:
        """Return the files that there are."""
        every = (self.left, self.right, self.polarization_left, self.polarization_right)
        return tuple(path for path in every if path is not None)


def find_pairs(
    left: str,
    right: str,
    polarization_left: str | None = None,
    polarization_right: str | None = None,
    suffixes: Sequence[str] = IMAGE_SUFFIXES,
) -> list[Pair]:
    """Find the pairs that two arguments name, in the order of the left names.

    An argument is a file, a folder (all images in it) or a pattern such as ``run1/*_left.png``. Files belong together
    whose names agree but for words like left and right. Where they do not and are all numbers, such as the times of two
    cameras that were not triggered together, those belong together that are nearest to each other and clearly nearer
    than to any other: at most a quarter of the usual step between the left ones.

    Args:
        left: left views.
        right: right views, as many.
        polarization_left: polarization maps of the left views, as many; None where there are none.
        polarization_right: likewise of the right views.
        suffixes: of the files that are taken from folders.

    Raises:
        MissingFileError: an argument names nothing.
        UsageError: a folder without images, a pattern without matches, an image without its partner, or names that do
            not say which belong together.
    """
    lefts = _list_files(left, suffixes)
    stems = _unique_stems(lefts)
    rights = _match(lefts, _list_files(right, suffixes), left, right)
    partners: list[Sequence[Path | None]] = []
    for polarization in (polarization_left, polarization_right):
        partners.append(
            [None] * len(lefts)
            if polarization is None
            else _match(lefts, _list_files(polarization), left, polarization)
        )
    return [
        Pair(path, right_path, pol_left, pol_right, stem, apart)
        for path, right_path, pol_left, pol_right, stem, apart in zip(
            lefts, rights, *partners, stems, _apart(lefts, rights), strict=True
        )
    ]


def list_images(argument: str) -> list[tuple[Path, str]]:
    """Find the images that an argument names, each with a name to write under; see `find_pairs`.

    Raises:
        MissingFileError: it names nothing.
        UsageError: a folder without images, a pattern without matches, or two images of one name.
    """
    paths = _list_files(argument)
    return list(zip(paths, _unique_stems(paths), strict=True))


def _list_files(argument: str, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> list[Path]:
    path = Path(argument)
    if path.is_dir():
        found = [file for file in path.iterdir() if file.suffix.lower() in suffixes and file.is_file()]
        if not found:
            raise UsageError(f"{path}: got a folder without images, wanted {', '.join(suffixes)} files")
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
    if len(lefts) == len(others) == 1:
        return others
    by_name = {path.name: path for path in others}
    if len(by_name) == len(lefts) == len(others) and by_name.keys() == {path.name for path in lefts}:
        return [by_name[path.name] for path in lefts]
    left_keys, other_keys = _keys(lefts), _keys(others)
    by_key = dict(zip(other_keys, others, strict=True))
    common = set(left_keys) & by_key.keys()
    unique = len(set(left_keys)) == len(lefts) and len(by_key) == len(others)
    if unique and set(left_keys) == by_key.keys():
        return [by_key[key] for key in left_keys]
    times, other_times = _numbers(left_keys), _numbers(other_keys)
    if times is not None and other_times is not None and len(times) > 1 and not common:
        return _nearest(lefts, times, others, other_times, other)
    if common and unique and len(lefts) > 1:
        for path, key in zip(lefts, left_keys, strict=True):
            if key not in common:
                raise UsageError(f"{path}: got no partner of this name in {other}")
        for path, key in zip(others, other_keys, strict=True):
            if key not in common:
                raise UsageError(f"{path}: got no partner of this name in {left}")
    if len(lefts) != len(others):
        longer, shorter = (lefts, others) if len(lefts) > len(others) else (others, lefts)
        files = "1 file" if len(lefts) == 1 else f"{len(lefts)} files"
        raise UsageError(f"{longer[len(shorter)]}: got no partner: {left} names {files}, {other} names {len(others)}")
    raise UsageError(
        f"{lefts[0]}: got no partner of this name in {other} (its first is {others[0].name}), wanted names that agree "
        "but for words like left and right, or numbers such as times"
    )


def _nearest(
    lefts: list[Path], times: list[Fraction], others: list[Path], other_times: list[Fraction], other: str
) -> list[Path]:
    """Return the file nearest in time to each left one; refuse where it is not clear which that is."""
    ordered = sorted(times)
    step = sorted(later - earlier for earlier, later in pairwise(ordered))[len(ordered) // 2 - 1]
    by_time = sorted(zip(other_times, others, strict=True))
    known = [time for time, _ in by_time]
    partners: dict[Path, Path] = {}
    for path, time in zip(lefts, times, strict=True):
        place = bisect.bisect(known, time)
        around = by_time[max(place - 1, 0) : place + 1]
        apart, partner = min((abs(near - time), file) for near, file in around)
        if 4 * apart > step:
            raise UsageError(
                f"{path}: got no partner in {other}: the nearest, {partner.name}, is {float(apart):g} away, wanted at "
                f"most a quarter of the usual step, {float(step):g}"
            )
        if partner in partners:
            raise UsageError(f"{partner}: got two partners, {partners[partner].name} and {path.name}, wanted one")
        partners[partner] = path
    for file in others:
        if file not in partners:
            raise UsageError(f"{file}: got no partner among the {len(lefts)} left images")
    return list(partners)


def _numbers(keys: list[str]) -> list[Fraction] | None:
    """Return the numbers that the names are, None where one is none; a point has become a space in the keys."""
    found = [re.fullmatch(r"(\d+)(?: (\d+))?", key) for key in keys]
    if not all(found):
        return None
    return [Fraction(f"{match[1]}.{match[2] or 0}") for match in found if match]


def _apart(lefts: list[Path], rights: list[Path]) -> list[Fraction | None]:
    """Return how far the numbers in each pair's names are apart; None where the names agree or say no number."""
    if len(lefts) == 1:
        return [None]
    keys = _keys(lefts), _keys(rights)
    if sorted(keys[0]) == sorted(keys[1]):
        return [None] * len(lefts)
    times = _numbers(keys[0]), _numbers(keys[1])
    if times[0] is None or times[1] is None:
        return [None] * len(lefts)
    return [abs(one - other) for one, other in zip(times[0], times[1], strict=True)]


def _keys(paths: list[Path]) -> list[str]:
    """Return what is left of each path without the folder they share, the suffix, and the words of its side."""
    shared = os.path.commonpath([path.parent for path in paths]) or "."
    return [key_of(path.relative_to(shared).with_suffix("").as_posix()) for path in paths]


def key_of(name: str) -> str:
    """Return what is left of a name without the words of its side: the same for both views of a pair."""
    return re.sub(r"[\W_]+", " ", _SIDE.sub(" ", name)).strip()


def side_of(name: str) -> Literal["left", "right"] | None:
    """Return which view a name says that it is, by its words; None where it says none, or both."""
    sides = {_SIDES[word] for word in map(str.lower, _SIDE.findall(name)) if word in _SIDES}
    return sides.pop() if len(sides) == 1 else None


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
