"""Fresnel coefficients against published figures, complex amplitudes in NumPy and sums over inner reflections."""

from collections.abc import Callable

import numpy as np
import polanalyser
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crosspol.polarimetry import (
    fresnel_dolp,
    fresnel_pane,
    fresnel_pane_dolp,
    fresnel_reflection,
    mueller_interface,
    mueller_pane,
    mueller_rotation,
)

DEGREES = torch.tensor([30.0, 45.0, 56.3, 70.0], dtype=torch.float64)
GLASS, INTO_AIR = 1.5, 1 / 1.5
Matrices = Callable[..., tuple[Tensor, ...]]


def cosine(degrees: Tensor) -> Tensor:
    return torch.cos(torch.deg2rad(degrees))


def amplitudes(cos_i: np.ndarray, eta: float) -> tuple[np.ndarray, np.ndarray]:
    """r_s and r_p, complex, straight from the boundary conditions; fields go as exp(+i omega t)."""
    cos_t = np.conj(np.sqrt(1 - (1 - cos_i**2) / eta**2 + 0j))
    return (cos_i - eta * cos_t) / (cos_i + eta * cos_t), (eta * cos_i - cos_t) / (eta * cos_i + cos_t)


def test_dolp_of_reflection_and_pane_match_the_published_figures() -> None:
    cos_i = cosine(DEGREES)
    torch.testing.assert_close(
        fresnel_dolp(cos_i)[0], torch.tensor([0.392, 0.831, 1.0, 0.752], dtype=torch.float64), atol=1e-3, rtol=0
    )
    reflected, transmitted = fresnel_pane_dolp(cos_i)
    torch.testing.assert_close(
        reflected, torch.tensor([0.379, 0.819, 1.0, 0.700], dtype=torch.float64), atol=1e-3, rtol=0
    )
    torch.testing.assert_close(
        transmitted, torch.tensor([0.033, 0.084, 0.148, 0.260], dtype=torch.float64), atol=1e-3, rtol=0
    )


def test_normal_incidence_reflects_four_percent_and_brewster_no_p() -> None:
    at_normal = fresnel_reflection(torch.ones(1, dtype=torch.float64), GLASS)
    brewster = torch.cos(torch.atan(torch.tensor([GLASS], dtype=torch.float64)))
    for share in at_normal:
        assert share.item() == pytest.approx(0.04, abs=1e-12)
    assert fresnel_reflection(brewster, GLASS)[1].item() == pytest.approx(0, abs=1e-20)
    assert fresnel_dolp(brewster)[0].item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("eta", [GLASS, 1.33, 2.4, INTO_AIR])
def test_reflectances_match_complex_amplitudes(eta: float) -> None:
    cos_i = torch.linspace(0.001, 1, 301, dtype=torch.float64)
    expected_s, expected_p = (np.abs(r) ** 2 for r in amplitudes(cos_i.numpy(), eta))
    r_s, r_p = fresnel_reflection(cos_i, eta)
    np.testing.assert_allclose(r_s, expected_s, atol=1e-12)
    np.testing.assert_allclose(r_p, expected_p, atol=1e-12)


def test_reflectances_reverse_along_the_same_ray() -> None:
    cos_i = torch.linspace(0.05, 1, 50, dtype=torch.float64)
    cos_t = torch.sqrt(1 - (1 - cos_i**2) / GLASS**2)
    for into, out in zip(fresnel_reflection(cos_i, GLASS), fresnel_reflection(cos_t, INTO_AIR), strict=True):
        torch.testing.assert_close(into, out)


def test_total_internal_reflection_is_exactly_one() -> None:
    cos_i = cosine(torch.tensor([42.0, 60.0, 89.0, 90.0]))
    for share in fresnel_reflection(cos_i, INTO_AIR):
        assert torch.equal(share, torch.ones_like(share))
    assert torch.equal(fresnel_dolp(cos_i, INTO_AIR)[1], torch.zeros(4))


