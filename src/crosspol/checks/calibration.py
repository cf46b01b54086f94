"""What a calibration says against the picture: its size, its principal point, its units, and the depths it means."""

from __future__ import annotations

import math

import numpy as np

from crosspol import geometry
from crosspol.checks.findings import Finding, Verdict, percent
from crosspol.checks.matching import Matches
from crosspol.rigs.calibration import LONGEST_BASELINE_M, CameraCalibration, StereoCalibration

__all__ = ["check_calibration", "check_depths"]

_SAME_RATIO = 0.15
"""How far the two ratios of an image of another size may differ."""
_OTHER_SIZE = 1.5
"""How many times farther from the corner than the middle is, or nearer, a principal point of another size lies."""
_CENTERED, _INSIDE = 0.15, 0.35
"""How far the principal point may be from the middle, of the image's sides: usual, and still a lens."""
_SQUARE = 0.05
_VIEW_DEG = (5.0, 140.0)
"""Horizontal field of view of lenses that are pinholes."""
_LEAST_FOCAL = 0.15
"""Focal length, of the image's width, below which it is in mm."""
_SHORTEST_BASELINE_M = 0.005
_DEPTH_M = (0.02, 500.0)
"""Depth of the middle match, between which stereo cameras are used."""
_BEHIND = 0.05
_LEAST_PX = 0.1
"""Disparity that what is farther away counts as."""
_LARGE = 0.35
"""Disparity, of the width, that is larger than what networks are trained for."""
_SMALL_PX = 2.0


def check_calibration(
    calibration: StereoCalibration,
    size: tuple[int, int],
    right_size: tuple[int, int] | None = None,
    bins: tuple[int, int] = (1, 1),
) -> list[Finding]:
    """Look at a calibration beside images that it is to fit: findings "size" and "calibration".

    Args:
        calibration: of the images.
        size: (H, W) of the left ones, px.
        right_size: of the right ones; None: the same.
        bins: how many pixels of the left and right images, along each axis, binning would make one; 1: none could.
    """
    height, width = size
    scaled = _of_another_size(calibration.left, size, "left", bins[0])
    if scaled is None:
        scaled = _of_another_size(calibration.right, right_size or size, "right", bins[1])
    if scaled is not None:
        return [scaled, *_baseline(calibration)]
    found = []
    camera = calibration.left
    fx, fy, cx, cy = camera.matrix[0, 0], camera.matrix[1, 1], camera.matrix[0, 2], camera.matrix[1, 2]
    view = math.degrees(2 * math.atan(width / (2 * fx)))
    away = max(abs((cx + 0.5) / width - 0.5), abs((cy + 0.5) / height - 0.5))
    at = [f"{100 * (place + 0.5) / side:.0f} %" for place, side in ((cx, width), (cy, height))]
    center = f"principal point at {at[0]} of the width, {at[1]} of the height"
    if fx < _LEAST_FOCAL * width:
        text = f"fx {fx:g} px of {width} px width is a field of view of {view:.0f} degrees: probably fx is in mm"
        do = f"fx in px is its mm times {width} px over the sensor's width in mm"
        found.append(Finding("calibration", "wrong", text, do))
    elif not _VIEW_DEG[0] <= view <= _VIEW_DEG[1]:
        text = f"fx {fx:g} px of {width} px width is a field of view of {view:.1f} degrees"
        found.append(Finding("calibration", "unsure", text, "check that K is of this size and in px"))
    if abs(fy / fx - 1) > _SQUARE:
        text = f"fx {fx:g} and fy {fy:g} px differ by {percent(abs(fy / fx - 1))}"
        found.append(Finding("calibration", "unsure", text, "check that images were not stretched after calibration"))
    if away > _CENTERED:
        text = f"{center}, far from the middle"
        do = (
            "a cropped image keeps fx and fy, and cx and cy lose the crop's first column and row; look for another size"
        )
        verdict: Verdict = "wrong" if away > _INSIDE else "unsure"
        found.append(Finding("calibration", verdict, text, do))
    found += _baseline(calibration)
    if not found:
        text = f"fits: fx {fx:.1f} px, field of view {view:.0f} degrees; {center}"
        found.append(Finding("calibration", "right", f"{text}; baseline {_length(calibration.baseline_m)}"))
    return found


