"""Curves of runs whatever they have logged."""

from __future__ import annotations

import warnings

import cv2
import numpy as np

from crosspol.visualization.curves import draw_curves


def test_runs_that_logged_little_are_drawn_without_a_warning():
    nothing = [{"step": 1, "skipped": 1}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        empty, named = (draw_curves({"a": records}) for records in (nothing, [{"step": 1, "alpha": 0.5}]))
    images = [cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR) for png in (empty, named)]
    blue = [int(((image[..., 0] > 150) & (image[..., 2] < 60)).sum()) for image in images]
    assert blue[0] == 0
    assert blue[1] > 0  # the point, and its line in the legend
