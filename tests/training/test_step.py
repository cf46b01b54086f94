from __future__ import annotations

import copy
import weakref
from dataclasses import replace

import pytest
import torch

from crosspol.data.order import endless
from crosspol.data.packing import PackedBatch, pack_batch
from crosspol.model import CrossPol, alpha_cap
from crosspol.training import state
from crosspol.training.average import moving_average
from crosspol.training.failures import TrainingError
from crosspol.training.launch import launch
from crosspol.training.loss import glass_loss
from crosspol.training.state import build_run
from crosspol.training.step import Run, train_step
from crosspol.training.stream import RankShare, batches, in_order
from tests.training.tiny_runs import Broken, tiny_config, tiny_network, tiny_samples


def build(**changes) -> Run:
    config = tiny_config(**changes)
    return build_run(config, launch(config.machine, config.precision))


def parts(run: Run, steps: int = 1, samples=None):
    config = run.config
    return batches(
        samples or tiny_samples(),
        in_order(endless, config.batch_size),
        range(steps),
        RankShare(0, 1, config.accumulate),
    )


def gradients(run: Run) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in run.net.named_parameters() if p.grad is not None}


def assert_close(one: dict, other: dict, tolerance: float = 1e-4) -> None:
    assert one.keys() == other.keys()
    # A bias in front of a norm has no gradient but rounding, which is measured against everybody's.
    rounding = 1e-6 * max(gradient.abs().max().item() for gradient in one.values())
    for name in one:
        within = tolerance * one[name].abs().max().item() + rounding
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=within, msg=name)


def zero(sample):
    return replace(sample, valid=torch.zeros_like(sample.valid))


def infinite(sample):
    """A truth so large that the loss overflows, on glass as elsewhere."""
    return replace(sample, disparity=torch.full_like(sample.disparity, 3e38))


def not_a_number(sample):
    return replace(sample, left=sample.left * torch.nan)


class Headed(CrossPol):
    """A network whose glass head reads the left image alone: its gradient is then easily computed beside it."""

    def __init__(self, config=None) -> None:
        super().__init__(config)
        self.glass_layer = torch.nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, left, right, **rest):
        return replace(super().forward(left, right, **rest), glass_logits=self.glass_layer(left))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_glass_head_learns_by_its_own_loss(monkeypatch, accumulate):
    monkeypatch.setattr(state, "CrossPol", Headed)
    wanted = {"batch_size": 3, "freeze_batch_norm": True, "gradient_clip": 1e9}
    run = build(**wanted, accumulate=accumulate, glass_head_weight=0.3)
    (batch,) = next(parts(build(**wanted)))
    head = copy.deepcopy(run.net.glass_layer)
    expected = glass_loss(head(batch.left), batch.glass, batch.valid)
    (0.3 * expected).backward()
    record, _ = train_step(run, next(parts(run)))
    assert record["glass_loss"] == pytest.approx(expected.item(), rel=1e-4)
    torch.testing.assert_close(run.net.glass_layer.weight.grad, head.weight.grad, rtol=1e-3, atol=1e-6)
    # The loss of disparity is not changed by it.
    monkeypatch.undo()
    plain, _ = train_step(build(**wanted), [batch])
    assert record["loss"] == pytest.approx(plain["loss"], rel=1e-2)
    assert "glass_loss" not in plain


