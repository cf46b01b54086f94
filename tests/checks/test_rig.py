"""One fault at a time is put into a clean rig's frames, and has to be the one that is found."""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from crosspol.checks.findings import Finding
from crosspol.checks.frame import _slope
from crosspol.checks.report import Report
from crosspol.checks.rig import check_rig
from crosspol.errors import UsageError
from crosspol.polarimetry import SONY_LAYOUT, Layout, aolp
from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.calibration_files import write_calibration
from crosspol.rigs.rig import Camera, Rig, default_rig
from tests import rig_frames
from tests.rig_frames import HEIGHT, WIDTH, eight_bits, raw, views

LAYOUTS = [(order[:2], order[2:]) for order in itertools.permutations((0, 45, 90, 135))]
MOSAICS = Path("/work/shared/data/real/mosaics")
real = pytest.mark.skipif(not MOSAICS.is_dir(), reason=f"the real mosaics are not in {MOSAICS}")

scene = functools.cache(views)
room = functools.cache(rig_frames.room)
QUAD = default_rig("quad")


def save(path: Path, stored: NDArray[np.generic]) -> Path:
    assert cv2.imwrite(str(path), stored)
    return path


def check(folder: Path, *frames: NDArray[np.generic], rig: Rig = QUAD) -> Report:
    names = ("left.png", "right.png")
    return check_rig(rig, [save(folder / name, frame) for name, frame in zip(names, frames, strict=False)])


def mosaics(left: Tensor, right: Tensor) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return eight_bits(raw(left)), eight_bits(raw(right, seed=1))


def by_topic(report: Report, view: str) -> dict[str, Finding]:
    return {finding.topic: finding for finding in report.findings[view]}


def wrong_topics(report: Report) -> list[str]:
    return [finding.topic for finding in report.wrong]


@pytest.mark.parametrize("seed", [0, 3])
def test_clean_frames_get_no_complaint(tmp_path: Path, seed: int) -> None:
    report = check(tmp_path, *mosaics(*scene(seed)))
    assert report.wrong == []
    for view in ("left", "right"):
        assert {topic: found.verdict for topic, found in by_topic(report, view).items()} == {
            "exposure": "right",
            "layout": "right",
            "gamma": "right",
        }
    assert {topic: found.verdict for topic, found in by_topic(report, "pair").items()} == {
        "order": "right",
        "rows": "right",
        "timing": "right",
    }
    assert report.names == {"left": str(tmp_path / "left.png"), "right": str(tmp_path / "right.png")}
    assert report.frames["left"].size == (HEIGHT, WIDTH)


def test_a_single_frame_is_only_looked_at_alone(tmp_path: Path) -> None:
    report = check(tmp_path, eight_bits(raw(scene()[0])))
    assert list(report.findings) == ["left"]
    assert report.wrong == []
    with pytest.raises(UsageError, match="got 3 frames, wanted one, or the left and the right one"):
        check_rig(QUAD, [tmp_path / "left.png"] * 3)


def pairs(layout: Layout) -> frozenset[frozenset[int]]:
    """Which places of the block hold orthogonal angles."""
    places = {angle: place for place, angle in enumerate(angle for row in layout for angle in row)}
    return frozenset([frozenset([places[0], places[90]]), frozenset([places[45], places[135]])])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_wrong_layout_that_can_be_told_is_told(tmp_path: Path, layout: Layout) -> None:
    report = check(tmp_path, eight_bits(raw(scene()[0])), rig=Rig(kind="quad", camera=Camera(layout=layout)))
    found = by_topic(report, "left")["layout"]
    if pairs(layout) == pairs(SONY_LAYOUT):
        assert found.verdict == "right"
        assert "no frame can tell" in found.text
        assert by_topic(report, "left")["gamma"].verdict == "right"
    else:
        assert wrong_topics(report) == ["layout"]
        assert f"layout {[list(row) for row in layout]} does not fit" in found.text
        assert "[[90, 45], [135, 0]] has the right pairs" in found.text


