"""The correlation pyramid and its lookup, against loops in NumPy and against grid_sample."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from crosspol.model import correlation
from crosspol.model.correlation import (
    CorrelationByRows,
    CorrelationPyramid,
    correlate,
    volume_bytes,
    volume_limit,
)
from tests.model.materials import randn


def numpy_lookup(left: Tensor, right: Tensor, disparity: Tensor, levels: int, radius: int) -> NDArray[np.float64]:
    """One row, one pixel, one level, one offset at a time."""
    f_left, f_right, d = (x.double().numpy() for x in (left, right, disparity))
    batch, channels, height, width = f_left.shape
    out = np.zeros((batch, levels * (2 * radius + 1), height, width))
    for b, y, x in np.ndindex(batch, height, width):
        row = np.array([f_left[b, :, y, x] @ f_right[b, :, y, j] for j in range(width)]) / np.sqrt(channels)
        channel = 0
        for level in range(levels):
            for offset in range(-radius, radius + 1):
                at = (x - d[b, 0, y, x]) / 2**level + offset
                low = int(np.floor(at))
                near = [row[j] if 0 <= j < len(row) else 0.0 for j in (low, low + 1)]
                out[b, channel, y, x] = near[0] + (at - low) * (near[1] - near[0])
                channel += 1
            row = np.array([(row[2 * j] + row[2 * j + 1]) / 2 for j in range(len(row) // 2)])
    return out


@given(
    height=st.integers(1, 3),
    width=st.integers(1, 19),
    levels=st.integers(1, 4),
    radius=st.integers(1, 4),
    spread=st.sampled_from([0.0, 3.0, 100.0]),
    seed=st.integers(0, 99),
)
def test_lookup_matches_numpy(height: int, width: int, levels: int, radius: int, spread: float, seed: int) -> None:
    left, right = randn(2, 6, height, width, seed=seed), randn(2, 6, height, width, seed=seed + 1)
    disparity = spread * randn(2, 1, height, width, seed=seed + 2)
    pyramid = CorrelationPyramid(left, right, levels, radius)
    assert [tuple(level.shape) for level in pyramid.levels] == [
        (2 * height * width, max(width >> level, 1)) for level in range(levels)
    ]
    actual = pyramid.lookup(disparity)
    assert actual.shape == (2, levels * (2 * radius + 1), height, width)
    expected = numpy_lookup(left, right, disparity, levels, radius)
    np.testing.assert_allclose(actual.numpy(), expected, atol=1e-4)


def test_lookup_matches_grid_sample() -> None:
    """The official lookup samples with zeros outside and aligned corners; this one gathers."""
    left, right, disparity = randn(1, 8, 5, 32), randn(1, 8, 5, 32, seed=1), 12 * randn(1, 1, 5, 32, seed=2)
    pyramid = CorrelationPyramid(left, right)
    at = (torch.arange(32.0) - disparity[0, 0]).reshape(-1, 1)
    for level, row in enumerate(pyramid.levels):
        x = at / 2**level + torch.arange(-4.0, 5.0)
        grid = torch.stack([2 * x / (row.shape[1] - 1) - 1, torch.zeros_like(x)], dim=-1)[:, None]
        expected = F.grid_sample(row[:, None, None], grid, align_corners=True).view(1, 5, 32, 9).permute(0, 3, 1, 2)
        torch.testing.assert_close(
            pyramid.lookup(disparity)[:, 9 * level : 9 * level + 9], expected, atol=2e-5, rtol=1e-4
        )


def test_gradients_match_grid_sample() -> None:
    left, right = randn(1, 8, 2, 16).requires_grad_(), randn(1, 8, 2, 16, seed=1).requires_grad_()
    disparity = 3 * randn(1, 1, 2, 16, seed=2)
    pyramid = CorrelationPyramid(left, right, levels=1)
    at = (torch.arange(16.0) - disparity[0, 0]).reshape(-1, 1) + torch.arange(-4.0, 5.0)
    grid = torch.stack([2 * at / 15 - 1, torch.zeros_like(at)], dim=-1)[:, None]
    plain = torch.einsum("bchx,bchy->bhxy", left, right).reshape(-1, 1, 1, 16) / 8**0.5
    expected = F.grid_sample(plain, grid, align_corners=True).view(1, 2, 16, 9).permute(0, 3, 1, 2)
    direction = randn(1, 9, 2, 16, seed=3)
    ours = torch.autograd.grad((pyramid.lookup(disparity) * direction).sum(), (left, right))
    theirs = torch.autograd.grad((expected * direction).sum(), (left, right))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("shift", [0, 3, 7])
def test_peak_is_at_the_disparity(shift: int) -> None:
    """x_right = x_left - d: the center sample is largest at d (docs/pitfalls.md#the-sign-of-a-disparity)."""
    scene = F.normalize(randn(1, 32, 4, 40), dim=1)
    left, right = scene[..., :32], scene[..., shift : 32 + shift]
    pyramid = CorrelationPyramid(left, right, levels=1)
    seen = (..., slice(shift, None))
    truth = torch.full((1, 1, 4, 32), float(shift))
    assert (pyramid.lookup(truth)[seen].argmax(dim=1) == 4).all()
    # Offsets ascend in x_right: an estimate one px too small looks one px too far right, and finds the peak at -1.
    assert (pyramid.lookup(truth - 1)[seen].argmax(dim=1) == 3).all()


def test_only_the_right_axis_is_pooled() -> None:
    left, right = randn(1, 4, 2, 16), randn(1, 4, 2, 16, seed=1)
    pyramid = CorrelationPyramid(left, right)
    volume = pyramid.levels[0].view(2, 16, 16)
    for level, pooled in enumerate(pyramid.levels):
        expected = volume.unflatten(2, (16 >> level, 1 << level)).mean(-1)
        torch.testing.assert_close(pooled.view(2, 16, -1), expected)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_tiny_widths(width: int) -> None:
    """The real-time variant sees a 32 px image as 4 feature pixels: the coarsest levels are empty and read 0."""
    pyramid = CorrelationPyramid(randn(1, 4, 2, width), randn(1, 4, 2, width, seed=1))
    sampled = pyramid.lookup(torch.zeros(1, 1, 2, width))
    assert sampled.shape == (1, 36, 2, width)
    for level in range(4):
        assert sampled[:, 9 * level : 9 * level + 9].any().item() == (width >> level > 0)


def test_reduced_precision_correlates_in_float32() -> None:
    left, right = randn(1, 64, 2, 16), randn(1, 64, 2, 16, seed=1)
    exact = CorrelationPyramid(left.bfloat16().float(), right.bfloat16().float())
    with torch.autocast("cpu", torch.bfloat16):
        pyramid = CorrelationPyramid(left.bfloat16(), right.bfloat16())
        sampled = pyramid.lookup(torch.full((1, 1, 2, 16), 0.3))
    assert {level.dtype for level in pyramid.levels} == {torch.float32}
    assert sampled.dtype == torch.float32
    for ours, theirs in zip(pyramid.levels, exact.levels, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_a_diverged_estimate_does_not_crash(value: float) -> None:
    pyramid = CorrelationPyramid(randn(1, 4, 2, 8), randn(1, 4, 2, 8, seed=1))
    sampled = pyramid.lookup(torch.full((1, 1, 2, 8), value))
    assert sampled.isnan().all() if np.isnan(value) else not sampled.any()


@pytest.mark.parametrize(("width", "levels"), [(1, 4), (7, 4), (33, 4), (20, 1)])
@pytest.mark.parametrize("rows", [1, 2, 5, 100])
def test_without_the_volume_the_values_are_the_same(
    width: int, levels: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right = randn(2, 6, 5, width), randn(2, 6, 5, width, seed=1)
    disparity = 5 * randn(2, 1, 5, width, seed=2)
    monkeypatch.setattr(correlation, "_CHUNK_BYTES", rows * volume_bytes(2, 1, width, levels))
    with volume_limit(0):
        by_rows = correlate(left, right, levels)
    assert isinstance(by_rows, CorrelationByRows)
    sampled = by_rows.lookup(disparity)
    np.testing.assert_allclose(sampled.numpy(), numpy_lookup(left, right, disparity, levels, 4), atol=1e-4)
    whole = CorrelationPyramid(left, right, levels).lookup(disparity)
    torch.testing.assert_close(sampled, whole, atol=1e-6, rtol=1e-6)


def test_the_volume_is_kept_as_long_as_it_is_within_the_limit() -> None:
    left, right = randn(2, 4, 3, 21), randn(2, 4, 3, 21, seed=1)
    kept = CorrelationPyramid(left, right)
    size = sum(level.numel() * level.element_size() for level in kept.levels)
    assert volume_bytes(2, 3, 21) == size
    for limit, kind in ((None, CorrelationPyramid), (size, CorrelationPyramid), (size - 1, CorrelationByRows)):
        with volume_limit(limit):
            assert type(correlate(left, right)) is kind
    # The limit ends with its context, also where that ends by an error.
    with pytest.raises(ZeroDivisionError), volume_limit(0):
        raise ZeroDivisionError
    assert type(correlate(left, right)) is CorrelationPyramid
