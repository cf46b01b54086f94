"""Intervals are drawn in the color of what they tell."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from crosspol.visualization.intervals import Interval, draw_intervals

GREEN, RED = (44, 160, 44), (214, 39, 40)


def pixels(interval: Interval | None) -> dict[tuple[int, int, int], int]:
    """How many pixels have the colors of a value below and above 0, with and without what they tell."""
    png = draw_intervals({"glass, px": [interval], "background, px": [None]}, ["own"], "bars: 95 %")
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    return {color: int((image == color).all(-1).sum()) for color in (GREEN, RED)}


@pytest.mark.parametrize(
    ("interval", "drawn"),
    [
        (Interval(-0.2, -0.3, -0.1, tells=True), {GREEN}),
        (Interval(0.2, 0.1, 0.3, tells=True), {RED}),
        (Interval(-0.1, -0.3, 0.1, tells=False), set()),
        (Interval(0.2, math.nan, math.nan, tells=True), set()),
        (None, set()),
    ],
)
def test_the_color_says_on_which_side_of_0_the_value_lies(
    interval: Interval | None, drawn: set[tuple[int, int, int]]
) -> None:
    assert {color for color, count in pixels(interval).items() if count} == drawn
