"""`crosspol predict` in meters: with a rig's calibration, and with --calibration for rectified images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from plyfile import PlyData

from crosspol.cli import main
from crosspol.inference.predictor import StereoPredictor
from crosspol.io.depth import read_depth
from crosspol.io.disparity import read_disparity
from crosspol.io.images import read_image, write_image
from crosspol.rigs.calibration_files import read_calibration
from crosspol.rigs.rig import default_rig
from tests.open_network import open_network

# 64x48 px. No disparity that this network may predict is beyond infinity.
MIDDLEBURY = """\
cam0=[80 0 31; 0 80 24; 0 0 1]
cam1=[80 0 131; 0 80 24; 0 0 1]
doffs=100
baseline=120
width=64
height=48
"""
METRIC = ("depth.npy", "depth.png", "depth_color.png", "cloud.ply", "calibration.json")
OPENCV = "K1: [80, 0, 31, 0, 80, 24, 0, 0, 1]\nK2: [80, 0, 31, 0, 80, 24, 0, 0, 1]\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for side in ("left", "right"):
        write_image(tmp_path / f"{side}.png", rng.integers(0, 256, (48, 64, 3), np.uint8))
    (tmp_path / "calib.txt").write_text(MIDDLEBURY)
    return tmp_path


def run(weights: Path, *arguments: str) -> int:
    always = ("--weights", str(weights), "--iters", "1", "--device", "cpu")
    output = () if "--output" in arguments else ("--output", "out")
    return main(["predict", "left.png", "right.png", *always, *output, *arguments])


def test_rectified_images_with_a_calibration(folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(weights, "--calibration", "calib.txt") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert {f"out/left_{name}" for name in METRIC} <= {line.strip() for line in said.out.splitlines()}
    assert all((folder / "out" / f"left_{name}").exists() for name in METRIC)

    disparity = read_disparity("out/left_disparity.pfm").astype(np.float64)
    depth = read_depth("out/left_depth.npy")
    np.testing.assert_allclose(depth, 80 * 0.12 / (disparity + 100), rtol=1e-5)
    low, middle, high = np.percentile(depth, (5, 50, 95))
    assert f" px, depth {middle:.2f} m ({low:.2f} to {high:.2f} m for 5 to 95 %), " in said.out.splitlines()[0]

    # What was written is a calibration that the command takes, and nothing changes.
    assert run(weights, "--calibration", "out/left_calibration.json", "--output", "again") == 0
    np.testing.assert_array_equal(read_depth("again/left_depth.npy"), depth)
    assert Path("again/left_calibration.json").read_bytes() == Path("out/left_calibration.json").read_bytes()
    assert read_calibration("again/left_calibration.json").baseline_m == pytest.approx(0.12)


def test_the_cloud_ends_where_it_is_told_to_and_can_be_left_out(folder: Path, weights: Path) -> None:
    assert run(weights, "--calibration", "calib.txt") == 0
    depth = read_depth("out/left_depth.npy")
    limit = float(np.median(depth))
    assert run(weights, "--calibration", "calib.txt", "--max-depth", str(limit), "--output", "near") == 0
    every, near = (PlyData.read(f"{name}/left_cloud.ply")["vertex"] for name in ("out", "near"))
    assert 0 < near.count == np.count_nonzero(every["z"] <= limit) < every.count
    np.testing.assert_array_equal(read_depth("near/left_depth.npy"), depth)
    assert run(weights, "--calibration", "calib.txt", "--no-cloud", "--output", "flat") == 0
    names = {path.name for path in Path("flat").iterdir()}
    assert "left_cloud.ply" not in names
    assert {"left_depth.npy", "left_calibration.json"} <= names


def test_a_rig_with_a_calibration(folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "rig.yaml").write_text("kind: none\ncalibration: calib.txt\ncamera:\n  content: image\n")
    assert run(weights, "--rig", "rig.yaml") == 0
    assert ", depth " in capsys.readouterr().out
    cloud = PlyData.read("out/left_cloud.ply")["vertex"]
    shown = read_image("out/left_rectified.png").reshape(-1, 3)
    colors = np.stack([cloud[name] for name in ("red", "green", "blue")], -1)
    assert {tuple(color) for color in colors} <= {tuple(color) for color in shown}
    assert read_calibration("out/left_calibration.json").cx_right == 131


def test_where_nothing_is_nearer_than_infinity_the_report_says_so(
    folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "calib.txt").write_text(MIDDLEBURY.replace("131", "-869"))
    assert run(weights, "--calibration", "calib.txt") == 0
    assert "no depth (at infinity everywhere: is the calibration that of these views?)" in capsys.readouterr().out
    assert np.isnan(np.load("out/left_depth.npy")).all()
    assert (read_image("out/left_depth.png") == 0).all()
    assert PlyData.read("out/left_cloud.ply")["vertex"].count == 0


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        (None, ("--max-depth", "5"), "--max-depth: got no calibration beside it, wanted --calibration or --rig"),
        (MIDDLEBURY, ("--max-depth", "0"), "--max-depth: got 0, wanted meters, more than 0"),
        (MIDDLEBURY, ("--max-depth", "nan"), "--max-depth: got nan, wanted meters, more than 0"),
        (MIDDLEBURY, ("--rig", "rig.yaml"), "--calibration: got calib.txt beside --rig, wanted one or the other"),
        (
            MIDDLEBURY.replace("64", "128").replace("48", "96"),
            (),
            "calib.txt: got a calibration of 128x96 px, wanted 64x48 px as the views have",
        ),
        (
            f"{OPENCV}D1: [0.1, 0, 0, 0]\nD2: [0, 0, 0, 0]\nR: [1, 0, 0, 0, 1, 0, 0, 0, 1]\nT: [-0.1, 0, 0]\n",
            (),
            "calib.txt: got a calibration of raw views, wanted one of the rectified pair; for images that are not "
            "rectified, name it in a rig of kind none",
        ),
        ("nonsense", (), "calib.txt: got no calibration of a known format"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    folder: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    default_rig("none").write(folder / "rig.yaml")
    calibration = ()
    if text is not None:
        (folder / "calib.txt").write_text(text)
        calibration = ("--calibration", "calib.txt")
    assert run(weights, *calibration, *arguments) == 2
    assert said in capsys.readouterr().err
    assert not Path("out").exists()


def test_results_never_replace_the_calibration(folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "left_calibration.json").write_text(MIDDLEBURY)
    assert run(weights, "--calibration", "left_calibration.json", "--output", ".") == 2
    assert "left_calibration.json: the result would replace this file" in capsys.readouterr().err


def test_an_implausible_baseline_is_warned_of_once(
    folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "calib.txt").write_text(MIDDLEBURY.replace("baseline=120", "baseline=120000"))
    assert run(weights, "--calibration", "calib.txt") == 0
    error = capsys.readouterr().err
    assert error.count("the baseline is 120 m, which is implausible") == 1


def test_python_takes_a_calibration_as_well(folder: Path) -> None:
    calibration = read_calibration("calib.txt")
    predictor = StereoPredictor(open_network(), device="cpu", iters=1)
    result = predictor.predict("left.png", "right.png", calibration=calibration)
    assert result.depth_m is not None
    assert result.depth_m.shape == (48, 64)
    batch = predictor.predict(["left.png"] * 2, ["right.png"] * 2, calibration=calibration)
    assert batch.points is not None
    np.testing.assert_allclose(batch.points[1], result.points, rtol=1e-4)
