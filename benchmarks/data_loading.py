"""Does data loading keep up? The share of a training step spent waiting for samples, by number of workers.

    python benchmarks/data_loading.py --output data_loading.json
    python benchmarks/data_loading.py --quick
    python benchmarks/data_loading.py --device cuda --size 256 320 --batch-size 8 --workers 1 2 4 8 12

Real steps on the procedural stream, as `crosspol train` takes them; the first ones, in which workers start and kernels
are chosen, are not counted. The line before the table says what one core needs to make a sample; `samples.py` says the
same of every other kind of data.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measuring import machine

from crosspol.data.procedural import ProceduralStereo
from crosspol.training.config import MachineConfig, TrainConfig
from crosspol.training.data_config import DataConfig
from crosspol.training.launch import launch
from crosspol.training.loop import _build
from crosspol.training.step import train_step
from crosspol.training.stream import batches, default_workers, endless

WARMING_UP = 3


def seconds_per_sample(config: TrainConfig, count: int) -> float:
    samples = ProceduralStereo(config.data)
    _ = samples[0]
    begin = time.perf_counter()
    for index in range(1, count + 1):
        _ = samples[index]
    return (time.perf_counter() - begin) / count


def waiting(config: TrainConfig, steps: int, workers: int, device: str) -> dict[str, Any]:
    run = _build(config, launch(config.machine, config.precision), None, lambda line: None)
    samples = ProceduralStereo(replace(config.data, length=sys.maxsize))
    stream = batches(samples, endless, config.batch_size, WARMING_UP + steps, workers=workers)
    waited = 0.0
    begin = time.perf_counter()
    for step in range(WARMING_UP + steps):
        if step == WARMING_UP:
            begin, waited = time.perf_counter(), 0.0
        asked = time.perf_counter()
        parts = next(stream)
        waited += time.perf_counter() - asked
        train_step(run, parts)
        if device != "cpu":
            torch.cuda.synchronize()
    elapsed = time.perf_counter() - begin
    stream.close()
    return {"workers": workers, "seconds_per_step": elapsed / steps, "waiting_share": waited / elapsed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1, help="of the process that trains")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--size", type=int, nargs=2, default=(128, 192), help="height and width, px")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--iters", type=int, default=8)
    parser.add_argument("--precision", default="bfloat16", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--workers", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--quick", action="store_true", help="small pictures, few steps")
    parser.add_argument("--output", type=Path, help="write the table as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    steps, size = (5, (64, 96)) if arguments.quick else (arguments.steps, tuple(arguments.size))
    config = TrainConfig(
        data=DataConfig(size=size), machine=MachineConfig(accelerator=arguments.device), pretrained="none",
        batch_size=arguments.batch_size, iters=arguments.iters, precision=arguments.precision,
    )  # fmt: skip

    about = machine(arguments.device)
    what = f"batch {config.batch_size} of {size[0]}x{size[1]}, {config.iters} refinements, {config.precision}"
    print(f"{about['device']}, {about['threads']} threads, torch {about['torch']}; {what}")
    making = seconds_per_sample(config, steps)
    print(f"one core makes a sample in {making:.3f} s; the default here is {default_workers(1)} workers\n")
    print(f"{'workers':>7} {'s/step':>8} {'waiting':>8}")
    rows = []
    for workers in arguments.workers:
        row = waiting(config, steps, workers, arguments.device)
        rows.append(row)
        print(f"{row['workers']:>7} {row['seconds_per_step']:>8.3f} {100 * row['waiting_share']:>7.1f}%")
    if arguments.output is not None:
        content = {"machine": about, "what": what, "seconds_per_sample": making, "rows": rows}
        arguments.output.write_text(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
