"""A training step against the same step in plain PyTorch, and what activation checkpointing saves.

    python -m benchmarks.training_step --output training_step.json
    python -m benchmarks.training_step --quick
    python -m benchmarks.training_step --device cuda --size 320x256 --batch-size 8

ours     crosspol.training.step.train_step: Fabric, sums over processes, log figures, guards against non-finite values
plain    forward, loss, backward, clip, AdamW, learning rate: nothing else; the same network, batch and arithmetic

The first table is the time of a step, interleaved, one of each a round; ratios are medians of the ratios within a
round. The second is the same of our step in float32 and in bfloat16, which is worth it only where the hardware computes
it. The third is the peak memory and time of forward and backward by number of iterations, with every activation
kept and with checkpointing through the refinement loop. Memory is what PyTorch held at once above what it held before.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import interleaved, machine, peak_bytes, ratio
from crosspol import CrossPol, sequence_loss
from crosspol.commands.flags import read_size
from crosspol.data.order import endless
from crosspol.data.sample import StereoBatch
from crosspol.datasets.config import DataConfig
from crosspol.synthesis.procedural import ProceduralStereo
from crosspol.training.config import MachineConfig, TrainConfig
from crosspol.training.launch import launch
from crosspol.training.optimization import one_cycle, parameter_groups
from crosspol.training.precision import choose_precision
from crosspol.training.state import build_run
from crosspol.training.step import train_step
from crosspol.training.stream import batches, in_order


def one_batch(config: TrainConfig, device: str) -> StereoBatch:
    samples = ProceduralStereo(config.data.drawn(config.batch_size))
    (parts,) = batches(samples, in_order(endless, config.batch_size), range(1))
    return parts[0].to(device)


def loss_of(net: Any, batch: StereoBatch, config: TrainConfig) -> torch.Tensor:
    with torch.autocast(batch.left.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        out = net(**batch.inputs.kwargs(), iters=config.iters)
    return sequence_loss(out.predictions, batch.disparity, batch.valid, batch.glass, batch.pol_left * batch.valid_left)


def backward(net: CrossPol, batch: StereoBatch, config: TrainConfig) -> None:
    loss_of(net, batch, config).backward()


def plain_step(net: CrossPol, config: TrainConfig, batch: StereoBatch) -> Callable[[], None]:
    """The step as one would write it on a blackboard."""
    net = net.train()
    groups = parameter_groups(net, config.lr, config.pol_lr_mult, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, eps=config.adam_eps)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: one_cycle(step, config.num_steps))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of(net, batch, config).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), config.gradient_clip)
        optimizer.step()
        schedule.step()

    return step


def throughput(config: TrainConfig, rounds: int, device: str) -> list[dict[str, Any]]:
    batch = one_batch(config, device)
    run = build_run(config, launch(config.machine, config.precision))
    steps = {"ours": lambda: train_step(run, [batch]), "plain": plain_step(copy.deepcopy(run.net), config, batch)}
    seconds = interleaved(steps, rounds, device)
    return [
        {
            "step": name,
            "seconds": statistics.median(seconds[name]),
            "samples_per_second": config.batch_size / statistics.median(seconds[name]),
            "times_plain": ratio(seconds, name, "plain"),
        }
        for name in steps
    ]


def precisions(config: TrainConfig, rounds: int, device: str) -> list[dict[str, Any]]:
    batch = one_batch(config, device)
    steps: dict[str, Callable[[], Any]] = {}
    for name in ("float32", "bfloat16"):
        run = build_run(config, launch(config.machine, name))
        steps[name] = partial(train_step, run, [batch])
    seconds = interleaved(steps, rounds, device)
    return [
        {
            "precision": name,
            "seconds": statistics.median(seconds[name]),
            "times_float32": ratio(seconds, name, "float32"),
        }
        for name in steps
    ]


def memory(config: TrainConfig, iterations: tuple[int, ...], device: str) -> list[dict[str, Any]]:
    batch = one_batch(config, device)
    rows = []
    for iters in iterations:
        changed = replace(config, iters=iters)
        work = {}
        for name in ("all kept", "checkpointed"):
            net = CrossPol(config.network).to(device).train()
            forward = partial(net, checkpoint_activations=True) if name == "checkpointed" else net
            work[name] = partial(backward, forward, batch, changed)
        seconds = interleaved(work, 1, device)
        peaks = {name: peak_bytes(function, device) for name, function in work.items()}
        for name in work:
            rows.append(
                {
                    "iters": iters,
                    "activations": name,
                    "peak_mib": peaks[name] / 2**20,
                    "memory_ratio": peaks[name] / peaks["all kept"],
                    "time_ratio": ratio(seconds, name, "all kept"),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--size", type=read_size, default=(96, 160), metavar="WxH", help="width and height, px")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--iters", type=int, default=8, help="iterations in the first table")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--quick", action="store_true", help="small images, few rounds")
    parser.add_argument("--output", type=Path, help="write the tables as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rounds, size = (2, (64, 96)) if arguments.quick else (arguments.rounds, tuple(arguments.size))
    config = TrainConfig(
        data=DataConfig(size=size), machine=MachineConfig(accelerator=arguments.device), pretrained="none",
        batch_size=arguments.batch_size, iters=arguments.iters, precision=arguments.precision,
    )  # fmt: skip

    about = machine(arguments.device)
    what = f"batch {config.batch_size} of {size[0]}x{size[1]}, {config.precision}"
    print(f"{about['device']}, {about['threads']} threads, torch {about['torch']}; {what}\n")
    steps = throughput(config, rounds, arguments.device)
    print(f"{'step':<6} {'seconds':>8} {'samples/s':>10} {'x plain':>8}   ({config.iters} iterations)")
    for row in steps:
        print(f"{row['step']:<6} {row['seconds']:>8.3f} {row['samples_per_second']:>10.2f} {row['times_plain']:>8.3f}")
    formats = precisions(config, rounds, arguments.device)
    chosen = choose_precision("auto", arguments.device)
    print(f"\n{'precision':<10} {'seconds':>8} {'x float32':>10}   (auto: {chosen.precision}, as {chosen.why})")
    for row in formats:
        print(f"{row['precision']:<10} {row['seconds']:>8.3f} {row['times_float32']:>10.3f}")
    table = memory(config, (8, 24), arguments.device)
    print(f"\n{'iterations':>11}  {'activations':<13} {'peak MiB':>9} {'x kept':>7} {'time x kept':>12}")
    for row in table:
        print(
            f"{row['iters']:>11}  {row['activations']:<13} {row['peak_mib']:>9.0f} {row['memory_ratio']:>7.2f} "
            f"{row['time_ratio']:>12.2f}"
        )
    if arguments.output is not None:
        content = {"machine": about, "what": what, "rounds": rounds, "steps": steps, "precisions": formats}
        content |= {"auto": chosen.precision, "memory": table}
        arguments.output.write_text(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
