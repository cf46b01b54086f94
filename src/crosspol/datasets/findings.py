"""What a pair and its ground truth say of each other, in words: the tests behind `crosspol data check`.

Every function takes a `CheckedPair` and returns lines, none where nothing is wrong. They judge by what other reading of
the data would fit better, so that noise, reflections and glare, which no reading explains, are no problem.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosspol.data.truth import occlusion_of
from crosspol.data.warping import seen_from_right, warp_to_left
from crosspol.rigs.calibration import StereoCalibration

__all__ = [
    "CheckedPair",
    "exposure_problems",
    "glass_problems",
    "matching_problems",
    "occlusion_problems",
    "polarization_problems",
    "warp_error",
]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

_FEWEST_PIXELS = 100
"""Of a comparison: fewer say nothing."""
_CLEARLY = 1.1
"""How much worse the given reading has to be than another before it is called wrong. Of the rooms that ship with the
package, half a pixel more or less is worse by 1.22 to 1.8."""
_ENOUGH = 0.3
"""Share of the pixels that both views see which another reading has to explain: a few match anywhere."""
_MATCHED = 0.6
"""Warp error below which views match; unrelated ones are at 1.1."""
_DOUBTFUL = 0.2
"""Warp error from which scales and depth are tried as well; of the rooms, quad rigs are at 0.12, crossed up to 0.2."""
_NEIGHBORHOOD = 3.0
"""Px, standard deviation of the window in which patterns are compared."""
_FLAT = 0.02
"""Contrast, against the local brightness, below which a pattern counts as noise."""
_OFFSETS = (0.5, 1, 2, 3)
_ROWS = (1, 2, 3)
_SCALES = (2, 16, 32, 100, 256, 1000)
_DEPTHS = 80
"""Steps in which the constant of 1 / value is searched."""
_BEHIND = 0.25
"""Px of disparity by which what is behind glass differs from it for certain."""
_STRAY = 0.01
"""Share of what only glass explains that may lie outside its mask."""
_HIDDEN = 0.5
"""Share of what the disparity hides that `occluded` has to have."""
_LEVELS = 20.0
"""Times that one view can be brighter than the other."""
_STEP = 4
"""Px over which a surface's slope is taken."""
_LEAST_DOLP = 0.03
"""DoLP below which a direction of polarization is noise."""
_SLANTED = 0.2
"""Sine of the angle between view and normal below which a surface polarizes too little."""
_SIGN = 0.15
"""By how much the mirrored direction of polarization has to fit surfaces better; of the rooms that ship with the
package, the right one is better by 0.33 to 0.47, or worse by 0.02 where no surface tells; of 92 others, of 160x120 px,
it is better by more than this in 40, and worse by more in two."""
_SURFACE_PIXELS = 1000


@dataclass(frozen=True, eq=False)
class CheckedPair:
    """A pair and its ground truth, as files hold them.

    left, right: (H, W), how bright the views are, linear or as a viewer shows them.
    disparity, background: (H, W), px; NaN = unknown. Of any range: that is to be found out.
    occluded: (H, W), bool.
    glass: (H, W), bool; None: it is not known where glass is.
    stokes: (3, H, W) of the left and the right view; None where it was not measured.
    calibration: of the rectified pair.
    """

    left: Array
    right: Array
    disparity: Array
    occluded: Mask
    glass: Mask | None = None
    background: Array | None = None
    stokes: tuple[Array | None, Array | None] = (None, None)
    calibration: StereoCalibration | None = None


def warp_error(pair: CheckedPair) -> float:
    """Mean difference of the views' patterns where both see the point and it is not glass.

    In units of the local contrast (its standard deviation); NaN where too little is seen.
    """
    return _Matching(pair).error(pair.disparity)


def matching_problems(pair: CheckedPair) -> list[str]:
    """Say with which other disparity, scale, row or order the views match better than as they are given."""
    if np.array_equal(pair.left, pair.right):
        return ["left and right are the same image, wanted two views"]
    matching = _Matching(pair)
    here = matching.error(pair.disparity)
    # A disparity that points nowhere (NaN) is explained by whatever matches.
    wanted = _MATCHED if math.isnan(here) else here / _CLEARLY
    readings = list(_near(matching))
    if not here < _DOUBTFUL:
        readings += _far(matching)
    # NaN compares as false.
    found = [reading for reading in readings if reading[0] < wanted]
    if not found:
        return []
    least, name = min(found)
    given = "nothing to compare" if math.isnan(here) else f"{here:.3f}"
    return [f"the views match better with {name} (warp error {least:.3f}, as given {given})"]


