"""Every preset against the official RAFT-Stereo network: time of one pair, each with its own iterations.

    python -m benchmarks.presets --output benchmarks/results/presets.json
    python -m benchmarks.presets --quick

The preset ``raft-stereo`` at 24 iterations, without polarization, stands for the official network (it computes the
same, see network.py). The others get polarization. Times are interleaved in one run; ratios are medians of the ratios
within a round.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring import interleaved, machine, ratio
from crosspol import CrossPol, preset
from crosspol.commands.info import multiplications
from crosspol.model.config import PRESETS, FusionConfig

OFFICIAL = "official RAFT-Stereo"


def networks() -> dict[str, CrossPol]:
    """Build what is compared; random weights take as long as others."""
    plain = CrossPol(preset("raft-stereo", fusion=FusionConfig(kind="none"))).eval()
    return {OFFICIAL: plain} | {name: CrossPol.from_preset(name).eval() for name in PRESETS}


def work(net: CrossPol, width: int, height: int) -> Callable[[], Tensor]:
    """Return one prediction."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.rand(1, 3, height, width, generator=generator) for _ in range(2))
    maps: dict[str, Tensor] = {}
    if net.config.fusion.sites:
        channels = net.config.polarization.channels
        maps = {
            f"pol_{side}": torch.rand(1, channels, height, width, generator=generator) for side in ("left", "right")
        }
    return lambda: net(left, right, **maps).disparity


@torch.inference_mode()
def compare(width: int, height: int, rounds: int) -> list[dict[str, Any]]:
    """Time all of them."""
    nets = networks()
    seconds = interleaved({name: work(net, width, height) for name, net in nets.items()}, rounds)
    return [
        {
            "network": name,
            "size": f"{width}x{height}",
            "iters": net.config.iters,
            "parameters": sum(parameter.numel() for parameter in net.parameters()),
            "gmac": multiplications(net, height, width) / 1e9,
            "seconds": statistics.median(seconds[name]),
            "times_faster_than_official": ratio(seconds, OFFICIAL, name),
        }
        for name, net in nets.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="128x96 and one round")
    parser.add_argument("--output", type=Path, help="write the table as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    width, height, rounds = (128, 96, 1) if arguments.quick else (640, 480, arguments.rounds)
    about = machine()
    print(f"{about['device']}, {about['threads']} threads, torch {about['torch']}; medians of {rounds} rounds\n")
    rows = compare(width, height, rounds)
    print(
        f"{'network':<22} {'size':>8} {'iters':>5} {'parameters':>11} {'GMAC':>7} {'seconds':>8} {'times faster':>12}"
    )
    for row in rows:
        print(
            f"{row['network']:<22} {row['size']:>8} {row['iters']:>5} {row['parameters']:>11,} {row['gmac']:>7.1f} "
            f"{row['seconds']:>8.3f} {row['times_faster_than_official']:>12.2f}"
        )
    if arguments.output is not None:
        result = {"machine": about, "rounds": rounds, "rows": rows}
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
