"""Which pixels of a prediction fly: what a threshold cuts of the pixels that are off, and of those that are right.

    python -m benchmarks.flying_points --output benchmarks/results/flying_points.json

The weights that ship predict the rendered rooms that ship (quad rigs, noise of the sensor model), and
`crosspol.geometry.flying` looks at the predicted depth alone. "Off" is a pixel whose depth is wrong by more than 10
percent, "right" one within 2 percent; "edge" is an off pixel whose disparity lies between two that are true within 3 px
around it and is none of them: a point in the air. The truth's own share is what is cut of a perfect disparity.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring import machine
from crosspol import geometry
from crosspol.datasets.sample_rooms import sample_rooms
from crosspol.datasets.scene_format import read_index, read_scene, scene_frames
from crosspol.inference.predictor import StereoPredictor
from crosspol.rigs.sensor import SensorConfig, sense

STEEPEST_DEG = (83.0, 85.0, 87.0)
NEAREST_PLANE_M = (0.15, 0.25, 0.4)
AGREEING = (3, 4)
REACH = 3  # px, how far around a pixel its true surfaces are looked for

Map = NDArray[Any]


def in_the_air(predicted: Map, disparity: Map) -> Map:
    """Where a prediction lies between the true disparities around it, at least 1 px from each of them; (H, W), bool."""
    height, width = disparity.shape
    padded = np.pad(disparity, REACH, constant_values=np.nan)
    shifts = range(2 * REACH + 1)
    around = np.stack([padded[row : row + height, column : column + width] for row in shifts for column in shifts])
    with np.errstate(invalid="ignore"):
        off = predicted - around
        # Comparisons with NaN, which stands for what is unknown or outside, are False.
        return (off > 1).any(axis=0) & (off < -1).any(axis=0) & ~(np.abs(off) <= 1).any(axis=0)


def measure(weights: str | None, iters: int | None) -> dict[str, Any]:
    """Return the shares that are cut, over all pixels of all rooms, by the rule's numbers."""
    predictor = StereoPredictor.from_pretrained(weights, iters=iters)
    records = [record for record in read_index(sample_rooms()) if record.rig == "quad"]
    maps = []
    for record in records:
        scene = read_scene(sample_rooms(), record)
        frames = sense(*scene_frames(scene), np.random.default_rng(0), SensorConfig(exposure=(1.0, 1.0)))
        result = predictor.predict_frames(*frames, scene.rig, scene.calibration)
        camera = scene.calibration
        truth = geometry.depth(scene.disparity, camera.fx, camera.baseline_m, camera.cx_left, camera.cx_right)
        with np.errstate(invalid="ignore"):
            error = np.abs(result.depth_m - truth) / truth
        edge = in_the_air(result.disparity, scene.disparity) & (error > 0.1)
        maps.append((result.depth_m, truth, camera.fx, {"right": error < 0.02, "off": error > 0.1, "edge": edge}))
    rows = []
    for steepest, plane, agreeing in product(STEEPEST_DEG, NEAREST_PLANE_M, AGREEING):
        rule = {"steepest_deg": steepest, "nearest_plane_m": plane, "agreeing": agreeing}
        cut = [geometry.flying(depth, focal, **rule) for depth, _, focal, _ in maps]
        perfect = [geometry.flying(truth, focal, **rule).mean() for _, truth, focal, _ in maps]
        shares = {
            kind: float(
                sum(np.count_nonzero(one & kinds[kind]) for one, (*_, kinds) in zip(cut, maps, strict=True))
                / sum(np.count_nonzero(kinds[kind]) for *_, kinds in maps)
            )
            for kind in ("right", "off", "edge")
        }
        rows.append({**rule, "truth": float(np.mean(perfect)), **shares})
    pixels = {kind: int(sum(np.count_nonzero(kinds[kind]) for *_, kinds in maps)) for kind in ("right", "off", "edge")}
    return {"rooms": [record.name for record in records], "iters": predictor.iters, "pixels": pixels, "cut": rows}


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="as `crosspol predict` takes them (default: those that ship)")
    parser.add_argument("--iters", type=int)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments.weights, arguments.iters)
    print(f"{len(found['rooms'])} rooms, {found['pixels']}")
    print("steepest deg  plane m  agreeing   right     off    edge   truth")
    for row in found["cut"]:
        shares = "  ".join(f"{row[kind]:6.1%}" for kind in ("right", "off", "edge", "truth"))
        print(f"{row['steepest_deg']:12g}  {row['nearest_plane_m']:7g}  {row['agreeing']:8d}  {shares}")
    if arguments.output is not None:
        command = " ".join(["python -m benchmarks.flying_points", *sys.argv[1:]])
        record = {"command": command, "machine": machine(), "seed": 0, **found}
        arguments.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
