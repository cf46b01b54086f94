"""What a disparity can be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from crosspol.datasets.ranges import check_disparity, largest_unknown, left_minus_right
from crosspol.errors import UsageError

VALUES = st.floats(-50, 50, width=32) | st.sampled_from([np.nan, 0.0])
MAPS = npst.arrays(np.float32, npst.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=7), elements=VALUES)


@given(MAPS)
def test_what_passes_is_what_a_rectified_pair_can_have(disparity):
    known = disparity[np.isfinite(disparity)]
    possible = known.size > 0 and known.min() >= 0 and known.max() < disparity.shape[1]
    if possible:
        check_disparity(disparity, "a.pfm")
    else:
        with pytest.raises(UsageError, match=r"^a\.pfm: got .*, wanted "):
            check_disparity(disparity, "a.pfm")


def test_what_is_known_nowhere_may_be_where_it_need_not_be():
    check_disparity(np.full((3, 4), np.nan, np.float32), "background", some=False)


@given(MAPS)
def test_either_sign_becomes_the_same(disparity):
    turned = left_minus_right(disparity)
    known = np.isfinite(turned)
    assert (turned[known] > 0).all()
    np.testing.assert_array_equal(turned[known], np.abs(disparity[known]))
    above, below = int((disparity > 0).sum()), int((disparity < 0).sum())
    assert known.sum() == max(above, below)
    if above != below:
        np.testing.assert_array_equal(left_minus_right(-disparity), turned)


@given(MAPS)
def test_what_no_right_view_shows_becomes_unknown(disparity):
    limited = largest_unknown(disparity)
    kept = np.isfinite(limited)
    np.testing.assert_array_equal(kept, disparity < disparity.shape[1])
    np.testing.assert_array_equal(limited[kept], disparity[kept])
