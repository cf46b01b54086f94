"""Convolutions in 8 bits: near what they stand for, with everything else as it was, and no coordinates among them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from crosspol.model import CrossPol, FusionConfig, preset
from crosspol.model.network import StereoOutput
from crosspol.model.quantized import QuantizedConv2d, Ranges, quantized
from tests.open_network import open_network

VIEWS = {"left": torch.rand(1, 3, 40, 52, generator=torch.Generator().manual_seed(0))}
VIEWS["right"] = VIEWS["left"].roll(-3, 3)


def measured(network: CrossPol) -> dict[str, tuple[float, float]]:
    ranges = Ranges()
    with torch.inference_mode(), ranges.measuring(network):
        network(**VIEWS, iters=3)
    return ranges.found


@torch.inference_mode()
def run(network: CrossPol) -> StereoOutput:
    return network(**VIEWS, iters=3)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 3.0)])
def test_a_convolution_in_8_bits_is_near_the_one_it_stands_for(low: float, high: float) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(16, 8, 3, stride=2, padding=1)
    x = low + (high - low) * torch.rand(2, 16, 10, 12)
    with torch.inference_mode():
        found, wanted = QuantizedConv2d(convolution, low, high)(x), convolution(x)
        # Each of 144 products is off by half a step of its input and of its weight at most, and most of it cancels.
        steps = convolution.weight.abs().max() * ((high - low) / 255 + max(-low, high) / 127)
        assert 0 < (found - wanted).abs().max() < 0.1 * (144 * 0.5 * steps)
        # What lies outside of the range is clamped to it.
        far = QuantizedConv2d(convolution, low, high)(x + 100)
        assert (far - convolution(torch.full_like(x, high))).abs().max() < 0.05 * (high - low)


def test_zero_stays_zero() -> None:
    """Padding is 0, and must be a number that 8 bits hold."""
    convolution = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    assert not QuantizedConv2d(convolution, -0.7, 1.9)(torch.zeros(1, 4, 6, 6)).any()


def test_ranges_are_of_convolutions_that_know_no_coordinates() -> None:
    found = measured(open_network())
    assert all(low <= 0 <= high for low, high in found.values())
    assert found["encoders.features.trunk.stem"] == pytest.approx((-1.0, 1.0), abs=1e-2)
    assert found["update.head.0"][0] >= -1
    # The first convolution of the motion features has the disparity among its channels, the next has not.
    assert "update.motion.0" not in found
    assert "update.motion.2" in found
    assert not any("fusion" in name or "polarization" in name for name in found)
    compact = measured(CrossPol(preset("crosspol")).eval())
    # Its motion features carry the disparity on, into the finest GRU.
    for name in ("update.motion.disparity.0", "update.grus.0.gates", "update.grus.0.candidate"):
        assert name not in compact
        assert name.replace("grus.0", "grus.1") in compact or "disparity" in name


def test_ranges_grow_and_looking_changes_nothing() -> None:
    network = open_network()
    before = run(network).disparity
    ranges = Ranges()
    for shift in (0.0, 0.5):
        with torch.inference_mode(), ranges.measuring(network):
            network(VIEWS["left"] * (0.5 + shift), VIEWS["right"], iters=1)
        if shift == 0:
            first = dict(ranges.found)
    assert all(ranges.found[name][0] <= low and ranges.found[name][1] >= high for name, (low, high) in first.items())
    assert ranges.found != first
    assert torch.equal(run(network).disparity, before)


@pytest.mark.parametrize("name", ["blueprint", "crosspol", "raft-stereo-realtime"])
def test_a_network_in_8_bits_is_a_copy_near_the_network(name: str) -> None:
    torch.manual_seed(0)
    fusion = FusionConfig(kind="none")
    network = CrossPol(preset(name, fusion=fusion)).eval()
    before = run(network)
    eight = quantized(network, measured(network))
    assert sum(isinstance(module, QuantizedConv2d) for module in eight.modules()) > 20
    found = run(eight)
    difference = (found.disparity - before.disparity).abs()
    assert 0 < difference.mean() < 0.1 * before.disparity.abs().mean() + 0.05
    assert torch.equal(run(network).disparity, before.disparity)
    assert not any(isinstance(module, QuantizedConv2d) for module in network.modules())
