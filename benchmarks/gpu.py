"""Pairs and training steps on a GPU: each network by precision and memory layout, and `crosspol`'s step by batch.

    python -m benchmarks.gpu --output benchmarks/results/gpu.json
    python -m benchmarks.gpu --device cpu --quick    # to see it run

The first table is the time of one pair, batch 1, with the preset's own refinements and random weights, until its
disparity is in the GPU's memory. "plain" is the account of the official RAFT-Stereo in
`tests/model/raft_stereo_reference.py`, in float32. All cases take turns, one of each a round; ratios are medians of
the ratios within a round. "off float32" is how far the disparity is from that of the same network in float32.

The second is a step of `crosspol train` (forward, backward, clipping, AdamW, the figures of its log) on one batch that
lies in the GPU's memory: what the scenes cost is not in it. Each case runs alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tests.model.raft_stereo_reference import official_state, reference_raft_stereo
from torch import Tensor

from benchmarks.measuring import interleaved, machine, peak_bytes, ratio
from crosspol import CrossPol
from crosspol.data.inputs import StereoInputs
from crosspol.data.order import endless
from crosspol.data.sample import StereoBatch
from crosspol.inference.backends import Precision, Refinement, TorchBackend
from crosspol.synthesis.procedural import ProceduralStereo
from crosspol.training.config import TrainConfig, train_preset
from crosspol.training.launch import fastest_convolutions, launch
from crosspol.training.state import build_run
from crosspol.training.step import train_step
from crosspol.training.stream import batches, in_order

NETWORKS = ("raft-stereo", "raft-stereo-realtime", "blueprint", "crosspol")
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
REFERENCE = "plain"
# Scenes that a batch of any size repeats: what they show does not change a step's time.
DRAWN = 8


def pair(width: int, height: int, channels: int) -> StereoInputs:
    """A pair of noise, with polarization of so many channels."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 3, height, width)
    left, right = (torch.randint(0, 256, shape, generator=generator) / 255 for _ in range(2))
    pol = torch.rand(2, channels, height, width, generator=generator) / 2
    known = torch.ones(1, 1, height, width)
    return StereoInputs(
        left=left, right=right, pol_left=pol[:1], pol_right=pol[1:], valid_left=known, valid_right=known
    )


def latencies(device: str, size: tuple[int, int], rounds: int) -> list[dict[str, Any]]:
    """Time a pair by network, precision and layout."""
    width, height = size
    work: dict[str, Callable[[], Tensor]] = {}
    state = {name: tensor.to(device) for name, tensor in official_state(False, seed=1).items()}
    first = pair(width, height, 1)
    left, right = (255 * first.left).to(device), (255 * first.right).to(device)
    plain = torch.inference_mode()(reference_raft_stereo)
    work[REFERENCE] = lambda: plain(state, left, right, 24, False)
    networks: dict[str, str] = {}
    for name in NETWORKS:
        torch.manual_seed(0)
        base = CrossPol.from_preset(name)
        inputs = pair(width, height, base.config.polarization.channels).to(device)
        # On a CPU float16 is emulated: half an hour for nothing.
        for precision in PRECISIONS if device == "cuda" else ("float32",):
            for last in (False, True):
                net = CrossPol(base.config)
                net.load_state_dict(base.state_dict())
                backend = TorchBackend(net, device, precision, channels_last=last)
                case = f"{name} {precision}{' channels last' if last else ''}"
                refinement = Refinement(iters=base.config.iters)
                work[case] = lambda b=backend, i=inputs, r=refinement: b.run(i, r).disparity  # type: ignore[misc]
                networks[case] = name
    seconds = interleaved(work, rounds, device)
    exact = {name: work[f"{name} float32"]() for name in NETWORKS}
    rows = []
    for case, times in seconds.items():
        row: dict[str, Any] = {
            "case": case,
            "milliseconds": 1000 * statistics.median(times),
            "fastest": 1000 * min(times),
            "slowest": 1000 * max(times),
            "speedup": ratio(seconds, REFERENCE, case),
            "peak_mib": peak_bytes(work[case], device) / 2**20,
        }
        if case != REFERENCE:
            off = (work[case]() - exact[networks[case]]).abs()
            row |= {"off_float32_median_px": off.median().item(), "off_float32_largest_px": off.max().item()}
        rows.append(row)
    return rows


def repeated(batch: StereoBatch, times: int) -> StereoBatch:
    """The samples of a batch several times over."""
    tensors = {name: torch.cat([tensor] * times) for name, tensor in batch.tensors().items()}
    return replace(batch, **tensors, names=batch.names * times)  # type: ignore[arg-type]


def steps(config: TrainConfig, batch_sizes: list[int], rounds: int, device: str) -> list[dict[str, Any]]:
    """Time a training step by batch and layout."""
    samples = ProceduralStereo(config.data.drawn(DRAWN))
    ((drawn,),) = batches(samples, in_order(endless, DRAWN), range(1))
    rows = []
    for size in batch_sizes:
        batch = repeated(drawn, -(-size // DRAWN)).to(device)
        for last in (False, True):
            changed = replace(config, batch_size=size, machine=replace(config.machine, channels_last=last))
            run = build_run(changed, launch(changed.machine, changed.precision))
            step = partial(train_step, run, [batch])
            with fastest_convolutions(torch.device(device)):
                seconds = interleaved({"step": step}, rounds, device)["step"]
            rows.append(
                {
                    "batch_size": size,
                    "channels_last": last,
                    "seconds": statistics.median(seconds),
                    "samples_per_second": len(batch.left) / statistics.median(seconds),
                    "peak_mib": peak_bytes(step, device) / 2**20,
                }
            )
            print("  {batch_size:>5} {channels_last!s:<6} {seconds:.4f} s {samples_per_second:>7.1f} samples/s "
                  "{peak_mib:>7.0f} MiB".format(**rows[-1]), flush=True)  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="small images, few rounds")
    parser.add_argument("--output", type=Path, help="write the tables as JSON")
    arguments = parser.parse_args()
    quick, rounds = arguments.quick, 1 if arguments.quick else arguments.rounds
    config = train_preset("crosspol-cpu")
    config = replace(
        config,
        data=replace(config.data, size=(64, 96) if quick else (256, 384), rigs=()),
        machine=replace(config.machine, accelerator=arguments.device),
        precision="auto",
        stages=(),
    )
    about = machine(arguments.device)
    content: dict[str, Any] = {"machine": about, "rounds": rounds}
    print(f"{about['device']}, torch {about['torch']}", flush=True)
    begin = time.perf_counter()
    height, width = config.data.size
    print(f"a training step of crosspol, {width}x{height}, quad, {config.iters} refinements")
    content["training"] = {"size": [height, width], "iters": config.iters}
    content["training"]["rows"] = steps(config, [8] if quick else [8, 32, 64], rounds, arguments.device)
    size = (96, 64) if quick else (640, 480)
    content["latency"] = {"size": list(size), "rows": latencies(arguments.device, size, rounds)}
    print(f"a pair, {size[0]}x{size[1]}, the preset's refinements, batch 1")
    for row in content["latency"]["rows"]:
        off = row.get("off_float32_median_px")
        print(
            f"  {row['case']:<45} {row['milliseconds']:>8.2f} ms  {row['speedup']:>6.2f}x  {row['peak_mib']:>7.0f} MiB"
            + ("" if off is None else f"  off by {off:.4f} px")
        )
    print(f"took {time.perf_counter() - begin:.0f} s")
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
