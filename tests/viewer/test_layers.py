"""Layers: every one is drawn in the size of the views, and its colors stay where they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crosspol.viewer.layers import LAYERS, Layer, Palette
from tests.viewer.results import HEIGHT, WIDTH, result


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_a_layer_is_an_image_of_the_size_of_the_views_with_words(layer: Layer) -> None:
    known = result()
    assert layer.applies(known)
    drawn = layer.draw(known, Palette())
    assert (drawn.image.shape, drawn.image.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    assert layer.explained.endswith(".")
    if layer.name != "left image":
        assert drawn.legend is not None
        assert drawn.legend.shape[1] == 3
        assert all(drawn.ends)


def test_what_a_plain_pair_lacks_is_said() -> None:
    plain = result(known=False)
    assert [layer.name for layer in LAYERS if layer.applies(plain)] == ["left image", "disparity"]
    assert all(layer.absent for layer in LAYERS if not layer.applies(plain))


@pytest.mark.parametrize("name", ["disparity", "depth"])
def test_a_disparity_keeps_its_color_whatever_else_is_in_the_pair(name: str) -> None:
    """A near thing that comes into view widens the scale; when it goes, the scale stays."""
    layer = next(layer for layer in LAYERS if layer.name == name)
    palette = Palette()
    before = result()
    near = replace(before, disparity=np.where(np.arange(WIDTH) < 9, np.float32(20), before.disparity))
    narrow = layer.draw(before, palette)
    wide, after = layer.draw(near, palette), layer.draw(before, palette)
    assert narrow.ends != wide.ends == after.ends
    np.testing.assert_array_equal(after.image[:, 9:], wide.image[:, 9:])
    palette.forget()
    assert layer.draw(before, palette).ends == narrow.ends


def test_an_end_of_a_legend_has_the_color_that_it_names() -> None:
    layer = next(layer for layer in LAYERS if layer.name == "confidence")
    drawn = layer.draw(result(), Palette())
    assert drawn.legend is not None
    assert drawn.ends == ("0.00", "1.00")
    np.testing.assert_array_equal(drawn.image[0, 0], drawn.legend[0])
    np.testing.assert_array_equal(drawn.image[-1, -1], drawn.legend[-1])
