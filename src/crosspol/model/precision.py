"""What the hardware computes: arithmetic without TF32, and whether half precision is emulated."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def without_tf32(device: torch.device | None = None) -> Iterator[None]:
    """Turn TF32 off for the time of a call, in convolutions and in matrix products.

    By default a GPU rounds the inputs of convolutions to 10 bits. For a device that is no such GPU nothing is done;
    None is any device. What was set before is set again at the end.
    """
    if device is not None and device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    try:
        before = cudnn.allow_tf32, torch.get_float32_matmul_precision()
    except RuntimeError:
        # Whoever set precisions by torch's newer names, which these cannot express, chose them; they stay.
        yield
        return
    cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


def computes(precision: str, device: str) -> bool:
    """Say whether a device has instructions of its own for a precision, and does not emulate it.

    Args:
        precision: "float32", "bfloat16", "float16" or "int8".
        device: its type, as torch calls it: "cpu", "cuda", "mps" or another.
    """
    if precision == "float32":
        return True
    if precision == "int8":
        return device == "cpu" and processor_computes_int8()
    if device == "cpu":
        return processor_computes_bfloat16() if precision == "bfloat16" else processor_computes_float16()
    if device == "cuda":
        return precision == "float16" or gpu_computes_bfloat16()
    return precision == "float16"


def processor_computes_float16() -> bool:
    """Say whether convolutions and products in float16 run on instructions of their own."""
    if not _says_yes(getattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", None)):
        return False
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    if _narrowed():
        return False
    instructions = [getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_fp16", "amx_fp16")]
    known = [asked for asked in instructions if asked is not None]
    return any(map(_says_yes, known)) or not known


def processor_computes_bfloat16() -> bool:
    """Say whether convolutions and products in bfloat16 run on instructions of their own."""
    if not _says_yes(getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)):
        return False
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    if _narrowed():
        return False
    # oneDNN also says yes to AVX-512 without BF16, where it emulates.
    instructions = [getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile")]
    return any(map(_says_yes, instructions)) or all(asked is None for asked in instructions)


def processor_computes_int8() -> bool:
    """Say whether products of 8 bits run on instructions of their own (VNNI), without which they also overflow."""
    return not _narrowed() and _says_yes(getattr(torch.cpu, "_is_vnni_supported", None))


def _narrowed() -> bool:
    """Whether PyTorch keeps from what is wider than AVX2, as somebody asked it to (ATEN_CPU_CAPABILITY)."""
    return torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX", "AVX2")


def gpu_computes_bfloat16() -> bool:
    """Say whether the GPU does, without emulating it."""
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
