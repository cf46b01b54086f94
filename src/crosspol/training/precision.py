"""Which number format a run computes in, and why."""

from __future__ import annotations

from typing import NamedTuple

from crosspol.model.precision import gpu_computes_bfloat16, processor_computes_bfloat16
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
    computes = gpu_computes_bfloat16() if accelerator == "cuda" else processor_computes_bfloat16()
    device = "GPU" if accelerator == "cuda" else "processor"
    if computes:
        return Chosen("bfloat16", f"the {device} computes it")
    return Chosen("float32", f"the {device} does not compute bfloat16, and emulating it is many times slower")
