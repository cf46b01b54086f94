"""The picture of `crosspol doctor`: both views with their matches, and how disparity, rows, light and DoLP spread."""

from __future__ import annotations

import io
import math
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crosspol.checks.matching import ON_ITS_ROW
from crosspol.checks.polarization import Polarization
from crosspol.checks.report import Report
from crosspol.io.atomic import write_bytes
from crosspol.light import encode_srgb
from crosspol.visualization.maps import USE_COLORS, Scale, draw_map, robust_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["write_pair_sheet"]

_WIDE, _DPI, _TEXT = 15.0, 100, 10
_VIEW_PX = 900
_ROW_LINES = 12
_LEAST_RESIDUAL_PX = 2.0
_MOST_POINTS = 1500
_RESIDUAL_COLORS = "turbo"
_SIDES = {"left": "#1f6fd6", "right": "#d6541f"}
_MARKS = {"wrong": "WRONG", "unsure": "?"}
_LINE, _MOST_LINES = 170, 10
"""Characters of a line of words under the picture, and findings there at most."""


def write_pair_sheet(path: str | os.PathLike[str], report: Report) -> Path:
    """Write a PNG: both views under lines along their rows, histograms, DoLP where there is some, and what was found.

    Args:
        path: the file; its folder must exist.
        report: of two views; of those that cannot be compared only the views and their light are drawn.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    known = report.evidence
    maps = () if known is None else known.polarization
    polarized = [one for one in maps if one is not None]
    height, width = next(iter(report.frames.values())).size
    lines = _words(report)
    high = [
        min(_WIDE * height / (2 * width), 7.0) + 0.9,
        3.0,
        *([min(0.42 * _WIDE * height / width, 4.5) + 0.6] * bool(polarized)),
        0.23 * len(lines) + 0.2,
    ]
    figure = Figure(figsize=(_WIDE, sum(high) + 0.4), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(high), 1, height_ratios=high)
    _draw_views(figure.add_subplot(grid[0]), report)
    columns = grid[1].subgridspec(1, 3, wspace=0.06)
    _draw_disparity(figure.add_subplot(columns[0]), report)
    _draw_residual(figure.add_subplot(columns[1]), report)
    _draw_light(figure.add_subplot(columns[2]), report)
    if polarized:
        cells = grid[2].subgridspec(1, 3, wspace=0.12)
        _draw_polarization([figure.add_subplot(cells[place]) for place in range(3)], maps)
    axis = figure.add_subplot(grid[len(high) - 1])
    axis.set_axis_off()
    axis.text(0, 1, "\n".join(lines), transform=axis.transAxes, va="top", fontsize=_TEXT, linespacing=1.35)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, bbox_inches="tight", pad_inches=0.12)
    return write_bytes(path, buffer.getvalue())


def _words(report: Report) -> list[str]:
    """What is wrong or open, a line each; the rest is in the command's output."""
    found = [
        (heading, finding)
        for verdict in ("wrong", "unsure")
        for heading, findings in report.findings.items()
        for finding in findings
        if finding.verdict == verdict
    ]
    lines = [textwrap.shorten(report.conclusion, _LINE, placeholder=" ...")]
    for heading, finding in found[:_MOST_LINES]:
        words = textwrap.wrap(f"{heading} {finding.topic}: {finding.found}", _LINE)
        lines += [f"  {_MARKS[finding.verdict]:<6} {words[0]}", *(f"             {line}" for line in words[1:])]
    if len(found) > _MOST_LINES:
        lines.append(f"  and {len(found) - _MOST_LINES} more")
    return lines


def _draw_views(axis: Axes, report: Report) -> None:
    """Both views side by side; matches as dots, colored by how far off their row they are in the right view."""
    left, right = report.frames["left"], report.frames["right"]
    start = left.size[1] * 1.02
    for (name, frame), offset in zip(report.frames.items(), (0.0, start), strict=True):
        rows, columns = frame.size
        step = max(1, math.ceil(max(frame.size) / _VIEW_PX))
        light = frame.image[:, ::step, ::step].numpy()
        bright = max(float(np.quantile(light.mean(0), 0.99)), 1e-6)
        shown = np.moveaxis(np.broadcast_to(encode_srgb((light / bright).clip(0, 1)), (3, *light.shape[1:])), 0, -1)
        axis.imshow(shown, extent=(offset - 0.5, offset + columns - 0.5, rows - 0.5, -0.5), interpolation="nearest")
        label = f"{name}: {Path(report.names[name]).name}, {columns}x{rows} px"
        axis.text(offset + columns / 2, rows + 0.5, label, fontsize=_TEXT, ha="center", va="top", color=_SIDES[name])
    high, end = max(left.size[0], right.size[0]), start + right.size[1]
    for row in np.linspace(0, high, _ROW_LINES + 2)[1:-1]:
        axis.plot((-0.5, end - 0.5), (row, row), color="white", linewidth=0.5, alpha=0.6)
    title = "the views cannot be compared"
    if report.evidence is not None:
        title = _draw_matches(axis, report, start)
    axis.set_title(title, fontsize=_TEXT + 1)
    axis.set_xlim(-0.5, end - 0.5)
    axis.set_ylim(high - 0.5, -0.5)
    axis.set_axis_off()


