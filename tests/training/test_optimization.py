from __future__ import annotations

import math

import pytest
import torch

from crosspol.errors import UsageError
from crosspol.model import CrossPol, FusionConfig, preset
from crosspol.training.config import TrainConfig
from crosspol.training.optimization import freeze, gradient_norms, one_cycle, parameter_groups, set_rates
from tests.training.tiny_runs import tiny_network


@pytest.fixture(scope="module")
def net() -> CrossPol:
    return CrossPol(tiny_network(enable_stereo_to_pol=True))


def test_every_parameter_is_in_one_group_and_the_right_one(net):
    groups = parameter_groups(net, 1e-3, 5.0, 1e-2)
    found = {id(p): group for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(found) == len(list(net.parameters()))
    for name, parameter in net.named_parameters():
        group = found[id(parameter)]
        polarized = name.split(".")[0] in ("polarization_encoder", "fusion")
        assert group["max_lr"] == (5e-3 if polarized else 1e-3), name
        assert group["name"].startswith("polarization" if polarized else "backbone"), name
        exempt = name.endswith(("bias", "alpha_logit")) or "norm" in name or "affine" in name or parameter.dim() < 2
        assert group["weight_decay"] == (0.0 if exempt else 1e-2), name


def test_what_is_frozen_or_absent_makes_no_group(net):
    plain = CrossPol(preset("blueprint", fusion=FusionConfig(kind="none")))
    assert [group["name"] for group in parameter_groups(plain, 1.0)] == ["backbone", "backbone, no decay"]
    plain.update.requires_grad_(False)
    kept = {id(p) for group in parameter_groups(plain, 1.0) for p in group["params"]}
    assert not kept & {id(p) for p in plain.update.parameters()}


@pytest.mark.parametrize("num_steps", [1, 30, 700])
def test_the_schedule_is_torchs_one_cycle(num_steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    total = num_steps + 100
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=total, pct_start=max(0.01, 2 / total), anneal_strategy="linear",
        cycle_momentum=False,
    )  # fmt: skip
    for step in range(num_steps):
        assert one_cycle(step, num_steps) == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        schedule.step()


def test_pol_lr_mult_is_visible_at_every_step_of_the_schedule(net):
    config = TrainConfig()
    optimizer = torch.optim.AdamW(parameter_groups(net, config.lr, config.pol_lr_mult, config.weight_decay))
    highest = 0.0
    for step in range(0, config.num_steps):
        set_rates(optimizer, step, config.num_steps)
        rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
        assert rates["polarization"] == pytest.approx(5 * rates["backbone"], rel=1e-12)
        assert rates["polarization, no decay"] == rates["polarization"]
        assert 0 < rates["backbone"] <= 3e-4 * (1 + 1e-12)
        highest = max(highest, rates["backbone"])
    assert highest == pytest.approx(3e-4)


def test_gradient_norms_are_those_of_the_parts(net):
    torch.manual_seed(0)
    net.zero_grad()
    assert gradient_norms(net) == {}
    for parameter in net.fusion.parameters():
        parameter.grad = torch.randn_like(parameter)
    norms = gradient_norms(net)
    expected = math.sqrt(sum(float((p.grad.double() ** 2).sum()) for p in net.fusion.parameters()))
    assert norms == {"fusion": pytest.approx(expected, rel=1e-5)}
    net.zero_grad()


def test_parts_are_frozen_by_name():
    net = CrossPol(tiny_network())
    freeze(net, ["encoders.features", "fusion", "update.head.2.bias"])
    for name, parameter in net.named_parameters():
        still = name.startswith(("encoders.features.", "fusion.")) or name == "update.head.2.bias"
        assert parameter.requires_grad != still, name
    with pytest.raises(UsageError, match=r"frozen: got 'encoder', which is no part of the network; .*encoders, "):
        freeze(net, ["encoder"])
    with pytest.raises(UsageError, match="which is all of the network"):
        freeze(net, ["encoders", "polarization_encoder", "update"])
