from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from crosspol.data.sample import StereoBatch, stack
from crosspol.data.warping import warp_to_left
from crosspol.training.polarization_input import drop_polarization, prepare_polarization, substitute_polarization
from crosspol.training.schedule import Place
from tests.training.tiny_runs import tiny_config, tiny_samples


def batch(count: int = 4, **changes) -> StereoBatch:
    samples = tiny_samples(**changes)
    return stack([samples[index] for index in range(count)])


def places(start: int, count: int) -> list[Place]:
    return [Place(n, "quad", (32, 64), n) for n in range(start, start + count)]


def dropped(start: int, count: int, **changes) -> list[bool]:
    data = replace(tiny_config().data, **changes)
    shown = prepare_polarization(batch(count), places(start, count), data)
    return [not shown.valid_left[index].any() and not shown.valid_right[index].any() for index in range(count)]


def test_polarization_is_dropped_from_a_share_of_the_samples_by_place_alone():
    whole = dropped(0, 32, polarization_dropout=0.25)
    assert 3 <= sum(whole) <= 13
    assert dropped(8, 8, polarization_dropout=0.25) == whole[8:16]
    assert dropped(0, 32, polarization_dropout=0.25, seed=1) != whole
    assert sum(dropped(0, 8)) == 0
    assert sum(dropped(0, 8, polarization_dropout=1.0)) == 8


@pytest.mark.parametrize("rig", ["quad", "quad-left", "crossed", "none"])
def test_what_is_dropped_is_not_valid_and_nothing_else_changes(rig):
    before = batch(2, rig=rig)
    if rig == "crossed":
        before = replace(before, valid_left=None, valid_right=None)
    after = drop_polarization(before, [True, False])
    if rig == "none":
        assert after is before
        return
    assert not after.valid_left[0].any()
    assert not after.valid_right[0].any()
    for side in ("left", "right"):
        masks = getattr(before, f"valid_{side}")
        assert torch.equal(getattr(after, f"valid_{side}")[1], torch.ones(1, 32, 64) if masks is None else masks[1])
    for name, tensor in before.tensors().items():
        if not name.startswith("valid_"):
            assert torch.equal(tensor, getattr(after, name))


def test_foreign_polarization_is_another_samples_of_the_batch():
    before = batch(3)
    after = substitute_polarization(before, "foreign")
    for name in ("pol_left", "pol_right", "valid_left", "valid_right"):
        for index in range(3):
            assert torch.equal(getattr(after, name)[index], getattr(before, name)[index - 1])
    assert torch.equal(after.left, before.left)
    assert torch.equal(after.glass, before.glass)
    with pytest.raises(ValueError, match="at least 2"):
        substitute_polarization(batch(1), "foreign")


@settings(max_examples=40, deadline=None)
@given(drawn=st.lists(st.integers(0, 2), min_size=2, max_size=6))
def test_foreign_polarization_is_never_of_the_same_scene(drawn):
    """A folder has few scenes, and a batch may hold one of them twice."""
    scenes = tiny_samples()
    before = stack([scenes[index] for index in drawn])
    after = substitute_polarization(before, "foreign")
    for place, scene in enumerate(drawn):
        others = [other for other in drawn if other != scene]
        if not others:
            assert not after.valid_left.any()
            continue
        assert any(torch.equal(after.pol_left[place], before.pol_left[drawn.index(other)]) for other in others)
        assert not torch.equal(after.pol_left[place], before.pol_left[place])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rig", ["quad", "quad-left"])
def test_the_oracle_is_the_true_mask_in_both_views(rig, channels):
    samples = tiny_samples(rig=rig, pol_channels=channels, glass_probability=1.0, camera_difference=0.0, size=(48, 96))
    before = stack([samples[index] for index in range(6)])
    after = substitute_polarization(before, "oracle")
    assert torch.equal(after.pol_left[:, -1:], before.glass)
    assert after.pol_left.shape[1] == channels
    assert after.valid_left.all()
    # It bounds what any cue can bring: it knows the right view's glass also where the rig would not measure it.
    assert after.rig == "quad"
    assert after.valid_right.all()
    for index in range(6):
        # Warped back to the left view, the right mask is the left one where both views see the point.
        right = after.pol_right[index, -1:].numpy()
        warped, inside = warp_to_left(right, before.disparity[index, 0].numpy())
        seen = inside & (before.occluded[index, 0].numpy() == 0)
        agree = (warped[0] > 0.5) == (before.glass[index, 0].numpy() > 0)
        assert np.mean(agree[seen]) > 0.95


def test_the_oracle_has_no_map_of_a_crossed_pair():
    with pytest.raises(ValueError, match="oracle: got rig crossed"):
        substitute_polarization(batch(rig="crossed"), "oracle")
    with pytest.raises(ValueError, match=r"data\.polarization: got oracle with rig crossed"):
        replace(tiny_config().data, rigs=("quad", "crossed"), polarization="oracle")
    before = batch(rig="none")
    assert substitute_polarization(before, "oracle") is before


def test_polarization_is_dropped_where_the_batch_lies():
    whole = batch(2)
    # Another device that is everywhere: shapes, no values; a tensor of the CPU beside them is an error.
    with FakeTensorMode():
        made = {name: torch.empty(tensor.shape, device="meta") for name, tensor in whole.tensors().items()}
        shown = drop_polarization(replace(whole, **made), [True, False])
    assert shown.valid_left.device.type == shown.valid_right.device.type == "meta"
