"""What a prediction will cost, known beforehand: multiplications and memory, counted on the meta device.

The network runs on tensors that have shapes and no numbers, which takes a second whatever the size. So the forecast
holds for every preset and every configuration, and needs no formula that the next change of the network makes wrong.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from crosspol.data.inputs import StereoInputs
from crosspol.model import CrossPol, CrossPolConfig
from crosspol.model.correlation import volume_limit

__all__ = ["Cost", "cost", "device_of", "held_bytes"]

_COUNTED = 3
"""Iterations that are counted; the others cost what the last of these does."""
_MARGIN = 1.15
"""What an allocator and reordered weights of convolutions take on top (docs/high_resolution.md#how-sure-it-is)."""

_RUNTIME = 96 << 20
"""What libraries take at their first use, whatever the size, bytes."""


@dataclass(frozen=True)
class Cost:
    """Of one prediction.

    macs: multiply-accumulates.
    bytes: memory above what is held before it, inputs among that, with a margin.
    """

    macs: int
    bytes: int


def cost(config: CrossPolConfig, inputs: StereoInputs, iters: int, volume: int | None = None) -> Cost:
    """Forecast what the network costs on inputs of these kinds and sizes, as PyTorch runs it in float32.

    Args:
        config: of the network.
        inputs: (B, C, H, W); only their shapes count.
        iters: iterations.
        volume: as `volume_limit` has it.

    Raises:
        ValueError: inputs that the network does not take.
    """
    shapes = tuple(sorted((name, tuple(tensor.shape)) for name, tensor in inputs.tensors().items()))
    counted = _counted(config, shapes, iters, None)
    # Computed row by row, the volume is computed in every iteration: a few percent of the products at most.
    return counted if volume is None else replace(counted, bytes=_counted(config, shapes, iters, volume).bytes)


@lru_cache(maxsize=64)
def _counted(
    config: CrossPolConfig, shapes: tuple[tuple[str, tuple[int, ...]], ...], iters: int, volume: int | None
) -> Cost:
    # A crossed pair's contrast is formed again in between: once, so that what it holds is in the peak.
    refreshes = sum(after < iters for after in config.refresh_after) if "intensity_left" in dict(shapes) else 0
    counted = min(iters, _COUNTED)
    config = replace(config, refresh_after=(1,) if refreshes and counted > 1 else ())
    network = _shadow(config)
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes}
    memory, flops = _Memory(), FlopCounterMode(display=False)
    after: list[int] = []

    def watch(_iteration: int, _step: Tensor) -> bool:
        after.append(flops.get_total_flops())
        return False

    attention = _FusedAttention()
    with ExitStack() as modes:
        for mode in (torch.inference_mode(), volume_limit(volume), attention, flops, memory):
            modes.enter_context(mode)
        network(**tensors, iters=counted, watch=watch)
    total = flops.get_total_flops()
    each = after[-1] - after[-2] if len(after) > 1 else 0
    total += (iters - counted) * each
    return Cost(total // 2 + attention.macs, int(_MARGIN * memory.peak))


@lru_cache(maxsize=4)
def _shadow(config: CrossPolConfig) -> CrossPol:
    # There from the start: no memory, and nothing is drawn from the caller's random numbers.
    with torch.device("meta"):
        return CrossPol(config).eval()


class _FusedAttention(TorchFunctionMode):
    """Counts attention as the fused kernel computes it: the meta device would store all scores."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = args[:3]
        self.macs += query.numel() * key.shape[-2] + query.numel() // query.shape[-1] * value[0, 0].numel()
        return query.new_empty(*query.shape[:-1], value.shape[-1])


class _Memory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what is alive of the storages that operations make. peak: the most at once, bytes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._now = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self._look_at(x for x in tree_leaves(made) if isinstance(x, Tensor))
        return made

    def _look_at(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key: int = storage._cdata
            if key not in self._alive:
                self._alive[key] = storage.nbytes()
                self._now += storage.nbytes()
                self.peak = max(self.peak, self._now)
                weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._now -= self._alive.pop(key, 0)


def device_of(backend: object) -> torch.device | None:
    """Return the device of a backend, or of what it is around; None: the CPU, of engines that know no other."""
    while backend is not None:
        device = getattr(backend, "device", None)
        if isinstance(device, torch.device):
            return device
        backend = getattr(backend, "backend", None)
    return None


def held_bytes(device: torch.device | None = None) -> int:
    """Return how much memory this process holds now: of a CUDA device what PyTorch does, else of the main memory.

    To the main memory 96 MiB are added, which libraries take at their first use. Where the system does not say what is
    held, it is half a GiB: what Python, PyTorch and small weights take.
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") + _RUNTIME
    except (OSError, ValueError, IndexError):
        return 1 << 29
