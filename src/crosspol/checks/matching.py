"""Features that two views have in common, and where the right view has the left one's rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosspol.light import encode_srgb
from crosspol.rigs.frames import Frame

__all__ = ["ON_ITS_ROW", "Matches", "gray", "match"]

Array = NDArray[np.float64]

_MATCHING_SIDE = 1280
"""Longer side of the images in which features are matched, px."""
_FEATURES = 3000
_FEWEST_MATCHES = 25
_RATIO = 0.8
"""Lowe's ratio: how much nearer the best match has to be than the second best."""
ON_ITS_ROW = 1.5
"""How far, in px of the matched images, a match may be off the model of the rows and still agree with it."""
_PLANE_TRIALS = 500
_UNRELATED_SHARE = 0.06
"""Of the features of the view with fewer, up to which their matches are chance; views of one scene show 0.3 and more,
crossed ones 0.2."""
_FEATURES_TO_TELL = 100


@dataclass(frozen=True, eq=False)
class Matches:
    """Features that are each other's best match.

    points: (N, 2), x and y in the left view, px.
    disparity: (N,), px, how far left of that they are in the right view.
    down: (N,), px, and how far down.
    features: in the view that has fewer.
    scale: px of the views in a px of the images that were matched.
    size: (H, W) of the views, px.
    plane: (3,), a + b x + c y is how far down most matches are at (x, y); zeros where there are too few.
    """

    points: Array
    disparity: Array
    down: Array
    features: int
    scale: float
    size: tuple[int, int]
    plane: Array

    @property
    def related(self) -> bool:
        """Whether the views have more in common than chance."""
        return len(self.down) >= _FEWEST_MATCHES and len(self.down) >= _UNRELATED_SHARE * self.features

    @property
    def unrelated(self) -> bool:
        """Whether there is enough texture to see that they have not."""
        return self.features >= _FEATURES_TO_TELL and len(self.down) < _UNRELATED_SHARE * self.features

    @property
    def off(self) -> Array:
        """(N,), px, how far down they are beyond the plane."""
        return self.down - self.at(self.points)

    @property
    def agrees(self) -> NDArray[np.bool_]:
        """(N,), whether they lie where the plane has their rows."""
        return np.abs(self.off) < ON_ITS_ROW * self.scale

    @property
    def turn_deg(self) -> float:
        """By how much the right view's content is turned against the left one's, degrees, clockwise positive."""
        return math.degrees(math.atan2(self.plane[1], 1 + self.plane[2]))

    @property
    def zoom(self) -> float:
        """How many times larger the right view's content is than the left one's, along the columns."""
        return float(math.hypot(self.plane[1], 1 + self.plane[2]))

    def at(self, points: Array) -> Array:
        """(N,), the plane at points (N, 2)."""
        return np.asarray(self.plane[0] + points @ self.plane[1:])

    def samples(self, image: NDArray[np.floating], right: bool = False, reach: int = 2) -> Array:
        """(N, C): the mean of an image (C, H, W) around every match, where it lies in that view."""
        import cv2

        x, y = self.points.T
        if right:
            x, y = x - self.disparity, y + self.down
        height, width = image.shape[-2:]
        columns = np.rint(x).astype(int).clip(0, width - 1)
        lines = np.rint(y).astype(int).clip(0, height - 1)
        side = 2 * reach + 1
        planes = [cv2.blur(np.ascontiguousarray(plane, np.float32), (side, side)) for plane in image]
        return np.stack([plane[lines, columns] for plane in planes], axis=1).astype(np.float64)


def gray(frame: Frame) -> NDArray[np.uint8]:
    """(H, W), with the brightness spread evenly in the way of a photograph, so that dark parts have features."""
    light = frame.image.mean(0).numpy()
    bright = float(np.quantile(light[::4, ::4], 0.99))
    return np.asarray(np.rint(255 * encode_srgb(np.clip(light / max(bright, 1e-6), 0, 1))), np.uint8)


def match(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> Matches:
    """Match the features (SIFT) of two gray views of one size."""
    import cv2

    scale = max(1.0, max(left.shape) / _MATCHING_SIDE)
    size = (round(left.shape[1] / scale), round(left.shape[0] / scale))
    found = []
    for image in (left, right):
        small = image if scale == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        keypoints, descriptors = cv2.SIFT.create(nfeatures=_FEATURES).detectAndCompute(small, None)
        # Pixel centers are integers: the center of a larger pixel is not at its number times the scale.
        points = (np.array([keypoint.pt for keypoint in keypoints]).reshape(-1, 2) + 0.5) * scale - 0.5
        found.append((points, descriptors))
    (points, descriptors), (other_points, other_descriptors) = found
    fewest = min(len(points), len(other_points))
    mutual = np.empty((0, 2), int)
    if fewest >= 2:
        matcher = cv2.BFMatcher(cv2.NORM_L2)
        there, back = (
            {best.queryIdx: best.trainIdx for best, second in pairs if best.distance < _RATIO * second.distance}
            for pairs in (
                matcher.knnMatch(descriptors, other_descriptors, k=2),
                matcher.knnMatch(other_descriptors, descriptors, k=2),
            )
        )
        pairs = [(one, other) for one, other in there.items() if back.get(other) == one]
        mutual = np.array(pairs, int).reshape(-1, 2)
    start, end = points[mutual[:, 0]], other_points[mutual[:, 1]]
    down = end[:, 1] - start[:, 1]
    plane = _row_model(start, down, scale) if len(down) >= _FEWEST_MATCHES else np.zeros(3)
    height, width = left.shape
    return Matches(start, start[:, 0] - end[:, 0], down, fewest, scale, (height, width), plane)


def _row_model(points: Array, down: Array, scale: float) -> Array:
    """The plane a + b x + c y that most matches agree with in how far down they are: RANSAC, then least squares.

    A shift of rows is a, a turn of one camera b, another focal length c.
    """
    design = np.column_stack([np.ones(len(down)), points])
    generator = np.random.default_rng(0)
    tolerance = ON_ITS_ROW * scale
    best: Array = np.zeros(3)
    most = -1
    for _ in range(_PLANE_TRIALS):
        chosen = generator.choice(len(design), 3, replace=False)
        try:
            candidate = np.linalg.solve(design[chosen], down[chosen])
        except np.linalg.LinAlgError:
            continue
        agreeing = int(np.count_nonzero(np.abs(design @ candidate - down) < tolerance))
        if agreeing > most:
            best, most = np.asarray(candidate), agreeing
    for _ in range(3):
        agrees = np.abs(design @ best - down) < tolerance
        best = np.asarray(np.linalg.lstsq(design[agrees], down[agrees], rcond=None)[0])
    return best
