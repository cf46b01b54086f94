"""Which number format a run computes in, and why."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from crosspol.training.config import Precision


class Chosen(NamedTuple):
    """A precision to compute in ("float32", "bfloat16" or "float16"), and the reason in one line."""

    precision: Precision
    why: str


def choose_precision(wanted: Precision, accelerator: str) -> Chosen:
    """Resolve ``auto``: bfloat16 where the hardware computes it, else float32.

    Emulated bfloat16 is 30 to 90 times slower than float32 (docs/pitfalls.md#emulated-bfloat16), so it is never
    guessed. On a processor with AVX-512 BF16 a training step (batch 4 of 96x128, 4 iterations) took 0.56 of its time
    in float32.

    Args:
        wanted: as configured.
        accelerator: "cpu" or "cuda".
    """
    if wanted != "auto":
        return Chosen(wanted, "as asked for")
    computes = _gpu_computes_bfloat16() if accelerator == "cuda" else processor_computes_bfloat16()
    device = "GPU" if accelerator == "cuda" else "processor"
    if computes:
        return Chosen("bfloat16", f"the {device} computes it")
    return Chosen("float32", f"the {device} does not compute bfloat16, and emulating it is many times slower")


def processor_computes_bfloat16() -> bool:
    """Say whether convolutions and products in bfloat16 run on instructions of their own."""
    if not _says_yes(getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)):
        return False
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    # oneDNN also says yes to AVX-512 without BF16, where it emulates.
    instructions = [getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile")]
    return any(map(_says_yes, instructions)) or all(asked is None for asked in instructions)


def _gpu_computes_bfloat16() -> bool:
    try:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    except TypeError:  # older versions count what they emulate
        return bool(torch.cuda.is_bf16_supported())


def _says_yes(ask: Callable[[], Any] | None) -> bool:
    """Ask a private function of torch, which another version may lack or have changed."""
    try:
        return ask is not None and bool(ask())
    except (RuntimeError, TypeError, AttributeError):
        return False