@pytest.mark.parametrize("layout", [SONY_LAYOUT, ((0, 90), (45, 135)), ((0, 45), (90, 135))])
@pytest.mark.parametrize("stated", [SONY_LAYOUT, ((0, 90), (45, 135)), ((0, 45), (90, 135))])
def test_a_scene_without_polarization_does_not_tell_the_layout(tmp_path: Path, layout: Layout, stated: Layout) -> None:
    frame = eight_bits(raw(scene(dolp=0.0)[0], layout=layout))
    report = check(tmp_path, frame, rig=Rig(kind="quad", camera=Camera(layout=stated)))
    assert report.wrong == []
    assert by_topic(report, "left")["layout"].verdict == "unsure"
    assert by_topic(report, "left")["gamma"].verdict == "unsure"


def test_angle_images_in_a_wrong_order_are_told(tmp_path: Path) -> None:
    s0, s1, s2 = scene()[0]
    noise = 0.003 * torch.randn(4, HEIGHT, WIDTH)
    stacked = (torch.stack([s0 + s1, s0 + s2, s0 - s1, s0 - s2]) + noise).clamp(0, 1).numpy()
    camera = Camera(content="angles")
    for order, verdict in (([0, 1, 2, 3], "right"), ([2, 1, 0, 3], "right"), ([0, 2, 1, 3], "wrong")):
        np.save(tmp_path / "a.npy", stacked[order])
        found = by_topic(check_rig(Rig(kind="quad", camera=camera), [tmp_path / "a.npy"]), "left")
        assert found["layout"].verdict == verdict
        if verdict == "right":
            assert found["gamma"].verdict == "right"
        else:
            assert "the order 0 45 90 135 does not fit" in found["layout"].text
            assert "the order 0 90 45 135 has the right pairs" in found["layout"].text


@pytest.mark.parametrize("gamma", [1 / 2.2, 0.7, 1.5])
@pytest.mark.parametrize("bayer", [None, "RGGB"])
def test_a_tone_curve_is_found_and_measured(tmp_path: Path, gamma: float, bayer: str | None) -> None:
    frame = eight_bits(raw(scene()[0], gamma=gamma, bayer=bayer))
    report = check(tmp_path, frame, rig=Rig(kind="quad", camera=Camera(bayer=bayer)))
    assert wrong_topics(report) == ["gamma"]
    measured = float(report.wrong[0].text.split("to the power of ")[1].split()[0])
    assert measured == pytest.approx(gamma, rel=0.08)


def test_a_color_frame_without_tone_curve_gets_no_complaint(tmp_path: Path) -> None:
    frame = eight_bits(raw(scene()[0], bayer="RGGB"))
    report = check(tmp_path, frame, rig=Rig(kind="quad", camera=Camera(bayer="RGGB")))
    assert {found.verdict for found in report.findings["left"]} == {"right"}


def test_an_offset_or_another_gain_is_no_tone_curve(tmp_path: Path) -> None:
    values = raw(scene()[0])
    for changed in (0.7 * values, 0.15 + 0.8 * values):
        assert check(tmp_path, eight_bits(changed)).wrong == []


def test_a_slope_and_its_error_against_many_draws() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=2000)
    estimates = [_slope(x, 0.3 * x + 0.1 + rng.normal(size=2000)) for _ in range(200)]
    slopes, errors = np.array(estimates).T
    assert slopes.mean() == pytest.approx(0.3, abs=0.006)
    assert errors.mean() == pytest.approx(slopes.std(), rel=0.2)
    assert _slope(np.ones(100), np.ones(100))[1] == math.inf


@pytest.mark.parametrize(
    ("change", "camera", "topic", "words"),
    [
        (lambda values: values * 3, Camera(), "exposure", r"\d+\.\d % saturated.*shorten the exposure"),
        (lambda values: values * 0.02, Camera(), "exposure", r"\d+\.\d % dark.*lengthen the exposure"),
        (lambda values: values, Camera(black_level=60), "levels", "lie below black_level 60: it is too high"),
        (lambda values: values.clamp(max=0.4), Camera(), "levels", "pile up at 102 .* set white_level: 102"),
    ],
)
def test_exposure_and_levels(
    tmp_path: Path, change: Callable[[Tensor], Tensor], camera: Camera, topic: str, words: str
) -> None:
    changed = change(raw(scene()[0])).clamp(0, 1)
    report = check(tmp_path, eight_bits(changed), rig=Rig(kind="quad", camera=camera))
    found = by_topic(report, "left")[topic]
    assert found.verdict == "wrong"
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(found.text)


