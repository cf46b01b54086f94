"""Pairs as they come: from a folder that cameras write into, from a video at its own speed, or a pair that is there."""

from __future__ import annotations

import glob
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol

from crosspol.commands.pairs import RAW_SUFFIXES, Pair, key_of, side_of
from crosspol.commands.sources import Arguments, FilePairs, Known, RigPairs, Source, VideoPairs, find_source
from crosspol.errors import refuse
from crosspol.inference.items import Item
from crosspol.inference.predictor import StereoPredictor
from crosspol.io.growing import WholeFiles
from crosspol.io.images import IMAGE_SUFFIXES
from crosspol.rigs.reader import RigReader

__all__ = ["LiveSource", "find_live_source"]

Tell = Callable[[str], None]
Side = Literal["left", "right"]

_WILD = re.compile(r"[*?\[]")

_EVERY = 0.05
"""s between looks at a folder."""
_PATIENCE = 2.0
"""s after which a file without a partner is given up."""
_FPS = 30.0
"""Of a video whose header does not say."""


class LiveSource(Protocol):
    """Pairs as they come."""

    def announce(self) -> str:
        """Say where they come from."""

    def check(self, predictor: StereoPredictor) -> None:
        """Refuse what can be seen before anything is read.

        Raises:
            UsageError: something cannot be predicted.
        """

    def items(self, predictor: StereoPredictor, stop: threading.Event, tell: Tell) -> Iterator[Item]:
        """Yield pairs when they are there, until there are no more or `stop` is set, in the thread that asks for them.

        Args:
            predictor: that they are read for.
            stop: ends the wait for more.
            tell: called with a line about what is passed over.
        """


def find_live_source(arguments: Arguments, every_pair: bool = False) -> LiveSource:
    """Find what the arguments name: a folder or a pattern is watched, a video is played, a pair is shown.

    Args:
        arguments: of these, `right` may be missing beside a folder that both cameras write into.
        every_pair: a folder's pairs from the first one on, and a video's frames as fast as they are asked for.

    Raises:
        UsageError: they name nothing, or contradict each other.
    """
    watched = [path for path in (arguments.left, arguments.right) if path is not None and _is_watched(path)]
    if not watched:
        arguments = replace(arguments, keep_polarization=_measures_polarization(arguments))
        source = find_source(arguments)
        return _Played(source, every_pair) if isinstance(source, VideoPairs) else _There(source)
    given = {
        "--polarization-left": arguments.polarization_left,
        "--polarization-right": arguments.polarization_right,
        "--side-by-side": arguments.side_by_side or None,
    }
    for flag, value in given.items():
        if value is not None:
            raise refuse(flag, f"{watched[0]}, which is watched", "a pair or a video beside it")
    return Watched(arguments, every_pair)


def _is_watched(argument: str) -> bool:
    path = Path(argument)
    return path.is_dir() or (not path.exists() and _WILD.search(argument) is not None)


def _measures_polarization(arguments: Arguments) -> bool:
    if arguments.rig is not None:
        return RigReader(arguments.rig).rig.kind in ("quad", "quad-left")
    return arguments.polarization_left is not None or arguments.polarization_right is not None


