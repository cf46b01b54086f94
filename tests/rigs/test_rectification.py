from __future__ import annotations

import math
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crosspol.errors import UsageError
from crosspol.polarimetry import aolp, dolp
from crosspol.rigs.calibration import CameraCalibration, StereoCalibration
from crosspol.rigs.frames import Frame
from crosspol.rigs.kinds import RigKind
from crosspol.rigs.reader import RigReader, StereoPair
from crosspol.rigs.rectification import ViewMap, rectification, resample
from crosspol.rigs.rig import default_rig

HEIGHT, WIDTH = 120, 160
DISTORTION = np.array([-0.12, 0.03, 4e-4, -3e-4, 0.0])


def rectified(left: Frame, right: Frame, calibration: StereoCalibration, kind: RigKind = "quad") -> StereoPair:
    """The pair as a rig of this calibration brings it."""
    reader = RigReader(default_rig(kind))
    reader.calibration = calibration
    return reader.rectify(left, right)


def rectify(left: Frame, right: Frame, calibration: StereoCalibration) -> tuple[Frame, Frame, StereoCalibration | None]:
    pair = rectified(left, right, calibration)
    return pair.left, pair.right, pair.calibration


def turned(axis: int, angle: float) -> np.ndarray:
    """Rotation matrix about an axis."""
    return cv2.Rodrigues(angle * np.eye(3)[axis])[0]


def rig(
    roll_left: float = 0.0,
    roll_right: float = 0.0,
    yaw: float = 0.0,
    distortion: np.ndarray = DISTORTION,
    offset: float = 0.0,
) -> StereoCalibration:
    """A rig whose cameras are turned about their axes (radians, clockwise as seen in the scene) and toed in."""
    left_turn, right_turn = (
        turned(2, roll) @ turned(1, side * yaw) for roll, side in ((roll_left, -1), (roll_right, 1))
    )
    matrix = np.array([[150.0, 0, 79.5], [0, 150.0, 59.5], [0, 0, 1]])
    right_matrix = matrix + np.array([[2.0, 0, 1.5], [0, 2.0, -1.0], [0, 0, 0]])
    # World to camera: left X = left_turn @ world, right X = right_turn @ (world - position).
    rotation = right_turn @ left_turn.T
    translation = -right_turn @ np.array([0.1, offset, 0])
    size = (WIDTH, HEIGHT)
    return StereoCalibration(
        CameraCalibration(matrix, distortion, size),
        CameraCalibration(right_matrix, 0.8 * distortion, size),
        rotation,
        translation,
    )


def blobs(camera: CameraCalibration, points: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> Frame:
    """An image of bright Gaussian spots at the projections of points (N, 3) by OpenCV."""
    at, _ = cv2.projectPoints(points, rotation, translation, camera.matrix, camera.distortion)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    image = sum(np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 1.5**2)) for u, v in at.reshape(-1, 2))
    return frame_of(torch.tensor(image, dtype=torch.float32)[None])


def frame_of(intensity: Tensor, valid: Tensor | None = None) -> Frame:
    return Frame(None, intensity, torch.ones(1, *intensity.shape[-2:]) if valid is None else valid)


