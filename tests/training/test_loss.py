from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspol.training.loss import glass_loss, sequence_loss


def reference(predictions, disparity, valid, glass, polarization, gamma, glass_weight, pol_weight):
    """The formula of the docstring, pixel by pixel."""
    samples = []
    for b in range(len(disparity)):
        total, counted = np.zeros(len(predictions)), 0.0
        for y, x in np.ndindex(disparity.shape[2:]):
            if valid[b, 0, y, x] < 0.5 or not np.isfinite(disparity[b, 0, y, x]):
                continue
            weight = 1.0
            if glass is not None:
                weight += (glass_weight - 1) * glass[b, 0, y, x]
            if polarization is not None:
                weight += pol_weight * abs(polarization[b, 0, y, x])
            counted += weight
            for i, prediction in enumerate(predictions):
                total[i] += weight * abs(prediction[b, 0, y, x] - disparity[b, 0, y, x])
        if counted:
            n = len(predictions)
            samples.append(sum(gamma ** (n - 1 - i) * total[i] / counted for i in range(n)))
    return np.mean(samples) if samples else 0.0


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1), batch=st.integers(1, 3), height=st.integers(1, 5), width=st.integers(1, 6),
    count=st.integers(1, 3), has_glass=st.booleans(), polarized=st.booleans(), known=st.sampled_from([0.0, 0.5, 1.0]),
)  # fmt: skip
def test_matches_the_formula(seed, batch, height, width, count, has_glass, polarized, known):
    rng = np.random.default_rng(seed)
    shape = (batch, 1, height, width)
    predictions = [rng.normal(5, 3, shape).astype(np.float32) for _ in range(count)]
    disparity = rng.uniform(0, 10, shape).astype(np.float32)
    disparity[rng.random(shape) < 0.1] = np.inf
    valid = (rng.random(shape) < known).astype(np.float32)
    glass = (rng.random(shape) < 0.3).astype(np.float32) if has_glass else None
    polarization = rng.uniform(-1, 1, shape).astype(np.float32) if polarized else None
    options = (0.8, 4.0, 1.5)
    tensors = [None if a is None else torch.from_numpy(a) for a in (disparity, valid, glass, polarization)]
    loss = sequence_loss([torch.from_numpy(p) for p in predictions], *tensors, *options)
    wanted = reference(predictions, disparity, valid, glass, polarization, *options)
    assert loss.item() == pytest.approx(wanted, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("weight", [1.0, 2.0, 5.0])
def test_glass_is_answered_from_a_chance_that_its_weight_sets(weight):
    # Scenes that look alike, one pixel of which may be a pane in front of something: the rest is right either way.
    count = 60
    near, far = torch.tensor(8.0), torch.tensor(2.0)
    for above in (True, False):
        panes = round(count / (1 + weight)) + (1 if above else -1)
        glass = torch.zeros(count, 1, 1, 1000)
        glass[:panes, ..., 500] = 1
        disparity = torch.where(glass > 0, near, far)
        said = {name: torch.full_like(disparity, 2.0) for name in ("glass", "none")}
        said["glass"][..., 500] = near
        losses = {
            name: sequence_loss([map_], disparity, torch.ones_like(glass), glass, glass_weight=weight)
            for name, map_ in said.items()
        }
        assert (losses["glass"] < losses["none"]) == above


def test_the_defaults_are_the_blueprints():
    disparity, valid = torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2)
    glass, polarization = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, -0.5]]]])
    # Weights 5 and 1 + 2 * 0.5 = 2; errors 1 and 10; then the same a refinement earlier.
    prediction = torch.tensor([[[[1.0, 10.0]]]])
    loss = sequence_loss([prediction, prediction], disparity, valid, glass, polarization)
    assert loss.item() == pytest.approx(1.9 * (5 * 1 + 2 * 10) / 7)


def test_what_is_not_known_never_counts_forward_or_backward():
    shape = (2, 1, 4, 5)
    torch.manual_seed(0)
    prediction, disparity = torch.randn(shape), torch.rand(shape)
    valid = (torch.rand(shape) < 0.5).float()
    hostile, rotten = disparity.clone(), prediction.clone()
    hostile[valid == 0] = torch.tensor([torch.inf, torch.nan, -torch.inf, 1e38]).repeat(10)[: int((valid == 0).sum())]
    rotten[valid == 0] = torch.nan
    first, second = prediction.requires_grad_(), rotten.requires_grad_()
    plain = sequence_loss([first], disparity, valid)
    other = sequence_loss([second], hostile, valid)
    plain.backward()
    other.backward()
    assert plain.item() == other.item()
    assert torch.equal(first.grad, second.grad)
    assert (second.grad[valid == 0] == 0).all()


