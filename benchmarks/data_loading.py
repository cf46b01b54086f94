"""Does data loading keep up? Samples a second of one core, and the share of a training step spent waiting for them.

    python -m benchmarks.data_loading --output data_loading.json
    python -m benchmarks.data_loading --quick
    python -m benchmarks.data_loading --device cuda --size 320x256 --batch-size 8 --workers 1 2 4 8 12

The first table is of making samples alone, by how often a drawn scene is used (`data.replay`), over whole blocks. The
second is of real steps on the procedural stream, as `crosspol train` takes them, by workers and replay; the first
steps, in which workers start and kernels are chosen, are not counted. `samples.py` says what one core makes of every
other kind of data.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.measuring import machine
from crosspol.commands.flags import read_size
from crosspol.datasets.config import DataConfig
from crosspol.model import CrossPolConfig
from crosspol.training.config import MachineConfig, TrainConfig
from crosspol.training.launch import launch
from crosspol.training.precision import choose_precision
from crosspol.training.run_samples import run_samples
from crosspol.training.schedule import Place, Schedule
from crosspol.training.state import build_run
from crosspol.training.step import train_step
from crosspol.training.stream import batches, default_workers

WARMING_UP = 3


def making(config: TrainConfig, replays: Sequence[int], blocks: int) -> list[dict[str, Any]]:
    """Samples a second of one core, over whole blocks."""
    rows = []
    for replay in replays:
        data = replace(config.data, replay=replay)
        samples = run_samples(data, [data.size])
        count = blocks * data.buffer * replay
        _ = samples[Place(count, data.rig, data.size, count)]
        begin = time.perf_counter()
        for number in range(count):
            _ = samples[Place(number, data.rig, data.size, number)]
        seconds = (time.perf_counter() - begin) / count
        rows.append({"replay": replay, "seconds_per_sample": seconds, "samples_per_second": 1 / seconds})
    return rows


def waiting(config: TrainConfig, steps: int, workers: int, replay: int, device: str) -> dict[str, Any]:
    config = replace(config, data=replace(config.data, replay=replay))
    run = build_run(config, launch(config.machine, config.precision))
    schedule = Schedule(config)
    samples = run_samples(config.data, schedule.sizes)
    with TemporaryDirectory(prefix="crosspol-") as folder:
        if workers:
            samples.keep_in(Path(folder))
        stream = batches(samples, schedule.places, range(WARMING_UP + steps), workers=workers)
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
    return {
        "workers": workers,
        "replay": replay,
        "seconds_per_step": elapsed / steps,
        "samples_per_second": config.batch_size * steps / elapsed,
        "waiting_share": waited / elapsed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=32, help="better a multiple of a block's batches")
    parser.add_argument("--threads", type=int, default=1, help="of the process that trains")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--size", type=read_size, default=(96, 128), metavar="WxH", help="width and height, px")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--iters", type=int, default=4)
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16", "float16"))
    parser.add_argument("--workers", type=int, nargs="+", default=(0, 1))
    parser.add_argument("--replay", type=int, nargs="+", default=(1, 4, 8))
    parser.add_argument("--buffer", type=int, default=8, help="scenes of a block, few: the table is over whole blocks")
    parser.add_argument("--quick", action="store_true", help="small images, few steps")
    parser.add_argument("--output", type=Path, help="write the table as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    steps, size = (5, (64, 96)) if arguments.quick else (arguments.steps, tuple(arguments.size))
    config = TrainConfig(
        network=CrossPolConfig(stem_stride=2),
        data=DataConfig(size=size, buffer=arguments.buffer),
        machine=MachineConfig(accelerator=arguments.device), pretrained="none",
        batch_size=arguments.batch_size, iters=arguments.iters, precision=arguments.precision,
    )  # fmt: skip

    about = machine(arguments.device)
    precision = choose_precision(config.precision, arguments.device).precision
    what = f"batch {config.batch_size} of {size[0]}x{size[1]}, {config.iters} iterations, {precision}"
    print(f"{about['device']}, {about['threads']} threads, torch {about['torch']}; {what}")
    print(f"the default here is {default_workers(1)} workers\n")
    print(f"{'replay':>6} {'s/sample':>9} {'samples/s':>10}   (making alone, one core)")
    made = making(config, arguments.replay, 1 if arguments.quick else 3)
    for row in made:
        print(f"{row['replay']:>6} {row['seconds_per_sample']:>9.4f} {row['samples_per_second']:>10.1f}")
    print(f"\n{'workers':>7} {'replay':>6} {'s/step':>8} {'samples/s':>10} {'waiting':>8}")
    rows = []
    for workers, replay in product(arguments.workers, arguments.replay):
        row = waiting(config, steps, workers, replay, arguments.device)
        rows.append(row)
        print(
            f"{workers:>7} {replay:>6} {row['seconds_per_step']:>8.3f} {row['samples_per_second']:>10.2f} "
            f"{100 * row['waiting_share']:>7.1f}%"
        )
    if arguments.output is not None:
        content = {"machine": about, "what": what, "making": made, "rows": rows}
        arguments.output.write_text(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
