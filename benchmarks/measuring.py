"""What the benchmarks of the model share: interleaved timing, peak memory, and a line about the machine."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from crosspol.inference.timing import settle

Work = Callable[[], Any]


def interleaved(
    work: Mapping[str, Work], rounds: int, device: str = "cpu", clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Time every piece of work once a round, after one round of warming up: seconds by name, one entry a round.

    Each begins when what ran before has come to rest. A machine that slows down for a while slows all of them, so that
    ratios within a round stay meaningful. Where others compute on it meanwhile, `time.process_time` as the clock counts
    what this process got; that is the time of a quiet machine for work in one thread on the CPU.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for round_ in range(rounds + 1):
        for name, function in work.items():
            settle()
            begin = clock()
            function()
            if device != "cpu":
                torch.cuda.synchronize()
            if round_ > 0:
                seconds[name].append(clock() - begin)
    return seconds


def ratio(seconds: Mapping[str, list[float]], name: str, to: str) -> float:
    """Return the median over rounds of how many times as long `name` took as `to`."""
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[to], strict=True))


def peak_bytes(function: Work, device: str = "cpu") -> int:
    """Return the largest amount of memory that PyTorch held at once for `function`, above what it held before."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        function()
    assert recorded.profiler is not None
    events = recorded.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return max(accumulate(change for _, change in changes), default=0)


def machine(device: str = "cpu") -> dict[str, Any]:
    """Say what the figures were measured on, and which code."""
    name = torch.cuda.get_device_name() if device != "cpu" else _processor()
    # Older versions, which procedural.py compares with, have no such function where this is read.
    import crosspol
    from crosspol.training.provenance import source_commit

    commit = source_commit(Path(crosspol.__file__).parent)
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__, "commit": commit}


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
