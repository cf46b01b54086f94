"""Whether a network is faster on a CPU with a pixel's channels beside one another (channels_last), preset by preset.

    python -m benchmarks.layout --output benchmarks/results/layout.json
    python -m benchmarks.layout --quick

Both layouts of the same random weights run in turn; the clock counts what this process computed, which in one thread is
the time on a quiet machine. Ratios are medians of the ratios within a round; above 1: channels_last is faster. Every
preset makes its own iterations, but at most six: more of the same loop.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring import interleaved, machine, ratio
from crosspol.data.inputs import StereoInputs
from crosspol.inference.backends import Precision, Refinement, TorchBackend
from crosspol.inference.graph import Graph, example_tensors
from crosspol.model import CrossPol
from crosspol.model.config import PRESETS
from crosspol.training.precision import processor_computes_bfloat16

MOST_ITERATIONS = 6
CHANNELS_LAST = "channels_last"


def predict(engine: TorchBackend, inputs: StereoInputs, iters: int) -> Tensor:
    return engine.run(inputs, Refinement(iters)).disparity


def compare(preset: str, precision: Precision, width: int, height: int, rounds: int) -> dict[str, Any]:
    """Time one preset in both layouts."""
    torch.manual_seed(0)
    network = CrossPol.from_preset(preset)
    iters = min(network.config.iters, MOST_ITERATIONS)
    inputs = StereoInputs(**example_tensors(Graph("quad", (height, width), 1), network.config))
    work: dict[str, Callable[[], Tensor]] = {
        name: partial(predict, TorchBackend(copy.deepcopy(network), "cpu", precision, layout), inputs, iters)
        for name, layout in (("contiguous", False), (CHANNELS_LAST, True))
    }
    difference = (work["contiguous"]() - work[CHANNELS_LAST]()).abs().max().item()
    seconds = interleaved(work, rounds, clock=time.process_time)
    return {
        "network": preset,
        "precision": precision,
        "size": f"{width}x{height}",
        "iters": iters,
        "contiguous_s": statistics.median(seconds["contiguous"]),
        "channels_last_s": statistics.median(seconds[CHANNELS_LAST]),
        "speedup": ratio(seconds, "contiguous", CHANNELS_LAST),
        "difference_px": difference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="128x96 and two rounds")
    parser.add_argument("--output", type=Path, help="write the table as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sizes, rounds = (((128, 96),), 2) if arguments.quick else (((320, 240), (640, 480)), arguments.rounds)
    precisions: tuple[Precision, ...] = ("float32", "bfloat16") if processor_computes_bfloat16() else ("float32",)
    rows = []
    for width, height in sizes:
        for preset in PRESETS:
            for precision in precisions:
                if width > 320 and preset != "crosspol":
                    continue  # the large networks take minutes there
                rows.append(compare(preset, precision, width, height, rounds))
                print(json.dumps(rows[-1]), flush=True)
    if arguments.output is not None:
        result = {"machine": machine(), "clock": "process_time", "rounds": rounds, "rows": rows}
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
