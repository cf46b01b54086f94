from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from matplotlib import colormaps

from crosspol.visualization.maps import (
    DEPTH_COLORS,
    DISPARITY_COLORS,
    ERROR_COLORS,
    UNKNOWN_GRAY,
    Scale,
    color,
    depth_image,
    disparity_image,
    error_image,
    polarization_use_image,
    robust_range,
    story,
)

VALUES = st.floats(-1e4, 1e4, width=32) | st.sampled_from([np.nan, np.inf, -np.inf])


@settings(deadline=None, max_examples=25)
@given(values=npst.arrays(np.float32, (3, 4), elements=VALUES))
def test_colors_are_matplotlibs_and_unknown_is_gray(values):
    scale = Scale(-5.0, 20.0, "turbo", "px")
    image = color(values, scale)
    known = np.isfinite(values)
    expected = colormaps["turbo"](np.rint(255 * ((values[known] + 5) / 25).clip(0, 1)).astype(int))[:, :3]
    np.testing.assert_array_equal(image[known], np.rint(255 * expected).astype(np.uint8))
    assert (image[~known] == UNKNOWN_GRAY).all()


@settings(deadline=None, max_examples=25)
@given(values=npst.arrays(np.float32, (3, 4), elements=VALUES))
def test_ranges_are_never_empty(values):
    low, high = robust_range(values)
    assert np.isfinite([low, high]).all()
    assert low < high


def test_ranges_ignore_a_few_extreme_values():
    values = np.linspace(10, 20, 10_000)
    values[:20], values[-20:] = -1e6, 1e6
    low, high = robust_range(values)
    assert 9.9 < low < high < 20.1


@pytest.mark.parametrize("shape", [(32, 32), (47, 90), (480, 64), (700, 500)])
def test_a_scale_stands_beside_the_pixels(shape):
    disparity = np.linspace(3, 60, shape[0] * shape[1]).reshape(shape)
    disparity[2, 3] = np.inf
    image = disparity_image(disparity)
    height, width = shape
    assert image.dtype == np.uint8
    assert image.shape[0] == height
    assert image.shape[1] > width + 40
    pixels = color(disparity, Scale(*robust_range(disparity), DISPARITY_COLORS, "px"))
    np.testing.assert_array_equal(image[:, :width], pixels)
    assert (image[2, 3] == UNKNOWN_GRAY).all()
    strip = image[:, width:].reshape(-1, 3).astype(int)
    # The strip shows both ends of the colors, black text, and white elsewhere.
    for end in (0, 255):
        shade = np.rint(255 * np.array(colormaps[DISPARITY_COLORS](end)[:3]))
        assert np.abs(strip - shade).sum(axis=1).min() < 60
    assert strip.sum(axis=1).min() < 150
    assert (strip == 255).all(axis=1).mean() > 0.4


def test_text_of_the_scale_differs_with_the_range():
    ramp = np.tile(np.linspace(0, 1, 90), (120, 1))
    near, far = disparity_image(ramp * 10), disparity_image(ramp * 90)
    np.testing.assert_array_equal(near[:, :90], far[:, :90])
    assert (near[:, 90:] != far[:, 90:]).any()


def test_what_is_near_has_the_color_of_a_large_disparity_and_the_sky_does_not_take_the_scale():
    depth = np.tile(np.linspace(2, 6, 50, dtype=np.float32), (40, 1))
    depth[0, :40], depth[1, :10] = 1e4, np.nan
    image = depth_image(depth)
    near, far = np.percentile(depth[np.isfinite(depth)], (0.5, 95))
    assert far < 7
    np.testing.assert_array_equal(image[:, :50], color(depth, Scale(near, far, DEPTH_COLORS, "m")))
    last, first = (np.rint(255 * np.array(colormaps[DISPARITY_COLORS](end)[:3])) for end in (0, 255))
    np.testing.assert_array_equal(image[0, 0], last)
    np.testing.assert_array_equal(image[5, 0], first)
    assert (image[1, 0] == UNKNOWN_GRAY).all()
    # A wall head-on, and nothing at all.
    assert len(np.unique(depth_image(np.full((40, 50), 3, np.float32))[:, :50].reshape(-1, 3), axis=0)) == 1
    assert (depth_image(np.full((40, 50), np.nan, np.float32))[:, :50] == UNKNOWN_GRAY).all()


def test_errors_are_absolute_and_unknown_where_the_truth_is():
    truth = np.full((40, 50), 10.0)
    truth[0, :2] = np.nan, np.inf
    predicted = truth + np.where(np.arange(50) % 2, -2.0, 2.0)
    predicted[0, :2] = 10
    image = error_image(predicted, truth)[:, :50]
    assert (image[0, :2] == UNKNOWN_GRAY).all()
    shade = np.rint(255 * np.array(colormaps[ERROR_COLORS](round(255 * 2 / 5))[:3]))
    np.testing.assert_array_equal(image[1:], np.broadcast_to(shade, (39, 50, 3)))


def test_use_of_polarization_starts_at_zero():
    use = np.zeros((40, 50), np.float32)
    assert len(np.unique(polarization_use_image(use)[:, :50].reshape(-1, 3), axis=0)) == 1
    use[10:20] = 0.02
    image = polarization_use_image(use)[:, :50]
    np.testing.assert_array_equal(image[15, 5], np.rint(255 * np.array(colormaps["viridis"](255)[:3])))


@pytest.mark.parametrize("glass", [False, True, None])
def test_story_shows_nine_panels(glass):
    rng = np.random.default_rng(0)
    shape = (48, 64)
    view, truth = rng.random((*shape, 3)), rng.uniform(5, 20, shape)
    truth[:4] = np.nan
    region = np.zeros(shape, bool) if glass is None else np.full(shape, glass)
    if glass is None:
        region[10:30, 20:40] = True
    figure = story(
        view, view, np.where(region, 0.5, np.nan), truth, region, truth + 2, truth + 1, region * 0.1, ("a", "b")
    )
    assert figure.dtype == np.uint8
    assert figure.shape[2] == 3
    assert min(figure.shape[:2]) > 600
    rows, columns = np.array_split(figure, 3), 3
    for row in rows:
        for panel in np.array_split(row, columns, axis=1):
            assert panel.std() > 10


def test_drawing_changes_nothing_global():
    program = """
import sys
import matplotlib
import numpy as np
from crosspol.visualization.maps import disparity_image
def settings():
    # Reading the entry "backend" would choose one.
    return {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}
before = settings()
disparity_image(np.random.rand(40, 50))
assert settings() == before
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
