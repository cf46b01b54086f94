"""`crosspol report`, on pairs and scenes as people have them."""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np
import pytest

from crosspol.cli import main
from crosspol.datasets.scene_format import scene_frames, write_index, write_scene
from crosspol.evaluation.scenes import SENSOR
from crosspol.io.disparity import write_disparity
from crosspol.io.images import write_image
from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.calibration_files import write_calibration
from crosspol.rigs.raw_files import write_raw_pair
from crosspol.rigs.sensor import record
from tests.datasets.stored_scenes import stored_scene
from tests.open_network import open_network
from tests.report.pairs import embedded

HEIGHT, WIDTH = 40, 52


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory of the test: a pair, its polarization, truth, glass, calibration."""
    rng = np.random.default_rng(0)
    left = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    glass = np.zeros((HEIGHT, WIDTH), np.uint8)
    glass[10:20, 10:30] = 255
    write_image(tmp_path / "left.png", left)
    write_image(tmp_path / "right.png", np.roll(left, -3, axis=1))
    write_image(tmp_path / "dolp.png", left[..., 0])
    write_image(tmp_path / "glass.png", glass)
    write_image(tmp_path / "small.png", glass[:36])
    truth = np.full((HEIGHT, WIDTH), 3, np.float32)
    truth[0] = 0  # which is how many data sets say "unknown"
    write_disparity(tmp_path / "truth.npy", truth)
    calibration = StereoCalibration.of_rectified(fx=50, fy=50, cx_left=26, cx_right=26, cy=20, baseline_m=0.1)
    write_calibration(tmp_path / "calibration.json", calibration)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(weights: Path, *arguments: str) -> int:
    return main(["report", *arguments, "--weights", str(weights), "--iters", "1", "--device", "cpu"])


def test_a_pair_with_all_that_belongs_to_it(folder, weights, capsys) -> None:
    arguments = ["left.png", "right.png", "--polarization-left", "dolp.png", "--ground-truth", "truth.npy"]
    arguments += ["--glass", "glass.png", "--calibration", "calibration.json", "--output", "new/pair.html"]
    assert run(weights, *arguments) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("wrote new/pair.html\n", "")
    page = (folder / "new" / "pair.html").read_text()
    assert [panel["id"] for panel in embedded(page)["panels"]] == [
        "left", "right", "dolp", "without", "with", "difference", "truth", "error-without", "error-with", "use"
    ]  # fmt: skip
    rows = dict(re.findall(r"<dt>([^<]+)</dt><dd class=\"number\">([^<]*)</dd>", page))
    assert rows["weights"] == str(weights)
    assert re.fullmatch(r"[0-9a-f]{64}", rows["SHA-256"])
    assert rows["network"] == "blueprint, cross-attention at features, 4,363,715 parameters"
    assert (rows["iterations"], rows["glass"], rows["ground truth"]) == ("1", "glass.png", "truth.npy")
    assert {"command", "versions", "machine", "made", "calibration"} <= rows.keys()
    assert embedded(page)["cloud"]["metric"]
    assert "<td>-</td>" not in page


def test_one_view_twice_is_warned_about_in_one_line(folder, weights, capsys) -> None:
    assert run(weights, "left.png", "left.png") == 0
    said = capsys.readouterr().err
    assert said.startswith("crosspol report: warning: left.png: both views are the same image: one view has no depth")
    assert said.count("\n") == 1
    assert "both views are the same image" in Path("report.html").read_text()
    assert run(weights, "left.png", "right.png") == 0
    assert capsys.readouterr().err == ""


def test_confidence_of_other_iterations_is_said_not_to_be_a_probability(folder, judged_weights, capsys) -> None:
    write_scene(folder / "rooms", stored_scene("quad", (48, 64)))
    write_index(folder / "rooms")
    note = "confidence: the coefficients are of 2 iterations, and these are 1: the order tells something"
    for arguments in (["left.png", "right.png"], ["--data", "rooms"]):
        assert run(judged_weights, *arguments) == 0
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"crosspol report: warning: {note}")
        assert note in Path("report.html").read_text()
    assert main(["report", "left.png", "right.png", "--weights", str(judged_weights), "--iters", "2"]) == 0
    assert capsys.readouterr().err == ""
    assert "confidence: the coefficients" not in Path("report.html").read_text()


def test_a_scene(tmp_path, weights, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for rig in ("crossed", "quad"):
        write_scene(tmp_path / "rooms", stored_scene(rig, (48, 64)))
    write_index(tmp_path / "rooms")
    assert run(weights, "--data", "rooms", "--scene", "quad-1") == 0
    page = Path("report.html").read_text()
    assert "<h1>quad-1</h1>" in page
    assert embedded(page)["glass"] is not None
    assert run(weights, "--data", "rooms", "--output", "first.html") == 0
    assert "<h1>crossed-1</h1>" in Path("first.html").read_text()
    capsys.readouterr()
    assert run(weights, "--data", "rooms", "--scene", "x") == 2
    assert "--scene: got x, wanted one of crossed-1, quad-1" in capsys.readouterr().err


@pytest.mark.parametrize("rig", ["quad", "crossed"])
def test_what_the_cameras_of_a_rig_wrote(tmp_path, capsys, monkeypatch, rig) -> None:
    open_network(refresh_after=(1,)).save_pretrained(tmp_path / "weights")
    scene = stored_scene(rig, (48, 64))
    recorded = record(*scene_frames(scene), np.random.default_rng(0), SENSOR)
    (tmp_path / "raw").mkdir()
    write_raw_pair(tmp_path / "raw", scene.rig, *recorded, scene.calibration)
    monkeypatch.chdir(tmp_path / "raw")
    left, right = (str(next(Path().glob(f"{side}*"))) for side in ("left", "right"))
    arguments = [left, right, "--rig", "rig.yaml", "--weights", "../weights", "--iters", "2", "--device", "cpu"]
    assert main(["report", *arguments]) == 0
    page = Path("report.html").read_text()
    panels = {panel["id"] for panel in embedded(page)["panels"]}
    assert {"left", "right", "without", "with", "difference", "use"} <= panels
    assert ({"s0", "dolp", "aolp"} <= panels) == (rig == "quad")
    assert f"rig.yaml ({rig})" in page
    assert len(embedded(page)["attention"]) == 1
    assert embedded(page)["cloud"]["metric"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "missing LEFT and RIGHT, the views of a pair (or DIR or FILE, many scenes, or --data DIR"),
        (["left.png"], "missing RIGHT"),
        (["left.png", "right.png", "--output", "page.pdf"], "--output: got page.pdf, wanted a .html file"),
        (["left.png", "right.png", "--glass", "glass.png"], "--glass: got glass.png without --ground-truth, "),
        (["left.png", "right.png", "--scene", "a"], "--scene: got a without --data, wanted both"),
        (["left.png", "right.png", "--data", "."], "--data: got left.png beside it, wanted one or the other"),
        (["nothing.png", "right.png"], "nothing.png: no such file"),
        (["left.png", "right.png", "--ground-truth", "truth.npy", "--glass", "small.png"],
         "small.png: got 52x36 px, wanted 52x40 px as the left view"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(folder, weights, capsys, arguments, words) -> None:
    assert run(weights, *arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not list(folder.glob("*.html"))


def test_several_pairs_are_refused(folder, weights, capsys) -> None:
    for name in ("l", "r"):
        (folder / name).mkdir()
        for index in range(2):
            write_image(folder / name / f"{index}.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    assert run(weights, "l", "r") == 2
    assert "l: got 2 pairs, wanted one pair" in capsys.readouterr().err


def test_names_of_files_are_escaped(folder, weights) -> None:
    hostile = "<img src=x onerror=alert(1)>.png"
    (folder / "left.png").rename(folder / hostile)
    assert run(weights, hostile, "right.png") == 0
    page = (folder / "report.html").read_text()
    assert "<img src=x" not in page
    assert f"<h1>{html.escape(hostile.removesuffix('.png'))}</h1>" in page
