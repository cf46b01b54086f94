"""The page of one pair: what is shown of it, in which words, and in how many bytes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crosspol import geometry
from crosspol.evaluation.measures import MAIN_REGIONS, MEASURES, REGIONS, key
from crosspol.inference.result import StereoResult
from crosspol.report.attention import SiteAttention
from crosspol.report.page import Packed, pack, picture, write_page
from crosspol.report.pair import PairFindings, PairSubject
from crosspol.rigs.calibration import StereoCalibration
from crosspol.visualization.maps import (
    DISPARITY_COLORS,
    ERROR_COLORS,
    UNKNOWN_GRAY,
    USE_COLORS,
    robust_range,
)
from crosspol.visualization.polarization import aolp_image

__all__ = ["Panel", "pair_values", "write_pair_page"]

Array = NDArray[np.float32]

_PARTS = ("pair.css", "maps.js", "compare.js", "attention.js", "cloud.js")
_MOST_PIXELS = 320_000
"""Of a map in the page: larger ones are shown with every second pixel, or third, ..."""
_MOST_POINTS = 60_000
_DIFFERENCE_COLORS = "RdBu_r"
_ASSUMED_BASELINE_M = 0.1
"""Of a pair whose cameras are not known; the scale is arbitrary then, and the page says so."""
_MEASURES = ("epe", "bad1", "bad2", "bad3")

_SITE_TITLES = {
    "features": "the left view's features, which are matched with the right view's",
    "context": "the left view's context, which guides every refinement",
    "hidden": "the motion input of every refinement",
}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One image of the page.

    id: unique in the page. group: of which section. title, text: what it is, and a sentence that explains it.
    picture: ready to look at, as `picture` makes it; without one the map is colored by the page's script.
    values: of a map, to be read off pixel by pixel. of: instead, ids of two maps whose difference this is.
    absolute: of the difference. low, high, colors, unit, digits: how values become colors and words.
    """

    id: str
    group: str
    title: str
    text: str
    picture: str | None = None
    values: Packed | None = None
    of: tuple[str, str] | None = None
    absolute: bool = False
    low: float = 0.0
    high: float = 1.0
    colors: str = ""
    unit: str = ""
    digits: int = 1


def write_pair_page(path: str | os.PathLike[str], findings: PairFindings, provenance: Mapping[str, str]) -> Path:
    """Write the page of one pair.

    Args:
        path: of the HTML file; its folder exists.
        findings: of `examine`.
        provenance: how it was made, by what is said: network, weights, command, ...

    Raises:
        OSError: it cannot be written.
    """
    return write_page(path, "pair.html", pair_values(findings, provenance), _PARTS)