def polarized(degree: float, angle: float, height: int = HEIGHT, width: int = WIDTH) -> Frame:
    """Evenly polarized light over a smooth pattern of intensity."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    s0 = 0.5 + 0.2 * torch.sin(x / 9) * torch.cos(y / 7)
    components = [s0, degree * math.cos(2 * angle) * s0, degree * math.sin(2 * angle) * s0]
    return Frame(torch.stack(components)[None], None, torch.ones(1, height, width))


def spots(frame: Frame, places: np.ndarray) -> np.ndarray:
    """The centers of mass (N, 2) of spots near places (N, 2)."""
    image = frame.image[0].double().numpy()
    found = []
    for u, v in places.round().astype(int):
        window = image[v - 5 : v + 6, u - 5 : u + 6]
        y, x = np.mgrid[v - 5 : v + 6, u - 5 : u + 6]
        found.append(((window * x).sum() / window.sum(), (window * y).sum() / window.sum()))
    return np.array(found)


@pytest.mark.parametrize(("roll_left", "roll_right", "yaw"), [(0, 0, 0), (0.12, -0.07, 0), (0.05, 0.2, 0.04)])
def test_rows_correspond_and_disparity_is_that_of_the_depth(roll_left: float, roll_right: float, yaw: float) -> None:
    calibration = rig(roll_left, roll_right, yaw)
    depth = 2.0
    across = np.array([[u, v] for u in (-0.4, -0.15, 0.1, 0.4) for v in (-0.3, 0.0, 0.3)])
    left_points = np.column_stack([across + np.array([0.05, 0]), np.full(len(across), depth)])
    # Points are given in the world's frame, whose axes are those of the untilted rig.
    to_left = turned(2, roll_left) @ turned(1, -yaw)
    left = blobs(calibration.left, left_points @ to_left.T, np.zeros(3), np.zeros(3))
    right = blobs(
        calibration.right, left_points @ to_left.T, cv2.Rodrigues(calibration.rotation)[0], calibration.translation_m
    )
    rectified_left, rectified_right, after = rectify(left, right, calibration)
    assert after.rectified
    assert after.baseline_m == pytest.approx(0.1)

    turn = cv2.stereoRectify(
        calibration.left.matrix, calibration.left.distortion, calibration.right.matrix, calibration.right.distortion,
        (WIDTH, HEIGHT), calibration.rotation, calibration.translation_m[:, None], alpha=0,
    )[0]  # fmt: skip
    seen = left_points @ to_left.T @ turn.T
    place = np.column_stack(
        [after.fx * seen[:, 0] / seen[:, 2] + after.cx_left, after.fy * seen[:, 1] / seen[:, 2] + after.cy]
    )
    disparity = after.fx * after.baseline_m / seen[:, 2] - (after.cx_right - after.cx_left)
    inside = ((place > 8) & (place < [WIDTH - 9, HEIGHT - 9])).all(1) & (place[:, 0] - disparity > 8)
    assert inside.sum() >= 6
    left_spots = spots(rectified_left, place[inside])
    right_spots = spots(rectified_right, place[inside] - np.column_stack([disparity[inside], 0 * disparity[inside]]))
    assert np.abs(left_spots[:, 1] - right_spots[:, 1]).max() < 0.1
    assert np.abs(left_spots[:, 0] - right_spots[:, 0] - disparity[inside]).max() < 0.1
    assert np.abs(left_spots - place[inside]).max() < 0.1
    assert rectified_left.valid.all()


@settings(deadline=None, max_examples=10)
@given(
    degree=st.floats(0.05, 1.0),
    angle=st.floats(-1.5, 1.5),
    roll=st.floats(-0.3, 0.3),
)
def test_aolp_follows_the_roll_and_dolp_does_not_change(degree: float, angle: float, roll: float) -> None:
    # Roll of the world by +roll about the viewing axis (x right, y down) turns the raw image clockwise; to undo it,
    # the content turns counter-clockwise, and AoLP with it.
    calibration = rig(roll, roll, distortion=np.zeros(0))
    raw = polarized(degree, angle)
    left, right, _ = rectify(raw, raw, calibration)
    for view in (left, right):
        assert view.stokes is not None
        assert view.valid.mean() > 0.9
        trusted = view.valid[0] > 0
        assert torch.allclose(dolp(view.stokes)[0][trusted], torch.tensor(degree), atol=1e-5)
        error = torch.remainder(aolp(view.stokes)[0] - (angle + roll) + math.pi / 2, math.pi) - math.pi / 2
        assert error[trusted].abs().max() < 2e-3


def test_aolp_points_at_what_the_image_shows() -> None:
    """A stripe whose light is polarized along it is polarized along it afterwards: no sign convention is involved."""
    y, x = torch.meshgrid(torch.arange(HEIGHT) - 59.5, torch.arange(WIDTH) - 79.5, indexing="ij")
    steep = math.radians(25)  # counter-clockwise; y points down
    across = x * math.sin(steep) + y * math.cos(steep)
    s0 = torch.exp(-(across**2) / 18)
    stokes = torch.stack([s0, 0.6 * math.cos(2 * steep) * s0, 0.6 * math.sin(2 * steep) * s0])[None]
    raw = Frame(stokes, None, torch.ones(1, HEIGHT, WIDTH))
    for view in rectify(raw, raw, rig(0.15, -0.25, distortion=np.zeros(0)))[:2]:
        assert view.stokes is not None
        brightness = view.stokes[0, 0].double()
        weight = brightness / brightness.sum()
        mean_x, mean_y = (weight * x).sum(), (weight * y).sum()
        xx, yy = (weight * (x - mean_x) ** 2).sum(), (weight * (y - mean_y) ** 2).sum()
        xy = (weight * (x - mean_x) * (y - mean_y)).sum()
        direction = 0.5 * math.atan2(-2 * xy, xx - yy)
        assert direction == pytest.approx(aolp(view.stokes)[0][60, 80].item(), abs=0.02)


def test_the_turn_is_found_pixel_by_pixel() -> None:
    """Against the directions of short segments that OpenCV's own mapping of points carries over, lens included."""
    calibration = rig(0.1, -0.05, yaw=0.15, distortion=2 * DISTORTION)
    maps = rectification(calibration, (HEIGHT, WIDTH), (HEIGHT, WIDTH), outside=1.0)
    assert maps.left.turn_rad.std() > 1e-3
    outputs = cv2.stereoRectify(
        calibration.left.matrix, calibration.left.distortion, calibration.right.matrix, calibration.right.distortion,
        (WIDTH, HEIGHT), calibration.rotation, calibration.translation_m[:, None],
        flags=cv2.CALIB_ZERO_DISPARITY, alpha=1,
    )  # fmt: skip
    for view, camera, turn, projection in (
        (maps.left, calibration.left, outputs[0], outputs[2]),
        (maps.right, calibration.right, outputs[1], outputs[3]),
    ):
        for row, column in ((30, 40), (60, 80), (90, 120)):
            at = np.array([view.x[row, column].item(), view.y[row, column].item()])
            ends = at + 0.01 * np.array([[0, 0], [1, 0], [0, 1]])
            moved = cv2.undistortPoints(
                ends.reshape(-1, 1, 2), camera.matrix, camera.distortion, R=turn, P=projection[:, :3]
            ).reshape(-1, 2)
            along, down = moved[1] - moved[0], moved[2] - moved[0]
            # The mean of how far the two axes turn counter-clockwise (y points down).
            expected = (math.atan2(-along[1], along[0]) + math.atan2(down[0], down[1])) / 2
            assert view.turn_rad[row, column].item() == pytest.approx(expected, abs=2e-3)


