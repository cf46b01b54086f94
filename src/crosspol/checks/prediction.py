"""A network's disparity against what both views show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crosspol.checks.findings import Finding, percent
from crosspol.checks.matching import Matches

__all__ = ["check_prediction"]

_NEAR_PX = 3.0
_LEAST_PX = 2.0
"""Disparity below which a ratio says nothing."""
_FEWEST = 25
_MOST = 0.8
_FACTOR = 0.1
"""How far from 2, 1/2 or -1 the ratio may be."""


def check_prediction(disparity: NDArray[np.floating], matches: Matches) -> list[Finding]:
    """Compare a disparity map (H, W), px, of the left view with the disparity of matched features: "prediction"."""
    where = matches.agrees
    predicted = matches.samples(disparity[None], reach=0)[where, 0]
    shown = matches.disparity[where]
    known = np.isfinite(predicted)
    if known.sum() < _FEWEST:
        return [Finding("prediction", "unsure", f"only {known.sum()} matched features have a predicted disparity")]
    predicted, shown = predicted[known], shown[known]
    error = np.abs(predicted - shown)
    near = float(np.mean(error < np.maximum(_NEAR_PX, 0.05 * np.abs(shown))))
    text = f"off by {np.median(error):.2f} px at {len(error)} matched features (median)"
    text = f"{text}, {percent(near)} within 3 px or 5 %"
    if near > _MOST:
        means = "what looks wrong lies where there are no features: glass, even walls, thin things, borders"
        return [Finding("prediction", "right", f"{text}. What looks wrong then lies elsewhere", means=means)]
    large = np.abs(shown) > _LEAST_PX
    ratio = float(np.median(predicted[large] / shown[large])) if large.sum() >= _FEWEST else 1.0
    for factor, why in (
        (0.5, "it is half as large: predicted at half the size and not doubled"),
        (2.0, "it is twice as large: scaled twice"),
        (-1.0, "it has the other sign"),
    ):
        if abs(ratio / factor - 1) < _FACTOR:
            do = "disparity is in px of the image that it is shown on: scale it as the width; positive is to the left"
            return [Finding("prediction", "wrong", f"{text}: {why}", do)]
    do = "mend what is wrong above first; then try more --iters, or other weights"
    verdict = "wrong" if near < 1 - _MOST else "unsure"
    return [Finding("prediction", verdict, text, do)]  # type: ignore[arg-type]
