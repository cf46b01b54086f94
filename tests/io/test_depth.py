"""Depth files: what comes back, and what "unknown" is in each."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from crosspol.errors import MissingFileError, UsageError
from crosspol.io.depth import PNG_LIMIT_M, read_depth, write_depth

DEPTH = np.array([[1.2344, 0.0001, np.nan, 0.0], [65.535, 65.536, -1.0, np.inf]], np.float32)


def test_the_png_is_millimeters_in_16_bits(tmp_path: Path) -> None:
    path = write_depth(tmp_path / "depth.png", DEPTH)
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored, [[1234, 1, 0, 0], [65535, 0, 0, 0]])
    assert PNG_LIMIT_M == 65.535
    np.testing.assert_allclose(read_depth(path), [[1.234, 0.001, np.nan, np.nan], [65.535, np.nan, np.nan, np.nan]])


def test_the_array_is_exact_and_never_holds_0(tmp_path: Path) -> None:
    path = write_depth(tmp_path / "depth.npy", DEPTH)
    stored = np.load(path)
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored[:, :2], DEPTH[:, :2])
    assert np.isnan(stored[:, 2:]).all()
    np.testing.assert_array_equal(read_depth(path), stored)


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.floats(width=32)))
def test_files_come_back_and_unknown_stays_unknown(
    tmp_path_factory: pytest.TempPathFactory, depth: NDArray[np.float32]
) -> None:
    folder = tmp_path_factory.mktemp("depth")
    known = np.isfinite(depth) & (depth > 0)
    np.testing.assert_array_equal(
        read_depth(write_depth(folder / "a.npy", depth)), np.where(known, depth, np.float32(np.nan))
    )
    png = read_depth(write_depth(folder / "a.png", depth))
    held = known & (depth < 65.5354)
    np.testing.assert_array_equal(np.isfinite(png), held)
    assert (np.abs(png[held] - depth[held]) <= 0.001).all()
    coarse = held & (depth > 0.001)
    assert (np.abs(png[coarse] - depth[coarse]) <= 0.000505).all()


def test_what_is_no_depth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got the suffix '.exr', wanted one of .png, .npy"):
        write_depth(tmp_path / "a.exr", DEPTH)
    with pytest.raises(ValueError, match="got uint16 of shape"):
        write_depth(tmp_path / "a.png", np.ones((2, 2), np.uint16))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"got the suffix '.exr', wanted one of .png, .npy"):
        read_depth(tmp_path / "a.exr")
    with pytest.raises(MissingFileError, match="no such file"):
        read_depth(tmp_path / "a.png")
    cv2.imwrite(str(tmp_path / "b.png"), np.ones((4, 4), np.uint8))
    with pytest.raises(UsageError, match=r"got uint8 of shape .*, wanted a 16-bit image of one channel"):
        read_depth(tmp_path / "b.png")
    np.save(tmp_path / "c.npy", np.ones((2, 2, 3)))
    with pytest.raises(UsageError, match=r"got float64 of shape .*, wanted floats of shape"):
        read_depth(tmp_path / "c.npy")