def test_images_are_those_of_cv2_remap() -> None:
    maps = rectification(rig(0.1, -0.05), (HEIGHT, WIDTH), (HEIGHT, WIDTH), outside=1.0)
    image = polarized(0.5, 0.3).stokes[0, 0]
    ours = resample(frame_of(image[None]), maps.left)
    theirs = cv2.remap(image.numpy(), maps.left.x.numpy(), maps.left.y.numpy(), cv2.INTER_LINEAR)
    whole = ours.valid[0] > 0
    assert 0.5 < whole.float().mean() < 1
    # remap rounds places to 1/32 px; the pattern's slope is at most 0.03 a pixel.
    assert (ours.intensity[0] - torch.from_numpy(theirs)).abs()[whole].max() < 1.5 * 0.03 / 32


def test_a_pair_that_is_rectified_passes_as_it_is() -> None:
    calibration = StereoCalibration.of_rectified(
        fx=150, fy=150, cx_left=79.5, cx_right=85.5, cy=59.5, baseline_m=0.1, size=(WIDTH, HEIGHT)
    )
    left, right = polarized(0.5, 0.3), polarized(0.4, 0.2)
    assert rectify(left, right, calibration) == (left, right, calibration)


def test_rectifying_a_level_undistorted_rig_changes_nothing() -> None:
    level = StereoCalibration.of_rectified(
        fx=150, fy=150, cx_left=79.5, cx_right=79.5, cy=59.5, baseline_m=0.1, size=(WIDTH, HEIGHT)
    )
    maps = rectification(level, (HEIGHT, WIDTH), (HEIGHT, WIDTH))
    frame = polarized(0.5, 0.3)
    after = resample(frame, maps.left)
    assert torch.allclose(after.stokes, frame.stokes, atol=1e-6)
    assert after.valid.all()
    assert maps.calibration.fx == pytest.approx(150)


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 2**16),
    shift=st.tuples(st.sampled_from([-2.5, -1.0, 0.0, 0.25, 3.0]), st.sampled_from([-1.75, 0.0, 0.5, 2.0])),
)
def test_a_pixel_is_valid_if_all_that_has_a_share_in_it_is(seed: int, shift: tuple[float, float]) -> None:
    rng = np.random.default_rng(seed)
    height, width = 9, 11
    valid = rng.random((height, width)) > 0.15
    y, x = np.mgrid[:height, :width] + np.array([shift[1], shift[0]])[:, None, None]
    after = resample(
        frame_of(torch.ones(1, height, width), torch.from_numpy(valid[None]).float()),
        ViewMap(*(torch.tensor(at, dtype=torch.float32) for at in (x, y, 0 * x))),
    )
    for row in range(height):
        for column in range(width):
            u, v = x[row, column], y[row, column]
            rows, columns = {math.floor(v), math.ceil(v)}, {math.floor(u), math.ceil(u)}
            exists = min(rows) >= 0 and max(rows) < height and min(columns) >= 0 and max(columns) < width
            expected = exists and all(valid[a, b] for a in rows for b in columns)
            assert bool(after.valid[0, row, column]) == expected
            assert after.intensity[0, row, column].item() == pytest.approx(1.0 if exists else 0.0)


