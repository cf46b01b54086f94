"""Attention and fusion against a NumPy account of them, and the properties that always hold."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.measuring import peak_bytes
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from crosspol.model import ConcatFusion, FusionConfig, PooledCrossAttention, SafeCrossAttentionFusion, alpha_cap
from crosspol.model.attention import masked_pool, rotary_angles, rotate, valid_cells
from crosspol.model.fusion import FUSIONS, GATE_LOGIT
from tests.model import attention_reference as numpy_reference
from tests.model.materials import count, fusion_config, fusion_variants, name_of, perturbed, rand, randn

POSITIONS = ("none", "rotary")
VARIANTS = [pytest.param(variant, id=name_of(variant)) for variant in fusion_variants()]


def masks(batch: int, height: int, width: int, kind: str, seed: int = 0) -> Tensor | None:
    """Return no mask, a scattered one, or one whose first sample has nothing valid."""
    if kind == "none":
        return None
    mask = (rand(batch, 1, height, width, seed=seed) > 0.4).float()
    if kind == "first empty":
        mask[0] = 0
    return mask


def gradients(output: Tensor, *leaves: Tensor) -> list[Tensor]:
    direction = randn(*output.shape, seed=9).to(output.dtype)
    return list(torch.autograd.grad((output * direction).sum(), leaves))


# Pooling


@given(
    size=st.integers(1, 5),
    height=st.integers(1, 11),
    width=st.integers(1, 11),
    kind=st.sampled_from(["average", "max"]),
    seed=st.integers(0, 99),
)
def test_pooling_sees_trusted_pixels_only(size: int, height: int, width: int, kind: Any, seed: int) -> None:
    x = randn(2, 3, height, width, seed=seed)
    mask = (rand(2, 1, height, width, seed=seed + 1) > 0.6).float()
    hidden = torch.where(mask > 0, x, torch.tensor(float("nan"))).requires_grad_()
    cells, valid = masked_pool(hidden, mask, size, kind)
    assert torch.equal(valid, valid_cells(mask, size))
    for b, row, column in np.ndindex(2, -(-height // size), -(-width // size)):
        rows, columns = slice(row * size, (row + 1) * size), slice(column * size, (column + 1) * size)
        trusted = mask[b, 0, rows, columns] > 0
        seen, pixels = x[b, :, rows, columns][:, trusted], trusted.numel()
        assert valid[b, 0, row, column].item() == (2 * seen.shape[1] >= pixels)
        expected = torch.zeros(3)
        if seen.shape[1]:
            expected = seen.mean(1) if kind == "average" else seen.amax(1)
        torch.testing.assert_close(cells[b, :, row, column], expected)
    (grad,) = gradients(cells, hidden)
    assert grad.isfinite().all()
    assert (grad[(mask == 0).expand_as(grad)] == 0).all()


def test_a_soft_mask_is_cut_at_a_half() -> None:
    mask = torch.tensor([0.0, 0.49, 0.5, 1.0]).view(1, 1, 1, 4)
    assert valid_cells(mask, 1).flatten().tolist() == [False, False, True, True]


def test_mean_and_projection_commute() -> None:
    """Pooling before the projection is pooling after it (docs/pitfalls.md#the-fused-kernel-is-silently-not-used)."""
    layer = PooledCrossAttention(16, num_heads=2, pool_size=4).to_key_value
    x = randn(1, 16, 12, 8)
    cells, _ = masked_pool(x, None, 4)
    after = torch.nn.functional.avg_pool2d(layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), 4)
    torch.testing.assert_close(layer(cells.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), after, atol=1e-6, rtol=1e-5)


# Attention


