"""`crosspol demo`, on scenes made here and on those that ship."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from crosspol.cli import main
from crosspol.commands.demo import DemoOptions, demo, shown, table
from crosspol.data.inputs import StereoInputs
from crosspol.data.sample import stack
from crosspol.data.truth import GroundTruth, make_sample
from crosspol.datasets.check import check_data
from crosspol.datasets.sample_rooms import sample_rooms
from crosspol.datasets.scene_format import StoredScene, read_index, read_scene, scene_frames, write_index, write_scene
from crosspol.errors import UsageError
from crosspol.evaluation.measures import measure
from crosspol.io.images import read_image
from crosspol.model.shipped import packaged_weights
from crosspol.rigs.reader import RigReader
from tests.datasets.stored_scenes import stored_scene


@pytest.fixture(scope="module")
def rooms(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rooms")
    for rig in ("crossed", "quad", "quad-left"):
        write_scene(folder, stored_scene(rig, (48, 64)))
    write_index(folder)
    return folder


@pytest.mark.parametrize("scene", [None, "quad-left-1"])
def test_demo_prints_scores_and_writes_images(tmp_path, weights, rooms, capsys, scene):
    out = tmp_path / "out"
    demo(DemoOptions(output=out, data=rooms, scene=scene, weights=str(weights), iters=2, device="cpu"))
    said = capsys.readouterr().out.strip("\n").split("\n")
    assert said[0] == f"{scene or 'quad-1'}, 64x48 px, 5% glass"
    numbers = [re.split(r" {2,}", line.strip()) for line in said[3:5]]
    assert [row[0] for row in numbers] == ["without polarization", "with polarization"]
    assert all(len(row) == 7 for row in numbers)
    assert numbers[0][1:] != numbers[1][1:]
    assert said[-2:] == ["", f"to look at: {out / 'report.html'}, in any browser"]
    written = {Path(line.strip()).name for line in said[said.index("wrote") + 1 : -2]}
    kinds = (".pfm", ".png", ".npy", "_color.png", "_error.png")
    expected = {f"{stem}_polarization{kind}" for stem in ("with", "without") for kind in kinds}
    assert written == expected | {"with_polarization_polarization_use.png", "story.png", "report.html"}
    numbers_of_the_page = re.findall(r"<td[^>]*>([^<]+)</td>", (out / "report.html").read_text())
    assert set(numbers[0][1:] + numbers[1][1:]) <= set(numbers_of_the_page)
    assert {path.name for path in out.iterdir()} == written
    assert min(read_image(out / "story.png").shape[:2]) > 600


def test_demo_says_where_confidence_is_no_probability(tmp_path, judged_weights, rooms, capsys):
    for iters, said in ((2, 0), (1, 1)):
        out = tmp_path / f"out{iters}"
        demo(DemoOptions(output=out, data=rooms, weights=str(judged_weights), iters=iters, device="cpu"))
        note = "confidence: the coefficients are of 2 iterations, and these are 1: the order tells something"
        assert capsys.readouterr().err.count(f"crosspol demo: warning: {note}") == said
        assert (note in (out / "report.html").read_text()) == bool(said)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (
            {"scene": "crossed-1"},
            "got crossed-1, wanted one of quad-1, quad-left-1 ",
        ),
        ({"data": Path("nowhere")}, "nowhere"),
    ],
)
def test_demo_refuses_what_it_cannot_show(tmp_path, weights, rooms, chosen, message):
    options = DemoOptions(**({"output": tmp_path / "out", "data": rooms, "weights": str(weights)} | chosen))
    with pytest.raises(UsageError, match=message):
        demo(options)
    assert not (tmp_path / "out").exists()


def test_demo_needs_a_scene_of_stokes_cameras(tmp_path):
    write_scene(tmp_path, stored_scene("crossed"))
    write_index(tmp_path)
    with pytest.raises(UsageError, match=r"scenes\.jsonl: got no scene of rig quad or quad-left"):
        demo(DemoOptions(output=tmp_path / "out", data=tmp_path))


def scores_of(scene: StoredScene, predicted: np.ndarray) -> dict[str, float]:
    truth = GroundTruth(scene.disparity, scene.glass, scene.occluded)
    batch = stack([make_sample(StereoInputs.from_frames(*scene_frames(scene), "quad"), "quad", truth, "a")])
    return measure(torch.from_numpy(predicted)[None, None], batch)


def test_scores_are_right_and_missing_regions_are_dashes():
    scene = stored_scene("quad", (48, 64))
    predicted = scene.disparity + np.where(scene.glass, np.float32(5), np.float32(1))
    scores = scores_of(scene, predicted)
    assert (scores["epe.glass"], scores["bad2.glass"]) == pytest.approx((5, 100), abs=1e-4)
    assert (scores["epe.background"], scores["bad2.background"]) == pytest.approx((1, 0), abs=1e-4)
    share = scene.glass.sum() / np.isfinite(scene.disparity).sum()
    assert (scores["epe.all"], scores["bad2.all"]) == pytest.approx((1 + 4 * share, 100 * share), abs=1e-4)
    without_glass = scores_of(stored_scene("quad", (48, 64), glass=np.zeros_like(scene.glass)), predicted)
    shown_table = table(without_glass, scores)
    assert shown_table.count(" - ") == 2
    head, regions, without, polarized = shown_table.splitlines()
    assert re.split(r" {2,}", head.strip()) == ["EPE (px)", "bad-2 (%)"]
    assert regions.split() == 2 * ["all", "glass", "background"]
    assert without.startswith("without polarization ")
    assert polarized.split()[2:] == [
        f"{scores[name]:.2f}"
        for name in ("epe.all", "epe.glass", "epe.background", "bad2.all", "bad2.glass", "bad2.background")
    ]


def test_the_story_shows_what_the_network_sees():
    scene = stored_scene("quad", (48, 64))
    left, right, dolp = shown(*scene_frames(scene), "quad")
    assert left.shape == right.shape == (48, 64, 3)
    s0, s1, s2 = scene.left[0]
    known = np.isfinite(dolp)
    assert known.mean() > 0.5
    np.testing.assert_allclose(dolp[known], (np.hypot(s1, s2) / s0)[known], atol=1e-4)


def test_the_shipped_rooms_have_glass_and_their_truth_warps_right_to_left():
    report = check_data(sample_rooms())
    assert not report.bad
    records = read_index(sample_rooms())
    assert {"quad", "crossed"} <= {record.rig for record in records}
    for record in records:
        assert 0.01 < read_scene(sample_rooms(), record).glass.mean() < 0.9


@pytest.mark.skipif(not (packaged_weights() / "model.safetensors").exists(), reason="the weights are not trained yet")
def test_the_shipped_weights_and_scene_go_together(tmp_path, capsys):
    assert main(["demo", "--output", str(tmp_path / "out"), "--iters", "2", "--device", "cpu"]) == 0
    assert (tmp_path / "out" / "story.png").exists()


def test_the_raw_frames_of_the_shipped_room_go_the_whole_way(tmp_path, weights, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "raw"
    assert main(["demo", "--raw", str(raw)]) == 0
    names = ["left_raw.png", "right_raw.png", "calibration.json", "rig.yaml"]
    said = capsys.readouterr().out.split("\n")
    assert said[0].endswith("320x240 px, as a quad rig records it")
    assert [line.strip() for line in said[2:-1]] == [str(raw / name) for name in names]
    assert not (Path("demo-output")).exists()
    scene = read_scene(sample_rooms(), read_index(sample_rooms())[0])
    pair = RigReader(raw / "rig.yaml").read(raw / "left_raw.png", raw / "right_raw.png")
    assert pair.calibration is not None
    assert pair.calibration.baseline_m == pytest.approx(scene.calibration.baseline_m)
    # Demosaiced and noisy, it is the light that was stored.
    left = scene_frames(scene)[0]
    known = (pair.left.valid * left.valid)[0] > 0
    assert known.float().mean() > 0.9
    error = (pair.left.stokes - left.stokes)[:, :, known].abs().mean(dim=(0, 2))
    assert error.max() < 0.02
    assert (error / left.stokes[0, 0][known].mean()).max() < 0.06


def test_raw_frames_are_refused_where_a_file_is_in_the_way(tmp_path):
    (tmp_path / "raw").write_text("")
    with pytest.raises(UsageError, match="wanted a folder to write into"):
        demo(DemoOptions(raw=tmp_path / "raw"))
