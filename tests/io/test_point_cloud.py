"""Point clouds: the bytes of the file, what plyfile reads of it, and what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from plyfile import PlyData

from crosspol.io.point_cloud import write_point_cloud

POINTS = np.array([[[1.0, 2, 3], [np.nan, np.nan, np.nan]], [[-1.5, 0.25, 8], [4, 5, 6]]], np.float32)
COLORS = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)


def test_the_file_is_what_viewers_read(tmp_path: Path) -> None:
    path = write_point_cloud(tmp_path / "cloud.ply", POINTS, COLORS, comments=["x right, y down, z forward; m"])
    header, body = path.read_bytes().split(b"end_header\n")
    assert header.decode().splitlines() == [
        "ply",
        "format binary_little_endian 1.0",
        "comment x right, y down, z forward; m",
        "element vertex 3",
        *(f"property float {name}" for name in "xyz"),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
    ]
    assert body[:15] == np.array([1, 2, 3], "<f4").tobytes() + bytes([0, 1, 2])
    assert len(body) == 3 * 15
    vertices = PlyData.read(path)["vertex"]
    np.testing.assert_array_equal(np.stack([vertices[name] for name in "xyz"], -1), POINTS.reshape(-1, 3)[[0, 2, 3]])
    colors = np.stack([vertices[name] for name in ("red", "green", "blue")], -1)
    np.testing.assert_array_equal(colors, COLORS.reshape(-1, 3)[[0, 2, 3]])


def test_points_can_be_left_out_and_colors_too(tmp_path: Path) -> None:
    keep = np.array([[False, True], [True, True]])
    vertices = PlyData.read(write_point_cloud(tmp_path / "cloud.ply", POINTS, keep=keep))["vertex"]
    assert [entry.name for entry in vertices.properties] == ["x", "y", "z"]
    np.testing.assert_array_equal(vertices["z"], [8, 6])
    nothing = write_point_cloud(tmp_path / "empty.ply", POINTS, COLORS, keep=np.zeros((2, 2), bool))
    assert PlyData.read(nothing)["vertex"].count == 0


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cloud.ply"
    with pytest.raises(ValueError, match=r"got the suffix '.xyz', wanted .ply"):
        write_point_cloud(tmp_path / "cloud.xyz", POINTS)
    with pytest.raises(ValueError, match="got points of int64"):
        write_point_cloud(path, np.ones((2, 3), np.int64))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got colors of float32"):
        write_point_cloud(path, POINTS, COLORS.astype(np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got keep of bool and shape"):
        write_point_cloud(path, POINTS, keep=np.ones(4, bool))
    assert list(tmp_path.iterdir()) == []
