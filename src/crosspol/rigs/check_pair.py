"""What two views show about each other: exchanged, rows that do not correspond, not taken at the same moment."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crosspol.light import encode_srgb
from crosspol.rigs.check_frame import Finding, percent
from crosspol.rigs.frames import Frame

__all__ = ["check_pair"]

Array = NDArray[np.float64]

_MATCHING_SIDE = 1280
"""Longer side of the images in which features are matched, px."""
_FEATURES = 3000
_FEWEST_MATCHES = 25
_RATIO = 0.8
"""Lowe's ratio: how much nearer the best match has to be than the second best."""
_ON_ITS_ROW = 1.5
"""How far, in px of the matched images, a match may be off the model of the rows and still agree with it."""
_PLANE_TRIALS = 500
_MISALIGNED_PX = 0.75
_NEGATIVE_SHARE = 0.9
_MOVED_SHARE = 0.04
_FEWEST_MOVED = 8
_NEIGHBORS = 5


class _Matches(NamedTuple):
    """Points of the left view, (N, 2) px, and how far left (disparity) and down they are in the right view, (N,) px."""

    points: Array
    disparity: Array
    down: Array


def check_pair(left: Frame, right: Frame, rectified_by: str | None = None, swapped: bool = False) -> list[Finding]:
    """Look at two views of one size.

    Args:
        left, right: the views, as the network would get them.
        rectified_by: name of the calibration that they were rectified with; None where they came as they are.
        swapped: the rig's `swap_views`.
    """
    images = [_shown(frame) for frame in (left, right)]
    if np.array_equal(images[0], images[1]):
        return [Finding("order", "wrong", "both views are the same image")]
    scale = max(1.0, max(images[0].shape) / _MATCHING_SIDE)
    matches, features = _matches(images[0], images[1], scale)
    if len(matches.down) < _FEWEST_MATCHES:
        found = f"{features} features in the view that has fewer, {len(matches.down)} of them matched"
        if features >= 10 * _FEWEST_MATCHES:
            return [Finding("timing", "wrong", f"the views do not show the same scene ({found})")]
        return [Finding("rows", "unsure", f"too little texture to compare the views ({found})")]
    plane = _row_model(matches, scale)
    off = matches.down - _at(plane, matches.points)
    agrees = np.abs(off) < _ON_ITS_ROW * scale
    return [
        _order(matches, agrees, rectified_by, swapped),
        _rows(matches, agrees, plane, left.size, rectified_by),
        _timing(matches, agrees, off),
    ]


def _shown(frame: Frame) -> NDArray[np.uint8]:
    """(H, W), gray, with the brightness spread evenly in the way of a photograph, so that dark parts have features."""
    gray = frame.image.mean(0).numpy()
    bright = float(np.quantile(gray[::4, ::4], 0.99))
    return np.asarray(np.rint(255 * encode_srgb(np.clip(gray / max(bright, 1e-6), 0, 1))), np.uint8)


def _matches(left: NDArray[np.uint8], right: NDArray[np.uint8], scale: float) -> tuple[_Matches, int]:
    """Return features that are each other's best match, and how many features there were."""
    import cv2

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
    if fewest < 2:
        return _Matches(np.empty((0, 2)), np.empty(0), np.empty(0)), fewest
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    there, back = (
        {best.queryIdx: best.trainIdx for best, second in pairs if best.distance < _RATIO * second.distance}
        for pairs in (
            matcher.knnMatch(descriptors, other_descriptors, k=2),
            matcher.knnMatch(other_descriptors, descriptors, k=2),
        )
    )
    mutual = np.array([(one, other) for one, other in there.items() if back.get(other) == one], int).reshape(-1, 2)
    start, end = points[mutual[:, 0]], other_points[mutual[:, 1]]
    return _Matches(start, start[:, 0] - end[:, 0], end[:, 1] - start[:, 1]), fewest


