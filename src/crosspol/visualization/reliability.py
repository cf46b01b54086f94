"""What a confidence is worth, drawn: sparsification curves, and reliability diagrams."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_DPI = 100


@dataclass(frozen=True)
class Sparsified:
    """Error of what is kept when the least sure pixels are removed, and that of the oracle, by growing shares.

    removed: these shares, in [0, 1).
    """

    kept: Sequence[float]
    oracle: Sequence[float]
    removed: Sequence[float]


@dataclass(frozen=True)
class Reliability:
    """By bins of confidence of equal width over [0, 1]: mean confidence and share of hits, None in empty ones.

    pixels: how many in each bin. note: beside the diagram, such as the calibration error.
    """

    confidence: Sequence[float | None]
    hits: Sequence[float | None]
    pixels: Sequence[float]
    note: str


def draw_worth(
    curves: Mapping[str, Mapping[str, Mapping[str, Sparsified]]],
    diagrams: Mapping[str, Mapping[str, Reliability]],
) -> bytes:
    """Draw a row of panels for each error, and one of reliability diagrams; columns are regions.

    Args:
        curves: by title of the error, region and method.
        diagrams: by region and method.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure

    regions = list(diagrams)
    rows = len(curves) + 1
    figure = Figure(figsize=(4.6 * max(len(regions), 1), 3.6 * rows), dpi=_DPI, layout="constrained")
    axes = figure.subplots(rows, len(regions), squeeze=False)
    for line, (title, by_region) in zip(axes, curves.items(), strict=False):
        for axis, region in zip(line, regions, strict=True):
            for number, (name, curve) in enumerate(by_region.get(region, {}).items()):
                color = f"C{number % 10}"
                percent = [100 * share for share in curve.removed]
                axis.plot(percent, curve.kept, "-", color=color, label=name)
                axis.plot(percent, curve.oracle, "--", color=color, linewidth=1, label=f"{name}: oracle")
                axis.axhline(curve.kept[0], color=color, linewidth=1, linestyle=":", label=f"{name}: random order")
            axis.set(xlabel="least sure pixels removed, %", ylabel=f"{title} of the rest", title=region)
            axis.set_ylim(bottom=0)
            axis.grid(alpha=0.3)
    for axis, region in zip(axes[-1], regions, strict=True):
        axis.plot([0, 1], [0, 1], color="0.5", linewidth=1)
        for number, (name, diagram) in enumerate(diagrams[region].items()):
            color = f"C{number % 10}"
            points = [
                (sure, hit)
                for sure, hit in zip(diagram.confidence, diagram.hits, strict=True)
                if sure is not None and hit is not None
            ]
            axis.plot(*zip(*points, strict=True), "-o", color=color, markersize=4, label=f"{name}: {diagram.note}")
            count, total = len(diagram.pixels), sum(diagram.pixels)
            centers = [(place + 0.5) / count for place in range(count)]
            shares = [pixels / total for pixels in diagram.pixels]
            axis.bar(centers, shares, width=0.9 / count, color=color, alpha=0.2)
        axis.set(xlabel="confidence", ylabel="share of hits (bars: of pixels)", title=region, xlim=(0, 1), ylim=(0, 1))
        axis.grid(alpha=0.3)
        if diagrams[region]:
            axis.legend(fontsize=8, loc="upper left")
    if curves:
        axes[0, 0].legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
