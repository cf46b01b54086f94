from __future__ import annotations

import platform

import pytest
import torch

from crosspol.model.precision import processor_computes_bfloat16
from crosspol.training import precision
from crosspol.training.precision import choose_precision


@pytest.mark.parametrize("wanted", ["float32", "bfloat16", "float16"])
def test_what_is_asked_for_is_taken(wanted):
    assert choose_precision(wanted, "cpu").precision == wanted


@pytest.mark.parametrize(("accelerator", "device"), [("cpu", "processor"), ("cuda", "GPU")])
@pytest.mark.parametrize("computes", [True, False])
def test_auto_is_bfloat16_only_where_it_is_computed_and_says_why(monkeypatch, accelerator, device, computes):
    name = "gpu_computes_bfloat16" if accelerator == "cuda" else "processor_computes_bfloat16"
    monkeypatch.setattr(precision, name, lambda: computes)
    chosen = choose_precision("auto", accelerator)
    assert chosen.precision == ("bfloat16" if computes else "float32")
    assert device in chosen.why


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
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", amx, raising=False)
    assert processor_computes_bfloat16() == computes


def test_the_processor_here_is_judged_as_its_flags_say():
    try:
        with open("/proc/cpuinfo") as file:
            flags = set(next(line for line in file if line.startswith("flags")).split())
    except (OSError, StopIteration):
        pytest.skip("needs the flags of a Linux x86 processor")
    assert processor_computes_bfloat16() == bool({"avx512_bf16", "amx_bf16"} & flags)