def _of_another_size(camera: CameraCalibration, size: tuple[int, int], side: str, bins: int) -> Finding | None:
    height, width = size
    if camera.size is not None:
        if camera.size == (width, height):
            return None
        ratios, evidence = (camera.size[0] / width, camera.size[1] / height), ""
        of = f"the calibration of the {side} camera is of {camera.size[0]}x{camera.size[1]} px"
    else:
        cx, cy = camera.matrix[:2, 2]
        # Pixel centers are integers, so that the middle of w px is (w - 1) / 2.
        ratios = (2 * cx + 1) / width, (2 * cy + 1) / height
        if min(ratios) <= 0 or (max(ratios) < _OTHER_SIZE and min(ratios) > 1 / _OTHER_SIZE):
            return None
        middle = f"{2 * cx + 1:.0f}x{2 * cy + 1:.0f} px"
        of = f"the {side} camera's principal point ({cx:g}, {cy:g}) is the middle of {middle}"
        evidence = " (the calibration says no size)"
    text = f"{of}, the images are of {width}x{height} px{evidence}"
    ratio = float(np.sqrt(ratios[0] * ratios[1]))
    if abs(ratios[0] / ratios[1] - 1) > _SAME_RATIO:
        if camera.size is None:
            return None  # a principal point far off
        do = "use the calibration of these images; a crop keeps fx and fy, and cx and cy lose its first column and row"
        return Finding("size", "wrong", f"{text}: cropped, or of another camera", do)
    factor = 1 / ratio
    near = [value for value in (2.0, 0.5, 4.0, 0.25) if abs(factor / value - 1) < _SAME_RATIO]
    usual = f"{near[0] if near else factor:.3g}"
    do = f"multiply fx, fy by {usual}; cx and cy become {usual} * (c + 0.5) - 0.5; the baseline stays"
    # Without its size it would be taken for that of full-size frames, and binned as they are.
    if bins > 1 and camera.size is not None and near and near[0] == bins:
        do = f"demosaic: binning, whose images are of that size; or {do}"
    means = f"depth in meters comes out {ratio:.2g} times what it is; rectification would bend the images"
    text = f"{text}: {'smaller' if ratio < 1 else 'larger'} by a factor of {max(ratio, factor):.2g}"
    return Finding("size", "wrong", text, do, means)


def _baseline(calibration: StereoCalibration) -> list[Finding]:
    baseline = calibration.baseline_m
    if baseline > LONGEST_BASELINE_M:
        guess = f"mm ({_length(baseline / 1000)})"
        if baseline < 10 * LONGEST_BASELINE_M:
            guess = f"cm ({_length(baseline / 100)}) or {guess}"
        text = f"the baseline is {baseline:g} m, which is implausible: probably it is in {guess}"
        return [Finding("calibration", "wrong", text, "give it in meters (T, or baseline_m)")]
    if baseline < _SHORTEST_BASELINE_M:
        text = f"the baseline is {baseline:g} m, which is implausible: divided by 1000 once too often, or for 1"
        return [Finding("calibration", "wrong", text, "give it in meters (T, or baseline_m)")]
    return []


def check_depths(matches: Matches, calibration: StereoCalibration | None) -> list[Finding]:
    """Say how large the disparities of matches are, and which depths they mean: findings "disparity" and "depth".

    Args:
        matches: of rectified views.
        calibration: of the rectified views; None where there is none.
    """
    disparity = matches.disparity[matches.agrees]
    low, middle, high = np.percentile(disparity, [2, 50, 98])
    width = matches.size[1]
    text = f"{low:.1f} to {high:.1f} px, {100 * low / width:.1f} to {100 * high / width:.1f} % of the width"
    found = [Finding("disparity", "right", text)]
    if high > _LARGE * width:
        do = "step back, or predict at half the size; a shorter baseline has smaller disparities"
        found = [Finding("disparity", "unsure", f"{text}: more than networks are trained for", do)]
    elif high < _SMALL_PX:
        do = "use larger images or a longer baseline, or come nearer; check that this is not a thumbnail"
        means = "an error of half a pixel is most of the disparity: depth is coarse"
        found = [Finding("disparity", "unsure", f"{text}: hardly any", do, means)]
    if calibration is None or not calibration.rectified:
        return found
    offset = calibration.cx_right - calibration.cx_left
    before = disparity + offset
    if float(np.mean(before <= 0)) > _BEHIND:
        share = percent(float(np.mean(before <= 0)))
        text = f"{share} of the matches lie behind infinity with cx_right - cx_left = {offset:g} px"
        do = "check the sign of that difference, and that the views are not swapped"
        return [*found, Finding("depth", "wrong", text, do, "no depth there")]
    shifted = np.maximum(np.array([high, middle, low]) + offset, _LEAST_PX)
    depths = geometry.depth(shifted, calibration.fx, calibration.baseline_m)
    near, usual, far = map(float, depths)
    error = float(geometry.depth_error(depths, calibration.fx, calibration.baseline_m)[1])
    text = f"{_length(near)} to {_length(far)}; half of the matches are nearer than {_length(usual)}"
    text = f"{text}, where a pixel is {_length(error)}"
    if not _DEPTH_M[0] <= usual <= _DEPTH_M[1]:
        do = "check the baseline's unit (meters) and fx (px) against a distance that you know"
        return [*found, Finding("depth", "wrong", f"{text}: implausible", do)]
    return [*found, Finding("depth", "right", f"{text}. Compare with a distance that you know")]


def _length(meters: float) -> str:
    """A length in the unit that people would give it in."""
    if meters < 0.01:
        return f"{1000 * meters:.2g} mm"
    return f"{100 * meters:.3g} cm" if meters < 1 else f"{meters:.3g} m"