def test_twelve_bits_in_sixteen(tmp_path: Path) -> None:
    frame = (4095 * raw(scene()[0])).round().numpy().astype(np.uint16)
    report = check(tmp_path, frame)
    assert "levels" in wrong_topics(report)
    assert "set white_level: 4095" in by_topic(report, "left")["levels"].text
    assert check(tmp_path, frame, rig=Rig(kind="quad", camera=Camera(pixel_format="Mono12"))).wrong == []


@pytest.mark.parametrize("swap", [False, True])
def test_swapped_views(tmp_path: Path, swap: bool) -> None:
    left, right = mosaics(*scene())
    frames = (left, right) if swap else (right, left)
    report = check(tmp_path, *frames, rig=Rig(kind="quad", swap_views=swap))
    assert wrong_topics(report) == ["order"]
    assert "the views are swapped" in report.wrong[0].text
    assert f"swap_views: {'false' if swap else 'true'}" in report.wrong[0].text
    repaired = check(tmp_path, *frames, rig=Rig(kind="quad", swap_views=not swap))
    assert repaired.wrong == []


@pytest.mark.parametrize("rows", [-4.0, 1.2, 9.5])
@pytest.mark.parametrize("seed", [0, 2])
def test_vertical_misalignment_is_measured(tmp_path: Path, rows: float, seed: int) -> None:
    report = check(tmp_path, *mosaics(*scene(seed, rows_down=rows)))
    assert wrong_topics(report) == ["rows"]
    text = report.wrong[0].text
    assert float(text.split("things are ")[1].split()[0]) == pytest.approx(abs(rows), abs=0.15)
    assert ("lower in the middle" if rows > 0 else "higher in the middle") in text


def test_a_turned_camera_is_off_its_rows(tmp_path: Path) -> None:
    left, right = scene()
    turn = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), 2.0, 1.0)
    turned = [cv2.warpAffine(plane.numpy(), turn, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT) for plane in right]
    report = check(tmp_path, *mosaics(left, torch.from_numpy(np.stack(turned))))
    assert wrong_topics(report) == ["rows"]
    in_a_corner = float(report.wrong[0].text.split("middle, ")[1].split()[0])
    assert abs(in_a_corner) == pytest.approx(math.radians(2) * WIDTH / 2, rel=0.15)


@pytest.mark.parametrize("down", [-6, 4])
def test_what_moved_between_the_exposures_is_found(tmp_path: Path, down: int) -> None:
    report = check(tmp_path, *mosaics(*scene(moved_down=down)))
    assert wrong_topics(report) == ["timing"]
    text = report.wrong[0].text
    assert "something moved between the exposures" in text
    assert float(text.split("off by ")[1].split()[0]) == pytest.approx(abs(down), abs=0.3)


def test_other_scenes_and_the_same_image_twice(tmp_path: Path) -> None:
    one, other = eight_bits(raw(scene(0)[0])), eight_bits(raw(scene(2)[1]))
    report = check(tmp_path, one, other)
    assert wrong_topics(report) == ["timing"]
    assert "do not show the same scene" in report.wrong[0].text
    report = check(tmp_path, one, one)
    assert wrong_topics(report) == ["order"]
    assert "both views are the same image" in report.wrong[0].text


def test_views_without_texture_leave_the_pair_open(tmp_path: Path) -> None:
    even = torch.stack([torch.full((HEIGHT, WIDTH), 0.3), torch.zeros(HEIGHT, WIDTH), torch.zeros(HEIGHT, WIDTH)])
    report = check(tmp_path, *mosaics(even, even))
    assert report.wrong == []
    assert "too little texture" in by_topic(report, "pair")["rows"].text


def test_a_crossed_pair(tmp_path: Path) -> None:
    (left, right), rig = scene(), default_rig("crossed")
    frames = [eight_bits((s0 + s1).clamp(0, 1)) for s0, s1 in ((left[0], left[1]), (right[0], -right[1]))]
    report = check(tmp_path, *frames, rig=rig)
    assert report.wrong == []
    assert by_topic(report, "left")["gamma"].verdict == "unsure"
    assert wrong_topics(check(tmp_path, *frames[::-1], rig=rig)) == ["order"]


