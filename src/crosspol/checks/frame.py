"""What one camera's frame shows: its exposure, its levels, the layout of its angles, a tone curve.

A fault that would make others appear is named alone: what it hides is "unsure".
"""

from __future__ import annotations

import math

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray

from crosspol.checks.file_format import check_format
from crosspol.checks.findings import Finding, Verdict, percent
from crosspol.polarimetry import SONY_LAYOUT, Layout, residual
from crosspol.rigs.frames import Frame, Recording

__all__ = ["check_recording"]


_SATURATED_SHARE = 0.10
_DARK_SHARE = 0.50
_ASKED_PHOTOGRAPH, _SATURATED_PHOTOGRAPH, _DARK_PHOTOGRAPH = 0.2, 0.4, 0.9
"""Of images with a photograph's tone curve: saturated, from which they are asked about, and saturated and dark, up to
which the scene may be so."""
_BELOW_BLACK_SHARE = 0.05
_CLIPPED_SHARE = 5e-4
"""Of all values, to call the largest one a clipping level that is lower than the white level."""
_CLIPPED_PEAK = 5.0
"""How many times more often it then occurs than the values below it."""

_ABOVE_WHITE = 1.1
"""Of the range from black to white: white levels are often set a little below where the sensor clips."""
_DARKEST_SHARE = 1e-3
_PEDESTAL = 0.04
"""Of the range from black to white, from which the darkest values are asked about: the real mosaics and the sample
rooms show up to 0.02."""

_EVEN = 0.05
"""Relative standard deviation of the light in a block up to which it counts as even."""

_LAYOUT_BLOCK = 8
_FEWEST_BLOCKS = 50
_LAYOUT_MARGIN = 1.5
"""How many times larger the residual of a wrong layout is at least. Real frames show 2.7 and more."""
_LAYOUT_LEAST = 0.03
"""Residual that a wrong layout has to have, of S0: the gains of real sensors' angles alone make 0.02."""
_SAME_RESIDUAL = 1.3
"""Largest residual of a frame without polarization, of its smallest."""
_NO_POLARIZATION = 0.005
"""Residual of all ways to pair the angles up to which pixels were averaged: the real mosaics show 0.04, rooms 0.01."""

_GAMMA_BLOCK = 4
"""Samples of an angle along the side of a block over which they are averaged; half as many of each color."""
_GAMMA_TOLERANCE = 0.08
"""Curvature that counts as linear: gammas from 0.86 to 1.19. Linear real frames show up to 0.03."""
_GAMMA_ERROR = 0.02
_GAMMA_GROUPS = 64
"""Parts of the image that are left out in turn to estimate the error."""


def check_recording(recording: Recording, frame: Frame, crossed: bool = False) -> list[Finding]:
    """Look at one camera's frame.

    Args:
        recording: as it was read.
        frame: what was computed from it.
        crossed: it is one of a crossed pair.
    """
    file, levels = check_format(recording), _levels(recording)
    if any(finding.topic == "format" for finding in file):
        return [
            *file,
            Finding("layout", "unsure", "exposure, levels, layout and gamma show once the file is read right"),
        ]
    exposure = _exposure(recording, frame)
    causes = [finding.topic for finding in (*file, *levels) if finding.verdict == "wrong"]
    if exposure.verdict == "wrong" and "levels" in causes:
        # What the levels make look too bright or too dark need not be the exposure.
        exposure = exposure._replace(verdict="unsure", do=f"{exposure.do}; but see levels first")
    found = [exposure, *file, *levels]
    if recording.camera.record.records_angles:
        layout = _layout(recording, frame)
        found.append(layout)
        if layout.verdict == "wrong":
            causes.append("layout")
        if causes:
            text = f"a tone curve shows only once what is wrong above ({', '.join(causes)}) is right"
            found.append(Finding("gamma", "unsure", text))
        else:
            gamma = _gamma(recording)
            if gamma.verdict == "wrong" and layout.verdict == "unsure":
                gamma = gamma._replace(verdict="unsure", do=f"{gamma.do}; but see layout first")
            found.append(gamma)
    elif crossed:
        text = "one angle a camera cannot show a tone curve"
        found.append(Finding("gamma", "unsure", text, "check that twice the exposure time doubles the values"))
    return found


