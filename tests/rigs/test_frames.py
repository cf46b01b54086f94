"""From stored numbers to linear light, Stokes parameters and validity, against formulas written out here."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from crosspol.errors import UsageError
from crosspol.rigs.frames import Frame, frame_of, read_recording, read_recordings
from crosspol.rigs.reader import RigReader
from crosspol.rigs.rig import Camera, Rig

SIZE = (40, 48)
ANGLES = (0, 45, 90, 135)


def intensities(s0: float = 0.3, dolp: float = 0.5, aolp_deg: float = 20) -> dict[int, float]:
    """Malus' law: what each angle sees of light whose mean intensity over the angles is s0."""
    return {angle: s0 * (1 + dolp * math.cos(2 * math.radians(aolp_deg - angle))) for angle in ANGLES}


def stokes_of(s0: float = 0.3, dolp: float = 0.5, aolp_deg: float = 20) -> Tensor:
    twice = 2 * math.radians(aolp_deg)
    return s0 * torch.tensor([1, dolp * math.cos(twice), dolp * math.sin(twice)])


def even_mosaic(layout: tuple[tuple[int, int], tuple[int, int]] = ((90, 45), (135, 0))) -> np.ndarray:
    seen = intensities()
    block = np.array([[seen[angle] for angle in row] for row in layout])
    return np.tile(block, (SIZE[0] // 2, SIZE[1] // 2))


def read(path: Path, camera: Camera) -> Frame:
    return frame_of(read_recording(path, camera))


def assert_even(frame: Frame, expected: Tensor, tolerance: float) -> None:
    assert frame.stokes is not None
    assert frame.intensity is None
    assert frame.stokes.dtype == torch.float32
    assert frame.stokes.shape[1:] == (3, *SIZE)
    torch.testing.assert_close(
        frame.stokes, expected[None, :, None, None].expand_as(frame.stokes), atol=tolerance, rtol=0
    )
    assert frame.size == SIZE


@pytest.mark.parametrize("layout", [((90, 45), (135, 0)), ((0, 45), (135, 90)), ((45, 0), (90, 135))])
@pytest.mark.parametrize(("black", "white", "dtype"), [(0, 255, np.uint8), (16, 240, np.uint8), (240, 4095, np.uint16)])
def test_a_mosaic_between_black_and_white(
    tmp_path: Path, layout: tuple[tuple[int, int], tuple[int, int]], black: int, white: int, dtype: type
) -> None:
    stored = np.rint(black + even_mosaic(layout) * (white - black)).astype(dtype)
    assert cv2.imwrite(str(tmp_path / "a.png"), stored)
    frame = read(tmp_path / "a.png", Camera(layout=layout, black_level=black, white_level=white))
    assert_even(frame, stokes_of(), 1 / (white - black))
    assert frame.valid.shape == (1, *SIZE)
    assert frame.valid.min() == 1


@given(aolp_deg=st.floats(-90, 90), dolp=st.floats(0, 0.9), turn=st.floats(-180, 180))
def test_a_turned_sensor(tmp_path_factory: pytest.TempPathFactory, aolp_deg: float, dolp: float, turn: float) -> None:
    seen = intensities(0.3, dolp, aolp_deg - turn)
    path = tmp_path_factory.getbasetemp() / "turned.npy"
    np.save(path, np.stack([np.full(SIZE, seen[angle], np.float32) for angle in ANGLES]))
    assert_even(
        read(path, Camera(content="angles", angle_offset_deg=turn)), stokes_of(0.3, dolp, aolp_deg), tolerance=1e-5
    )


def test_a_color_mosaic_has_a_polarization_a_color(tmp_path: Path) -> None:
    raw = np.zeros(SIZE)
    colors = {"R": stokes_of(0.4, 0.5, 10), "G": stokes_of(0.3, 0.2, 60), "B": stokes_of(0.2, 0.4, -40)}
    shares = {"R": (0.4, 0.5, 10), "G": (0.3, 0.2, 60), "B": (0.2, 0.4, -40)}
    for (cell_row, cell_column), letter in zip(((0, 0), (0, 1), (1, 0), (1, 1)), "RGGB", strict=True):
        for row, angles in enumerate(((90, 45), (135, 0))):
            for column, angle in enumerate(angles):
                raw[2 * cell_row + row :: 4, 2 * cell_column + column :: 4] = intensities(*shares[letter])[angle]
    np.save(tmp_path / "a.npy", raw.astype(np.float32))
    frame = read(tmp_path / "a.npy", Camera(bayer="RGGB"))
    assert frame.stokes is not None
    assert frame.stokes.shape == (3, 3, *SIZE)
    for index, letter in enumerate("RGB"):
        inside = frame.stokes[index, :, 8:-8, 8:-8]
        torch.testing.assert_close(inside, colors[letter][:, None, None].expand_as(inside), atol=1e-3, rtol=0)


def test_mono12p_from_end_to_end(tmp_path: Path) -> None:
    stored = np.rint(even_mosaic() * 4095).astype(int)
    stream = sum(int(value) << (12 * index) for index, value in enumerate(stored.reshape(-1)))
    (tmp_path / "a.raw").write_bytes(stream.to_bytes(stored.size * 3 // 2, "little"))
    camera = Camera(pixel_format="Mono12p", width=SIZE[1], height=SIZE[0])
    assert_even(read(tmp_path / "a.raw", camera), stokes_of(), 1 / 4095)


def test_stored_stokes_count_from_their_zero(tmp_path: Path) -> None:
    expected = stokes_of()
    stored = np.stack([np.full(SIZE, value) for value in expected.numpy()])
    np.save(tmp_path / "signed.npy", stored.astype(np.float32) * 2)
    assert_even(read(tmp_path / "signed.npy", Camera(content="stokes", white_level=2)), expected, 1e-6)
    unsigned = np.rint(stored * 200 + [[[10]], [[128]], [[128]]]).astype(np.uint8)
    np.save(tmp_path / "unsigned.npy", unsigned)
    camera = Camera(content="stokes", black_level=10, white_level=210, stokes_zero=128)
    assert_even(read(tmp_path / "unsigned.npy", camera), expected, 1 / 200)
    with pytest.raises(UsageError, match=r"unsigned.npy: got uint8.* wanted stokes_zero"):
        read(tmp_path / "unsigned.npy", Camera(content="stokes"))


@pytest.mark.parametrize(("half_turn", "dtype"), [(None, np.float32), (180, np.uint8), (201, np.uint8)])
def test_ready_maps(tmp_path: Path, half_turn: float | None, dtype: type) -> None:
    whole = dtype == np.uint8
    angle = math.radians(20) * (half_turn or math.pi) / math.pi
    values = {"dolp": 0.5 * (255 if whole else 1), "aolp": angle, "intensity": 0.3 * (255 if whole else 1)}
    for name, value in values.items():
        np.save(tmp_path / f"{name}.npy", np.full(SIZE, np.rint(value) if whole else value, dtype))
    frame = read(tmp_path / "{map}.npy", Camera(content="dolp-aolp", aolp_half_turn=half_turn))
    assert_even(frame, stokes_of(), 0.01 if whole else 1e-6)


def test_ready_maps_need_to_be_understood(tmp_path: Path) -> None:
    for name, value in {"dolp": 2.0, "aolp": 0.1, "intensity": 0.3}.items():
        np.save(tmp_path / f"{name}.npy", np.full(SIZE, value, np.float32))
    with pytest.raises(UsageError, match=r"dolp.npy: got DoLP from 2 to 2, wanted \[0, 1\]"):
        read(tmp_path / "{map}.npy", Camera(content="dolp-aolp"))
    np.save(tmp_path / "aolp.npy", np.zeros(SIZE, np.uint8))
    with pytest.raises(UsageError, match="got AoLP as uint8, wanted aolp_half_turn"):
        read(tmp_path / "{map}.npy", Camera(content="dolp-aolp"))


def test_srgb_is_undone(tmp_path: Path) -> None:
    stored = np.arange(256, dtype=np.uint8).repeat(8).reshape(32, 64)
    assert cv2.imwrite(str(tmp_path / "a.png"), stored)
    frame = read(tmp_path / "a.png", Camera(content="image", encoding="srgb"))
    value = stored / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    assert frame.stokes is None
    np.testing.assert_allclose(frame.image[0].numpy(), linear, atol=1e-6)
    np.testing.assert_array_equal(frame.valid[0].numpy(), (linear > 0.01) & (linear < 0.99))


def test_a_plain_bayer_camera(tmp_path: Path) -> None:
    raw = np.zeros(SIZE, np.float32)
    raw[::2, ::2], raw[::2, 1::2], raw[1::2, ::2], raw[1::2, 1::2] = 0.6, 0.4, 0.4, 0.2
    np.save(tmp_path / "a.npy", raw)
    frame = read(tmp_path / "a.npy", Camera(content="image", bayer="RGGB"))
    assert frame.intensity is not None
    for plane, value in zip(frame.intensity, (0.6, 0.4, 0.2), strict=True):
        torch.testing.assert_close(plane, torch.full(SIZE, value))
    # Samples keep their values at their own pixels.
    noisy = np.random.default_rng(0).random(SIZE).astype(np.float32)
    np.save(tmp_path / "a.npy", noisy)
    frame = read(tmp_path / "a.npy", Camera(content="image", bayer="GBRG"))
    np.testing.assert_array_equal(frame.image[1, ::2, ::2], noisy[::2, ::2])
    np.testing.assert_array_equal(frame.image[2, ::2, 1::2], noisy[::2, 1::2])
    np.testing.assert_array_equal(frame.image[0, 1::2, ::2], noisy[1::2, ::2])


@pytest.mark.parametrize("content", ["mosaic", "angles", "stokes", "image"])
@pytest.mark.parametrize("bad", [1.0, 0.0, math.nan, math.inf])
def test_one_bad_place_is_not_trusted_and_stays_where_it_is(tmp_path: Path, content: str, bad: float) -> None:
    stored = {
        "mosaic": even_mosaic(),
        "image": np.full(SIZE, 0.3),
        "angles": np.stack([np.full(SIZE, value) for value in intensities().values()]),
        "stokes": np.stack([np.full(SIZE, value) for value in stokes_of().numpy()]),
    }[content].astype(np.float32)
    place = {"mosaic": np.s_[18:22, 20:24], "image": np.s_[20, 22], "stokes": np.s_[0, 20, 22]}.get(
        content, np.s_[:, 20, 22] if bad == 0 else np.s_[1, 20, 22]
    )
    stored[place] = bad
    np.save(tmp_path / "a.npy", stored)
    frame = read(tmp_path / "a.npy", Camera(content=content))  # type: ignore[arg-type]
    assert frame.valid[0, 20, 22] == 0
    assert frame.valid[0, :12].min() == 1
    assert frame.valid[0, :, 32:].min() == 1
    assert frame.image.isfinite().all()
    if content != "image":
        assert frame.stokes is not None
        assert frame.stokes.isfinite().all()


@given(values=st.lists(st.floats(width=32), min_size=16, max_size=16), content=st.sampled_from(["mosaic", "image"]))
def test_any_numbers_make_a_finite_image(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], content: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.npy"
    np.save(path, np.tile(np.array(values, np.float32).reshape(4, 4), (8, 9)))
    frame = read(path, Camera(content=content, white_level=1.0))  # type: ignore[arg-type]
    assert frame.image.isfinite().all()
    assert frame.image.min() >= 0
    assert frame.image.max() <= 1
    assert frame.valid.unique().tolist() in ([0], [1], [0, 1])


def test_pairs_are_read_and_swapped(tmp_path: Path) -> None:
    paths = []
    for name, value in (("l", 0.2), ("r", 0.4)):
        paths.append(tmp_path / f"{name}.npy")
        np.save(paths[-1], np.full(SIZE, value, np.float32))
    camera, right_camera = Camera(content="image"), Camera(content="image", white_level=2)
    rig = Rig(kind="crossed", camera=camera, right_camera=right_camera)
    left, right = RigReader(rig).frames(*paths)
    assert (left.image[0, 0, 0], right.image[0, 0, 0]) == (pytest.approx(0.2), pytest.approx(0.2))
    # What is called left was taken by the right camera, whose white level is 2.
    swapped = Rig(kind="crossed", camera=camera, right_camera=right_camera, swap_views=True)
    left, right = RigReader(swapped).frames(*paths)
    assert (left.image[0, 0, 0], right.image[0, 0, 0]) == (pytest.approx(0.4), pytest.approx(0.1))


def test_views_of_two_sizes_need_a_calibration(tmp_path: Path) -> None:
    for name, size in (("l", SIZE), ("r", (40, 50))):
        np.save(tmp_path / f"{name}.npy", np.full(size, 0.2, np.float32))
    rig = Rig(kind="none", camera=Camera(content="image"))
    with pytest.raises(UsageError, match=r"r\.npy: got 50x40 px, wanted 48x40 px as the left view"):
        RigReader(rig).frames(tmp_path / "l.npy", tmp_path / "r.npy")
    calibrated = Rig(kind="none", camera=rig.camera, calibration="stereo.yaml")
    recordings = read_recordings(calibrated, tmp_path / "l.npy", tmp_path / "r.npy")
    assert [frame_of(recording).size for recording in recordings] == [SIZE, (40, 50)]


def test_black_above_the_files_white_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full(SIZE, 0.2, np.float32))
    with pytest.raises(UsageError, match="got black_level 16, wanted less than the white level 1"):
        read_recording(tmp_path / "a.npy", Camera(black_level=16))


def test_angles_in_degrees_are_not_read_as_radians(tmp_path: Path) -> None:
    degrees = np.full(SIZE, 30, np.float32)
    degrees[0] = 170
    for name, values in (("dolp", np.full(SIZE, 0.5)), ("aolp", degrees), ("intensity", np.full(SIZE, 0.4))):
        np.save(tmp_path / f"{name}.npy", values.astype(np.float32))
    with pytest.raises(UsageError, match=r"got AoLP up to 170, wanted radians, .*for degrees, set aolp_half_turn: 180"):
        read(tmp_path / "{map}.npy", Camera(content="dolp-aolp"))
    frame = read(tmp_path / "{map}.npy", Camera(content="dolp-aolp", aolp_half_turn=180))
    assert frame.stokes is not None
    np.testing.assert_allclose(
        frame.stokes[0, :, 5, 5], [0.4, 0.2 * math.cos(math.pi / 3), 0.2 * math.sin(math.pi / 3)], rtol=1e-5
    )
    np.save(tmp_path / "aolp.npy", np.radians(degrees - 90))
    read(tmp_path / "{map}.npy", Camera(content="dolp-aolp"))
    with pytest.raises(UsageError, match=r"got AoLP up to 1\.3"):
        read(tmp_path / "{map}.npy", Camera(content="dolp-aolp", aolp_half_turn=1))


@pytest.mark.parametrize("clipped", [1.0, math.nan, math.inf])
@pytest.mark.parametrize(("row", "column"), [(20, 24), (21, 24), (20, 25), (21, 25)])
@pytest.mark.parametrize("content", ["angles", "image"])
def test_what_a_clipped_sample_of_a_color_sensor_reaches_is_not_valid(
    tmp_path: Path, content: str, row: int, column: int, clipped: float
) -> None:
    """Unpolarized light, one sample clipped: interpolated, it would be polarization of its neighbors."""
    planes = np.full((4, *SIZE), 128 / 255, np.float32)
    planes[0, row, column] = clipped
    np.save(tmp_path / "a.npy", planes if content == "angles" else planes[0])
    frame = read(tmp_path / "a.npy", Camera(content=content, bayer="RGGB"))
    reached = np.zeros(SIZE, bool)
    reached[row - 1 : row + 2, column - 1 : column + 2] = True
    np.testing.assert_array_equal(frame.valid[0].numpy() == 0, reached)
    if content == "angles":
        assert frame.stokes is not None
        trusted = frame.stokes[:, 1:, frame.valid[0] > 0]
        assert trusted.abs().max() < 1e-6