def test_pane_is_lossless_and_equals_the_sum_over_inner_reflections() -> None:
    cos_i = torch.linspace(0.02, 1, 60, dtype=torch.float64)
    pane = fresnel_pane(cos_i, GLASS)
    for surface, reflected, transmitted in zip(fresnel_reflection(cos_i, GLASS), pane[:2], pane[2:], strict=True):
        torch.testing.assert_close(reflected + transmitted, torch.ones_like(cos_i))
        series = sum((1 - surface) ** 2 * surface ** (2 * k) for k in range(400))
        torch.testing.assert_close(transmitted, series, atol=1e-6, rtol=0)


def test_no_surface_at_equal_indices() -> None:
    cos_i = torch.linspace(1e-4, 1, 20)
    for share in fresnel_reflection(cos_i, 1.0):
        assert torch.equal(share, torch.zeros_like(share))
    assert all(torch.equal(dolp, torch.zeros_like(dolp)) for dolp in fresnel_dolp(cos_i, 1.0))


@pytest.mark.parametrize("eta", [GLASS, INTO_AIR])
def test_mueller_of_an_interface_matches_the_jones_matrix(eta: float) -> None:
    cos_i = torch.linspace(0.01, 0.999, 97, dtype=torch.float64)
    r_s, r_p = amplitudes(cos_i.numpy(), eta)
    jones = np.zeros((97, 2, 2), dtype=complex)
    jones[:, 0, 0], jones[:, 1, 1] = r_s, r_p
    # Rows: S0 to S3 of a coherency matrix, with S3 = i (E_s E_p* - E_p E_s*).
    to_stokes = np.array([[1, 0, 0, 1], [1, 0, 0, -1], [0, 1, 1, 0], [0, 1j, -1j, 0]])
    kron = np.einsum("nij,nkl->nikjl", jones, jones.conj()).reshape(97, 4, 4)
    expected = (to_stokes @ kron @ np.linalg.inv(to_stokes)).real
    np.testing.assert_allclose(mueller_interface(cos_i, eta)[0], expected, atol=1e-12)


def test_fresnel_rhomb_retards_by_a_quarter_wave() -> None:
    # Two total reflections at 54.62 degrees in glass of 1.51 make circular of diagonal light: Born and Wolf, 1.5.4.
    cos_i = cosine(torch.tensor([54.62], dtype=torch.float64))
    once = mueller_interface(cos_i, 1 / 1.51)[0][0]
    out = once @ once @ torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(out.abs(), torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64), atol=2e-3, rtol=0)


def test_transmission_matrix_keeps_energy_and_full_polarization() -> None:
    cos_i = torch.linspace(0.05, 1, 40, dtype=torch.float64)
    reflection, transmission = mueller_interface(cos_i, GLASS)
    first_rows = (reflection + transmission)[:, 0]
    torch.testing.assert_close(first_rows, torch.eye(4, dtype=torch.float64)[0].expand(40, 4))
    diagonal = transmission @ torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(diagonal[:, 1:].norm(dim=-1), diagonal[:, 0])


def test_mueller_of_a_pane_is_the_sum_over_inner_reflections() -> None:
    cos_i = torch.linspace(0.1, 1, 30, dtype=torch.float64)
    cos_t = torch.sqrt(1 - (1 - cos_i**2) / GLASS**2)
    outside, enters = mueller_interface(cos_i, GLASS)
    inside, leaves = mueller_interface(cos_t, INTO_AIR)
    expected_reflection, expected_transmission = outside.clone(), torch.zeros_like(outside)
    traveling = enters
    for _ in range(200):
        expected_transmission += leaves @ traveling
        traveling = inside @ traveling
        expected_reflection += leaves @ traveling
        traveling = inside @ traveling
    reflection, transmission = mueller_pane(cos_i, GLASS)
    torch.testing.assert_close(reflection, expected_reflection, atol=1e-9, rtol=0)
    torch.testing.assert_close(transmission, expected_transmission, atol=1e-9, rtol=0)