def _exposure(recording: Recording, frame: Frame) -> Finding:
    camera = recording.camera
    light = camera.record.brightness(recording.light)
    saturated = (light >= camera.saturated).float().mean().item()
    dark = (frame.image.mean(0) <= camera.dark).float().mean().item()
    broken = (~recording.light.isfinite()).float().mean().item()
    shares = f"{percent(saturated)} saturated, {percent(dark)} dark, {percent(frame.valid.mean().item())} valid"
    if broken:
        shares += f", {percent(broken)} not numbers"
    # White paper and black cloth are no fault of a photograph; polarization cannot do without what is clipped.
    photograph = camera.encoding == "srgb"
    if saturated > (_ASKED_PHOTOGRAPH if photograph else _SATURATED_SHARE):
        verdict: Verdict = "unsure" if photograph and saturated < _SATURATED_PHOTOGRAPH else "wrong"
        advice = "shorten the exposure, or take the brightest light out of the image"
        return Finding("exposure", verdict, shares, advice)
    if dark > _DARK_SHARE:
        verdict = "unsure" if photograph and dark < _DARK_PHOTOGRAPH else "wrong"
        return Finding("exposure", verdict, shares, "lengthen the exposure, or correct white_level")
    return Finding("exposure", "right", shares)


def _levels(recording: Recording) -> list[Finding]:
    """Compare the stored integers with black and white level; nothing to say is no finding."""
    camera, plane, white = recording.camera, recording.planes[-1], recording.white
    if not camera.record.counts_light:
        return []
    found = []
    below = float(np.mean(plane < camera.black_level))
    if below > _BELOW_BLACK_SHARE:
        text = f"{percent(below)} of the values lie below black_level {camera.black_level:g}: it is too high"
        advice = "take the mean of a frame with the lens cap on for black_level"
        found.append(Finding("levels", "wrong", text, advice))
    above = float(np.mean(plane[np.isfinite(plane)] > camera.black_level + _ABOVE_WHITE * (white - camera.black_level)))
    if above > _CLIPPED_SHARE:
        text = f"{percent(above)} of the values lie above white_level {white:g}, up to {np.nanmax(plane):g}"
        found.append(Finding("levels", "wrong", text, "set white_level to the value of full light"))
    if not found and camera.encoding == "linear" and (pedestal := _pedestal(recording)) is not None:
        found.append(pedestal)
    if plane.dtype not in (np.uint8, np.uint16):
        return found
    counts = np.bincount(plane.reshape(-1))
    largest = len(counts) - 1
    before = counts[max(largest - 64, 0) : largest]
    usual = float(before[before > 0].mean()) if before.any() else 0.0
    piled_up = counts[largest] > max(_CLIPPED_SHARE * plane.size, _CLIPPED_PEAK * usual)
    fewer_bits = white >= 65535 and largest < 4096
    if not fewer_bits and piled_up and before.any() and recording.light.max() < camera.saturated:
        text = f"the values pile up at {largest} and end there, below white_level {white:g}"
        # A photograph may have been darkened, with all that was white in it.
        verdict: Verdict = "unsure" if camera.encoding == "srgb" else "wrong"
        found.append(Finding("levels", verdict, text, f"set white_level: {largest}"))
    elif fewer_bits:
        text = f"no value is above {largest} of {white:g}"
        bits = next(bits for bits in (8, 10, 12) if largest < 1 << bits)
        advice = f"for {bits} bits in a 16-bit file, set white_level: {(1 << bits) - 1}"
        found.append(Finding("levels", "wrong", text, advice))
    return found


def _pedestal(recording: Recording) -> Finding | None:
    """Ask about values that end well above the black level; a scene without anything dark looks the same."""
    camera, white = recording.camera, recording.white
    stored = np.concatenate([plane[np.isfinite(plane)].reshape(-1) for plane in recording.planes])
    if not stored.size:
        return None
    darkest = float(np.quantile(stored, _DARKEST_SHARE))
    if darkest - camera.black_level < _PEDESTAL * (white - camera.black_level):
        return None
    text = (
        f"no value is near black_level {camera.black_level:g}: the darkest are {darkest:.4g}. Nothing in this scene is "
        "dark, or the camera adds a pedestal, which makes all polarization look weaker"
    )
    return Finding("levels", "unsure", text, "take the mean of a frame with the lens cap on for black_level")