def unknown_glass(sample):
    return replace(sample, glass=torch.full_like(sample.glass, torch.nan))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_glass_head_learns_nothing_where_glass_is_not_known(monkeypatch, accumulate):
    monkeypatch.setattr(state, "CrossPol", Headed)
    wanted = {"batch_size": 3, "freeze_batch_norm": True, "gradient_clip": 1e9}
    samples = Broken(0, unknown_glass)
    (batch,) = next(parts(build(**wanted), samples=samples))
    assert batch.glass.isnan().flatten(1).any(1).tolist() == [True, False, False]
    run = build(**wanted, accumulate=accumulate, glass_head_weight=0.3)
    head = copy.deepcopy(run.net.glass_layer)
    expected = glass_loss(head(batch.left[1:]), batch.glass[1:], batch.valid[1:])
    (0.3 * expected).backward()
    record, _ = train_step(run, next(parts(run, samples=samples)))
    assert record["glass_loss"] == pytest.approx(expected.item(), rel=1e-4)
    torch.testing.assert_close(run.net.glass_layer.weight.grad, head.weight.grad, rtol=1e-3, atol=1e-6)
    # Nor is the use of polarization there counted as elsewhere.
    nothing = [replace(part, glass=torch.full_like(part.glass, torch.nan)) for part in next(parts(run))]
    record, _ = train_step(run, nothing)
    assert "skipped" not in record
    assert "glass_loss" not in record
    assert record["injected_glass"] is record["injected_elsewhere"] is None


def unclipped(**changes) -> dict[str, torch.Tensor]:
    run = build(gradient_clip=1e9, **changes)
    train_step(run, next(parts(run)))
    return gradients(run)


@pytest.fixture(scope="module")
def plain() -> dict[str, torch.Tensor]:
    return unclipped(batch_size=4, freeze_batch_norm=True)


@pytest.mark.parametrize("accumulate", [2, 3])
def test_accumulated_gradients_are_those_of_the_whole_batch(plain, accumulate):
    assert_close(plain, unclipped(batch_size=4, freeze_batch_norm=True, accumulate=accumulate))


def test_packed_parts_give_the_same_gradients_to_the_bit(plain):
    run = build(batch_size=4, freeze_batch_norm=True, gradient_clip=1e9)
    train_step(run, [pack_batch(part) for part in next(parts(run))])
    found = gradients(run)
    assert [name for name in plain if not torch.equal(plain[name], found[name])] == []


def test_parts_go_to_the_device_one_after_the_other(monkeypatch):
    run = build(batch_size=3, accumulate=3)
    alive = weakref.WeakSet()
    most = []
    to = PackedBatch.to

    def watched(part, *args, **options):
        batch = to(part, *args, **options)
        alive.add(batch)
        most.append(len(alive))
        return batch

    monkeypatch.setattr(PackedBatch, "to", watched)
    train_step(run, [pack_batch(part) for part in next(parts(run))])
    assert most == [1] * 3


def test_the_layout_of_memory_changes_rounding_only(plain):
    machine = replace(tiny_config().machine, channels_last=True)
    run = build(batch_size=4, freeze_batch_norm=True, gradient_clip=1e9, machine=machine)
    kernels = [p for p in run.net.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[-1] > 1]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    train_step(run, next(parts(run)))
    # Other kernels, which add up in another order.
    assert_close(plain, gradients(run), tolerance=5e-3)


def test_a_sample_without_truth_does_not_count_in_its_part_either():
    samples = Broken(0, zero)
    runs = [build(batch_size=3, freeze_batch_norm=True, gradient_clip=1e9, accumulate=n) for n in (1, 3)]
    recorded = [train_step(run, next(parts(run, samples=samples)))[0] for run in runs]
    assert recorded[0]["loss"] == pytest.approx(recorded[1]["loss"], rel=1e-4)
    assert_close(gradients(runs[0]), gradients(runs[1]))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_activation_checkpointing_gives_the_same_gradients_and_keeps_less(precision):
    batch = next(iter(parts(build())))[0]
    found = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        net = CrossPol(tiny_network()).train()
        names = list(net.state_dict())
        kept = 0

        def note(tensor):
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with (
            torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"),
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        ):
            out = net(**batch.inputs.kwargs(), iters=8, checkpoint_activations=checkpointed)
        sum(p.mean() for p in out.predictions).backward()
        found.append((kept, {name: p.grad for name, p in net.named_parameters()}, names == list(net.state_dict())))
    (kept, plain, _), (kept_less, checkpointed, same_names) = found
    assert same_names
    assert all(torch.equal(plain[name], checkpointed[name]) for name in plain)
    assert kept_less < 0.8 * kept


