"""What a calibration says against the picture, and the depths that it makes of matches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from crosspol.checks.calibration import check_calibration, check_depths
from crosspol.checks.matching import Matches
from crosspol.checks.rig import check_images
from crosspol.errors import MissingFileError
from crosspol.rigs.calibration import CameraCalibration, StereoCalibration
from crosspol.rigs.calibration_files import write_calibration
from tests.plain_pairs import good_pair, turned
from tests.rig_frames import HEIGHT, WIDTH

SIZE = (480, 640)
VALUES = {"fx": 500.0, "fy": 500.0, "cx_left": 321.0, "cx_right": 321.0, "cy": 238.0, "baseline_m": 0.12}


def made(size: tuple[int, int] | None = None, /, **changed: float) -> StereoCalibration:
    return StereoCalibration.of_rectified(**(VALUES | changed), size=size)


def scaled(factor: float) -> dict[str, float]:
    """Focal lengths and principal points of the same cameras' images at another size."""
    focal = {name: factor * VALUES[name] for name in ("fx", "fy")}
    return focal | {name: factor * (VALUES[name] + 0.5) - 0.5 for name in ("cx_left", "cx_right", "cy")}


@pytest.mark.parametrize("size", [None, (640, 480)])
def test_a_calibration_that_fits(size: tuple[int, int] | None) -> None:
    (found,) = check_calibration(made(size), SIZE)
    assert found.verdict == "right"
    assert "fx 500.0 px, field of view 65 degrees" in found.found
    assert "baseline 12 cm" in found.found


@pytest.mark.parametrize("factor", [0.5, 2.0, 0.25, 4.0])
@pytest.mark.parametrize("says_its_size", [True, False])
def test_a_calibration_of_another_size_is_named_with_the_factor(factor: float, says_its_size: bool) -> None:
    size = (round(640 * factor), round(480 * factor)) if says_its_size else None
    (found,) = check_calibration(made(size, **scaled(factor)), SIZE)
    assert (found.topic, found.verdict) == ("size", "wrong")
    assert f"multiply fx, fy by {1 / factor:.3g}; cx and cy become" in found.do
    assert "smaller" in found.found if factor < 1 else "larger" in found.found
    # What it says to do makes it fit.
    by = float(found.do.split("multiply fx, fy by ")[1].split(";")[0])
    values = {name: by * scaled(factor)[name] for name in ("fx", "fy")}
    values |= {name: by * (scaled(factor)[name] + 0.5) - 0.5 for name in ("cx_left", "cx_right", "cy")}
    assert check_calibration(made(**values), SIZE)[0].verdict == "right"


def test_a_calibration_of_a_crop() -> None:
    (found,) = check_calibration(made((640, 640)), SIZE)
    assert (found.topic, found.verdict) == ("size", "wrong")
    assert "cropped, or of another camera" in found.found


@pytest.mark.parametrize(
    ("changed", "verdict", "words"),
    [
        ({"baseline_m": 120.0}, "wrong", "the baseline is 120 m, which is implausible: probably it is in mm (12 cm)"),
        ({"baseline_m": 12.0}, "wrong", "probably it is in cm (12 cm) or mm (1.2 cm)"),
        ({"baseline_m": 0.00012}, "wrong", "the baseline is 0.00012 m, which is implausible"),
        ({"fx": 4.0, "fy": 4.0}, "wrong", "probably fx is in mm"),
        ({"fx": 20000.0, "fy": 20000.0}, "unsure", "a field of view of 1.8 degrees"),
        ({"fy": 550.0}, "unsure", "differ by 10.0 %"),
        ({"cx_left": 440.0, "cx_right": 440.0}, "unsure", "far from the middle"),
        ({"cx_left": 600.0, "cx_right": 600.0}, "wrong", "far from the middle"),
    ],
)
def test_what_is_implausible_is_named(changed: dict[str, float], verdict: str, words: str) -> None:
    found = check_calibration(made(**changed), SIZE)
    assert [finding.verdict for finding in found] == [verdict]
    assert words in found[0].found
    assert found[0].do


def matches(disparity: list[float]) -> Matches:
    count = len(disparity)
    points = np.random.default_rng(0).uniform(0, 400, (count, 2))
    return Matches(points, np.array(disparity), np.zeros(count), 2 * count, 1.0, SIZE, np.zeros(3))


