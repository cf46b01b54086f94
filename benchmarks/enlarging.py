"""What the size of a feature pixel costs: the error where images are enlarged first, and the answer is shrunk.

Enlarged twice, a feature pixel of 8 image pixels covers 4 of the original's; disparities get as much larger, and may
leave what the network was trained for. By factor and iterations, over all pixels, glass and background.

    python -m benchmarks.enlarging --data ../shared/data/real
    python -m benchmarks.enlarging --data runs/rooms-test-9 --rig quad --output FILE
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.measuring import machine
from crosspol.data.sample import StereoSample, stack
from crosspol.data.transforms import scale
from crosspol.evaluation.measures import MAIN_REGIONS, key, measure
from crosspol.evaluation.scenes import open_scenes
from crosspol.inference.predictor import StereoPredictor

SHOWN = [key(error, region) for region in MAIN_REGIONS for error in ("epe", "bad2")]
RESULTS = Path(__file__).parent / "results" / "enlarging.json"


def estimated(predictor: StereoPredictor, sample: StereoSample, factor: float) -> Tensor:
    """Return disparity (1, 1, H, W), px of the sample, of the sample enlarged."""
    height, width = sample.left.shape[-2:]
    larger = sample if factor == 1 else scale(sample, round(factor * height), round(factor * width))
    disparity = torch.from_numpy(predictor.estimate(larger.inputs.batched()).disparity)[None]
    shrunk = F.interpolate(disparity, (height, width), mode="bilinear", antialias=True)
    return shrunk * (width / larger.left.shape[-1])


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    scenes = open_scenes(options.data, rig=options.rig)
    for iters in options.iters:
        predictor = StereoPredictor.from_pretrained(options.weights, iters=iters, device="cpu")
        samples = scenes.open(predictor.config.polarization.channels)
        for factor in options.factors:
            count = min(options.scenes, len(samples))
            of_all: dict[str, list[float]] = {name: [] for name in SHOWN}
            for index in tqdm(range(count), f"{factor:g} times, {iters} iterations", unit="scene"):
                sample = samples[index]
                found = measure(estimated(predictor, sample, factor), stack([sample]))
                for name, values in of_all.items():
                    values.append(found[name])
            mean = {name: float(np.nanmean(values)) for name, values in of_all.items() if not np.isnan(values).all()}
            yield {"factor": factor, "iterations": iters, "mean": mean, "scenes": of_all}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="crosspol")
    parser.add_argument("--data", required=True)
    parser.add_argument("--rig")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--factors", type=float, nargs="+", default=[1.0, 1.5, 2.0])
    parser.add_argument("--iters", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = list(rows(options))
    for row in found:
        means = "   ".join(f"{name} {value:.2f}" for name, value in row["mean"].items())
        print(f"{row['factor']:4.2f} times, {row['iterations']} iterations   {means}")
    record = {
        "command": f"python -m benchmarks.enlarging {' '.join(sys.argv[1:])}",
        "machine": machine(),
        "rows": found,
    }
    options.output.write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
