"""The example that watches a live folder: what a thread writes is predicted, whole, in pairs, whatever breaks."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosspol.geometry import flying
from crosspol.inference.predictor import StereoPredictor
from crosspol.io.images import write_image
from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.calibration_files import write_calibration
from crosspol.rigs.reader import RigReader
from crosspol.rigs.rig import Camera, Rig
from tests.open_network import open_network

EXAMPLE = Path(__file__).parents[2] / "examples" / "live_rig.py"
HEIGHT, WIDTH = 40, 52
EVERY = 0.002


@pytest.fixture(scope="module")
def live() -> Any:
    spec = importlib.util.spec_from_file_location("live_rig", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["live_rig"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def predictor() -> StereoPredictor:
    return StereoPredictor(open_network(), device="cpu", iters=1)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def as_png(folder: Path, seed: int) -> bytes:
    path = folder.parent / "one.png"
    write_image(path, picture(seed))
    return path.read_bytes()


def rig(folder: Path) -> RigReader:
    calibration = StereoCalibration.of_rectified(
        fx=60, fy=60, cx_left=26, cx_right=26, cy=20, baseline_m=0.1, size=(WIDTH, HEIGHT)
    )
    write_calibration(folder / "calibration.json", calibration)
    return RigReader(Rig(kind="none", camera=Camera(content="image"), calibration="calibration.json", folder=folder))


def test_what_a_thread_writes_comes_out_as_arrays(
    live: Any, predictor: StereoPredictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files written and renamed, the right one first, and a broken one in the middle."""
    folder, reader, stop = tmp_path / "live", rig(tmp_path), threading.Event()
    data = [as_png(folder, seed) for seed in range(3)]

    def camera() -> None:
        folder.mkdir()
        (folder / "right_0.png").write_bytes(data[0])
        (folder / "left_0.png").write_bytes(data[0])
        (folder / "left_1.png").write_bytes(data[1][: len(data[1]) // 2])  # its end never comes
        (folder / "right_1.png").write_bytes(data[1])
        for side in ("left", "right"):
            (folder / f".{side}.part").write_bytes(data[2])
            os.replace(folder / f".{side}.part", folder / f"{side}_2.png")

    got = []

    def hand_on(estimate: Any) -> None:
        got.append(estimate)
        if len(got) == 2:
            stop.set()

    thread = threading.Thread(target=camera)
    thread.start()
    pairs = live.watch_folder(folder, "left_*.png", "right_*.png", stop, every=EVERY)
    live.predictions(pairs, reader, predictor, hand_on)
    thread.join()
    assert [estimate.name for estimate in got] == ["0", "2"]
    said = capsys.readouterr().err
    assert said.startswith("pair 1: passed over: ")
    assert "left_1.png: got a truncated or damaged PNG" in said
    for estimate in got:
        frames = reader.read(folder / f"left_{estimate.name}.png", folder / f"right_{estimate.name}.png")
        expected = predictor.predict_frames(frames.left, frames.right, "none", frames.calibration)
        np.testing.assert_array_equal(estimate.disparity, expected.disparity)
        assert expected.depth_m is not None
        np.testing.assert_array_equal(estimate.depth_m, expected.depth_m)
        assert expected.points is not None
        camera_sees = (expected.depth_m <= 60 * 0.1) & ~flying(expected.depth_m, 60.0)  # fx * baseline
        np.testing.assert_array_equal(estimate.cloud, expected.points[camera_sees])
        assert type(estimate.disparity) is np.ndarray
        live.report(estimate)
    assert "0: disparity (40, 52)" in capsys.readouterr().out


def test_a_file_that_grows_is_left_alone(live: Any, tmp_path: Path) -> None:
    """Looks and pieces alternate, so that nothing depends on how fast either is."""
    stop = threading.Event()
    left, right = tmp_path / "left_7.raw", tmp_path / "right_7.raw"
    right.write_bytes(b"whole")
    looks: list[int] = []

    class Steps(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            looks.append(len(looks))
            if len(looks) <= 5:
                with left.open("ab") as file:
                    file.write(b"piece")
            assert len(looks) < 20
            return False

    pair = next(live.watch_folder(tmp_path, "left_*.raw", "right_*.raw", Steps(), every=0))
    assert (pair.name, pair.left, pair.right) == ("7", left, right)
    assert len(looks) >= 6
    assert left.read_bytes() == b"piece" * 5
    stop.set()
    assert list(live.watch_folder(tmp_path, "left_*.raw", "right_*.raw", stop)) == []


def test_a_slow_robot_takes_the_newest_and_no_pair_comes_twice(live: Any, tmp_path: Path) -> None:
    stop = threading.Event()
    for index in range(4):
        for side in ("l", "r"):
            (tmp_path / f"{side}{index}.raw").write_bytes(b"x")
    (tmp_path / "l9.raw").write_bytes(b"x")
    names = []
    for pair in live.watch_folder(tmp_path, "l*.raw", "r*.raw", stop, every=EVERY, newest_only=True):
        names.append(pair.name)
        if len(names) == 1:
            (tmp_path / "l4.raw").write_bytes(b"x")
            (tmp_path / "r4.raw").write_bytes(b"x")
        else:
            stop.set()
    assert names == ["3", "4"]


def test_a_file_without_a_partner_is_named(live: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "l1.raw").write_bytes(b"x")
    looks: list[int] = []

    class Steps(threading.Event):
        def is_set(self) -> bool:
            looks.append(1)
            return len(looks) > 6

        def wait(self, timeout: float | None = None) -> bool:
            return False

    assert list(live.watch_folder(tmp_path, "l*.raw", "r*.raw", Steps(), every=0, patience=-1)) == []
    assert capsys.readouterr().err == f"{tmp_path}/l1.raw: no partner came within -1 s\n"
