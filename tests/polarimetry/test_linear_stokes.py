"""Stokes parameters against polanalyser, explicit formulas and the geometry of a turned or mirrored camera."""

import math
from collections.abc import Callable

import numpy as np
import polanalyser
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crosspol.polarimetry import (
    aolp,
    contrast,
    dolp,
    dolp_debiased,
    flip_horizontal,
    flip_vertical,
    intensity_at,
    mueller_rotation,
    normalized_stokes,
    residual,
    rotate_frame,
    rotate_quarter_turns,
    stokes,
    stokes_from_angles,
)

MAPS = [dolp, aolp, normalized_stokes, lambda s: dolp_debiased(s, 0.1)]


def physical(*shape: int, seed: int = 0) -> Tensor:
    """Random Stokes parameters (..., 3, H, W) of light that can exist, float64."""
    generator = torch.Generator().manual_seed(seed)
    s0, degree, angle = torch.rand(3, *shape, generator=generator, dtype=torch.float64)
    s0, angle = 0.1 + s0, math.pi * angle
    return torch.stack([s0, s0 * degree * torch.cos(2 * angle), s0 * degree * torch.sin(2 * angle)], dim=-3)


def four(s: Tensor) -> list[Tensor]:
    return [intensity_at(s, math.radians(degrees)) for degrees in (0, 45, 90, 135)]


def last(s: Tensor) -> np.ndarray:
    """Stokes in polanalyser's order, components last."""
    return s.movedim(-3, -1).numpy()


