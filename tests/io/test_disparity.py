from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from crosspol.errors import MissingFileError, UsageError
from crosspol.io.disparity import KITTI_LIMIT, read_disparity, write_disparity

VALUES = st.floats(-1000, 1000, width=32) | st.sampled_from([np.nan, np.inf, -np.inf])
MAPS = npst.arrays(np.float32, npst.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=VALUES)


@settings(deadline=None, max_examples=25)
@given(disparity=MAPS, suffix=st.sampled_from([".pfm", ".npy", ".npz"]))
def test_exact_formats_return_what_was_written(tmp_path_factory, disparity, suffix):
    path = write_disparity(tmp_path_factory.mktemp("exact") / f"a{suffix}", disparity)
    known = np.isfinite(disparity)
    found = read_disparity(path)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[known], disparity[known])
    assert np.isnan(found[~known]).all()


@settings(deadline=None, max_examples=25)
@given(disparity=npst.arrays(np.float32, (3, 4), elements=st.floats(0, 255, width=32)))
def test_kitti_is_right_to_a_step(tmp_path_factory, disparity):
    path = write_disparity(tmp_path_factory.mktemp("kitti") / "a.png", disparity)
    np.testing.assert_allclose(read_disparity(path), disparity, atol=1 / 256)
    stored = np.asarray(Image.open(path))
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored, np.maximum(np.rint(disparity.astype(np.float64) * 256), 1))


def test_kitti_marks_what_it_cannot_hold_as_unknown(tmp_path):
    disparity = np.array(
        [[np.nan, np.inf, -3.0, -0.001, 300.0, 256.0], [-0.0, 0.0, 1e-6, 1.5, KITTI_LIMIT, 100.25]], np.float32
    )
    found = read_disparity(write_disparity(tmp_path / "a.png", disparity))
    assert np.isnan(found[0]).all()
    np.testing.assert_array_equal(found[1], np.float32([1 / 256, 1 / 256, 1 / 256, 1.5, KITTI_LIMIT, 100.25]))


def test_pfm_as_the_format_says(tmp_path):
    disparity = np.arange(6, dtype=np.float32).reshape(2, 3)
    disparity[0, 1] = np.nan
    data = write_disparity(tmp_path / "a.pfm", disparity).read_bytes()
    # Little-endian, bottom row first, infinity for unknown.
    assert data == b"Pf\n3 2\n-1.0\n" + struct.pack("<6f", 3, 4, 5, 0, float("inf"), 2)


@pytest.mark.parametrize("header", [b"Pf\n3 2\n1.0\n", b"Pf 3 2 1\n", b"Pf\n# a comment\n3 2\n+1.0e0\n"])
def test_pfm_of_other_writers(tmp_path, header):
    (tmp_path / "a.pfm").write_bytes(header + struct.pack(">6f", 3, 4, 5, 0, 1, 2))
    np.testing.assert_array_equal(read_disparity(tmp_path / "a.pfm"), np.arange(6).reshape(2, 3))


@pytest.mark.parametrize("first", [0x0A0A0A0A, 0x3F800000])
def test_pfm_with_a_header_in_windows_text_mode(tmp_path, first):
    pixels = struct.pack("<I5f", first, 1, 2, 3, 4, 5)
    for header in (b"Pf\r\n3 2\r\n-1.0\r\n", b"Pf\n3 2\n-1.0\n"):
        (tmp_path / "a.pfm").write_bytes(header + pixels)
        np.testing.assert_array_equal(read_disparity(tmp_path / "a.pfm")[1], np.frombuffer(pixels[:12], "<f4"))


@pytest.mark.parametrize("suffix", [".pfm", ".npy", ".npz", ".png"])
def test_zero_is_a_number_unless_it_is_unknown(tmp_path, suffix):
    disparity = np.array([[0, 1.5], [2, np.nan]], np.float32)
    path = write_disparity(tmp_path / f"a{suffix}", disparity)
    if suffix == ".png":
        Image.fromarray(np.array([[0, 384], [512, 0]], np.uint16)).save(path)
    else:
        np.testing.assert_array_equal(read_disparity(path), disparity)
    np.testing.assert_array_equal(read_disparity(path, zero_is_unknown=True), [[np.nan, 1.5], [2, np.nan]])


