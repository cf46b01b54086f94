"""Charts as SVG that stands in a page: intervals beside a line at 0, histograms of errors, a scatter of two rows.

Colors are classes of scenes.css, so that both themes have theirs. Texts are escaped: `Markup.format` does it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from crosspol.evaluation.statistics import Estimate, Series, Values

__all__ = ["Point", "error_edges", "error_shares", "histogram", "intervals", "scatter"]

# Errors are shown on a logarithmic scale between these, px; what is beyond lies at the ends.
_LEAST, _MOST = 0.125, 128.0
_BINS_AN_OCTAVE = 2
# Characters of a name in a chart.
_LONGEST = 56


class Point(NamedTuple):
    """One scene of a scatter: its errors in two rows, px. name: None: it is one of very many, and not pointed at."""

    without: float
    with_it: float
    scene: int
    name: str | None


def intervals(names: Sequence[str], panels: Mapping[str, Sequence[Estimate]], title: str) -> Markup:
    """Draw a value and its interval in each line, beside a line at 0; panels stand side by side, each with its scale.

    Args:
        names: of the lines.
        panels: by title, an estimate for each line; nothing is drawn of one without a finite interval.
        title: what the chart shows.
    """
    named, gap, line, top = 380, 20, 22, 26
    # All of them as wide as a page, and none wider than is needed.
    wide = min(400, (1220 - named) // max(len(panels), 1) - gap)
    height = top + line * len(names) + 26
    parts = [
        Markup('<text class="name" x="0" y="{}">{}<title>{}</title></text>').format(
            top + line * place + line / 2 + 4, name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…", name
        )
        for place, name in enumerate(names)
    ]
    for number, (heading, estimates) in enumerate(panels.items()):
        start = Markup('<g transform="translate({} {})">').format(named + number * (wide + gap), top)
        parts += [start, *_panel(names, heading, estimates, wide, line), Markup("</g>")]
    return _svg("intervals", title, named + len(panels) * (wide + gap), height, parts)


def _panel(names: Sequence[str], heading: str, estimates: Sequence[Estimate], wide: int, line: int) -> list[Markup]:
    bounds = [bound for one in estimates if _drawn(one) for bound in (one.low, one.high)]
    low, high = min([0.0, *bounds]), max([0.0, *bounds])
    margin = 0.04 * (high - low) or 1.0
    low, high = low - margin, high + margin
    bottom = line * len(names)

    def x(value: float) -> str:
        return f"{wide * (value - low) / (high - low):.1f}"

    parts = [Markup('<text class="heading" x="{}" y="-10">{}</text>').format(wide / 2, heading)]
    for tick in _ticks(low, high):
        kind = "zero" if tick == 0 else "grid"
        parts.append(Markup('<line class="{}" x1="{}" x2="{}" y1="0" y2="{}"/>').format(kind, x(tick), x(tick), bottom))
        parts.append(Markup('<text class="tick" x="{}" y="{}">{:g}</text>').format(x(tick), bottom + 16, tick))
    for place, (one, name) in enumerate(zip(estimates, names, strict=True)):
        if _drawn(one):
            kind = "untold" if not one.excludes_zero else "better" if one.high < 0 else "worse"
            y = line * place + line / 2
            words = f"{name}: {one.value:+.2f} [{one.low:+.2f}, {one.high:+.2f}], {one.scenes} scenes"
            parts.append(
                Markup(
                    '<g class="{}"><title>{}</title><line x1="{}" x2="{}" y1="{}" y2="{}"/>'
                    '<circle cx="{}" cy="{}" r="4"/></g>'
                ).format(kind, words, x(one.low), x(one.high), y, y, x(one.value), y)
            )
    return parts


def error_edges() -> Values:
    """Return the borders of the bins of histograms, px: two an octave."""
    octaves = math.log2(_MOST / _LEAST)
    edges: Values = _LEAST * 2 ** (np.arange(round(octaves * _BINS_AN_OCTAVE) + 1) / _BINS_AN_OCTAVE)
    return edges


def error_shares(errors: Series) -> Values:
    """Return the share of scenes in each bin, of those that have a value; what is beyond the ends is in the last ones.

    Args:
        errors: one per scene, px; NaN = none.
    """
    known = np.asarray(errors, np.float64)
    known = known[~np.isnan(known)]
    edges = error_edges()
    counts = np.histogram(known.clip(edges[0], edges[-1]), edges)[0]
    shares: Values = counts / max(len(known), 1)
    return shares


def histogram(errors: Series, tallest: float, title: str, kind: str) -> Markup:
    """Draw how a row's errors spread over the scenes, with their median.

    Args:
        errors: one per scene, px; NaN = none.
        tallest: share of scenes that has the full height: the same in histograms that are compared.
        title: what the chart shows.
        kind: class of the bars.
    """
    wide, tall, base = 300, 56, 44
    shares, edges = error_shares(errors), error_edges()
    known = np.asarray(errors, np.float64)
    known = known[~np.isnan(known)]
    parts = []
    step = wide / len(shares)
    for place, share in enumerate(shares):
        if share > 0:
            height = max(1.0, (base - 4) * share / tallest)
            words = f"{edges[place]:.2g} to {edges[place + 1]:.2g} px: {round(share * len(known))} of {len(known)}"
            parts.append(
                Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>').format(
                    place * step + 0.5, base - height, step - 1, height, words
                )
            )
    parts.append(Markup('<line class="zero" x1="0" x2="{}" y1="{}" y2="{}"/>').format(wide, base, base))
    for tick in (0.25, 1, 4, 16, 64):
        parts.append(Markup('<text class="tick" x="{:.1f}" y="55">{:g}</text>').format(_place(tick) * wide, tick))
    if known.size:
        median = float(np.median(known))
        x = f"{_place(median) * wide:.1f}"
        parts.append(
            Markup('<line class="median" x1="{}" x2="{}" y1="0" y2="{}"><title>median {:.2f} px</title></line>').format(
                x, x, base, median
            )
        )
    return _svg(f"histogram {kind}", title, wide, tall, parts)


def scatter(points: Sequence[Point], labels: tuple[str, str], title: str) -> Markup:
    """Draw every scene by its two errors, on logarithmic axes, with the line on which they are equal.

    Args:
        points: of scenes that have both errors.
        labels: of the errors without (across) and with polarization (upwards).
        title: what the chart shows.
    """
    size, left, low = 420, 46, 40
    span = size - left - 10

    def x(value: float) -> float:
        return left + span * _place(value)

    def y(value: float) -> float:
        return size - low - span * _place(value)

    parts = []
    for tick in (0.25, 1, 4, 16, 64):
        parts += [
            Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/>').format(
                x(tick), y(_LEAST), y(_MOST)
            ),
            Markup('<line class="grid" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
                x(_LEAST), x(_MOST), y(tick), y(tick)
            ),
            Markup('<text class="tick" x="{:.1f}" y="{:.1f}">{:g}</text>').format(x(tick), size - low + 14, tick),
            Markup('<text class="tick side" x="{}" y="{:.1f}">{:g}</text>').format(left - 6, y(tick) + 4, tick),
        ]
    parts.append(
        Markup('<line class="zero" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
            x(_LEAST), x(_MOST), y(_LEAST), y(_MOST)
        )
    )
    unnamed: dict[str, list[str]] = {}
    for point in points:
        kind = "better" if point.with_it < point.without else "worse" if point.with_it > point.without else "untold"
        across, up = f"{x(point.without):.1f}", f"{y(point.with_it):.1f}"
        if point.name is None:
            unnamed.setdefault(kind, []).append(f"M{across} {up}h0")
            continue
        words = f"{point.name}: {_px(point.without)} without, {_px(point.with_it)} with polarization"
        parts.append(
            Markup('<circle class="{}" data-scene="{}" cx="{}" cy="{}" r="4"><title>{}</title></circle>').format(
                kind, point.scene, across, up, words
            )
        )
    parts += [Markup('<path class="dots {}" d="{}"/>').format(kind, "".join(dots)) for kind, dots in unnamed.items()]
    parts += [
        Markup('<text class="tick" x="{:.1f}" y="{}">{}</text>').format(left + span / 2, size - 6, labels[0]),
        Markup('<text class="tick" transform="translate(13 {:.1f}) rotate(-90)">{}</text>').format(
            size - low - span / 2, labels[1]
        ),
    ]
    return _svg("scatter", title, size, size, parts)


def _svg(kind: str, title: str, width: int, height: int, parts: Sequence[Markup]) -> Markup:
    start = Markup('<svg class="chart {}" role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}">')
    return start.format(kind, title, width, height, width, height) + Markup("").join(parts) + Markup("</svg>")


def _drawn(estimate: Estimate) -> bool:
    return bool(estimate.scenes) and math.isfinite(estimate.low + estimate.high)


def _place(error: float) -> float:
    """Return where an error lies on the logarithmic scale, in [0, 1]."""
    return math.log2(min(max(error, _LEAST), _MOST) / _LEAST) / math.log2(_MOST / _LEAST)


def _px(error: float) -> str:
    return f"{error:.2f} px" if math.isfinite(error) else "infinite"


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers within a range, 0 among them where it is."""
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(number * step, 12) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