class _Matching:
    """Both views' brightness, compared under one reading of the disparity after the other."""

    def __init__(self, pair: CheckedPair) -> None:
        self.pair = pair
        self.left, self.right = _compressed(pair.left), _compressed(pair.right)
        self.apart = ~pair.occluded & ~_glass(pair)
        self.fewest = max(_FEWEST_PIXELS, _ENOUGH * int((self.apart & np.isfinite(pair.disparity)).sum()))

    def error(
        self, disparity: Array, rows: int = 0, apart: Mask | None = None, fewest: float = _FEWEST_PIXELS
    ) -> float:
        right = self.right if not rows else _lowered(self.right, rows)
        warped, inside = warp_to_left(right[None], disparity)
        seen = inside & (self.apart if apart is None else apart)
        # Rows that came in from the other end.
        seen[: max(rows, 0)] = False
        seen[len(seen) + min(rows, 0) :] = False
        if seen.sum() < fewest:
            return math.nan
        return float(np.abs(_pattern(warped[0], seen) - _pattern(self.left, seen))[seen].mean())

    def other(self, disparity: Array, rows: int = 0) -> float:
        return self.error(disparity, rows, fewest=self.fewest)


def _glass(pair: CheckedPair) -> Mask:
    """Where glass is for the comparison of views: by the mask, or by the disparities where these refute it."""
    if pair.glass is None:
        return np.zeros_like(pair.occluded)
    if pair.background is not None and glass_problems(pair):
        differs = pair.disparity - pair.background > _BEHIND
        if differs.mean() < 0.5:
            return differs | (pair.glass & np.isnan(pair.background))
    return pair.glass


def _near(matching: _Matching) -> Iterator[tuple[float, str]]:
    disparity = matching.pair.disparity
    for offset in _OFFSETS:
        yield matching.other(disparity - offset), f"{offset:g} px less disparity"
        yield matching.other(disparity + offset), f"{offset:g} px more disparity"
    for rows in _ROWS:
        unit = "row" if rows == 1 else "rows"
        yield matching.other(disparity, rows), f"the right view {rows} {unit} lower"
        yield matching.other(disparity, -rows), f"the right view {rows} {unit} higher"
    if (disparity > 0).any():
        yield matching.other(-disparity), "the views exchanged"
    else:
        yield matching.other(-disparity), "the other sign (are the values x_right - x_left?)"
    glass = matching.pair.glass
    if glass is not None and matching.pair.background is None and glass.mean() > 0.5:
        # What a pane shows does not match at the pane: where glass is said to be almost everywhere and matches, it is
        # not. Twice as good, since good glass can match.
        yield 2 * matching.error(disparity, apart=glass & ~matching.pair.occluded), "the glass mask inverted"


def _far(matching: _Matching) -> Iterator[tuple[float, str]]:
    disparity = matching.pair.disparity
    width = disparity.shape[1]
    for scale in _SCALES:
        yield matching.other(disparity / np.float32(scale)), f"disparity / {scale} (are the values px * {scale}?)"
        yield matching.other(disparity * np.float32(scale)), f"disparity * {scale} (are the values px / {scale}?)"
    yield matching.other(disparity * np.float32(width)), "disparity * the width (are the values shares of it?)"
    positive: Array = np.where(disparity > 0, disparity, np.float32(np.nan))
    if np.isfinite(positive).any():
        middle = float(np.nanmedian(positive))
        for constant in middle * np.geomspace(1, width / 2, _DEPTHS):
            yield matching.other(np.float32(constant) / positive), "disparity as 1 / the values (are they depth?)"