def _layout(recording: Recording, frame: Frame) -> Finding:
    """Compare the residual I0 + I90 - I45 - I135 with those of the two other ways to pair the angles."""
    residuals = _pairing_residuals(recording, frame)
    if residuals is None:
        return Finding("layout", "unsure", "too few even, unsaturated areas to tell")
    own, smallest, second = residuals[0], *sorted(residuals)[:2]
    measured = f"I0 + I90 and I45 + I135 differ by {percent(own)} of S0"
    if max(residuals) < max(_SAME_RESIDUAL * smallest, _NO_POLARIZATION) and _is_mosaic(recording):
        text = (
            f"{measured}, and as little with the angles paired otherwise: there is no polarization, or "
            "this is no raw mosaic any more (averaged 2x2, scaled, denoised or demosaiced)"
        )
        return Finding("layout", "unsure", text, "photograph a polarizer to tell")
    if second < _LAYOUT_MARGIN * smallest or second < _LAYOUT_LEAST:
        others = " and ".join(percent(other) for other in residuals[1:])
        text = (
            f"{measured}, with the angles paired otherwise by {others}: too little polarization in this scene to tell"
        )
        return Finding("layout", "unsure", text, "photograph a shiny surface at a slant, or a polarizer")
    names = _pairing_names(recording)
    if own == smallest:
        text = f"{names[0]} fits: {measured}, paired otherwise by {percent(second)}. {_CANNOT_TELL}"
        return Finding("layout", "right", text)
    return Finding(
        "layout",
        "wrong",
        f"{names[0]} does not fit: {measured}. {names[residuals.index(smallest)]} has the right pairs "
        f"({percent(smallest)}), and so have those that exchange 0 with 90, 45 with 135, or the pairs in it. "
        f"{_CANNOT_TELL}",
    )


def _pairing_residuals(recording: Recording, frame: Frame) -> list[float] | None:
    """Mean of |I0 + I90 - I45 - I135| / S0 under the stated pairing and the two others; None where nothing is even.

    It is taken in blocks, over which noise averages out, and only where the light is even: at edges every pairing of a
    mosaic has a residual, but that of diagonal neighbors a smaller one, whatever the layout.
    """
    camera, light = recording.camera, recording.light
    planes = camera.record.angle_images(light, camera)
    means = F.avg_pool2d(planes, _LAYOUT_BLOCK)
    s0 = means.sum(0) / 2
    untrusted = F.max_pool2d(1 - frame.valid, _LAYOUT_BLOCK)[0] > 0
    image = planes.sum(0) / 2
    spread = (F.avg_pool2d(image**2, _LAYOUT_BLOCK) - s0**2).clamp(min=0).sqrt()
    even = (spread < _EVEN * s0).all(0) & ~untrusted
    if int(even.sum()) < _FEWEST_BLOCKS:
        return None
    # Exchanging the labels of two images that are not a pair makes one of the other ways to pair them.
    return [float((residual(*means[order].unbind(0)).abs().mean(0))[even].mean()) for order in _EXCHANGES.values()]


def _is_mosaic(recording: Recording) -> bool:
    return recording.light.ndim == 2


_EXCHANGES = {(0, 0): [0, 1, 2, 3], (45, 90): [0, 2, 1, 3], (0, 45): [1, 0, 2, 3]}


def _pairing_names(recording: Recording) -> list[str]:
    """What to call the stated pairing and the two others."""
    if "layout" not in recording.camera.record.keys:
        return [f"the order {' '.join(str(45 * place) for place in order)}" for order in _EXCHANGES.values()]
    layouts: list[Layout] = []
    for one, other in _EXCHANGES:
        exchanged = {one: other, other: one}
        layouts.append([[exchanged.get(angle, angle) for angle in row] for row in recording.camera.layout])
    # Of the layouts with the same pairs, Sony's is the one to try first.
    usual = [SONY_LAYOUT if _partner(layout) == _partner(SONY_LAYOUT) else layout for layout in layouts[1:]]
    return [f"layout {[list(row) for row in layout]}" for layout in (layouts[0], *usual)]


