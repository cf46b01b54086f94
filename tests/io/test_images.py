from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from crosspol.data.arguments import as_intensity, as_mask, as_polarization, as_view
from crosspol.errors import MissingFileError, UsageError
from crosspol.io.arrays import read_array
from crosspol.io.atomic import write_bytes
from crosspol.io.images import read_image, write_image

SHAPE = (40, 50)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@st.composite
def stored_images(draw):
    kind = draw(st.sampled_from([np.uint8, np.uint16]))
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    channels = draw(st.sampled_from([(), (3,)]))
    return draw(npst.arrays(kind, (*shape, *channels)))


@settings(deadline=None, max_examples=25)
@given(image=stored_images())
def test_what_is_written_is_read(tmp_path_factory, image):
    path = write_image(tmp_path_factory.mktemp("images") / "a.png", image)
    found = read_image(path)
    assert found.dtype == image.dtype
    np.testing.assert_array_equal(found, image)


def test_channels_are_red_green_blue(tmp_path, rng):
    image = rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "by_pillow.png")
    np.testing.assert_array_equal(read_image(tmp_path / "by_pillow.png"), image)
    write_image(tmp_path / "by_us.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "by_us.png")), image)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".ppm", ".webp"])
def test_lossless_formats(tmp_path, rng, suffix):
    image = rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), image)


def test_jpeg_is_read_whatever_its_suffix(tmp_path):
    Image.new("RGB", (50, 40), (200, 100, 50)).save(tmp_path / "a.png", "JPEG")
    found = read_image(tmp_path / "a.png")
    assert found.shape == (40, 50, 3)
    np.testing.assert_allclose(found, np.broadcast_to([200, 100, 50], found.shape), atol=3)


@pytest.mark.parametrize(
    ("mode", "shape"), [("L", SHAPE), ("LA", (*SHAPE, 4)), ("RGBA", (*SHAPE, 4)), ("P", (*SHAPE, 3))]
)
def test_modes_of_png(tmp_path, mode, shape):
    Image.new("RGB", (50, 40), (255, 255, 255)).convert(mode).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == shape


def png(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@settings(deadline=None, max_examples=25)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_png_that_is_cut_anywhere_is_refused(tmp_path_factory, cut):
    data = png(np.random.default_rng(0))
    path = tmp_path_factory.mktemp("cut") / "a.png"
    path.write_bytes(data[: int(cut * len(data))])
    with pytest.raises(UsageError, match=r"a\.png: got"):
        read_image(path)


@settings(deadline=None, max_examples=25)
@given(where=st.floats(0.1, 0.9))
def test_a_png_that_is_damaged_is_refused(tmp_path_factory, where):
    data = bytearray(png(np.random.default_rng(0)))
    data[int(where * len(data))] ^= 0xFF
    path = tmp_path_factory.mktemp("damaged") / "a.png"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"a\.png: got a truncated or damaged PNG"):
        read_image(path)


@pytest.mark.parametrize(("format_name", "suffix"), [("TIFF", ".tif"), ("JPEG", ".jpg"), ("BMP", ".bmp")])
def test_other_images_that_are_cut_are_refused_without_noise(tmp_path, rng, capfd, format_name, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)).save(path, format_name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UsageError, match=rf"a{suffix}: got a truncated or damaged {format_name}"):
        read_image(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty file"),
        (b"not an image at all\n" * 9, "a text file"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"\x00\x01\x02" * 50, "another format"),
        (b"\x81\x14\xf0" * 50, "another format"),  # a raw frame without a 0
    ],
)
def test_what_is_no_image_is_described(tmp_path, content, says):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UsageError, match=rf"a\.png: got .*{says}"):
        read_image(tmp_path / "a.png")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.png: no such file"):
        read_image(tmp_path / "a.png")
    with pytest.raises(MissingFileError):
        read_image(tmp_path / "a.npy")
    with pytest.raises(UsageError, match="got a folder, wanted a file"):
        read_image(tmp_path)


def test_arrays(tmp_path, rng):
    array = rng.random(SHAPE)
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(read_image(tmp_path / "a.npy"), array)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match=r"not a complete \.npy file"):
        read_array(tmp_path / "objects.npy")


