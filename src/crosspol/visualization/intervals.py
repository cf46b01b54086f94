"""Values with their intervals, row by row, beside a line at 0."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_DPI = 110
_UNTOLD, _BELOW, _ABOVE = "0.5", "C2", "C3"
"""Colors (gray, green, red) of intervals that do not tell on which side of 0 the value lies, and of those that do."""


class Interval(NamedTuple):
    """A value and its interval; tells: whether it may be said on which side of 0 the value lies."""

    value: float
    low: float
    high: float
    tells: bool


def draw_intervals(panels: Mapping[str, Sequence[Interval | None]], names: Sequence[str], note: str) -> bytes:
    """Draw panels side by side that share their rows, the first row at the top.

    Args:
        panels: by title, an interval for each row; None, or one without finite ends: nothing is drawn there.
        names: of the rows.
        note: what the bars are, under all panels.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 1.6 + 0.42 * len(names)), dpi=_DPI, layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (title, intervals) in zip(axes, panels.items(), strict=True):
        for place, interval in enumerate(intervals):
            if interval is not None and math.isfinite(interval.low + interval.high):
                color = _UNTOLD if not interval.tells else _BELOW if interval.high < 0 else _ABOVE
                axis.plot([interval.low, interval.high], [place, place], color=color, linewidth=2)
                axis.plot(interval.value, place, "o", color=color, markersize=5)
        axis.axvline(0, color="0.4", linewidth=1)
        axis.set_title(title)
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    figure.supxlabel(note, fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