@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    heads=st.sampled_from([1, 2]),
    pool_size=st.integers(1, 8),
    kv_dim=st.sampled_from([None, 5]),
    options=st.fixed_dictionaries(
        {
            "position": st.sampled_from(POSITIONS),
            "null_key": st.booleans(),
            "window": st.sampled_from([None, 1, 2]),
            "pool": st.sampled_from(["average", "max"]),
        }
    ),
    masked=st.sampled_from(["none", "some", "first empty"]),
    seed=st.integers(0, 99),
)
def test_matches_numpy(
    batch: int,
    height: int,
    width: int,
    heads: int,
    pool_size: int,
    kv_dim: int | None,
    options: dict[str, Any],
    masked: str,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    attention = perturbed(PooledCrossAttention(8, kv_dim, heads, pool_size, **options), scale=0.5)
    query, key_value = (
        randn(batch, 8, height, width, seed=seed),
        randn(batch, kv_dim or 8, height, width, seed=seed + 1),
    )
    mask = masks(batch, height, width, masked, seed)
    expected, expected_weights = numpy_reference.attention(attention, query, key_value, mask)
    with torch.no_grad():
        actual = attention(query, key_value, mask)
        reference = attention.reference(query, key_value, mask)
        weights = attention.weights(query, key_value, mask)
    np.testing.assert_allclose(actual.numpy(), expected, atol=2e-5)
    np.testing.assert_allclose(reference.numpy(), expected, atol=2e-5)
    np.testing.assert_allclose(weights.numpy(), expected_weights, atol=2e-5)


@pytest.mark.parametrize("window", [None, 1])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("null_key", [False, True])
@pytest.mark.parametrize("masked", ["none", "some", "first empty"])
def test_fused_and_plain_agree_backward(position: Any, null_key: bool, masked: str, window: int | None) -> None:
    attention = perturbed(PooledCrossAttention(32, 12, 4, 4, position=position, null_key=null_key, window=window))
    query, key_value = randn(2, 32, 13, 10).requires_grad_(), randn(2, 12, 13, 10, seed=1).requires_grad_()
    mask = masks(2, 13, 10, masked)
    fused, plain = attention(query, key_value, mask), attention.reference(query, key_value, mask)
    torch.testing.assert_close(fused, plain, atol=1e-5, rtol=1e-5)
    leaves = (query, key_value, *attention.parameters())
    for ours, theirs in zip(gradients(fused, *leaves), gradients(plain, *leaves), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("window", [None, 1])
@pytest.mark.parametrize("pool", ["average", "max"])
@pytest.mark.parametrize("masked", ["none", "some", "first empty"])
def test_gradient_against_finite_differences(pool: Any, masked: str, window: int | None) -> None:
    attention = PooledCrossAttention(4, 3, 1, 2, position="rotary", null_key=True, pool=pool, window=window).double()
    query, key_value = randn(2, 4, 3, 2).double().requires_grad_(), randn(2, 3, 3, 2, seed=1).double().requires_grad_()
    mask = masks(2, 3, 2, masked)
    assert torch.autograd.gradcheck(lambda q, kv: attention(q, kv, mask), (query, key_value), fast_mode=True)


@pytest.mark.parametrize("window", [None, 1])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("null_key", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_fused_kernel_runs(position: Any, null_key: bool, masked: bool, training: bool, window: int | None) -> None:
    """Else the scores are stored after all, silently (docs/pitfalls.md#the-fused-kernel-is-silently-not-used)."""
    attention = PooledCrossAttention(32, 24, 4, 4, position=position, null_key=null_key, window=window).train(training)
    query = randn(2, 32, 12, 16).requires_grad_(training)
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        attention(query, randn(2, 24, 12, 16), masks(2, 12, 16, "first empty" if masked else "none"))
    names = {event.key for event in recorded.key_averages()}
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in names
    assert not {"aten::_scaled_dot_product_attention_math", "aten::softmax", "aten::_softmax"} & names


@pytest.mark.parametrize("position", POSITIONS)
def test_the_fused_kernel_does_not_store_scores(position: Any) -> None:
    """Peak memory stays far below the N x M scores of one head."""
    attention = PooledCrossAttention(16, num_heads=4, pool_size=2, position=position)
    query = randn(1, 16, 64, 64)
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        attention(query, query)
    largest = max(event.cpu_memory_usage for event in recorded.events())
    assert largest < 4 * 64 * 64 * 32 * 32 / 4


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_acts_in_training_only(dropout: float) -> None:
    attention = PooledCrossAttention(16, num_heads=2, pool_size=2, dropout=dropout)
    query = randn(1, 16, 8, 8)
    attention.eval()
    torch.testing.assert_close(attention(query, query), attention.reference(query, query), atol=1e-6, rtol=1e-5)
    attention.train()
    same = torch.allclose(attention(query, query), attention.reference(query, query), atol=1e-6)
    assert same == (dropout == 0.0)


@pytest.mark.parametrize("window", [None, 1])
@pytest.mark.parametrize("pool", ["average", "max"])
def test_untrusted_pixels_may_hold_anything(pool: Any, window: int | None) -> None:
    attention = PooledCrossAttention(16, num_heads=2, pool_size=4, pool=pool, window=window)
    query, key_value, mask = randn(2, 16, 9, 10), randn(2, 16, 9, 10, seed=1), masks(2, 9, 10, "some")
    assert mask is not None
    expected = attention(query, key_value, mask)
    for garbage in (float("nan"), float("inf"), -1e30):
        hidden = torch.where(mask > 0, key_value, torch.tensor(garbage)).requires_grad_()
        actual = attention(query, hidden, mask)
        assert torch.equal(actual, expected)
        (grad,) = gradients(actual, hidden)
        assert grad.isfinite().all()


@pytest.mark.parametrize("window", [None, 1])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("null_key", [False, True])
def test_fully_masked_samples_are_exactly_zero(position: Any, null_key: bool, window: int | None) -> None:
    attention = perturbed(
        PooledCrossAttention(16, 8, 2, 4, position=position, null_key=null_key, window=window), scale=1.0
    )
    query, key_value = randn(2, 16, 9, 10).requires_grad_(), randn(2, 8, 9, 10, seed=1).requires_grad_()
    mask = masks(2, 9, 10, "first empty")
    for attend in (attention, attention.reference):
        out = attend(query, key_value, mask)
        assert (out[0] == 0).all()
        assert (out[1] != 0).any()
        grads = gradients(out, query, key_value, *attention.parameters())
        assert all(grad.isfinite().all() for grad in grads)
        assert (grads[0][0] == 0).all()
        assert (grads[1][0] == 0).all()
    assert (attention.weights(query, key_value, mask)[0] == 0).all()


@pytest.mark.parametrize("window", [None, 1])
@pytest.mark.parametrize("position", POSITIONS)
def test_a_sample_does_not_depend_on_its_batchmates(position: Any, window: int | None) -> None:
    """Masks per sample, not `valid_count.min() > 0` over the batch (docs/pitfalls.md#masks-across-the-batch)."""
    attention = PooledCrossAttention(16, num_heads=2, pool_size=4, position=position, window=window)
    query, key_value = randn(3, 16, 9, 10), randn(3, 16, 9, 10, seed=1)
    mask = masks(3, 9, 10, "first empty")
    assert mask is not None
    mask[2] = 1
    together = attention(query, key_value, mask)
    for i in range(3):
        alone = attention(query[i : i + 1], key_value[i : i + 1], mask[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("null_key", [False, True])
@pytest.mark.parametrize("masked", ["none", "some", "first empty"])
def test_weights(null_key: bool, masked: str) -> None:
    attention = perturbed(PooledCrossAttention(16, num_heads=4, pool_size=4, null_key=null_key), scale=0.5)
    query, key_value, mask = randn(2, 16, 9, 10), randn(2, 16, 9, 10, seed=1), masks(2, 9, 10, masked)
    weights = attention.weights(query, key_value, mask)
    cells = 3 * 3
    assert weights.shape == (2, 4, 90, cells + null_key)
    sums = torch.ones(2, 4, 90)
    if masked == "first empty":
        sums[0] = 0
    torch.testing.assert_close(weights.sum(-1), sums)
    if mask is not None:
        untrusted = ~valid_cells(mask, 4).flatten(1)[:, None, None].expand(2, 4, 90, cells)
        assert untrusted.any()
        assert (weights[..., :cells][untrusted] == 0).all()
    on_polarization = weights[1, ..., :cells].sum(-1)
    assert (on_polarization.min() < 0.8).item() == null_key


def test_a_window_sees_the_same_whatever_the_size_of_the_image() -> None:
    """A crop whose border is further away than the window reaches; rotary positions count from another corner there."""
    attention = perturbed(
        PooledCrossAttention(16, num_heads=2, pool_size=2, position="rotary", null_key=True, window=2), scale=0.3
    )
    query, key_value, mask = randn(1, 16, 40, 60), randn(1, 16, 40, 60, seed=1), masks(1, 40, 60, "some")
    assert mask is not None
    whole = attention(query, key_value, mask)
    part = (..., slice(8, 32), slice(20, 56))
    cropped = attention(query[part], key_value[part], mask[part])
    inner = (..., slice(6, -6), slice(6, -6))
    torch.testing.assert_close(cropped[inner], whole[part][inner], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_window_that_copies_few_rows_at_a_time_sees_the_same(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    attention = PooledCrossAttention(16, num_heads=2, pool_size=2, position="rotary", null_key=True, window=2)
    query, key_value, mask = randn(2, 16, 13, 21), randn(2, 16, 13, 21, seed=1), masks(2, 13, 21, "first empty")
    whole = attention(query, key_value, mask)
    # Keys and values of a row of cells: 11 cells of 25 around each, in two samples.
    monkeypatch.setattr("crosspol.model.attention._CHUNK_NUMBERS", rows * 2 * 16 * 25 * 2 * 11)
    torch.testing.assert_close(attention(query, key_value, mask), whole, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(whole, attention.reference(query, key_value, mask), atol=1e-5, rtol=1e-4)


def test_a_window_takes_less_memory_than_it_copies() -> None:
    """Without chunks, keys and values around the cells of a 240x320 map would take 480 MB."""
    attention = PooledCrossAttention(64, num_heads=4, pool_size=2, position="rotary", window=3)
    query = randn(1, 64, 240, 320)
    with torch.no_grad():
        assert peak_bytes(lambda: attention(query, query)) < 300e6


def test_a_window_without_a_valid_cell_gives_zero_there_alone() -> None:
    attention = perturbed(PooledCrossAttention(8, num_heads=2, pool_size=2, null_key=True, window=1), scale=0.5)
    query, mask = randn(1, 8, 12, 20), torch.zeros(1, 1, 12, 20)
    mask[..., :6] = 1
    out = attention(query, query, mask)
    assert (out[..., :8] != 0).any(dim=1).all()
    assert (out[..., 8:] == 0).all()


def test_a_query_can_attend_to_nothing() -> None:
    """With the null key a query that matches no key receives almost nothing; without, it must take something."""
    query, key_value = torch.full((1, 4, 2, 2), 10.0), randn(1, 4, 2, 2)
    for null_key in (False, True):
        attention = PooledCrossAttention(4, num_heads=1, pool_size=1, null_key=null_key)
        with torch.no_grad():
            attention.to_query.weight.copy_(torch.eye(4))
            attention.to_key_value.weight.zero_()
            attention.to_key_value.bias.copy_(torch.tensor([-5.0] * 4 + [1.0] * 4))
            attention.to_query.bias.zero_()
            attention.to_out.weight.copy_(torch.eye(4))
            attention.to_out.bias.zero_()
        torch.testing.assert_close(attention(query, key_value), torch.full_like(query, 0.0 if null_key else 1.0))


def shuffled(x: Tensor, size: int) -> Tensor:
    """Permute the size x size cells of (B, C, H, W)."""
    batch, channels, height, width = x.shape
    blocks = x.unfold(2, size, size).unfold(3, size, size).reshape(batch, channels, -1, size, size)
    order = torch.randperm(blocks.shape[2], generator=torch.Generator().manual_seed(4))
    blocks = blocks[:, :, order].view(batch, channels, height // size, width // size, size, size)
    return blocks.permute(0, 1, 2, 4, 3, 5).reshape(x.shape)


@pytest.mark.parametrize("null_key", [False, True])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("pool", ["average", "max"])
def test_shuffling_cells_shows_only_with_positions(null_key: bool, position: Any, pool: Any) -> None:
    """Else attention cannot tell where the polarization is (docs/pitfalls.md#attention-without-position)."""
    options: dict[str, Any] = {"position": position, "null_key": null_key, "pool": pool}
    fusion = perturbed(SafeCrossAttentionFusion(16, 8, 2, 4, merge="none", **options), scale=0.5)
    stereo, pol = randn(2, 16, 16, 24), randn(2, 8, 16, 24, seed=1)
    mask = masks(2, 16, 24, "some")
    assert mask is not None
    for trusted in (mask, torch.ones_like(mask)):
        before = fusion(stereo, pol, trusted)
        after = fusion(stereo, shuffled(pol, 4), shuffled(trusted, 4))
        change = (after - before).abs().max().item()
        assert change > 1e-3 if position == "rotary" else change < 1e-6


def test_rotary_scores_depend_on_the_offset_in_cells() -> None:
    """One cell further in the image and one key further leave the score as it was, in both directions."""
    size, depth, like = 4, 16, torch.zeros(())
    query, key = randn(1, 1, 1, depth), randn(1, 1, 1, depth, seed=1)

    def scores(height: int, width: int) -> Tensor:
        q = rotate(
            query.expand(1, 1, height * width * size**2, depth),
            rotary_angles(height * size, width * size, size, depth, like),
        )
        k = rotate(key.expand(1, 1, height * width, depth), rotary_angles(height, width, 1, depth, like))
        return (q @ k.transpose(-1, -2)).view(height * size, width * size, height, width)

    s = scores(6, 5)
    torch.testing.assert_close(s[size:, :, 1:], s[:-size, :, :-1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(s[:, size:, :, 1:], s[:, :-size, :, :-1], atol=1e-5, rtol=1e-4)
    assert (s[size:, :, :-1] - s[:-size, :, :-1]).abs().max() > 0.1


def test_rotary_positions_are_cell_centres() -> None:
    """The mean position of a cell's pixels is the cell's own: the center of the first cell is 0."""
    pixels, cells = rotary_angles(8, 12, 4, 8, torch.zeros(())), rotary_angles(2, 3, 1, 8, torch.zeros(()))
    pooled = torch.nn.functional.avg_pool2d(pixels.T.reshape(1, 4, 8, 12), 4)
    torch.testing.assert_close(pooled, cells.T.reshape(1, 4, 2, 3))
    assert (cells[0] == 0).all()
    assert rotary_angles(1, 1000, 1, 32, torch.zeros(()))[:, -1].max() < 20 * 2 * math.pi


@pytest.mark.parametrize(
    ("query", "key_value", "mask", "message"),
    [
        ((1, 8, 4), (1, 6, 4, 4), None, r"query: got shape \(1, 8, 4\), wanted \(B, 16, H, W\)"),
        ((1, 8, 4, 4), (1, 6, 4, 4), None, r"query: got shape \(1, 8, 4, 4\)"),
        ((1, 16, 4, 4), (1, 16, 4, 4), None, r"key_value: got shape \(1, 16, 4, 4\), wanted \(1, 6, 4, 4\)"),
        ((2, 16, 4, 4), (1, 6, 4, 4), None, r"key_value: got shape \(1, 6, 4, 4\), wanted \(2, 6, 4, 4\)"),
        ((1, 16, 4, 4), (1, 6, 2, 2), None, r"key_value: .* wanted \(1, 6, 4, 4\) to fit the query"),
        ((1, 16, 4, 4), (1, 6, 4, 4), (1, 4, 4), r"mask: got shape \(1, 4, 4\), wanted \(1, 1, 4, 4\)"),
        ((1, 16, 4, 4), (1, 6, 4, 4), (1, 6, 4, 4), r"mask: got shape \(1, 6, 4, 4\)"),
    ],
)
def test_attention_refuses_shapes(query: Any, key_value: Any, mask: Any, message: str) -> None:
    attention = PooledCrossAttention(16, 6, 2, 2)
    with pytest.raises(ValueError, match=message):
        attention(torch.zeros(query), torch.zeros(key_value), None if mask is None else torch.ones(mask))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "got window=0, wanted None or a whole number from 1 up"),
        ({"window": -1}, "got window=-1"),
        ({"window": 2.5}, "got window=2.5"),
        ({"locality": 1.0}, "got locality=1.0, wanted 0 without rotary positions"),
    ],
)
def test_attention_refuses_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^PooledCrossAttention: {message}"):
        PooledCrossAttention(16, **options)


def test_attention_refuses_heads_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="got dim=10, wanted a multiple of 4 for 4 heads"):
        PooledCrossAttention(10)
    with pytest.raises(ValueError, match="got dim=24, wanted a multiple of 16 for 4 heads"):
        PooledCrossAttention(24, position="rotary")


# Fusion


def small(variant: dict[str, Any], **options: Any) -> SafeCrossAttentionFusion:
    return SafeCrossAttentionFusion(16, 8, 2, 4, **variant, **options)


@pytest.mark.parametrize("variant", VARIANTS)
def test_fusion_is_the_formula(variant: dict[str, Any]) -> None:
    fusion = perturbed(small(variant), scale=0.3)
    stereo, pol, mask = randn(2, 16, 5, 6), randn(2, 8, 5, 6, seed=1), masks(2, 5, 6, "first empty")
    for trusted in (None, mask, (rand(2, 1, 5, 6) > 0.3).float()):
        expected = numpy_reference.fusion(fusion, stereo, pol, trusted, 0.4)
        actual = fusion(stereo, pol, trusted, 0.4)
        assert (actual != stereo).any()
        np.testing.assert_allclose(actual.detach().numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_step_0_changes_nothing(variant: dict[str, Any]) -> None:
    stereo, pol = randn(2, 16, 9, 10), 10 * randn(2, 8, 9, 10, seed=1)
    for training in (False, True):
        fusion = small(variant).train(training)
        for kind in ("none", "some", "first empty"):
            assert torch.equal(fusion(stereo, pol, masks(2, 9, 10, kind)), stereo)


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_valid_polarization_nothing_changes_at_any_step(variant: dict[str, Any]) -> None:
    stereo = randn(2, 16, 9, 10)
    stereo.requires_grad_()
    pol = torch.full((2, 8, 9, 10), float("nan"))
    for seed, training in enumerate((False, True)):
        fusion = perturbed(small(variant).train(training), seed=seed, scale=1.0)
        mask = torch.zeros(2, 1, 9, 10)
        assert torch.equal(fusion(stereo, pol, mask), stereo)
        # One valid pixel of sixteen makes no valid cell: still nothing, whatever the merge would do there.
        mask[..., 0, 0] = 1
        out = fusion(stereo, torch.nan_to_num(pol), mask)
        assert torch.equal(out, stereo)
        (grad,) = torch.autograd.grad(out.sum(), stereo)
        assert torch.equal(grad, torch.ones_like(grad))


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_infinite_leaves_whatever_the_mask(variant: dict[str, Any]) -> None:
    fusion = perturbed(small(variant), scale=1.0)
    stereo = (100 * randn(3, 16, 9, 10)).requires_grad_()
    mask = masks(3, 9, 10, "first empty")
    assert mask is not None
    mask[1, :, :, 5:] = 0
    pol = torch.where(mask > 0, 100 * randn(3, 8, 9, 10, seed=1), torch.tensor(float("nan"))).requires_grad_()
    out = fusion(stereo, pol, mask)
    assert out.isfinite().all()
    leaves = (stereo, pol, *fusion.parameters())
    assert all(grad.isfinite().all() for grad in gradients(out, *leaves))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_receives_a_gradient(variant: dict[str, Any]) -> None:
    fusion = perturbed(small(variant), scale=0.3)
    fusion(randn(2, 16, 9, 10), randn(2, 8, 9, 10, seed=1), masks(2, 9, 10, "some")).square().sum().backward()
    untouched = [name for name, p in fusion.named_parameters() if p.grad is None or not p.grad.any()]
    assert untouched == []


def test_gradients_at_step_0() -> None:
    """At first only the zero-initialized layers learn, through the gate (docs/pitfalls.md#attenuated-three-times)."""
    norms = {}
    for gate in ("blueprint", "projection"):
        fusion = SafeCrossAttentionFusion(16, num_heads=2, pool_size=4, gate=gate)
        with torch.no_grad():
            for parameter in fusion.attention.parameters():
                parameter.copy_(randn(*parameter.shape))
        fusion(randn(1, 16, 8, 8), randn(1, 16, 8, 8, seed=1), alpha_cap=0.05).square().sum().backward()
        moving = {name for name, p in fusion.named_parameters() if p.grad is not None and p.grad.any()}
        assert moving == {"projection.weight", "projection.bias", "merge.weight", "merge.bias"}
        assert fusion.projection.weight.grad is not None
        norms[gate] = fusion.projection.weight.grad.norm()
    attenuation = (norms["blueprint"] / norms["projection"]).item()
    assert attenuation == pytest.approx(0.05 / (1 + math.exp(5)), rel=1e-4)
    assert attenuation == pytest.approx(3.3e-4, rel=0.02)


def test_merge_touches_trusted_pixels_only() -> None:
    fusion = small({})
    with torch.no_grad():
        assert fusion.merge is not None
        fusion.merge.weight.normal_()
    stereo, pol = randn(1, 16, 9, 10), randn(1, 8, 9, 10, seed=1)
    mask = (rand(1, 1, 9, 10) > 0.3).float()
    changed = (fusion(stereo, pol, mask) != stereo).any(dim=1, keepdim=True)
    assert torch.equal(changed, mask > 0)


def test_fusion_of_a_sample_does_not_depend_on_its_batchmates() -> None:
    for variant in ({}, {"position": "rotary", "null_key": True, "enable_stereo_to_pol": True}):
        fusion = perturbed(small(variant), scale=0.3).eval()
        stereo, pol, mask = randn(3, 16, 9, 10), randn(3, 8, 9, 10, seed=1), masks(3, 9, 10, "first empty")
        assert mask is not None
        together = fusion(stereo, pol, mask)
        for i in range(3):
            alone = fusion(stereo[i : i + 1], pol[i : i + 1], mask[i : i + 1])
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("enable_stereo_to_pol", [False, True])
def test_guard_hides_in_use_and_shows_in_training(enable_stereo_to_pol: bool) -> None:
    """A network that has diverged falls back to stereo in use; in training the loss must show it."""
    fusion = perturbed(small({"enable_stereo_to_pol": enable_stereo_to_pol}))
    stereo, pol, mask = randn(2, 16, 9, 10), randn(2, 8, 9, 10, seed=1), masks(2, 9, 10, "first empty")
    with torch.no_grad():
        fusion.projection.weight[3] = float("nan")
    used = fusion.eval()(stereo, pol, mask)
    assert used.isfinite().all()
    assert torch.equal(used[:, 3], stereo[:, 3])
    assert not torch.equal(used[1, :3], stereo[1, :3])
    trained = fusion.train()(stereo, pol, mask)
    assert torch.equal(trained[0], stereo[0])
    assert trained[1, 3].isnan().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("variant", [{}, {"position": "rotary", "null_key": True, "enable_stereo_to_pol": True}])
def test_injection_takes_the_type_of_the_stereo_features(dtype: torch.dtype, variant: dict[str, Any]) -> None:
    fusion = perturbed(small(variant)).eval()
    stereo, pol, mask = randn(2, 16, 9, 10), randn(2, 8, 9, 10, seed=1), masks(2, 9, 10, "some")
    expected = fusion(stereo, pol, mask)
    with torch.autocast("cpu", dtype):
        for kind in (torch.float32, dtype):
            out = fusion(stereo.to(kind), pol, mask)
            assert out.dtype == kind
            torch.testing.assert_close(out.float(), expected, atol=0.05, rtol=0.02)
    out = fusion.to(dtype)(stereo.to(dtype), pol.to(dtype), mask)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), expected, atol=0.05, rtol=0.02)


def test_reduced_precision_keeps_the_identity() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        stereo = randn(1, 16, 9, 10).to(dtype)
        with torch.autocast("cpu", dtype):
            assert torch.equal(small({})(stereo, randn(1, 8, 9, 10)), stereo)


# The gate


def test_alpha_cap_schedule() -> None:
    assert alpha_cap(0) == 0.05
    assert alpha_cap(2500) == pytest.approx(0.525)
    assert alpha_cap(5000) == alpha_cap(70_000) == 1.0
    assert alpha_cap(4999) == pytest.approx(1 - 0.95 / 5000)
    assert alpha_cap(5, start=0.5, warmup=10) == 0.75
    assert alpha_cap(0, warmup=0) == 1.0
    assert alpha_cap(0, start=0.0) == 0.0


@given(step=st.integers(0, 10_000), start=st.floats(0, 1), warmup=st.integers(1, 6000))
def test_alpha_cap_is_the_blueprint_s(step: int, start: float, warmup: int) -> None:
    expected = float(np.interp(step, [0, warmup], [start, 1.0]))
    assert alpha_cap(step, start, warmup) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("arguments", [(-1,), (0, 1.5), (0, -0.1), (0, 0.05, -1)])
def test_alpha_cap_refuses(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"^alpha_cap: got step=.* wanted step, warmup >= 0"):
        alpha_cap(*arguments)


@pytest.mark.parametrize("cap", [0.0, 0.05, 0.525, 1.0])
def test_alpha(cap: float) -> None:
    fusion = small({}).requires_grad_(False)
    assert GATE_LOGIT == -5.0
    assert float(fusion.alpha(cap)) == pytest.approx(cap / (1 + math.exp(5)), rel=1e-6)
    assert float(fusion.alpha(torch.tensor(cap))) == pytest.approx(cap / (1 + math.exp(5)), rel=1e-6)
    assert small({"gate": "projection"}).alpha(cap) == 1.0


def test_the_cap_scales_what_is_injected() -> None:
    fusion = perturbed(small({})).eval()
    stereo, pol = randn(1, 16, 9, 10), randn(1, 8, 9, 10, seed=1)
    injected = [fusion(stereo, pol, alpha_cap=cap) - stereo for cap in (0.0, 0.05, 1.0)]
    assert not injected[0].any()
    torch.testing.assert_close(20 * injected[1], injected[2], atol=2e-5, rtol=1e-3)
    ungated = perturbed(small({"gate": "projection"})).eval()
    assert torch.equal(ungated(stereo, pol, alpha_cap=0.05), ungated(stereo, pol, alpha_cap=1.0))


# Counts, the baseline, and configuration


def test_counts() -> None:
    assert count(SafeCrossAttentionFusion(128)) == 115_713
    assert count(SafeCrossAttentionFusion(128, merge="none")) == 115_713 - 33_152
    assert count(SafeCrossAttentionFusion(128, gate="projection")) == 115_712
    assert count(SafeCrossAttentionFusion(128, position="rotary", null_key=True)) == 115_713
    # 4,363,715 - 115,713 + 33,152 = 4,281,154: the baseline is the merge layer, ungated.
    assert count(ConcatFusion(128)) == 33_152


def test_concat_is_one_convolution_and_an_affine() -> None:
    fusion = perturbed(ConcatFusion(6, 4))
    stereo, pol, mask = randn(2, 6, 5, 7), randn(2, 4, 5, 7, seed=1), masks(2, 5, 7, "some")
    assert mask is not None
    weight, bias = fusion.fusion_conv.weight[..., 0, 0], fusion.fusion_conv.bias
    assert bias is not None
    for trusted in (None, mask):
        seen = pol if trusted is None else pol * trusted
        mixed = torch.einsum("oc,bchw->bhwo", weight, torch.cat([stereo, seen], dim=1)) + bias
        expected = (mixed * fusion.affine.weight + fusion.affine.bias).permute(0, 3, 1, 2)
        torch.testing.assert_close(fusion(stereo, pol, trusted, alpha_cap=0.05), expected)
    hidden = torch.where(mask > 0, pol, torch.tensor(float("nan")))
    assert torch.equal(fusion(stereo, hidden, mask), fusion(stereo, pol, mask))


def test_building_hands_everything_on() -> None:
    concat = FUSIONS["concat"](FusionConfig(kind="concat"), 16, 8)
    assert isinstance(concat, ConcatFusion)
    assert concat.fusion_conv.weight.shape == (16, 24, 1, 1)
    config = fusion_config(
        merge="none", gate="projection", position="rotary", null_key=True, enable_stereo_to_pol=True,
        num_heads=2, pool_size=3, pool="max", dropout=0.25,
    )  # fmt: skip
    fusion = FUSIONS["cross-attention"](config, 16, 8)
    assert isinstance(fusion, SafeCrossAttentionFusion)
    assert (fusion.merge, fusion.pol_affine, fusion.alpha_logit) == (None, None, None)
    back = fusion.stereo_to_pol
    assert isinstance(back, SafeCrossAttentionFusion)
    assert back.stereo_to_pol is None
    for attention, dim, kv_dim in ((fusion.attention, 16, 8), (back.attention, 8, 16)):
        assert (attention.to_query.in_features, attention.to_key_value.in_features) == (dim, kv_dim)
        assert (attention.position, attention.null_key, attention.pool) == ("rotary", True, "max")
        assert (attention.num_heads, attention.pool_size, attention.dropout) == (2, 3, 0.25)


@pytest.mark.parametrize("kind", FUSIONS)
def test_a_fusion_that_injects_adds_what_it_injects(kind: str) -> None:
    fusion = perturbed(FUSIONS[kind](FusionConfig(kind=kind), 16, 16)).eval()  # type: ignore[arg-type]
    stereo, pol, mask = randn(2, 16, 8, 8), randn(2, 16, 8, 8, seed=1), masks(2, 8, 8, "scattered")
    # What the contract InjectingFusion asks for; concat has no such part, and the configuration refuses its site.
    assert hasattr(fusion, "injection") == (kind != "concat")
    if hasattr(fusion, "injection"):
        assert torch.equal(fusion(stereo, pol, mask, 0.5), stereo + fusion.injection(stereo, pol, mask, 0.5))
        assert fusion.injection(stereo, pol, mask, 0.5).any()
