"""The layout check on synthetic frames and on real ones of a Sony IMX250MZR (layout 90 45 / 135 0)."""

import itertools
import math
from pathlib import Path

import cv2
import pytest
import torch
from torch import Tensor

from crosspol.polarimetry import (
    SONY_LAYOUT,
    Layout,
    aolp,
    demosaic,
    dolp,
    intensity_at,
    layout_residual,
    mosaic,
    rival_layouts,
    stokes,
)

LAYOUTS: list[Layout] = [(order[:2], order[2:]) for order in itertools.permutations((0, 45, 90, 135))]
MOSAICS = Path("/work/shared/data/real/mosaics")
FRAMES = ["camera", "carps", "fruits", "polarizer"]
real = pytest.mark.skipif(not MOSAICS.is_dir(), reason=f"the real mosaics are not in {MOSAICS}")


def read(name: str) -> Tensor:
    raw = cv2.imread(str(MOSAICS / f"{name}_IMX250MZR.png"), cv2.IMREAD_UNCHANGED)
    assert raw is not None
    return torch.from_numpy(raw).float() / 255


def pairing(layout: Layout) -> frozenset[frozenset[int]]:
    """Which two of the four places of the block, 0 to 3 row by row, hold orthogonal angles."""
    places = {angle: place for place, angle in enumerate(angle for row in layout for angle in row)}
    return frozenset([frozenset([places[0], places[90]]), frozenset([places[45], places[135]])])


def polarized_frame(layout: Layout, bayer: str | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(44.0), indexing="ij")
    s0 = 0.8 + 0.3 * torch.sin(x / 5) * torch.cos(y / 7)
    angle = x / 15 + y / 11
    s = torch.stack([s0, 0.3 * s0 * torch.cos(2 * angle), 0.3 * s0 * torch.sin(2 * angle)])
    images = [intensity_at(s, math.radians(degrees)) for degrees in (0, 45, 90, 135)]
    if bayer is not None:
        images = [torch.stack([0.9 * p, 0.7 * p, 0.5 * p]) for p in images]
    raw = mosaic(*images, layout=layout, bayer=bayer)
    return raw + 0.005 * torch.randn(raw.shape, generator=generator)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rivals_pair_the_angles_in_the_two_other_ways(layout: Layout) -> None:
    rivals = rival_layouts(layout)
    assert len({pairing(layout), *map(pairing, rivals)}) == 3
    for rival in rivals:
        assert sorted(angle for row in rival for angle in row) == [0, 45, 90, 135]


@pytest.mark.parametrize("bayer", [None, "RGGB"])
@pytest.mark.parametrize("layout", [SONY_LAYOUT, ((0, 90), (45, 135)), ((45, 0), (135, 90))])
def test_the_right_pairing_has_the_smallest_residual(layout: Layout, bayer: str | None) -> None:
    raw = polarized_frame(layout, bayer)
    right = layout_residual(raw, layout, bayer)
    for rival in rival_layouts(layout):
        assert layout_residual(raw, rival, bayer) > 4 * right


def test_residual_is_the_mean_over_trusted_pixels_of_each_frame() -> None:
    raw = polarized_frame(SONY_LAYOUT)
    i0, i45, i90, i135 = demosaic(raw, method="bilinear")
    expected = (2 * (i0 + i90 - i45 - i135) / (i0 + i45 + i90 + i135)).abs().mean()
    torch.testing.assert_close(layout_residual(raw), expected)
    burnt = raw.clone()
    burnt[20:, :] = 1.0
    expected = (2 * (i0 + i90 - i45 - i135) / (i0 + i45 + i90 + i135))[:19].abs().mean()
    both = layout_residual(torch.stack([raw, burnt]).unsqueeze(1))
    assert both.shape == (2, 1)
    torch.testing.assert_close(both[1, 0], expected)
    torch.testing.assert_close(both[0, 0], layout_residual(raw))


def test_nothing_trusted_is_nan() -> None:
    assert layout_residual(torch.ones(6, 6)).isnan()


@real
@pytest.mark.parametrize("name", FRAMES)
def test_real_frames_tell_the_sixteen_wrong_layouts_that_can_be_told(name: str) -> None:
    # A tenth of the frame, at its full resolution: the whole would take 24 demosaicings of 5 megapixels.
    raw = read(name)[:, 800:1056]
    right = layout_residual(raw, SONY_LAYOUT).item()
    same: list[float] = []
    other: list[float] = []
    for layout in LAYOUTS:
        (same if pairing(layout) == pairing(SONY_LAYOUT) else other).append(layout_residual(raw, layout).item())
    assert len(same) == 8
    assert len(other) == 16
    assert same == pytest.approx([right] * 8, rel=1e-4), "exchanged pairs cannot be told from the right layout"
    assert min(other) > 1.5 * right


@real
@pytest.mark.parametrize("name", FRAMES)
def test_whole_real_frames(name: str) -> None:
    raw = read(name)
    right = layout_residual(raw).item()
    assert 0.015 < right < 0.06
    assert min(layout_residual(raw, rival).item() for rival in rival_layouts(SONY_LAYOUT)) > 1.8 * right


@real
def test_layouts_that_cannot_be_told_differ_in_aolp_only() -> None:
    raw = read("carps")[512:768, 800:1056]
    right = stokes(*demosaic(raw, SONY_LAYOUT))
    exchanged = stokes(*demosaic(raw, ((0, 45), (135, 90))))
    torch.testing.assert_close(dolp(exchanged), dolp(right))
    torch.testing.assert_close(exchanged[0], right[0])
    assert (aolp(exchanged) - aolp(right)).abs().mean() > 0.1