@settings(deadline=None, max_examples=25)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_an_array_that_is_cut_anywhere_is_refused(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "a.npy"
    np.save(path, np.arange(60.0))
    data = path.read_bytes()
    path.write_bytes(data[: int(cut * len(data))])
    with pytest.raises(UsageError, match=r"a\.npy: "):
        read_array(path)


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = write_bytes(tmp_path / "a.bin", b"before")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_respects_the_umask_and_needs_a_folder(tmp_path):
    before = os.umask(0o027)
    try:
        path = write_bytes(tmp_path / "a.bin", b"x")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
    with pytest.raises(FileNotFoundError):
        write_bytes(tmp_path / "none" / "a.bin", b"x")


def test_only_images_are_written(tmp_path):
    for image in (np.zeros(SHAPE), np.zeros((*SHAPE, 4), np.uint8), np.zeros(5, np.uint8)):
        with pytest.raises(ValueError, match="wanted uint8 or uint16"):
            write_image(tmp_path / "a.png", image)
    assert not list(tmp_path.iterdir())


# as_view


@pytest.mark.parametrize(("kind", "full"), [(np.uint8, 255), (np.uint16, 65535)])
def test_integers_are_divided_by_their_full_range(rng, kind, full):
    image = rng.integers(0, full, (*SHAPE, 3), endpoint=True, dtype=kind)
    image[0, 0] = full
    view = as_view(image, "left")
    assert view.dtype == np.float32
    np.testing.assert_allclose(view, image.astype(np.float64) / full, atol=1e-7)
    assert view.max() == 1


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_stay(rng, kind):
    image = rng.random((2, *SHAPE, 3)).astype(kind)
    np.testing.assert_array_equal(as_view(image, "left"), image.astype(np.float32))


def test_one_channel_becomes_three(rng):
    image = rng.random(SHAPE).astype(np.float32)
    for gray in (image, image[..., None]):
        view = as_view(gray, "left")
        assert view.shape == (*SHAPE, 3)
        for channel in range(3):
            np.testing.assert_array_equal(view[..., channel], image)


def test_opaque_alpha_is_dropped_and_transparency_refused(rng):
    image = rng.integers(0, 256, (*SHAPE, 4), dtype=np.uint8)
    image[..., 3] = 255
    np.testing.assert_array_equal(as_view(image, "left"), as_view(image[..., :3], "left"))
    image[5, 5, 3] = 254
    with pytest.raises(UsageError, match="left: got transparent pixels"):
        as_view(image, "left")


def test_rounding_beyond_the_range_is_clipped():
    image = np.full(SHAPE, 1.0005)
    image[0] = -0.0005
    view = as_view(image, "left")
    assert view.min() == 0
    assert view.max() == 1


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((3, *SHAPE)), r"got an array of shape \(3, 40, 50\), wanted \(H, W\), \(H, W, 1\) or \(H, W, 3\)"),
        (np.zeros((*SHAPE, 2)), r"shape \(40, 50, 2\)"),
        (np.zeros(50), r"shape \(50,\)"),
        (np.zeros((1, 1, *SHAPE, 3)), r"shape \(1, 1, 40, 50, 3\)"),
        (np.zeros((0, *SHAPE, 3)), r"shape \(0, 40, 50, 3\)"),
        (np.zeros((31, 50)), "got 50x31 px, wanted at least 32x32 px"),
        (np.zeros((50, 31, 3), np.uint8), "got 31x50 px"),
        (np.full(SHAPE, 200.0), r"got float values from 200 to 200, wanted \[0, 1\]; divide 8-bit values by 255"),
        (np.full(SHAPE, -0.5), r"from -0.5 to -0.5, wanted \[0, 1\]$"),
        (np.full(SHAPE, np.nan), "got only NaN values"),
        (np.where(np.eye(40, 50) > 0, np.inf, 0.5), "got 40 infinite values"),
        (np.zeros(SHAPE, np.int64), "type int64, wanted uint8, uint16 or float"),
        (np.zeros(SHAPE, bool), "type bool"),
        (np.full(SHAPE, "a"), "type <U1"),
    ],
)
def test_views_that_are_refused(image, says):
    with pytest.raises(UsageError, match=f"^left: .*{says}"):
        as_view(image, "left")


