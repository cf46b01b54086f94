"""Time and peak memory of one prediction by size, as a whole and within a memory: how large can images be?

    python -m benchmarks.high_resolution --output benchmarks/results/high_resolution.json
    python -m benchmarks.high_resolution --quick

Each row is a process of its own, whose peak resident memory is the system's account of it (ru_maxrss): Python, PyTorch,
weights and inputs included. Time is the processor's for the prediction alone, on one thread, which other work on the
machine disturbs less than the clock's; both are in the file. Inputs are noise with polarization: neither depends on
what they show. The forecast is what `crosspol.inference.costs` says beforehand, with what the process held then.

`--quality` measures what sizes do to the disparity: what enlarging a disparity costs, and on procedural scenes of two
sizes what plain prediction, smaller scales and coarse-to-fine leave as error, with the weights that ship.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.measuring import machine
from crosspol.commands.fitting import read_memory
from crosspol.data.inputs import StereoInputs
from crosspol.inference.backends import Refinement, TorchBackend
from crosspol.inference.costs import cost, held_bytes
from crosspol.inference.fitting import Fit
from crosspol.inference.scaling import enlarge_disparity
from crosspol.inference.tiling import Tiled
from crosspol.synthesis.procedural import ProceduralConfig, held_out
from crosspol.weights import load_network

GIB = 2**30
ROWS: tuple[dict[str, Any], ...] = (
    {"size": "640x480"},
    {"size": "1280x960"},
    {"size": "2448x2048"},
    {"size": "4000x3000"},
    {"size": "1280x960", "coarse_to_fine": True},
    {"size": "4000x3000", "coarse_to_fine": True},
    {"size": "2448x2048", "max_memory": "1500MiB"},
    {"size": "4000x3000", "max_memory": "3GiB"},
)
QUICK: tuple[dict[str, Any], ...] = ({"size": "128x96"}, {"size": "192x160", "coarse_to_fine": True})
BLUEPRINT: tuple[dict[str, Any], ...] = (
    {"size": "640x480", "weights": "blueprint", "iters": 4},
    {"size": "1280x960", "weights": "blueprint", "iters": 4, "max_memory": "2GiB"},
)


def noise(width: int, height: int, channels: int) -> StereoInputs:
    """A pair that says nothing, with polarization."""
    generator = torch.Generator().manual_seed(0)
    values = {}
    for side in ("left", "right"):
        values[side] = torch.rand(1, 3, height, width, generator=generator)
        values[f"pol_{side}"] = 0.2 * torch.rand(1, channels, height, width, generator=generator)
        values[f"valid_{side}"] = torch.ones(1, 1, height, width)
    return StereoInputs(**values)


def one(row: dict[str, Any]) -> dict[str, Any]:
    """Measure one row, in this process."""
    torch.set_num_threads(1)
    engine = TorchBackend(load_network(row.get("weights", "crosspol")), "cpu")
    width, height = map(int, row["size"].split("x"))
    inputs = noise(width, height, engine.config.polarization.channels)
    iters = row.get("iters", engine.config.iters)
    memory = read_memory(row["max_memory"]) if "max_memory" in row else None
    backend = Fit(max_memory=memory, coarse_to_fine=row.get("coarse_to_fine", False)).around(engine)
    if memory is None:
        bands, forecast = 1, held_bytes() + cost(engine.config, inputs, iters).bytes
    else:
        plan = Tiled(engine, memory).plan(inputs, iters)
        bands, forecast = max(len(plan.bands), 1), plan.bytes
    begin = time.perf_counter(), time.process_time()
    backend.run(inputs, Refinement(iters))
    seconds, processor = time.perf_counter() - begin[0], time.process_time() - begin[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "weights": "crosspol",
        "coarse_to_fine": False,
        "max_memory": None,
        **row,
        "iters": iters,
        "megapixels": width * height / 1e6,
        "bands": bands,
        "processor_seconds": processor,
        "wall_seconds": seconds,
        "peak_gib": peak / GIB,
        "forecast_gib": forecast / GIB,
    }


def in_a_process(row: dict[str, Any]) -> dict[str, Any]:
    """Measure one row in a process of its own, whose peak is then the row's."""
    command = [sys.executable, "-m", "benchmarks.high_resolution", "--one", json.dumps(row)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def quality(width: int, height: int, scenes: int, max_disparity: float) -> list[dict[str, Any]]:
    """Error on procedural scenes, px of the full size, outside of occlusions: means of the scenes, and their median."""
    engine = TorchBackend(load_network("crosspol"), "cpu")
    ways = {
        "plain": Fit(),
        "scale 0.5": Fit(scale=0.5),
        "scale 0.25": Fit(scale=0.25),
        "coarse to fine": Fit(coarse_to_fine=True),
    }
    channels = engine.config.polarization.channels
    size = (height, width)
    data = held_out(ProceduralConfig(size=size, length=scenes, pol_channels=channels, max_disparity=max_disparity))
    errors: dict[str, list[float]] = {name: [] for name in ways}
    for index in range(scenes):
        sample = data[index]
        seen = (sample.valid > 0) & (sample.occluded == 0)
        for name, fit in ways.items():
            output = fit.around(engine).run(sample.inputs.batched(), Refinement(engine.config.iters))
            errors[name].append(float((output.disparity[0] - sample.disparity).abs()[seen].mean()))
    return [
        {
            "size": f"{width}x{height}",
            "max_disparity": max_disparity,
            "scenes": scenes,
            "way": name,
            "epe_mean": statistics.mean(found),
            "epe_median": statistics.median(found),
        }
        for name, found in errors.items()
    ]


def enlarging(scenes: int) -> list[dict[str, Any]]:
    """What bringing a disparity back to 640x480 does to it: the truth is made small, and enlarged in three ways.

    flying: of the pixels within 5 px of a jump of more than 8 px, those more than 2 px off both surfaces and the truth.
    """
    size = (480, 640)
    data = held_out(ProceduralConfig(size=size, length=scenes))
    found: dict[tuple[float, str], list[tuple[float, float, float]]] = {}
    for index in range(scenes):
        sample = data[index]
        truth = sample.disparity[None]
        high, low = F.max_pool2d(truth, 11, 1, 5), -F.max_pool2d(-truth, 11, 1, 5)
        edge = high - low > 8
        seen = (sample.occluded == 0)[None]
        for scale in (0.5, 0.25):
            small = F.interpolate(truth, scale_factor=scale, mode="nearest-exact")
            ways = {
                "nearest": F.interpolate(small, size, mode="nearest-exact"),
                "bilinear": F.interpolate(small, size, mode="bilinear"),
                "guided": enlarge_disparity(small * scale, sample.left[None]) / scale,
            }
            for name, disparity in ways.items():
                error = (disparity - truth).abs()
                flying = edge & (disparity > low + 2) & (disparity < high - 2) & (error > 2)
                share = flying.sum() / edge.sum().clamp_min(1)
                row = float(error[seen].mean()), float((error[seen] > 1).float().mean()), float(share)
                found.setdefault((scale, name), []).append(row)
    return [
        {"scale": scale, "way": name, "scenes": scenes}
        | {
            key: statistics.mean(values)
            for key, values in zip(("epe", "bad_1", "flying"), zip(*rows, strict=True), strict=True)
        }
        for (scale, name), rows in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small sizes")
    parser.add_argument("--blueprint", action="store_true", help="also the preset blueprint, with 4 iterations")
    parser.add_argument("--quality", type=int, default=0, metavar="SCENES", help="also errors, at 640x480 and 1280x960")
    parser.add_argument("--no-rows", action="store_true", help="errors only")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help="write the table as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.one:
        print(json.dumps(one(json.loads(arguments.one))))
        return
    result: dict[str, Any] = {"machine": machine(), "rows": [], "enlarging": [], "quality": []}
    print(f"{result['machine']['device']}, one thread, torch {result['machine']['torch']}\n")
    print(
        f"{'weights':<10} {'size':>10} {'memory':>8} {'c-to-f':>6} {'bands':>5} {'iters':>5} {'CPU s':>7} "
        f"{'s/Mpx':>6} {'peak GiB':>8} {'forecast':>8}"
    )
    for row in (
        () if arguments.no_rows else QUICK if arguments.quick else ROWS + (BLUEPRINT if arguments.blueprint else ())
    ):
        found = in_a_process(row)
        result["rows"].append(found)
        print(
            f"{found['weights']:<10} {found['size']:>10} {found['max_memory'] or '-':>8} "
            f"{'yes' if found['coarse_to_fine'] else '-':>6} {found['bands']:>5} {found['iters']:>5} "
            f"{found['processor_seconds']:>7.1f} {found['processor_seconds'] / found['megapixels']:>6.2f} "
            f"{found['peak_gib']:>8.2f} {found['forecast_gib']:>8.2f}",
            flush=True,
        )
        _write(arguments.output, result)
    for row in enlarging(arguments.quality) if arguments.quality else ():
        result["enlarging"].append(row)
        print(
            f"enlarged from {row['scale']:<4} {row['way']:<9} EPE {row['epe']:.2f} px, bad-1 {row['bad_1']:.1%}, "
            f"flying {row['flying']:.1%}",
            flush=True,
        )
    for width, height in ((640, 480), (1280, 960)) if arguments.quality else ():
        for row in quality(width, height, arguments.quality, width / 8):
            result["quality"].append(row)
            print(
                f"{row['size']} up to {row['max_disparity']:.0f} px, {row['way']:<15} EPE {row['epe_mean']:.2f} px, "
                f"median of {row['scenes']} scenes {row['epe_median']:.2f}",
                flush=True,
            )
        _write(arguments.output, result)


def _write(path: Path | None, result: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
