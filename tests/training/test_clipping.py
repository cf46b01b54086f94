from __future__ import annotations

import math

import pytest
import torch

from crosspol.model import CrossPol
from crosspol.training.clipping import clip_by_part, step_sizes
from crosspol.training.optimization import parameter_groups
from tests.training.tiny_runs import tiny_network


def with_gradients(polarization: float, backbone: float) -> CrossPol:
    torch.manual_seed(0)
    net = CrossPol(tiny_network())
    for name, parameter in net.named_parameters():
        polarized = name.startswith(("polarization_encoder.", "fusion."))
        parameter.grad = (polarization if polarized else backbone) * torch.randn_like(parameter)
    return net


def norm(gradients: list[torch.Tensor]) -> float:
    return math.sqrt(sum(float((gradient.double() ** 2).sum()) for gradient in gradients))


def of_part(net: CrossPol, polarized: bool) -> list[torch.Tensor]:
    room = ("polarization_encoder.", "fusion.")
    return [p.grad.clone() for name, p in net.named_parameters() if name.startswith(room) == polarized]


def test_each_part_is_clipped_by_itself():
    net = with_gradients(polarization=1e-6, backbone=100.0)
    before = {part: of_part(net, part) for part in (True, False)}
    found = clip_by_part(parameter_groups(net, 1e-3), 1.0)
    assert found == {
        "backbone": pytest.approx(norm(before[False]), rel=1e-4),
        "polarization": pytest.approx(norm(before[True]), rel=1e-4),
    }
    # The small gradient is left alone, whatever the large one is.
    assert all(torch.equal(a, b) for a, b in zip(of_part(net, True), before[True], strict=True))
    assert norm(of_part(net, False)) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("eps", [1e-8, 1e-12])
def test_step_sizes_are_what_the_weights_moved_by(eps):
    net = with_gradients(polarization=1e-9, backbone=1.0)
    optimizer = torch.optim.AdamW(parameter_groups(net, 1e-3, weight_decay=0.0), eps=eps)
    assert step_sizes(optimizer) == {}
    optimizer.step()
    # Where weights are 0, as biases are, the move is not lost in rounding.
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
            parameter.grad += 0.3 * parameter.grad.std(correction=0) * torch.randn_like(parameter)
    optimizer.step()
    found = step_sizes(optimizer)
    for group in optimizer.param_groups:
        moved = torch.cat([parameter.detach().flatten() for parameter in group["params"]]).double() / group["lr"]
        assert found[group["name"]] == pytest.approx(float(moved.square().mean().sqrt()), rel=1e-4)
    # The finding that asked for this: below eps a rate is nominal.
    assert (found["polarization"] > 0.5) == (eps == 1e-12)
    assert found["backbone"] > 0.5
