"""An ordinary rectified pair in color, drawn, and the faults that people's pairs have."""

from __future__ import annotations

import functools
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from crosspol.light import encode_srgb
from tests.rig_frames import HEIGHT, WIDTH, views

Image = NDArray[np.uint8]
Pair = tuple[NDArray[np.generic], NDArray[np.generic]]


@functools.cache
def good_pair(seed: int = 0) -> tuple[Image, Image]:
    """Left and right, (H, W, 3) uint8 in RGB: a wall at 6 px, a square in front of it at 12 px; with some noise."""
    rng = np.random.default_rng(seed)
    planes = [views(seed + shift) for shift in (0, 10, 20)]
    pair = []
    for side in (0, 1):
        gray, *tints = (plane[side][0].numpy() for plane in planes)
        light = np.stack([gray, 0.7 * gray + 0.3 * tints[0], 0.5 * gray + 0.5 * tints[1]], axis=-1)
        noisy = 255 * encode_srgb((1.6 * light).clip(0, 1)) + rng.normal(0, 1, light.shape)
        pair.append(np.rint(noisy.clip(0, 255)).astype(np.uint8))
    return pair[0], pair[1]


def moved(image: Image, matrix: NDArray[np.floating]) -> Image:
    """The image under an affine map (2, 3), mirrored at its border."""
    return np.asarray(
        cv2.warpAffine(image, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT), np.uint8
    )


def shifted(image: Image, rows: float) -> Image:
    """The image, lower by some rows."""
    return moved(image, np.array([[1, 0, 0], [0, 1, rows]], np.float32))


def turned(image: Image, degrees: float, scale: float = 1.0) -> Image:
    """The image, turned about its middle."""
    matrix = cv2.getRotationMatrix2D(((WIDTH - 1) / 2, (HEIGHT - 1) / 2), degrees, scale)
    return moved(image, np.asarray(matrix, np.float64))


def _rgb_times(image: Image, factor: float) -> Image:
    return np.asarray(np.rint((image.astype(float) * factor).clip(0, 255)), np.uint8)


def _twelve_bits(image: Image) -> NDArray[np.uint16]:
    return np.rint(image.astype(float) * (4095 / 255)).astype(np.uint16)


FAULTS: dict[str, tuple[Callable[[Image, Image], Pair], str, str]] = {
    "swapped": (lambda left, right: (right, left), "order", "the views are swapped"),
    "equal": (lambda left, right: (left, left), "order", "both views are the same image"),
    "equal but for compression": (
        lambda left, right: (left, _compressed(left)),
        "order",
        "the same image, stored twice",
    ),
    "unrelated": (lambda left, right: (left, good_pair(5)[1]), "timing", "do not show the same scene"),
    "rows off by 3": (lambda left, right: (left, shifted(right, 3)), "rows", "mostly a shift by +3.0 px"),
    "turned by half a degree": (lambda left, right: (left, turned(right, 0.5)), "rows", "mostly a turn by -0.5"),
    "zoomed": (lambda left, right: (left, turned(right, 0, 1.02)), "rows", "mostly another scale, +"),
    "mirrored": (lambda left, right: (left, right[:, ::-1].copy()), "flip", "mirrored, left and right"),
    "flipped": (lambda left, right: (left, right[::-1].copy()), "flip", "mirrored, top and bottom"),
    "upside down": (lambda left, right: (left, right[::-1, ::-1].copy()), "flip", "turned clockwise by 180 degrees"),
    "both on their side": (
        lambda left, right: (np.rot90(left).copy(), np.rot90(right).copy()),
        "rows",
        "the cameras are above each other",
    ),
    "channel order": (lambda left, right: (left, right[..., ::-1].copy()), "color", "red and blue are exchanged"),
    "exposure differs": (lambda left, right: (left, _rgb_times(right, 0.5)), "brightness", "times the light"),
    "clipped": (lambda left, right: (_rgb_times(left, 1.8), _rgb_times(right, 1.8)), "exposure", "% saturated"),
    "dark": (lambda left, right: (_rgb_times(left, 0.08), _rgb_times(right, 0.08)), "exposure", "% dark"),
    "12 bits in 16": (
        lambda left, right: (_twelve_bits(left), _twelve_bits(right)),
        "levels",
        "for 12 bits in a 16-bit file, set white_level: 4095",
    ),
    "floats to 255": (
        lambda left, right: (left.astype(np.float32), right.astype(np.float32)),
        "values",
        "divide by 255",
    ),
    "divided twice": (
        lambda left, right: (left / np.float32(255**2), right / np.float32(255**2)),
        "values",
        "divided by 255 twice",
    ),
    "0 to 1 in 8 bits": (
        lambda left, right: ((left > 90).astype(np.uint8), (right > 90).astype(np.uint8)),
        "values",
        "was stored as whole numbers",
    ),
    "normalized": (
        lambda left, right: ((left / np.float32(127.5) - 1), (right / np.float32(127.5) - 1)),
        "values",
        "normalized by mean and deviation",
    ),
    "not a number": (lambda left, right: (_holed(left), right), "values", "are no numbers"),
    "other size": (lambda left, right: (left, right[::2, ::2].copy()), "size", "the right one 160x120 px"),
}
"""By name: what is done to a good pair, the topic that has to be wrong, and words of what has to be said."""


def _holed(image: Image) -> NDArray[np.float32]:
    unit = np.asarray(image / np.float32(255), np.float32)
    unit[:5] = np.nan
    return unit


def _compressed(image: Image) -> Image:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image)[1], cv2.IMREAD_COLOR), np.uint8)
