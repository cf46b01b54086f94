"""Videos whose frames do not belong together any more."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crosspol.commands import sources
from crosspol.errors import UsageError


class Played:
    """A video that was decoded already: times of its frames."""

    def __init__(self, path: str, times: list[float], count: int | None = None) -> None:
        self.path, self.times, self.fps = Path(path), times, 10.0
        self.count = len(times) if count is None else count
        self.height, self.width = 32, 40
        self.place = -1

    @property
    def time(self) -> float | None:
        return self.times[self.place] if self.place >= 0 else None

    def skip(self) -> bool:
        self.place += 1
        return self.place < len(self.times)

    def read(self) -> Any:
        return "frame" if self.skip() else None

    def close(self) -> None:
        pass

    def __enter__(self) -> Played:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def play(monkeypatch: pytest.MonkeyPatch, left: list[float], right: list[float], skip: set[int] = frozenset()) -> Any:
    """Frames that come of two videos with these times, and what is wrong with the next one."""
    made = {"l.mp4": left, "r.mp4": right}
    monkeypatch.setattr(sources, "Video", lambda path: Played(str(path), made[str(path)]))
    source = sources.VideoPairs(Path("l.mp4"), Path("r.mp4"), sources.Known())
    names: list[str] = []
    wanted = lambda stem, files: int(stem[-6:]) not in skip  # noqa: E731
    try:
        for item in source.items(SimpleNamespace(), wanted):  # type: ignore[arg-type]
            names.append(item.stem)
    except UsageError as error:
        return names, str(error)
    return names, ""


def test_a_frame_that_is_missing_in_the_middle_is_found_by_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [index / 10 for index in range(8)]
    assert play(monkeypatch, whole, whole) == ([f"l_{index:06d}" for index in range(1, 9)], "")
    lost = whole[:3] + whole[4:]
    names, says = play(monkeypatch, whole, lost)
    assert names == ["l_000001", "l_000002", "l_000003"]
    assert (
        says
        == "r.mp4: got frame 4 at 0.400 s, wanted it at 0.300 s as in l.mp4: a frame before it is missing or broken"
    )
    # In frames that are passed over as well.
    assert play(monkeypatch, lost, whole, skip={2, 4, 5})[1].startswith("l.mp4: got frame 4 at 0.400 s")


def test_cameras_that_are_a_little_apart_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    left = [index / 10 for index in range(5)]
    right = [time + (-1) ** index * 0.03 for index, time in enumerate(left)]
    assert play(monkeypatch, left, right)[1] == ""


def test_what_is_wanted_alone_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [index / 10 for index in range(5)]
    assert play(monkeypatch, times, times, skip={1, 3})[0] == ["l_000002", "l_000004", "l_000005"]
