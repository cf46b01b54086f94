"""From what cameras write to disparity files: `crosspol predict --rig`, and the same in Python."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from crosspol.cli import main
from crosspol.data.inputs import StereoInputs
from crosspol.inference.predictor import StereoPredictor
from crosspol.io.disparity import read_disparity
from crosspol.io.images import read_image, write_image
from crosspol.model import CrossPol, FusionConfig
from crosspol.polarimetry import intensity_at, mosaic
from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.calibration_files import write_calibration
from crosspol.rigs.frames import Frame
from crosspol.rigs.reader import RigReader, StereoPair
from crosspol.rigs.rig import Camera, Rig, default_rig
from crosspol.synthesis.compositing import RenderedView, render_view
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo
from tests.open_network import open_network

SIZE = (64, 96)
SMALL = (32, 32)


@pytest.fixture(scope="module")
def network() -> CrossPol:
    return open_network()


@pytest.fixture(scope="module")
def views() -> tuple[RenderedView, RenderedView]:
    """Light of a glass scene."""
    scene = ProceduralStereo(ProceduralConfig(size=SIZE, seed=5, glass_probability=1.0)).scene(0)
    left, right = render_view(scene, SIZE, "left"), render_view(scene, SIZE, "right")
    return left, right


def stokes(view: RenderedView, white: float) -> Tensor:
    """(3, H, W), scaled so that S0 in the middle of the range is half of what saturates an angle."""
    return torch.from_numpy(np.stack([view.rgb.mean(0), view.s1, view.s2])) / white


def raw_mosaic(view: RenderedView, white: float) -> np.ndarray:
    light = stokes(view, white)
    angles = [intensity_at(light, math.radians(angle)) for angle in (0, 45, 90, 135)]
    return np.asarray(np.rint(65535 * mosaic(*angles).clamp(0, 1).numpy()), np.uint16)


@pytest.fixture
def quad(views: tuple[RenderedView, RenderedView], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the raw mosaics of a quad rig and its rig.yaml."""
    monkeypatch.chdir(tmp_path)
    white = 0.7 * max(float(view.rgb.mean(0).max()) for view in views)
    for side, view in zip(("left", "right"), views, strict=True):
        write_image(tmp_path / f"{side}.png", raw_mosaic(view, white))
    default_rig("quad").write(tmp_path / "rig.yaml")
    return tmp_path


def read_raw() -> StereoPair:
    return RigReader(default_rig("quad")).read("left.png", "right.png")


def run(weights: Path, *arguments: str) -> int:
    always = ("--weights", str(weights), "--iters", "2", "--device", "cpu", "--output", "out")
    return main(["predict", "left.png", "right.png", *always, *arguments])