def test_invalid_light_stays_invalid_under_a_roll() -> None:
    raw = polarized(0.5, 0.3)
    valid = raw.valid.clone()
    valid[0, 50:60, 70:80] = 0
    after, _, _ = rectify(replace(raw, valid=valid), raw, rig(0.1, 0.0))
    maps = rectification(rig(0.1, 0.0), (HEIGHT, WIDTH), (HEIGHT, WIDTH))
    near = (maps.left.x > 68.99) & (maps.left.x < 80.01) & (maps.left.y > 48.99) & (maps.left.y < 60.01)
    touched = (maps.left.x > 69) & (maps.left.x < 80) & (maps.left.y > 49) & (maps.left.y < 60)
    assert not after.valid[0][touched].any()
    assert after.valid[0][~near].all()


def test_a_crossed_pair_that_is_turned_is_warned_about() -> None:
    frame = frame_of(torch.rand(1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)))
    (warning,) = rectified(frame, frame, rig(math.radians(5.5), 0), "crossed").warnings
    assert re.search(r"turns the left image by 5\.\d degrees, and its polarizer", warning)
    assert rectified(frame, frame, rig(math.radians(2), math.radians(-1)), "crossed").warnings == ()
    assert rectified(frame, frame, rig(math.radians(5.5), 0)).warnings == ()


