"""What rounded arithmetic does to the error of weights that ship: EPE of test scenes by engine and precision.

    python -m benchmarks.rounding blueprint crosspol --output benchmarks/results/rounding.json
    python -m benchmarks.rounding crosspol --quick

Scenes are procedural ones that nobody trained on, nor found ranges for 8 bits on (`crosspol.inference.calibration`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.backends import BACKENDS
from benchmarks.measuring import machine
from crosspol.commands.flags import read_size
from crosspol.data.sample import stack
from crosspol.evaluation.scenes import TEST_SEED
from crosspol.inference.backends import Refinement
from crosspol.metrics import epe
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo
from crosspol.weights import load_network

EXACT = "torch"
ROUNDED = ("torch bfloat16", "openvino bfloat16", "openvino int8")


@torch.inference_mode()
def measure(name: str, scenes: int, size: tuple[int, int], iters: int | None) -> list[dict[str, Any]]:
    """Predict every scene by every engine."""
    network = load_network(name)
    channels = network.config.polarization.channels
    data = ProceduralStereo(ProceduralConfig(size=size, length=scenes, seed=TEST_SEED, pol_channels=channels))
    engines = {key: BACKENDS[key](network) for key in (EXACT, *ROUNDED)}
    refinement = Refinement(network.config.iters if iters is None else iters)
    errors: dict[str, list[float]] = {key: [] for key in engines}
    apart: dict[str, list[float]] = {key: [] for key in engines}
    for index in range(scenes):
        batch = stack([data[index]])
        found = {key: engine.run(batch.inputs, refinement).disparity for key, engine in engines.items()}
        for key, disparity in found.items():
            errors[key].append(float(epe(disparity, batch.disparity, batch.valid).mean()))
            apart[key].append(float((disparity - found[EXACT]).abs().mean()))
        print(f"{name}, scene {index + 1} of {scenes}", flush=True)
    exact = np.array(errors[EXACT])
    return [
        {
            "network": name,
            "backend": key,
            "epe_px": float(np.mean(errors[key])),
            "mean_change_of_a_scenes_epe_px": float(np.abs(np.array(errors[key]) - exact).mean()),
            "mean_difference_px": float(np.mean(apart[key])),
            "epe_px_by_scene": errors[key],
        }
        for key in engines
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", help="names of presets whose weights ship")
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--size", default="320x240", help="WIDTHxHEIGHT")
    parser.add_argument("--quick", action="store_true", help="one scene of 64x64, two iterations")
    parser.add_argument("--output", type=Path, help="write the table as JSON")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    scenes, size, iters = arguments.scenes, read_size(arguments.size), None
    if arguments.quick:
        scenes, size, iters = 1, (64, 64), 2
    rows = [row for name in arguments.weights for row in measure(name, scenes, size, iters)]
    print(f"\n{'network':<12}{'engine':<20}{'EPE, px':>9}{'change of a scene':>19}{'difference':>12}")
    for row in rows:
        print(
            f"{row['network']:<12}{row['backend']:<20}{row['epe_px']:>9.4f}"
            f"{row['mean_change_of_a_scenes_epe_px']:>19.4f}{row['mean_difference_px']:>12.4f}"
        )
    if arguments.output is not None:
        about = {"machine": machine(), "scenes": scenes, "size": f"{size[1]}x{size[0]}", "seed": TEST_SEED}
        arguments.output.write_text(json.dumps(about | {"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
