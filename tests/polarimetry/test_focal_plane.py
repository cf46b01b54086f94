"""Mosaics and demosaicing against explicit sampling, polanalyser, a convolution by SciPy, and linear ramps."""

import itertools

import numpy as np
import polanalyser
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crosspol.polarimetry import SONY_LAYOUT, DemosaicMethod, Layout, demosaic, demosaic_reach, dolp, mosaic, stokes

METHODS: list[DemosaicMethod] = ["bilinear", "edge-aware"]
PATTERNS: list[str | None] = [None, "RGGB", "BGGR", "GRBG", "GBRG"]
LAYOUTS: list[Layout] = [(order[:2], order[2:]) for order in itertools.permutations((0, 45, 90, 135))]
ANGLES = (0, 45, 90, 135)


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def smooth_images(height: int, width: int) -> Tensor:
    """Four images (4, H, W) with a disc, a grating and smooth polarization, float64 in [0, 1]."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64), indexing="ij"
    )
    disc = ((x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2).double()
    s0 = 0.5 + 0.6 * disc + 0.2 * torch.sin(0.7 * x + 1.1 * y)
    angle, degree = x / 20 + y / 30, 0.2 + 0.1 * torch.sin(x / 9)
    return torch.stack([s0 * (1 + degree * torch.cos(2 * (angle - np.deg2rad(a)))) / 2 for a in ANGLES])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mono_mosaic_samples_pixel_by_pixel(layout: Layout) -> None:
    images = rand(4, 5, 6)
    raw = mosaic(*images, layout=layout)
    for row, column in itertools.product(range(5), range(6)):
        assert raw[row, column] == images[ANGLES.index(layout[row % 2][column % 2]), row, column]


@pytest.mark.parametrize("bayer", PATTERNS[1:])
def test_color_mosaic_places_the_block_inside_each_bayer_cell(bayer: str) -> None:
    images = rand(4, 3, 9, 8)
    raw = mosaic(*images, bayer=bayer)
    for row, column in itertools.product(range(9), range(8)):
        angle = SONY_LAYOUT[row % 2][column % 2]
        color = "RGB".index(bayer[2 * (row // 2 % 2) + column // 2 % 2])
        assert raw[row, column] == images[ANGLES.index(angle), color, row, column]


def test_the_sony_color_block() -> None:
    names = torch.arange(12.0).view(4, 3, 1, 1).expand(4, 3, 4, 4)
    raw = mosaic(*names, bayer="RGGB")
    letters = [["RGB"[int(v) % 3] + str(ANGLES[int(v) // 3]) for v in row] for row in raw]
    assert letters == [
        ["R90", "R45", "G90", "G45"],
        ["R135", "R0", "G135", "G0"],
        ["G90", "G45", "B90", "B45"],
        ["G135", "G0", "B135", "B0"],
    ]


@settings(max_examples=25, deadline=None)
@given(
    leading=st.lists(st.integers(1, 3), max_size=2),
    size=st.tuples(st.integers(4, 11), st.integers(4, 11)),
    layout=st.sampled_from(LAYOUTS),
    bayer=st.sampled_from(PATTERNS),
    method=st.sampled_from(METHODS),
)
def test_every_sample_keeps_its_value(
    leading: list[int], size: tuple[int, int], layout: Layout, bayer: str | None, method: DemosaicMethod
) -> None:
    raw = rand(*leading, *size)
    images = demosaic(raw, layout, bayer, method)
    wanted = (*leading, *size) if bayer is None else (*leading, 3, *size)
    assert all(image.shape == wanted for image in images)
    torch.testing.assert_close(mosaic(*images, layout=layout, bayer=bayer), raw, atol=1e-12, rtol=0)


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    layout=st.sampled_from(LAYOUTS),
    method=st.sampled_from(METHODS),
    level=st.floats(0, 4000),
)
def test_constant_images_come_back(size: tuple[int, int], layout: Layout, method: DemosaicMethod, level: float) -> None:
    images = [torch.full(size, level * share, dtype=torch.float64) for share in (0.9, 0.3, 0.2, 0.8)]
    for before, after in zip(images, demosaic(mosaic(*images, layout=layout), layout, method=method), strict=True):
        torch.testing.assert_close(after, before, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("bayer", PATTERNS)
@pytest.mark.parametrize("method", METHODS)
def test_a_linear_ramp_is_registered_in_all_four_images(bayer: str | None, method: DemosaicMethod) -> None:
    # A channel left half a pixel off would be wrong by half the slope: 0.5 across and 0.25 down.
    y, x = torch.meshgrid(torch.arange(24, dtype=torch.float64), torch.arange(28, dtype=torch.float64), indexing="ij")
    ramp = 10 + x + 0.5 * y
    image = ramp if bayer is None else ramp.expand(3, 24, 28)
    images = demosaic(mosaic(*[image] * 4, bayer=bayer), bayer=bayer, method=method)
    reach = demosaic_reach(method, bayer)
    inside = (..., slice(reach, -reach), slice(reach, -reach))
    for after in images:
        torch.testing.assert_close(after[inside], image[inside], atol=1e-9, rtol=0)


def test_bilinear_reproduces_a_ramp_of_its_own_in_each_image() -> None:
    y, x = torch.meshgrid(torch.arange(12, dtype=torch.float64), torch.arange(14, dtype=torch.float64), indexing="ij")
    ramps = [x + y, 2 * x - y + 30, 5 + 0.5 * y, 7 - 0.3 * x]
    for before, after in zip(ramps, demosaic(mosaic(*ramps), method="bilinear"), strict=True):
        torch.testing.assert_close(after[1:-1, 1:-1], before[1:-1, 1:-1])


def test_a_shift_by_one_pixel_shifts_the_images() -> None:
    """No method prefers a phase: cropping a row or a column and correcting the layout changes nothing inside."""
    raw = rand(16, 18)
    for method in METHODS:
        whole = demosaic(raw, ((90, 45), (135, 0)), method=method)
        cropped = demosaic(raw[1:, 1:], ((0, 135), (45, 90)), method=method)
        for big, small in zip(whole, cropped, strict=True):
            torch.testing.assert_close(big[4:-4, 4:-4], small[3:-4, 3:-4])


@pytest.mark.parametrize("layout", [SONY_LAYOUT, ((0, 45), (90, 135))])
def test_bilinear_is_the_textbook_convolution(layout: Layout) -> None:
    raw = rand(13, 16)
    kernel = np.outer([0.5, 1, 0.5], [0.5, 1, 0.5])
    images = demosaic(raw, layout, method="bilinear")
    for row, column in itertools.product(range(2), range(2)):
        sparse = np.zeros(raw.shape)
        sparse[row::2, column::2] = raw[row::2, column::2]
        expected = scipy.ndimage.convolve(sparse, kernel, mode="mirror")
        np.testing.assert_allclose(images[ANGLES.index(layout[row][column])], expected, atol=1e-12)


def test_bilinear_mono_agrees_with_polanalyser() -> None:
    raw = (rand(24, 30) * 65535).round()
    expected = polanalyser.demosaicing(raw.numpy().astype(np.uint16), polanalyser.COLOR_PolarMono)
    for ours, theirs in zip(demosaic(raw, method="bilinear"), expected, strict=True):
        # polanalyser rounds to 16 bits and repeats the border; inside it may differ by one count.
        np.testing.assert_allclose(ours[2:-2, 2:-2], theirs[2:-2, 2:-2].astype(float), atol=1.01)


def test_bilinear_color_agrees_with_polanalyser() -> None:
    raw = (rand(32, 36) * 65535).round()
    expected = polanalyser.demosaicing(raw.numpy().astype(np.uint16), polanalyser.COLOR_PolarRGB)
    for ours, theirs in zip(demosaic(raw, bayer="RGGB", method="bilinear"), expected, strict=True):
        rgb = np.moveaxis(theirs[..., ::-1], -1, 0).astype(float)
        np.testing.assert_allclose(ours[:, 5:-5, 5:-5], rgb[:, 5:-5, 5:-5], atol=2.01)


@pytest.mark.parametrize("bayer", [None, "RGGB"])
def test_edge_aware_beats_bilinear_at_edges(bayer: str | None) -> None:
    images = smooth_images(48, 52)
    if bayer is not None:
        images = torch.stack([0.9 * images, 0.7 * images, 0.5 * images], dim=1)
    error = {}
    for method in METHODS:
        after = torch.stack(demosaic(mosaic(*images, bayer=bayer), bayer=bayer, method=method))
        wrong = (dolp(stokes(*after)) - dolp(stokes(*images))).abs().mean()
        error[method] = ((after - images).square().mean().sqrt().item(), wrong.item())
    assert error["edge-aware"][0] < 0.75 * error["bilinear"][0]
    assert error["edge-aware"][1] < 0.75 * error["bilinear"][1]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_quantised_or_scaled(method: DemosaicMethod) -> None:
    raw = rand(12, 12)
    for small, large in zip(demosaic(raw * 1e-4, method=method), demosaic(raw * 3e3, method=method), strict=True):
        torch.testing.assert_close(small * 3e7, large, rtol=1e-9, atol=0)


@pytest.mark.parametrize("bayer", [None, "GRBG"])
@pytest.mark.parametrize("method", METHODS)
def test_batch_elements_do_not_meet(bayer: str | None, method: DemosaicMethod) -> None:
    raw = rand(3, 2, 10, 12, dtype=torch.float32)
    together = demosaic(raw, bayer=bayer, method=method)
    alone = demosaic(raw[1, 1], bayer=bayer, method=method)
    for many, one in zip(together, alone, strict=True):
        assert torch.equal(many[1, 1], one)


@pytest.mark.parametrize("bayer", PATTERNS[:2])
@pytest.mark.parametrize("method", METHODS)
def test_reach_is_how_far_a_sample_is_seen(bayer: str | None, method: DemosaicMethod) -> None:
    raw = 0.5 + rand(40, 40)
    before = torch.stack(demosaic(raw, bayer=bayer, method=method))
    farthest = 0
    for row, column in itertools.product(range(18, 22), range(18, 22)):
        poked = raw.clone()
        poked[row, column] = 5
        changed = torch.stack(demosaic(poked, bayer=bayer, method=method)) != before
        rows, columns = changed.flatten(0, -3).any(0).nonzero().unbind(1)
        farthest = max(farthest, int((rows - row).abs().max()), int((columns - column).abs().max()))
    assert farthest == demosaic_reach(method, bayer)


@pytest.mark.parametrize("bayer", PATTERNS[:2])
@pytest.mark.parametrize("method", METHODS)
def test_gradcheck(bayer: str | None, method: DemosaicMethod) -> None:
    raw = rand(4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: demosaic(x, bayer=bayer, method=method), (raw,), fast_mode=True)
    images = [rand(*((4, 5) if bayer is None else (3, 4, 5)), seed=k).requires_grad_() for k in range(4)]
    assert torch.autograd.gradcheck(lambda *p: mosaic(*p, bayer=bayer), images, fast_mode=True)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("level", [0.0, -0.01, 1e-30, 0.3])
def test_gradients_are_finite_on_flat_frames(method: DemosaicMethod, level: float) -> None:
    raw = torch.full((8, 8), level)
    raw[4:, 4:] = max(level, 0.0)
    raw[:2, :2] = 1
    raw.requires_grad_()
    out = torch.stack(demosaic(raw, method=method))
    (gradient,) = torch.autograd.grad(out.square().sum(), raw)
    assert out.isfinite().all()
    assert gradient.isfinite().all()


def test_bad_input_is_named() -> None:
    raw = torch.rand(6, 6)
    with pytest.raises(ValueError, match=r"layout is \[\[90, 45\], \[90, 0\]\]; wanted"):
        demosaic(raw, ((90, 45), (90, 0)))
    with pytest.raises(ValueError, match="layout is"):
        demosaic(raw, ((90, 45, 135, 0),))
    with pytest.raises(ValueError, match="bayer is 'RGBG'; wanted one of RGGB"):
        demosaic(raw, bayer="RGBG")
    with pytest.raises(ValueError, match="method is 'cubic'; wanted"):
        demosaic(raw, method="cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"raw is torch\.uint8; wanted a floating-point"):
        demosaic(raw.byte())
    with pytest.raises(ValueError, match=r"raw is \(3, 6\); .* at least 4"):
        demosaic(raw[:3], bayer="RGGB")
    with pytest.raises(ValueError, match=r"i0 is \(6, 6\); wanted \(\.\.\., 3, H, W\)"):
        mosaic(raw, raw, raw, raw, bayer="RGGB")
    with pytest.raises(ValueError, match=r"i45 is \(5, 6\) and i0 is \(6, 6\)"):
        mosaic(raw, raw[1:], raw, raw)