def test_infinite_truth_is_unknown_even_where_it_is_called_valid():
    disparity = torch.tensor([[[[1.0, torch.inf]]]])
    prediction = torch.zeros(1, 1, 1, 2, requires_grad=True)
    loss = sequence_loss([prediction], disparity, torch.ones_like(disparity))
    loss.backward()
    assert loss.item() == 1
    assert prediction.grad.tolist() == [[[[-1, 0]]]]


def test_no_ground_truth_at_all_is_zero_with_a_zero_gradient():
    prediction = torch.randn(2, 1, 3, 3, requires_grad=True)
    loss = sequence_loss([prediction], torch.full((2, 1, 3, 3), torch.nan), torch.ones(2, 1, 3, 3))
    loss.backward()
    assert loss.item() == 0
    assert (prediction.grad == 0).all()


def test_a_sample_without_ground_truth_does_not_dilute_the_others():
    torch.manual_seed(0)
    prediction, disparity = torch.randn(2, 1, 3, 3), torch.rand(2, 1, 3, 3)
    valid = torch.ones(2, 1, 3, 3)
    valid[1] = 0
    both = sequence_loss([prediction], disparity, valid)
    assert both.item() == pytest.approx(sequence_loss([prediction[:1]], disparity[:1], valid[:1]).item())


def test_refuses_other_shapes_and_no_predictions():
    disparity = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match=r"predictions: got none"):
        sequence_loss([], disparity, disparity)
    with pytest.raises(ValueError, match=r"predictions\[1\]: got shape \(1, 1, 4, 3\), wanted \(1, 1, 4, 4\)"):
        sequence_loss([disparity, disparity[..., :3]], disparity, disparity)
    with pytest.raises(ValueError, match=r"glass: got shape"):
        sequence_loss([disparity], disparity, disparity, glass=disparity[0])


def test_the_glass_loss_is_entropy_and_dice_a_sample():
    torch.manual_seed(0)
    logits, glass = 3 * torch.randn(3, 1, 6, 8), (torch.rand(3, 1, 6, 8) < 0.3).float()
    valid = (torch.rand(3, 1, 6, 8) < 0.8).float()
    glass[1], valid[2] = 0, 0
    logits[0][valid[0] == 0] = torch.nan
    expected = []
    for index in range(2):
        known = valid[index] > 0
        p, t = torch.sigmoid(logits[index][known].double()), glass[index][known].double()
        entropy = -(t * p.log() + (1 - t) * (1 - p).log()).mean()
        dice = 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1) if t.any() else 0.0
        expected.append(float(entropy + dice))
    logits.requires_grad_()
    found = glass_loss(logits, glass, valid)
    assert found.item() == pytest.approx(sum(expected) / 2, rel=1e-5)
    found.backward()
    assert logits.grad.isfinite().all()
    assert not logits.grad[2].any()
    assert glass_loss(logits, glass, torch.zeros_like(valid)) == 0


def test_the_glass_loss_wants_one_shape():
    with pytest.raises(ValueError, match=r"valid: got shape \(1, 1, 2, 3\), wanted \(1, 1, 2, 2\)"):
        glass_loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 3))


def test_glass_that_is_not_known_weighs_as_none_and_is_not_learned_from():
    generator = torch.Generator().manual_seed(4)
    disparity, predicted = torch.rand(2, 2, 1, 6, 7, generator=generator)
    glass = (torch.rand(2, 1, 6, 7, generator=generator) < 0.4).float()
    unknown = glass.clone()
    unknown[0] = torch.nan
    valid = torch.ones_like(glass)
    none = torch.where(unknown.isnan(), 0.0, unknown)
    assert sequence_loss([predicted], disparity, valid, unknown) == sequence_loss([predicted], disparity, valid, none)
    logits = torch.randn(2, 1, 6, 7, generator=generator).requires_grad_()
    loss = glass_loss(logits, unknown, valid)
    assert loss == glass_loss(logits[1:], glass[1:], valid[1:])
    loss.backward()
    assert not logits.grad[0].any()
    assert logits.grad[1].all()
    assert glass_loss(logits, torch.full_like(glass, torch.nan), valid) == 0