def test_without_gradients_nothing_is_checkpointed():
    torch.manual_seed(0)
    net = CrossPol(tiny_network()).eval()
    batch = next(iter(parts(build())))[0]
    with torch.no_grad():
        before = net(**batch.inputs.kwargs(), iters=2).disparity
        again = net(**batch.inputs.kwargs(), iters=2, checkpoint_activations=True)
        assert torch.equal(again.disparity, before)


def test_checkpointing_runs_the_module_itself_so_that_hooks_and_compilation_count():
    run = build(checkpoint_activations=True)
    calls = []
    run.net.update.register_forward_pre_hook(lambda *_: calls.append(1))
    train_step(run, next(parts(run)))
    # Once forward and once more for the gradient of each refinement.
    assert len(calls) == 2 * run.config.iters
    assert "forward" not in vars(run.net.update)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_the_option_reaches_the_network(checkpointed):
    run = build(checkpoint_activations=checkpointed)
    record, _ = train_step(run, next(parts(run)))
    assert record["loss"] == pytest.approx(train_step(build(), next(parts(build())))[0]["loss"], rel=1e-6)


def test_batches_without_a_valid_pixel_change_nothing_and_stop_the_run():
    run = build(max_skipped=3, ema_decay=0.5)
    before = copy.deepcopy(run.net.state_dict())
    bad = [part for part in next(parts(run))]
    bad = [replace(part, valid=torch.zeros_like(part.valid)) for part in bad]
    record, _ = train_step(run, bad)
    assert (record["skipped"], record["epe"], run.skipped_in_a_row) == ("ground truth", None, 1)
    assert record["samples"] == ["procedural-0-0", "procedural-0-1"]
    after = run.net.state_dict()
    assert [n for n in before if not torch.equal(before[n], after[n])] == ["alpha_cap"]
    # Disparities that are unknown although the mask takes them are no ground truth either.
    unknown = [replace(part, disparity=torch.full_like(part.disparity, torch.inf)) for part in next(parts(run))]
    assert train_step(run, unknown)[0]["skipped"] == "ground truth"
    with pytest.raises(
        TrainingError, match=r"step 3: no pixel had a valid disparity for 3 steps in a row, last in pro"
    ):
        train_step(run, bad)


def test_figures_are_sums_over_the_pixels_that_count():
    run = build(batch_size=4, accumulate=2, freeze_batch_norm=True)
    before = copy.deepcopy(run.net).train()
    for module in before.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    batches_ = next(parts(run))
    batches_[0] = replace(batches_[0], disparity=batches_[0].disparity.clone())
    batches_[0].disparity[0, 0, :5] = torch.inf
    record, _ = train_step(run, batches_)
    errors, used = [], {True: [], False: []}
    with torch.no_grad():
        for part in batches_:
            out = before(**part.inputs.kwargs(), iters=run.config.iters)
            known = (part.valid > 0) & part.disparity.isfinite()
            errors.append((out.disparity - part.disparity)[known].abs())
            for glass in used:
                used[glass].append(out.polarization_use[(part.glass > 0) == glass])
    assert record["epe"] == pytest.approx(torch.cat(errors).mean().item(), rel=1e-5)
    assert record["injected_glass"] == pytest.approx(torch.cat(used[True]).mean().item(), abs=1e-7)
    assert record["injected_elsewhere"] == pytest.approx(torch.cat(used[False]).mean().item(), abs=1e-7)


def test_the_cap_rises_linearly_and_is_kept_with_the_weights():
    run = build(alpha_cap_start=0.2, alpha_cap_warmup=4, num_steps=6)
    caps = [train_step(run, batch)[0]["alpha_cap"] for batch in parts(run, 5)]
    assert caps == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert float(run.net.alpha_cap) == alpha_cap(5, 0.2, 4)


