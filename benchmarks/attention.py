"""Four ways to compute the blueprint's cross-attention: time and peak memory, as ratios to ours.

    python -m benchmarks.attention --output attention.json
    python -m benchmarks.attention --quick
    python -m benchmarks.attention --memory --output benchmarks/results/attention_memory.json

unpooled          every pixel attends to every pixel; scores stored (small sizes only: they grow with the square)
pooled, explicit  the blueprint's order: project, pool K and V to 8x8 cells, explicit softmax; scores stored
pooled, fused     the same with the fused kernel; scores never stored
ours              pooled before the projection, K and V in one projection, fused kernel

All four have the same weights; the last three compute the same result, which is checked before anything is timed.
Forward only, 128 channels, 4 heads, no mask. Times are interleaved, one of each a round; ratios are medians of the
ratios within a round. Memory is what PyTorch held at once above what it held before.

--memory measures no time, and adds what unpooled attention would hold where it cannot be run: its storages are counted
on the meta device, which computes nothing. Where it can be run, that is the measured peak (a test).
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
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.measuring import interleaved, machine, peak_bytes, ratio
from crosspol import PooledCrossAttention

MEMORY_SIZES = ((80, 60), (160, 120), (640, 480))
SIZES = ((40, 30), (80, 60), (160, 120))
QUICK_SIZES = ((40, 30), (56, 40))
LARGEST_UNPOOLED = 80 * 60
OURS = "ours"


def tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, N, C)."""
    return x.flatten(2).transpose(1, 2)


def projected(module: PooledCrossAttention, stereo: Tensor, pol: Tensor, pool_size: int) -> tuple[Tensor, ...]:
    """Project at full resolution, then pool K and V, as the blueprint writes it."""
    key, value = module.to_key_value(tokens(pol)).chunk(2, dim=-1)
    maps = (x.transpose(1, 2).unflatten(2, pol.shape[2:]) for x in (key, value))
    query = module.to_query(tokens(stereo))
    heads = (query, *(tokens(F.avg_pool2d(x, pool_size)) for x in maps))
    return tuple(x.unflatten(-1, (module.num_heads, -1)).transpose(1, 2).contiguous() for x in heads)


def merged(module: PooledCrossAttention, attended: Tensor, shape: torch.Size) -> Tensor:
    return module.to_out(attended.transpose(1, 2).flatten(2)).transpose(1, 2).reshape(shape)


def explicit(module: PooledCrossAttention, stereo: Tensor, pol: Tensor, pool_size: int) -> Tensor:
    q, k, v = projected(module, stereo, pol, pool_size)
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return merged(module, torch.softmax(scores, dim=-1) @ v, stereo.shape)


def fused(module: PooledCrossAttention, stereo: Tensor, pol: Tensor, pool_size: int) -> Tensor:
    q, k, v = projected(module, stereo, pol, pool_size)
    return merged(module, F.scaled_dot_product_attention(q, k, v), stereo.shape)


class Counting(TorchDispatchMode):
    """Counts the bytes that are held at once by what is made under it; alive is what somebody still has."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                reference = StorageWeakRef(storage)
                self.alive.setdefault(reference.cdata, (reference, storage.nbytes()))
        self.alive = {key: entry for key, entry in self.alive.items() if not entry[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return out


def counted_bytes(width: int, height: int, pool_size: int) -> int:
    """Return what `explicit` attention of so many queries holds at once, without computing it."""
    module = PooledCrossAttention(128).eval().to("meta")
    stereo, pol = torch.zeros(2, 1, 128, height, width, device="meta")
    with torch.no_grad(), Counting() as counting:
        explicit(module, stereo, pol, pool_size)
    return counting.peak


def memory_rows() -> list[dict[str, Any]]:
    """Return the memory of ours, measured, beside that of unpooled attention, counted."""
    rows = []
    for width, height in MEMORY_SIZES:
        torch.manual_seed(0)
        module = PooledCrossAttention(128).eval()
        stereo, pol = torch.randn(2, 1, 128, height, width)
        with torch.inference_mode():
            ours = peak_bytes(lambda module=module, stereo=stereo, pol=pol: module(stereo, pol))
        unpooled = counted_bytes(width, height, 1)
        rows.append(
            {
                "queries": f"{width}x{height}",
                "ours_mib": ours / 2**20,
                "unpooled_counted_mib": unpooled / 2**20,
                "memory_ratio": unpooled / ours,
            }
        )
    return rows


@torch.inference_mode()
def measure(width: int, height: int, rounds: int, device: str) -> list[dict[str, Any]]:
    """Return one row a way of computing it."""
    torch.manual_seed(0)
    module = PooledCrossAttention(128).eval().to(device)
    stereo, pol = torch.randn(2, 1, 128, height, width, device=device)
    work: dict[str, Callable[[], Tensor]] = {
        "pooled, explicit": lambda: explicit(module, stereo, pol, module.pool_size),
        "pooled, fused": lambda: fused(module, stereo, pol, module.pool_size),
        OURS: lambda: module(stereo, pol),
    }
    # Cells at the border may be smaller for us; the plain versions drop them. Compare where they agree.
    if height % module.pool_size == width % module.pool_size == 0:
        for function in work.values():
            torch.testing.assert_close(function(), module.reference(stereo, pol), atol=1e-4, rtol=1e-3)
    if width * height <= LARGEST_UNPOOLED:
        work = {"unpooled": lambda: explicit(module, stereo, pol, 1), **work}
    memory = {name: peak_bytes(function, device) for name, function in work.items()}
    seconds = interleaved(work, rounds, device)
    return [
        {
            "queries": f"{width}x{height}",
            "attention": name,
            "ms": 1e3 * statistics.median(seconds[name]),
            "time_ratio": ratio(seconds, name, OURS),
            "peak_mib": memory[name] / 2**20,
            "memory_ratio": memory[name] / memory[OURS],
        }
        for name in work
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--memory", action="store_true", help="memory alone, unpooled attention counted where too large"
    )
    parser.add_argument("--quick", action="store_true", help="two small sizes")
    parser.add_argument("--output", type=Path, help="write the table as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    about = machine(arguments.device)
    if arguments.memory:
        table = memory_rows()
        for row in table:
            print(json.dumps(row))
        if arguments.output is not None:
            arguments.output.write_text(json.dumps({"machine": about, "rows": table}, indent=2) + "\n")
        return
    print(
        f"{about['device']}, {about['threads']} threads, torch {about['torch']}; medians of {arguments.rounds} rounds\n"
    )
    print(f"{'queries':>9}  {'attention':<17} {'ms':>9} {'x ours':>8} {'peak MiB':>9} {'x ours':>8}")
    rows = []
    for width, height in QUICK_SIZES if arguments.quick else SIZES:
        for row in measure(width, height, arguments.rounds, arguments.device):
            rows.append(row)
            print(
                f"{row['queries']:>9}  {row['attention']:<17} {row['ms']:>9.2f} {row['time_ratio']:>8.2f} "
                f"{row['peak_mib']:>9.2f} {row['memory_ratio']:>8.2f}"
            )
    if arguments.output is not None:
        arguments.output.write_text(json.dumps({"machine": about, "rounds": arguments.rounds, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
