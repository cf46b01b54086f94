"""What a pair's polarization tells: how much of it is valid, whether it is more than noise, whether the views agree."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosspol.checks.findings import Finding, percent
from crosspol.checks.matching import Matches
from crosspol.rigs.frames import Frame

__all__ = ["Polarization", "check_agreement", "check_contrast", "check_polarization", "polarization_of"]

Array = NDArray[np.float64]

_VALID_SHARE = 0.5
_WEAK = 0.03
"""95th percentile of DoLP below which there is hardly any polarization."""
_STRONG = 0.6
"""Median DoLP of a view that is full of glass, or of one whose black level or layout is wrong."""
_NOISE = 0.9
"""Difference of neighboring blocks, of that of any two, from which a map is noise: noise alone has 1."""
_BLOCK = 4
"""px along the side of a block: the network averages 8x8 px, and demosaicing makes adjacent pixels alike."""
_BLOCK_VALID = 0.99
_IS_THE_IMAGE = 0.97
"""Correlation of DoLP with the image from which it is the image."""
_TO_TELL = 0.25
"""Correlation of polarization between the views, at least."""
_CLEARER = 0.15
"""By how much one of two explanations has to correlate better."""
_SAME_ANGLE_DEG = 12.0
_FEWEST = 40
_SAME_EXPOSURE = 0.15
"""Median contrast of a crossed pair, beyond which the cameras are exposed differently: most surfaces are matte."""
_HIGHLIGHT = 0.1
_ONE_SIDED = 2.0


@dataclass(frozen=True, eq=False)
class Polarization:
    """What is known of a view's polarization.

    dolp: (H, W).
    direction: (2, H, W), S1 / S0 and S2 / S0; None where only DoLP is known.
    valid: (H, W).
    """

    dolp: NDArray[np.float32]
    direction: NDArray[np.float32] | None
    valid: NDArray[np.bool_]


def polarization_of(frame: Frame) -> Polarization | None:
    """Return what a frame measured, averaged over its colors; None of a camera that measures none."""
    if frame.stokes is None:
        return None
    s0, s1, s2 = frame.stokes.mean(0).numpy()
    direction = np.stack([s1, s2]) / np.maximum(s0, 1e-4)
    valid = frame.valid[0].numpy() > 0
    return Polarization(np.minimum(np.hypot(*direction), 1).astype(np.float32), direction.astype(np.float32), valid)


def check_polarization(polarization: Polarization, frame: Frame) -> list[Finding]:
    """Look at one view's polarization: findings "valid", "degree" and "noise"."""
    valid, share = polarization.valid, float(polarization.valid.mean())
    if share < 0.01:
        do = "see exposure; in .npy, NaN marks what is not valid"
        return [Finding("valid", "wrong", f"{percent(share)} of the pixels have valid polarization", do)]
    found = []
    text = f"{percent(share)} of the pixels have valid polarization"
    do = "see exposure: what is dark or saturated is not valid"
    found.append(
        Finding("valid", "right" if share > _VALID_SHARE else "unsure", text, "" if share > _VALID_SHARE else do)
    )
    degree = polarization.dolp[valid]
    median, most = np.percentile(degree, [50, 95])
    text = f"DoLP {median:.3f} in the middle, {most:.3f} at the 95th percentile"
    gray = frame.image.mean(0).numpy()[valid]
    if (
        degree.std() > 1e-3
        and gray.std() > 1e-3
        and abs(like := float(np.corrcoef(degree, gray)[0, 1])) > _IS_THE_IMAGE
    ):
        text = f"this is no polarization but the image itself: it correlates by {like:.2f} with it"
        found.append(Finding("degree", "wrong", text, "give the DoLP map, not an intensity or S0"))
        return found
    if median > _STRONG:
        do = "check black_level and layout; a DoLP map in 8 bits is DoLP times 255, not an angle"
        found.append(Finding("degree", "unsure", f"{text}, which few scenes have: is all of it glass or a screen?", do))
    elif most < _WEAK:
        do = "photograph something shiny at a slant; check that it is not in percent of 255"
        means = "polarization brings nothing here; the result is that of plain stereo"
        found.append(Finding("degree", "unsure", f"{text}: hardly any", do, means))
    else:
        found.append(Finding("degree", "right", text))
    noise = _noise(polarization)
    if noise is None:
        return found
    text = f"neighbors differ by {percent(noise)} of what any two places do"
    if noise > _NOISE:
        do = "more light or a longer exposure, 12 bits instead of 8; average 2x2 pixels"
        found.append(Finding("noise", "wrong" if most >= _WEAK else "unsure", f"{text}: this is noise", do))
    else:
        found.append(Finding("noise", "right", f"{text}: it has structure"))
    return found


