from __future__ import annotations

import numpy as np
import pytest

from crosspol.synthesis.openings import draw_openings
from crosspol.synthesis.stage import Layer, Pane, Stage
from crosspol.synthesis.textures import sheet

SIZE = (72, 96)


def stage(lamp: bool = False) -> Stage:
    sheets = (sheet(np.random.default_rng(0), (64, 64)),)
    return Stage(*SIZE, 110.0, 20.0, 1.5, 24.0, 0.4, lamp, sheets)


def drawn(seed: int, glazed: bool) -> list[Layer | Pane]:
    return draw_openings(np.random.default_rng(seed), stage(), glazed)


@pytest.mark.parametrize("seed", range(40))
def test_an_open_one_is_a_glazed_one_without_its_panes(seed: int) -> None:
    rngs = [np.random.default_rng(seed) for _ in range(2)]
    glazed, opened = (draw_openings(rng, stage(), glass) for rng, glass in zip(rngs, (True, False), strict=True))
    assert rngs[0].random() == rngs[1].random()
    panes = [item for item in glazed if isinstance(item, Pane)]
    layers = [item for item in glazed if isinstance(item, Layer)]
    assert panes
    assert len(layers) == len(opened)
    y, x = np.mgrid[-20 : SIZE[0] + 20, -20 : SIZE[1] + 20].astype(np.float32)
    for one, other in zip(layers, opened, strict=True):
        assert isinstance(other, Layer)
        assert (one.surface, one.span, one.polarization, one.middle) == (
            other.surface,
            other.span,
            other.polarization,
            other.middle,
        )
        np.testing.assert_array_equal(one.outline.distance(x, y), other.outline.distance(x, y))
        np.testing.assert_array_equal(one.texture.colors, other.texture.colors)


@pytest.mark.parametrize("seed", range(40))
def test_a_pane_lies_in_the_plane_of_what_it_is_set_into_and_fills_it(seed: int) -> None:
    items = drawn(seed, True)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    for pane in (item for item in items if isinstance(item, Pane)):
        here = pane.surface.disparity(x, y)
        frames = [
            item
            for item in items
            if isinstance(item, Layer) and np.abs(item.surface.disparity(x, y) - here - 0.05).max() < 1e-3
        ]
        # A bare pane may have no edge at all.
        assert len(items) == 1 or frames
        glass = pane.outline.distance(x, y) > 0
        assert glass.any()
        assert here.min() > 0 or (here[glass] > 0).all()
        assert here[glass].max() <= 24.001
        # The mirrored world lies deeper than the pane that mirrors it.
        middle = np.unravel_index(pane.outline.distance(x, y).argmax(), SIZE)
        assert pane.mirrored_surface.disparity(x, y)[middle] < here[middle] + 1e-3


def test_panes_are_mostly_clear_oblique_and_of_all_kinds() -> None:
    panes = [item for seed in range(300) for item in drawn(seed, True) if isinstance(item, Pane)]
    tilts = np.degrees(np.arccos([pane.normal[2] for pane in panes]))
    assert 0.6 < np.mean(tilts > 30) < 0.97
    assert np.mean(tilts < 20) > 0.03
    # Brightest thing in the mirrored room against the scene's light, which is about 1.
    brightest = np.array([pane.mirrored.colors.max() for pane in panes])
    assert 0.7 < np.mean(brightest < 13 * 0.36) < 0.9
    assert 0.05 < np.mean([pane.dirt is not None for pane in panes]) < 0.2
    counts = [len(drawn(seed, True)) for seed in range(100)]
    assert len(set(counts)) > 2
