"""What two views show about each other: exchanged, rows that do not correspond, not taken at the same moment."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crosspol.light import encode_srgb
from crosspol.rigs.findings import Finding, percent
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
_UNRELATED_SHARE = 0.06
"""Of the features of the view with fewer, up to which their matches are chance; views of one scene show 0.3 and more,
crossed ones 0.2."""
_FEATURES_TO_TELL = 100
_AGREEING_SHARE = 0.5
_PREDICTED_PX = 1.0
"""Standard error, px of the matched images, up to which it is known where a static scene has its points."""


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
    found = f"{features} features in the view that has fewer, {len(matches.down)} of them matched"
    if len(matches.down) < _FEWEST_MATCHES or len(matches.down) < _UNRELATED_SHARE * features:
        if features >= _FEATURES_TO_TELL and len(matches.down) < _UNRELATED_SHARE * features:
            return [Finding("timing", "wrong", f"the views do not show the same scene ({found})")]
        return [Finding("rows", "unsure", f"too little texture to compare the views ({found})")]
    plane = _row_model(matches, scale)
    off = matches.down - _at(plane, matches.points)
    agrees = np.abs(off) < _ON_ITS_ROW * scale
    if agrees.mean() < _AGREEING_SHARE:
        text = f"only {percent(float(agrees.mean()))} of the matches have a common place of the rows ({found})"
        return [Finding("rows", "unsure", f"{text}: other scenes, other lenses, or a repeating pattern")]
    moved = _moved(matches, agrees, off)
    rows = _rows(matches, agrees, plane, left.size, rectified_by)
    if rows.verdict == "right" and moved is not None and _is_static(matches, agrees, moved, scale):
        rows = _rows_by_depth(matches, moved, rectified_by)
    order = _order(matches, agrees, rectified_by, swapped)
    if order.verdict == rows.verdict == "wrong" and rectified_by is None:
        # Cameras that are turned against each other shift rows and columns alike.
        order = order._replace(verdict="unsure", text=f"{order.text}; but see rows first")
    return [order, rows, _timing(agrees, off, moved, rows)]


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
    text = f"vertical misalignment: things are {typical:.1f} px off their row in the right view ({where})"
    return Finding("rows", "wrong", f"{text}: {_blame(rectified_by)}")


def _rows_by_depth(matches: _Matches, moved: NDArray[np.bool_], rectified_by: str | None) -> Finding:
    by = float(np.median(np.abs(matches.down[moved])))
    text = (
        f"vertical misalignment that differs with depth or place: {percent(float(moved.mean()))} of the matches are "
        f"{by:.1f} px off their row in the right view, where a scene that holds still has them under cameras that are "
        "not level"
    )
    return Finding("rows", "wrong", f"{text}: {_blame(rectified_by)}")


def _blame(rectified_by: str | None) -> str:
    if rectified_by:
        return f"the calibration {rectified_by} does not fit these views"
    return "rectify with a calibration, or the camera moved between the exposures"


def _is_static(matches: _Matches, agrees: NDArray[np.bool_], moved: NDArray[np.bool_], scale: float) -> bool:
    """Whether what is off its row is where the rest of the views puts a scene that holds still.

    Where cameras are turned or shifted against each other, how far down a point is depends on its depth, to first
    order in its disparity, and on its place, to second order. That is measured at what lies on its row, and has to
    hold at what does not.
    """
    height_and_width = np.ptp(matches.points, axis=0) + 1
    place = (matches.points - matches.points.mean(axis=0)) / height_and_width
    x, y = place.T
    disparity = (matches.disparity - matches.disparity[agrees].mean()) / (np.ptp(matches.disparity[agrees]) + 1)
    design = np.column_stack([np.ones(len(x)), x, y, disparity, x * y, y * y])
    known = design[agrees]
    # A ridge, far below what is measured, for what these points leave open, as one distance of all leaves the depth.
    information = known.T @ known + 1e-6 * np.eye(design.shape[1])
    model = np.linalg.solve(information, known.T @ matches.down[agrees])
    noise = float(np.std(matches.down[agrees] - known @ model))
    points = design[moved]
    error = noise * np.sqrt(np.einsum("ij,ij->i", points, np.linalg.solve(information, points.T).T))
    right = np.abs(points @ model - matches.down[moved]) < _ON_ITS_ROW * scale + error
    return bool(np.mean(right & (error < _PREDICTED_PX * scale)) > 0.5)


def _moved(matches: _Matches, agrees: NDArray[np.bool_], off: Array) -> NDArray[np.bool_] | None:
    """Matches off their row that their neighbors share, as no wrong match does; None where they are too few to count.

    Where the rows do not correspond, or the views are unrelated, they say nothing about motion.
    """
    moved = np.flatnonzero(~agrees)
    motion = np.column_stack([matches.disparity, off])[moved]
    coherent = np.zeros(len(off), bool)
    if len(moved) > _NEIGHBORS:
        distance = np.linalg.norm(matches.points[moved, None] - matches.points[None, moved], axis=-1)
        nearest = np.argsort(distance, axis=1)[:, 1 : 1 + _NEIGHBORS]
        alike = np.linalg.norm(motion[nearest] - motion[:, None], axis=-1) < 2 * _ON_ITS_ROW
        coherent[moved] = alike.sum(axis=1) > _NEIGHBORS / 2
    enough = coherent.sum() >= _FEWEST_MOVED and coherent.mean() > _MOVED_SHARE
    return coherent if enough else None


def _timing(agrees: NDArray[np.bool_], off: Array, moved: NDArray[np.bool_] | None, rows: Finding) -> Finding:
    if rows.verdict == "wrong":
        return Finding("timing", "unsure", "motion shows only once the rows correspond")
    if moved is not None:
        by = float(np.median(np.abs(off[moved])))
        share = percent(float(moved.mean()))
        text = f"something moved between the exposures: {share} of the matches are off by {by:.1f} px together"
        advice = "trigger both cameras at once (or hold the scene still); if it stays, the cameras are not level"
        return Finding("timing", "wrong", f"{text}; {advice}")
    agreeing = percent(float(agrees.mean()))
    return Finding(
        "timing", "right", f"no motion seen: {agreeing} of {len(off)} matches agree. Motion along rows cannot be seen"
    )
