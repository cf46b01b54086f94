"""Binned mosaics: pixels against loops, the calibration against projected points, and the way to the predictor."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crosspol.checks.rig import check_rig
from crosspol.errors import UsageError
from crosspol.io.images import write_image
from crosspol.polarimetry import SONY_LAYOUT, bin_mosaic, binned_validity, mosaic, stokes
from crosspol.rigs.calibration import CameraCalibration, StereoCalibration
from crosspol.rigs.calibration_files import write_calibration
from crosspol.rigs.reader import RigReader
from crosspol.rigs.rig import Camera, Rig, default_rig, read_rig

ANGLES = (0, 45, 90, 135)


@pytest.mark.parametrize("layout", [SONY_LAYOUT, ((0, 135), (45, 90))])
@pytest.mark.parametrize("bayer", [None, "RGGB", "GBRG"])
def test_each_period_becomes_a_pixel(layout: tuple[tuple[int, int], tuple[int, int]], bayer: str | None) -> None:
    raw = torch.rand(13, 19, generator=torch.Generator().manual_seed(0))
    side = 2 if bayer is None else 4
    binned = torch.stack(bin_mosaic(raw, layout, bayer))
    assert binned.shape == (4, *([] if bayer is None else [3]), 13 // side, 19 // side)
    for y, x in itertools.product(range(13 // side), range(19 // side)):
        found: dict[tuple[int, str], list[float]] = {}
        for row, column in itertools.product(range(side), range(side)):
            color = "" if bayer is None else bayer[2 * (row // 2) + column // 2]
            value = float(raw[side * y + row, side * x + column])
            found.setdefault((layout[row % 2][column % 2], color), []).append(value)
        for (angle, color), values in found.items():
            pixel = binned[(ANGLES.index(angle), *([] if bayer is None else ["RGB".index(color)]), y, x)]
            assert float(pixel) == pytest.approx(sum(values) / len(values), abs=1e-6)


def test_what_does_not_vary_over_a_period_is_exact() -> None:
    """Nothing is lost: images that are constant over each period come back as they were."""
    coarse = torch.rand(4, 3, 5, 6, generator=torch.Generator().manual_seed(1))
    full = coarse.repeat_interleave(4, -1).repeat_interleave(4, -2)
    for found, wanted in zip(bin_mosaic(mosaic(*full, bayer="RGGB"), bayer="RGGB"), coarse, strict=True):
        torch.testing.assert_close(found, wanted)
    mono = coarse[:, 0].repeat_interleave(2, -1).repeat_interleave(2, -2)
    for found, wanted in zip(bin_mosaic(mosaic(*mono)), coarse[:, 0], strict=True):
        torch.testing.assert_close(found, wanted)


def test_one_bad_sample_spoils_its_pixel_alone() -> None:
    for bayer, side in ((None, 2), ("RGGB", 4)):
        raw = torch.full((16, 24), 0.5)
        raw[5, 7], raw[9, 14], raw[0, 23] = 1.0, float("nan"), -float("inf")
        raw[12:, :4] = 0.005
        expected = torch.ones(16 // side, 24 // side, dtype=torch.bool)
        for y, x in ((5, 7), (9, 14), (0, 23)):
            expected[y // side, x // side] = False
        expected[12 // side :, : 4 // side] = False
        assert torch.equal(binned_validity(raw, bayer), expected)
        assert torch.equal(binned_validity(raw[None], bayer)[0], expected)


@pytest.mark.parametrize("shape", [(1, 8), (3,), (8, 1)])
def test_frames_of_less_than_a_period_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        bin_mosaic(torch.zeros(shape))
    with pytest.raises(ValueError, match="at least 2"):
        binned_validity(torch.zeros(shape))


# calibration


@given(
    factor=st.sampled_from([2, 4]),
    point=st.tuples(st.floats(-1, 1), st.floats(-0.7, 0.7), st.floats(1.0, 20.0)),
    distorted=st.booleans(),
)
def test_points_land_where_the_binned_image_shows_them(
    factor: int, point: tuple[float, float, float], distorted: bool
) -> None:
    """A point of the full image at u lies in a binned pixel whose area, in units of full pixels, is known."""
    matrix = np.array([[900.0, 1.5, 613.7], [0, 880.0, 498.2], [0, 0, 1]])
    distortion = np.array([-0.1, 0.02, 1e-3, -5e-4, 0.01]) if distorted else np.zeros(5)
    camera = CameraCalibration(matrix, distortion, (1225, 1023))
    binned = camera.binned(factor)
    assert binned.size == (1225 // factor, 1023 // factor)

    def project(of: CameraCalibration) -> np.ndarray:
        # By hand, since cv2 leaves skew out.
        x, y = point[0] / point[2], point[1] / point[2]
        k1, k2, p1, p2, k3 = of.distortion
        r2 = x * x + y * y
        radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
        x, y = (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )
        return np.asarray((of.matrix @ [x, y, 1])[:2])

    # The left edge of pixel 0 is at -0.5 in both; there and from there on lengths are `factor` times shorter.
    np.testing.assert_allclose(project(binned) + 0.5, (project(camera) + 0.5) / factor, atol=1e-9)


def test_a_drawn_spot_lands_where_the_binned_calibration_says(tmp_path: Path) -> None:
    """From a raw frame to the rectified views: spots are where the points project, in both, on one row."""
    size = (240, 200)
    left, right = (
        CameraCalibration(np.array([[200.0, 0, cx], [0, 200.0, cy], [0, 0, 1]]), np.zeros(5), size)
        for cx, cy in ((118.3, 101.1), (121.9, 97.4))
    )
    turn = cv2.Rodrigues(np.array([0.01, -0.02, 0.015]))[0]
    calibration = StereoCalibration(left, right, turn, turn @ np.array([-0.1, 0.004, 0]))
    storage = cv2.FileStorage(str(tmp_path / "stereo.yml"), cv2.FileStorage_WRITE)
    names = {"M1": left.matrix, "D1": left.distortion, "M2": right.matrix, "D2": right.distortion, "R": turn}
    for name, value in names.items():
        storage.write(name, value)
    storage.write("T", calibration.translation_m[:, None])
    storage.write("image_width", size[0])
    storage.write("image_height", size[1])
    storage.release()
    point = np.array([0.05, -0.04, 0.9])
    y, x = np.mgrid[: size[1], : size[0]]
    for name, camera, place in (
        ("l.png", left, point),
        ("r.png", right, turn @ point + calibration.translation_m),
    ):
        u, v = (camera.matrix @ place)[:2] / place[2]
        spot = 0.05 + 0.6 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 5.0**2))
        write_image(tmp_path / name, np.rint(65535 * spot).astype(np.uint16))

    found = []
    for demosaic in ("edge-aware", "binning"):
        rig = Rig(kind="quad", camera=Camera(demosaic=demosaic), calibration="stereo.yml", folder=tmp_path)  # type: ignore[arg-type]
        reader = RigReader(rig)
        reader.check(tmp_path / "l.png", tmp_path / "r.png")
        pair = reader.read(tmp_path / "l.png", tmp_path / "r.png")
        assert pair.calibration is not None
        spots = []
        for frame in (pair.left, pair.right):
            light = (frame.image[0] - 0.06).clamp_min(0).double().numpy()
            rows, columns = np.mgrid[: light.shape[0], : light.shape[1]]
            spots.append(((light * columns).sum() / light.sum(), (light * rows).sum() / light.sum()))
        (x_left, y_left), (x_right, y_right) = spots
        assert y_left == pytest.approx(y_right, abs=0.05)
        k = pair.calibration
        depth = k.fx * k.baseline_m / (x_left - x_right + k.cx_right - k.cx_left)
        found.append((pair.left.size, depth, (x_left - k.cx_left) / k.fx, (y_left - k.cy) / k.fy))
    assert [sizes for sizes, *_ in found] == [(200, 240), (100, 120)]
    # The same depth and the same direction, whichever size.
    np.testing.assert_allclose(found[1][1:], found[0][1:], atol=1.5e-3, rtol=5e-3)
    baseline_turned = found[0][1]
    assert baseline_turned == pytest.approx(0.9, abs=0.03)


# rigs


def write_pair(folder: Path, shape: tuple[int, int]) -> tuple[Path, Path]:
    paths = folder / "l.png", folder / "r.png"
    for seed, path in enumerate(paths):
        write_image(path, np.random.default_rng(seed).integers(3000, 60000, shape, dtype=np.uint16))
    return paths


def rectified(width: int, height: int) -> StereoCalibration:
    return StereoCalibration.of_rectified(
        fx=100, fy=100, cx_left=40.5, cx_right=42.5, cy=30, baseline_m=0.1, size=(width, height)
    )


def test_a_rig_file_says_it(tmp_path: Path) -> None:
    rig = default_rig("quad")
    replace(rig, camera=replace(rig.camera, demosaic="binning")).write(tmp_path / "rig.yaml")
    camera = read_rig(tmp_path / "rig.yaml").camera
    assert (camera.demosaic, camera.binning) == ("binning", 2)
    assert replace(camera, bayer="RGGB").binning == 4
    assert rig.camera.binning == 1
    assert replace(camera, content="angles").binning == 1


def test_stokes_parameters_are_those_of_the_samples(tmp_path: Path) -> None:
    left, right = write_pair(tmp_path, (67, 91))
    pair = RigReader(Rig(kind="quad", camera=Camera(demosaic="binning"))).read(left, right)
    assert pair.left.size == (33, 45)
    raw = torch.from_numpy(np.random.default_rng(0).integers(3000, 60000, (67, 91), dtype=np.uint16) / 65535).float()
    (i90, i45), (i135, i0) = ([raw[r:66:2, c:90:2] for c in (0, 1)] for r in (0, 1))
    assert pair.left.stokes is not None
    torch.testing.assert_close(pair.left.stokes[0], stokes(i0, i45, i90, i135) / 2)


@pytest.mark.parametrize(("size", "fits"), [((91, 67), True), ((45, 33), True), ((90, 66), True), ((80, 60), False)])
def test_a_calibration_of_full_or_of_binned_frames_fits(tmp_path: Path, size: tuple[int, int], fits: bool) -> None:
    left, right = write_pair(tmp_path, (67, 91))
    write_calibration(tmp_path / "calibration.json", rectified(*size))
    reader = RigReader(
        Rig(kind="quad", camera=Camera(demosaic="binning"), calibration="calibration.json", folder=tmp_path)
    )
    if not fits:
        for ask in (reader.check, reader.read):
            with pytest.raises(UsageError, match=r"left view: got 45x33 px, wanted 40x30 px as calibrated"):
                ask(left, right)
        return
    reader.check(left, right)
    found = reader.read(left, right).calibration
    assert found is not None
    if size == (45, 33):
        assert (found.fx, found.cx_left, found.cy) == (100, 40.5, 30)
    else:
        assert (found.fx, found.cx_left, found.cx_right, found.cy) == (50, 20, 21, 14.75)
    assert found.left.size == (45, 33)
    assert found.baseline_m == pytest.approx(0.1)


def test_a_plain_camera_beside_a_binned_one(tmp_path: Path) -> None:
    """Its view comes to the binned one's size by the calibration; without one the sizes have to agree."""
    left, right = write_pair(tmp_path, (68, 92))
    rig = Rig(kind="quad-left", camera=Camera(demosaic="binning"), right_camera=Camera(content="image"))
    for ask in (RigReader(rig).check, RigReader(rig).read):
        with pytest.raises(
            UsageError, match=r"r\.png: got 92x68 px, wanted 46x34 px as the left view, or a calibration"
        ):
            ask(left, right)
    write_calibration(tmp_path / "calibration.json", rectified(92, 68))
    pair = RigReader(replace(rig, calibration="calibration.json", folder=tmp_path)).read(left, right)
    assert pair.left.size == pair.right.size == (34, 46)