def test_with_a_calibration_the_rectified_views_are_looked_at(tmp_path: Path) -> None:
    left, right = scene(rows_down=4.0)
    matrix = [[300.0, 0.0, WIDTH / 2], [0.0, 300.0, HEIGHT / 2], [0.0, 0.0, 1.0]]
    lower = [[300.0, 0.0, WIDTH / 2], [0.0, 300.0, HEIGHT / 2 + 4], [0.0, 0.0, 1.0]]
    storage = cv2.FileStorage(str(tmp_path / "stereo.yaml"), cv2.FILE_STORAGE_WRITE)
    for name, value in {
        "M1": matrix,
        "D1": [[0.0] * 5],
        "M2": lower,
        "D2": [[0.0] * 5],
        "R": np.eye(3).tolist(),
        "T": [[-0.1], [0.0], [0.0]],
    }.items():
        storage.write(name, np.array(value))
    storage.release()
    rig = Rig(kind="quad", calibration="stereo.yaml", folder=tmp_path)
    assert check(tmp_path, *mosaics(left, right), rig=rig).wrong == []
    report = check(tmp_path, *mosaics(*scene()), rig=rig)
    assert wrong_topics(report) == ["rows"]
    assert "the calibration stereo.yaml does not fit these views" in report.wrong[0].text


def test_a_calibration_of_rectified_views_changes_nothing(tmp_path: Path) -> None:
    calibration = StereoCalibration.of_rectified(
        fx=300.0, fy=300.0, cx_left=160.0, cx_right=160.0, cy=120.0, baseline_m=0.1, size=(WIDTH, HEIGHT)
    )
    write_calibration(tmp_path / "calibration.json", calibration)
    rig = Rig(kind="quad", calibration="calibration.json", folder=tmp_path)
    assert check(tmp_path, *mosaics(*scene()), rig=rig).wrong == []


ROOMS = ["1-000009-quad", "1-000019-quad", "1-000039-quad"]
rooms = pytest.mark.parametrize("name", ROOMS)


@rooms
def test_a_clean_room_gets_no_complaint(tmp_path: Path, name: str) -> None:
    report = check(tmp_path, *mosaics(*room(name)))
    assert report.wrong == []
    assert {finding.topic for finding in report.unsure} <= {"layout", "gamma"}
    assert {finding.verdict for finding in report.findings["pair"]} == {"right"}


def test_the_advice_on_an_angle_counts_what_the_rig_says_already(tmp_path: Path) -> None:
    """Right is 0: what is to be set takes away whatever the rig sets too much."""
    for name, frame in zip(("left.png", "right.png"), mosaics(*room(ROOMS[0])), strict=True):
        save(tmp_path / name, frame)
    for offset in (60.0, 90.0):
        rig = replace(QUAD, right_camera=replace(QUAD.camera, angle_offset_deg=offset))
        report = check_rig(rig, [tmp_path / "left.png", tmp_path / "right.png"], ["agreement"])
        (found,) = (finding for finding in report.wrong if finding.topic == "agreement")
        advised = float(found.do.split("angle_offset_deg: ")[1].split()[0])
        assert (advised + 90) % 180 - 90 == pytest.approx(0, abs=4)


@rooms
@pytest.mark.parametrize("averaging", ["half", "repeated", "blurred"])
def test_an_averaged_mosaic_is_asked_about(tmp_path: Path, name: str, averaging: str) -> None:
    frame = eight_bits(raw(room(name)[0]))
    half = cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    averaged = {"half": half, "repeated": half.repeat(2, 0).repeat(2, 1), "blurred": cv2.blur(frame, (2, 2))}
    report = check(tmp_path, averaged[averaging])
    assert report.wrong == []
    assert "left layout" in report.unsure_topics
    assert "left gamma" in report.unsure_topics


@real
@pytest.mark.parametrize("name", ["camera", "carps", "fruits"])
def test_an_averaged_real_mosaic_is_named(tmp_path: Path, name: str) -> None:
    frame = cv2.imread(str(MOSAICS / f"{name}_IMX250MZR.png"), cv2.IMREAD_UNCHANGED)
    assert frame is not None
    half = cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    for averaged in (half, half.repeat(2, 0).repeat(2, 1), cv2.blur(frame, (2, 2))):
        report = check(tmp_path, averaged)
        assert "this is no raw mosaic any more (averaged 2x2" in by_topic(report, "left")["layout"].text
        assert wrong_topics(report) == []


