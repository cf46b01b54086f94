from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from crosspol.synthesis.textures import Texture, environment, fractal_noise, paint, room_light, sheet, smooth_noise

SIZE = (60, 90)


def smooth_sheet() -> np.ndarray:
    y, x = np.mgrid[:80, :120]
    planes = [120 + 90 * np.sin(x / 7 + k) * np.cos(y / 9 - k) for k in range(3)]
    return np.stack(planes, axis=2).astype(np.uint8)


def texture(place: np.ndarray) -> Texture:
    return Texture(smooth_sheet(), np.tile(np.linspace(0, 1, 256, dtype=np.float32), (3, 1)), place)


PLACES = {
    "affine": np.array([[0.9, 0.2, 5.0], [-0.15, 0.8, 20.0], [0, 0, 1]]),
    "receding": np.array([[0.9, 0.1, 5.0], [-0.1, 0.8, 20.0], [0.002, 0.001, 1]]),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_window_shows_the_texels_of_its_pixels(name: str) -> None:
    place = PLACES[name]
    to_left = np.array([[1.1, 0.05, 3.0], [0, 1, 0], [0, 0, 1]])
    rows, columns = slice(6, 46), slice(9, 69)
    found = texture(place).on_plane(to_left, rows, columns)
    y, x = np.mgrid[rows, columns].astype(float)
    u, v, w = np.tensordot(place @ to_left, np.stack([x, y, np.ones_like(x)]), 1)
    u, v = u / w, v / w
    inside = (u > 0) & (u < 119) & (v > 0) & (v < 79)
    assert inside.mean() > 0.6
    for channel in range(3):
        expected = map_coordinates(smooth_sheet()[..., channel].astype(float), [v, u], order=1, mode="mirror")
        # Places are rounded to 1/32 texel, light to 8 bits.
        assert np.abs(found[..., channel] - expected)[inside].max() < 1.6
        assert abs((found[..., channel] - expected)[inside].mean()) < 0.1


def test_bent_surfaces_see_the_same_texels_as_flat_ones() -> None:
    flat = texture(PLACES["affine"])
    x, y = np.arange(60, dtype=np.float32)[None, :], np.arange(40, dtype=np.float32)[:, None]
    bent = flat.at(np.broadcast_to(x, (40, 60)), y)
    difference = bent.astype(int) - flat.on_plane(np.eye(3), slice(0, 40), slice(0, 60)).astype(int)
    assert np.abs(difference).max() <= 1


def test_light_is_looked_up_by_color() -> None:
    colors = np.stack([np.arange(256) * scale for scale in (0.5, 1.0, 2.0)]).astype(np.float32)
    texels = np.array([[[1, 2, 3], [255, 0, 7]]], np.uint8)
    light = Texture(texels, colors, np.eye(3)).light(texels, gloss=0.25)
    np.testing.assert_allclose(light[:, 0], [[0.75, 127.75], [2.25, 0.25], [6.25, 14.25]])


def test_sheets_are_images_that_follow_from_the_generator() -> None:
    sheets = [sheet(np.random.default_rng(seed), SIZE) for seed in range(30)]
    assert all(one.shape == (*SIZE, 3) and one.dtype == np.uint8 for one in sheets)
    assert np.array_equal(sheets[4], sheet(np.random.default_rng(4), SIZE))
    contrast = [float(one.std()) for one in sheets]
    assert np.median(contrast) > 20
    assert min(contrast) > 2


@pytest.mark.parametrize("wavelength", [0.5, 3.0, 12.0, 150.0])
def test_smooth_noise_has_its_strength_and_no_finer_features(wavelength: float) -> None:
    draws = np.stack([smooth_noise(np.random.default_rng(seed), SIZE, wavelength) for seed in range(60)])
    assert draws.shape == (60, *SIZE)
    assert abs(draws.mean()) < 0.15
    assert 0.6 < np.sqrt(np.mean(draws**2)) < 1.1
    if wavelength > 10:
        steps = np.abs(np.diff(draws, axis=2)).max()
        assert steps < 8 / wavelength


def test_octaves_add_finer_features_with_their_strength() -> None:
    rough, soft = (
        np.stack([fractal_noise(np.random.default_rng(seed), SIZE, 40, 1.5, r) for seed in range(20)]) for r in (1, 0.3)
    )
    for noise in (rough, soft):
        assert noise.shape == (20, *SIZE)
        assert 0.6 < np.sqrt(np.mean(noise**2)) < 1.2
    assert np.abs(np.diff(rough)).mean() > 2 * np.abs(np.diff(soft)).mean()


def test_paint_and_room_light_are_bounded_light() -> None:
    for seed in range(50):
        colors = paint(np.random.default_rng(seed), 0.7)
        assert colors.shape == (3, 256)
        assert colors.dtype == np.float32
        assert colors.min() > 0
        assert colors.max() <= 0.7 + 1e-6
    light = room_light(2.0)
    assert (np.diff(light, axis=1) >= 0).all()
    assert light[0, 140] < 2 * 0.45
    assert light[0, 255] == pytest.approx(26)


def test_an_environment_is_its_room_with_lamps() -> None:
    room = sheet(np.random.default_rng(1), SIZE)
    rooms = [environment(np.random.default_rng(seed), room) for seed in range(20)]
    assert all(one.shape == room.shape and one.dtype == np.uint8 for one in rooms)
    assert sum(int(one.max()) >= 165 for one in rooms) > 10
    np.testing.assert_array_equal(room, sheet(np.random.default_rng(1), SIZE))
