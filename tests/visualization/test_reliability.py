"""Curves and diagrams of confidence are drawn, with empty bins and missing regions left out."""

from __future__ import annotations

import cv2
import numpy as np

from crosspol.visualization.reliability import Reliability, Sparsified, draw_worth

BLUE = (31, 119, 180)


def drawn(hits: list[float | None]) -> np.ndarray:
    diagram = Reliability([None if hit is None else 0.5 for hit in hits], hits, [10.0, 30.0], "calibration error 0.1")
    curve = Sparsified([2.0, 1.0], [2.0, 0.5], [0.0, 0.5])
    png = draw_worth({"EPE, px,": {"all": {"net": curve}}}, {"all": {"net": diagram}, "glass": {}})
    image: np.ndarray = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    return image


def test_curves_and_diagrams_are_drawn_in_the_rows_color() -> None:
    image = drawn([0.2, 0.9])
    assert image.shape[1] > image.shape[0] > 400
    blue = (image == BLUE).all(-1)
    half = image.shape[1] // 2
    assert blue[:, :half].sum() > 500
    assert not blue[:, half:].any()


def test_empty_bins_have_no_point() -> None:
    def points(image: np.ndarray) -> int:
        lower = image[image.shape[0] // 2 :]
        return int((lower == BLUE).all(-1).sum())

    assert points(drawn([None, 0.9])) < points(drawn([0.2, 0.9]))
    assert points(drawn([None, None])) < points(drawn([None, 0.9]))
