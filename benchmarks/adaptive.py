"""Find the tolerance at which refinement may stop, on held-out procedural scenes, for weights that ship.

    python -m benchmarks.adaptive crosspol --write
    python -m benchmarks.adaptive blueprint --scenes 32 --output found.json

The mean step and the EPE after every iteration are measured in one pass a scene. The tolerance is the largest at which
stopping changes the EPE of a validation scene by at most 0.01 px, in the mean over scenes of the change's size (better
and worse must not cancel: they do not on other scenes), and so does every smaller one. What it does to test scenes,
which had no part in the choice, is measured beside it. --write puts the record beside the weights
(convergence.json), where `crosspol predict --adaptive` finds it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.measuring import machine
from crosspol.data.sample import StereoBatch, stack
from crosspol.evaluation.scenes import TEST_SEED
from crosspol.inference.adaptive import RECORD
from crosspol.metrics import epe
from crosspol.model import CrossPol
from crosspol.model.shipped import weights_folder
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo
from crosspol.training.provenance import weights_hash
from crosspol.weights import load_network

VALIDATION_SEED = 1_700_003
"""Data seed of scenes that no run trains on or is tested on."""
LARGEST_CHANGE = 0.01
SIZE = (160, 224)
TOLERANCES = np.geomspace(1e-3, 2.0, 96)

Errors = NDArray[np.float64]


class Course(NamedTuple):
    """How scenes go: mean step and EPE, px, each (scenes, iterations)."""

    steps: Errors
    errors: Errors


def follow(net: CrossPol, batch: StereoBatch) -> tuple[list[float], list[float]]:
    """Return the mean step and the EPE after every iteration, px."""
    stride = net.config.feature_stride
    moved: list[float] = []
    wrong: list[float] = []
    total = torch.zeros(())

    def look(module: nn.Module, _: Any, out: tuple[list[Tensor], Tensor]) -> None:
        nonlocal total
        hidden, step = out
        total = total + step.float()
        full = net.update.upsampler(hidden)(stride * total)
        moved.append(float((stride * step).abs().mean()))
        wrong.append(float(epe(full, batch.disparity, batch.valid).mean()))

    handle = net.update.register_forward_hook(look)
    try:
        net(**batch.inputs.kwargs())
    finally:
        handle.remove()
    return moved, wrong


@torch.inference_mode()
def course(net: CrossPol, seed: int, scenes: int) -> Course:
    """Follow the refinement of scenes whose sides the network pads nothing to."""
    channels = net.config.polarization.channels
    data = ProceduralStereo(ProceduralConfig(size=SIZE, length=scenes, seed=seed, pol_channels=channels))
    steps, errors = [], []
    for index in range(scenes):
        moved, wrong = follow(net, stack([data[index]]))
        steps.append(moved)
        errors.append(wrong)
        print(f"\rscene {index + 1} of {scenes}, seed {seed}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return Course(np.array(steps), np.array(errors))


def stopped(course: Course, tolerance: float) -> tuple[Errors, float]:
    """Return the EPE of scenes that stop at a tolerance, px, and their mean number of iterations."""
    converged = course.steps <= tolerance
    converged[:, -1] = True
    last = converged.argmax(axis=1)
    return course.errors[np.arange(len(last)), last], float(last.mean() + 1)


def change(course: Course, tolerance: float) -> float:
    """Return the mean over scenes of how much a tolerance changes the EPE, in either direction, px."""
    return float(np.abs(stopped(course, tolerance)[0] - course.errors[:, -1]).mean())


def choose(course: Course) -> float | None:
    """Return the largest tolerance up to which the EPE stays; None: even the smallest changes it."""
    good = [change(course, tolerance) <= LARGEST_CHANGE for tolerance in TOLERANCES]
    count = good.index(False) if False in good else len(good)
    return None if count == 0 else float(f"{TOLERANCES[count - 1]:.3g}")


def summary(course: Course, tolerance: float) -> dict[str, float]:
    """Say what a tolerance does to scenes."""
    errors, iterations = stopped(course, tolerance)
    return {
        "epe_px": float(course.errors[:, -1].mean()),
        "epe_stopped_px": float(errors.mean()),
        "mean_change_of_a_scene_px": change(course, tolerance),
        "iterations": iterations,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="?", default="crosspol", help="a preset whose weights ship, or a folder")
    parser.add_argument("--scenes", type=int, default=48, help="to choose on; half as many to test on")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"write {RECORD} beside the weights")
    parser.add_argument("--output", type=Path, help="write the record and the curves as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    net = load_network(arguments.weights).eval()
    folder = weights_folder(arguments.weights)
    chosen_on = course(net, VALIDATION_SEED, arguments.scenes)
    tolerance = choose(chosen_on)
    if tolerance is None:
        raise SystemExit("every tolerance changes the EPE by more than 0.01 px: nothing to write")
    tested_on = course(net, TEST_SEED, max(arguments.scenes // 2, 1))
    record = {
        "tolerance_px": tolerance,
        "weights_sha256": weights_hash(folder),
        "command": f"python -m benchmarks.adaptive {arguments.weights} --scenes {arguments.scenes}",
        "scenes": {"data": "procedural", "rig": "quad", "size": list(SIZE), "validation_seed": VALIDATION_SEED,
                   "validation": arguments.scenes, "test_seed": TEST_SEED, "test": len(tested_on.steps)},
        "iterations": net.config.iters,
        "validation": summary(chosen_on, tolerance),
        "test": summary(tested_on, tolerance),
        "machine": machine(),
    }  # fmt: skip
    print(json.dumps(record, indent=2))
    if arguments.write:
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    if arguments.output is not None:
        curves = {name: np.round(value, 4).tolist() for name, value in chosen_on._asdict().items()}
        arguments.output.write_text(json.dumps({**record, "validation_scenes": curves}) + "\n")


if __name__ == "__main__":
    main()
