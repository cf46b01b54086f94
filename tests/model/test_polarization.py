"""The polarization stream: threshold, masks, and an encoder that keeps magnitude and invents nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crosspol.model.config import PolarizationConfig
from crosspol.model.polarization import PolarizationEncoder, feature_mask, soft_threshold
from tests.model.materials import count, perturbed, rand, randn


@given(values=st.lists(st.floats(-1, 1), min_size=1), threshold=st.floats(0, 0.5), slope=st.floats(1, 100))
def test_soft_threshold_is_the_formula(values: list[float], threshold: float, slope: float) -> None:
    x = np.array(values)
    expected = x / (1 + np.exp(-slope * (np.abs(x) - threshold)))
    actual = soft_threshold(torch.tensor(values, dtype=torch.float64), threshold, slope)
    np.testing.assert_allclose(actual.numpy(), expected, atol=1e-12)


def test_soft_threshold_keeps_sign_and_halves_at_the_threshold() -> None:
    x = torch.linspace(-1, 1, 401, dtype=torch.float64)
    y = soft_threshold(x)
    torch.testing.assert_close(soft_threshold(-x), -y)
    assert (y.diff() > 0).all()
    assert soft_threshold(torch.tensor(0.05)).item() == pytest.approx(0.025)
    assert soft_threshold(torch.tensor(-0.05)).item() == pytest.approx(-0.025)
    assert soft_threshold(torch.tensor(1.0)).item() == pytest.approx(1.0, abs=1e-8)


@given(
    cells=st.tuples(st.integers(1, 4), st.integers(1, 4)), stride=st.sampled_from([2, 4, 8]), seed=st.integers(0, 99)
)
def test_feature_mask_is_half_of_the_pixels(cells: tuple[int, int], stride: int, seed: int) -> None:
    valid = (rand(2, 1, cells[0] * stride, cells[1] * stride, seed=seed) > 0.5).float()
    actual = feature_mask(valid, stride)
    assert actual.shape == (2, 1, *cells)
    for b, row, column in np.ndindex(2, *cells):
        block = valid[b, 0, row * stride : (row + 1) * stride, column * stride : (column + 1) * stride]
        assert actual[b, 0, row, column].item() == float(block.sum() >= stride * stride / 2)


def test_count() -> None:
    assert count(PolarizationEncoder(PolarizationConfig())) == 309_761


@pytest.mark.parametrize("stride", [4, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_shape(stride: int, channels: int) -> None:
    encoder = PolarizationEncoder(PolarizationConfig(channels=channels, pol_dim=24), stride)
    assert encoder(rand(2, channels, 32, 48), torch.ones(2, 1, 32, 48)).shape == (2, 24, 32 // stride, 48 // stride)


def test_what_lies_at_invalid_pixels_does_not_matter() -> None:
    encoder = perturbed(PolarizationEncoder(PolarizationConfig(pol_dim=16)), scale=0.05)
    valid = (rand(1, 1, 32, 32) > 0.4).float()
    x = rand(1, 1, 32, 32, seed=1)
    expected = encoder(x, valid)
    for garbage in (float("nan"), float("inf"), -1e30):
        assert torch.equal(encoder(torch.where(valid > 0, x, torch.tensor(garbage)), valid), expected)


def test_gradients_are_finite_beside_nan() -> None:
    encoder = PolarizationEncoder(PolarizationConfig(pol_dim=16))
    x = rand(1, 1, 16, 16)
    x[..., :8] = float("nan")
    x.requires_grad_()
    encoder(x, (~x.isnan()).float()).sum().backward()
    assert x.grad is not None
    assert (x.grad[..., :8] == 0).all()
    assert x.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_a_highlight_does_not_rescale_the_picture() -> None:
    """No statistics of the picture (FACTS 2.11, 2.12): far from a change nothing changes, alone or in a batch."""
    encoder = perturbed(PolarizationEncoder(PolarizationConfig(pol_dim=16)), scale=0.05).train()
    x = 0.2 * rand(1, 1, 64, 64)
    highlight = x.clone()
    highlight[..., :24, :24] = 1 - 0.5 * rand(24, 24, seed=1)
    valid = torch.ones_like(x)
    before, after = encoder(x, valid), encoder(highlight, valid)
    torch.testing.assert_close(after[..., 10:, 10:], before[..., 10:, 10:], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(after[..., 0, 0], before[..., 0, 0])
    batch = encoder(torch.cat([x, highlight]), torch.cat([valid, valid]))
    torch.testing.assert_close(batch[:1], before, atol=1e-6, rtol=1e-5)


def test_the_sign_of_a_contrast_arrives() -> None:
    encoder = perturbed(PolarizationEncoder(PolarizationConfig(pol_dim=16)), scale=0.05)
    x, valid = 0.3 * randn(1, 1, 32, 32).clamp(-1, 1), torch.ones(1, 1, 32, 32)
    assert not torch.allclose(encoder(x, valid), encoder(-x, valid), atol=1e-3)


def test_every_parameter_receives_a_gradient() -> None:
    encoder = perturbed(PolarizationEncoder(PolarizationConfig(channels=3)), scale=0.02)
    encoder(rand(1, 3, 32, 32), torch.ones(1, 1, 32, 32)).square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []
