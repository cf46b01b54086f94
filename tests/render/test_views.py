"""A small built scene whose geometry is known: a slanted textured wall, a box before it and a pane before the box."""

import math
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from crosspol.render.scene import Camera, Part, RoomScene, Surface
from crosspol.render.truth import calibration_of
from crosspol.render.views import Quality, RenderedPair, render_pair

SIZE = (48, 64)
FOCAL, BASELINE = 1.0, 0.1
PANE_Z, WALL_Z = 1.5, 3.0
MATRIX = tuple[tuple[float, ...], ...]


def place(z: float, half: tuple[float, float], x: float = 0.0, yaw: float = math.pi) -> MATRIX:
    cos, sin = math.cos(yaw), math.sin(yaw)
    return (
        (cos * half[0], 0.0, sin, x),
        (0.0, half[1], 0.0, 0.0),
        (-sin * half[0], 0.0, cos, z),
        (0.0, 0.0, 0.0, 1.0),
    )


@pytest.fixture(scope="module")
def scene() -> RoomScene:
    wall = Surface("matt", texture=8, scale=6.0, level=0.4)
    lamp = Surface("light", level=300.0)
    return RoomScene(
        seed=(0, 0),
        room_m=(4.0, 4.0, 4.0),
        camera=Camera((0.0, 0.0, 0.0), 0.0, 0.0, FOCAL, BASELINE),
        lamp=200.0,
        parts=(
            Part("wall", "rectangle", place(WALL_Z, (6.0, 6.0), yaw=math.pi + 0.35), wall),
            Part("pane", "rectangle", place(PANE_Z, (0.3, 0.4), x=-0.35), Surface("pane")),
            # Small and far: lit so, a diffuse wall has next to no noise.
            Part("light", "rectangle", place(-2.0, (0.2, 0.2), yaw=0.0), lamp),
        ),
    )


@pytest.fixture(scope="module")
def pair(mitsuba: Any, scene: RoomScene) -> RenderedPair:
    return render_pair(mitsuba, scene, "quad", SIZE, Quality(samples=16, bounces=2, denoise=False))


def warp(right: NDArray[np.float32], disparity: NDArray[np.float64], offset: float) -> NDArray[np.float32]:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    return np.asarray(
        cv2.remap(right, (columns - disparity - offset).astype(np.float32), rows, cv2.INTER_CUBIC), np.float32
    )


def test_disparity_is_that_of_the_planes(pair: RenderedPair) -> None:
    truth = pair.truth
    focal_px = FOCAL * SIZE[1]
    assert truth.glass.mean() > 0.1
    np.testing.assert_allclose(truth.disparity[truth.glass], focal_px * BASELINE / PANE_Z, rtol=1e-4)
    # The wall is a plane, so that disparity is linear in the column; glass removed, it fills the image.
    background = truth.disparity_background
    assert np.isfinite(background).all()
    assert np.abs(np.diff(background, n=2, axis=1)).max() < 1e-3
    assert np.abs(np.diff(background, axis=1)).mean() > 0.01
    np.testing.assert_array_equal(background[~truth.glass], truth.disparity[~truth.glass])
    # World x is image-left: the pane at x = -0.35 stands right of the middle, and further left in the right view.
    columns = np.nonzero(truth.glass)[1]
    left_edge = (SIZE[1] - 1) / 2 + focal_px * 0.05 / PANE_Z
    assert columns.min() == math.ceil(left_edge)
    columns_right = np.nonzero(truth.glass_right)[1]
    assert columns_right.min() == math.ceil(left_edge - focal_px * BASELINE / PANE_Z)


