"""Curves of one or several training runs, from their records."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Records = list[dict[str, Any]]


class Curve(NamedTuple):
    """A quantity of a run's records."""

    title: str
    read: Callable[[dict[str, Any]], Any]
    smooth: bool = False
    logarithmic: bool = False


def at(*names: str) -> Callable[[dict[str, Any]], Any]:
    """Make a reader of what lies under a name, within which under the next; of a record without it None."""

    def read(record: Any) -> Any:
        for name in names:
            record = record.get(name) if isinstance(record, dict) else None
        return record

    return read


CURVES = (
    Curve("loss, px", at("loss"), smooth=True, logarithmic=True),
    Curve("EPE in training, px", at("epe"), smooth=True, logarithmic=True),
    Curve("held out: EPE, px", at("valid", "epe")),
    Curve("held out: EPE on glass, px", at("valid", "epe_glass")),
    Curve("held out: EPE on background, px", at("valid", "epe_background")),
    Curve("held out: IoU of glass", at("valid", "glass_iou")),
    Curve("real step size / rate, backbone", at("step_size", "backbone"), smooth=True),
    Curve("real step size / rate, polarization", at("step_size", "polarization"), smooth=True),
    Curve("learning rate of the backbone", at("lr", "backbone")),
    Curve("learning rate of polarization", at("lr", "polarization")),
    Curve("alpha", at("alpha")),
    Curve("cap on alpha", at("alpha_cap")),
    Curve("gradient norm", at("gradient_norm", "all"), smooth=True, logarithmic=True),
    Curve("injected share on glass", at("injected_glass"), smooth=True),
    Curve("injected share elsewhere", at("injected_elsewhere"), smooth=True),
)


def draw_curves(runs: dict[str, Records]) -> bytes:
    """Draw every quantity that any run has; return a PNG. Noisy curves are smoothed over their pale original."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 16), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(5, 3).ravel()
    for axis, curve in zip(axes, CURVES, strict=True):
        for index, (name, records) in enumerate(runs.items()):
            steps, values = series(records, curve)
            if not len(steps):
                continue
            color = f"C{index % 10}"
            style = "-o" if len(steps) < 20 else "-"
            if curve.smooth and len(steps) >= 20:
                axis.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
                values = smoothed(values)
            axis.plot(steps, values, style, color=color, label=name, markersize=3)
        axis.set_title(curve.title)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        if curve.logarithmic and axis.has_data():
            axis.set_yscale("log")
        if not axis.has_data():
            axis.text(0.5, 0.5, "no values", ha="center", va="center", color="gray", transform=axis.transAxes)
            axis.set(xticks=[], yticks=[])
    # Where most runs have values: a run may have logged some quantities and not others.
    named = max(axes, key=lambda axis: len(axis.get_legend_handles_labels()[1]))
    if named.get_legend_handles_labels()[1]:
        named.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return buffer.getvalue()


def curve_plot(curves: Mapping[str, Sequence[tuple[Sequence[int], Sequence[float]]]], title: str) -> bytes | None:
    """Draw a quantity against steps, one line a variant: the mean over its seeds, with a band from least to most.

    Args:
        curves: by variant, one (steps, values) a seed.
        title: of the quantity, with its unit.

    Returns:
        A PNG; None where no run has logged it yet.
    """
    if not any(len(steps) for seeds in curves.values() for steps, _ in seeds):
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), dpi=110, layout="constrained")
    axis = figure.subplots()
    for number, (name, seeds) in enumerate(curves.items()):
        by_step: dict[int, list[float]] = {}
        for steps, values in seeds:
            for step, value in zip(steps, values, strict=True):
                by_step.setdefault(int(step), []).append(float(value))
        if by_step:
            steps = sorted(by_step)
            color = f"C{number % 10}"
            axis.plot(steps, [np.mean(by_step[step]) for step in steps], "-o", color=color, markersize=3, label=name)
            low, high = ([limit(by_step[step]) for step in steps] for limit in (min, max))
            axis.fill_between(steps, low, high, color=color, alpha=0.2)
    axis.set_xlabel("step")
    axis.set_ylabel(title)
    axis.grid(alpha=0.3)
    axis.legend(title="mean over seeds; band: least to most")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def series(records: Records, curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values of the records that have the quantity, both (N,)."""
    found = [(record["step"], curve.read(record)) for record in records]
    known = [(step, value) for step, value in found if isinstance(value, int | float)]
    return np.array([step for step, _ in known]), np.array([value for _, value in known], float)


def smoothed(values: np.ndarray, share: float = 0.05) -> np.ndarray:
    """Average over a window of `share` of the curve around each value; at the ends over what there is."""
    reach = max(1, int(len(values) * share / 2))
    total = np.concatenate([[0.0], np.cumsum(values)])
    positions = np.arange(len(values))
    low, high = np.maximum(positions - reach, 0), np.minimum(positions + reach + 1, len(values))
    means: np.ndarray = (total[high] - total[low]) / (high - low)
    return means
