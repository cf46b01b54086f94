"""The polarization stream: threshold, masks, and an encoder that keeps magnitude and invents nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crosspol.model.config import PolarizationConfig
from crosspol.model.parts import PolView
from crosspol.model.polarization import (
    AveragedPolarizationEncoder,
    PolarizationEncoder,
    feature_mask,
    soft_threshold,
)
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
    assert encoder(PolView(rand(2, channels, 32, 48), torch.ones(2, 1, 32, 48))).shape == (
        2,
        24,
        32 // stride,
        48 // stride,
    )


def test_what_lies_at_invalid_pixels_does_not_matter() -> None:
    encoder = perturbed(PolarizationEncoder(PolarizationConfig(pol_dim=16)), scale=0.05)
    valid = (rand(1, 1, 32, 32) > 0.4).float()
    x = rand(1, 1, 32, 32, seed=1)
    expected = encoder(PolView(x, valid))
    for garbage in (float("nan"), float("inf"), -1e30):
        assert torch.equal(encoder(PolView(torch.where(valid > 0, x, torch.tensor(garbage)), valid)), expected)


def test_gradients_are_finite_beside_nan() -> None:
    encoder = PolarizationEncoder(PolarizationConfig(pol_dim=16))
    x = rand(1, 1, 16, 16)
    x[..., :8] = float("nan")
    x.requires_grad_()
    encoder(PolView(x, (~x.isnan()).float())).sum().backward()
    assert x.grad is not None
    assert (x.grad[..., :8] == 0).all()
    assert x.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_a_highlight_does_not_rescale_the_image() -> None:
    """Far from a change nothing changes, alone or in a batch: docs/pitfalls.md#norms-that-wash-out-the-magnitude."""
    encoder = perturbed(PolarizationEncoder(PolarizationConfig(pol_dim=16)), scale=0.05).train()
    x = 0.2 * rand(1, 1, 64, 64)
    highlight = x.clone()
    highlight[..., :24, :24] = 1 - 0.5 * rand(24, 24, seed=1)
    valid = torch.ones_like(x)
    before, after = encoder(PolView(x, valid)), encoder(PolView(highlight, valid))
    torch.testing.assert_close(after[..., 10:, 10:], before[..., 10:, 10:], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(after[..., 0, 0], before[..., 0, 0])
    batch = encoder(PolView(torch.cat([x, highlight]), torch.cat([valid, valid])))
    torch.testing.assert_close(batch[:1], before, atol=1e-6, rtol=1e-5)


def test_the_sign_of_a_contrast_arrives() -> None:
    encoder = perturbed(PolarizationEncoder(PolarizationConfig(pol_dim=16)), scale=0.05)
    x, valid = 0.3 * randn(1, 1, 32, 32).clamp(-1, 1), torch.ones(1, 1, 32, 32)
    assert not torch.allclose(encoder(PolView(x, valid)), encoder(PolView(-x, valid)), atol=1e-3)


def test_every_parameter_receives_a_gradient() -> None:
    encoder = perturbed(PolarizationEncoder(PolarizationConfig(channels=3)), scale=0.02)
    encoder(PolView(rand(1, 3, 32, 32), torch.ones(1, 1, 32, 32))).square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []


# The averaged encoder


def averaged(stride: int = 8, pol_dim: int = 64) -> AveragedPolarizationEncoder:
    torch.manual_seed(0)
    config = PolarizationConfig(channels=3, pol_dim=pol_dim, encoder="averaged", pol_threshold=0.03)
    return AveragedPolarizationEncoder(config, stride)


def noisy_view(height: int = 64, width: int = 96, noise: float = 0.03, seed: int = 0) -> PolView:
    """A weakly polarized scene with a pane: DoLP 0.02 outside, 0.09 inside, and the noise of single pixels."""
    ratios = torch.zeros(1, 2, height, width)
    ratios[:, 0] = 0.02
    ratios[:, 0, 16:48, 24:64], ratios[:, 1, 16:48, 24:64] = -0.05, 0.075
    ratios = ratios + noise * randn(*ratios.shape, seed=seed)
    magnitude = ratios.norm(dim=1, keepdim=True)
    return PolView(torch.cat([ratios, magnitude], dim=1), torch.ones(1, 1, height, width))


@pytest.mark.parametrize("stride", [4, 8])
def test_averaged_signals_match_loops(stride: int) -> None:
    view = noisy_view(32, 64, noise=0.2)
    valid = (rand(1, 1, 32, 64, seed=3) > 0.3).float()
    light = rand(1, 1, 32, 64, seed=4)
    view = PolView(torch.where(valid > 0, view.polarization, torch.tensor(float("nan"))), valid, lambda: light)
    planes = averaged(stride).signals(view)
    half = stride // 2
    assert planes.shape == (1, 11, 32 // half, 64 // half)
    pol, trusted = view.polarization[0].numpy(), valid[0, 0].numpy()
    weight = light[0, 0].numpy() + 1e-3
    for row, column in ((0, 0), (3, 5), (32 // half - 1, 64 // half - 1)):
        for scale, cells in enumerate((1, 2, 4)):
            side = half * cells
            rows = slice(row // cells * side, (row // cells + 1) * side)
            columns = slice(column // cells * side, (column // cells + 1) * side)
            here = trusted[rows, columns] > 0
            w = weight[rows, columns][here]
            s1, s2 = ((w * pol[i, rows, columns][here]).sum() / max(w.sum(), 1e-9) for i in (0, 1))
            expected = np.arcsinh(np.array([s1, s2, np.hypot(s1, s2)]) / 0.03)
            actual = planes[0, 3 * scale : 3 * scale + 3, row, column].numpy()
            np.testing.assert_allclose(actual, expected, atol=1e-5, rtol=1e-4)


def test_average_before_magnitude_is_free_of_the_noise_bias() -> None:
    """Unpolarized light: single pixels read a DoLP that is all noise, the averaged magnitude hardly any."""
    noise = 0.05 * randn(1, 2, 64, 64)
    view = PolView(torch.cat([noise, noise.norm(dim=1, keepdim=True)], dim=1), torch.ones(1, 1, 64, 64))
    assert view.polarization[:, 2].mean() > 0.05
    coarse = torch.sinh(averaged().signals(view)[:, 8]) * 0.03
    assert coarse.mean() < 0.006


def test_averaged_encoder_answers_from_the_start() -> None:
    """At initialization, zeros in place of real polarization change the output by half its norm or more."""
    for stride in (4, 8):
        for seed in range(3):
            view = noisy_view(seed=seed)
            encoder = averaged(stride)
            with torch.no_grad():
                own, none = encoder(view), encoder(PolView(torch.zeros_like(view.polarization), view.valid))
            assert (own - none).norm() >= 0.5 * own.norm()


def test_averaged_encoder_has_no_dead_channels_at_the_start() -> None:
    encoder, stds = averaged(), []
    with torch.no_grad():
        for seed in range(4):
            stds.append(encoder(noisy_view(seed=seed))[0].flatten(1).std(dim=1))
    assert (torch.stack(stds).amax(dim=0) > 1e-2).all()


def test_averaged_encoder_ignores_what_is_invalid_and_the_third_channel() -> None:
    view, encoder = noisy_view(), averaged()
    valid = (rand(1, 1, 64, 96) > 0.4).float()
    expected = encoder(PolView(view.polarization, valid))
    for garbage in (float("nan"), float("inf"), -1e30):
        dirty = torch.where(valid > 0, view.polarization, torch.tensor(garbage))
        dirty[:, 2] = garbage
        assert torch.equal(encoder(PolView(dirty, valid)), expected)


def test_averaged_encoder_knows_what_a_contrast_lacks() -> None:
    """A contrast is S1/S0; an S2 of 0 that was measured is not an S2 that is unknown."""
    view, encoder = noisy_view(), averaged()
    contrast = view.polarization.clone()
    contrast[:, 1] = 0
    measured, lacking = (PolView(contrast, view.valid, contrast_only=only) for only in (False, True))
    assert torch.equal(encoder.signals(measured)[:, :10], encoder.signals(lacking)[:, :10])
    assert not encoder.signals(lacking)[:, 10].any()
    anything = PolView(view.polarization, view.valid, contrast_only=True)
    assert torch.equal(encoder(anything), encoder(lacking))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (32, 96), (96, 160)])
def test_averaged_encoder_takes_any_multiple(height: int, width: int) -> None:
    view = PolView(rand(2, 3, height, width), torch.ones(2, 1, height, width))
    assert averaged(pol_dim=24)(view).shape == (2, 24, height // 8, width // 8)
    assert averaged(4, pol_dim=24)(view).shape == (2, 24, height // 4, width // 4)
