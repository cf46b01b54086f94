"""What a device computes, and what it would emulate."""

from __future__ import annotations

import os
import platform

import pytest
import torch

from crosspol.model import precision
from crosspol.model.precision import computes, processor_computes_bfloat16, processor_computes_float16


@pytest.mark.parametrize("half", [True, False])
def test_what_a_device_computes(monkeypatch, half):
    monkeypatch.setattr(precision, "processor_computes_bfloat16", lambda: half)
    monkeypatch.setattr(precision, "gpu_computes_bfloat16", lambda: half)
    assert all(computes("float32", device) for device in ("cpu", "cuda", "mps"))
    assert computes("bfloat16", "cpu") == computes("bfloat16", "cuda") == half
    assert computes("float16", "cuda")
    assert computes("float16", "mps")
    assert not computes("bfloat16", "mps")
    monkeypatch.setattr(precision, "processor_computes_int8", lambda: half)
    assert computes("int8", "cpu") == half
    assert not computes("int8", "cuda")


def missing():
    raise RuntimeError("no such operator")


@pytest.mark.parametrize(
    ("machine", "onednn", "avx512", "amx", "computes"),
    [
        ("x86_64", lambda: True, lambda: True, lambda: False, True),
        ("x86_64", lambda: True, lambda: False, lambda: True, True),
        # AVX-512 without BF16: oneDNN says yes, and emulates.
        ("x86_64", lambda: True, lambda: False, lambda: False, False),
        ("x86_64", lambda: False, lambda: True, lambda: True, False),
        ("x86_64", missing, lambda: True, lambda: True, False),
        ("aarch64", lambda: True, lambda: False, lambda: False, True),
    ],
)
def test_the_processor_is_asked_for_its_instructions(monkeypatch, machine, onednn, avx512, amx, computes):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", onednn, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", avx512, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", amx, raising=False)
    assert processor_computes_bfloat16() == computes


def test_the_processor_here_is_judged_as_its_flags_say():
    try:
        with open("/proc/cpuinfo") as file:
            flags = set(next(line for line in file if line.startswith("flags")).split())
    except (OSError, StopIteration):
        pytest.skip("needs the flags of a Linux x86 processor")
    if "ATEN_CPU_CAPABILITY" in os.environ:
        pytest.skip("ATEN_CPU_CAPABILITY says otherwise")
    assert processor_computes_bfloat16() == bool({"avx512_bf16", "amx_bf16"} & flags)


@pytest.mark.parametrize(
    ("machine", "onednn", "avx512", "computed"),
    [
        ("x86_64", lambda: True, lambda: True, True),
        ("x86_64", lambda: True, lambda: False, False),
        ("x86_64", missing, lambda: True, False),
        ("aarch64", lambda: True, lambda: False, True),
    ],
)
def test_float16_needs_instructions_of_its_own_too(monkeypatch, machine, onednn, avx512, computed):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", onednn, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_fp16_supported", avx512, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.cpu, "_is_amx_fp16_supported", lambda: False, raising=False)
    assert processor_computes_float16() == computed


def test_who_keeps_pytorch_from_avx512_keeps_it_from_half_precision(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    for kind in ("bf16", "fp16"):
        monkeypatch.setattr(torch.ops.mkldnn, f"_is_mkldnn_{kind}_supported", lambda: True, raising=False)
        monkeypatch.setattr(torch.cpu, f"_is_avx512_{kind}_supported", lambda: True, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True, raising=False)
    assert not any(computes(precision, "cpu") for precision in ("bfloat16", "float16", "int8"))
    assert computes("float32", "cpu")
