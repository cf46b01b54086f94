"""What an ordinary image's numbers show: their range, and, of two views, one brightness and one order of colors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosspol.checks.findings import Finding, percent
from crosspol.checks.matching import Matches
from crosspol.errors import UsageError
from crosspol.limits import MINIMUM_SIDE
from crosspol.rigs.frames import Frame, Recording
from crosspol.rigs.raw_structure import looks_like_mosaic
from crosspol.rigs.rig import Camera

__all__ = ["check_views_agree", "image_of"]

_ROUNDING = 1e-3
"""How far resampling may carry a value beyond [0, 1], as `crosspol.data.arguments` has it."""
_BRIGHTER, _MUCH_BRIGHTER = 1.5, 2.5
"""Ratio of the light of one thing in both views."""
_LIT = (0.01, 0.9)
"""Light between which brightness and color are compared."""
_COLORFUL = 0.02
"""Standard deviation of (red - blue) / light from which there is color to compare."""
_SAME_COLORS = 0.3
"""Correlation of that between the views, from which it is the same, or the opposite."""
_FEWEST = 20


def image_of(stored: NDArray[Any], name: str) -> tuple[Recording, list[Finding]]:
    """Take an ordinary image for what it most likely is, and say where its numbers are not what the network takes.

    Args:
        stored: (H, W), (H, W, 1), (H, W, 3) in RGB or (H, W, 4): uint8, uint16 or floating point, as
            `crosspol.io.images.read_image` returns it.
        name: what to call it.

    Returns:
        The recording of a camera with a photograph's tone curve, in the range that fits the numbers, and findings
        "values" and "format".

    Raises:
        UsageError: no image, of another type, or smaller than the network takes.
    """
    if stored.dtype not in (np.uint8, np.uint16) and stored.dtype.kind != "f":
        raise UsageError(f"{name}: got values of type {stored.dtype}, wanted uint8, uint16 or float")
    if stored.ndim not in (2, 3) or stored.shape[2:] not in ((), (1,), (3,), (4,)):
        raise UsageError(f"{name}: got an array of shape {stored.shape}, wanted (H, W) or (H, W, 3)")
    height, width = stored.shape[:2]
    if min(height, width) < MINIMUM_SIDE:
        raise UsageError(f"{name}: got {width}x{height} px, wanted at least {MINIMUM_SIDE}x{MINIMUM_SIDE} px")
    found = []
    plane = stored[..., 0] if stored.shape[2:] == (1,) else stored
    if plane.shape[2:] == (4,):
        if (plane[..., 3] < (1 - _ROUNDING if plane.dtype.kind == "f" else np.iinfo(plane.dtype).max)).any():
            text = "some pixels are transparent, which the network cannot take"
            found.append(Finding("values", "wrong", text, "store it without alpha channel"))
        plane = plane[..., :3]
    if plane.ndim == 3 and (plane == plane[..., :1]).all():
        plane = plane[..., 0]
    plane, white, of_range = _range(plane)
    found += of_range
    if looks_like_mosaic(plane):
        text = "full of 2x2 structure, as raw frames of polarization and color sensors are"
        do = "describe the camera: crosspol rig init rig.yaml, then --rig rig.yaml"
        found.append(Finding("format", "wrong", text, do, "the pattern is taken for texture, and polarization is lost"))
    if not found:
        bits = f"{8 * plane.dtype.itemsize} bit{'' if plane.dtype.kind == 'u' else ' floating point'}"
        of = "gray" if plane.ndim == 2 else "color"
        found.append(Finding("values", "right", f"{bits} {of}, from {plane.min():g} to {plane.max():g} of {white:g}"))
    camera = Camera(content="image", encoding="srgb", white_level=white)
    light = np.clip(plane.astype(np.float32) / np.float32(white), 0, 1)
    return _recording([plane], light * np.float32(white), camera, name), found


def _recording(planes: list[NDArray[Any]], values: NDArray[Any], camera: Camera, name: str) -> Recording:
    from crosspol.rigs.contents.content import Stored

    white = float(camera.white_level or 1)
    return Recording(planes, camera.record.light(Stored([values], name), camera, white), white, camera, name)


def _range(plane: NDArray[Any]) -> tuple[NDArray[Any], float, list[Finding]]:
    """The plane, the value that is white in it, and what is wrong with its range."""
    wanted = "float images lie in [0, 1]"
    if plane.dtype.kind == "u":
        white, largest = float(np.iinfo(plane.dtype).max), int(plane.max())
        if plane.dtype == np.uint8 and 1 <= largest <= 2:
            text = f"no value is above {largest} of 255: an image in [0, 1] was stored as whole numbers"
            return plane, float(largest), [Finding("values", "wrong", text, "multiply by 255 before storing it")]
        return plane, white, []
    found = []
    known = np.isfinite(plane)
    if not known.all():
        text = f"{percent(1 - float(known.mean()))} of the values are no numbers"
        found.append(Finding("values", "wrong", text, "replace NaN and infinite values before storing it"))
        plane = np.where(known, plane, 0)
    low, high = float(plane.min()), float(plane.max())
    if low < -_ROUNDING:
        text = f"values from {low:g} to {high:g}: normalized by mean and deviation, or to [-1, 1]"
        found.append(Finding("values", "wrong", text, f"undo it: {wanted}"))
        return (plane - low) / max(high - low, 1e-12), 1.0, found
    if high > 1 + _ROUNDING:
        white = float(next((top for top in (255, 1023, 4095, 16383, 65535) if high <= top), high))
        text = f"floating point from {low:g} to {high:g}: {wanted}"
        found.append(Finding("values", "wrong", text, f"divide by {white:g}"))
        return plane, white, found
    if 0 < high <= 1.5 / 255:
        text = f"no value is above {high:.2g}: divided by 255 twice"
        return plane, 1 / 255, [*found, Finding("values", "wrong", text, "divide 8-bit values by 255 once")]
    return plane, 1.0, found


def check_views_agree(left: Frame, right: Frame, matches: Matches, same_cameras: bool = True) -> list[Finding]:
    """Compare brightness and color of what both views show: findings "brightness" and "color".

    Args:
        left, right: the views.
        matches: what they have in common.
        same_cameras: False where they see different light, as through crossed polarizers.
    """
    where = matches.agrees
    colors = [frame.image.numpy() for frame in (left, right)]
    seen = [matches.samples(image, right=view == 1)[where] for view, image in enumerate(colors)]
    light = [values.mean(axis=1) for values in seen]
    lit = np.logical_and.reduce([(values > _LIT[0]) & (values < _LIT[1]) for values in light])
    if lit.sum() < _FEWEST:
        return [Finding("brightness", "unsure", f"only {lit.sum()} matched features are neither dark nor saturated")]
    found = []
    if same_cameras:
        ratio = float(np.exp(np.median(np.log(light[1][lit] / light[0][lit]))))
        times, brighter = max(ratio, 1 / ratio), "right" if ratio > 1 else "left"
        text = f"the {brighter} view has {times:.2f} times the light of the other one, at the same things"
        do = "give both cameras one exposure time, gain and aperture; switch automatic exposure off"
        verdict = "right" if times < _BRIGHTER else "unsure" if times < _MUCH_BRIGHTER else "wrong"
        found.append(Finding("brightness", verdict, text, "" if verdict == "right" else do))  # type: ignore[arg-type]
    channels = [len(image) for image in colors]
    if channels[0] != channels[1]:
        gray, color = ("left", "right") if channels[0] == 1 else ("right", "left")
        text = f"the {gray} view is gray, the {color} one in color"
        do = "store both alike; where the cameras differ, make both gray"
        found.append(Finding("color", "unsure", text, do))
    elif channels[0] == 3:
        found.append(_color(*(values[lit] for values in seen)))
    return found


def _color(left: NDArray[np.float64], right: NDArray[np.float64]) -> Finding:
    """Compare (red - blue) / light of the same things: exchanged channels turn its sign."""
    red = [(values[:, 0] - values[:, 2]) / values.sum(axis=1) for values in (left, right)]
    if min(float(values.std()) for values in red) < _COLORFUL:
        return Finding("color", "right", "both views are almost gray, so that the order of the channels hardly matters")
    alike = float(np.corrcoef(*red)[0, 1])
    measured = f"red against blue correlates by {alike:+.2f} between the views"
    if alike < -_SAME_COLORS:
        text = f"red and blue are exchanged in one view: {measured}"
        do = "read both as RGB (OpenCV reads BGR: cv2.cvtColor(image, cv2.COLOR_BGR2RGB))"
        return Finding("color", "wrong", text, do)
    if alike < _SAME_COLORS:
        return Finding("color", "unsure", f"the colors have little to do with each other: {measured}", "compare them")
    return Finding("color", "right", f"{measured}. BGR in both views looks the same")