def test_matches_polanalyser() -> None:
    images = torch.rand(4, 2, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.2
    ours = stokes(*images)
    expected = polanalyser.calcStokes(images.numpy(), np.deg2rad([0, 45, 90, 135]))
    np.testing.assert_allclose(last(ours), expected, atol=1e-12)
    np.testing.assert_allclose(dolp(ours), polanalyser.cvtStokesToDoLP(expected), atol=1e-12)
    np.testing.assert_allclose(np.mod(aolp(ours), np.pi), polanalyser.cvtStokesToAoLP(expected), atol=1e-12)


def test_angles_match_polanalyser_with_noise() -> None:
    angles = np.deg2rad([3.0, 37, 70, 111, 160])
    images = torch.rand(5, 1, 4, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    expected = polanalyser.calcStokes(images.numpy(), angles)
    np.testing.assert_allclose(last(stokes_from_angles(images, angles.tolist())), expected, atol=1e-12)


def test_intensity_matches_a_mueller_polarizer() -> None:
    s = physical(3, 4)
    for angle in (0.0, 0.3, 1.9, -2.0):
        expected = (last(s) @ polanalyser.polarizer(angle)[0, :3]).astype(np.float64)
        np.testing.assert_allclose(intensity_at(s, angle), expected, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    leading=st.lists(st.integers(1, 3), max_size=2),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    angles=st.lists(st.integers(0, 17), min_size=3, max_size=8, unique=True),
)
def test_round_trip_through_any_angles(leading: list[int], size: tuple[int, int], angles: list[int]) -> None:
    s = physical(*leading, *size)
    radians = [math.radians(10 * angle) for angle in angles]
    back = stokes_from_angles([intensity_at(s, angle) for angle in radians], radians)
    assert back.shape == (*leading, 3, *size)
    torch.testing.assert_close(back, s, atol=1e-9, rtol=0)
    torch.testing.assert_close(stokes(*four(s)), s)


def test_four_angles_by_least_squares_are_the_closed_form() -> None:
    images = torch.rand(4, 2, 1, 3, 5, generator=torch.Generator().manual_seed(5))
    angles = torch.deg2rad(torch.tensor([0.0, 45, 90, 135])).tolist()
    torch.testing.assert_close(stokes_from_angles(images, angles), stokes(*images), atol=1e-6, rtol=0)


def test_maps_keep_the_shape_of_the_images() -> None:
    for shape in [(4, 5), (2, 1, 4, 5), (2, 3, 4, 5)]:
        images = torch.rand(4, *shape)
        s = stokes(*images)
        assert s.shape == (*shape[:-2], 3, 4, 5)
        for value in (dolp(s), aolp(s), dolp_debiased(s, 0.1), residual(*images), contrast(*images[:2])):
            assert value.shape == shape
            assert value.dtype == torch.float32
        assert normalized_stokes(s).shape == s.shape


def test_angle_of_each_axis() -> None:
    s = torch.tensor([[1.0, 1, 0], [1, 0, 1], [1, -1, 0], [1, 0, -1]]).T.reshape(3, 1, 4)
    torch.testing.assert_close(torch.rad2deg(aolp(s)), torch.tensor([[0.0, 45, 90, -45]]))
    torch.testing.assert_close(dolp(s), torch.ones(1, 4))


def test_normalized_stokes_and_contrast_agree() -> None:
    s = physical(2, 6, 6)
    n = normalized_stokes(s)
    torch.testing.assert_close(n.unbind(-3)[0], s[:, 1] / s[:, 0])
    torch.testing.assert_close(n.unbind(-3)[1], s[:, 2] / s[:, 0])
    torch.testing.assert_close(n.unbind(-3)[2], dolp(s))
    parallel, _, perpendicular, _ = four(s)
    torch.testing.assert_close(contrast(parallel, perpendicular), n[:, 0])
    torch.testing.assert_close(contrast(perpendicular, parallel), -n[:, 0])


def test_residual_is_zero_for_ideal_images_and_shows_a_gain() -> None:
    images = four(physical(1, 5, 5))
    assert residual(*images).abs().max() < 1e-12
    brighter = [images[0] * 1.1, *images[1:]]
    expected = 0.1 * images[0] / ((sum(images) + 0.1 * images[0]) / 2)
    torch.testing.assert_close(residual(*brighter), expected)


def test_debiased_matches_the_formula() -> None:
    s, sigma = physical(9, 9), 0.2
    p, b = dolp(s).numpy(), sigma / s[0].numpy()
    torch.testing.assert_close(
        dolp_debiased(s, sigma), torch.from_numpy(p - b**2 * (1 - np.exp(-(p**2) / b**2)) / (2 * p))
    )
    torch.testing.assert_close(dolp_debiased(s, torch.full((9, 9), sigma)), dolp_debiased(s, sigma))
    assert torch.equal(dolp_debiased(s, 0.0), dolp(s))


@pytest.mark.parametrize("snr", [2.0, 3.0, 5.0])
def test_debiasing_removes_most_of_the_bias(snr: float) -> None:
    generator = torch.Generator().manual_seed(int(snr))
    true, sigma = 0.1, 0.1 / snr
    noise = sigma * torch.randn(2, 300, 300, generator=generator, dtype=torch.float64)
    s = torch.stack([torch.ones(300, 300, dtype=torch.float64), true + noise[0], noise[1]])
    raw_bias = (dolp(s).mean() - true).item()
    # The mean of 90,000 has a standard error of sigma / 300.
    assert raw_bias > 10 * sigma / 300
    assert abs((dolp_debiased(s, sigma).mean() - true).item()) < 0.25 * raw_bias


def test_debiased_is_half_the_measurement_where_there_is_only_noise() -> None:
    s = torch.tensor([1.0, 1e-4, 0.0]).view(3, 1, 1)
    assert dolp_debiased(s, 0.1).item() == pytest.approx(0.5e-4, rel=1e-5)


def test_flips_are_those_of_a_mirrored_camera() -> None:
    s = physical(2, 1, 4, 6)
    i0, i45, i90, i135 = four(s)
    for flip, dim in ((flip_horizontal, -1), (flip_vertical, -2)):
        mirrored = stokes(i0.flip(dim), i135.flip(dim), i90.flip(dim), i45.flip(dim))
        torch.testing.assert_close(flip(s), mirrored)
        assert torch.equal(flip(flip(s)), s)
        torch.testing.assert_close(dolp(flip(s)), dolp(s).flip(dim))


@pytest.mark.parametrize("turns", [-3, -1, 0, 1, 2, 3, 4])
def test_quarter_turns_are_those_of_a_turned_camera(turns: int) -> None:
    s = physical(2, 1, 4, 6)
    i0, i45, i90, i135 = (torch.rot90(image, turns, (-2, -1)) for image in four(s))
    expected = stokes(i90, i135, i0, i45) if turns % 2 else stokes(i0, i45, i90, i135)
    torch.testing.assert_close(rotate_quarter_turns(s, turns), expected)


def test_half_turn_is_both_flips() -> None:
    s = physical(3, 5)
    assert torch.equal(rotate_quarter_turns(s, 2), flip_horizontal(flip_vertical(s)))


@settings(max_examples=25, deadline=None)
@given(angle=st.floats(-7, 7), polarizer=st.floats(-4, 4))
def test_rotated_frame_sees_the_same_light(angle: float, polarizer: float) -> None:
    s = physical(3, 4)
    turned = rotate_frame(s, angle)
    torch.testing.assert_close(intensity_at(turned, polarizer), intensity_at(s, polarizer + angle))
    torch.testing.assert_close(rotate_frame(turned, -angle), s)
    matrix = mueller_rotation(torch.tensor(angle, dtype=torch.float64))[:3, :3]
    torch.testing.assert_close(turned, torch.einsum("ij,jhw->ihw", matrix, s))


def test_frame_angle_may_be_a_map() -> None:
    s, angle = physical(2, 1, 4, 4), torch.rand(2, 1, 4, 4, dtype=torch.float64)
    turned = rotate_frame(s, angle)
    assert turned.shape == s.shape
    torch.testing.assert_close(turned[1, 0, :, 2, 3], rotate_frame(s[1, 0], angle[1, 0, 2, 3].item())[:, 2, 3])


@pytest.mark.parametrize("function", MAPS)
def test_gradcheck(function: Callable[[Tensor], Tensor]) -> None:
    s = physical(2, 3, 3, seed=8).requires_grad_()
    assert torch.autograd.gradcheck(function, (s,))


@pytest.mark.parametrize("snr_squared", [1e-6, 0.9e-3, 1.1e-3, 1.0, 1e3])
def test_debiased_gradcheck_across_its_series(snr_squared: float) -> None:
    s = torch.tensor([1.0, 0.6, 0.8], dtype=torch.float64).view(3, 1, 1)
    s[1:] *= 0.1 * snr_squared**0.5
    sigma = torch.tensor(0.1, dtype=torch.float64)
    assert torch.autograd.gradcheck(dolp_debiased, (s.requires_grad_(), sigma.requires_grad_()), eps=1e-7)


@pytest.mark.parametrize("function", MAPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_finite_without_light_or_polarization(
    function: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> None:
    levels = torch.tensor([0.0, -0.01, 1e-38, 1e-19, 1.1e-19, 1e-10, 1.0])
    grid = torch.cartesian_prod(levels, torch.tensor([0.0, -0.0, 1e-38, 1e-20, -1e-12, 1e-3, 1.0]), levels)
    s = grid.T.reshape(3, 7, -1).to(dtype).requires_grad_()
    out = function(s)
    assert out.isfinite().all()
    (gradient,) = torch.autograd.grad(out.sum(), s)
    assert gradient.isfinite().all()


def test_contrast_and_residual_gradients_are_finite_in_the_dark() -> None:
    images = [torch.zeros(2, 2, requires_grad=True) for _ in range(4)]
    for value, parts in ((contrast(*images[:2]), images[:2]), (residual(*images), images)):
        assert torch.equal(value, torch.zeros(2, 2))
        assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(value.sum(), parts))


def test_no_light_gives_zero() -> None:
    s = torch.tensor([[0.0, 0.5, 0.5], [-1.0, 0.5, 0.5]]).T.reshape(3, 1, 2)
    assert torch.equal(dolp(s), torch.zeros(1, 2))
    assert torch.equal(normalized_stokes(s), torch.zeros(3, 1, 2))


def test_bad_input_is_named() -> None:
    image = torch.rand(4, 5)
    with pytest.raises(ValueError, match=r"i90 is \(5, 4\) and i0 is \(4, 5\); wanted one shape"):
        stokes(image, image, image.T, image)
    with pytest.raises(ValueError, match=r"i_parallel is \(4, 5\) torch\.uint8; wanted a floating-point"):
        contrast(image.byte(), image.byte())
    with pytest.raises(ValueError, match=r"stokes is \(4, 5\) torch\.float32; wanted .* \(\.\.\., 3, H, W\)"):
        dolp(image)
    with pytest.raises(ValueError, match="sigma is -1; wanted"):
        dolp_debiased(torch.rand(3, 2, 2), -1)
    with pytest.raises(ValueError, match="2 images and 3 angles"):
        stokes_from_angles([image, image], [0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="wanted at least three that differ modulo 180 degrees"):
        stokes_from_angles([image] * 3, [0.0, 1.0, 1.0 + math.pi])
