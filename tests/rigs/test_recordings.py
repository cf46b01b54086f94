"""Files as cameras write them, in every arrangement, against the numbers that were put into them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pytest
from numpy.typing import NDArray

from crosspol.errors import MissingFileError, UsageError
from crosspol.rigs.recordings import Stored, frame_files, frame_size, read_stored, white_level
from crosspol.rigs.rig import Camera

HEIGHT, WIDTH = 34, 46


def numbers(*shape: int, bits: int = 16, seed: int = 0) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(0, 2**bits, shape, dtype=np.uint16)


def save(path: Path, array: NDArray[np.generic]) -> Path:
    """Write an image or `.npy`; color channels in the order of the array."""
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        stored = array if array.ndim == 2 else array[..., [2, 1, 0, 3][: array.shape[2]]]
        assert cv2.imwrite(str(path), np.ascontiguousarray(stored))
    return path


def read_one(path: Path | str, camera: Camera) -> NDArray[np.generic]:
    planes = read_stored(path, camera).planes
    assert len(planes) == 1
    return planes[0]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".pgm", ".npy"])
@pytest.mark.parametrize("bits", [8, 16])
def test_mosaics_in_images(tmp_path: Path, suffix: str, bits: int) -> None:
    stored = numbers(HEIGHT, WIDTH, bits=bits).astype(np.uint8 if bits == 8 else np.uint16)
    found = read_one(save(tmp_path / f"a{suffix}", stored), Camera())
    assert found.dtype == stored.dtype
    np.testing.assert_array_equal(found, stored)


def test_mosaics_in_raw_binary(tmp_path: Path) -> None:
    stored = numbers(HEIGHT, WIDTH, bits=12)
    stream = sum(int(value) << (12 * index) for index, value in enumerate(stored.reshape(-1)))
    path = tmp_path / "a.raw"
    for name, data in (
        ("Mono12", stored.astype("<u2").tobytes()),
        ("Mono12p", stream.to_bytes(HEIGHT * WIDTH * 3 // 2, "little")),
        ("Mono8", (stored >> 4).astype(np.uint8).tobytes()),
    ):
        path.write_bytes(data)
        camera = Camera(pixel_format=name, width=WIDTH, height=HEIGHT)
        found = read_one(path, camera)
        np.testing.assert_array_equal(found, stored >> 4 if name == "Mono8" else stored)
        assert white_level(camera, Stored([found], name)) == (255 if name == "Mono8" else 4095)


def test_raw_binary_of_another_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    for size in (HEIGHT * WIDTH * 2 - 1, HEIGHT * WIDTH * 2 + 1):
        path.write_bytes(b"\0" * size)
        with pytest.raises(UsageError, match=f"got {size} bytes, wanted {HEIGHT * WIDTH * 2} for 46x34 px Mono16"):
            read_stored(path, Camera(pixel_format="Mono16", width=WIDTH, height=HEIGHT))
    with pytest.raises(UsageError, match="wanted at most"):
        read_stored(path, Camera(pixel_format="Mono16", width=10**6, height=10**6))
    with pytest.raises(UsageError, match="needs pixel_format, width and height"):
        read_stored(path, Camera())


def test_headers_that_lie_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    save(path, numbers(HEIGHT, WIDTH))
    path.write_bytes(path.read_bytes().replace(b"(34, 46)", b"(99999999, 46)"))
    with pytest.raises(UsageError, match=r"a\.npy: not a complete \.npy"):
        read_stored(path, Camera())
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 20000 10000 255\n" + b"\0" * 99)
    with pytest.raises(UsageError, match="claims 200000000 px, wanted at most"):
        read_stored(path, Camera())


@pytest.mark.parametrize("pattern", ["shot_{angle}.png", "shot_{angle:03}.png", "shot_{angle:03d}.png"])
def test_four_angle_images_by_one_pattern(tmp_path: Path, pattern: str) -> None:
    stored = numbers(4, HEIGHT, WIDTH)
    for index, angle in enumerate((0, 45, 90, 135)):
        save(tmp_path / pattern.format(angle=angle), stored[index])
    stored_frame = read_stored(tmp_path / pattern, Camera(content="angles"))
    planes, name = stored_frame.planes, stored_frame.name
    np.testing.assert_array_equal(planes, stored)
    assert name == str(tmp_path / pattern.format(angle=0))
    (tmp_path / pattern.format(angle=90)).unlink()
    with pytest.raises(MissingFileError, match="90"):
        read_stored(tmp_path / pattern, Camera(content="angles"))


def test_four_angle_images_as_a_list_in_color(tmp_path: Path) -> None:
    stored = numbers(4, HEIGHT, WIDTH, 3)
    paths = [save(tmp_path / f"{index}.png", stored[index]) for index in range(4)]
    planes = read_stored(paths, Camera(content="angles")).planes
    np.testing.assert_array_equal(planes, stored)
    with pytest.raises(UsageError, match="wanted 1 or 4 files for content: angles"):
        read_stored(paths[:3], Camera(content="angles"))


def test_stacked_angles(tmp_path: Path) -> None:
    stored = numbers(4, HEIGHT, WIDTH)
    interleaved = np.ascontiguousarray(np.moveaxis(stored, 0, 2))
    cv2.imwritemulti(str(tmp_path / "pages.tif"), list(stored))
    for path in (
        save(tmp_path / "channels.png", interleaved),
        save(tmp_path / "channels.tif", interleaved),
        save(tmp_path / "channels.npy", interleaved),
        save(tmp_path / "planes.npy", stored),
        tmp_path / "pages.tif",
    ):
        np.testing.assert_array_equal(read_stored(path, Camera(content="angles")).planes, stored, err_msg=path.name)


@pytest.mark.parametrize("name", ["a.png", "a.npy"])
@pytest.mark.parametrize(("content", "count"), [("angles", 4), ("stokes", 3), ("stokes", 4)])
def test_planes_below_each_other_are_read_where_the_rig_says_their_height(
    tmp_path: Path, name: str, content: str, count: int
) -> None:
    stored = numbers(count, HEIGHT, WIDTH)
    path = save(tmp_path / name, stored.reshape(count * HEIGHT, WIDTH))
    camera = Camera(content=content, width=WIDTH, height=HEIGHT)
    np.testing.assert_array_equal(read_stored(path, camera).planes, stored[: 4 if content == "angles" else 3])
    assert frame_size(path, camera) == (HEIGHT, WIDTH)
    # Nothing else tells them from a single image: that of one angle, by whichever path.
    for wrong in (Camera(content=content), Camera(content=content, height=count * HEIGHT)):
        for read in (read_stored, frame_size):
            with pytest.raises(UsageError, match=rf"{name}: got one image of 46x{count * HEIGHT} px, wanted . in"):
                read(path, wrong)
    with pytest.raises(UsageError, match="got 46x34 px, wanted the camera's 99x34 px"):
        frame_size(path, Camera(content=content, width=99, height=HEIGHT))


def test_a_joint_map_is_not_halved(tmp_path: Path) -> None:
    save(tmp_path / "7_dolpaolp.png", numbers(2 * HEIGHT, WIDTH, bits=8).astype(np.uint8))
    save(tmp_path / "7_intensity.png", numbers(HEIGHT, WIDTH, bits=8).astype(np.uint8))
    camera = Camera(content="dolp-aolp", aolp_half_turn=180)
    with pytest.raises(UsageError, match=r"got one image of 46x68 px, wanted 2 in one file"):
        read_stored(tmp_path / "7_{map}.png", camera)
    assert len(read_stored(tmp_path / "7_{map}.png", replace(camera, height=HEIGHT)).planes) == 3


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2), (3, 0, 1, 2), (1, 2, 3, 0)])
def test_stacked_angles_in_color(tmp_path: Path, axes: tuple[int, ...]) -> None:
    stored = numbers(4, HEIGHT, WIDTH, 3)
    path = save(tmp_path / "a.npy", np.ascontiguousarray(stored.transpose(axes)))
    np.testing.assert_array_equal(read_stored(path, Camera(content="angles")).planes, stored)


@pytest.mark.parametrize("planar", [False, True])
def test_lucid_angles(tmp_path: Path, planar: bool) -> None:
    stored = numbers(4, HEIGHT, WIDTH, bits=8).astype(np.uint8)
    (tmp_path / "a.raw").write_bytes((stored if planar else np.moveaxis(stored, 0, 2)).tobytes())
    camera = Camera(
        content="angles",
        pixel_format="PolarizedAngles_0d_45d_90d_135d_Mono8",
        width=WIDTH,
        height=HEIGHT,
        planar=planar,
    )
    np.testing.assert_array_equal(read_stored(tmp_path / "a.raw", camera).planes, stored)


def test_lucid_stokes_leave_s3_out(tmp_path: Path) -> None:
    stored = numbers(4, HEIGHT, WIDTH)
    (tmp_path / "a.raw").write_bytes(np.moveaxis(stored, 0, 2).astype("<u2").tobytes())
    camera = Camera(
        content="stokes",
        pixel_format="PolarizedStokes_S0_S1_S2_S3_Mono16",
        width=WIDTH,
        height=HEIGHT,
        stokes_zero=32768,
    )
    np.testing.assert_array_equal(read_stored(tmp_path / "a.raw", camera).planes, stored[:3])


@pytest.mark.parametrize("shape", [(3, HEIGHT, WIDTH), (HEIGHT, WIDTH, 3), (4, HEIGHT, WIDTH), (HEIGHT, WIDTH, 4)])
def test_stokes_arrays(tmp_path: Path, shape: tuple[int, ...]) -> None:
    stored = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = stored if shape[1:] == (HEIGHT, WIDTH) else np.moveaxis(stored, 2, 0)
    found = read_stored(save(tmp_path / "a.npy", stored), Camera(content="stokes")).planes
    np.testing.assert_array_equal(found, expected[:3])


@pytest.mark.parametrize("suffixes", [[""], [".Y"], [".R", ".G", ".B"]])
def test_stokes_exr(tmp_path: Path, suffixes: list[str]) -> None:
    stored = np.random.default_rng(0).normal(size=(3, HEIGHT, WIDTH, len(suffixes))).astype(np.float16)
    channels = {
        f"S{order}{suffix}": np.ascontiguousarray(stored[order, ..., place])
        for order in range(3)
        for place, suffix in enumerate(suffixes)
    }
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, channels).write(str(tmp_path / "a.exr"))
    found = read_stored(tmp_path / "a.exr", Camera(content="stokes")).planes
    np.testing.assert_array_equal(found, stored[..., 0] if len(suffixes) == 1 else stored)
    with pytest.raises(UsageError, match=r"got the channels S0.*wanted R, G, B or Y"):
        read_stored(tmp_path / "a.exr", Camera(content="image"))


def test_images_in_exr(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).random((HEIGHT, WIDTH, 3)).astype(np.float32)
    header = {"compression": OpenEXR.NO_COMPRESSION, "type": OpenEXR.scanlineimage}
    colors = {name: np.ascontiguousarray(stored[..., index]) for index, name in enumerate("RGB")}
    OpenEXR.File(header, colors).write(str(tmp_path / "color.exr"))
    np.testing.assert_array_equal(read_one(tmp_path / "color.exr", Camera(content="image")), stored)
    OpenEXR.File(header, {"Y": colors["R"]}).write(str(tmp_path / "gray.exr"))
    np.testing.assert_array_equal(read_one(tmp_path / "gray.exr", Camera(content="image")), stored[..., 0])
    with pytest.raises(UsageError, match="wanted S0, S1, S2"):
        read_stored(tmp_path / "gray.exr", Camera(content="stokes"))


def test_maps_by_one_pattern(tmp_path: Path) -> None:
    stored = numbers(3, HEIGHT, WIDTH, bits=8).astype(np.uint8)
    for index, name in enumerate(("dolp", "aolp", "intensity")):
        save(tmp_path / f"7_{name}.png", stored[index])
    camera = Camera(content="dolp-aolp", aolp_half_turn=180)
    np.testing.assert_array_equal(read_stored(tmp_path / "7_{map}.png", camera).planes, stored)
    with pytest.raises(UsageError, match=r"wanted 2 or 3 files .*\{map\}"):
        read_stored(tmp_path / "7_dolp.png", camera)


def test_lucid_maps_beside_an_intensity(tmp_path: Path) -> None:
    stored = numbers(3, HEIGHT, WIDTH, bits=8).astype(np.uint8)
    (tmp_path / "7_dolpaolp.raw").write_bytes(np.moveaxis(stored[:2], 0, 2).tobytes())
    (tmp_path / "7_intensity.raw").write_bytes(stored[2].tobytes())
    camera = Camera(
        content="dolp-aolp", pixel_format="PolarizedDolpAolp_Mono8", width=WIDTH, height=HEIGHT, aolp_half_turn=201
    )
    np.testing.assert_array_equal(read_stored(tmp_path / "7_{map}.raw", camera).planes, stored)


def test_gray_stored_as_color_is_gray(tmp_path: Path) -> None:
    stored = numbers(HEIGHT, WIDTH)
    gray = save(tmp_path / "gray.png", np.stack([stored] * 3, axis=-1))
    np.testing.assert_array_equal(read_one(gray, Camera()), stored)
    opaque = save(tmp_path / "opaque.png", np.dstack([stored, stored, stored, np.full_like(stored, 65535)]))
    np.testing.assert_array_equal(read_one(opaque, Camera()), stored)


@pytest.mark.parametrize(
    ("shape", "camera", "message"),
    [
        ((HEIGHT, WIDTH, 3), Camera(), "got a color image, wanted the raw mosaic"),
        ((HEIGHT, WIDTH, 4), Camera(), "got four channels"),
        (
            (HEIGHT, WIDTH, 3),
            Camera(content="image", bayer="RGGB"),
            "got a color image with bayer: RGGB, wanted the raw values",
        ),
        ((HEIGHT, WIDTH, 3), Camera(content="angles"), "got an array of shape .*, wanted 4 channels"),
        ((30, WIDTH), Camera(), "got 46x30 px, wanted at least 32x32 px"),
        ((HEIGHT, WIDTH), Camera(width=WIDTH, height=99), "got 46x34 px, wanted the camera's 46x99 px"),
    ],
)
def test_what_does_not_fit_the_rig_is_refused(
    tmp_path: Path, shape: tuple[int, ...], camera: Camera, message: str
) -> None:
    path = save(tmp_path / "a.png", numbers(*shape))
    with pytest.raises(UsageError, match=f"{path}: {message}"):
        read_stored(path, camera)


def test_images_of_different_sizes_are_refused(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{index}.png", numbers(HEIGHT + index, WIDTH)) for index in range(4)]
    with pytest.raises(UsageError, match="got images of 46x34, 46x35, 46x36, 46x37 px, wanted one size"):
        read_stored(paths, Camera(content="angles"))


def test_white_levels(tmp_path: Path) -> None:
    assert white_level(Camera(), Stored([np.zeros(1, np.uint8)], "a")) == 255
    assert white_level(Camera(pixel_format="Mono12"), Stored([np.zeros(1, np.uint16)], "a")) == 4095
    assert white_level(Camera(pixel_format="Mono12"), Stored([np.zeros(1, np.float32)], "a")) == 1
    assert white_level(Camera(white_level=7), Stored([np.zeros(1, np.float32)], "a")) == 7
    with pytest.raises(UsageError, match="got null with values of type int64"):
        white_level(Camera(), Stored([np.zeros(1, np.int64)], "a"))


def test_missing_files_folders_and_objects(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such file"):
        frame_files(tmp_path / "none.png", Camera())
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UsageError, match="got a folder"):
        read_stored(tmp_path / "folder.png", Camera())
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    with pytest.raises(UsageError, match=r"not a complete \.npy file of numbers"):
        read_stored(tmp_path / "objects.npy", Camera())


@pytest.mark.parametrize("content", ["angles", "stokes"])
def test_pages_in_color_come_in_red_green_blue(tmp_path: Path, content: str) -> None:
    count = 4 if content == "angles" else 3
    stored = numbers(count, HEIGHT, WIDTH, 3)
    assert cv2.imwritemulti(str(tmp_path / "a.tif"), [page[..., ::-1] for page in stored])
    planes = read_stored(tmp_path / "a.tif", Camera(content=content, width=WIDTH, height=HEIGHT)).planes
    np.testing.assert_array_equal(planes, stored)
    with pytest.raises(UsageError, match="got 46x34 px, wanted the camera's 99x34 px"):
        read_stored(tmp_path / "a.tif", Camera(content=content, width=99))


def test_further_pages_are_refused(tmp_path: Path) -> None:
    cv2.imwritemulti(str(tmp_path / "a.tif"), list(numbers(5, HEIGHT, WIDTH)))
    for content in ("mosaic", "image"):
        with pytest.raises(UsageError, match=r"a\.tif: got 5 images \(pages\) in one file, wanted one"):
            read_stored(tmp_path / "a.tif", Camera(content=content))
    with pytest.raises(UsageError, match=r"a\.tif: got an array of shape \(5, 34, 46\), wanted 4 channels"):
        read_stored(tmp_path / "a.tif", Camera(content="angles"))


def test_maxval_of_pgm_is_the_white_level(tmp_path: Path) -> None:
    stored = numbers(HEIGHT, WIDTH, bits=12)
    (tmp_path / "a.pgm").write_bytes(b"P5\n46 34\n4095\n" + stored.astype(">u2").tobytes())
    found = read_stored(tmp_path / "a.pgm", Camera())
    np.testing.assert_array_equal(found.planes[0], stored)
    assert white_level(Camera(), found) == 4095
    assert white_level(Camera(white_level=4000), found) == 4000
    save(tmp_path / "b.pgm", stored)
    assert white_level(Camera(), read_stored(tmp_path / "b.pgm", Camera())) == 65535
    paths = [tmp_path / f"{name}.pgm" for name in "abbb"]
    with pytest.raises(UsageError, match=r"got files of several maxval \(4095, none\)"):
        read_stored(paths, Camera(content="angles"))


def test_floating_point_above_white_asks_what_is_white(tmp_path: Path) -> None:
    stored = np.full((HEIGHT, WIDTH), 0.5, np.float32)
    stored[3, 4] = 3200
    found = read_stored(save(tmp_path / "a.npy", stored), Camera())
    with pytest.raises(UsageError, match=r"a\.npy: got floating point up to 3200, wanted at most 1, or white_level"):
        white_level(Camera(), found)
    assert white_level(Camera(white_level=4095), found) == 4095
    for harmless in (1.0005, np.inf, np.nan, -3):
        stored[3, 4] = harmless
        assert white_level(Camera(), Stored([stored], "a")) == 1
