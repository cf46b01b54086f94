"""Middlebury pairs with ground truth: the shipped weights beside OpenCV's semi-global matching.

Real pairs are reported, never selected on. All valid pixels count, occluded ones included. Usage:

    python benchmarks/real_pairs.py --data ../shared/data/real [--weights DIR] [--iters 24] [--output results.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from crosspol import StereoPredictor, metrics

PAIRS = ("motorcycle", "cones")
Array = NDArray[np.float32]


def semi_global(left: NDArray[np.uint8], right: NDArray[np.uint8], search: int, filled: bool) -> Array:
    """OpenCV's StereoSGBM, block 5, the penalties of its documentation; unmatched pixels are 0 or filled.

    Filling takes the nearest match to the left in the row, which is the background behind an occlusion.
    """
    matcher = cv2.StereoSGBM_create(
        minDisparity=0,
        numDisparities=search,
        blockSize=5,
        P1=8 * 3 * 25,
        P2=32 * 3 * 25,
        disp12MaxDiff=1,
        uniquenessRatio=10,
        speckleWindowSize=100,
        speckleRange=2,
    )
    disparity = matcher.compute(left, right).astype(np.float32) / 16
    matched = disparity >= 0
    if not filled:
        return np.where(matched, disparity, np.float32(0))
    nearest = np.maximum.accumulate(np.where(matched, np.arange(disparity.shape[1]), -1), axis=1)
    first = matched.argmax(axis=1)[:, None]
    return np.take_along_axis(disparity, np.where(nearest < 0, first, nearest), axis=1)


def score(disparity: Array, truth: Array) -> dict[str, float]:
    """EPE (px) and bad-2 (%) over all known pixels."""
    predicted, target = (torch.from_numpy(np.ascontiguousarray(a))[None, None] for a in (disparity, truth))
    return {"epe": float(metrics.epe(predicted, target)), "bad2": float(metrics.bad(predicted, target, threshold=2.0))}


def measure(folder: Path, predictor: StereoPredictor) -> dict[str, Any]:
    """Every method on one pair."""
    left, right = (cv2.imread(str(folder / f"{side}.png"))[..., ::-1].copy() for side in ("left", "right"))
    archive = np.load(folder / "disparity.npz")
    truth = archive[archive.files[0]].astype(np.float32)
    median = np.full_like(truth, np.median(truth[np.isfinite(truth)]))
    rows = {"constant median": score(median, truth)}
    for search in (64, 96):
        for filled in (False, True):
            name = f"SGBM, {search} px, {'filled' if filled else 'unmatched = 0'}"
            rows[name] = score(semi_global(left, right, search, filled), truth)
    started = time.perf_counter()
    rows["CrossPol"] = score(predictor.predict(left, right).disparity, truth)
    rows["CrossPol"]["seconds"] = time.perf_counter() - started
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with motorcycle/ and cones/")
    parser.add_argument("--weights", help="folder with config.json and model.safetensors (default: those that ship)")
    parser.add_argument("--iters", type=int, default=24)
    parser.add_argument("--output", type=Path, help="write the numbers as JSON too")
    options = parser.parse_args()
    predictor = StereoPredictor.from_pretrained(options.weights, iters=options.iters)
    results = {name: measure(options.data / name, predictor) for name in PAIRS}
    print(f"{'':32}" + "".join(f"{name:>22}" for name in PAIRS))
    print(f"{'':32}" + f"{'EPE px':>12}{'bad-2 %':>10}" * len(PAIRS))
    for method in results[PAIRS[0]]:
        cells = "".join(f"{results[p][method]['epe']:12.2f}{results[p][method]['bad2']:10.1f}" for p in PAIRS)
        print(f"{method:32}{cells}")
    if options.output:
        record = {
            "command": f"python benchmarks/real_pairs.py --data ../shared/data/real --iters {options.iters}",
            "weights": str(options.weights or "those that ship"),
            "machine": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "opencv": cv2.__version__,
            "results": results,
        }
        options.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
