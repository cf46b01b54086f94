from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspol.synthesis import shapes
from crosspol.synthesis.shapes import Outline, Surface

SMALL = st.floats(-0.3, 0.3)


@settings(deadline=None, max_examples=25)
@given(slope_x=SMALL, slope_y=SMALL, bend_x=st.floats(-0.002, 0.002), bend_y=st.floats(-0.002, 0.002))
def test_left_x_inverts_the_projection_into_the_right_view(
    slope_x: float, slope_y: float, bend_x: float, bend_y: float
) -> None:
    surface = Surface(40.0, 30.0, 12.5, slope_x, slope_y, bend_x, bend_y)
    y, x = np.mgrid[0:60:7, 0:100].astype(np.float32)
    right = x - surface.disparity(x, y)
    np.testing.assert_allclose(surface.left_x(right, y), x, atol=2e-3)


def test_disparity_is_the_stated_polynomial() -> None:
    surface = Surface(3.0, -2.0, 10.0, 0.2, -0.1, 0.01, 0.02)
    x, y = 8.5, 4.0
    expected = 10 + 0.2 * 5.5 - 0.1 * 6 + 0.01 * 5.5**2 + 0.02 * 6**2
    assert surface.at(x, y) == pytest.approx(expected, rel=1e-6)


def _member_ellipse(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    u, v = (x - 50) * np.cos(0.5) + (y - 40) * np.sin(0.5), (y - 40) * np.cos(0.5) - (x - 50) * np.sin(0.5)
    return (u / 30) ** 2 + (v / 12) ** 2 < 1


def _member_rectangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    u, v = (x - 50) * np.cos(0.5) + (y - 40) * np.sin(0.5), (y - 40) * np.cos(0.5) - (x - 50) * np.sin(0.5)
    return (np.abs(u) < 30) & (np.abs(v) < 12)


def _member_blob(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    angle = np.arctan2(y - 40, x - 50)
    return np.hypot(x - 50, y - 40) < 20 * (1 + 0.1 * np.cos(angle + 0.3) + 0.2 * np.cos(2 * angle + 1))


BOX = np.array([[20.0, 20.0], [70.0, 25.0], [80.0, 60.0], [25.0, 55.0]])


def _member_polygon(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    inside = np.ones(np.broadcast_shapes(x.shape, y.shape), bool)
    for (x0, y0), (x1, y1) in zip(BOX, np.roll(BOX, -1, axis=0), strict=True):
        inside &= (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0
    return inside


OUTLINES = {
    "ellipse": (shapes.ellipse(50, 40, 30, 12, 0.5), _member_ellipse),
    "rectangle": (shapes.rectangle(50, 40, 30, 12, 0.5), _member_rectangle),
    "blob": (shapes.blob(50, 40, 20, np.array([0.1, 0.2]), np.array([0.3, 1.0])), _member_blob),
    "polygon": (shapes.polygon(BOX), _member_polygon),
    "polygon turned over": (shapes.polygon(BOX[::-1]), _member_polygon),
    "half plane": (shapes.half_plane(50, 40, 0.7), lambda x, y: (x - 50) * np.cos(0.7) + (y - 40) * np.sin(0.7) > 0),
    "union": (
        shapes.bars([shapes.rectangle(50, 40, 30, 12, 0.5), shapes.ellipse(50, 40, 30, 12, 0.5)]),
        lambda x, y: _member_rectangle(x, y) | _member_ellipse(x, y),
    ),
    "fence": (
        shapes.fence(shapes.rectangle(50, 40, 30, 12, 0.5), 10, 0.3, 0.0),
        lambda x, y: _member_rectangle(x, y) & (np.abs(y / 10 - np.rint(y / 10)) < 0.15),
    ),
    "foliage": (
        shapes.foliage(shapes.rectangle(50, 40, 30, 12, 0.5), np.array([[0.5, 0.1], [0.0, 0.4]]), np.zeros(2), 0.2),
        lambda x, y: _member_rectangle(x, y) & (np.sin(0.5 * x + 0.1 * y) + np.sin(0.4 * y) > 0.2),
    ),
    "everything": (shapes.everything(), lambda x, y: np.ones(np.broadcast_shapes(x.shape, y.shape), bool)),
}


@pytest.mark.parametrize("name", OUTLINES)
def test_inside_is_positive_and_within_the_box(name: str) -> None:
    outline, member = OUTLINES[name]
    y, x = np.mgrid[-20:110:0.73, -20:130:0.71].astype(np.float32)
    distance = outline.distance(x, y)
    inside = member(x.astype(np.float64), y.astype(np.float64))
    # Points within rounding of the border may fall on either side.
    assert np.mean((distance > 0) != inside) < 1e-3
    x_min, y_min, x_max, y_max = outline.box
    assert not inside[(x < x_min) | (x > x_max) | (y < y_min) | (y > y_max)].any()


@pytest.mark.parametrize("name", ["ellipse", "rectangle", "polygon", "half plane"])
def test_distance_grows_by_one_per_pixel_across_the_border(name: str) -> None:
    outline: Outline = OUTLINES[name][0]
    y, x = np.mgrid[0:90, 0:110].astype(np.float32)
    step = np.float32(0.25)
    across = (outline.distance(x + step, y) - outline.distance(x - step, y)) / (2 * step)
    down = (outline.distance(x, y + step) - outline.distance(x, y - step)) / (2 * step)
    near = np.abs(outline.distance(x, y)) < 1.5
    assert near.sum() > 50
    assert np.quantile(np.abs(np.hypot(across, down)[near] - 1), 0.95) < 0.15


def test_ring_is_the_border_of_its_outline() -> None:
    whole = shapes.ellipse(50, 40, 30, 30, 0.0)
    y, x = np.mgrid[0:80, 0:100].astype(np.float32)
    radius = np.hypot(x - 50, y - 40)
    np.testing.assert_array_equal(shapes.ring(whole, 4.5).distance(x, y) > 0, (radius < 30) & (radius > 25.5))


@pytest.mark.parametrize("whole", [True, False])
def test_a_union_is_its_parts_wherever_it_is_asked(whole: bool) -> None:
    parts = [
        shapes.rectangle(20, 15, 6, 9, 0.2),
        shapes.ellipse(70, 30, 12, 5, 0.4),
        shapes.rectangle(40, 50, 30, 2, 0),
    ]
    x = np.arange(0, 100, dtype=np.float32)[None, :]
    y = np.arange(0, 70, dtype=np.float32)[:, None]
    if whole:
        x = np.broadcast_to(x + 0.2 * y - 5, (70, 100))
    found = shapes.bars(parts).distance(x, y)
    expected = np.max([part.distance(x, y) for part in parts], axis=0)
    near = expected > -5
    np.testing.assert_allclose(found[near], expected[near], atol=1e-5)
    assert (found[~near] < -4.9).all()


def test_holes_and_growth() -> None:
    whole, hole = shapes.rectangle(50, 40, 30, 20, 0.0), shapes.ellipse(50, 40, 8, 8, 0.0)
    y, x = np.mgrid[0:80, 0:100].astype(np.float32)
    inside = (np.abs(x - 50) < 30) & (np.abs(y - 40) < 20)
    within = np.hypot(x - 50, y - 40) < 8
    np.testing.assert_array_equal(shapes.without(whole, hole).distance(x, y) > 0, inside & ~within)
    wider = shapes.grown(whole, 3.5)
    np.testing.assert_array_equal(wider.distance(x, y) > 0, (np.abs(x - 50) < 33.5) & (np.abs(y - 40) < 23.5))
    np.testing.assert_allclose(wider.box, np.array(whole.box) + np.array([-3.5, -3.5, 3.5, 3.5]))


def test_from_right_undoes_the_projection() -> None:
    surface = Surface(40.0, 30.0, 12.5, 0.2, -0.15)
    y, x = np.mgrid[0:60:7, 0:100:9].astype(np.float64)
    right = np.stack([x - surface.disparity(x, y), y, np.ones_like(x)])
    left = np.tensordot(surface.from_right(), right, 1)
    np.testing.assert_allclose(left[:2] / left[2], np.stack([x, y]), atol=1e-5)


def test_corners_are_those_of_a_parallelogram_in_space() -> None:
    focal, baseline = 120.0, 1.0
    surface = Surface(45.0, 30.0, 14.0, 0.12, -0.05)
    corners = surface.corners(45.0, 30.0, (-20, -12, 25, 10))
    # Points in space about the principal point (0, 0): rays by depth.
    points = []
    for x, y in corners:
        depth = focal * baseline / surface.at(x, y)
        points.append(np.array([x, y, focal]) * depth / focal)
    top, right, bottom, left = (points[(k + 1) % 4] - points[k] for k in range(4))
    np.testing.assert_allclose(top, -bottom, atol=1e-6)
    np.testing.assert_allclose(right, -left, atol=1e-6)
    assert 20 < np.ptp(corners[:, 0]) < 90
    flat = Surface(45.0, 30.0, 14.0).corners(45.0, 30.0, (-20, -12, 25, 10))
    np.testing.assert_allclose(flat, [[25, 18], [70, 18], [70, 40], [25, 40]])
    with pytest.raises(ValueError, match=r"box: got \(0, 0, 200, 10\), wanted a rectangle before the horizon"):
        surface.corners(45.0, 30.0, (0, 0, 200, 10))
