"""What a confidence is worth: its order (sparsification), its value (calibration); and how its coefficients are fitted.

The arithmetic of single scenes is in `crosspol.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from crosspol import metrics
from crosspol.data.sample import StereoBatch, StereoSample, stack
from crosspol.evaluation.measures import MAIN_REGIONS, REGIONS, key
from crosspol.evaluation.methods import NetworkMethod
from crosspol.inference.confidence import (
    CUES,
    TOLERANCE,
    ConfidenceModel,
    Regression,
    cue_values,
    exchanged_disparity,
    gather,
)
from crosspol.model.precision import without_tf32

OCCLUDED_F = "occluded_f_score"
"""Measure: F-score of the occluded pixels that are found."""

"""Regions whose confidence is measured."""

STEPS = 20
BINS = 10


class _Cost(NamedTuple):
    """An error that sparsification curves are of. threshold: of `metrics.sparsification`."""

    name: str
    title: str
    threshold: float | None


COSTS = (_Cost("epe", "EPE, px,", None), _Cost("bad1", "bad-1, %,", TOLERANCE))


@dataclass(frozen=True, eq=False)
class SceneConfidence:
    """The worth of a confidence in one scene.

    curves: by error and region, (2, STEPS): the error of what is kept, and that of the oracle; NaN = no such pixel.
    bins: by region, (3, BINS), see `metrics.calibration`.
    """

    curves: dict[str, NDArray[np.float64]]
    bins: dict[str, NDArray[np.float64]]

    @classmethod
    def of(cls, disparity: Tensor, confidence: Tensor, batch: StereoBatch) -> SceneConfidence:
        """Measure one scene; disparity and confidence: (1, 1, H, W)."""
        curves, bins = {}, {}
        oracle = -(disparity - batch.disparity).abs()
        for region in (region for region in REGIONS if region.name in MAIN_REGIONS):
            mask = region.mask(batch) * batch.valid
            for cost in COSTS:
                pair = [
                    metrics.sparsification(disparity, batch.disparity, order, mask, cost.threshold, STEPS)[0]
                    for order in (confidence, oracle)
                ]
                curves[key(cost.name, region.name)] = torch.stack(pair).cpu().numpy()
            table = metrics.calibration(disparity, batch.disparity, confidence, mask, TOLERANCE, BINS)[0]
            bins[region.name] = table.cpu().numpy()
        return cls(curves, bins)

    def figures(self) -> dict[str, float]:
        """Areas under the sparsification error by ``ause_ERROR.region``, and what chance has: ``chance_ERROR...``."""
        found = {}
        for name, curves in self.curves.items():
            own, oracle = torch.from_numpy(curves)[:, None]
            found[f"ause_{name}"] = metrics.area_between(own, oracle).item()
            # In random order the error of what is kept stays what it is.
            found[f"chance_{name}"] = metrics.area_between(own[:, :1].expand_as(oracle), oracle).item()
        return found


def worth(scenes: Sequence[SceneConfidence]) -> dict[str, Any] | None:
    """Sum up scenes for the record: curves are means over the scenes that have the region, bins are of all pixels.

    Returns:
        ``tolerance_px``, ``removed`` (shares, ascending), and by region ``kept`` and ``oracle`` by error, ``pixels``,
        ``confidence`` (mean) and ``hits`` (share within the tolerance) by bin, None in empty ones,
        ``calibration_error`` and ``scenes``. None of no scenes.
    """
    if not scenes:
        return None
    regions: dict[str, Any] = {}
    for region in MAIN_REGIONS:
        record: dict[str, Any] = {"kept": {}, "oracle": {}}
        for cost in COSTS:
            stacked = np.stack([scene.curves[key(cost.name, region)] for scene in scenes])
            known = stacked[~np.isnan(stacked[:, 0, 0])]
            record["scenes"] = len(known)
            if len(known):
                record["kept"][cost.name], record["oracle"][cost.name] = known.mean(axis=0).tolist()
        if not record["scenes"]:
            continue
        table = np.sum([scene.bins[region] for scene in scenes], axis=0)
        pixels, sure, hits = table
        record["pixels"] = pixels.tolist()
        record["confidence"] = [s / n if n else None for s, n in zip(sure.tolist(), pixels.tolist(), strict=True)]
        record["hits"] = [h / n if n else None for h, n in zip(hits.tolist(), pixels.tolist(), strict=True)]
        record["mean_confidence"] = float(sure.sum() / pixels.sum())
        record["mean_hits"] = float(hits.sum() / pixels.sum())
        record["calibration_error"] = metrics.calibration_error(torch.from_numpy(table))
        regions[region] = record
    return {"tolerance_px": TOLERANCE, "removed": (np.arange(STEPS) / STEPS).tolist(), "regions": regions}


@dataclass(frozen=True, eq=False)
class Examples:
    """Pixels to fit on. values: by cue, (N,). hits: (N,), the disparity is within the tolerance."""

    values: Mapping[str, NDArray[np.float64]]
    hits: NDArray[np.bool_]


def gather_examples(
    method: NetworkMethod,
    samples: Dataset[StereoSample],
    *,
    pixels: int = 2000,
    seed: int = 0,
    watch: Callable[[range], Iterable[int]] = iter,
) -> Examples:
    """Run a network on scenes, both ways, and draw pixels of each whose disparity is known.

    Args:
        method: the network.
        samples: with a length; scenes that nothing was trained on.
        pixels: of a scene, at most.
        seed: of the draw.
        watch: goes through the scenes, such as tqdm.
    """
    rng = np.random.default_rng(seed)
    found: list[dict[str, NDArray[np.float64]]] = []
    hits: list[NDArray[np.bool_]] = []
    device = next(method.net.parameters()).device
    with torch.inference_mode(), without_tf32(device):
        for index in watch(range(len(samples))):  # type: ignore[arg-type]
            batch = stack([samples[index]]).to(device)
            output = method.run(batch.inputs)
            evidence = gather(batch.inputs, output, exchanged_disparity(batch.inputs, method.run), 0)
            known = np.flatnonzero(batch.valid.cpu().numpy() > 0)
            drawn = rng.choice(known, min(pixels, len(known)), replace=False)
            error = np.abs(evidence.disparity - batch.disparity[0, 0].cpu().numpy())
            hits.append(error.ravel()[drawn] <= TOLERANCE)
            values = cue_values(evidence)
            found.append({name: value.ravel()[drawn].astype(np.float64) for name, value in values.items()})
    return Examples({name: np.concatenate([scene[name] for scene in found]) for name in found[0]}, np.concatenate(hits))


def fit_regression(examples: Examples, cues: Sequence[str], ridge: float = 1e-3, steps: int = 50) -> Regression:
    """Fit the chance of a hit by Newton's method on the mean log loss, plus ridge / 2 times the squared weights.

    Args:
        examples: pixels; those where a cue is not finite are left out.
        cues: names.
        ridge: of weights of cues in units of their standard deviation; keeps them finite where a cue decides alone.
        steps: at most.

    Raises:
        ValueError: hardly any pixels, or all hits or none.
    """
    table = np.stack([examples.values[name] for name in cues], axis=1)
    usable = np.isfinite(table).all(axis=1)
    table, hits = table[usable], examples.hits[usable].astype(np.float64)
    if len(hits) < 10 * len(cues) or not 0 < hits.mean() < 1:
        raise ValueError(
            f"confidence: got {len(hits)} pixels, {hits.sum():.0f} of them within {TOLERANCE:g} px, wanted at least "
            f"{10 * len(cues)}, some of either kind"
        )
    mean, scale = table.mean(axis=0), np.maximum(table.std(axis=0), 1e-6)
    design = np.c_[(table - mean) / scale, np.ones(len(table))]
    penalty = np.r_[np.full(len(cues), ridge), 0.0]
    weights = np.zeros(len(cues) + 1)
    for _ in range(steps):
        chance = 1 / (1 + np.exp(-np.clip(design @ weights, -60, 60)))
        gradient = design.T @ (chance - hits) / len(hits) + penalty * weights
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design / len(hits) + np.diag(penalty)
        step = np.linalg.solve(curvature + 1e-9 * np.eye(len(weights)), gradient)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    *slopes, bias = weights.tolist()
    return Regression(tuple(cues), tuple(mean.tolist()), tuple(scale.tolist()), tuple(slopes), bias)


def fit_model(examples: Examples, about: dict[str, Any]) -> ConfidenceModel:
    """Fit a regression for each set of cues that may be at hand: with and without the second pass and a glass head."""
    names = [cue.name for cue in CUES if cue.name in examples.values]
    sets = {
        tuple(name for name in names if name not in left_out)
        for left_out in ((), ("difference",), ("glass",), ("difference", "glass"))
    }
    regressions = [fit_regression(examples, cues) for cues in sorted(sets, key=len, reverse=True)]
    return replace(ConfidenceModel(tuple(regressions)), about=about)