def test_raw_mosaics_to_disparity_files(
    quad: Path,
    weights: Path,
    network: CrossPol,
    views: tuple[RenderedView, RenderedView],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(weights, "--rig", "rig.yaml") == 0
    said = capsys.readouterr()
    assert said.err == ""
    stems = ("disparity.pfm", "disparity.png", "disparity.npy", "disparity_color.png")
    names = {f"left_{stem}" for stem in (*stems, "polarization_use.png", "rectified.png")}
    assert {path.name for path in Path("out").iterdir()} == names
    assert {line.strip() for line in said.out.splitlines()[1:]} == {f"out/{name}" for name in names}

    # Against the scene's own light, which never was a mosaic: what differs is what demosaicing loses.
    white = 0.7 * max(float(view.rgb.mean(0).max()) for view in views)
    frames = [Frame(stokes(view, 2 * white)[None], None, torch.ones(1, *SIZE)) for view in views]
    predictor = StereoPredictor(network, device="cpu", iters=2)
    ideal = predictor.predict_frames(*frames, "quad")
    found = read_disparity("out/left_disparity.npy")
    assert found.shape == SIZE
    assert np.corrcoef(found.ravel(), ideal.disparity.ravel())[0, 1] > 0.9

    image = read_image("out/left_rectified.png")
    expected = StereoInputs.from_frames(*frames, "quad").left.permute(1, 2, 0).numpy()
    assert image.shape == (*SIZE, 3)
    assert np.median(np.abs(image / 255 - expected)) < 0.02


def test_python_and_command_line_agree(quad: Path, weights: Path, network: CrossPol) -> None:
    assert run(weights, "--rig", "rig.yaml") == 0
    pair = read_raw()
    left, right = pair.left, pair.right
    assert pair.calibration is None
    result = StereoPredictor(network, device="cpu", iters=2).predict_frames(left, right, "quad")
    np.testing.assert_array_equal(result.disparity, read_disparity("out/left_disparity.npy"))
    assert result.polarization_use is not None
    assert result.polarization_use.shape == SIZE


def test_maps_made_by_hand_give_the_same_as_frames(quad: Path, network: CrossPol) -> None:
    """`predict` with images and DoLP maps, and `predict_frames`, are two doors to one network."""
    pair = read_raw()
    left, right = pair.left, pair.right
    predictor = StereoPredictor(network, device="cpu", iters=2)
    seen = StereoInputs.from_frames(left, right, "quad").kwargs()
    inputs = {name: tensor.permute(1, 2, 0).numpy() for name, tensor in seen.items()}
    by_hand = predictor.predict(
        inputs["left"],
        inputs["right"],
        polarization_left=inputs["pol_left"],
        polarization_right=inputs["pol_right"],
        valid_left=inputs["valid_left"],
        valid_right=inputs["valid_right"],
    )
    np.testing.assert_array_equal(by_hand.disparity, predictor.predict_frames(left, right, "quad").disparity)


@pytest.mark.parametrize("kind", ["quad-left", "crossed", "none"])
def test_the_other_kinds_of_rig(
    kind: str, quad: Path, weights: Path, views: tuple[RenderedView, RenderedView], capsys: pytest.CaptureFixture[str]
) -> None:
    white = 2 * max(float(view.rgb.mean(0).max()) for view in views)
    for side, view, angle in zip(("left", "right"), views, (0, 90), strict=True):
        light = stokes(view, white)
        seen = 2 * intensity_at(light, math.radians(angle)) if kind == "crossed" else light[0]
        if not (kind == "quad-left" and side == "left"):
            write_image(f"{side}.png", np.rint(65535 * seen.clamp(0, 1).numpy()).astype(np.uint16))
    default_rig(kind).write("rig.yaml")
    assert run(weights, "--rig", "rig.yaml") == 0
    # A crossed pair has no contrast before the fourth refinement, which nobody would see in the disparity.
    unused = "polarization is not used: a crossed pair's contrast is formed after refinement 4, and there are only"
    said = capsys.readouterr().err
    assert unused in said if kind == "crossed" else said == ""
    assert np.isfinite(read_disparity("out/left_disparity.npy")).all()
    assert Path("out/left_polarization_use.png").exists() == (kind == "quad-left")


def test_a_rolled_rig_is_rectified_with_its_polarization(
    quad: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rolled = cv2.Rodrigues(np.array([0, 0, 0.06]))[0]
    matrix = np.array([[90.0, 0, 47.5], [0, 90, 31.5], [0, 0, 1]])
    storage = cv2.FileStorage("stereo.yml", cv2.FileStorage_WRITE)
    for name, value in {
        "M1": matrix,
        "D1": np.zeros(5),
        "M2": matrix,
        "D2": np.zeros(5),
        "R": rolled,
        "T": rolled @ np.array([[-0.1], [0], [0]]),
        "image_width": SIZE[1],
        "image_height": SIZE[0],
    }.items():
        storage.write(name, value)
    storage.release()
    replace(default_rig("quad"), calibration="stereo.yml").write("rig.yaml")
    raw = read_raw().left
    assert run(weights, "--rig", "rig.yaml") == 0
    rectified = read_image("out/left_rectified.png")
    assert rectified.shape == (*SIZE, 3)
    rig = Rig(kind="quad", calibration="stereo.yml", folder=quad)
    pair = RigReader(rig).read("left.png", "right.png")
    left, right, calibration = pair.left, pair.right, pair.calibration
    assert calibration is not None
    assert calibration.rectified
    np.testing.assert_array_equal(
        rectified, np.rint(255 * StereoInputs.from_frames(left, right, "quad").left.permute(1, 2, 0).numpy())
    )
    # Half of the roll falls on each camera.
    assert not torch.allclose(left.image, raw.image, atol=0.01)

    storage = Path("stereo.yml").read_text().replace(f"image_width: {SIZE[1]}", "image_width: 640")
    Path("stereo.yml").write_text(storage)
    capsys.readouterr()
    assert run(weights, "--rig", "rig.yaml") == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].endswith("stereo.yml: left view: got 96x64 px, wanted 640x64 px as calibrated")


def test_a_calibration_in_millimetres_is_warned_about_once(
    quad: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_calibration(
        quad / "calibration.json",
        StereoCalibration.of_rectified(
            fx=90, fy=90, cx_left=47.5, cx_right=47.5, cy=31.5, baseline_m=120, size=SIZE[::-1]
        ),
    )
    replace(default_rig("quad"), calibration="calibration.json").write("rig.yaml")
    assert run(weights, "--rig", "rig.yaml") == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("crosspol predict: warning: ")
    assert "probably it is in mm" in said[0]


def test_angle_images_and_raw_binary(
    quad: Path, weights: Path, views: tuple[RenderedView, RenderedView], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(weights, "--rig", "rig.yaml") == 0
    from_png = read_disparity("out/left_disparity.npy")
    for side in ("left", "right"):
        read_image(f"{side}.png").astype("<u2").tofile(f"{side}.raw")
    camera = Camera(pixel_format="Mono16", width=SIZE[1], height=SIZE[0])
    Rig(kind="quad", camera=camera).write("raw.yaml")
    command = ["--rig", "raw.yaml", "--weights", str(weights), "--iters", "2", "--device", "cpu", "--output", "out"]
    assert main(["predict", "left.raw", "right.raw", *command]) == 0
    np.testing.assert_array_equal(read_disparity("out/left_disparity.npy"), from_png)

    white = 0.7 * max(float(view.rgb.mean(0).max()) for view in views)
    for side, view in zip(("l", "r"), views, strict=True):
        for angle in (0, 45, 90, 135):
            light = intensity_at(stokes(view, white), math.radians(angle)).clamp(0, 1).numpy()
            write_image(f"shot_{side}_{angle}.png", np.rint(65535 * light).astype(np.uint16))
    Rig(kind="quad", camera=Camera(content="angles")).write("angles.yaml")
    command[1] = "angles.yaml"
    assert main(["predict", "shot_l_{angle}.png", "shot_r_{angle}.png", *command]) == 0
    found = read_disparity("out/shot_l_disparity.npy")
    assert np.corrcoef(found.ravel(), from_png.ravel())[0, 1] > 0.9
    assert Path("out/shot_l_rectified.png").exists()

    # Folders of such files: each file would be a pair of its own, and a quarter of it the image of an angle.
    for side in ("l", "r"):
        Path(side).mkdir()
        for angle in (0, 45, 90, 135):
            Path(f"shot_{side}_{angle}.png").rename(Path(side, f"f1_{angle:03}.png"))
    capsys.readouterr()
    command[-1] = "other"
    assert main(["predict", "l", "r", *command]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "f1_000.png: got one image of" in line
    assert "a path with {angle} in it" in line
    assert not Path("other").exists()


def test_many_pairs(quad: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(2):
        for side in ("left", "right"):
            Path(f"{index}_{side}.png").write_bytes(Path(f"{side}.png").read_bytes())
    command = ["--rig", "rig.yaml", "--weights", str(weights), "--iters", "1", "--device", "cpu", "--output", "out"]
    assert main(["predict", "?_left.png", "?_right.png", *command]) == 0
    assert {path.name for path in Path("out").glob("*_rectified.png")} == {f"{i}_left_rectified.png" for i in (0, 1)}


@pytest.mark.parametrize(
    ("change", "arguments", "complaint"),
    [
        ("", ("--rig", "missing.yaml"), r"missing\.yaml: no such file"),
        ("kind: qad", (), r"rig\.yaml: kind: got 'qad', wanted one of quad"),
        ("kind: quad\ncalibration: none.yml", (), r"none\.yml: no such file"),
        ("kind: quad\ncalibration: left.png", (), r"left\.png: got no calibration of a known format"),
        ("kind: quad\ncamera: {pixel_format: Mono16, width: 640, height: 480}", (), r"left\.png: .*96x64"),
        ("kind: quad", ("--polarization-left", "dolp.png"), r"--polarization-left: got dolp\.png beside --rig"),
        ("kind: quad", ("--output", "left.png"), r"left\.png is a file"),
    ],
)
def test_requests_that_are_wrong_take_one_line(
    quad: Path,
    weights: Path,
    change: str,
    arguments: tuple[str, ...],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("rig.yaml").write_text(change)
    assert run(weights, "--rig", "rig.yaml", *arguments) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("crosspol predict: ")
    assert re.search(complaint, said[0]), said[0]
    assert not Path("out").exists()


def test_views_of_two_sizes_take_one_line(quad: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image("right.png", read_image("right.png")[:-2])
    assert run(weights, "--rig", "rig.yaml") == 2
    assert capsys.readouterr().err.startswith("crosspol predict: right.png: got 96x62 px, wanted")
    assert not Path("out").exists()


def test_results_never_replace_a_frame(quad: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("left_rectified.png").write_bytes(Path("right.png").read_bytes())
    command = ["--rig", "rig.yaml", "--weights", str(weights), "--device", "cpu", "--output", "."]
    assert main(["predict", "left.png", "left_rectified.png", *command]) == 2
    assert "left_rectified.png: the result would replace this file" in capsys.readouterr().err


def test_weights_without_a_use_for_the_rig() -> None:
    network = CrossPol.from_preset("blueprint", fusion=FusionConfig(kind="none"))
    predictor = StereoPredictor(network, device="cpu", iters=1)
    frame = Frame(torch.full((1, 3, *SMALL), 0.2), None, torch.ones(1, *SMALL))
    with pytest.raises(ValueError, match="rig: got quad, but these weights do not use polarization"):
        predictor.predict_frames(frame, frame, "quad")
    assert predictor.predict_frames(frame, frame, "none").polarization_use is None
