"""Images of an evaluation: the best, the median and the worst scene of a network, and differences between rows."""

from __future__ import annotations

import hashlib
import re
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crosspol.data.sample import StereoBatch, StereoSample, stack
from crosspol.data.substitution import substitute
from crosspol.evaluation.confidence import COSTS
from crosspol.evaluation.measures import MAIN_REGIONS, REGIONS, key
from crosspol.evaluation.methods import NetworkMethod
from crosspol.evaluation.results import Results
from crosspol.evaluation.rows import Row
from crosspol.evaluation.scenes import SceneSet
from crosspol.evaluation.statistics import Estimate
from crosspol.training.validation import predict_scene
from crosspol.visualization.intervals import Interval, draw_intervals
from crosspol.visualization.panel import validation_figure
from crosspol.visualization.reliability import Reliability, Sparsified, draw_worth


def chosen_scenes(row: Row) -> dict[str, int]:
    """Return the scenes to look at, by EPE on glass where two scenes or more have glass, else by EPE over all.

    Returns:
        "best", "median", "worst" to the index of the scene; fewer where there are fewer scenes.
    """
    for region in ("glass", "all"):
        errors = np.asarray(row.get(key("epe", region)))
        known = np.flatnonzero(~np.isnan(errors))
        if len(known) >= 2 or region == "all":
            break
    order = known[np.argsort(errors[known], kind="stable")]
    places = {"best": 0, "worst": len(order) - 1, "median": (len(order) - 1) // 2}
    chosen: dict[str, int] = {}
    for name, place in places.items():
        if 0 <= place < len(order) and int(order[place]) not in chosen.values():
            chosen[name] = int(order[place])
    return chosen


def image_name(row: str, scene: str) -> str:
    """Return the file name of a row's image of its best, median or worst scene: no two rows have the same.

    Of a row whose name has letters that a file's had better not have, some of its hash tells it from others.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", row)
    if plain != row:
        plain += f"~{hashlib.sha256(row.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return f"{plain}_{scene}.png"


def scene_images(method: NetworkMethod, row: Row, scenes: SceneSet) -> dict[str, NDArray[np.uint8]]:
    """Draw the best, the median and the worst scene: left view, polarization, truth, prediction, error in px.

    Args:
        method: the network; with a substitution that needs no other scene.
        row: what was measured of it.
        scenes: what it was measured on.

    Returns:
        "best", "median", "worst" to (H, W, 3), RGB.
    """
    if row.not_applicable is not None:
        return {}
    samples = scenes.open(method.pol_channels)
    drawn = {}
    for name, index in chosen_scenes(row).items():
        sample = samples[index]
        if method.substitution is not None:
            sample = _single(substitute(stack([sample]), method.substitution, pol_channels=method.pol_channels))
        predicted = predict_scene(method.net, sample, method.iters)
        drawn[name] = validation_figure(predicted, f"{row.name}, {name} scene")
    return drawn


def _single(batch: StereoBatch) -> StereoSample:
    """Return the one sample of a batch of one."""
    values: dict[str, Any] = {}
    for name in {entry.name for entry in fields(StereoSample)} - {"name"}:
        value = getattr(batch, name)
        values[name] = value[0] if isinstance(value, Tensor) else value
    return StereoSample(**values, name=batch.names[0])


def difference_plot(results: Results) -> bytes | None:
    """Draw every network's paired difference of the EPE to what it is compared with.

    Over all pixels, on glass and on the background; over all pixels alone where no scene has a glass mask.

    Returns:
        A PNG; None where there is nothing to compare.
    """
    shown = [row for row in results.rows if row.is_network and row.not_applicable is None]
    rows = [(row, other) for row in shown if (other := results.against(row)) is not None]
    if not rows:
        return None
    titles = {region.name: region.title for region in REGIONS}

    panels = {
        titles[region]: [_interval(results.difference(row, other, key("epe", region))) for row, other in rows]
        for region in MAIN_REGIONS
    }
    # Of some data it is not known where glass is.
    panels = {title: panel for title, panel in panels.items() if any(panel)} or dict(list(panels.items())[:1])
    return draw_intervals(
        panels,
        [f"{row.name}\nagainst {other.name}" for row, other in rows],
        f"EPE of the row - EPE of the other, px: below 0 the row is better; "
        f"bars: {100 * results.bootstrap.level:g} % interval, paired over scenes",
    )


def confidence_plot(results: Results) -> bytes | None:
    """Draw what the confidence of every row that has one is worth.

    Returns:
        A PNG; None where no row has one.
    """
    rows = {row.name: row.confidence for row in results.rows if row.confidence is not None}
    if not rows:
        return None
    titles = {region.name: region.title for region in REGIONS}
    shown = [name for name in MAIN_REGIONS if any(name in record["regions"] for record in rows.values())]
    curves = {
        cost.title: {
            titles[name]: {
                row: Sparsified(part["kept"][cost.name], part["oracle"][cost.name], record["removed"])
                for row, record in rows.items()
                if (part := record["regions"].get(name)) is not None
            }
            for name in shown
        }
        for cost in COSTS
    }
    diagrams = {
        titles[name]: {
            row: Reliability(
                part["confidence"], part["hits"], part["pixels"], f"calibration error {part['calibration_error']:.3f}"
            )
            for row, record in rows.items()
            if (part := record["regions"].get(name)) is not None
        }
        for name in shown
    }
    return draw_worth(curves, diagrams)


def _interval(estimate: Estimate) -> Interval | None:
    if not estimate.scenes:
        return None
    return Interval(estimate.value, estimate.low, estimate.high, estimate.excludes_zero)
