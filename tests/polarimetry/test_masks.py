"""Validity masks against loops over pixels, and against what demosaicing really does with a clipped sample."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspol.polarimetry import DemosaicMethod, demosaic, demosaic_reach, mosaic_validity, validity

METHODS: list[DemosaicMethod] = ["bilinear", "edge-aware"]


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_four_images() -> None:
    nan, inf = float("nan"), float("inf")
    rows = {
        (0.5, 0.5, 0.5, 0.5): True,
        (0.5, 0.5, 0.99, 0.5): False,
        (0.98, 0.98, 0.98, 0.98): True,
        (0.01, 0.01, 0.01, 0.01): False,
        (0.0, 0.02, 0.0, 0.03): True,
        (-0.1, 0.0, 0.0, 0.0): False,
        (nan, 0.5, 0.5, 0.5): False,
        (inf, 0.5, 0.5, 0.5): False,
        (-inf, 0.5, 0.5, 0.5): False,
    }
    images = torch.tensor(list(rows)).T.reshape(4, 1, 3, 3)
    assert validity(*images).tolist() == [torch.tensor(list(rows.values())).view(3, 3).tolist()]


def test_thresholds_can_be_set() -> None:
    images = torch.tensor([0.2, 0.4, 0.3, 0.1]).view(4, 1, 1)
    assert validity(*images)
    assert not validity(*images, saturated=0.4)
    assert not validity(*images, dark=0.25)


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(4, 12), st.integers(4, 12)),
    bayer=st.sampled_from([None, "RGGB"]),
    method=st.sampled_from(METHODS),
    seed=st.integers(0, 99),
)
def test_mosaic_matches_a_loop(size: tuple[int, int], bayer: str | None, method: DemosaicMethod, seed: int) -> None:
    height, width = size
    raw = 0.03 * rand(*size, seed=seed)
    raw[seed % height, seed % width] = 1.0
    reach, half = demosaic_reach(method, bayer), 1 if bayer is None else 2
    taps = [0.25, 0.5, 0.25] if bayer is None else [0.125, 0.25, 0.25, 0.25, 0.125]
    mask = mosaic_validity(raw, bayer, method, dark=0.015)
    for row, column in itertools.product(range(height), range(width)):
        near = raw[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
        mean = 0.0
        for (i, down), (j, across) in itertools.product(enumerate(taps), enumerate(taps)):
            y, x = abs(row + i - half), abs(column + j - half)
            y, x = min(y, 2 * (height - 1) - y), min(x, 2 * (width - 1) - x)
            mean += down * across * raw[y, x].item()
        if abs(mean - 0.015) > 1e-6:
            assert mask[row, column].item() == (near.max().item() < 0.99 and mean > 0.015)


@pytest.mark.parametrize("bayer", [None, "RGGB"])
@pytest.mark.parametrize("method", METHODS)
def test_what_is_trusted_is_not_changed_by_clipped_samples(bayer: str | None, method: DemosaicMethod) -> None:
    raw = 0.2 + 0.5 * rand(2, 1, 40, 44)
    clipped = raw.clone()
    clipped[..., 11, 17], clipped[..., 29, 30] = 1.0, float("inf")
    trusted = mosaic_validity(clipped, bayer, method)
    assert trusted.shape == raw.shape
    assert trusted.any()
    assert not trusted.all()
    clean, burnt = (demosaic(frame, bayer=bayer, method=method) for frame in (raw, clipped))
    for before, after in zip(clean, burnt, strict=True):
        mask = trusted if bayer is None else trusted.unsqueeze(-3).expand_as(before)
        assert torch.equal(before[mask], after[mask])


def test_polarization_alone_does_not_make_a_mosaic_dark() -> None:
    """Fully polarized light leaves one pixel in four black; its period is not dark."""
    raw = torch.zeros(8, 8)
    raw[1::2, 1::2], raw[::2, 1::2], raw[1::2, ::2] = 0.4, 0.2, 0.2
    assert mosaic_validity(raw).all()
    assert not mosaic_validity(raw * 0.01).any()


def test_nan_is_not_trusted() -> None:
    raw = torch.full((12, 12), 0.5)
    raw[5, 5] = float("nan")
    trusted = mosaic_validity(raw, method="bilinear")
    assert (~trusted).sum() == 9
    assert not trusted[4:7, 4:7].any()


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"i0, i45, i90 and i135 are \(2, 2\), \(2, 2\), \(2, 3\), \(2, 2\)"):
        validity(torch.rand(2, 2), torch.rand(2, 2), torch.rand(2, 3), torch.rand(2, 2))
    with pytest.raises(ValueError, match=r"raw is \(3, 8\); .* at least 4"):
        mosaic_validity(torch.rand(3, 8), "RGGB")
