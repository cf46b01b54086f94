"""The shipped weights on the held-out part of the procedural set, with polarization and with it removed.

Numbers are means over scenes (scenes without glass do not enter the glass figures). Usage:

    python benchmarks/held_out.py [--weights DIR] [--scenes 64] [--height 256 --width 320] [--output results.json]
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from crosspol import CrossPol, load_network, metrics
from crosspol.data.procedural import ProceduralConfig, ProceduralStereo
from crosspol.data.sample import StereoBatch, stack
from crosspol.inference.predictor import packaged_weights
from crosspol.training.validation import VALIDATION_SEED_OFFSET

HELD_OUT_SEED = VALIDATION_SEED_OFFSET
"""Data seed of the validation scenes of a training run with data seed 0."""


def regions(batch: StereoBatch) -> Iterator[tuple[str, torch.Tensor]]:
    """Name the pixels over which errors are averaged."""
    yield "all", batch.valid
    yield "glass", batch.valid * batch.glass
    yield "background", batch.valid * (1 - batch.glass)
    yield "occluded", batch.valid * batch.occluded


@torch.inference_mode()
def measure(net: CrossPol, config: ProceduralConfig, iters: int) -> dict[str, dict[str, float]]:
    """Return mean EPE (px) and bad-2 (%) over scenes, by polarization and region."""
    rows: dict[str, dict[str, list[float]]] = {"with polarization": {}, "polarization removed": {}}
    scenes = ProceduralStereo(config)
    for index in tqdm(range(len(scenes)), unit="scene"):
        batch = stack([scenes[index]])
        pictures = {"left": batch.left, "right": batch.right}
        for name, inputs in zip(rows, (batch.inputs(), pictures), strict=True):
            disparity = net(**inputs, iters=iters).disparity
            for region, mask in regions(batch):
                rows[name].setdefault(f"epe {region}", []).append(float(metrics.epe(disparity, batch.disparity, mask)))
                rows[name].setdefault(f"bad2 {region}", []).append(float(metrics.bad(disparity, batch.disparity, mask)))
    return {
        name: {metric: float(torch.tensor(values).nanmean()) for metric, values in row.items()}
        for name, row in rows.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="folder with config.json and model.safetensors (default: those that ship)")
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--iters", type=int, default=24)
    parser.add_argument("--output", type=Path, help="write the numbers as JSON too")
    options = parser.parse_args()
    net = load_network(options.weights or packaged_weights()).eval()
    config = ProceduralConfig(size=(options.height, options.width), length=options.scenes, seed=HELD_OUT_SEED)
    results = measure(net, config, options.iters)
    metrics_shown = list(next(iter(results.values())))
    print(f"{'':24}" + "".join(f"{metric:>18}" for metric in metrics_shown))
    for name, row in results.items():
        print(f"{name:24}" + "".join(f"{row[metric]:18.2f}" for metric in metrics_shown))
    if options.output:
        record = {
            "command": f"python benchmarks/held_out.py --scenes {options.scenes} --height {options.height} "
            f"--width {options.width} --iters {options.iters}",
            "weights": str(options.weights or "those that ship"),
            "seed": HELD_OUT_SEED,
            "machine": platform.machine(),
            "torch": torch.__version__,
            "results": results,
        }
        options.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
