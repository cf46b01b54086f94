"""Where live pairs come from: one folder, two, patterns, videos; and what is said of what does not fit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from crosspol.commands import live
from crosspol.commands.live import find_live_source
from crosspol.commands.sources import Arguments
from crosspol.errors import UsageError
from crosspol.inference.items import Item
from crosspol.inference.predictor import StereoPredictor
from crosspol.io.images import write_image
from crosspol.rigs.rig import Camera, Rig
from tests.open_network import open_network

HEIGHT, WIDTH = 40, 52


@pytest.fixture(scope="module")
def predictor() -> StereoPredictor:
    return StereoPredictor(open_network(), device="cpu", iters=1)


class Looks(threading.Event):
    """A stop that does something at every look, waits for no time, and ends after so many looks."""

    def __init__(self, at: dict[int, Callable[[], Any]] | None = None, most: int = 12) -> None:
        super().__init__()
        self.at, self.most, self.count = at or {}, most, 0

    def is_set(self) -> bool:
        return self.count >= self.most

    def wait(self, timeout: float | None = None) -> bool:
        self.count += 1
        self.at.get(self.count, lambda: None)()
        return self.is_set()


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_image(path, np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def watch(
    predictor: StereoPredictor, arguments: Arguments, stop: Looks, every_pair: bool = False
) -> tuple[list[Item], list[str]]:
    told: list[str] = []
    source = find_live_source(arguments, every_pair)
    source.check(predictor)
    return list(source.items(predictor, stop, told.append)), told


def test_both_views_in_one_folder_are_told_apart_by_their_names(predictor: StereoPredictor, tmp_path: Path) -> None:
    def camera() -> None:
        picture(tmp_path / "right_0001.png", 1)
        picture(tmp_path / "left_0001.png", 2)
        picture(tmp_path / "0002_R.png", 3)

    stop = Looks({2: camera, 4: lambda: picture(tmp_path / "0002_L.png", 4), 5: lambda: picture(tmp_path / "x.png")})
    items, told = watch(predictor, Arguments(str(tmp_path), None), stop)
    assert [item.stem for item in items] == ["left_0001", "0002_L"]
    assert items[1].files == (tmp_path / "0002_L.png", tmp_path / "0002_R.png")
    assert items[0].load().inputs.size == (HEIGHT, WIDTH)
    wanted = "got a name without left and right, or l and r, wanted one that says its view"
    assert told == [f"{tmp_path}/x.png: {wanted}"]


@pytest.mark.parametrize("given", ["folders", "patterns"])
def test_two_folders_or_patterns(predictor: StereoPredictor, tmp_path: Path, given: str) -> None:
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
        for index in range(3):
            picture(tmp_path / side / f"frame_{index}.png", index)
    names = [str(tmp_path / side / ("" if given == "folders" else "*.png")) for side in ("left", "right")]
    items, _ = watch(predictor, Arguments(*names), Looks(), every_pair=True)
    assert [item.stem for item in items] == ["frame_0", "frame_1", "frame_2"]
    assert items[0].files == (tmp_path / "left" / "frame_0.png", tmp_path / "right" / "frame_0.png")


@pytest.mark.parametrize(("every_pair", "first"), [(False, ["l10"]), (True, ["l8", "l9", "l10"])])
def test_of_what_is_there_the_newest_is_taken_or_all(
    predictor: StereoPredictor, tmp_path: Path, every_pair: bool, first: list[str]
) -> None:
    for index in (8, 9, 10):
        for side in ("l", "r"):
            picture(tmp_path / f"{side}{index}.png")
    later = {index: lambda index=index: [picture(tmp_path / f"{side}{index}.png") for side in "lr"] for index in (3, 5)}
    items, _ = watch(predictor, Arguments(str(tmp_path), None), Looks(later), every_pair)
    assert [item.stem for item in items] == [*first, "l3", "l5"]


def test_a_file_without_a_partner_is_told_about_once(
    predictor: StereoPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_PATIENCE", -1.0)
    picture(tmp_path / "left_1.png")
    items, told = watch(predictor, Arguments(str(tmp_path), None), Looks())
    assert items == []
    assert told == [f"{tmp_path}/left_1.png: no partner came within -1 s"]


def test_a_folder_that_is_removed_and_comes_again(predictor: StereoPredictor, tmp_path: Path) -> None:
    folder = tmp_path / "rec"

    def write() -> None:
        for side in ("left", "right"):
            picture(folder / f"{side}_1.png")

    def remove() -> None:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()

    write()
    items, _ = watch(predictor, Arguments(str(folder), None), Looks({4: remove, 6: write}))
    assert [item.stem for item in items] == ["left_1", "left_1"]


def test_raw_frames_of_a_rig(predictor: StereoPredictor, tmp_path: Path) -> None:
    rig = Rig(kind="quad", camera=Camera(pixel_format="Mono8", width=WIDTH, height=HEIGHT), folder=tmp_path)
    rig.write(tmp_path / "rig.yaml")
    folder = tmp_path / "rec"
    folder.mkdir()
    for side in ("left", "right"):
        light = np.random.default_rng(1).integers(30, 200, (HEIGHT, WIDTH), dtype=np.uint8)
        (folder / f"{side}_1.raw").write_bytes(light.tobytes())
        (folder / f"{side}_2.raw").write_bytes(light.tobytes()[:99])
    items, _ = watch(predictor, Arguments(str(folder), None, rig=tmp_path / "rig.yaml"), Looks(), every_pair=True)
    assert [item.stem for item in items] == ["left_1", "left_2"]
    ready = items[0].load()
    assert ready.polarization is not None
    assert ready.polarization.aolp is not None
    assert ready.inputs.pol_left is not None
    with pytest.raises(UsageError, match=r"left_2\.raw: got "):
        items[1].load()


def video(path: Path, count: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (64, 48))
    for index in range(count):
        writer.write(np.full((48, 64, 3), 40 * index, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize("every_pair", [True, False])
def test_a_video_is_played_at_its_own_speed_or_as_fast_as_it_is_asked_for(
    predictor: StereoPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_pair: bool
) -> None:
    left, right = (str(video(tmp_path / f"{side}.avi", 4)) for side in ("left", "right"))
    now = [50.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])

    class Clock(threading.Event):
        def __init__(self) -> None:
            super().__init__()
            self.waits: list[float] = []

        def wait(self, timeout: float | None = None) -> bool:
            self.waits.append(round(timeout or 0, 3))
            now[0] += timeout or 0
            return False

    stop = Clock()
    source = find_live_source(Arguments(left, right), every_pair)
    source.check(predictor)
    items: Iterator[Item] = source.items(predictor, stop, print)
    assert next(items).name.endswith("frame 1")
    next(items)
    now[0] += 0.3  # the viewer was paused: nothing is caught up with
    assert [item.stem for item in items] == ["left_000003", "left_000004"]
    assert stop.waits == ([] if every_pair else [0, 0.05, 0, 0.05])


def test_one_pair_is_there_at_once(predictor: StereoPredictor, tmp_path: Path) -> None:
    left, right = (str(picture(tmp_path / f"{side}.png")) for side in ("left", "right"))
    source = find_live_source(Arguments(left, right))
    assert source.announce() == "one pair"
    assert [item.stem for item in source.items(predictor, threading.Event(), print)] == ["left"]


@pytest.mark.parametrize(
    ("left", "right", "more", "says"),
    [
        ("rec", "one.png", {}, "one.png: got no folder, wanted a folder or a quoted pattern, as the other view is"),
        ("rec", "gone", {}, "gone: got no folder, wanted"),
        ("rec", None, {"side_by_side": True}, "--side-by-side: got rec, which is watched, wanted a pair or a video"),
        ("rec", None, {"polarization_left": "dolp.png"}, "--polarization-left: got rec, which is watched, wanted"),
        ("gone", None, {}, "missing RIGHT"),
        ("one.png", "gone.png", {}, "gone.png: no such file or folder"),
        ("nowhere/*.png", None, {}, "nowhere/*.png: got no folder, wanted"),
    ],
)
def test_what_cannot_be_watched_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str, right: str | None, more: dict[str, Any], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rec").mkdir()
    picture(tmp_path / "one.png")
    with pytest.raises(UsageError) as refused:
        find_live_source(Arguments(left, right, **more))
    assert says in str(refused.value)