class _There:
    """What is there already, such as a pair of files."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def announce(self) -> str:
        return self._source.announce() or "one pair"

    def check(self, predictor: StereoPredictor) -> None:
        self._source.check(predictor)

    def items(self, predictor: StereoPredictor, stop: threading.Event, tell: Tell) -> Iterator[Item]:
        return self._source.items(predictor, _wanted)


class _Played:
    """A video, at its own speed; what is decoded late comes late, and nothing is caught up with."""

    def __init__(self, source: VideoPairs, every_pair: bool) -> None:
        self._source, self._every_pair = source, every_pair

    def announce(self) -> str:
        return self._source.announce() or "a video"

    def check(self, predictor: StereoPredictor) -> None:
        self._source.check(predictor)

    def items(self, predictor: StereoPredictor, stop: threading.Event, tell: Tell) -> Iterator[Item]:
        due, step = time.monotonic(), 1 / (self._source.fps or _FPS)
        for item in self._source.items(predictor, _wanted):
            if not self._every_pair:
                now = time.monotonic()
                if stop.wait(max(due - now, 0)):
                    return
                due = max(due, now) + step
            yield item


class Watched:
    """One or two folders or patterns; files belong together whose names agree but for words like left and right."""

    def __init__(self, arguments: Arguments, every_pair: bool = False) -> None:
        self.arguments = replace(arguments, keep_polarization=_measures_polarization(arguments))
        self.every_pair = every_pair
        self.reader = None if arguments.rig is None else RigReader(arguments.rig)
        self.known = Known.read(arguments)
        suffixes = IMAGE_SUFFIXES if self.reader is None else (*IMAGE_SUFFIXES, ".exr", *RAW_SUFFIXES)
        if arguments.right is None:
            self.places = [_Place(arguments.left, None, suffixes)]
        else:
            self.places = [_Place(arguments.left, "left", suffixes), _Place(arguments.right, "right", suffixes)]

    def announce(self) -> str:
        """Say what is watched."""
        return f"watching {' and '.join(place.argument for place in self.places)}"

    def check(self, predictor: StereoPredictor) -> None:
        """Check that the network has a use for the rig."""
        if self.reader is not None:
            predictor.check_rig(self.reader.rig.kind)

    def items(self, predictor: StereoPredictor, stop: threading.Event, tell: Tell) -> Iterator[Item]:
        """Yield pairs when both files are whole: of those that are there at the beginning the newest one, by its name.

        A file that stays without a partner is told about, and so is one whose name says no side.
        """
        watches = [(place, WholeFiles(place.paths)) for place in self.places]
        waiting: dict[str, dict[str, Path]] = {}
        since: dict[str, float] = {}
        newest_only = not self.every_pair
        while not stop.is_set():
            for place, watch in watches:
                for path in watch.look():
                    side = place.side_of(path)
                    if side is None:
                        tell(f"{path}: got a name without left and right, or l and r, wanted one that says its view")
                    else:
                        waiting.setdefault(place.key_of(path), {})[side] = path
            complete = sorted((key for key, views in waiting.items() if len(views) == 2), key=_by_number)
            pairs = [waiting.pop(key) for key in complete]
            for views in pairs[-1:] if newest_only else pairs:
                yield self._item(Pair(views["left"], views["right"], None, None, views["left"].stem), predictor)
            newest_only = newest_only and not pairs
            now = time.monotonic()
            since = {key: since.get(key, now) for key in waiting}
            for key in [key for key, begin in since.items() if now - begin > _PATIENCE]:
                tell(f"{next(iter(waiting.pop(key).values()))}: no partner came within {_PATIENCE:g} s")
            stop.wait(_EVERY)

    def _item(self, pair: Pair, predictor: StereoPredictor) -> Item:
        pairs = (
            FilePairs([pair], self.arguments, self.known)
            if self.reader is None
            else RigPairs([pair], self.reader, self.arguments)
        )
        return next(pairs.items(predictor, _wanted))


class _Place:
    """A folder, or a pattern of paths, and the view that is in it; None: names say which."""

    def __init__(self, argument: str, side: Side | None, suffixes: tuple[str, ...]) -> None:
        self.argument, self.side, self.suffixes = argument, side, suffixes
        self.folder = Path(argument)
        while _WILD.search(str(self.folder)) and not self.folder.is_dir():
            self.folder = self.folder.parent
        if not self.folder.is_dir():
            raise refuse(argument, "no folder", "a folder or a quoted pattern, as the other view is")

    def paths(self) -> list[Path]:
        """What is there now."""
        if self.folder != Path(self.argument):
            return [Path(name) for name in glob.glob(self.argument, recursive=True)]
        try:
            return [path for path in self.folder.iterdir() if path.suffix.lower() in self.suffixes]
        except FileNotFoundError:  # it was removed, and may come again
            return []

    def side_of(self, path: Path) -> Side | None:
        """Which view a file is."""
        return side_of(path.stem) if self.side is None else self.side

    def key_of(self, path: Path) -> str:
        """What the names of a pair share."""
        return key_of(path.relative_to(self.folder).with_suffix("").as_posix())


def _by_number(key: str) -> list[tuple[int, str]]:
    """Orders names as people count: 9 before 10."""
    return [(int(word), "") if word.isdecimal() else (-1, word) for word in re.findall(r"\d+|\D+", key)]


def _wanted(stem: str, files: tuple[Path, ...]) -> bool:
    return True