def glass_problems(pair: CheckedPair) -> list[str]:
    """Say where the glass mask and both disparities, with and without glass, disagree.

    Glass is where they differ. The reverse does not hold: a pane on a wall hides nothing.
    """
    if pair.glass is None or pair.background is None:
        return []
    differs = pair.disparity - pair.background > _BEHIND
    count = int(differs.sum())
    stray = int((differs & ~pair.glass).sum())
    if count < _FEWEST_PIXELS or stray <= _STRAY * count:
        return []
    shares = f"{stray / count:.0%} of the {count} pixels whose disparity is before disparity_background"
    if stray > (1 - _STRAY) * count and (pair.glass & ~differs).any():
        return [f"glass: got a mask without {shares}, wanted it on them: is it inverted?"]
    return [f"glass: got a mask without {shares}, wanted all of them: is it shifted, or of another scene?"]


def occlusion_problems(pair: CheckedPair) -> list[str]:
    """Say where `occluded` lacks what the disparity itself hides from the right view."""
    hidden = occlusion_of(np.where(pair.disparity >= 0, pair.disparity, np.float32(np.nan)))
    count = int(hidden.sum())
    share = float((pair.occluded & hidden).sum()) / max(count, 1)
    if count < _FEWEST_PIXELS or share >= _HIDDEN:
        return []
    what = "an empty mask" if not pair.occluded.any() else f"{share:.0%} of them"
    return [f"occluded: got {what}, wanted the {count} pixels that the disparity hides from the right view"]


def exposure_problems(pair: CheckedPair) -> list[str]:
    """Say when one view is so much brighter than the other that no two cameras of a rig are."""
    warped, inside = warp_to_left(pair.right[None], pair.disparity)
    both = inside & ~pair.occluded & (warped[0] > 0) & (pair.left > 0)
    if both.sum() < _FEWEST_PIXELS:
        return []
    ratio = float(np.median(pair.left[both] / warped[0][both]))
    if 1 / _LEVELS <= ratio <= _LEVELS:
        return []
    side, times = ("left", ratio) if ratio > 1 else ("right", 1 / ratio)
    return [f"{side}: got {times:.3g} times the light of the other view, wanted one exposure for both"]


def polarization_problems(pair: CheckedPair) -> list[str]:
    """Say where polarization has the wrong sign: between the views, and against the surfaces that it comes from.

    What a smooth surface reflects is polarized across the plane of view and normal, what comes from below it along that
    plane: either way S1 and S2 follow from the normal, up to one sign for both. A mirrored S2 fits neither. Surfaces
    whose plane lies along the axes or halfway between them do not tell, and the others count by how much they do.
    """
    left, right = pair.stokes
    problems = []
    if left is not None and right is not None:
        problems += _signs_between_views(pair, left, right)
    if pair.calibration is None:
        return problems
    for side, stokes, disparity in _sides(pair):
        fits, mirrored = _fit_to_surfaces(stokes, disparity, pair.calibration, side)
        if mirrored > fits + _SIGN:
            problems.append(
                f"{side}: S2 fits the surfaces' normals better with the other sign ({mirrored:.2f}, as given "
                f"{fits:.2f}): is it counted clockwise, or the view mirrored?"
            )
    return problems


def _signs_between_views(pair: CheckedPair, left: Array, right: Array) -> list[str]:
    warped, inside = warp_to_left(right, pair.disparity)
    seen = inside & ~pair.occluded & (left[0] > 0) & (warped[0] > 0)
    seen &= np.hypot(left[1], left[2]) > _LEAST_DOLP * left[0]
    if seen.sum() < _FEWEST_PIXELS:
        return []
    likeness = {}
    for index, name in ((1, "S1"), (2, "S2")):
        one, other = left[index][seen] / left[0][seen], warped[index][seen] / warped[0][seen]
        scale = math.sqrt(float((one * one).sum()) * float((other * other).sum()))
        likeness[name] = float((one * other).sum()) / scale if scale > 0 else 0.0
    return [
        f"{name}: got the other sign in one view than in the other (correlation {likeness[name]:.2f}; of {rest} "
        f"{likeness[rest]:.2f})"
        for name, rest in (("S1", "S2"), ("S2", "S1"))
        if likeness[name] < -0.3 and likeness[rest] > 0.3
    ]


def _sides(pair: CheckedPair) -> Iterator[tuple[str, Array, Array]]:
    left, right = pair.stokes
    if left is not None:
        yield "left", left, pair.disparity
    if right is not None:
        (disparity,) = seen_from_right(np.where(pair.disparity >= 0, pair.disparity, np.float32(np.nan)))
        yield "right", right, disparity