def test_rig_check_looks_at_the_recording(tmp_path: Path) -> None:
    left, right = write_pair(tmp_path, (68, 92))
    full = check_rig(Rig(kind="quad"), [left, right])
    binned = check_rig(Rig(kind="quad", camera=Camera(demosaic="binning")), [left, right])
    for view in ("left", "right"):
        assert binned.findings[view] == full.findings[view]
        assert binned.frames[view].size == (34, 46)


@pytest.mark.parametrize("demosaic", ["edge-aware", "binning"])
@pytest.mark.parametrize("factor", [1, 2])
def test_rig_check_proposes_what_the_reader_does(tmp_path: Path, demosaic: str, factor: int) -> None:
    """A full-size calibration of a binned rig was called wrong, and its remedy would have made it so."""
    left, right = write_pair(tmp_path, (68, 92))
    write_calibration(tmp_path / "calibration.json", rectified(92 // factor, 68 // factor))
    rig = Rig(kind="quad", calibration="calibration.json", folder=tmp_path)
    rig = replace(rig, camera=replace(rig.camera, demosaic=demosaic))
    sizes = [finding for finding in check_rig(rig, [left, right]).findings["pair"] if finding.topic == "size"]
    if demosaic == "binning" or factor == 1:
        assert sizes == []
        RigReader(rig).read(left, right)
    else:
        assert sizes[0].do.startswith("demosaic: binning, whose images are of that size; or multiply fx, fy by 2")
        with pytest.raises(UsageError, match="as calibrated"):
            RigReader(rig).read(left, right)
        RigReader(replace(rig, camera=replace(rig.camera, demosaic="binning"))).read(left, right)


def test_a_calibration_without_a_size_is_checked_as_the_reader_takes_it(tmp_path: Path) -> None:
    """As that of full-size frames: one of binned frames is then of half the size, and binning is no remedy."""
    left, right = write_pair(tmp_path, (68, 92))
    values = '{"fx": 40, "fy": 40, "cx_left": 22.5, "cx_right": 22.5, "cy": 16.5, "baseline_m": 0.1}'
    (tmp_path / "calibration.json").write_text(values)
    for demosaic in ("edge-aware", "binning"):
        camera = Camera(demosaic=demosaic)
        rig = Rig(kind="quad", camera=camera, calibration="calibration.json", folder=tmp_path)
        (size,) = [finding for finding in check_rig(rig, [left, right]).findings["pair"] if finding.topic == "size"]
        assert size.do.startswith("multiply fx, fy by 2")
