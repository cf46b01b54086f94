"""Benchmarks are modules of the repository: they import, and their figures say which code made them."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_can_be_imported(name: str) -> None:
    try:
        importlib.import_module(f"benchmarks.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("benchmarks", "crosspol", "tests"):
            raise
        pytest.skip(f"{error.name} is not installed")


def test_figures_name_their_commit() -> None:
    from benchmarks.measuring import machine

    assert "commit" in machine()
    assert len(json.loads((ROOT / "benchmarks" / "results" / "presets.json").read_text())["machine"]["commit"]) == 40


def test_counted_memory_is_the_measured_one() -> None:
    import torch
    from benchmarks.attention import counted_bytes, explicit
    from benchmarks.measuring import peak_bytes

    from crosspol import PooledCrossAttention

    module = PooledCrossAttention(128).eval()
    stereo, pol = torch.randn(2, 1, 128, 24, 32)
    with torch.inference_mode():
        measured = peak_bytes(lambda: explicit(module, stereo, pol, 1))
    assert counted_bytes(32, 24, 1) == pytest.approx(measured, rel=0.05)