def test_depth_normals_and_incidence(pair: RenderedPair) -> None:
    truth = pair.truth
    np.testing.assert_allclose(truth.depth_m[truth.glass], PANE_Z, rtol=1e-5)
    np.testing.assert_allclose(truth.normals[truth.glass], [[0, 0, -1]] * int(truth.glass.sum()), atol=1e-5)
    rows, columns = np.nonzero(truth.glass)
    ray = np.stack([columns - (SIZE[1] - 1) / 2, rows - (SIZE[0] - 1) / 2, np.full(len(rows), FOCAL * SIZE[1])], axis=1)
    expected = np.arccos(ray[:, 2] / np.linalg.norm(ray, axis=1))
    np.testing.assert_allclose(truth.incidence_rad[truth.glass], expected, atol=1e-3)


def test_warping_right_to_left_fits_best_without_an_offset(pair: RenderedPair) -> None:
    truth = pair.truth
    use = ~truth.glass & ~truth.occluded
    use &= cv2.erode(use.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    use[:, :8] = False
    left, right = pair.left[0, 0], pair.right[0, 0]
    errors = {
        offset: float(np.abs(warp(right, truth.disparity, offset) - left)[use].mean())
        for offset in (-1.0, -0.5, 0.0, 0.5, 1.0)
    }
    assert min(errors, key=lambda offset: errors[offset]) == 0.0, errors
    assert errors[0.0] < 0.9 * min(errors[0.5], errors[-0.5])


def test_left_and_right_truth_agree(mitsuba: Any, pair: RenderedPair, scene: RoomScene) -> None:
    truth = pair.truth
    rows, columns = np.nonzero(~truth.occluded & np.isfinite(truth.disparity))
    target = np.rint(columns - truth.disparity[rows, columns]).astype(int)
    inside = (target >= 0) & (target < SIZE[1])
    agree = truth.glass_right[rows[inside], target[inside]] == truth.glass[rows[inside], columns[inside]]
    # Rounding to whole pixels errs along the pane's edges only.
    assert agree.mean() > 0.97
    # Beside the pane's left edge the wall is hidden in the right view by as much as the disparities differ.
    assert truth.occluded[:, 8:].any()
    assert not truth.occluded[truth.glass].any()


def test_glass_polarizes_and_stokes_is_physical(pair: RenderedPair) -> None:
    s0, s1, s2 = pair.left[0]
    assert s0.min() >= 0
    assert (np.hypot(s1, s2) <= s0 * 1.001 + 1e-6).all()
    dolp = np.hypot(s1, s2) / np.maximum(s0, 1e-6)
    assert dolp[pair.truth.glass].mean() > 1.2 * dolp[~pair.truth.glass].mean()


def test_same_arguments_give_the_same_bits(mitsuba: Any, scene: RoomScene) -> None:
    quality = Quality(samples=4, bounces=3, denoise=False)
    first, second = (render_pair(mitsuba, scene, "quad", SIZE, quality) for _ in range(2))
    np.testing.assert_array_equal(first.left, second.left)
    np.testing.assert_array_equal(first.right, second.right)


def test_crossed_pair_sees_what_the_lamp_polarizes(mitsuba: Any, scene: RoomScene) -> None:
    # A polarizing coat keeps the lamp's polarization in its mirror image; the left camera looks through the same axis.
    shiny = Part("wall", "rectangle", place(2.0, (6.0, 6.0)), Surface("coated", level=0.1, roughness=0.3))
    one = RoomScene(scene.seed, scene.room_m, scene.camera, scene.lamp, (shiny,))
    pair = render_pair(mitsuba, one, "crossed", SIZE, Quality(samples=16, bounces=2, denoise=False))
    assert pair.left.shape == (1, *SIZE)
    assert pair.left.mean() > 1.1 * pair.right.mean() > 0


def test_calibration_has_pixel_centres_at_whole_numbers(scene: RoomScene) -> None:
    calibration = calibration_of(scene.camera, SIZE)
    assert calibration.cx_left == 31.5
    assert calibration.cy == 23.5
    assert calibration.fx == 64
    assert calibration.baseline_m == pytest.approx(BASELINE)