@pytest.mark.parametrize("room_name", [None, *ROOMS])
def test_a_pedestal_is_asked_about(tmp_path: Path, room_name: str | None) -> None:
    left = (scene() if room_name is None else room(room_name))[0]
    frame = np.minimum(eight_bits(raw(left)).astype(int) + 20, 255).astype(np.uint8)
    report = check(tmp_path, frame)
    levels = by_topic(report, "left")["levels"]
    assert levels.verdict == "unsure"
    assert "no value is near black_level 0: the darkest are 2" in levels.text
    assert "take the mean of a frame with the lens cap on" in levels.text
    stated = check(tmp_path, frame, rig=Rig(kind="quad", camera=Camera(black_level=20)))
    assert "levels" not in by_topic(stated, "left")


def test_a_clipping_level_is_not_named_as_a_tone_curve(tmp_path: Path) -> None:
    for level, stored in ((0.4, 102), (0.3, 76)):
        report = check(tmp_path, eight_bits(raw(scene()[0]).clamp(max=level)))
        assert wrong_topics(report) == ["levels"]
        assert f"set white_level: {stored}" in report.wrong[0].text
        assert by_topic(report, "left")["gamma"].verdict == "unsure"


def test_values_above_the_white_level_are_not_blamed_on_the_exposure(tmp_path: Path) -> None:
    np.save(tmp_path / "left.npy", 4095 * raw(scene()[0]).numpy())
    with pytest.raises(UsageError, match=r"left\.npy: got floating point up to .*, wanted at most 1, or white_level"):
        check_rig(QUAD, [tmp_path / "left.npy"])
    frame = (4095 * raw(scene()[0])).round().numpy().astype(np.uint16)
    report = check(tmp_path, frame, rig=Rig(kind="quad", camera=Camera(white_level=255)))
    assert wrong_topics(report) == ["levels"]
    assert "of the values lie above white_level 255, up to" in report.wrong[0].text
    assert by_topic(report, "left")["exposure"].verdict == "unsure"
    assert by_topic(report, "left")["gamma"].verdict == "unsure"
    assert check(tmp_path, frame, rig=Rig(kind="quad", camera=Camera(white_level=4095))).wrong == []


def test_twelve_bits_in_sixteen_are_not_blamed_on_the_exposure(tmp_path: Path) -> None:
    report = check(tmp_path, (4095 * raw(scene()[0])).round().numpy().astype(np.uint16))
    assert wrong_topics(report) == ["levels"]


def test_unrelated_rooms_are_no_pair(tmp_path: Path) -> None:
    for one, other in itertools.permutations(ROOMS, 2):
        report = check(tmp_path, eight_bits(raw(room(one)[0])), eight_bits(raw(room(other)[1])))
        assert wrong_topics(report) == ["timing"]
        assert "do not show the same scene" in report.wrong[0].text


def turned(stokes: Tensor, rotation: tuple[float, float, float]) -> Tensor:
    """A view of a camera that is turned by a rotation vector; its focal length is 300 px."""
    matrix = np.array([[300, 0, WIDTH / 2], [0, 300, HEIGHT / 2], [0, 0, 1]])
    change = matrix @ cv2.Rodrigues(np.array(rotation))[0] @ np.linalg.inv(matrix)
    size = (WIDTH, HEIGHT)
    planes = [cv2.warpPerspective(p.numpy(), change, size, borderMode=cv2.BORDER_REFLECT) for p in stokes]
    return torch.from_numpy(np.stack(planes))


@rooms
@pytest.mark.parametrize("rotation", [(0, 0.07, 0), (0, -0.07, 0), (0.01, 0, 0.02), (0, 0.14, 0)])
def test_turned_cameras_before_a_room_that_holds_still_are_off_their_rows_and_nothing_moved(
    tmp_path: Path, name: str, rotation: tuple[float, float, float]
) -> None:
    left, right = room(name)
    report = check(tmp_path, *mosaics(left, turned(right, rotation)))
    assert wrong_topics(report) == ["rows"]
    assert by_topic(report, "pair")["timing"].verdict == "unsure"


