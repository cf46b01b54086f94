"""How far behind panes the world is that is seen through them: procedural scenes beside rendered rooms.

    python -m benchmarks.pane_depth --rooms runs/rooms-test --output benchmarks/results/pane_depth.json

For each scene with 50 px of glass or more: the median over its glass of (disparity of the pane - disparity of what is
behind it) / disparity of the pane; 0: the pane lies on it, 1: it is at infinity. Quantiles are over scenes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import machine
from crosspol.data.indexed import Indexed
from crosspol.datasets.config import DataConfig
from crosspol.datasets.scene_folder import SceneFolder
from crosspol.synthesis.procedural import held_out

QUANTILES = (10, 25, 50, 75, 90)
LEAST_PIXELS = 50
ROOMLIKE = {"farthest": (0.05, 0.8), "openings": (0.1, 1.0)}


def shares(scenes: Indexed, count: int) -> list[float]:
    """The share of each scene that has enough glass with something known behind it."""
    found = []
    for index in range(count):
        sample = scenes[index]
        behind = sample.disparity_background
        if behind is None:
            continue
        glass = (sample.glass > 0) & (sample.valid > 0) & (behind > 0)
        if int(glass.sum()) >= LEAST_PIXELS:
            found.append(float((1 - behind[glass] / sample.disparity[glass]).median()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=128, help="procedural ones, of 224x160 px")
    parser.add_argument("--rooms", type=Path, nargs="*", default=[], help="folders of rendered rooms")
    parser.add_argument("--output", type=Path, help="write the table as JSON")
    arguments = parser.parse_args()
    data = DataConfig(size=(160, 224))
    sets: dict[str, tuple[Indexed, int]] = {}
    for name, changes in (("procedural", {}), ("procedural, as deep as rooms", ROOMLIKE)):
        changed = replace(data, procedural=replace(data.procedural, **changes))
        sets[name] = held_out(changed.drawn(arguments.scenes)), arguments.scenes
    for folder in arguments.rooms:
        rooms = SceneFolder(folder, rig="quad")
        sets[f"rooms, {folder.name}"] = rooms, len(rooms)
    rows: list[dict[str, Any]] = []
    print(f"{'set':<32} {'scenes':>6}  " + "  ".join(f"{q:>3} %" for q in QUANTILES))
    for name, (scenes, count) in sets.items():
        found = shares(scenes, count)
        quantiles = {q: round(float(np.percentile(found, q)), 3) for q in QUANTILES}
        rows.append({"set": name, "scenes_with_glass": len(found), "quantiles": quantiles})
        print(f"{name:<32} {len(found):>6}  " + "  ".join(f"{value:5.2f}" for value in quantiles.values()))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