@pytest.mark.parametrize(("suffix", "usual"), [(".pfm", 1), (".npy", 1), (".png", 256)])
def test_a_scale_divides_what_the_file_holds(tmp_path, suffix, usual):
    path = write_disparity(tmp_path / f"a{suffix}", np.full((4, 5), 6, np.float32))
    np.testing.assert_array_equal(read_disparity(path, scale=32), np.full((4, 5), 6 * usual / 32))


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("first", [b"\n\x00\x00\x00", b"\r\n\x00\x00", b"\x00\x00\x40\x40"])
def test_pfm_with_line_ends_of_windows(tmp_path, mark, first):
    pixels = first + struct.pack(">5f", 4, 5, 0, 1, 2)
    for end in (b"\n", b"\r\n"):
        (tmp_path / "a.pfm").write_bytes(mark + end.join([b"Pf", b"3 2", b"1.0", b""]) + pixels)
        found = read_disparity(tmp_path / "a.pfm")
        np.testing.assert_array_equal(found[::-1].reshape(-1), np.frombuffer(pixels, ">f4"))


def test_pfm_whose_first_pixel_looks_like_text(tmp_path):
    # 0x0a0a0a0a is four line feeds: the header ends at one white space, not at the last.
    disparity = np.frombuffer(b"\n\n\n\n1234", "<f4").reshape(1, 2)
    np.testing.assert_array_equal(read_disparity(write_disparity(tmp_path / "a.pfm", disparity)), disparity)


@pytest.mark.parametrize("shape", [(1, 4, 5), (4, 5, 1)])
def test_arrays_may_have_an_axis_of_one(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.arange(20.0).reshape(shape))
    np.testing.assert_array_equal(read_disparity(tmp_path / "a.npy"), np.arange(20).reshape(4, 5))


def test_npz_with_several_arrays_needs_a_name(tmp_path):
    disparity = np.ones((4, 5))
    np.savez(tmp_path / "one.npz", anything=disparity)
    np.savez(tmp_path / "named.npz", valid=disparity > 0, disparity=disparity)
    np.savez(tmp_path / "two.npz", a=disparity, b=disparity)
    for name in ("one", "named"):
        np.testing.assert_array_equal(read_disparity(tmp_path / f"{name}.npz"), disparity)
    with pytest.raises(UsageError, match=r"two\.npz: got the arrays a, b, wanted one, or one named disparity"):
        read_disparity(tmp_path / "two.npz")


def content(kind: str) -> bytes:
    return {
        "cut": b"Pf\n3 2\n-1.0\n" + bytes(20),
        "long": b"Pf\n3 2\n-1.0\n" + bytes(28),
        "color": b"PF\n3 2\n-1.0\n" + bytes(72),
        "none": b"Pf\n0 2\n-1.0\n",
        "scale": b"Pf\n3 2\n1.2.3\n" + bytes(24),
        "digits": b"Pf\n" + b"9" * 5000 + b" 2\n-1.0\n" + bytes(24),
        "points": b"Pf\n3 2\n" + b"." * 5000 + b"\n" + bytes(24),
        "blanks": b"Pf" + b"\n" * 100_000,
        "text": b"hello there",
        "empty": b"",
    }[kind]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("cut", "got 20 bytes of pixels, wanted 24 for 3x2"),
        ("long", "got 28 bytes"),
        ("color", "got a color PFM"),
        ("none", "0x2"),
        ("text", "got no PFM header"),
        ("empty", "empty file"),
    ],
)
def test_pfm_that_is_refused(tmp_path, kind, says):
    (tmp_path / "a.pfm").write_bytes(content(kind))
    with pytest.raises(UsageError, match=rf"a\.pfm: .*{says}"):
        read_disparity(tmp_path / "a.pfm")


def test_other_files_that_are_refused(tmp_path):
    Image.new("L", (5, 4)).save(tmp_path / "eight_bits.png")
    Image.new("RGB", (5, 4)).save(tmp_path / "color.png")
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "a.txt").write_text("hello")
    np.save(tmp_path / "batch.npy", np.zeros((2, 4, 5)))
    np.save(tmp_path / "words.npy", np.full((4, 5), "a"))
    for name, says in (
        ("eight_bits.png", "got uint8"),
        ("color.png", "wanted a 16-bit image of one channel"),
        ("text.npz", "not a complete .npz file"),
        ("a.txt", "got the suffix '.txt', wanted one of .pfm, .png, .npy, .npz"),
        ("batch.npy", r"shape \(2, 4, 5\)"),
        ("words.npy", "got <U1"),
    ):
        with pytest.raises(UsageError, match=f"{name}: .*{says}"):
            read_disparity(tmp_path / name)
    with pytest.raises(MissingFileError):
        read_disparity(tmp_path / "missing.pfm")


def test_what_is_no_disparity_is_not_written(tmp_path):
    for disparity in (np.zeros((1, 4, 5)), np.zeros((4, 5), np.int64), np.zeros((0, 5))):
        with pytest.raises(ValueError, match=r"wanted floats of shape \(H, W\)"):
            write_disparity(tmp_path / "a.pfm", disparity)
    with pytest.raises(ValueError, match=r"got the suffix '\.exr'"):
        write_disparity(tmp_path / "a.exr", np.zeros((4, 5)))
    assert not list(tmp_path.iterdir())
