"""What a rendered set contains, measured: how much glass, which disparities, and what polarization gives away alone."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosspol.datasets.scene_format import INDEX, SceneRecord, StoredScene, read_scene
from crosspol.io.atomic import write_bytes

__all__ = ["CARD", "SETTINGS", "area_under_roc", "data_card", "polarization_score", "write_card"]

CARD = "data_card.json"
SETTINGS = ("generator", "series", "style", "size", "samples", "bounces", "denoised", "color")
"""Parameters that all scenes of a set share."""

_WITH_GLASS = 0.005
"""Share of an image from which on it counts as one with glass."""
_BINS = 1 << 14
"""Steps of polarization from 0 to 1 in which areas under ROC curves are counted."""


def data_card(root: Path, records: Sequence[SceneRecord]) -> dict[str, Any]:
    """Measure a rendered set.

    Returns:
        what JSON can hold: `index_sha256` (of scenes.jsonl), `parts` (scenes per split), `settings` and `made_with`
        (each a list of what occurs and how often), and `rigs`: one dictionary per rig. Shares are of 1, lengths in
        meters, three numbers are the 10 %, 50 % and 90 % quantiles over scenes. Where a set has no glass, or nothing
        but glass, its area under the ROC curve is null.

    Raises:
        UsageError: the index or a scene cannot be read.
    """
    rigs = sorted({record.rig for record in records})
    return {
        "scenes": len(records),
        "parts": dict(sorted(Counter(record.split for record in records).items())),
        "settings": _counted(records, SETTINGS),
        "made_with": _counted(records, ("variant", "versions")),
        "index_sha256": hashlib.sha256((root / INDEX).read_bytes()).hexdigest(),
        "rigs": {rig: _measure(root, [record for record in records if record.rig == rig]) for rig in rigs},
    }


def write_card(root: Path, records: Sequence[SceneRecord], command: str) -> dict[str, Any]:
    """Write `data_card.json` beside `scenes.jsonl` and return what it says.

    Args:
        root: folder of the data set.
        records: all of its scenes.
        command: that renders the set again.

    Raises:
        UsageError: the index or a scene cannot be read.
    """
    card = {"command": command, **data_card(root, records)}
    write_bytes(root / CARD, (json.dumps(card, indent=2, allow_nan=False) + "\n").encode())
    return card


def polarization_score(scene: StoredScene) -> NDArray[np.float32]:
    """Polarization (H, W) in [0, 1] of the left view: DoLP of a quad rig, |contrast| of a crossed one.

    A crossed pair's contrast exists along one ray only, so the right view is aligned by ground truth: this measures
    what the light tells, not what a network is given.
    """
    if scene.left.ndim == 4:
        s0, s1, s2 = scene.left.mean(axis=0)
        score = np.hypot(s1, s2) / np.maximum(s0, 1e-6)
    else:
        width = scene.disparity.shape[1]
        target = np.rint(np.arange(width) - np.nan_to_num(scene.disparity)).clip(0, width - 1).astype(int)
        left, right = scene.left.mean(axis=0), scene.right.mean(axis=0)
        right = np.take_along_axis(right, target, axis=1)
        score = np.abs(left - right) / np.maximum(left + right, 1e-6)
    return np.asarray(score.clip(0, 1), np.float32)


def area_under_roc(glass: NDArray[np.int64], other: NDArray[np.int64]) -> float | None:
    """Area under the ROC curve of "more polarization means glass", from histograms (N,) over the same bins.

    The chance that a pixel of glass has more polarization than one that is not; one half where they share a bin. None
    where one of the histograms is empty.
    """
    if not glass.any() or not other.any():
        return None
    below = np.cumsum(other) - other / 2
    return float((glass * below).sum() / (float(glass.sum()) * float(other.sum())))


def _measure(root: Path, records: Sequence[SceneRecord]) -> dict[str, Any]:
    histograms = np.zeros((2, _BINS), np.int64)
    glass_share, largest, nearest, baseline, focal = (list[float]() for _ in range(5))
    for record in records:
        scene = read_scene(root, record)
        bins = np.minimum(polarization_score(scene) * _BINS, _BINS - 1).astype(np.int64)
        for number, mask in enumerate((scene.glass, ~scene.glass)):
            histograms[number] += np.bincount(bins[mask & ~scene.occluded], minlength=_BINS)
        glass_share.append(float(scene.glass.mean()))
        largest.append(float(np.nanmax(scene.disparity)))
        if scene.calibration is not None:
            baseline.append(scene.calibration.baseline_m)
            focal.append(scene.calibration.fx / scene.disparity.shape[1])
            nearest.append(scene.calibration.fx * scene.calibration.baseline_m / largest[-1])
    area = area_under_roc(histograms[0], histograms[1])
    middles = (np.arange(_BINS) + 0.5) / _BINS
    means = [float((counts * middles).sum() / counts.sum()) if counts.any() else None for counts in histograms]
    return {
        "scenes": len(records),
        "scenes_with_glass": int(sum(share >= _WITH_GLASS for share in glass_share)),
        "glass_share_of_pixels": _rounded(float(np.mean(glass_share))),
        "dolp_alone_finds_glass_roc_area": _rounded(area),
        "mean_polarization": {"glass": _rounded(means[0]), "elsewhere": _rounded(means[1])},
        "largest_disparity_px": _quantiles(largest),
        "nearest_m": _quantiles(nearest),
        "baseline_m": _quantiles(baseline),
        "focal_in_widths": _quantiles(focal),
    }


def _counted(records: Sequence[SceneRecord], names: Sequence[str]) -> list[dict[str, Any]]:
    """Distinct values of these parameters, each with the number of scenes that have them."""
    found = Counter(json.dumps(_chosen(record.parameters, names), sort_keys=True) for record in records)
    return [{**json.loads(values), "scenes": count} for values, count in sorted(found.items())]


def _chosen(parameters: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: parameters[name] for name in names if name in parameters}


def _quantiles(values: Sequence[float]) -> list[float] | None:
    return [round(float(value), 4) for value in np.quantile(values, (0.1, 0.5, 0.9))] if values else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