_CANNOT_TELL = (
    "Which angle of a pair is which no frame can tell: look at AoLP on a shiny floor, whose reflection is polarized "
    "along the rows (red in the contact sheet), or on a polarizer, by the direction that it passes as seen in the "
    "image, not by its scale, which may run clockwise or start at the vertical"
)


def _partner(layout: Layout) -> int:
    """Which place of the block, 1 to 3, holds the angle orthogonal to the first one's."""
    angles = [angle for row in layout for angle in row]
    return angles.index((angles[0] + 90) % 180)


def _gamma(recording: Recording) -> Finding:
    """Find a power-law tone curve by the second-order term that it leaves in I0 + I90 - I45 - I135.

    Of stored values I^g with q1 = (I0 - I90) / S0 and q2 = (I45 - I135) / S0, the expansion for small polarization is
    (I0 + I90 - I45 - I135) / S0 = (g - 1) / (2 g) * (q1^2 - q2^2): a line whose slope is 0 for linear values, whatever
    the gains and the black level. Exchanged pairs of angles change both sides alike.
    """
    means = _angle_means(recording)
    if means.shape[1] < 4 * _GAMMA_GROUPS:
        return Finding("gamma", "unsure", "too few even, unsaturated areas to tell whether a tone curve was applied")
    i0, i45, i90, i135 = means
    s0 = means.sum(0) / 2
    q1, q2 = (i0 - i90) / s0, (i45 - i135) / s0
    slope, error = _slope(q1**2 - q2**2, (i0 + i90 - i45 - i135) / s0)
    measured = f"curvature {slope:+.2f} +- {error:.2f}, where 0 is linear and -0.60 a gamma of 1/2.2"
    if abs(slope) > max(_GAMMA_TOLERANCE, 5 * error):
        # From a slope of 1/2 on there is no gamma behind it: something else is not linear.
        power = f" about as the light to the power of {1 / (1 - 2 * slope):.2f}" if slope < 0.4 else ""
        text = f"the values do not grow as the light does, but{power or ' otherwise'} ({measured})"
        return Finding("gamma", "wrong", text, "switch gamma and tone curves of the camera off")
    if error > _GAMMA_ERROR:
        text = f"too little polarization in this scene to tell whether a tone curve was applied ({measured})"
        return Finding("gamma", "unsure", text)
    return Finding("gamma", "right", f"the values grow as the light does ({measured})")


def _angle_means(recording: Recording) -> NDArray[np.float64]:
    """(4, N): intensities at 0, 45, 90, 135 degrees, means of blocks that are even, and neither dark nor saturated."""
    camera, light = recording.camera, recording.light
    planes = camera.record.angle_samples(light, camera)
    block = _GAMMA_BLOCK if "layout" not in camera.record.keys or camera.bayer is None else _GAMMA_BLOCK // 2
    total = planes.mean(0, keepdim=True)
    means, mean = F.avg_pool2d(planes, block), F.avg_pool2d(total, block)
    spread = (F.avg_pool2d(total**2, block) - mean**2).clamp(min=0).sqrt()
    highest = F.max_pool2d(planes, block).amax(0)
    lowest = -F.max_pool2d(-planes, block).amax(0)
    usable = (spread < _EVEN * mean)[0] & (highest < camera.saturated) & (lowest > 2 * camera.dark)
    return np.asarray(means[:, usable].double().numpy())


def _slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Slope of the line through the points by least squares, and its error by leaving out parts in turn: jackknife."""
    bounds = np.linspace(0, len(x), _GAMMA_GROUPS + 1).astype(int)
    moments = np.stack([np.ones_like(x), x, y, x * x, x * y])
    parts = np.add.reduceat(moments, bounds[:-1], axis=1)
    total = parts.sum(axis=1, keepdims=True)
    count, sum_x, sum_y, sum_xx, sum_xy = np.concatenate([total, total - parts], axis=1)
    variance = sum_xx - sum_x**2 / count
    if variance.min() <= 1e-12 * count[0]:
        return 0.0, math.inf
    slopes = (sum_xy - sum_x * sum_y / count) / variance
    left_out = slopes[1:]
    error = math.sqrt((_GAMMA_GROUPS - 1) * float(np.mean((left_out - left_out.mean()) ** 2)))
    return float(slopes[0]), error
