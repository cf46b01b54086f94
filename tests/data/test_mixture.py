from __future__ import annotations

import numpy as np
import pytest
import torch

from crosspol.data.mixture import Mixture, RoundRobin
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo

PARTS = [ProceduralStereo(ProceduralConfig(size=(32, 48), length=5, seed=seed, layers=(1, 2))) for seed in (1, 2, 3)]


def test_weights_are_how_often_a_part_is_drawn():
    mixture = Mixture(PARTS, [6, 3, 0], length=3000)
    sources = [mixture.source(index) for index in range(3000)]
    shares = np.bincount([part for part, _ in sources], minlength=3) / 3000
    np.testing.assert_allclose(shares, [2 / 3, 1 / 3, 0], atol=0.03)
    counts = np.bincount([inner for part, inner in sources if part == 0])
    assert len(counts) == 5
    np.testing.assert_allclose(counts / counts.sum(), 0.2, atol=0.04)


def test_a_sample_depends_on_seed_and_index_only():
    one, same, other = (Mixture(PARTS, [1, 1, 1], length=40, seed=seed) for seed in (3, 3, 4))
    backwards = [same.source(index) for index in reversed(range(40))][::-1]
    assert [one.source(index) for index in range(40)] == backwards
    assert [one.source(index) for index in range(40)] != [other.source(index) for index in range(40)]
    part, inner = one.source(7)
    assert one[7].name == PARTS[part][inner].name
    assert torch.equal(one[7].left, PARTS[part][inner].left)
    assert one[7].disparity_background is None
    assert len(one) == 40


@pytest.mark.parametrize(
    ("parts", "weights", "length", "says"),
    [
        (PARTS, [1], 5, "one a part, got 1 for 3"),
        ([], [], 5, "one a part"),
        (PARTS, [1, -1, 1], 5, "at least 0"),
        (PARTS, [0, 0, 0], 5, "not all 0"),
        (PARTS, [1, float("nan"), 1], 5, "finite"),
        (PARTS, [1, 1, 1], 0, "length must be at least 1"),
        ([*PARTS, []], [1, 1, 1, 1], 5, "parts must not be empty"),
    ],
)
def test_what_cannot_be_mixed(parts, weights, length, says):
    with pytest.raises(ValueError, match=says):
        Mixture(parts, weights, length=length)


def test_indices_end():
    with pytest.raises(IndexError, match=r"\[0, 4\), got 4"):
        Mixture(PARTS, [1, 1, 1], length=4)[4]


def test_parts_take_turns_as_long_as_they_have_more():
    parts = [["a0", "a1", "a2"], ["b0"], ["c0", "c1"]]
    turns = RoundRobin(parts, 10)
    assert [turns[index] for index in range(len(turns))] == ["a0", "b0", "c0", "a1", "c1", "a2"]
    assert len(RoundRobin(parts, 4)) == 4
    assert len(RoundRobin([], 4)) == 0
    with pytest.raises(IndexError, match=r"\[0, 6\), got 6"):
        turns[6]