def _fit_to_surfaces(stokes: Array, disparity: Array, calibration: StereoCalibration, side: str) -> tuple[float, float]:
    """How well polarization fits the surfaces' directions as it is and with S2 negated, each in [0, 1]."""
    direction, slant = _surface_directions(disparity, calibration, side)
    s0, s1, s2 = stokes
    polarized = np.hypot(s1, s2)
    with np.errstate(invalid="ignore"):
        told = np.isfinite(direction) & (slant > _SLANTED) & (polarized > _LEAST_DOLP * s0) & (s0 > 0)
    if told.sum() < _SURFACE_PIXELS:
        return 0.0, 0.0
    # A mirror changes what is expected in directions that are oblique, most at 22.5 degrees to the axes.
    weight = np.abs(np.sin(4 * direction[told])) / s0[told]
    along, across = s1[told] * np.cos(2 * direction[told]), s2[told] * np.sin(2 * direction[told])
    total = float((polarized[told] * weight).sum())
    fits, mirrored = ((np.abs(along + sign * across) * weight).sum() / total for sign in (1, -1))
    return float(fits), float(mirrored)


def _surface_directions(disparity: Array, calibration: StereoCalibration, side: str) -> tuple[Array, Array]:
    """Direction across the plane of view and normal, as AoLP counts it, and the sine of the angle between both.

    The disparity of a plane is linear in the image: with u, v from the principal point and d = a u + b v + c, its
    normal is along (a, b, c / f). NaN where the surface bends or ends.
    """
    height, width = disparity.shape
    focal = calibration.fx
    column = calibration.cx_left if side == "left" else calibration.cx_right
    u = (np.arange(width) - column)[None, :] + np.zeros((height, 1))
    v = (np.arange(height) - calibration.cy)[:, None] + np.zeros((1, width))
    wide = np.pad(disparity.astype(np.float64), _STEP, constant_values=np.nan)
    middle = slice(_STEP, -_STEP)
    before, after = wide[middle, : -2 * _STEP], wide[middle, 2 * _STEP :]
    above, below = wide[: -2 * _STEP, middle], wide[2 * _STEP :, middle]
    a, b = (after - before) / (2 * _STEP), (below - above) / (2 * _STEP)
    c = disparity - a * u - b * v
    # Half a step of the format, and what perspective and shading of normals leave.
    bend = 0.02 + 0.002 * np.abs(disparity)
    flat = (np.abs(after + before - 2 * disparity) < bend) & (np.abs(below + above - 2 * disparity) < bend)
    normal = np.stack([a, b, c / focal])
    ray = np.stack([u / focal, v / focal, np.ones_like(u)])
    across = np.cross(normal, ray, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        slant = np.linalg.norm(across, axis=0) / (np.linalg.norm(normal, axis=0) * np.linalg.norm(ray, axis=0))
    direction = np.where(flat, np.arctan2(-across[1], across[0]), np.nan)
    return direction.astype(np.float32), slant.astype(np.float32)


def _lowered(image: Array, rows: int) -> Array:
    """The image moved down by so many rows, up where they are negative; what comes in is never compared."""
    return np.roll(image, rows, axis=0)


def _compressed(brightness: Array) -> Array:
    """Light to [0, 1), half at its median: a highlight that only one view has weighs no more than a white wall."""
    brightness = np.maximum(brightness, 0)
    return brightness / (brightness + max(float(np.median(brightness)), 1e-9))


def _pattern(image: Array, seen: Mask) -> Array:
    """What stands out of its surroundings: polarizers and glare change how bright a place is, less how it varies."""
    import cv2

    weight = cv2.GaussianBlur(seen.astype(np.float32), (0, 0), _NEIGHBORHOOD) + 1e-9

    def around(values: Array) -> Array:
        return np.asarray(cv2.GaussianBlur(values * seen, (0, 0), _NEIGHBORHOOD) / weight, np.float32)

    mean = around(image)
    own = image - mean
    return np.asarray(own / (np.sqrt(around(own * own)) + _FLAT * mean + 1e-9), np.float32)