def test_a_record_tells_everything_that_is_worth_logging():
    run = build()
    record, _ = train_step(run, next(parts(run)))
    assert set(record) == {
        "rig", "loss", "epe", "alpha", "alpha_cap", "injected_glass", "injected_elsewhere", "lr", "gradient_norm",
    }  # fmt: skip
    assert set(record["lr"]) == {"backbone", "backbone, no decay", "polarization", "polarization, no decay"}
    assert set(record["gradient_norm"]) == {"all", "encoders", "polarization_encoder", "fusion", "update"}
    assert record["alpha"] == pytest.approx(0.05 * torch.sigmoid(torch.tensor(-5.0)).item())
    # Zero-initialized: nothing is injected before the first step, something after the second.
    assert record["injected_elsewhere"] == 0
    record, _ = train_step(run, next(parts(run)))
    record, _ = train_step(run, next(parts(run)))
    assert record["injected_elsewhere"] > 0


# float16 convolutions on a CPU take seconds.
@pytest.mark.parametrize("precision", ["float32", pytest.param("float16", marks=pytest.mark.extended)])
def test_a_loss_that_is_not_finite_changes_nothing_and_names_the_samples(precision):
    run = build(precision=precision)
    train_step(run, next(parts(run)))
    before = copy.deepcopy(run.net.state_dict())
    moments = copy.deepcopy(run.optimizer.optimizer.state_dict()["state"])
    record, _ = train_step(run, next(parts(run, samples=Broken(1, infinite))))
    assert record["skipped"] == "loss"
    assert record["samples"] == ["procedural-0-0", "procedural-0-1"]
    assert (record["skipped_in_a_row"], record["skipped_so_far"], run.step) == (1, 1, 2)
    after = run.net.state_dict()
    # The cap follows the step; norm statistics, weights and moments are as they were.
    assert [n for n in before if not torch.equal(before[n], after[n])] == ["alpha_cap"]
    now = run.optimizer.optimizer.state_dict()["state"]
    assert all(torch.equal(moments[i]["exp_avg"], now[i]["exp_avg"]) for i in moments)
    assert "skipped" not in train_step(run, next(parts(run)))[0]
    assert (run.skipped, run.skipped_in_a_row) == (1, 0)


def test_a_gradient_that_is_not_finite_is_skipped_as_well():
    run = build()
    handle = run.net.update.head[2].weight.register_hook(lambda gradient: gradient * torch.inf)
    before = copy.deepcopy(run.net.state_dict())
    record, _ = train_step(run, next(parts(run)))
    handle.remove()
    assert record["skipped"] == "gradient"
    assert torch.equal(before["update.head.2.weight"], run.net.update.head[2].weight)


def test_too_many_skipped_steps_in_a_row_stop_the_run():
    run = build(max_skipped=3)
    bad = next(parts(run, samples=Broken(0, infinite)))
    for _ in range(2):
        train_step(run, bad)
    with pytest.raises(TrainingError, match=r"step 3: the loss was not finite for 3 steps in a row.*procedural-0-0"):
        train_step(run, bad)


def test_an_input_that_cannot_be_used_is_named():
    run = build()
    with pytest.raises(TrainingError, match=r"cannot use procedural-0-0, procedural-0-1: left: got .* NaN"):
        train_step(run, next(parts(run, samples=Broken(1, not_a_number))))


@pytest.mark.parametrize("frozen", [True, False])
def test_norm_statistics_are_frozen_where_wanted(frozen):
    run = build(freeze_batch_norm=frozen)
    name = "encoders.context.trunk.stem_norm.running_mean"
    before = run.net.state_dict()[name].clone()
    train_step(run, next(parts(run)))
    assert torch.equal(run.net.state_dict()[name], before) == frozen
    assert run.net.encoders.context.trunk.stem_norm.weight.grad is not None