def test_depths_are_fx_times_baseline_over_disparity() -> None:
    of_size, depth = check_depths(matches([10.0] * 60), made())
    assert (of_size.verdict, depth.verdict) == ("right", "right")
    assert "10.0 to 10.0 px, 1.6 to 1.6 % of the width" in of_size.found
    assert "6 m to 6 m" in depth.found  # 500 * 0.12 / 10
    assert "a pixel is 60 cm" in depth.found  # 6^2 / (500 * 0.12)
    _, depth = check_depths(matches([10.0] * 60), made(cx_right=331.0))
    assert "3 m to 3 m" in depth.found  # 500 * 0.12 / (10 + 10)


def test_depths_that_cannot_be() -> None:
    *_, depth = check_depths(matches([10.0] * 60), made(cx_right=300.0))
    assert depth.verdict == "wrong"
    assert "100.0 % of the matches lie behind infinity with cx_right - cx_left = -21 px" in depth.found
    *_, depth = check_depths(matches([10.0] * 60), made(baseline_m=120.0))
    assert depth.verdict == "wrong"
    assert "6e+03 m" in depth.found
    assert [finding.topic for finding in check_depths(matches([10.0] * 60), None)] == ["disparity"]


def test_disparities_that_are_large_or_hardly_any() -> None:
    for value, words in ((300.0, "more than networks are trained for"), (1.0, "hardly any")):
        (found,) = check_depths(matches([value] * 60), None)
        assert found.verdict == "unsure"
        assert words in found.found
        assert found.do


def test_a_calibration_that_cannot_be_read_is_a_finding_and_one_that_is_not_there_an_error(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text('{"fx": 300, "fy": 300, "cx_left": 160, "cx_right": 160, "cy": 120, "baseline_m": -0.1}')
    report = check_images(good_pair(), ("l", "r"), path)
    (found,) = report.wrong
    assert found.topic == "calibration"
    assert "wanted it on the right" in found.found
    assert {finding.topic for finding in report.findings["pair"]} >= {"order", "rows"}
    with pytest.raises(MissingFileError):
        check_images(good_pair(), ("l", "r"), tmp_path / "none.json")


def test_a_half_scaled_calibration_of_a_pair(tmp_path: Path) -> None:
    half = StereoCalibration.of_rectified(
        fx=150, fy=150, cx_left=79.5, cx_right=79.5, cy=59.5, baseline_m=0.1, size=(160, 120)
    )
    report = check_images(good_pair(), ("l", "r"), write_calibration(tmp_path / "calibration.json", half))
    assert [finding.topic for finding in report.wrong] == ["size"]
    assert "multiply fx, fy by 2" in report.wrong[0].do


def test_raw_views_and_the_calibration_that_rectifies_them(tmp_path: Path) -> None:
    left, right = good_pair()
    angle = np.radians(2.0)
    matrix = [[300.0, 0, (WIDTH - 1) / 2], [0, 300.0, (HEIGHT - 1) / 2], [0, 0, 1]]
    rotation, _ = cv2.Rodrigues(np.array([0, 0, -angle]))
    storage = cv2.FileStorage(str(tmp_path / "stereo.yaml"), cv2.FILE_STORAGE_WRITE)
    values = {"M1": matrix, "D1": [[0.0] * 5], "M2": matrix, "D2": [[0.0] * 5], "R": rotation, "T": [[-0.1], [0], [0]]}
    for name, value in values.items():
        storage.write(name, np.array(value, float))
    storage.release()
    raw = check_images((left, turned(right, 2.0)), ("l", "r"), tmp_path / "stereo.yaml")
    found = {finding.topic: finding for finding in raw.findings["pair"]}
    assert found["rows"].verdict == "wrong"
    assert "these are raw views: rectified by stereo.yaml, their rows correspond" in found["rectification"].found
    assert "--rig rig.yaml" in found["rectification"].do
    already = check_images((left, right), ("l", "r"), tmp_path / "stereo.yaml")
    assert already.wrong == []
    assert "pair rectification" in already.unsure_topics


def test_each_camera_is_asked_for_its_size() -> None:
    calibration = made((640, 480))
    other = CameraCalibration(calibration.right.matrix, calibration.right.distortion, (320, 240))
    (found,) = check_calibration(replace(calibration, right=other), SIZE)
    assert (found.topic, found.verdict) == ("size", "wrong")
    assert "right" in found.found
