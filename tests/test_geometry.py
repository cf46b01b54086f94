"""Depth and points against Middlebury's own numbers, OpenCV, and the projection that they undo."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from crosspol import geometry
from crosspol.datasets.sample_rooms import sample_rooms
from crosspol.datasets.scene_format import read_index, read_scene
from crosspol.errors import UsageError
from crosspol.io.disparity import read_disparity
from crosspol.rigs.calibration_files import read_calibration

NAN = np.nan

# Middlebury 2014, scene of https://vision.middlebury.edu/stereo/data/scenes2014/, where the page gives the formula
# Z = baseline * f / (d + doffs), in mm; vmin and vmax are its tight bounds on the disparity.
MIDDLEBURY = """\
cam0=[3997.684 0 1176.728; 0 3997.684 1011.728; 0 0 1]
cam1=[3997.684 0 1307.839; 0 3997.684 1011.728; 0 0 1]
doffs=131.111
baseline=193.001
width=2964
height=1988
ndisp=280
vmin=31
vmax=257
"""
F, DOFFS, BASELINE_MM = 3997.684, 131.111, 193.001

MOTORCYCLE = Path("/work/shared/data/real/motorcycle")


def test_depth_is_what_middlebury_says(tmp_path: Path) -> None:
    (tmp_path / "calib.txt").write_text(MIDDLEBURY)
    found = read_calibration(tmp_path / "calib.txt")
    disparity = np.array([[31.0, 257.0, 0.0]])
    depth = geometry.depth(disparity, found.fx, found.baseline_m, found.cx_left, found.cx_right)
    np.testing.assert_allclose(1000 * depth, BASELINE_MM * F / (disparity + DOFFS), rtol=1e-6)
    # The scene is between 2 and 5 m away. With the other sign of the offset, 31 px would lie behind the cameras.
    np.testing.assert_allclose(depth, [[4.7594, 1.9879, 5.8847]], atol=1e-4)


def test_depth_does_not_change_with_the_images_size() -> None:
    full = geometry.depth(np.array([[100.0]]), F, 0.193001, 1176.728, 1307.839)
    quarter = geometry.depth(np.array([[25.0]]), 999.421, 0.193001, 0, 32.778)
    np.testing.assert_allclose(full, quarter, rtol=1e-5)


@pytest.mark.skipif(not MOTORCYCLE.exists(), reason="Middlebury's Motorcycle is not on this machine")
def test_depth_of_middleburys_motorcycle() -> None:
    found = read_calibration(MOTORCYCLE / "calibration.json")
    disparity = read_disparity(MOTORCYCLE / "disparity.npz")
    depth = geometry.depth(disparity, found.fx, found.baseline_m, found.cx_left, found.cx_right)
    known = np.isfinite(disparity)
    np.testing.assert_array_equal(np.isfinite(depth), known)
    doffs = 342.279 - 311.193
    np.testing.assert_allclose(depth[known], 0.193001 * 994.978 / (disparity[known].astype(float) + doffs), rtol=1e-6)
    assert 2 < depth[known].min() < depth[known].max() < 6  # a garage


@pytest.mark.parametrize("flags", [0, cv2.CALIB_ZERO_DISPARITY])
def test_points_are_opencvs(flags: int) -> None:
    """Against cv2.reprojectImageTo3D with the Q of cv2.stereoRectify; principal points differ without the flag."""
    left = np.array([[702.5, 0, 318.25], [0, 701.75, 243.5], [0, 0, 1]])
    right = np.array([[699.25, 0, 345.5], [0, 700.5, 238.75], [0, 0, 1]])
    turn = cv2.Rodrigues(np.array([0.004, -0.01, 0.006]))[0]
    size, none = (96, 64), np.zeros(5)
    translation = np.array([[-0.1207], [0.0011], [0.0023]])
    _, _, p_left, p_right, q, _, _ = cv2.stereoRectify(left, none, right, none, size, turn, translation, flags=flags)
    offset = p_right[0, 2] - p_left[0, 2]
    assert (abs(offset) < 1e-9) == bool(flags)
    rng = np.random.default_rng(0)
    disparity = rng.uniform(2, 60, (64, 96)).astype(np.float32) + np.float32(max(0, -offset))
    expected = cv2.reprojectImageTo3D(disparity, q)
    baseline = float(np.linalg.norm(translation))
    depth = geometry.depth(disparity, p_left[0, 0], baseline, p_left[0, 2], p_right[0, 2])
    found = geometry.points(depth, p_left[:, :3])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


cameras = st.tuples(
    st.floats(20, 5000), st.floats(20, 5000), st.floats(-200, 4000), st.floats(-200, 4000), st.floats(-50, 50)
)


@given(
    arrays.arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 7)), elements=st.floats(0.25, 500)),
    cameras,
    st.floats(0.005, 3),
    st.floats(-300, 300),
)
def test_projecting_the_points_gives_pixels_and_disparity(
    above_infinity: NDArray[np.float64],
    camera: tuple[float, float, float, float, float],
    baseline_m: float,
    offset: float,
) -> None:
    fx, fy, cx, cy, skew = camera
    matrix = np.array([[fx, skew, cx], [0, fy, cy], [0, 0, 1]])
    right_matrix = matrix + np.array([[0, 0, offset], [0, 0, 0], [0, 0, 0]])
    disparity = above_infinity - offset
    points = geometry.points(geometry.depth(disparity, fx, baseline_m, cx, cx + offset), matrix)
    assert points.shape == (*disparity.shape, 3)
    homogeneous = points @ matrix.T
    left = homogeneous[..., :2] / homogeneous[..., 2:]
    rows, columns = np.indices(disparity.shape)
    np.testing.assert_allclose(left[..., 0], columns, atol=1e-6)
    np.testing.assert_allclose(left[..., 1], rows, atol=1e-6)
    homogeneous = (points - [baseline_m, 0, 0]) @ right_matrix.T
    right = homogeneous[..., :2] / homogeneous[..., 2:]
    np.testing.assert_allclose(left[..., 0] - right[..., 0], disparity, atol=1e-6)
    np.testing.assert_allclose(right[..., 1], rows, atol=1e-6)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.floats(width=32)),
    st.floats(-100, 100),
)
def test_depth_is_positive_or_nan_whatever_comes(kind, disparity: NDArray[np.float32], offset: float) -> None:  # type: ignore[no-untyped-def]
    depth = geometry.depth(kind(disparity), 700.0, 0.12, 0.0, offset)
    points = geometry.points(depth, np.array([[700.0, 0, 2], [0, 700, 2], [0, 0, 1]]))
    assert type(depth) is type(points) is type(kind(disparity))
    found = np.asarray(depth)
    known = np.isfinite(found)
    assert (found[known] > 0).all()
    assert np.isnan(found[~known]).all()
    assert np.isnan(np.asarray(points)[~known]).all()
    assert not known[~np.isfinite(disparity) | (disparity + np.float32(offset) <= 0)].any()


def test_at_infinity_and_beyond_there_is_no_depth() -> None:
    disparity = np.array([[-10.0, -10.5, -9.5, 0.0, NAN, np.inf, -np.inf]])
    depth = geometry.depth(disparity, 100.0, 0.1, cx_left=40, cx_right=50)
    np.testing.assert_allclose(depth, [[NAN, NAN, 20, 1, NAN, NAN, NAN]])


def test_numpy_and_torch_agree_and_keep_type_and_batch() -> None:
    rng = np.random.default_rng(1)
    disparity = rng.uniform(-1, 30, (2, 5, 6))
    matrix = np.array([[80.0, 1, 2.5], [0, 81, 2], [0, 0, 1]])
    for dtype in (np.float32, np.float64):
        array = disparity.astype(dtype)
        tensor = torch.from_numpy(array)
        for function in (
            lambda values: geometry.depth(values, 80.0, 0.1, 2.5, 3.0),
            lambda values: geometry.points(geometry.depth(values, 80.0, 0.1), matrix),
            lambda values: geometry.depth_error(values, 80.0, 0.1, 0.5),
            lambda values: geometry.flying(geometry.depth(values, 80.0, 0.1), 80.0),
        ):
            ours, theirs = function(array), function(tensor)
            assert isinstance(theirs, torch.Tensor)
            assert ours.shape == tuple(theirs.shape)
            assert ours.dtype in (dtype, np.bool_)
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-6)
    whole = geometry.depth(np.array([[4, 8]], np.uint8), 80.0, 0.1)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, [[2, 1]])


def test_gradients_are_finite_where_there_is_no_depth() -> None:
    disparity = torch.tensor([[4.0, 0.0, -1.0, NAN]], requires_grad=True)
    geometry.points(geometry.depth(disparity, 80.0, 0.1), np.diag([80.0, 80, 1]))[..., 2].nansum().backward()
    np.testing.assert_allclose(disparity.grad, [[-80 * 0.1 / 16, 0, 0, 0]])


def test_depth_error_is_the_slope_of_depth() -> None:
    depth = geometry.depth(np.array([[8.0, 7.99]]), 700.0, 0.12)
    error = geometry.depth_error(depth, 700.0, 0.12, 0.01)
    np.testing.assert_allclose(error[0, 0], depth[0, 1] - depth[0, 0], rtol=2e-3)
    # Twice as far, four times the error.
    np.testing.assert_allclose(geometry.depth_error(2 * depth, 700.0, 0.12, 0.01), 4 * error)


def test_the_table_of_errors_in_the_documents_is_the_formula() -> None:
    text = (Path(__file__).parents[1] / "docs" / "metric.md").read_text()
    rows = re.findall(r"\| ([\d.]+) m \| ([\d.]+) m \| ([\d.]+) m \| ([\d.]+) % \|", text)
    assert len(rows) == 6
    for row in rows:
        at, quarter, whole, share = (float(value) for value in row)
        error = float(geometry.depth_error(np.array([[at]]), 700, 0.12)[0, 0])
        assert (round(error / 4, 3), round(error, 3), round(100 * error / at, 1)) == (quarter, whole, share)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: geometry.depth(np.ones((1, 1)), 0, 0.1), "focal_px: got 0, wanted a positive number"),
        (lambda: geometry.depth(np.ones((1, 1)), 700, -0.1), "baseline_m: got -0.1, wanted a positive number"),
        (lambda: geometry.depth(np.ones((1, 1)), NAN, 0.1), "focal_px: got nan"),
        (lambda: geometry.depth(np.ones((1, 1)), 700, 0.1, NAN), "cx_left: got nan, wanted a finite number"),
        (lambda: geometry.points(np.ones((1, 1)), np.eye(4)), "matrix: got .*, wanted .*positive focal lengths"),
        (lambda: geometry.points(np.ones((1, 1)), np.diag([700, 700, 2])), "matrix: got"),
        (lambda: geometry.points(np.ones((1, 1)), np.diag([700, -700, 1])), "matrix: got"),
        (lambda: geometry.flying(np.ones((1, 1)), 0), "focal_px: got 0, wanted a positive number"),
        (lambda: geometry.flying(np.ones((1, 1)), 50, steepest_deg=90), "steepest_deg: got 90, wanted more than 0 and"),
        (lambda: geometry.flying(np.ones((1, 1)), 50, nearest_plane_m=0), "nearest_plane_m: got 0, wanted a positive"),
        (lambda: geometry.flying(np.ones((1, 1)), 50, agreeing=9), "agreeing: got 9, wanted 0 to 8 neighbors"),
    ],
)
def test_what_cannot_be_is_refused(call, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match=said):
        call()


def test_a_smeared_edge_flies_and_a_sharp_one_does_not() -> None:
    smeared = np.full((6, 9), 2.0)
    smeared[:, 5:] = 4
    sharp = smeared.copy()
    smeared[:, 3], smeared[:, 4] = 2.6, 3.3
    expected = np.zeros((6, 9), bool)
    expected[:, 3:5] = True
    np.testing.assert_array_equal(geometry.flying(smeared, 500.0), expected)
    assert not geometry.flying(sharp, 500.0).any()
    # A square two pixels wide stays, with its corners; a line of one pixel goes.
    thin = np.full((9, 9), 4.0)
    thin[2:4, 2:4] = 2
    assert not geometry.flying(thin, 500.0).any()
    thin[:, 6] = 3
    assert geometry.flying(thin, 500.0)[:, 6].all()
    assert geometry.flying(thin, 500.0).sum() == 9


@pytest.mark.parametrize(("height_m", "flies"), [(0.3, False), (2.0, False), (0.2, True)])
def test_a_floor_stays_however_far_it_goes_unless_the_camera_touches_it(height_m: float, flies: bool) -> None:
    """A floor seen from a robot: within the last rows before the horizon it is steeper than any angle."""
    rows = np.arange(2, 60)[:, None]
    depth = 500 * height_m / rows * np.ones(20)
    assert geometry.flying(depth, 500.0)[:20].all() == flies
    # Nearby, at most 75 degrees steep, nothing flies.
    nearby = 500 * height_m / np.arange(140, 200)[:, None] * np.ones(20)
    assert not geometry.flying(nearby, 500.0).any()


def test_the_steepest_surface_is_as_steep_as_it_says() -> None:
    """At 1 m, where the plane would pass at 0.07 to 0.14 m from the camera."""
    for degrees, flies in ((82, False), (84.5, False), (85.5, True), (86, True)):
        step = np.tan(np.deg2rad(degrees)) / 2000  # of depth, a pixel
        depth = (1 + step) ** np.arange(9.0) * np.ones((5, 1))
        assert geometry.flying(depth, 2000.0)[:, 1:-1].all() == flies
        assert geometry.flying(depth, 2000.0, steepest_deg=degrees + 1).any() == False  # noqa: E712


def test_unknown_pixels_do_not_fly_and_agree_with_nobody() -> None:
    depth = np.full((3, 4), 10.0)
    depth[:, 1] = NAN
    depth[:, 3] = np.inf
    expected = np.zeros((3, 4), bool)
    expected[:, 0] = True  # a line of one pixel, as far as anybody knows
    expected[:, 2] = True
    np.testing.assert_array_equal(geometry.flying(depth, 500.0), expected)


@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(1, 5), st.integers(1, 5)),
        elements=st.one_of(st.floats(1.9, 2.4), st.integers(-1, 4).map(float), st.just(NAN), st.just(np.inf)),
    ),
    st.integers(0, 8),
)
def test_flying_counts_neighbors_on_the_same_surface(depth: NDArray[np.float64], agreeing: int) -> None:
    """Against the definition, pixel by pixel: the angle of the surface, and where its plane passes the camera."""
    focal, expected = 50.0, np.zeros(depth.shape, bool)

    def surface(one: float, other: float) -> bool:
        step = abs(one - other)
        angle = np.arctan2(step, max(one, other) / focal), np.arctan2(step, min(one, other) / focal)
        if max(angle) <= np.deg2rad(80):
            return True
        # A plane through both points, in the plane of the two rays: at 1 / z = inverse + slope * column, a camera that
        # looks along z is 1 / (focal * |slope|) away from it along the image.
        return 1 / (focal * abs(1 / one - 1 / other)) >= 0.4

    for row, column in np.ndindex(depth.shape):
        mine = depth[row, column]
        if np.isfinite(mine) and mine > 0:
            around = depth[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].ravel()
            known = around[np.isfinite(around) & (around > 0)]
            expected[row, column] = sum(surface(mine, other) for other in known) - 1 < agreeing
    found = geometry.flying(depth, focal, steepest_deg=80, nearest_plane_m=0.4, agreeing=agreeing)
    np.testing.assert_array_equal(found, expected)


def test_rendered_rooms_have_the_depth_that_rays_found() -> None:
    """Metric depth of the true disparity against the renderer's distances, which no disparity was used for."""
    records = [record for record in read_index(sample_rooms()) if record.rig == "quad"]
    for record in records:
        scene = read_scene(sample_rooms(), record)
        found = scene.calibration
        assert found is not None
        with np.load(sample_rooms() / record.files["truth"]) as truth:
            expected = truth["depth_m"].astype(np.float64)
        depth = geometry.depth(scene.disparity, found.fx, found.baseline_m, found.cx_left, found.cx_right)
        known = np.isfinite(depth)
        assert known.mean() > 0.99
        relative = np.abs(depth[known] - expected[known]) / expected[known]
        # Disparity is stored in steps of 1/256 px, depth in 11 bits.
        assert np.median(relative) < 2e-4
        assert np.percentile(relative, 99) < 2e-3
