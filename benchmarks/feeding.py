"""What a GPU is handed: how evenly new scenes come, and how many bytes a batch takes on its way.

    python -m benchmarks.feeding --output benchmarks/results/feeding.json
    python -m benchmarks.feeding --quick

The plan is `plans/training/gpu.yaml`: its rigs, and for each of its sizes its batch, `data.replay` and `data.buffer`.
"blocks" is the order that training had until it was measured on a GPU: the scenes of a block, all of them `replay`
times, then the next block.

The first table counts the scenes of a batch that nobody has drawn yet, over the batches that follow the start. "waits"
is a model, not a measurement: the share of time that a GPU stands still whose step takes as long as the workers need
for a batch in the mean. Workers make batches in turns, each `prefetch` ahead; a use of a scene costs 1, a new one
`--draw` more.

The second is of real samples: bytes of a batch as the training sees it and as it is handed over, and seconds of one
core: drawing a scene, using one, stacking and handing over (into memory that processes share), and copying, as pinning
does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measuring import interleaved, machine
from crosspol.data.packing import pack_batch
from crosspol.data.sample import stack
from crosspol.training.config import TrainConfig, train_preset
from crosspol.training.config_file import read_config
from crosspol.training.replay import Replayed, Turns
from crosspol.training.run_samples import run_samples
from crosspol.training.schedule import Schedule

Order = Callable[[int], int]
"""Place of a rig's stream to its scene."""


def in_blocks(index: int, replay: int, buffer: int, seed: int) -> int:
    """The scene of a place in the order that training had before."""
    block, rest = divmod(index, buffer * replay)
    turn, nth = divmod(rest, buffer)
    return block * buffer + int(_permutation(buffer, seed, block, turn)[nth])


@lru_cache(maxsize=64)
def _permutation(length: int, seed: int, block: int, turn: int) -> np.ndarray:
    return np.random.default_rng([seed, block, turn]).permutation(length)


def spread(index: int, turns: Turns) -> int:
    """The scene of a place in the order that training has."""
    return turns[index].scene


def new_scenes(config: TrainConfig, steps: int, order: Callable[[int, int], Order]) -> Iterator[int]:
    """Count the scenes of every batch that no batch before it has used.

    Args:
        config: of a run of one size.
        steps: how many batches.
        order: of a rig, by how many scenes it may keep and its number.
    """
    turns = config.data.turns
    rigs = list(dict.fromkeys(turns))
    scene = {
        rig: order(round(config.data.buffer * turns.count(rig) / len(turns)), number) for number, rig in enumerate(rigs)
    }
    drawn: dict[str, set[int]] = {rig: set() for rig in rigs}
    schedule = Schedule(config)
    for step in range(steps):
        used = {scene[place.rig](place.number) for place in schedule.places(step)}
        known = drawn[turns[step % len(turns)]]
        yield len(used - known)
        known |= used


def waiting_share(work: list[float], workers: int, prefetch: int) -> float:
    """The share of time that a GPU waits, whose step takes as long as the workers need for a batch in the mean.

    Args:
        work: of each batch, any unit; the first round of the workers is not counted.
        workers: each makes every so manieth batch.
        prefetch: batches that each may have ready.
    """
    step = statistics.mean(work) / workers
    ready, taken = [0.0] * workers, [0.0]
    waited, begin, now = 0.0, 0.0, 0.0
    ahead = workers * prefetch
    for index, seconds in enumerate(work):
        free = taken[index - ahead] if index >= ahead else 0.0
        ready[index % workers] = max(ready[index % workers], free) + seconds
        if index == ahead:
            waited, begin = 0.0, now
        waited += max(0.0, ready[index % workers] - now)
        now = max(now, ready[index % workers])
        taken.append(now)
        now += step
    return waited / (now - begin)


def evenness(config: TrainConfig, steps: int, draw: float) -> list[dict[str, Any]]:
    """The first table, for one size."""
    data = config.data
    orders: dict[str, Callable[[int, int], Order]] = {
        "blocks": lambda buffer, number: partial(in_blocks, replay=data.replay, buffer=buffer, seed=number),
        "spread": lambda buffer, number: partial(spread, turns=Turns(data.replay, buffer, number)),
    }
    # Until as many places have passed as all kept scenes have uses.
    start = data.replay * data.buffer // config.batch_size
    rows = []
    for name, order in orders.items():
        new = list(new_scenes(config, start + steps, order))
        settled = new[start:]
        work = [draw * count + config.batch_size for count in settled]
        rows.append(
            {
                "order": name,
                "size": list(data.size),
                "batch_size": config.batch_size,
                "mean": statistics.mean(settled),
                "largest": max(settled),
                "largest_of_10_steps": max(sum(settled[at : at + 10]) / 10 for at in range(len(settled) - 9)),
                "first_10_steps": sum(new[:10]) / 10,
                "waits": waiting_share(work, config.machine.workers or 1, config.machine.prefetch),
            }
        )
    return rows


