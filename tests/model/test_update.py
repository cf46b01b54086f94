"""The refinement: gates, upsampling geometry, and the shortcuts against the long way round."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from crosspol.model.config import PRESETS, preset
from crosspol.model.update import (
    ConvexUpsampler,
    ConvGRU,
    MotionEncoder,
    MultiLevelUpdate,
    SingleLevelUpdate,
    upsample_bilinear,
)
from tests.model.materials import count, perturbed, rand, randn


def test_count() -> None:
    assert count(preset("blueprint").record.update(preset("blueprint"))) == 1_815_297


@pytest.mark.parametrize("bias", [False, True])
def test_gru_is_three_convolutions(bias: bool) -> None:
    gru = ConvGRU(6, 10, bias=bias)
    h, x1, x2, terms = torch.tanh(randn(2, 6, 5, 7)), randn(2, 4, 5, 7), randn(2, 6, 5, 7, seed=1), randn(2, 18, 5, 7)
    weights = [*gru.gates.weight.chunk(2), gru.candidate.weight]
    biases: list[Any] = [None] * 3
    if gru.gates.bias is not None:
        biases = [*gru.gates.bias.chunk(2), gru.candidate.bias]
    cz, cr, cq = terms.chunk(3, dim=1)
    x = torch.cat([h, x1, x2], dim=1)
    z = torch.sigmoid(F.conv2d(x, weights[0], biases[0], padding=1) + cz)
    r = torch.sigmoid(F.conv2d(x, weights[1], biases[1], padding=1) + cr)
    q = torch.tanh(F.conv2d(torch.cat([r * h, x1, x2], dim=1), weights[2], biases[2], padding=1) + cq)
    torch.testing.assert_close(gru(h, terms, x1, x2), (1 - z) * h + z * q, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("factor", [4, 8])
def test_bilinear_upsampling_is_exact_on_a_ramp(factor: int) -> None:
    """Feature pixel i sits at image pixel factor * i; values keep their unit; past the last one they stay."""
    height, width = 5, 7
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ramp = (0.5 + 0.25 * columns - 0.125 * rows)[None, None]
    full = upsample_bilinear(ramp, factor)
    assert full.shape == (1, 1, factor * height, factor * width)
    y = (torch.arange(factor * height) / factor).clamp(max=height - 1)
    x = (torch.arange(factor * width) / factor).clamp(max=width - 1)
    expected = 0.5 + 0.25 * x[None] - 0.125 * y[:, None]
    torch.testing.assert_close(full[0, 0], expected)
    torch.testing.assert_close(full[..., ::factor, ::factor], ramp)


def test_bilinear_upsampling_matches_loops() -> None:
    values = randn(2, 1, 3, 4).double()
    full = upsample_bilinear(values, 4)
    for b, row, column in np.ndindex(2, 12, 16):
        y, x = divmod(row, 4), divmod(column, 4)
        mixed = 0.0
        for i, weight_y in ((y[0], 1 - y[1] / 4), (min(y[0] + 1, 2), y[1] / 4)):
            for j, weight_x in ((x[0], 1 - x[1] / 4), (min(x[0] + 1, 3), x[1] / 4)):
                mixed += weight_y * weight_x * values[b, 0, i, j].item()
        assert full[b, 0, row, column].item() == pytest.approx(mixed, abs=1e-12)


@pytest.mark.parametrize("factor", [2, 4])
def test_convex_upsampling_matches_loops(factor: int) -> None:
    """Channel n * f * f + a * f + b weighs neighbor n for sub-pixel (a, b); neighbors outside are 0 (RAFT)."""
    height, width = 3, 4
    disparity, logits = randn(2, 1, height, width).double(), randn(2, 9 * factor**2, height, width, seed=1).double()
    full = ConvexUpsampler(logits, factor)(disparity)
    assert full.shape == (2, 1, factor * height, factor * width)
    for b, row, column in np.ndindex(2, factor * height, factor * width):
        (i, a), (j, c) = divmod(row, factor), divmod(column, factor)
        scores = [logits[b, n * factor**2 + a * factor + c, i, j].item() for n in range(9)]
        weights = np.exp(scores) / np.exp(scores).sum()
        mixed = 0.0
        for n, (di, dj) in enumerate(np.ndindex(3, 3)):
            y, x = i + di - 1, j + dj - 1
            if 0 <= y < height and 0 <= x < width:
                mixed += weights[n] * disparity[b, 0, y, x].item()
        assert full[b, 0, row, column].item() == pytest.approx(mixed, abs=1e-9)


def test_single_level_split_equals_one_convolution() -> None:
    """The context's part of the GRU, convolved once, and the rest are one convolution with one bias."""
    update = perturbed(SingleLevelUpdate(36, hidden_dim=6, context_dim=4, factor=4), scale=0.2)
    hidden, context = torch.tanh(randn(2, 6, 5, 7)), torch.relu(randn(2, 4, 5, 7, seed=1))
    correlation, disparity = randn(2, 36, 5, 7, seed=2), randn(2, 1, 5, 7, seed=3)
    (state,), step = update([hidden], update.context_terms([context]), correlation, disparity)

    motion = update.motion(torch.cat([correlation, disparity], dim=1))
    bias = update.context.bias
    assert bias is not None
    assert update.gru.gates.bias is None
    assert update.gru.candidate.bias is None
    split = torch.cat([update.gru.gates.weight, update.gru.candidate.weight])
    whole = torch.cat([split, update.context.weight], dim=1)
    z, r = torch.sigmoid(F.conv2d(torch.cat([hidden, motion, context], dim=1), whole[:12], bias[:12], padding=1)).chunk(
        2, dim=1
    )
    q = torch.tanh(F.conv2d(torch.cat([r * hidden, motion, context], dim=1), whole[12:], bias[12:], padding=1))
    expected = (1 - z) * hidden + z * q
    torch.testing.assert_close(state, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(step, update.head(expected), atol=1e-5, rtol=1e-4)
    # The blueprint's count: a 3x3 GRU of hidden 128 and input 256 has as many parameters as the two together.
    blueprint = SingleLevelUpdate(36, 128, 128, 4)
    assert count(blueprint.gru) + count(blueprint.context) == 3 * (128 * 384 * 9 + 128)


def test_motion_encoder_leaves_out_a_flow_that_is_zero() -> None:
    motion = perturbed(MotionEncoder(36))
    correlation, flow = randn(2, 36, 5, 7), randn(2, 1, 5, 7, seed=1)
    both = torch.cat([flow, torch.zeros_like(flow)], dim=1)
    c = motion.correlation2(motion.correlation1(correlation).relu()).relu()
    f = motion.flow2(motion.flow1(both).relu()).relu()
    expected = torch.cat([motion.mix(torch.cat([c, f], dim=1)).relu(), both], dim=1)
    torch.testing.assert_close(motion(correlation, flow), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("levels", "slow_fast", "runs"), [(3, False, [1, 1, 1]), (2, True, [1, 2]), (3, True, [1, 2, 3])]
)
def test_levels_run_as_often_as_they_should(levels: int, slow_fast: bool, runs: list[int]) -> None:
    update = MultiLevelUpdate(36, levels, hidden_dim=4, context_dim=4, factor=4, slow_fast=slow_fast)
    calls: list[int] = []
    for level, gru in enumerate(update.grus):
        gru.register_forward_hook(lambda *_, level=level: calls.append(level))
    sizes = [(8 >> level, 16 >> level) for level in range(levels)]
    hidden = [randn(1, 4, *size) for size in sizes]
    before = [h.clone() for h in hidden]
    terms = update.context_terms([randn(1, 4, *size, seed=1) for size in sizes])
    new, step = update(hidden, terms, randn(1, 36, 8, 16), randn(1, 1, 8, 16))
    assert [calls.count(level) for level in range(levels)] == runs
    assert [h.shape for h in new] == [h.shape for h in hidden]
    assert step.shape == (1, 1, 8, 16)
    # State is returned, not kept: what came in is untouched.
    assert all(torch.equal(a, b) for a, b in zip(hidden, before, strict=True))
    assert all(not torch.equal(a, b) for a, b in zip(new, before, strict=True))


def test_disparity_is_minus_the_flow_of_the_official_weights() -> None:
    update = MultiLevelUpdate(36, 2, hidden_dim=4, context_dim=4, factor=4, slow_fast=False)
    with torch.no_grad():
        update.flow_head2.weight.zero_()
        assert update.flow_head2.bias is not None
        update.flow_head2.bias.copy_(torch.tensor([-3.0, 100.0]))
    hidden = [randn(1, 4, 8, 16), randn(1, 4, 4, 8)]
    terms = update.context_terms([torch.zeros(1, 4, 8, 16), torch.zeros(1, 4, 4, 8)])
    _, step = update(hidden, terms, torch.zeros(1, 36, 8, 16), torch.zeros(1, 1, 8, 16))
    assert torch.equal(step, torch.full((1, 1, 8, 16), 3.0))


def test_upsampling_of_each_backbone_keeps_a_plane() -> None:
    """A constant stays what it is, away from the border for the convex kind."""
    for name in PRESETS:
        config = preset(name)
        factor, update = config.feature_stride, config.record.update(config)
        upsample = update.upsampler([randn(1, config.hidden_dim, 6, 8)])  # type: ignore[operator]
        full = upsample(torch.full((1, 1, 6, 8), 2.5 * factor))
        assert full.shape == (1, 1, 6 * factor, 8 * factor)
        inner = full[..., factor:-factor, factor:-factor]
        torch.testing.assert_close(inner, torch.full_like(inner, 2.5 * factor), atol=1e-4, rtol=0)


def test_upsampling_stays_in_float32_under_autocast() -> None:
    update = MultiLevelUpdate(36, 2, hidden_dim=8, context_dim=4, factor=4, slow_fast=False)
    with torch.autocast("cpu", torch.bfloat16):
        full = update.upsampler([rand(1, 8, 6, 8).bfloat16()])(400 + 4 * rand(1, 1, 6, 8))
    assert full.dtype == torch.float32
    assert ((full[..., 4:-4, 4:-4] > 400) & (full[..., 4:-4, 4:-4] < 404)).all()
