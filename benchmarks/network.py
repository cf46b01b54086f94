"""Our RAFT-Stereo against a plain account of the official network, same weights, and where the time goes.

    python -m benchmarks.network --output network.json
    python -m benchmarks.network --quick

The plain one is `tests/model/raft_stereo_reference.py`: gates apart, grid_sample for the lookup, the mask head in
every refinement, as the official code has it. Both get the same random weights; that they agree is checked before
anything is timed. "before" is the speed-up of what comes before the loop: a prediction of one iteration less the time
of an iteration. Times are interleaved; ratios are medians of the ratios within a round (above 1: ours is faster).

The second table times the parts of our networks with hooks. "rest" is what no part accounts for: the lookup, the
correlation volume, padding and the loop itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tests.model.raft_stereo_reference import official_state, reference_raft_stereo
from torch import Tensor, nn

from benchmarks.measuring import interleaved, machine, peak_bytes, ratio
from crosspol import CrossPol, load_raft_stereo
from crosspol.inference.backends import TorchBackend
from crosspol.model.config import PRESETS

SIZES = ((320, 240), (640, 480))
QUICK_SIZES = ((128, 96),)
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
MULTIPLE = 32
"""The plain network pads nothing: sizes are rounded up for both."""


def views(width: int, height: int) -> tuple[Tensor, Tensor]:
    """Two images (1, 3, H, W) of whole gray levels, in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 3, -(-height // MULTIPLE) * MULTIPLE, -(-width // MULTIPLE) * MULTIPLE)
    left, right = (torch.randint(0, 256, shape, generator=generator) / 255 for _ in range(2))
    return left, right


def official(realtime: bool) -> tuple[CrossPol, dict[str, Tensor]]:
    """Build our network and the state dict that both share."""
    state = official_state(realtime, seed=1)
    net = CrossPol.from_preset("raft-stereo-realtime" if realtime else "raft-stereo").eval()
    with tempfile.TemporaryDirectory() as folder:
        torch.save(state, Path(folder) / "raftstereo.pth")
        load_raft_stereo(net, Path(folder) / "raftstereo.pth")
    return net, state


@torch.inference_mode()
def compare(realtime: bool, width: int, height: int, iters: int, rounds: int, clock: str = "wall") -> dict[str, Any]:
    """Time both networks."""
    net, state = official(realtime)
    left, right = views(width, height)
    net = TorchBackend(net, "cpu").network  # laid out as the predictor does
    work: dict[str, Callable[[], Tensor]] = {
        "plain": lambda: reference_raft_stereo(state, 255 * left, 255 * right, iters, realtime),
        "ours": lambda: net(left, right, iters=iters).disparity,
        "plain once": lambda: reference_raft_stereo(state, 255 * left, 255 * right, 1, realtime),
        "ours once": lambda: net(left, right, iters=1).disparity,
    }
    difference = (work["ours"]() - work["plain"]()).abs().max().item()
    if not difference < 1e-2:
        raise SystemExit(f"the two disagree by {difference} px: nothing to compare")
    memory = {name: peak_bytes(work[name]) for name in ("plain", "ours")}
    seconds = interleaved(work, rounds, clock=CLOCKS[clock])
    for name in ("plain", "ours"):
        # What remains of one iteration when an iteration's time is taken from it.
        pairs = list(zip(seconds[name], seconds[f"{name} once"], strict=True))
        seconds[f"{name} before"] = [once - (all_ - once) / (iters - 1) for all_, once in pairs]
        seconds[f"{name} iteration"] = [(all_ - once) / (iters - 1) for all_, once in pairs]
    return {
        "network": "raft-stereo-realtime" if realtime else "raft-stereo",
        "size": f"{left.shape[3]}x{left.shape[2]}",
        "iters": iters,
        "plain_s": statistics.median(seconds["plain"]),
        "ours_s": statistics.median(seconds["ours"]),
        "speedup": ratio(seconds, "plain", "ours"),
        "plain_before_the_loop_s": statistics.median(seconds["plain before"]),
        "ours_before_the_loop_s": statistics.median(seconds["ours before"]),
        "speedup_before_the_loop": ratio(seconds, "plain before", "ours before"),
        "speedup_of_an_iteration": ratio(seconds, "plain iteration", "ours iteration"),
        "plain_mib": memory["plain"] / 2**20,
        "ours_mib": memory["ours"] / 2**20,
        "difference_px": difference,
    }


def parts(net: CrossPol) -> dict[str, list[nn.Module]]:
    """Name the parts of a network whose time is told apart; none contains another."""
    named: dict[str, list[nn.Module]] = {}
    for name, child in net.named_children():
        if name != "update":
            named[name] = [child]
            continue
        for inner, module in child.named_children():
            # A list is never called itself, and a layer of which only a part is used is out of reach: see "rest".
            named[f"{name}.{inner}"] = list(module) if isinstance(module, nn.ModuleList) else [module]
    return named


@torch.inference_mode()
def where(net: CrossPol, inputs: dict[str, Tensor], iters: int, rounds: int) -> dict[str, float]:
    """Return the median seconds of each part over `rounds` forward passes, in total under "all"."""
    rows: dict[str, list[float]] = defaultdict(list)
    spent: dict[str, float] = defaultdict(float)
    begun: dict[nn.Module, float] = {}
    handles = []

    def begin(module: nn.Module, _: Any) -> None:
        begun[module] = time.perf_counter()

    def end(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def add(module: nn.Module, _: Any, __: Any) -> None:
            spent[name] += time.perf_counter() - begun[module]

        return add

    for name, modules in parts(net).items():
        for module in modules:
            handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end(name))]
    try:
        for round_ in range(rounds + 1):
            spent.clear()
            start = time.perf_counter()
            net(**inputs, iters=iters)
            total = time.perf_counter() - start
            if round_ > 0:
                for name in parts(net):
                    rows[name].append(spent[name])
                rows["rest"].append(total - sum(spent.values()))
                rows["all"].append(total)
    finally:
        for handle in handles:
            handle.remove()
    return {name: statistics.median(values) for name, values in rows.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iters", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--clock", choices=list(CLOCKS), default="wall", help="processor, for one thread on a machine that is not quiet"
    )
    parser.add_argument("--against-plain", action="store_true", help="the first table alone, at the first size")
    parser.add_argument("--quick", action="store_true", help="one small size, 4 iterations, 3 rounds")
    parser.add_argument("--output", type=Path, help="write both tables as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sizes, iters, rounds = SIZES, arguments.iters, arguments.rounds
    if arguments.quick:
        sizes, iters, rounds = QUICK_SIZES, 4, 3
    if arguments.against_plain:
        sizes = sizes[:1]

    about = machine()
    print(f"{about['device']}, {about['threads']} threads, torch {about['torch']}; medians of {rounds} rounds\n")
    print(f"{'network':<22} {'size':>8} {'iters':>5} {'plain s':>8} {'ours s':>8} {'speed-up':>8} {'before':>8} {'plain MiB':>9} {'ours MiB':>9}")  # fmt: skip  # noqa: E501
    compared = []
    for width, height in sizes:
        for realtime in (False, True):
            row = compare(realtime, width, height, iters, rounds, arguments.clock)
            compared.append(row)
            print(
                f"{row['network']:<22} {row['size']:>8} {row['iters']:>5} {row['plain_s']:>8.3f} {row['ours_s']:>8.3f} "
                f"{row['speedup']:>8.2f} {row['speedup_before_the_loop']:>8.2f} {row['plain_mib']:>9.1f} "
                f"{row['ours_mib']:>9.1f}"
            )

    width, height = sizes[0]
    left, right = views(width, height)
    shares = {}
    for preset in () if arguments.against_plain else PRESETS:
        net = CrossPol.from_preset(preset).eval()
        channels = net.config.polarization.channels
        polarization = {f"pol_{side}": torch.rand_like(left[:, :channels]) for side in ("left", "right")}
        seconds = where(net, {"left": left, "right": right, **polarization}, iters, rounds)
        shares[preset] = seconds
        size = f"{left.shape[3]}x{left.shape[2]}"
        print(f"\n{preset}, {size}, {iters} iterations, with polarization: {seconds['all']:.3f} s")
        for part, value in sorted(seconds.items(), key=lambda entry: -entry[1]):
            if part != "all":
                print(f"  {part:<22} {value:>8.4f} s {100 * value / seconds['all']:>6.1f} %")
    if arguments.output is not None:
        tables = {
            "machine": about,
            "clock": arguments.clock,
            "rounds": rounds,
            "against_plain": compared,
            "seconds_by_part": shares,
        }
        arguments.output.write_text(json.dumps(tables, indent=2))


if __name__ == "__main__":
    main()
