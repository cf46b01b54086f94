from __future__ import annotations

import numpy as np
import pytest
import torch

from crosspol.polarimetry.fresnel import fresnel_pane
from crosspol.synthesis import shapes
from crosspol.synthesis.compositing import occlusion, render_view
from crosspol.synthesis.layout import Layer, LayeredScene, Pane, Texture, draw_layered_scene
from crosspol.synthesis.panes import plane_normal
from crosspol.synthesis.shapes import Surface

SIZE = (40, 64)
FOCAL = 80.0
CENTRE = (31.5, 19.5)


def plain(*color: float) -> Texture:
    return Texture(np.zeros((4, 4, 3), np.uint8), np.repeat(np.float32(color)[:, None], 256, axis=1), np.eye(3))


def layer(outline: shapes.Outline, surface: Surface, span: tuple[float, float], *color: float) -> Layer:
    return Layer(outline, surface, span, plain(*color))


def window_scene() -> LayeredScene:
    """A dim wall behind an oblique pane that mirrors a brighter world."""
    wall = layer(shapes.everything(), Surface(*CENTRE, 3.0), (3.0, 3.0), 0.2, 0.3, 0.4)
    surface = Surface(*CENTRE, 9.0, 0.1, 0.05)
    pane = Pane(
        outline=shapes.rectangle(34, 20, 20, 14, 0.0),
        surface=surface,
        span=(5.0, 13.0),
        normal=plane_normal(0.1, 0.05, 9.0, FOCAL),
        tint=(1.0, 1.0, 1.0),
        mirrored=plain(1.2, 0.9, 0.6),
        mirrored_surface=Surface(*CENTRE, 5.0),
    )
    return LayeredScene((wall, pane), FOCAL, CENTRE)


@pytest.mark.parametrize("side", ["left", "right"])
def test_light_of_a_pane_is_fresnels(side: str) -> None:
    view = render_view(window_scene(), SIZE, side)  # type: ignore[arg-type]
    normal = np.array(plane_normal(0.1, 0.05, 9.0, FOCAL))
    rows, columns = np.nonzero(view.glass)
    inner = (rows > 8) & (rows < 32) & (columns > 20) & (columns < 40)
    assert inner.sum() > 200
    for row, column in zip(rows[inner][::17], columns[inner][::17], strict=True):
        ray = np.array([(column - CENTRE[0]) / FOCAL, (row - CENTRE[1]) / FOCAL, 1.0])
        cosine = normal @ ray / np.linalg.norm(ray)
        r_s, r_p, t_s, t_p = (float(share) for share in fresnel_pane(torch.tensor(cosine), 1.5))
        expected = (t_s + t_p) / 2 * np.array([0.2, 0.3, 0.4]) + (r_s + r_p) / 2 * np.array([1.2, 0.9, 0.6])
        np.testing.assert_allclose(view.rgb[:, row, column], expected, rtol=1e-4)
        along_s = (t_s - t_p) / 2 * 0.3 + (r_s - r_p) / 2 * 0.9
        s = np.cross(normal, ray)
        twice = 2 * np.arctan2(-s[1], s[0])
        assert view.s1[row, column] == pytest.approx(along_s * np.cos(twice), abs=1e-5)
        assert view.s2[row, column] == pytest.approx(along_s * np.sin(twice), abs=1e-5)


def test_truth_in_a_pane_is_the_pane_and_behind_it_the_wall() -> None:
    view = render_view(window_scene(), SIZE, "left")
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    inside = (np.abs(x - 34) <= 20) & (np.abs(y - 20) <= 14)
    np.testing.assert_array_equal(view.glass, inside)
    pane = 9 + 0.1 * (x - CENTRE[0]) + 0.05 * (y - CENTRE[1])
    np.testing.assert_allclose(view.disparity, np.where(inside, pane, 3.0), atol=1e-5)
    np.testing.assert_allclose(view.background, 3.0, atol=1e-6)


def test_right_view_is_moved_to_the_left_by_the_disparity() -> None:
    wall = layer(shapes.everything(), Surface(*CENTRE, 2.0), (2.0, 2.0), 0.1, 0.1, 0.1)
    box = layer(shapes.rectangle(40, 20, 5, 5, 0.0), Surface(40, 20, 7.25), (7.25, 7.25), 0.9, 0.9, 0.9)
    scene = LayeredScene((wall, box), FOCAL, CENTRE)
    left, right = (render_view(scene, SIZE, side).rgb[0, 20] for side in ("left", "right"))
    x = np.arange(SIZE[1])
    centers = [float(np.sum(x * (row - 0.1)) / np.sum(row - 0.1)) for row in (left, right)]
    assert centers[0] == pytest.approx(40.0, abs=1e-4)
    assert centers[1] == pytest.approx(40.0 - 7.25, abs=1e-4)
    # The wall's strip that the box hides from the right camera, and what leaves the image at the left.
    hidden = occlusion(scene, render_view(scene, SIZE, "left").disparity)[20]
    edge = 40 - 5 - 7.25 + 2.0
    expected = ((x >= edge) & (x < 35)) | (x - 2.0 < -0.5)
    np.testing.assert_array_equal(hidden, expected)


def test_slanted_surfaces_cut_each_other_where_they_meet() -> None:
    flat = layer(shapes.everything(), Surface(*CENTRE, 6.0), (6.0, 6.0), 0.1, 0.1, 0.1)
    slanted = layer(shapes.everything(), Surface(32, 20, 6.0, 0.2), (0.0, 13.0), 0.9, 0.9, 0.9)
    view = render_view(LayeredScene((flat, slanted), FOCAL, CENTRE), SIZE, "left")
    x = np.arange(SIZE[1])
    expected = np.broadcast_to(np.maximum(6.0, 6 + 0.2 * (x - 32)), SIZE)
    np.testing.assert_allclose(view.disparity, expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_occlusion_agrees_with_a_z_buffer(seed: int) -> None:
    """The reference throws finely spaced points of every surface into the right view and keeps the nearest."""
    size, bins = (48, 96), 4
    scene = draw_layered_scene(np.random.default_rng(seed), size, 24.0)
    left = render_view(scene, size, "left")
    nearest = np.zeros((size[0], size[1] * bins))
    y, x = np.mgrid[0 : size[0], 0 : size[1] + 40 : 1 / 32].astype(np.float32)
    for item in scene.surfaces:
        disparity = item.surface.disparity(x, y)
        cell = np.floor((x - disparity + 0.5) * bins).astype(int)
        drawn = (item.outline.distance(x, y) >= 0) & (cell >= 0) & (cell < nearest.shape[1])
        np.maximum.at(nearest, (y[drawn].astype(int), cell[drawn]), disparity[drawn])
    columns = np.arange(size[1])[None, :]
    cell = np.floor((columns - left.disparity + 0.5) * bins).astype(int)
    outside = (cell < 0) | (cell >= nearest.shape[1])
    rows = np.arange(size[0])[:, None]
    # Within a bin a steep surface spans some disparity of its own: nearer occluders than that are left open.
    ahead = nearest[rows, np.clip(cell, 0, nearest.shape[1] - 1)] - left.disparity
    expected = outside | (ahead > 0.5)
    found = occlusion(scene, left.disparity)
    assert 0.02 < expected.mean() < 0.9
    assert np.mean(found != expected) < 0.015
    assert np.mean(found[ahead < 0.01][~outside[ahead < 0.01]]) < 0.01
