"""The quick look at the order of two views, before they are predicted."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from crosspol.checks.pair import order_in_doubt
from tests.plain_pairs import good_pair


def grays(seed: int = 0, width: int = 320) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    left, right = (
        cv2.resize(cv2.cvtColor(view, cv2.COLOR_RGB2GRAY), (width, width * 3 // 4)) for view in good_pair(seed)
    )
    return left, right


@pytest.mark.parametrize("width", [320, 900])
def test_swapped_views_are_named_and_good_ones_are_not(width: int) -> None:
    left, right = grays(width=width)
    assert order_in_doubt(left, right) is None
    said = order_in_doubt(right, left)
    assert said is not None
    assert said.startswith("the views look swapped: ")


def test_one_view_twice_is_named() -> None:
    left, _ = grays()
    said = order_in_doubt(left, left.copy())
    assert said is not None
    assert said.startswith("both views are the same image: ")
    stored = cv2.imdecode(cv2.imencode(".jpg", left)[1], cv2.IMREAD_GRAYSCALE)
    said = order_in_doubt(left, np.asarray(stored, np.uint8))
    assert said is not None
    assert said.startswith("both views are the same image, stored twice: ")


def test_what_tells_nothing_is_left_alone() -> None:
    """An even wall, noise, other scenes, a view upside down: other checks know of these."""
    left, right = grays()
    flat = np.full_like(left, 90)
    noise = np.random.default_rng(0).integers(0, 256, (2, *left.shape), dtype=np.uint8)
    for pair in ((flat, flat), (flat, left), tuple(noise), (left, grays(5)[1]), (left, right[::-1])):
        assert order_in_doubt(*pair) is None