def _noise(polarization: Polarization) -> float | None:
    """Difference of neighboring blocks of 4x4 px, of that of any two; None where too little is valid, or all alike."""
    maps = polarization.dolp[None] if polarization.direction is None else polarization.direction
    height, width = (side // _BLOCK * _BLOCK for side in polarization.valid.shape)
    means, valid = (
        values[..., :height, :width].reshape(-1, height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK).mean((2, 4))
        for values in (maps, polarization.valid)
    )
    trusted = valid[0] > _BLOCK_VALID
    both = trusted[:, 1:] & trusted[:, :-1]
    if both.sum() < _FEWEST:
        return None
    near = np.abs(np.diff(means, axis=2))[:, both].mean()
    known = means[:, trusted]
    far = np.abs(known - known[:, np.random.default_rng(0).permutation(known.shape[1])]).mean()
    return float(near / far) if far > 1e-4 else None


def check_agreement(
    left: Polarization, right: Polarization, matches: Matches, right_offset_deg: float = 0.0
) -> list[Finding]:
    """Compare what both views measured of the same things: a finding "agreement".

    With p = S1/S0 + i S2/S0 of a thing in both views: a camera turned by an angle has p turned by twice of it, and one
    in which S2 has the other sign, as in a mirrored image or with 45 and 135 degrees exchanged, has it conjugated.

    Args:
        left, right: what the views measured.
        matches: of the views.
        right_offset_deg: `angle_offset_deg` of the right camera, which is in what it measured.
    """
    where = matches.agrees
    trusted = [one.valid[None].astype(np.float32) for one in (left, right)]
    both = matches.samples(trusted[0], reach=1)[:, 0] * matches.samples(trusted[1], right=True, reach=1)[:, 0]
    where &= both > 0.99
    if where.sum() < _FEWEST:
        return [Finding("agreement", "unsure", f"only {where.sum()} matched features have valid polarization in both")]
    if left.direction is None or right.direction is None:
        return [_same_degree(left, right, matches, where)]
    one, other = (
        values[where, 0] + 1j * values[where, 1]
        for values in (matches.samples(left.direction), matches.samples(right.direction, right=True))
    )
    size = float(np.sqrt(np.mean(np.abs(one) ** 2) * np.mean(np.abs(other) ** 2)))
    direct, mirrored = complex(np.mean(other * one.conj())) / size, complex(np.mean(other * one)) / size
    turn, mirror = (math.degrees(math.atan2(value.imag, value.real)) / 2 for value in (direct, mirrored))
    measured = f"of {where.sum()} features, correlation {abs(direct):.2f}"
    if max(abs(direct), abs(mirrored)) < _TO_TELL:
        do = "see noise; with little polarization in the scene there is nothing to compare"
        text = f"the views' polarization has little in common ({measured})"
        return [Finding("agreement", "unsure", text, do)]
    if abs(mirrored) > abs(direct) + _CLEARER:
        pairs = "45 and 135" if abs(mirror) < 45 else "0 and 90"
        sign = "S2" if abs(mirror) < 45 else "S1"
        text = f"{sign} has the other sign in one view: mirrored, it correlates by {abs(mirrored):.2f} ({measured})"
        do = f"exchange {pairs} in that camera's layout, or switch its mirror off"
        return [Finding("agreement", "wrong", text, do)]
    if abs(turn) > _SAME_ANGLE_DEG:
        text = f"the right view's polarization is turned by {turn:+.0f} degrees against the left one's ({measured})"
        do = f"set angle_offset_deg: {round(right_offset_deg - turn) % 180} in right_camera, or correct its layout"
        return [Finding("agreement", "wrong", text, do)]
    tells = abs(direct) > abs(mirrored) + _CLEARER
    sign = "S2 has one sign in both" if tells else "whether S2 has one sign in both, this scene does not tell"
    text = f"the views agree within {abs(turn):.0f} degrees ({measured}); {sign}"
    return [Finding("agreement", "right", f"{text}. What is wrong alike in both cameras does not show")]


def _same_degree(left: Polarization, right: Polarization, matches: Matches, where: NDArray[np.bool_]) -> Finding:
    """Compare DoLP alone, and whether both maps were exchanged."""
    seen = {
        (view, right_place): matches.samples(polarization.dolp[None], right_place)[where, 0]
        for view, polarization in enumerate((left, right))
        for right_place in (False, True)
    }
    if min(float(values.std()) for values in seen.values()) < 1e-3:
        return Finding("agreement", "unsure", "too little polarization at the matched features to compare the views")
    own = float(np.corrcoef(seen[0, False], seen[1, True])[0, 1])
    exchanged = float(np.corrcoef(seen[0, True], seen[1, False])[0, 1])
    measured = f"DoLP of {where.sum()} features correlates by {own:+.2f}"
    if exchanged > own + _CLEARER and exchanged > _TO_TELL:
        text = f"the polarization maps are exchanged: {measured}, exchanged by {exchanged:+.2f}"
        return Finding("agreement", "wrong", text, "exchange --polarization-left and --polarization-right")
    if own < _TO_TELL:
        do = "check that both maps are of this pair, and rectified as the images are"
        return Finding("agreement", "unsure", f"the views' polarization has little in common: {measured}", do)
    return Finding("agreement", "right", f"{measured} between the views. The sign of S2 does not show in DoLP")


def check_contrast(left: Frame, right: Frame, matches: Matches) -> list[Finding]:
    """Look at a crossed pair's contrast (left - right) / (left + right) at what both views show: "contrast"."""
    where = matches.agrees
    light = [
        matches.samples(frame.image.mean(0, keepdim=True).numpy(), view == 1)[where, 0]
        for view, frame in enumerate((left, right))
    ]
    lit = (light[0] > 0.01) & (light[1] > 0.01) & (light[0] < 0.98)
    if lit.sum() < _FEWEST:
        return [Finding("contrast", "unsure", f"only {lit.sum()} matched features are neither dark nor saturated")]
    contrast = (light[0] - light[1])[lit] / (light[0] + light[1])[lit]
    low, middle, high = np.percentile(contrast, [2, 50, 98])
    text = f"contrast {middle:+.2f} in the middle, {low:+.2f} to {high:+.2f}"
    if abs(middle) > _SAME_EXPOSURE:
        brighter = "left" if middle > 0 else "right"
        do = "give both cameras one exposure; polarize the lamp along the rows; shade the room's light"
        return [
            Finding(
                "contrast",
                "unsure",
                f"{text}: most of the {brighter} view is brighter, where matte things are alike",
                do,
            )
        ]
    down, up = middle - low, high - middle
    if down > _HIGHLIGHT and down > _ONE_SIDED * up:
        do = "exchange the polarizers (0 degrees left), not the views"
        return [
            Finding(
                "contrast", "wrong", f"{text}: highlights are brighter on the right, the polarizers are exchanged", do
            )
        ]
    if up > _HIGHLIGHT and up > _ONE_SIDED * down:
        return [Finding("contrast", "right", f"{text}: highlights are brighter on the left, as behind 0 degrees")]
    do = "photograph a coin in the lamp's light: its highlight is bright on the left, nearly gone on the right"
    return [Finding("contrast", "unsure", f"{text}: no highlight tells which polarizer is where", do)]