def test_mueller_of_unpolarized_light_gives_the_reflectances() -> None:
    cos_i = torch.linspace(0, 1, 30, dtype=torch.float64)
    r_s, r_p, t_s, t_p = fresnel_pane(cos_i)
    reflection, transmission = mueller_pane(cos_i)
    torch.testing.assert_close(reflection[:, 1, 0], (r_s - r_p) / 2)
    assert (reflection[:, 1, 0] >= 0).all(), "reflected light is s-polarized, S1 > 0"
    torch.testing.assert_close(transmission[:, 0, 0], (t_s + t_p) / 2)
    torch.testing.assert_close(transmission[:, 1, 0], (t_s - t_p) / 2)


def test_rotation_matches_polanalyser() -> None:
    angles = torch.linspace(-4, 4, 17, dtype=torch.float64)
    expected = np.stack([polanalyser.rotator(angle) for angle in angles.tolist()])
    np.testing.assert_allclose(mueller_rotation(angles), expected, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(shape=st.lists(st.integers(0, 3), max_size=4), eta=st.floats(0.3, 3))
def test_shapes_and_ranges(shape: list[int], eta: float) -> None:
    cos_i = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    for share in (*fresnel_reflection(cos_i, eta), *fresnel_pane(cos_i, eta), *fresnel_dolp(cos_i, eta)):
        assert share.shape == cos_i.shape
        assert share.dtype == torch.float32
        assert ((share >= 0) & (share <= 1)).all()
    for matrix in (*mueller_interface(cos_i, eta), *mueller_pane(cos_i, eta), mueller_rotation(cos_i)):
        assert matrix.shape == (*shape, 4, 4)


def test_index_may_be_a_map() -> None:
    cos_i = torch.rand(2, 1, 4, 5, generator=torch.Generator().manual_seed(2))
    eta = torch.tensor([1.3, 1.7]).view(2, 1, 1, 1)
    together = mueller_pane(cos_i, eta)[0]
    for index in range(2):
        torch.testing.assert_close(together[index], mueller_pane(cos_i[index], eta[index].item())[0])


@pytest.mark.parametrize("function", [fresnel_reflection, fresnel_pane, fresnel_dolp, mueller_interface, mueller_pane])
@pytest.mark.parametrize("eta", [GLASS, INTO_AIR])
def test_gradcheck(function: Matrices, eta: float) -> None:
    cos_i = torch.tensor([0.1, 0.4, 0.7, 0.8, 0.97], dtype=torch.float64, requires_grad=True)
    index = torch.tensor(eta, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (cos_i, index))


@pytest.mark.parametrize("function", [fresnel_reflection, fresnel_pane, fresnel_dolp, mueller_interface, mueller_pane])
@pytest.mark.parametrize("eta", [GLASS, 1.0, INTO_AIR])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_at_the_special_angles(function: Matrices, eta: float, dtype: torch.dtype) -> None:
    critical = (1 - min(eta, 1 / eta) ** 2) ** 0.5
    angles = [0.0, 1e-20, 1e-6, critical, critical - 1e-7, critical + 1e-7, 1 / (1 + eta**2) ** 0.5, 1.0, 1.0000001]
    cos_i = torch.tensor(angles, dtype=dtype, requires_grad=True)
    index = torch.tensor(eta, dtype=dtype, requires_grad=True)
    outputs = function(cos_i, index)
    assert all(output.isfinite().all() for output in outputs)
    for gradient in torch.autograd.grad([output.sum() for output in outputs], (cos_i, index)):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("function", [fresnel_reflection, mueller_pane])
def test_bad_input_is_named(function: Matrices) -> None:
    with pytest.raises(ValueError, match=r"eta is -1\.5; wanted a positive"):
        function(torch.ones(2), -1.5)
    with pytest.raises(ValueError, match=r"cos_incidence is torch\.int64; wanted a floating-point"):
        function(torch.ones(2, dtype=torch.int64))
