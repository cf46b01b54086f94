"""Ranges for arithmetic in 8 bits are found on scenes, the same ones every time."""

from __future__ import annotations

import pytest
import torch

from crosspol.inference import calibration
from crosspol.inference.calibration import find_ranges
from crosspol.model import FusionConfig
from tests.open_network import open_network


def test_ranges_are_the_same_every_time_and_leave_the_network_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "SCENES", 1)
    monkeypatch.setattr(calibration, "SIZE", (32, 128))
    for network in (open_network(), open_network(fusion=FusionConfig(kind="none"))):
        network.train()
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        found = find_ranges(network)
        assert found == find_ranges(network)
        assert {"encoders.features.head", "update.gru.gates"} < set(found)
        assert network.training
        assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
        assert not any(module._forward_pre_hooks for module in network.modules())
