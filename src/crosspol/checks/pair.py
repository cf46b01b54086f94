"""What two views show about each other: exchanged, rows that do not correspond, not taken at the same moment."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crosspol.checks.findings import Finding, percent
from crosspol.checks.matching import ON_ITS_ROW, Matches, gray, match
from crosspol.rigs.frames import Frame

__all__ = ["check_pair", "off_their_rows", "order_in_doubt"]

Array = NDArray[np.float64]

_MISALIGNED_PX = 0.75
_MISALIGNED_TREND_PX = 1.0
"""By how much the model of the rows may be off at nine of ten matches."""
_IN_A_CORNER_PX = 1.2
"""And from where on it is asked about in a corner, beyond three standard errors."""
_TURNED_DEG = 30.0
"""From here on a view was turned, not mounted askew."""
_NEGATIVE_SHARE = 0.9
_NO_PARALLAX_PX = 0.5
_MOVED_SHARE = 0.04
_FEWEST_MOVED = 8
_NEIGHBORS = 5
_AGREEING_SHARE = 0.5
_PREDICTED_PX = 1.0
"""Standard error, px of the matched images, up to which it is known where a static scene has its points."""
_MIRRORED = 2
"""How many times more matches a mirrored view has to have than it has as it is."""
_GLANCED_SIDE = 480
"""Longer side of the images in which `order_in_doubt` looks, px."""
_SAME = 4.0
"""Mean difference of two images, of 255, up to which they are one image, stored twice."""


def check_pair(
    left: Frame,
    right: Frame,
    matches: Matches | None = None,
    rectified_by: str | None = None,
    swapped: bool = False,
) -> list[Finding]:
    """Look at two views of one size.

    Args:
        left, right: the views, as the network would get them.
        matches: theirs, where they are known already.
        rectified_by: name of the calibration that they were rectified with; None where they came as they are.
        swapped: the rig's `swap_views`.
    """
    images = gray(left), gray(right)
    exchange = "give each view its own file"
    if np.array_equal(images[0], images[1]) and np.ptp(images[0]):
        return [Finding("order", "wrong", "both views are the same image", exchange, _NOTHING_TO_SEE)]
    matches = match(*images) if matches is None else matches
    found = f"{matches.features} features in the view that has fewer, {len(matches.down)} of them matched"
    if not matches.related:
        if (mirrored := _mirrored(images, matches)) is not None:
            return [mirrored]
        if matches.unrelated:
            do = "check which files belong together: names, times, numbers"
            means = "there is nothing to match: disparity is made up"
            return [Finding("timing", "wrong", f"the views do not show the same scene ({found})", do, means)]
        return [Finding("rows", "unsure", f"too little texture to compare the views ({found})")]
    agrees = matches.agrees
    if agrees.mean() < _AGREEING_SHARE:
        text = f"only {percent(float(agrees.mean()))} of the matches have a common place of the rows ({found})"
        if _is_upright(matches):
            return [_above_each_other(matches)]
        if (mirrored := _mirrored(images, matches)) is not None:
            return [mirrored]
        return [Finding("rows", "unsure", text, "other scenes, other lenses, or a repeating pattern")]
    if abs(matches.turn_deg) > _TURNED_DEG:
        text = f"the right view is turned clockwise by {matches.turn_deg % 360:.0f} degrees against the left one"
        return [Finding("flip", "wrong", text, "turn it back; in the camera's settings, look for rotate or reverse")]
    if _is_stored_twice(*images, matches):
        return [Finding("order", "wrong", "both views are the same image, stored twice", exchange, _NOTHING_TO_SEE)]
    moved = _moved(matches, agrees)
    rows = _rows(matches, agrees, rectified_by)
    if rows.verdict == "right" and moved is not None and _is_static(matches, agrees, moved):
        rows = _rows_by_depth(matches, moved, rectified_by)
    if rows.verdict == "wrong":
        if _is_upright(matches):
            return [_above_each_other(matches)]
        # Textures that are symmetric have matches in a mirrored view as well, though fewer.
        if rectified_by is None and (mirrored := _mirrored(images, matches)) is not None:
            return [mirrored]
    order = _order(matches, agrees, rectified_by, swapped)
    if order.verdict == rows.verdict == "wrong" and rectified_by is None:
        # Cameras that are turned against each other shift rows and columns alike.
        order = order._replace(verdict="unsure", do=f"{order.do}; but see rows first")
    return [order, rows, _timing(agrees, matches.off, moved, rows)]


def order_in_doubt(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> str | None:
    """Say in a line what is wrong with the order of two rectified views, where that is plain: a look of 0.1 s.

    Args:
        left, right: gray, (H, W), of one size.

    Returns:
        That both are one image, or that they are swapped; None where neither is seen, `check_pair` looks closely.
    """
    import cv2

    if np.array_equal(left, right):
        return f"both views are the same image: {_NOTHING_TO_SEE}" if np.ptp(left) else None
    scale = max(1.0, max(left.shape) / _GLANCED_SIDE)
    if scale > 1:
        size = (round(left.shape[1] / scale), round(left.shape[0] / scale))
        small = [np.asarray(cv2.resize(view, size, interpolation=cv2.INTER_AREA), np.uint8) for view in (left, right)]
    else:
        small = [left, right]
    matches = match(small[0], small[1])
    if not matches.related or matches.agrees.mean() < _AGREEING_SHARE:
        return None
    if _is_stored_twice(small[0], small[1], matches):
        return f"both views are the same image, stored twice: {_NOTHING_TO_SEE}"
    negative = matches.disparity[matches.agrees] < -_NO_PARALLAX_PX
    if negative.mean() <= _NEGATIVE_SHARE:
        return None
    return f"the views look swapped: {percent(float(negative.mean()))} of {len(negative)} matches lie to the right"


_NOTHING_TO_SEE = "one view has no depth: disparity is 0, or made up"


def _is_stored_twice(left: NDArray[np.uint8], right: NDArray[np.uint8], matches: Matches) -> bool:
    """Whether the views are one image but for what a lossy format changes."""
    still = np.abs(matches.disparity[matches.agrees]) < _NO_PARALLAX_PX * matches.scale
    if still.mean() <= _NEGATIVE_SHARE or np.abs(matches.plane[0]) >= _NO_PARALLAX_PX:
        return False
    return bool(np.abs(left.astype(float) - right).mean() < _SAME)


def off_their_rows(matches: Matches) -> tuple[float, float]:
    """How far matches are off their row, px: the median, and what nine of ten stay below."""
    middle, most = np.percentile(np.abs(matches.down[matches.agrees]), [50, 90])
    return float(middle), float(most)


def _mirrored(images: tuple[NDArray[np.uint8], NDArray[np.uint8]], matches: Matches) -> Finding | None:
    """Whether one view has to be mirrored to have features of the other; SIFT knows turned ones, not mirrored ones."""
    flipped = match(images[0], np.ascontiguousarray(images[1][:, ::-1]))
    if not flipped.related or flipped.agrees.sum() < _MIRRORED * matches.agrees.sum():
        return None
    # Exchanging top and bottom is exchanging left and right, and half a turn.
    name = "left and right" if abs(flipped.turn_deg) < 90 else "top and bottom"
    text = f"one view is mirrored, {name} exchanged: {flipped.agrees.sum()} features match once it is mirrored back"
    do = "switch mirror, reverse or flip off in that camera, or mirror the image"
    return Finding("flip", "wrong", f"{text}, {matches.agrees.sum()} as it is", do)


def _is_upright(matches: Matches) -> bool:
    """Whether things differ in their rows, by their distance, and not in their columns."""
    across = matches.disparity - np.median(matches.disparity)
    close = np.abs(across) < ON_ITS_ROW * matches.scale
    apart = np.percentile(np.abs(matches.down[close]), 25) if close.any() else 0.0
    spread = np.ptp(np.percentile(matches.down[close], [10, 90])) if close.any() else 0.0
    return bool(close.mean() > _NEGATIVE_SHARE and apart > 2 * matches.scale and spread > 3 * matches.scale)


def _above_each_other(matches: Matches) -> Finding:
    low, high = np.percentile(matches.down, [2, 98])
    text = f"things are {low:.1f} to {high:.1f} px lower in the right view, and in the same column: the cameras are "
    do = "turn both views by 90 degrees, so that the baseline lies along the rows"
    return Finding("rows", "wrong", f"{text}above each other, or the views lie on their side", do)


def _order(matches: Matches, agrees: NDArray[np.bool_], rectified_by: str | None, swapped: bool) -> Finding:
    disparity = matches.disparity[agrees]
    negative = float(np.mean(disparity < -0.5))
    low, high = np.percentile(disparity, [2, 98])
    measured = f"disparities from {low:.1f} to {high:.1f} px in {len(disparity)} matches"
    if negative > _NEGATIVE_SHARE:
        remedy = f"exchange the files, or set swap_views: {'false' if swapped else 'true'}"
        others = "" if rectified_by else ", or cameras turned toward each other,"
        text = f"the views are swapped: {measured}. (Both views upside down or mirrored{others} look the same)"
        return Finding("order", "wrong", text, remedy)
    if negative > 1 - _NEGATIVE_SHARE:
        text = f"{measured}, {percent(negative)} negative, which no rectified pair has"
        return Finding("order", "wrong" if rectified_by else "unsure", text, "rectify with a calibration")
    if max(abs(low), abs(high)) < _NO_PARALLAX_PX * matches.scale:
        text = f"nothing lies elsewhere in the right view ({measured}): one view twice, or all is far away"
        return Finding("order", "unsure", text, "check the files; photograph something near")
    return Finding("order", "right", f"left is left: {measured}")


def _rows(matches: Matches, agrees: NDArray[np.bool_], rectified_by: str | None) -> Finding:
    height, width = matches.size
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], float)
    at_corners = matches.at(corners)
    middle = float(matches.at(corners.mean(axis=0, keepdims=True))[0])
    typical, most = off_their_rows(matches)
    largest = float(at_corners[np.abs(at_corners).argmax()])
    trend = float(np.percentile(np.abs(matches.at(matches.points[agrees])), 90))
    if typical <= _MISALIGNED_PX and trend <= _MISALIGNED_TREND_PX:
        error = _error_of_plane(matches, corners)[np.abs(at_corners).argmax()]
        if abs(largest) > _IN_A_CORNER_PX * matches.scale + 3 * error:
            text = f"rows correspond within {typical:.2f} px where there are matches, but a trend in them"
            text = f"{text} (turn {matches.turn_deg:+.2f} degrees, scale {100 * (matches.zoom - 1):+.2f} %)"
            means = "disparity gets worse toward the borders"
            where = f"puts a corner {largest:+.1f} px off"
            return Finding("rows", "unsure", f"{text} {where}", _blame(rectified_by), means)
        text = f"rows correspond within {typical:.2f} px (median of {agrees.sum()} matches; nine of ten {most:.2f} px)"
        return Finding("rows", "right", text)
    where = f"{abs(middle):.1f} px {'lower' if middle > 0 else 'higher'} in the middle, {largest:+.1f} px in a corner"
    text = f"vertical misalignment: things are {typical:.1f} px off their row in the right view ({where})"
    # How much of it each cause makes at the border of the image, px.
    causes = {
        f"mostly a shift by {middle:+.1f} px": abs(middle),
        f"mostly a turn by {matches.turn_deg:+.2f} degrees": abs(matches.plane[1]) * width / 2,
        f"mostly another scale, {100 * (matches.zoom - 1):+.2f} %": abs(matches.plane[2]) * height / 2,
    }
    return Finding("rows", "wrong", f"{text}, {max(causes, key=causes.__getitem__)}", _blame(rectified_by))


def _error_of_plane(matches: Matches, points: Array) -> Array:
    """Standard error of the model of the rows at points, px."""
    agrees = matches.agrees
    design, there = (np.column_stack([np.ones(len(at)), at]) for at in (matches.points[agrees], points))
    spread = float(np.std(matches.off[agrees]))
    leverage = np.einsum("ij,ij->i", there, np.linalg.lstsq(design.T @ design, there.T, rcond=None)[0].T)
    return np.asarray(spread * np.sqrt(np.maximum(leverage, 0)))


def _rows_by_depth(matches: Matches, moved: NDArray[np.bool_], rectified_by: str | None) -> Finding:
    by = float(np.median(np.abs(matches.down[moved])))
    text = (
        f"vertical misalignment that differs with depth or place: {percent(float(moved.mean()))} of the matches are "
        f"{by:.1f} px off their row in the right view, where a scene that holds still has them under cameras that are "
        "not level"
    )
    return Finding("rows", "wrong", text, _blame(rectified_by))


def _blame(rectified_by: str | None) -> str:
    if rectified_by:
        return f"the calibration {rectified_by} does not fit these views: calibrate again, or look for the right file"
    return "rectify with a calibration (calibration: in rig.yaml), or the camera moved between the exposures"


def _is_static(matches: Matches, agrees: NDArray[np.bool_], moved: NDArray[np.bool_]) -> bool:
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
    right = np.abs(points @ model - matches.down[moved]) < ON_ITS_ROW * matches.scale + error
    return bool(np.mean(right & (error < _PREDICTED_PX * matches.scale)) > 0.5)


def _moved(matches: Matches, agrees: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Matches off their row that their neighbors share, as no wrong match does; None where they are too few to count.

    Where the rows do not correspond, or the views are unrelated, they say nothing about motion.
    """
    moved = np.flatnonzero(~agrees)
    motion = np.column_stack([matches.disparity, matches.off])[moved]
    coherent = np.zeros(len(agrees), bool)
    if len(moved) > _NEIGHBORS:
        distance = np.linalg.norm(matches.points[moved, None] - matches.points[None, moved], axis=-1)
        nearest = np.argsort(distance, axis=1)[:, 1 : 1 + _NEIGHBORS]
        alike = np.linalg.norm(motion[nearest] - motion[:, None], axis=-1) < 2 * ON_ITS_ROW
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
        return Finding("timing", "wrong", text, advice)
    agreeing = percent(float(agrees.mean()))
    return Finding(
        "timing", "right", f"no motion seen: {agreeing} of {len(off)} matches agree. Motion along rows cannot be seen"
    )
