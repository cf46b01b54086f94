"""NumPy's carrying of values from view to view against the network's in torch: two accounts of one geometry."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspol.data.truth import occlusion_of
from crosspol.data.warping import seen_from_right, warp_to_left
from crosspol.model.crossed import splat_to_right, warp_right_to_left


def flat_pieces(width: int, seed: int, largest: int = 9) -> np.ndarray:
    """Disparity (3, W) of flat pieces, each a whole number of px and at least two pixels wide."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(3):
        row: list[float] = []
        while len(row) < width:
            row += [float(rng.integers(0, largest + 1))] * int(rng.integers(2, 8))
        # The last piece is cut, but not to one pixel.
        rows.append([*row[: width - 2], row[width - 2], row[width - 2]])
    disparity = np.array(rows, np.float32)
    single = (disparity[:, -3] != disparity[:, -2]) & (disparity[:, -3] != disparity[:, -4])
    disparity[single, -3] = disparity[single, -2]
    return disparity


@settings(deadline=None, max_examples=40)
@given(width=st.integers(2, 40), spread=st.sampled_from([0.0, 1.0, 6.0, 50.0]), seed=st.integers(0, 999))
def test_looking_up_the_right_view(width: int, spread: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    right = rng.random((2, 3, width), dtype=np.float32)
    disparity = (spread * rng.standard_normal((3, width))).astype(np.float32)
    if seed % 2:
        disparity = np.rint(disparity)
    ours, ours_inside = warp_to_left(right, disparity)
    theirs, theirs_inside = warp_right_to_left(torch.from_numpy(right)[None], torch.from_numpy(disparity)[None, None])
    np.testing.assert_array_equal(ours_inside, theirs_inside[0, 0].numpy())
    np.testing.assert_allclose(ours[:, ours_inside], theirs[0].numpy()[:, ours_inside], atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(width=st.integers(6, 40), seed=st.integers(0, 999))
def test_carrying_disparity_to_the_right_view(width: int, seed: int) -> None:
    disparity = flat_pieces(width, seed)
    (ours,) = seen_from_right(disparity)
    theirs, covered = splat_to_right(torch.from_numpy(disparity)[None, None])
    np.testing.assert_array_equal(np.isfinite(ours), covered[0, 0].numpy())
    np.testing.assert_array_equal(np.nan_to_num(ours), theirs[0, 0].numpy())


def test_a_slanted_surface_stays_one_in_both_within_half_a_pixel() -> None:
    """The network's account rounds the column; NumPy's interpolates, so that the plane d = 4 + x / 8 stays one."""
    x = np.arange(64, dtype=np.float32)
    disparity = np.broadcast_to(4 + x / 8, (2, 64)).astype(np.float32)
    (ours,) = seen_from_right(disparity)
    theirs, covered = splat_to_right(torch.from_numpy(disparity.copy())[None, None])
    both = np.isfinite(ours) & covered[0, 0].numpy()
    assert both.sum() > 90
    # x_right = x - d, so that d = (4 + x_right / 8) / (1 - 1 / 8).
    np.testing.assert_allclose(ours[both], np.broadcast_to((4 + x / 8) * 8 / 7, (2, 64))[both], atol=1e-4)
    assert np.abs(ours - theirs[0, 0].numpy())[both].max() <= 0.5 / 7 + 1e-4


@settings(deadline=None, max_examples=40)
@given(width=st.integers(6, 40), seed=st.integers(0, 999))
def test_what_is_occluded_is_what_a_nearer_surface_lands_on(width: int, seed: int) -> None:
    disparity = flat_pieces(width, seed)
    carried, _ = splat_to_right(torch.from_numpy(disparity)[None, None])
    place = (np.arange(width) - disparity).astype(np.int64)
    outside = place < 0
    front = np.take_along_axis(carried[0, 0].numpy(), place.clip(0), axis=1)
    # What is nearer by 1 px or less belongs to the same, slanted surface.
    np.testing.assert_array_equal(occlusion_of(disparity), outside | (front > disparity + 1))