def pair_values(findings: PairFindings, provenance: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of the template ``pair.html``; arguments as of `write_pair_page`."""
    subject = findings.subject
    height, width = subject.inputs.size
    step = math.ceil(math.sqrt(height * width / _MOST_PIXELS))
    panels = list(_panels(findings, step))
    shown = findings.without.disparity[::step, ::step].shape
    data = {
        "size": list(shown),
        "step": step,
        "panels": [_script_part(panel) for panel in panels],
        "colors": {panel.colors: _color_table(panel.colors) for panel in panels if panel.colors},
        "unknown": UNKNOWN_GRAY,
        "glass": _glass(subject, step),
        "attention": [_attention(site) for site in findings.attention],
        "cloud": _cloud(findings, step),
        "start": _start(findings, step),
    }
    return {
        "name": subject.name,
        "size": f"{width}x{height} px",
        "width": shown[1],
        "height": shown[0],
        "step": step,
        "summary": _summary(findings),
        "warnings": subject.warnings,
        "why_not": findings.why_not,
        "why_no_attention": _why_no_attention(findings),
        "polarized": findings.polarized is not None,
        "truth": subject.truth is not None,
        "metric": subject.calibration is not None,
        "panels": panels,
        "table": _table(findings),
        "measures": [kind.title for kind in MEASURES if kind.name in _MEASURES],
        "sites": [(site.site, _SITE_TITLES[site.site], _sees(site)) for site in findings.attention],
        "provenance": {
            **provenance,
            "size": f"{width}x{height} px",
            "rig": subject.rig,
            "iterations": str(findings.iters),
            **subject.files,
        },
        "data": data,
    }


def _panels(findings: PairFindings, step: int) -> Iterator[Panel]:
    """Yield every image that there is to show, in the order of the page."""
    yield from _input_panels(findings.subject, step)
    yield from _disparity_panels(findings, step)
    yield from _opinion_panels(findings.best_informed, step)


def _input_panels(subject: PairSubject, step: int) -> Iterator[Panel]:
    views = {side: getattr(subject.inputs, side)[0].permute(1, 2, 0).numpy() for side in ("left", "right")}
    group = "inputs"
    text = "As the network saw it. All maps below belong to the pixels of this view."
    yield Panel(id="left", group=group, title="Left view", text=text, picture=_shown(views["left"], step))
    text = "What is at column x in the left view is at x - disparity here, in the same row: there the cross is."
    yield Panel(id="right", group=group, title="Right view", text=text, picture=_shown(views["right"], step))
    maps = subject.polarization
    if maps is None:
        return
    if maps.s0 is not None:
        text = "The whole light of the left view, whatever its polarization: the sum behind two crossed polarizers."
        yield Panel(id="s0", group=group, title="S0", text=text, picture=_shown(maps.s0, step))
    percent = 100 * maps.dolp[::step, ::step]
    text = (
        "Degree of linear polarization: which share of the light swings in one direction. Glass and other shiny "
        "surfaces seen at a slant stand out. Gray: not valid, too dark or saturated."
    )
    high = max(robust_range(percent)[1], 1.0)
    yield Panel(id="dolp", group=group, title="DoLP", text=text, values=pack(percent, low=0, high=100), high=high,
                colors=USE_COLORS, unit="%")  # fmt: skip
    if maps.aolp is None:
        return
    image = aolp_image(maps.aolp, maps.dolp)[:, : maps.dolp.shape[1]]
    text = (
        "Angle of linear polarization: the direction in which the light swings, as in the wheel. What is hardly "
        "polarized has no angle worth a color and is dark."
    )
    degrees = np.degrees(maps.aolp[::step, ::step]) % 180
    yield Panel(id="aolp", group=group, title="AoLP", text=text, picture=_shown(image, step),
                values=pack(degrees, low=0, high=180), unit="°", digits=0)  # fmt: skip


def _disparity_panels(findings: PairFindings, step: int) -> Iterator[Panel]:
    subject, without, polarized = findings.subject, findings.without, findings.polarized
    truth = None if subject.truth is None else subject.truth.disparity
    every = [without.disparity, *([] if polarized is None else [polarized.disparity])]
    low, high = robust_range(*every, *([] if truth is None else [truth]))
    scale: dict[str, Any] = {"low": low, "high": high, "colors": DISPARITY_COLORS, "unit": "px"}
    group = "disparity"
    text = "What the network finds from both views alone. Warm colors are near."
    yield Panel(id="without", group=group, title="Disparity without polarization", text=text,
                values=pack(without.disparity[::step, ::step], 16), **scale)  # fmt: skip
    if polarized is not None:
        text = "What the same network finds when it is given the polarization too."
        yield Panel(id="with", group=group, title="Disparity with polarization", text=text,
                    values=pack(polarized.disparity[::step, ::step], 16), **scale)  # fmt: skip
        change = np.abs(polarized.disparity - without.disparity)
        most = max(float(np.percentile(change, 99.5)), 0.5)
        text = "With minus without: where polarization changed the answer. Red: it is nearer with it; blue: farther."
        yield Panel(id="difference", group=group, title="Change by polarization", text=text, of=("with", "without"),
                    low=-most, high=most, colors=_DIFFERENCE_COLORS, unit="px", digits=2)  # fmt: skip
    if truth is None:
        return
    text = "Ground truth: the first surface, and glass counts as one. Gray: not known."
    yield Panel(id="truth", group=group, title="True disparity", text=text, values=pack(truth[::step, ::step], 16),
                **scale)  # fmt: skip
    errors = [np.abs(disparity - truth) for disparity in every]
    high = min(max(robust_range(*errors)[1], 2.0), 8.0)
    ids = ["without", "with"][: len(every)]
    for name in ids:
        text = f"Distance from the truth, {name} polarization; {high:.1f} px and more have the last color."
        yield Panel(id=f"error-{name}", group="errors", title=f"Error {name} polarization", text=text,
                    of=(name, "truth"), absolute=True, high=high, colors=ERROR_COLORS, unit="px", digits=2)  # fmt: skip


def _opinion_panels(result: StereoResult, step: int) -> Iterator[Panel]:
    """Yield what the network says of its own answer."""
    group = "opinion"
    if result.polarization_use is not None:
        percent = 100 * result.polarization_use[::step, ::step]
        text = (
            "How much polarization added to the stereo features, relative to their size. Where it is dark, the answer "
            "would be nearly the same without."
        )
        high = max(robust_range(percent)[1], 1e-3)
        yield Panel(id="use", group=group, title="Use of polarization", text=text, values=pack(percent, 16, low=0),
                    high=high, colors=USE_COLORS, unit="%", digits=2)  # fmt: skip
    if result.glass is not None:
        text = "Probability, by the network, that the first surface is glass."
        yield Panel(id="glass", group=group, title="Glass", text=text,
                    values=pack(100 * result.glass[::step, ::step], low=0, high=100), high=100, colors=USE_COLORS,
                    unit="%", digits=0)  # fmt: skip
    if result.confidence is not None:
        text = "Estimated chance that the disparity is within 1 px of the truth."
        yield Panel(id="confidence", group=group, title="Confidence", text=text,
                    values=pack(100 * result.confidence[::step, ::step], low=0, high=100), high=100, colors=USE_COLORS,
                    unit="%", digits=0)  # fmt: skip


def _shown(image: NDArray[Any], step: int) -> str:
    """Return an image (H, W, 3) as the page holds it, of the size of its maps."""
    if image.dtype != np.uint8:
        image = np.rint(255 * image.clip(0, 1)).astype(np.uint8)
    if step > 1:
        height, width = (-(-side // step) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return picture(image)


def _script_part(panel: Panel) -> dict[str, Any]:
    """Return what scripts need of a panel: everything but the words and the picture, which stand in the page."""
    part = asdict(panel)
    for name in ("group", "text", "picture"):
        del part[name]
    return part


def _color_table(name: str) -> str:
    """Return 256 colors, six hexadecimal digits each."""
    from matplotlib import colormaps

    return bytes((colormaps[name](np.arange(256))[:, :3] * 255).round().astype(np.uint8)).hex()


def _glass(subject: PairSubject, step: int) -> Packed | None:
    truth = subject.truth
    if truth is None or truth.glass is None or not truth.glass.any():
        return None
    return pack(truth.glass[::step, ::step].astype(np.float32), low=0, high=1)


def _attention(site: SiteAttention) -> dict[str, Any]:
    """Return a site's attention; every weight is a share of its pixel's and head's largest, in 8 bits."""
    peak = site.weights.max(axis=-1)
    shares = site.weights / np.maximum(peak, 1e-12)[..., None]
    return {
        "site": site.site,
        "heads": site.weights.shape[2],
        "cells": list(site.cells),
        "cell_px": site.cell_px,
        "origin": list(site.origin),
        "window": site.window,
        "x": [round(float(x), 2) for x in site.x],
        "y": [round(float(y), 2) for y in site.y],
        "own_x": site.own_x.tolist(),
        "own_y": site.own_y.tolist(),
        "shares": pack(shares, 8, low=0, high=1),
        "peak": pack(peak, 16, low=0, high=1),
        "null": None if site.null is None else pack(site.null, 16, low=0, high=1),
    }


def _cloud(findings: PairFindings, step: int) -> dict[str, Any]:
    """Return which pixels become points, and the cameras that say where."""
    subject, without = findings.subject, findings.without
    known = subject.calibration
    height, width = without.disparity.shape
    if known is None:
        known = StereoCalibration.of_rectified(
            fx=width, fy=width, cx_left=(width - 1) / 2, cx_right=(width - 1) / 2, cy=(height - 1) / 2,
            baseline_m=_ASSUMED_BASELINE_M,
        )  # fmt: skip
    disparities = {"with": None if findings.polarized is None else findings.polarized.disparity,
                   "without": without.disparity,
                   "truth": None if subject.truth is None else subject.truth.disparity}  # fmt: skip
    rows, columns = without.disparity[::step, ::step].shape
    share = rows * columns / _MOST_POINTS
    right = max(1, math.ceil(math.sqrt(share)))
    down = max(1, math.ceil(share / right))
    keep = {
        name: pack(_solid(disparity, known)[::step, ::step][::down, ::right].astype(np.float32), low=0, high=1)
        for name, disparity in disparities.items()
        if disparity is not None
    }
    return {
        "keep": keep,
        "every": [down, right],
        "fx": known.fx,
        "fy": known.fy,
        "cx": known.cx_left,
        "cy": known.cy,
        "shift": known.cx_right - known.cx_left,
        "baseline": known.baseline_m,
        "metric": subject.calibration is not None,
    }


def _solid(disparity: Array, known: StereoCalibration) -> NDArray[np.bool_]:
    """Say which pixels are points worth drawing: neither flying nor so far that a pixel of disparity is all."""
    depth = geometry.depth(disparity, known.fx, known.baseline_m, known.cx_left, known.cx_right)
    with np.errstate(invalid="ignore"):
        return np.asarray((depth <= known.fx * known.baseline_m) & ~geometry.flying(depth, known.fx))


def _start(findings: PairFindings, step: int) -> list[int]:
    """Return row and column of the pixel that the page points at first: where polarization changed most."""
    disparity = findings.without.disparity[::step, ::step]
    if findings.polarized is None:
        return [disparity.shape[0] // 2, disparity.shape[1] // 2]
    change = np.abs(findings.polarized.disparity[::step, ::step] - disparity)
    row, column = np.unravel_index(int(change.argmax()), change.shape)
    return [int(row), int(column)]


def _summary(findings: PairFindings) -> list[str]:
    """Say in sentences what polarization did."""
    lines = []
    if findings.polarized is not None:
        change = np.abs(findings.polarized.disparity - findings.without.disparity)
        lines.append(
            f"Polarization changed the disparity by more than 1 px at {100 * (change > 1).mean():.1f} % of the pixels."
        )
    elif findings.why_not:
        lines.append(findings.why_not)
    for region in ("glass", "all"):
        errors = [scores[key("epe", region)] for scores in findings.scores.values()]
        if not errors or math.isnan(errors[0]):
            continue
        where = "on glass" if region == "glass" else "over all pixels"
        if len(errors) == 1:
            lines.append(f"The error {where} is {errors[0]:.2f} px on average.")
        else:
            lines.append(f"The error {where} is {errors[1]:.2f} px with polarization, {errors[0]:.2f} px without.")
    return lines


def _table(findings: PairFindings) -> list[dict[str, Any]]:
    """Return a row a region: for each measure the numbers without and with polarization, and which is better."""
    rows = []
    for region in REGIONS:
        if region.name not in MAIN_REGIONS or not findings.scores:
            continue
        cells = []
        for kind in MEASURES:
            if kind.name not in _MEASURES:
                continue
            values = [scores[key(kind.name, region.name)] for scores in findings.scores.values()]
            words = ["-" if math.isnan(value) else f"{value:.2f}" for value in values]
            # As they are read: a difference that is rounded away is none.
            better = "" if len(words) < 2 or words[0] == words[1] else "better" if values[1] < values[0] else "worse"
            cells.append({"unit": kind.unit, "words": words, "verdict": better})
        rows.append({"title": region.title, "rule": region.rule, "cells": cells})
    return rows


def _sees(site: SiteAttention) -> str:
    if site.window is None:
        return "It can see every cell."
    return f"Frame: the cells that it can see, {site.window} in each direction from its own."


def _why_no_attention(findings: PairFindings) -> str:
    if findings.attention:
        return ""
    return findings.why_not or "The network fuses polarization without attention, so that there are no weights to show."