# as_polarization


def test_polarization_keeps_sign_and_nan(rng):
    map_ = rng.uniform(-1, 1, SHAPE)
    map_[3, 4] = np.nan
    found = as_polarization(map_, "pol")
    assert found.shape == (*SHAPE, 1)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[..., 0], map_.astype(np.float32))


@pytest.mark.parametrize(("kind", "full"), [(np.uint8, 255), (np.uint16, 65535)])
def test_integer_polarization_is_dolp_times_the_full_range(rng, kind, full):
    map_ = rng.integers(0, full, SHAPE, endpoint=True, dtype=kind)
    np.testing.assert_allclose(as_polarization(map_, "pol")[..., 0], map_ / full, atol=1e-7)


def test_gray_saved_as_color_is_one_channel(rng):
    map_ = rng.integers(0, 256, SHAPE, dtype=np.uint8)
    colors = np.repeat(map_[..., None], 3, axis=-1)
    np.testing.assert_array_equal(as_polarization(colors, "pol"), as_polarization(map_, "pol"))
    colors[0, 0, 0] ^= 1
    with pytest.raises(UsageError, match="pol: got a color image, wanted one channel"):
        as_polarization(colors, "pol")


def test_three_channels(rng):
    map_ = rng.uniform(-1, 1, (2, *SHAPE, 3)).astype(np.float32)
    map_[0, 1, 2, 0] = np.nan
    found = as_polarization(map_, "pol", channels=3)
    assert np.isnan(found[0, 1, 2]).all()
    assert np.isnan(found).sum() == 3
    np.testing.assert_array_equal(found[1], map_[1])


@pytest.mark.parametrize(
    ("map_", "channels", "says"),
    [
        (np.full(SHAPE, 1.5), 1, r"values from 1.5 to 1.5, wanted \[-1, 1\]"),
        (np.full(SHAPE, np.inf), 1, r"wanted \[-1, 1\]"),
        (np.zeros((20, 20)), 1, "got 20x20 px"),
        (np.zeros(SHAPE), 3, r"shape \(40, 50\), .*wanted \(H, W, 3\)"),
        (np.zeros((*SHAPE, 3), np.uint8), 3, "got uint8, wanted float S1/S0"),
        (np.zeros(SHAPE, np.int32), 1, "type int32"),
    ],
)
def test_polarization_that_is_refused(map_, channels, says):
    with pytest.raises(UsageError, match=f"^pol: .*{says}"):
        as_polarization(map_, "pol", channels)


# as_mask, as_intensity


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float32])
def test_masks_of_every_type(rng, kind):
    truth = rng.random(SHAPE) > 0.5
    np.testing.assert_array_equal(as_mask(truth.astype(kind), "mask")[..., 0], truth)
    np.testing.assert_array_equal(as_mask(truth[..., None].astype(kind), "mask")[..., 0], truth)


def test_masks_do_not_trust_nan():
    mask = np.ones(SHAPE)
    mask[2, 3] = np.nan
    assert not as_mask(mask, "mask")[2, 3, 0]
    assert as_mask(mask, "mask").sum() == mask.size - 1


def test_masks_that_are_refused():
    with pytest.raises(UsageError, match=r"^mask: .*shape \(40, 50, 3\)"):
        as_mask(np.ones((*SHAPE, 3)), "mask")
    with pytest.raises(UsageError, match=r"^mask: got <U1"):
        as_mask(np.full(SHAPE, "a"), "mask")


def test_intensities_have_any_scale_from_zero(rng):
    values = rng.uniform(0, 4000, SHAPE)
    np.testing.assert_array_equal(as_intensity(values, "i")[..., 0], values.astype(np.float32))
    for refused, says in ((-values - 1, "wanted linear intensities from 0 up"), (values * np.nan, "only NaN")):
        with pytest.raises(UsageError, match=f"^i: .*{says}"):
            as_intensity(refused, "i")


def test_files_are_found_by_text_and_by_path(tmp_path):
    path = write_image(tmp_path / "a.png", np.zeros(SHAPE, np.uint8))
    assert isinstance(path, Path)
    assert read_image(str(path)).shape == read_image(path).shape == SHAPE