def handing_over(config: TrainConfig, count: int, rounds: int) -> dict[str, Any]:
    """The second table, for one size: of `count` samples of a quad rig."""
    data = replace(config.data, rigs=("quad",), buffer=count)
    stream = run_samples(data, [data.size]).streams["quad", data.size].samples
    assert isinstance(stream, Replayed)
    scenes = [stream.draw(number) for number in range(count)]
    samples = [stream.use(scene, np.random.default_rng(0)) for scene in scenes]
    batch = stack(samples)
    packed = pack_batch(batch)
    work: dict[str, Callable[[], Any]] = {
        "draw": lambda: [stream.draw(number) for number in range(count)],
        "use": lambda: [stream.use(scene, np.random.default_rng(0)) for scene in scenes],
        "hand over": lambda: _shared(stack(samples).tensors()),
        "hand over packed": lambda: _shared(pack_batch(stack(samples)).tensors),
        "copy": lambda: [tensor.clone() for tensor in batch.tensors().values()],
        "copy packed": lambda: [tensor.clone() for tensor in packed.tensors.values()],
    }
    seconds = interleaved(work, rounds, clock=time.process_time)
    again = packed.to("cpu").tensors()
    whole, small, pixels = _bytes(batch.tensors()), _bytes(packed.tensors), batch.left[:, 0].numel()
    return {
        "size": list(data.size),
        "batch_size": config.batch_size,
        "bytes_per_pixel": whole / pixels,
        "bytes_per_pixel_packed": small / pixels,
        "batch_mb": whole / count * config.batch_size / 1e6,
        "batch_mb_packed": small / count * config.batch_size / 1e6,
        "the_same_to_the_bit": all(torch.equal(again[name], tensor) for name, tensor in batch.tensors().items()),
        "ms_per_sample": {name: 1000 * statistics.median(times) / count for name, times in seconds.items()},
    }


def _shared(tensors: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.share_memory_() for tensor in tensors.values()]


def _bytes(tensors: dict[str, torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", type=Path, default=Path(__file__).parents[1] / "plans" / "training" / "gpu.yaml")
    parser.add_argument("--steps", type=int, default=2000, help="batches that are counted after the start")
    parser.add_argument("--draw", type=float, default=2.0, help="what a new scene costs, in uses of a scene")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="few steps, few samples")
    parser.add_argument("--output", type=Path, help="write the tables as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    steps, count, rounds = (200, 2, 1) if arguments.quick else (arguments.steps, 8, arguments.rounds)
    plan = read_config(arguments.plan, train_preset("crosspol-cpu"))
    sizes = [(stage.size, stage.batch_size) for stage in plan.stages] + [(plan.data.size, plan.batch_size)]
    content: dict[str, Any] = {"machine": machine(), "steps": steps, "draw": arguments.draw, "new": [], "bytes": []}
    print(f"new scenes a batch ({arguments.plan.name}: replay {plan.data.replay}, buffer {plan.data.buffer})")
    print(f"{'batch':>14} {'order':<7} {'mean':>6} {'largest':>8} {'of 10':>6} {'first 10':>9} {'waits':>6}")
    for size, batch_size in sizes:
        config = replace(plan, data=replace(plan.data, size=size), batch_size=batch_size, stages=(), num_steps=10**9)
        what = f"{batch_size} of {size[1]}x{size[0]}"
        for row in evenness(config, steps, arguments.draw):
            content["new"].append(row)
            print(
                f"{what:>14} {row['order']:<7} {row['mean']:>6.1f} {row['largest']:>8} "
                f"{row['largest_of_10_steps']:>6.1f} {row['first_10_steps']:>9.1f} {row['waits']:>6.2f}"
            )
        content["bytes"].append(handing_over(config, count, rounds))
    print("\nhanding a batch over, quad rig, three channels")
    for row in content["bytes"]:
        print("  {batch_size} of {size}: {batch_mb:.0f} MB, packed {batch_mb_packed:.0f} MB "
              "({bytes_per_pixel:.0f} and {bytes_per_pixel_packed:.0f} bytes a pixel), "
              "the same to the bit: {the_same_to_the_bit}".format(**row))  # fmt: skip
        print("    ms a sample: " + ", ".join(f"{name} {value:.2f}" for name, value in row["ms_per_sample"].items()))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
