"""The angle of polarization as colors."""

import math

import numpy as np

from crosspol.visualization.polarization import aolp_image, aolp_map


def test_an_angle_has_the_color_of_the_angle_half_a_turn_on_and_none_where_there_is_no_polarization() -> None:
    angles = np.linspace(-math.pi / 2, math.pi / 2, 40, dtype=np.float32)[None].repeat(40, 0)
    full, none = np.ones_like(angles), np.zeros_like(angles)
    image = aolp_map(angles, full)
    assert image.shape == (40, 40, 3)
    np.testing.assert_allclose(image.astype(int), aolp_map(angles + np.float32(math.pi), full), atol=1)
    assert aolp_map(angles, none).max() == 0
    red, green, blue = image[0, 20].tolist()  # nearly along the rows
    assert red > 200 > max(green, blue)


def test_what_is_not_valid_is_gray_and_the_map_is_the_left_of_the_image() -> None:
    angles = np.zeros((40, 30), np.float32)
    dolp = np.ones_like(angles)
    dolp[:5], angles[5:8] = np.nan, np.nan
    image = aolp_map(angles, dolp)
    assert (image[:8] == 128).all()
    assert (image[8:] != 128).any(axis=-1).all()
    np.testing.assert_array_equal(aolp_image(angles, dolp)[:, :30], image)
