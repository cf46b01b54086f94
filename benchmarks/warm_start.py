"""What a warm start is worth: the error after few iterations, afresh and continued from the frame before.

A frame, the same frame again, moved by some pixels, and cut to another scene; on procedural scenes that no training
used. `continued` begins where the frame before ended (`crosspol.inference.warm_start`), `disparity` begins with nothing
but its disparity, `warm_start` is what `crosspol predict --warm-start` does: it continues or begins afresh by its own
rule, with as many iterations as that says. `drift` is the error of one frame after many iterations in one go: the
reason why a sequence begins afresh now and then.

    python -m benchmarks.warm_start
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measuring import machine
from crosspol.data.inputs import StereoInputs
from crosspol.inference.predictor import StereoPredictor
from crosspol.inference.result import StereoResult
from crosspol.inference.warm_start import Step, WarmStart
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo

RESULTS = Path(__file__).parent / "results" / "warm_start.json"
SIZE, MARGIN = (144, 192), (8, 16)
SEED = 7
MOVES = {"same": (0, 0), "moved_1_px": (0, 1), "moved_4_px": (2, 4), "moved_12_px": (6, 12)}
"""Frames after the first: by how many rows and columns the window onto the scene has moved."""


def window(scenes: ProceduralStereo, index: int, move: tuple[int, int]) -> tuple[StereoInputs, NDArray[np.float32]]:
    """Return a window onto a scene, and its disparity (H, W), NaN where it does not count."""
    sample = scenes[index]
    (height, width), (y, x) = SIZE, (margin + by for margin, by in zip(MARGIN, move, strict=True))
    rows, columns = slice(y, y + height), slice(x, x + width)
    left, right = (view[:, rows, columns].contiguous() for view in (sample.left, sample.right))
    truth = torch.where(sample.valid > 0, sample.disparity, torch.nan)[0, rows, columns].numpy()
    return StereoInputs(left=left, right=right).batched(), truth


def error(result: StereoResult, truth: NDArray[np.float32]) -> float:
    return float(np.nanmean(np.abs(result.disparity[0] - truth)))


def measure(predictor: StereoPredictor, scenes: ProceduralStereo, index: int) -> dict[str, Any]:
    first, truth = window(scenes, index, (0, 0))
    before = predictor.estimate(first)
    few = sorted({1, max(1, round(predictor.iters / 4)), predictor.iters})
    found: dict[str, Any] = {}
    frames = {name: window(scenes, index, move) for name, move in MOVES.items()}
    frames["cut"] = window(scenes, index + 1000, (0, 0))
    for name, (inputs, wanted) in frames.items():
        rows: dict[str, Any] = {"afresh": {}, "continued": {}, "disparity": {}}
        for iters in few:
            shorter = StereoPredictor(predictor.backend, iters=iters)
            rows["afresh"][iters] = error(shorter.estimate(inputs), wanted)
            rows["continued"][iters] = error(shorter.estimate(inputs, initial_state=before.state), wanted)
            start = before.disparity
            rows["disparity"][iters] = error(shorter.estimate(inputs, initial_disparity=start), wanted)
        step = WarmStart(predictor).estimate(inputs, Step(before, predictor.iters, False))
        rows["warm_start"] = {"continued": step.continued, "epe": error(step.result, wanted)}
        found[name] = rows
    longest = [predictor.iters * times for times in (1, 2, 4, 16, 64)]
    found["drift"] = {
        iters: error(StereoPredictor(predictor.backend, iters=iters).estimate(first), truth) for iters in longest
    }
    return found


def summary(scenes: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over scenes."""
    mean: dict[str, Any] = {}
    for name in (*MOVES, "cut"):
        rows = [scene[name] for scene in scenes]
        mean[name] = {
            way: {iters: float(np.mean([row[way][iters] for row in rows])) for iters in rows[0][way]}
            for way in ("afresh", "continued", "disparity")
        }
        mean[name]["warm_start"] = {
            "continued": float(np.mean([row["warm_start"]["continued"] for row in rows])),
            "epe": float(np.mean([row["warm_start"]["epe"] for row in rows])),
        }
    drift = [scene["drift"] for scene in scenes]
    mean["drift"] = {iters: float(np.mean([row[iters] for row in drift])) for iters in drift[0]}
    return mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="crosspol")
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    predictor = StereoPredictor.from_pretrained(options.weights, device="cpu")
    height, width = (side + 2 * margin for side, margin in zip(SIZE, MARGIN, strict=True))
    data = ProceduralStereo(ProceduralConfig(size=(height, width), seed=SEED))
    scenes = [measure(predictor, data, index) for index in range(options.scenes)]
    mean = summary(scenes)
    for name in (*MOVES, "cut"):
        row = mean[name]
        ways = "   ".join(
            f"{way} " + " ".join(f"{iters}: {value:.2f}" for iters, value in row[way].items())
            for way in ("afresh", "continued", "disparity")
        )
        warm = row["warm_start"]
        print(f"{name:12} {ways}   --warm-start {warm['epe']:.2f} ({warm['continued']:.0%} continued)")
    print("drift        " + "   ".join(f"{iters}: {value:.2f}" for iters, value in mean["drift"].items()))
    record = {
        "command": f"python -m benchmarks.warm_start --weights {options.weights} --scenes {options.scenes}",
        "what": "mean absolute error, px, by iterations",
        "size": SIZE,
        "seed": SEED,
        "machine": machine(),
        "mean": mean,
        "scenes": scenes,
    }
    options.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
