"""Curves of one or several runs, from their journals."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crosspol.errors import MissingFileError, UsageError
from crosspol.training.run_folder import LOG
from crosspol.training.run_log import read_log

Records = list[dict[str, Any]]


class Curve(NamedTuple):
    """A quantity of the journal."""

    title: str
    read: Callable[[dict[str, Any]], Any]
    smooth: bool = False
    logarithmic: bool = False


CURVES = (
    Curve("loss, px", lambda r: r.get("loss"), smooth=True, logarithmic=True),
    Curve("EPE in training, px", lambda r: r.get("epe"), smooth=True, logarithmic=True),
    Curve("held out: EPE, px", lambda r: r.get("valid", {}).get("epe")),
    Curve("held out: EPE on glass, px", lambda r: r.get("valid", {}).get("epe_glass")),
    Curve("held out: EPE on background, px", lambda r: r.get("valid", {}).get("epe_background")),
    Curve("held out: IoU of glass", lambda r: r.get("valid", {}).get("glass_iou")),
    Curve("real step size / rate, backbone", lambda r: r.get("step_size", {}).get("backbone"), smooth=True),
    Curve("real step size / rate, polarization", lambda r: r.get("step_size", {}).get("polarization"), smooth=True),
    Curve("learning rate of the backbone", lambda r: r.get("lr", {}).get("backbone")),
    Curve("learning rate of polarization", lambda r: r.get("lr", {}).get("polarization")),
    Curve("alpha", lambda r: r.get("alpha")),
    Curve("cap on alpha", lambda r: r.get("alpha_cap")),
    Curve("gradient norm", lambda r: r.get("gradient_norm", {}).get("all"), smooth=True, logarithmic=True),
    Curve("injected share on glass", lambda r: r.get("injected_glass"), smooth=True),
    Curve("injected share elsewhere", lambda r: r.get("injected_elsewhere"), smooth=True),
)


def read_runs(folders: Sequence[Path]) -> dict[str, Records]:
    """Read the journals of runs, under the shortest names that tell them apart.

    Raises:
        MissingFileError: a folder has no journal.
        UsageError: a journal is damaged or empty.
    """
    runs = {}
    for folder, name in zip(folders, _names(folders), strict=True):
        path = folder / LOG
        if not path.is_file():
            raise MissingFileError(f"{path}: no such file, wanted the folder of a training run")
        records = read_log(path)
        if not records:
            raise UsageError(f"{path}: no record yet, wanted a run that has logged a step")
        runs[name] = records
    return runs


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
    axes[0].legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
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
    return (total[high] - total[low]) / (high - low)


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the last part of each path, or all of it where two runs share the last."""
    last = [folder.resolve().name for folder in folders]
    if len(set(last)) == len(last):
        return last
    whole = [str(folder) for folder in folders]
    if len(set(whole)) < len(whole):
        raise UsageError(f"the same run twice: {', '.join(whole)}; wanted each once")
    return whole