def test_a_camera_mounted_lower_shifts_near_things_more_and_nothing_moved(tmp_path: Path) -> None:
    left, right = scene(rows_down=2.0, moved_down=2)
    report = check(tmp_path, *mosaics(left, right))
    assert wrong_topics(report) == ["rows"]
    assert by_topic(report, "pair")["timing"].verdict == "unsure"


def test_a_baseline_in_mm_is_a_line_of_the_report(tmp_path: Path) -> None:
    calibration = StereoCalibration.of_rectified(
        fx=300.0, fy=300.0, cx_left=160.0, cx_right=160.0, cy=120.0, baseline_m=120.0, size=(WIDTH, HEIGHT)
    )
    write_calibration(tmp_path / "calibration.json", calibration)
    rig = Rig(kind="quad", calibration="calibration.json", folder=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = check(tmp_path, *mosaics(*scene()), rig=rig)
    assert wrong_topics(report) == ["calibration"]
    assert "the baseline is 120 m, which is implausible: probably it is in mm" in report.wrong[0].text


def test_the_advice_on_the_layout_does_not_go_by_the_scale_of_a_polarizer(tmp_path: Path) -> None:
    text = by_topic(check(tmp_path, eight_bits(raw(scene()[0]))), "left")["layout"].text
    assert "by the direction that it passes as seen in the image, not by its scale" in text


def exchanged(layout: Layout, *angles: tuple[int, int]) -> Layout:
    other = dict(angles) | {two: one for one, two in angles}
    return [[other.get(angle, angle) for angle in row] for row in layout]


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if pairs(layout) == pairs(SONY_LAYOUT)])
def test_the_way_of_the_docs_from_a_polarizer_to_the_layout(tmp_path: Path, layout: Layout) -> None:
    stated: Layout = [list(row) for row in layout]
    for direction in (0, 45, 0, 45):
        turn = 2 * math.radians(direction)
        light = 0.3 * torch.tensor([1.0, 0.9 * math.cos(turn), 0.9 * math.sin(turn)])
        frame = eight_bits(raw(light[:, None, None].expand(3, 64, 64)))
        report = check(tmp_path, frame, rig=Rig(kind="quad", camera=Camera(layout=stated)))
        stokes = report.frames["left"].stokes
        assert stokes is not None
        shown = math.degrees(float(aolp(stokes.mean((0, 2, 3))[:, None, None]))) % 180
        color = 45 * round(shown / 45) % 180
        assert abs((shown - color + 90) % 180 - 90) < 3
        if (color - direction) % 180 == 90:
            stated = exchanged(stated, (color, direction))
        elif color != direction:
            stated = exchanged(stated, (0, 45), (90, 135))
    assert [list(row) for row in stated] == [list(row) for row in SONY_LAYOUT]


@real
@pytest.mark.parametrize("name", ["camera", "carps", "fruits", "polarizer"])
def test_real_frames_have_the_right_layout_and_three_of_four_are_linear(name: str) -> None:
    frame = MOSAICS / f"{name}_IMX250MZR.png"
    found = by_topic(check_rig(QUAD, [frame]), "left")
    assert found["layout"].verdict == "right"
    if name == "polarizer":
        # This one was stored with the tone curve of a photograph: undone, its curvature is 0.01.
        assert found["gamma"].verdict == "wrong"
        assert "to the power of 0.46" in found["gamma"].text
    else:
        assert found["gamma"].verdict == "right"


@real
@pytest.mark.parametrize("name", ["camera", "carps", "fruits", "polarizer"])
def test_real_frames_refuse_the_layouts_that_can_be_told(tmp_path: Path, name: str) -> None:
    stored = cv2.imread(str(MOSAICS / f"{name}_IMX250MZR.png"), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    path = save(tmp_path / "part.png", stored[:, 800:1056])
    for layout in LAYOUTS[:6]:
        report = check_rig(Rig(kind="quad", camera=Camera(layout=layout)), [path])
        right = pairs(layout) == pairs(SONY_LAYOUT)
        assert by_topic(report, "left")["layout"].verdict == ("right" if right else "wrong")
