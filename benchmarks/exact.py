"""Exact RAFT-Stereo through engines against a plain account of the official code: same weights, same disparity.

    python -m benchmarks.exact --iters 12 --output benchmarks/results/exact.json

The plain one is `tests/model/raft_stereo_reference.py`. One thread, in turns; the clock counts what this process
computed. Ratios are medians of the ratios within a round; above 1: the engine is faster than the plain one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tests.model.raft_stereo_reference import reference_raft_stereo
from torch import Tensor

from benchmarks.measuring import interleaved, machine, ratio
from benchmarks.network import official, views
from crosspol.data.inputs import StereoInputs
from crosspol.inference.backends import Backend, Refinement, TorchBackend
from crosspol.inference.openvino_backend import OpenVinoBackend

PLAIN = "plain"


@torch.inference_mode()
def compare(width: int, height: int, iters: int, rounds: int) -> list[dict[str, Any]]:
    """Time the plain network and ours through each engine."""
    net, state = official(realtime=False)
    left, right = views(width, height)
    inputs = StereoInputs(left=left, right=right)
    engines: dict[str, Backend] = {"openvino": OpenVinoBackend(net), "torch": TorchBackend(net, "cpu")}
    work: dict[str, Callable[[], Tensor]] = {
        PLAIN: lambda: reference_raft_stereo(state, 255 * left, 255 * right, iters, False),
        **{
            name: lambda engine=engine: engine.run(inputs, Refinement(iters)).disparity
            for name, engine in engines.items()
        },
    }
    found = {name: function() for name, function in work.items()}
    seconds = interleaved(work, rounds, clock=time.process_time)
    return [
        {
            "engine": name,
            "size": f"{left.shape[3]}x{left.shape[2]}",
            "iters": iters,
            "seconds": statistics.median(seconds[name]),
            "times_faster_than_plain": ratio(seconds, PLAIN, name),
            "largest_difference_px": (found[name] - found[PLAIN]).abs().max().item(),
        }
        for name in work
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iters", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path, help="write the table as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = compare(320, 240, arguments.iters, arguments.rounds)
    for row in rows:
        print(json.dumps(row), flush=True)
    if arguments.output is not None:
        result = {"machine": machine(), "clock": "processor", "rounds": arguments.rounds, "rows": rows}
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
