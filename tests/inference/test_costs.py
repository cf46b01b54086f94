"""The forecast of a prediction's cost, against torch's counter and against what PyTorch really holds."""

from __future__ import annotations

import subprocess
import sys

import torch
from benchmarks.measuring import peak_bytes
from torch.utils.flop_counter import FlopCounterMode

from crosspol.data.inputs import StereoInputs
from crosspol.inference import costs
from crosspol.inference.costs import cost
from crosspol.model import CrossPol
from crosspol.model.config import preset


def pair(height: int, width: int, channels: int, crossed: bool = False) -> StereoInputs:
    values = {side: torch.rand(1, 3, height, width) for side in ("left", "right")}
    for side in ("left", "right"):
        values[f"intensity_{side}" if crossed else f"pol_{side}"] = torch.rand(1, channels, height, width)
        values[f"valid_{side}"] = torch.ones(1, 1, height, width)
    return StereoInputs(**values)


def test_multiplications_are_torchs_own_whatever_the_iterations() -> None:
    """Iterations that are not counted cost what the last one counted does; attention is counted by hand."""
    for name, iters in (("crosspol", 1), ("crosspol", 4), ("raft-stereo-realtime", 7)):
        config = preset(name, iters=iters)
        inputs = pair(96, 128, config.polarization.channels)
        # Where nothing is computed: the counter does not know the CPU's attention kernel.
        shapes = {key: value.to("meta") for key, value in inputs.kwargs().items()}
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            CrossPol(config).eval().to("meta")(**shapes)
        assert cost(config, inputs, iters).macs == counter.get_total_flops() // 2, name


def test_a_forecast_draws_no_random_numbers() -> None:
    costs._shadow.cache_clear()
    costs._counted.cache_clear()
    inputs = pair(64, 64, 3)
    before = torch.random.get_rng_state()
    cost(preset("crosspol"), inputs, 1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_memory_is_what_pytorch_holds_and_not_much_more() -> None:
    config = preset("crosspol")
    network = CrossPol(config).eval()
    for inputs in (pair(192, 256, 3), pair(192, 256, 1, crossed=True)):
        with torch.inference_mode():
            held = peak_bytes(lambda inputs=inputs: network(**inputs.kwargs(), iters=4))  # type: ignore[misc]
        assert 0.8 * held < cost(config, inputs, 4).bytes < 1.6 * held


def test_without_the_volume_a_wide_image_takes_less() -> None:
    config = preset("crosspol")
    inputs = pair(32, 16384, config.polarization.channels)
    kept, forgotten = cost(config, inputs, 2), cost(config, inputs, 2, volume=0)
    assert forgotten.bytes < kept.bytes
    assert forgotten.macs == kept.macs


def test_what_is_held_grows_with_what_is_held() -> None:
    # In a process of its own: one that has freed much takes new memory from there, and holds no more than before.
    code = (
        "import torch; from crosspol.inference.costs import held_bytes as held; before = held(); "
        "kept = torch.ones(64 << 20, dtype=torch.uint8); print(held() - before, held(torch.device('cpu')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    more, there = (int(word) for word in done.stdout.split())
    assert 0.5 < more / (64 << 20) < 1.5
    assert there > 0