def test_what_is_frozen_keeps_its_weights_and_statistics():
    run = build(frozen=("encoders", "fusion"))
    before = copy.deepcopy(run.net.state_dict())
    for batch in parts(run, 2):
        train_step(run, batch)
    after = run.net.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"update", "alpha_cap"}
    assert "polarization_encoder" not in changed  # behind a projection that is 0


def test_the_average_is_the_formula():
    torch.manual_seed(0)
    net, first = CrossPol(tiny_network()), CrossPol(tiny_network())
    start = [p.detach().clone() for p in first.parameters()]
    net.alpha_cap.fill_(0.7)
    average = moving_average(first, 0.99, step=3)
    average.update_parameters(net)
    decay = (1 + 4) / (10 + 4)
    for mean, old, new in zip(average.module.parameters(), start, net.parameters(), strict=True):
        torch.testing.assert_close(mean, decay * old + (1 - decay) * new)
    assert float(average.module.alpha_cap) == pytest.approx(0.7)
    average = moving_average(first, 0.0, step=10**6)
    average.update_parameters(net)
    assert all(torch.equal(a, b) for a, b in zip(average.module.parameters(), net.parameters(), strict=True))


@pytest.mark.parametrize("step", [0, 5, 10**6])
def test_the_average_never_starts_by_copying(step):
    """torch copies the weights at the first update; a run's average moves by (1 - d) from its first step on."""
    torch.manual_seed(0)
    net, first = CrossPol(tiny_network()), CrossPol(tiny_network())
    average = moving_average(first, 0.9, step)
    average.update_parameters(net)
    decay = min(0.9, (2 + step) / (11 + step))
    for mean, old, new in zip(average.module.parameters(), first.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(mean, decay * old + (1 - decay) * new)


def test_a_run_with_an_average_follows_its_weights():
    run = build(ema_decay=0.9)
    train_step(run, next(parts(run)))
    weight, mean = run.net.update.head[0].weight, run.evaluated.update.head[0].weight
    assert run.evaluated is run.average.module
    assert not mean.requires_grad
    assert 0 < (weight - mean).abs().max() < 1e-2


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_half_precision_is_close_and_gradients_are_measured_and_clipped_unscaled(precision, tolerance):
    half, full = (build(precision=name, iters=1) for name in (precision, "float32"))
    found, wanted = (train_step(run, next(parts(run)))[0] for run in (half, full))
    assert found["loss"] == pytest.approx(wanted["loss"], rel=tolerance)
    assert found["loss"] != wanted["loss"]
    assert found["gradient_norm"]["all"] == pytest.approx(wanted["gradient_norm"]["all"], rel=0.1)
    # Each part is clipped by itself; the polarization's gradient is far below the limit here.
    clipped = torch.nn.utils.get_total_norm(
        [p.grad for n, p in half.net.named_parameters() if n.startswith(("encoders.", "update."))]
    )
    assert float(clipped) == pytest.approx(1.0, rel=1e-3)
    assert (half.scaler is not None) == (precision == "float16")
    assert all(p.dtype == torch.float32 for p in half.net.parameters())


def test_compiling_keeps_the_names():
    plain, compiled = build(), build(compile=True)
    assert list(compiled.net.state_dict()) == list(plain.net.state_dict())
    assert compiled.net.update._compiled_call_impl is not None
    assert plain.net.update._compiled_call_impl is None


@pytest.mark.extended
def test_compiling_keeps_the_loss(monkeypatch):
    original = torch.nn.Module.compile
    # The default backend needs a C++ compiler and minutes; what is compiled is the same.
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: original(self, backend="eager"))
    plain, compiled = build(), build(compile=True)
    losses = [train_step(run, next(parts(run)))[0]["loss"] for run in (plain, compiled)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
