"""Presets under every backend against the official RAFT-Stereo network in PyTorch: time of one pair on a CPU.

    python -m benchmarks.backends --output benchmarks/results/backends.json
    python -m benchmarks.backends --quick

The preset ``raft-stereo`` at 24 iterations, without polarization, stands for the official network, as in presets.py.
`blueprint` and `crosspol` get polarization, each its own iterations. Everything that is compared runs in turn within a
round; ratios are medians of the ratios within a round. How far a backend's disparity is from PyTorch's is measured on
the pair that is timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import interleaved, machine, ratio
from crosspol.commands.flags import read_size
from crosspol.data.inputs import StereoInputs
from crosspol.inference.backends import Backend, Refinement, TorchBackend
from crosspol.inference.graph import Graph, example_tensors, rig_of
from crosspol.inference.graph_backend import Run
from crosspol.inference.onnx_backend import OnnxRuntimeBackend
from crosspol.inference.onnx_graph import export_onnx
from crosspol.inference.openvino_backend import OpenVinoBackend, load_openvino, runner
from crosspol.model import CrossPol, FusionConfig, StereoOutput, preset
from crosspol.weights import load_network

OFFICIAL = ("official RAFT-Stereo", "torch")


class OneGraph:
    """OpenVINO with all refinements in one graph, as exported files have them: what running in pieces costs."""

    def __init__(self, network: CrossPol, precision: str = "float32") -> None:
        self.network, self.precision = network, precision
        self.config = network.config
        self._ready: Run | None = None

    def run(self, inputs: StereoInputs, refinement: Refinement) -> StereoOutput:
        arrays = {name: tensor.numpy() for name, tensor in inputs.kwargs().items()}
        if self._ready is None:
            graph = Graph(rig_of(inputs, self.config), inputs.size, refinement.iters)
            model = export_onnx(self.network, graph)
            self._ready = runner(load_openvino(model, torch.get_num_threads(), self.precision))
        found = self._ready(arrays)
        disparity, use, moved = (
            torch.from_numpy(found[name]) for name in ("disparity", "polarization_use", "last_step")
        )
        return StereoOutput(disparity, (disparity,), use, moved)


BACKENDS: dict[str, Callable[[CrossPol], Backend]] = {
    "torch": lambda network: TorchBackend(network, "cpu"),
    "openvino": OpenVinoBackend,
    "openvino bfloat16": lambda network: OpenVinoBackend(network, "bfloat16"),
    "openvino int8": lambda network: OpenVinoBackend(network, "int8"),
    "torch bfloat16": lambda network: TorchBackend(deepcopy(network), "cpu", "bfloat16"),
    "onnxruntime": OnnxRuntimeBackend,
}


ONE_GRAPH: dict[str, Callable[[CrossPol], Backend]] = {
    "one graph": OneGraph,
    "one graph bfloat16": lambda network: OneGraph(network, "bfloat16"),
}
"""Not in use, and run where they are asked for."""
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


@dataclass(frozen=True)
class Row:
    """A network under a backend."""

    network: str
    backend: str
    engine: Backend
    inputs: StereoInputs

    def __call__(self) -> torch.Tensor:
        return self.engine.run(self.inputs, Refinement(self.engine.config.iters)).disparity


def networks() -> dict[str, CrossPol]:
    """Return what is compared: the weights that ship, and random ones, which take as long, of the official network."""
    official = CrossPol(preset("raft-stereo", fusion=FusionConfig(kind="none"))).eval()
    return {OFFICIAL[0]: official} | {name: load_network(name) for name in ("blueprint", "crosspol")}


def rows(size: tuple[int, int], backends: list[str], only: list[str]) -> list[Row]:
    """Make everything ready, which exports each network once a backend."""
    found = []
    for name, network in networks().items():
        rig = "quad" if network.config.fusion.sites else "none"
        inputs = StereoInputs(**example_tensors(Graph(rig, size, 1), network.config))
        for backend in backends:
            wanted = not only or f"{name}/{backend}" in only or (name, backend) == OFFICIAL
            if wanted and (network.config.record.stride == 8 or not backend.startswith("onnx")):
                row = Row(name, backend, (BACKENDS | ONE_GRAPH)[backend](network), inputs)
                print(f"preparing {name} under {backend}", flush=True)
                row()
                found.append(row)
    return found


@torch.inference_mode()
def compare(
    size: tuple[int, int], rounds: int, backends: list[str], only: list[str], clock: str
) -> list[dict[str, Any]]:
    """Time all of them."""
    ready = rows(size, backends, only)
    work = {f"{row.network}/{row.backend}": row for row in ready}
    seconds = interleaved(work, rounds, clock=CLOCKS[clock])
    official, table = "/".join(OFFICIAL), []
    exact = {row.network: row() for row in ready if row.backend == "torch"}
    for row in ready:
        key = f"{row.network}/{row.backend}"
        difference = (row() - exact[row.network]).abs() if row.network in exact else None
        table.append(
            {
                "network": row.network,
                "backend": row.backend,
                "size": f"{size[1]}x{size[0]}",
                "iters": row.engine.config.iters,
                "seconds": statistics.median(seconds[key]),
                "times_faster_than_official": ratio(seconds, official, key),
                "times_faster_than_torch": (
                    ratio(seconds, f"{row.network}/torch", key) if row.network in exact else None
                ),
                "largest_difference_px": None if difference is None else float(difference.max()),
                "mean_difference_px": None if difference is None else float(difference.mean()),
            }
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", default="640x480", help="WIDTHxHEIGHT")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backends", nargs="+", choices=[*BACKENDS, *ONE_GRAPH], default=list(BACKENDS))
    parser.add_argument("--only", nargs="+", default=[], help="NETWORK/BACKEND, beside the official network")
    parser.add_argument(
        "--clock", choices=list(CLOCKS), default="wall", help="processor, for one thread on a machine that is not quiet"
    )
    parser.add_argument("--quick", action="store_true", help="128x96 and one round")
    parser.add_argument("--output", type=Path, help="write the table as JSON")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    size, rounds = ((96, 128), 1) if arguments.quick else (read_size(arguments.size), arguments.rounds)
    about = machine() | {package: version(package) for package in ("openvino", "onnxruntime")}
    print(f"{about['device']}, {about['threads']} threads, torch {about['torch']}; medians of {rounds} rounds\n")
    table = compare(size, rounds, arguments.backends, arguments.only, arguments.clock)
    print(
        f"\n{'network':<22} {'backend':<18} {'iters':>5} {'seconds':>8} {'times faster than':>18} {'px from torch':>14}"
    )
    print(f"{'':<22} {'':<18} {'':>5} {'':>8} {'official':>10} {'torch':>7} {'largest':>14}")
    for row in table:
        torch_ratio, worst = row["times_faster_than_torch"], row["largest_difference_px"]
        print(
            f"{row['network']:<22} {row['backend']:<18} {row['iters']:>5} {row['seconds']:>8.3f} "
            f"{row['times_faster_than_official']:>10.2f} {'' if torch_ratio is None else format(torch_ratio, '7.2f')} "
            f"{'' if worst is None else format(worst, '14.5f')}"
        )
    if arguments.output is not None:
        result = {"machine": about, "clock": arguments.clock, "rounds": rounds, "rows": table}
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
