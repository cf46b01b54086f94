"""What can be looked at of a pair, and in which colors. To add a layer, add a record."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crosspol.inference.outputs import left_image
from crosspol.inference.result import StereoResult
from crosspol.visualization.maps import DEPTH_COLORS, DISPARITY_COLORS, USE_COLORS, Scale, color, robust_range
from crosspol.visualization.polarization import aolp_map

__all__ = ["LAYERS", "Drawn", "Layer", "Palette"]

Values = NDArray[np.floating]
_LEAST_DOLP_PERCENT = 10.0
"""Where the scale of DoLP ends at least, so that noise does not look like polarization."""
_STEPS = 16
"""Colors of a legend."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A layer of one pair as an image, and what its colors mean.

    image: (H, W, 3), RGB.
    legend: RGB colors (N, 3) from the low end of the scale to the high one; None of a photograph.
    ends: words for both ends.
    """

    image: NDArray[np.uint8]
    legend: NDArray[np.uint8] | None = None
    ends: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Layer:
    """Something to look at.

    name: in the list.
    explained: what is seen, a sentence.
    absent: why it may be missing.
    applies: whether a result has it.
    draw: draws it of a result that has it, in colors that may depend on the pairs before.
    """

    name: str
    explained: str
    absent: str
    applies: Callable[[StereoResult], bool]
    draw: Callable[[StereoResult, Palette], Drawn]


@dataclass
class Palette:
    """Ranges of colors that hold from pair to pair: widened where a pair needs more, never narrowed.

    Colors that follow each pair's own range flicker, and what stays where it is seems to move.
    """

    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    def widened(self, name: str, low: float, high: float) -> tuple[float, float]:
        """Return the range of a layer, which now holds this one as well."""
        before = self.ranges.get(name, (low, high))
        self.ranges[name] = (min(before[0], low), max(before[1], high))
        return self.ranges[name]

    def forget(self) -> None:
        """Begin anew with the next pair."""
        self.ranges.clear()


def _colored(values: Values, scale: Scale) -> Drawn:
    steps = np.linspace(scale.low, scale.high, _STEPS, dtype=np.float32)[None]
    digits = 0 if scale.high - scale.low >= 20 else 1 if scale.high - scale.low >= 2 else 2
    low, high = (f"{end:.{digits}f} {scale.unit}".rstrip() for end in (scale.low, scale.high))
    return Drawn(color(values, scale), color(steps, scale)[0], (low, high))


def _left(result: StereoResult, palette: Palette) -> Drawn:
    return Drawn(left_image(result))


def _disparity(result: StereoResult, palette: Palette) -> Drawn:
    low, high = palette.widened("disparity", *robust_range(result.disparity))
    return _colored(result.disparity, Scale(low, high, DISPARITY_COLORS, "px"))


def _depth(result: StereoResult, palette: Palette) -> Drawn:
    depth = result.depth_m
    assert depth is not None
    known = depth[np.isfinite(depth)]
    # The farthest twentieth, which may be very far, has the last color.
    near, far = (float(end) for end in np.percentile(known, (0.5, 95))) if known.size else (0.0, 1.0)
    near, far = palette.widened("depth", near, max(far, 1.01 * near))
    return _colored(depth, Scale(near, far, DEPTH_COLORS, "m"))


def _dolp(result: StereoResult, palette: Palette) -> Drawn:
    assert result.polarization is not None
    percent = 100 * result.polarization.dolp
    _, high = palette.widened("dolp", 0.0, max(robust_range(percent)[1], _LEAST_DOLP_PERCENT))
    return _colored(percent, Scale(0.0, high, USE_COLORS, "%"))


def _aolp(result: StereoResult, palette: Palette) -> Drawn:
    maps = result.polarization
    assert maps is not None
    assert maps.aolp is not None
    angles = np.linspace(0, math.pi, _STEPS, dtype=np.float32)[None]
    legend = aolp_map(angles, np.ones_like(angles))[0]
    return Drawn(aolp_map(maps.aolp, maps.dolp), legend, ("0 degrees, along the rows", "180"))


def _glass(result: StereoResult, palette: Palette) -> Drawn:
    assert result.glass is not None
    return _colored(result.glass, Scale(0.0, 1.0, USE_COLORS, ""))


def _confidence(result: StereoResult, palette: Palette) -> Drawn:
    assert result.confidence is not None
    return _colored(result.confidence, Scale(0.0, 1.0, USE_COLORS, ""))


def _use(result: StereoResult, palette: Palette) -> Drawn:
    assert result.polarization_use is not None
    percent = 100 * result.polarization_use
    _, high = palette.widened("use", 0.0, max(robust_range(percent)[1], 1e-3))
    return _colored(percent, Scale(0.0, high, USE_COLORS, "%"))


LAYERS: tuple[Layer, ...] = (
    Layer("left image", "The left view as the network saw it.", "", lambda result: result.inputs is not None, _left),
    Layer(
        "disparity",
        "How far things lie to the left in the right view: near things most.",
        "",
        lambda result: True,
        _disparity,
    ),
    Layer(
        "depth",
        "Distance along the optical axis; gray: unknown.",
        "no depth without a calibration (--calibration, or one in the rig)",
        lambda result: result.calibration is not None,
        _depth,
    ),
    Layer(
        "DoLP",
        "Degree of linear polarization of the left view; gray: not valid.",
        "no polarization was measured on the left",
        lambda result: result.polarization is not None,
        _dolp,
    ),
    Layer(
        "AoLP",
        "Angle of linear polarization, counter-clockwise from image-right; dark: hardly polarized.",
        "no angle of polarization was measured on the left",
        lambda result: result.polarization is not None and result.polarization.aolp is not None,
        _aolp,
    ),
    Layer(
        "glass",
        "Estimated probability that the first surface is glass.",
        "these weights have no glass head",
        lambda result: result.glass is not None,
        _glass,
    ),
    Layer(
        "confidence",
        "Estimated chance that the disparity is within 1 px of the truth.",
        "no confidence was asked for, or these weights have no coefficients (--confidence)",
        lambda result: result.confidence is not None,
        _confidence,
    ),
    Layer(
        "use of polarization",
        "How much polarization changed the stereo features, of their size.",
        "no polarization was given",
        lambda result: result.polarization_use is not None,
        _use,
    ),
)
