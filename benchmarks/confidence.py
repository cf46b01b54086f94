"""What confidence costs: time of a prediction without it, from one pass, and from two.

    python -m benchmarks.confidence --output benchmarks/results/confidence_time.json
    python -m benchmarks.confidence --quick

The predictor with the weights that ship, from arrays to the result, without polarization. Times are interleaved in one
run; ratios are medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.measuring import interleaved, machine, ratio
from crosspol.inference.predictor import StereoPredictor

KINDS = ("none", "fast", "full")


def compare(weights: str, width: int, height: int, rounds: int) -> list[dict[str, Any]]:
    """Time all kinds."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width + 16, 3), dtype=np.uint8)
    whole = cv2.GaussianBlur(noise, (0, 0), 2)
    left, right = (np.ascontiguousarray(view) for view in (whole[:, :-16], whole[:, 16:]))
    predictors = {kind: StereoPredictor.from_pretrained(weights, device="cpu", confidence=kind) for kind in KINDS}
    work = {kind: lambda p=predictor: p.predict(left, right) for kind, predictor in predictors.items()}
    seconds = interleaved(work, rounds)
    return [
        {
            "weights": weights,
            "size": f"{width}x{height}",
            "iters": predictors[kind].iters,
            "confidence": kind,
            "seconds": statistics.median(seconds[kind]),
            "times_as_long_as_none": ratio(seconds, kind, "none"),
        }
        for kind in KINDS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="crosspol", help="a folder, or a preset whose weights ship")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="160x128 and one round")
    parser.add_argument("--output", type=Path, help="write the table as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    sizes, rounds = ([(160, 128)], 1) if arguments.quick else ([(320, 256), (640, 480)], arguments.rounds)
    about = machine() | {"opencv": cv2.__version__}
    print(f"{about['device']}, {about['threads']} threads, torch {about['torch']}; medians of {rounds} rounds\n")
    rows = [row for width, height in sizes for row in compare(arguments.weights, width, height, rounds)]
    print(f"{'weights':<12} {'size':>8} {'iters':>5} {'confidence':>10} {'seconds':>8} {'times as long':>13}")
    for row in rows:
        print(
            f"{row['weights']:<12} {row['size']:>8} {row['iters']:>5} {row['confidence']:>10} {row['seconds']:>8.3f} "
            f"{row['times_as_long_as_none']:>13.2f}"
        )
    if arguments.output is not None:
        command = shlex.join(["python", "-m", "benchmarks.confidence", *sys.argv[1:]])
        result = {"machine": about, "command": command, "rounds": rounds, "rows": rows}
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