def test_views_of_another_size_than_calibrated_are_refused() -> None:
    frame = frame_of(torch.zeros(1, HEIGHT // 2, WIDTH // 2))
    with pytest.raises(UsageError, match="left view: got 80x60 px, wanted 160x120 px as calibrated"):
        rectify(frame, frame, rig())


def test_a_right_camera_of_another_size_is_brought_to_the_left_ones() -> None:
    calibration = rig(0.02, 0.0, distortion=np.zeros(0))
    half = np.diag([0.5, 0.5, 1]) @ calibration.right.matrix
    half[:2, 2] -= 0.25  # pixel centers are integers
    small = replace(calibration, right=CameraCalibration(half, np.zeros(0), (WIDTH // 2, HEIGHT // 2)))
    right = frame_of(torch.ones(1, HEIGHT // 2, WIDTH // 2))
    left, right, after = rectify(frame_of(torch.ones(1, HEIGHT, WIDTH)), right, small)
    assert left.size == right.size == (HEIGHT, WIDTH)
    assert right.valid.mean() > 0.9
    assert after.rectified


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (4, 4), (2, 1)])
@pytest.mark.parametrize("says_size", [True, False])
def test_views_of_different_sizes_keep_their_rows_and_their_field_of_view(
    rows: int, columns: int, says_size: bool
) -> None:
    """The left camera binned, the right one at full size: the same two cameras as without binning."""
    full = rig(0.02, -0.01, 0.01)
    shrink = np.diag([1 / columns, 1 / rows, 1])
    shrink[:2, 2] = [0.5 / columns - 0.5, 0.5 / rows - 0.5]  # pixel centers are integers
    size = (HEIGHT // rows, WIDTH // columns)
    left = CameraCalibration(shrink @ full.left.matrix, full.left.distortion, size[::-1] if says_size else None)
    right = replace(full.right, size=(WIDTH, HEIGHT) if says_size else None)
    mixed = replace(full, left=left, right=right)
    maps = rectification(mixed, size, (HEIGHT, WIDTH))

    # Points in space, projected into each raw view by OpenCV alone: where the maps show them.
    points = np.array([[u, v, 2.0] for u in (-0.2, 0.0, 0.25) for v in (-0.2, 0.0, 0.2)])
    poses = ((np.zeros(3), np.zeros(3)), (cv2.Rodrigues(full.rotation)[0], full.translation_m))
    places = []
    for camera, view, pose in ((left, maps.left, poses[0]), (right, maps.right, poses[1])):
        raw = cv2.projectPoints(points, *pose, camera.matrix, camera.distortion)[0].reshape(-1, 2)
        places.append([shown(view, *place) for place in raw])
    left_places, right_places = np.array(places)
    assert np.abs(left_places[:, 1] - right_places[:, 1]).max() < 0.02
    after = maps.calibration
    turn = cv2.stereoRectify(
        full.left.matrix, full.left.distortion, full.right.matrix, full.right.distortion,
        (WIDTH, HEIGHT), full.rotation, full.translation_m[:, None],
    )[0]  # fmt: skip
    depth = (points @ turn.T)[:, 2]
    disparity = after.fx * after.baseline_m / depth - (after.cx_right - after.cx_left)
    assert np.abs(left_places[:, 0] - right_places[:, 0] - disparity).max() < 0.02

    whole = rectification(full, (HEIGHT, WIDTH), (HEIGHT, WIDTH)).calibration
    assert size[1] / after.fx == pytest.approx(WIDTH / whole.fx, rel=0.05)
    assert size[0] / after.fy == pytest.approx(HEIGHT / whole.fy, rel=0.05 if rows == columns else 1.0)


def shown(view: ViewMap, u: float, v: float) -> tuple[float, float]:
    """Where a map shows the raw place (u, v): column and row, by the pixel that comes nearest and the slopes there."""
    x, y = view.x.double().numpy(), view.y.double().numpy()
    row, column = np.unravel_index(np.hypot(x - u, y - v).argmin(), x.shape)
    row, column = (int(np.clip(at, 1, side - 2)) for at, side in zip((row, column), x.shape, strict=True))
    slopes = [[(at[row, column + 1] - at[row, column - 1]) / 2, (at[row + 1, column] - at[row - 1, column]) / 2]
              for at in (x, y)]  # fmt: skip
    along, down = np.linalg.solve(slopes, [u - x[row, column], v - y[row, column]])
    return column + along, row + down


def test_maps_are_kept_by_the_sizes_of_both_views() -> None:
    reader = RigReader(default_rig("quad"))
    level = rig(distortion=np.zeros(0))
    reader.calibration = replace(level, left=replace(level.left, size=None), right=replace(level.right, size=None))
    left = frame_of(torch.ones(1, HEIGHT, WIDTH))
    found = [reader.rectify(left, frame_of(torch.ones(1, *size))) for size in ((HEIGHT, WIDTH), (HEIGHT, WIDTH + 40))]
    alone = RigReader(default_rig("quad"))
    alone.calibration = reader.calibration
    again = alone.rectify(left, frame_of(torch.ones(1, HEIGHT, WIDTH + 40)))
    assert torch.equal(found[1].right.valid, again.right.valid)
    assert found[1].calibration is not None
    assert again.calibration is not None
    assert found[1].calibration.fx == again.calibration.fx