def _row_model(matches: _Matches, scale: float) -> Array:
    """The plane a + b x + c y that most matches agree with in how far down they are: RANSAC, then least squares.

    A shift of rows is a, a turn of one camera b, another focal length c.
    """
    design = np.column_stack([np.ones(len(matches.down)), matches.points])
    generator = np.random.default_rng(0)
    tolerance = _ON_ITS_ROW * scale
    best: Array = np.zeros(3)
    most = -1
    for _ in range(_PLANE_TRIALS):
        chosen = generator.choice(len(design), 3, replace=False)
        try:
            candidate = np.linalg.solve(design[chosen], matches.down[chosen])
        except np.linalg.LinAlgError:
            continue
        agreeing = int(np.count_nonzero(np.abs(design @ candidate - matches.down) < tolerance))
        if agreeing > most:
            best, most = np.asarray(candidate), agreeing
    for _ in range(3):
        agrees = np.abs(design @ best - matches.down) < tolerance
        best = np.asarray(np.linalg.lstsq(design[agrees], matches.down[agrees], rcond=None)[0])
    return best


def _at(plane: Array, points: Array) -> Array:
    return np.asarray(plane[0] + points @ plane[1:])


def _order(matches: _Matches, agrees: NDArray[np.bool_], rectified_by: str | None, swapped: bool) -> Finding:
    disparity = matches.disparity[agrees]
    negative = float(np.mean(disparity < -0.5))
    low, high = np.percentile(disparity, [2, 98])
    measured = f"disparities from {low:.1f} to {high:.1f} px in {len(disparity)} matches"
    if negative > _NEGATIVE_SHARE:
        remedy = f"exchange the files, or set swap_views: {'false' if swapped else 'true'}"
        toed_in = "" if rectified_by else ". (Cameras turned toward each other look the same without a calibration)"
        return Finding("order", "wrong", f"the views are swapped: {measured}; {remedy}{toed_in}")
    if negative > 1 - _NEGATIVE_SHARE:
        text = f"{measured}, {percent(negative)} negative, which no rectified pair has: rectify with a calibration"
        return Finding("order", "wrong" if rectified_by else "unsure", text)
    return Finding("order", "right", f"left is left: {measured}")


def _rows(
    matches: _Matches, agrees: NDArray[np.bool_], plane: Array, size: tuple[int, int], rectified_by: str | None
) -> Finding:
    height, width = size
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], float)
    at_corners = _at(plane, corners)
    middle = float(_at(plane, corners.mean(axis=0, keepdims=True))[0])
    typical = float(np.median(np.abs(matches.down[agrees])))
    largest = float(at_corners[np.abs(at_corners).argmax()])
    if typical <= _MISALIGNED_PX:
        return Finding("rows", "right", f"rows correspond within {typical:.2f} px (median of {agrees.sum()} matches)")
    where = f"{abs(middle):.1f} px {'lower' if middle > 0 else 'higher'} in the middle, {largest:+.1f} px in a corner"
    blame = (
        f"the calibration {rectified_by} does not fit these views"
        if rectified_by
        else "rectify with a calibration, or the camera moved between the exposures"
    )
    text = f"vertical misalignment: things are {typical:.1f} px off their row in the right view ({where})"
    return Finding("rows", "wrong", f"{text}: {blame}")


def _timing(matches: _Matches, agrees: NDArray[np.bool_], off: Array) -> Finding:
    """Find what moved: matches off their row that their neighbors share, as no wrong match does."""
    moved = np.flatnonzero(~agrees)
    motion = np.column_stack([matches.disparity, off])[moved]
    coherent = np.zeros(len(moved), bool)
    if len(moved) > _NEIGHBORS:
        distance = np.linalg.norm(matches.points[moved, None] - matches.points[None, moved], axis=-1)
        nearest = np.argsort(distance, axis=1)[:, 1 : 1 + _NEIGHBORS]
        alike = np.linalg.norm(motion[nearest] - motion[:, None], axis=-1) < 2 * _ON_ITS_ROW
        coherent = alike.sum(axis=1) > _NEIGHBORS / 2
    share = float(coherent.sum() / len(off))
    if coherent.sum() >= _FEWEST_MOVED and share > _MOVED_SHARE:
        by = float(np.median(np.abs(motion[coherent, 1])))
        text = f"something moved between the exposures: {percent(share)} of the matches are off by {by:.1f} px together"
        return Finding("timing", "wrong", f"{text}; trigger both cameras at once (or hold the scene still)")
    agreeing = percent(float(agrees.mean()))
    return Finding(
        "timing", "right", f"no motion seen: {agreeing} of {len(off)} matches agree. Motion along rows cannot be seen"
    )