def _draw_matches(axis: Axes, report: Report, start: float) -> str:
    assert report.evidence is not None  # there are matches
    matches = report.evidence.matches
    count = len(matches.down)
    if not count:
        return "no feature of one view is found in the other"
    chosen = np.random.default_rng(0).permutation(count)[:_MOST_POINTS]
    x, y = matches.points[chosen].T
    down = matches.down[chosen]
    limit = max(_LEAST_RESIDUAL_PX, float(np.percentile(np.abs(matches.down), 80)))
    style: dict[str, Any] = {
        "c": down, "cmap": _RESIDUAL_COLORS, "vmin": -limit, "vmax": limit, "s": 14, "edgecolors": "black",
        "linewidths": 0.4,
    }  # fmt: skip
    drawn = axis.scatter(x, y, **style)
    axis.scatter(x - matches.disparity[chosen] + start, y + down, **style)
    bar = axis.figure.colorbar(drawn, ax=axis, fraction=0.02, pad=0.01)
    bar.set_label("px off its row on the right (green: on it)", fontsize=_TEXT - 1)
    bar.ax.tick_params(labelsize=_TEXT - 2)
    if not matches.related:
        return f"only {count} of {matches.features} features found in both views: chance, or too little texture"
    return f"{count} features found in both views: each has to lie on one line, on the right further to the left"


def _draw_disparity(axis: Axes, report: Report) -> None:
    _frame(axis, "disparity of the matches: all have to be right of 0", "px", "matches")
    if report.evidence is None or not len(report.evidence.matches.down):
        return
    matches = report.evidence.matches
    kept = matches.disparity[matches.agrees] if matches.agrees.any() else matches.disparity
    low, high = np.percentile(kept, [1, 99])
    edges = np.linspace(min(low, -1) - 1, max(high, 1) + 1, 60)
    middles = (edges[1:] + edges[:-1]) / 2
    counts = np.histogram(kept, edges)[0]
    colors = np.where(middles < 0, "#c62828", "#2e7d32")
    axis.bar(middles, counts, width=np.diff(edges), color=colors)
    axis.axvline(0, color="black", linewidth=1)


def _draw_residual(axis: Axes, report: Report) -> None:
    _frame(axis, "off the row: all should lie near 0", "px lower in the right view", "matches")
    if report.evidence is None or not len(report.evidence.matches.down):
        return
    matches = report.evidence.matches
    limit = max(3.0, 1.2 * float(np.percentile(np.abs(matches.down), 90)))
    axis.hist(matches.down.clip(-limit, limit), bins=np.linspace(-limit, limit, 61).tolist(), color="#555555")
    axis.axvspan(-ON_ITS_ROW / 2, ON_ITS_ROW / 2, color="#2e7d32", alpha=0.15, label="fine")
    axis.axvline(0, color="black", linewidth=1)
    axis.legend(fontsize=_TEXT - 2, frameon=False)


def _draw_light(axis: Axes, report: Report) -> None:
    _frame(
        axis, "brightness: spread out, alike, not piled up at an end", "black to white, as shown", "share of pixels, %"
    )
    edges = np.linspace(0, 1, 65)
    for name, frame in report.frames.items():
        shown = encode_srgb(frame.image.mean(0).numpy()).ravel()
        counts = np.histogram(shown, edges)[0] / shown.size
        axis.stairs(100 * counts, edges, color=_SIDES[name], label=name, linewidth=1.4)
    axis.legend(fontsize=_TEXT - 2, frameon=False)


def _draw_polarization(axes: list[Axes], maps: tuple[Polarization | None, ...]) -> None:
    """DoLP of both views and their histograms."""
    known = [one for one in maps if one is not None]
    degrees = [np.where(one.valid, one.dolp, np.nan) for one in known]
    scale = Scale(0, min(1.0, max(0.1, *(robust_range(degree)[1] for degree in degrees))), USE_COLORS, "DoLP")
    _frame(axes[2], "DoLP of the valid pixels: alike in both views", "degree of linear polarization", "share, %")
    height, width = known[0].dolp.shape
    axes[2].set_box_aspect(height / width)
    edges = np.linspace(0, scale.high, 51)
    for axis, (name, color), one in zip(axes, _SIDES.items(), maps, strict=False):
        if one is None:
            axis.set_axis_off()
            axis.set_title(f"{name}: no polarization", fontsize=_TEXT)
            continue
        step = max(1, math.ceil(max(one.dolp.shape) / _VIEW_PX))
        degree = np.where(one.valid, one.dolp, np.nan)
        title = f"{name}: DoLP; gray: not valid ({100 * (1 - one.valid.mean()):.0f} %)"
        draw_map(axis, degree[::step, ::step], title, scale=scale, text=_TEXT)
        values = one.dolp[one.valid]
        counts = np.histogram(values, edges)[0] / max(values.size, 1)
        axes[2].stairs(100 * counts, edges, color=color, label=name, linewidth=1.4)
    axes[2].legend(fontsize=_TEXT - 2, frameon=False)


def _frame(axis: Axes, title: str, x: str, y: str) -> None:
    axis.set_title(title, fontsize=_TEXT)
    axis.set_xlabel(x, fontsize=_TEXT - 1)
    axis.set_ylabel(y, fontsize=_TEXT - 1)
    axis.tick_params(labelsize=_TEXT - 2)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
