"""What a result holds, and the files that it is saved as."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from plyfile import PlyData

from crosspol.data.inputs import StereoInputs
from crosspol.datasets.sample_rooms import sample_rooms
from crosspol.datasets.scene_format import read_index, read_scene
from crosspol.errors import UsageError
from crosspol.inference.outputs import OUTPUTS, Output, outputs_with
from crosspol.inference.result import StereoResult
from crosspol.io.depth import read_depth
from crosspol.io.disparity import read_disparity
from crosspol.io.images import read_image
from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.calibration_files import read_calibration


def test_saved_files_say_what_the_result_says(tmp_path):
    rng = np.random.default_rng(0)
    result = StereoResult(rng.uniform(0, 50, (40, 50)).astype(np.float32), np.full((40, 50), 0.1, np.float32))
    written = result.save(tmp_path / "a" / "b", "scene")
    names = ["scene.pfm", "scene.png", "scene.npy", "scene_color.png", "scene_polarization_use.png"]
    assert [path.name for path in written] == names
    assert sorted((tmp_path / "a" / "b").iterdir()) == sorted(written)
    for name, tolerance in (("scene.pfm", 0), ("scene.npy", 0), ("scene.png", 1 / 256)):
        np.testing.assert_allclose(read_disparity(tmp_path / "a" / "b" / name), result.disparity, atol=tolerance)
    assert read_image(written[3]).shape[0] == 40


def test_batches_are_numbered_and_unused_polarization_has_no_image(tmp_path):
    use = np.zeros((2, 40, 50), np.float32)
    use[1] = 0.5
    result = StereoResult(np.stack([np.full((40, 50), value, np.float32) for value in (1, 2)]), use)
    names = {path.name for path in result.save(tmp_path)}
    kinds = (".pfm", ".png", ".npy", "_color.png")
    numbered = {f"disparity_{index:03d}{kind}" for index in range(2) for kind in kinds}
    assert names == numbered | {"polarization_use_001.png"}
    assert (read_disparity(tmp_path / "disparity_001.pfm") == 2).all()


def test_confidence_and_occlusion_are_images_of_8_bits(tmp_path):
    confidence = np.linspace(0, 1, 2000, dtype=np.float32).reshape(40, 50)
    result = StereoResult(np.zeros((40, 50), np.float32), confidence=confidence, occluded=confidence < 0.5)
    names = {path.name for path in result.save(tmp_path, "a")}
    assert {"a_confidence.png", "a_occluded.png"} <= names
    saved = read_image(tmp_path / "a_confidence.png")
    assert (saved.dtype, saved.max()) == (np.uint8, 255)
    np.testing.assert_allclose(saved / 255, confidence, atol=0.5 / 255 + 1e-6)
    np.testing.assert_array_equal(read_image(tmp_path / "a_occluded.png"), np.where(confidence < 0.5, 255, 0))


def test_results_cannot_be_reassigned():
    result = StereoResult(np.zeros((40, 50), np.float32))
    with pytest.raises(AttributeError):
        result.disparity = None


def test_a_pair_of_a_batch_is_without_the_batch_axis():
    maps = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    result = StereoResult(maps, 10 * maps)
    second = result.pair(1)
    assert result.batched
    assert not second.batched
    np.testing.assert_array_equal(second.disparity, maps[1])
    assert second.polarization_use is not None
    np.testing.assert_array_equal(second.polarization_use, 10 * maps[1])
    with pytest.raises(IndexError, match="one pair already"):
        second.pair(0)
    with pytest.raises(IndexError):
        result.pair(2)


def test_every_kind_of_file_has_a_name_of_its_own():
    names = [output.path(Path("left_disparity")) for output in OUTPUTS]
    assert len(set(names)) == len(names)


def test_the_disparity_has_the_stem_and_everything_else_its_own_word():
    named = {output.path(Path("left_disparity")).stem.removesuffix("_color") for output in OUTPUTS}
    assert named == {f"left_{output.subject}" for output in OUTPUTS}
    assert Output(".png", bool, print, "glass").path(Path("a")) == Path("a_glass.png")


def test_a_result_replaces_an_earlier_one_of_its_name_whole(tmp_path):
    plain = StereoResult(np.zeros((40, 50), np.float32))
    full = replace(plain, glass=plain.disparity, calibration=CALIBRATION)
    (tmp_path / "a_depth.png").write_bytes(b"mine: there is no earlier result")
    plain.save(tmp_path, "a")
    assert (tmp_path / "a_depth.png").read_bytes().startswith(b"mine")
    full.save(tmp_path, "b")
    full.save(tmp_path, "c")
    (tmp_path / "b_notes.txt").write_text("mine")
    cloud = full.save(tmp_path, "b", [output for output in OUTPUTS if output.subject == "cloud"])
    assert cloud == [tmp_path / "b_cloud.ply"]
    assert (tmp_path / "b_glass.png").exists()
    for stem, keep_others in (("b", False), ("c", True)):
        written = plain.save(tmp_path, stem, keep_others=keep_others)
        left = {path.name for path in tmp_path.glob(f"{stem}[._]*")} - {path.name for path in written}
        mine = {"b_notes.txt"} if stem == "b" else {path.name for path in full.save(tmp_path / "d", "c")}
        assert left == mine - {path.name for path in written}
    batch = StereoResult(np.zeros((2, 40, 50), np.float32), np.ones((2, 40, 50), np.float32))
    batch.save(tmp_path / "e")
    replace(batch, polarization_use=None).save(tmp_path / "e")
    assert not list((tmp_path / "e").glob("polarization_use*"))


def test_a_kind_of_file_that_does_not_apply_is_not_written(tmp_path):
    output = Output(".txt", lambda result: result.glass is not None, lambda result, path: path.write_text("glass"))
    result = StereoResult(np.zeros((40, 50), np.float32))
    assert output.write(result, tmp_path / "a.b") == []
    seen = StereoResult(result.disparity, glass=result.disparity)
    assert output.write(seen, tmp_path / "a.b") == [tmp_path / "a.b.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.b.txt"]


CALIBRATION = StereoCalibration.of_rectified(fx=70, fy=71, cx_left=24, cx_right=29.5, cy=19, baseline_m=0.1)


def test_meters_follow_from_the_calibration_and_only_from_it():
    disparity = np.random.default_rng(0).uniform(-8, 20, (2, 40, 50)).astype(np.float32)
    assert StereoResult(disparity).depth_m is None
    assert StereoResult(disparity).points is None
    batch = StereoResult(disparity, calibration=CALIBRATION)
    assert batch.depth_m is not None
    assert batch.points is not None
    assert (batch.depth_m.shape, batch.points.shape) == ((2, 40, 50), (2, 40, 50, 3))
    assert batch.depth_m.dtype == batch.points.dtype == np.float32
    at_infinity = disparity <= -5.5
    assert at_infinity.any()
    np.testing.assert_array_equal(np.isnan(batch.depth_m), at_infinity)
    np.testing.assert_allclose(batch.depth_m[~at_infinity], 7 / (disparity[~at_infinity] + 5.5), rtol=1e-5)
    np.testing.assert_array_equal(batch.pair(1).points, batch.points[1])
    row, column, depth = 10, 40, batch.depth_m[0, 10, 40]
    expected = [(column - 24) / 70 * depth, (row - 19) / 71 * depth, depth]
    np.testing.assert_allclose(batch.points[0, row, column], expected, rtol=1e-6)


def test_a_calibration_that_meters_cannot_follow_from_is_refused():
    disparity = np.ones((40, 50), np.float32)
    sized = replace(CALIBRATION, left=replace(CALIBRATION.left, size=(100, 80)))
    with pytest.raises(UsageError, match="calibration: got a calibration of 100x80 px, wanted 50x40 px"):
        StereoResult(disparity, calibration=sized)
    turned = replace(CALIBRATION, rotation=cv2.Rodrigues(np.array([0.01, 0, 0]))[0])
    with pytest.raises(UsageError, match="got a calibration of raw views, wanted one of the rectified pair"):
        StereoResult(disparity, calibration=turned)


def test_files_in_meters_can_be_computed_again_from_the_pfm_and_the_calibration_alone(tmp_path):
    disparity = np.random.default_rng(0).uniform(-6, 20, (40, 50)).astype(np.float32)
    result = StereoResult(disparity, calibration=CALIBRATION)
    written = {path.name for path in result.save(tmp_path, "left_disparity")}
    metric = {"left_depth.npy", "left_depth.png", "left_depth_color.png", "left_cloud.ply", "left_calibration.json"}
    disparities = {f"left_disparity{suffix}" for suffix in (".pfm", ".png", ".npy", "_color.png")}
    assert written == metric | disparities == {path.name for path in tmp_path.iterdir()}

    found = read_calibration(tmp_path / "left_calibration.json")
    assert found.left.size == found.right.size == (50, 40)
    again = StereoResult(read_disparity(tmp_path / "left_disparity.pfm"), calibration=found).depth_m
    np.testing.assert_array_equal(again, result.depth_m)
    np.testing.assert_array_equal(read_depth(tmp_path / "left_depth.npy"), again)
    png = read_depth(tmp_path / "left_depth.png")
    near = again < 65.5
    np.testing.assert_allclose(png[near], again[near], atol=5.1e-4)
    assert read_image(tmp_path / "left_depth_color.png").shape[0] == 40


def test_a_batch_has_its_meters_pair_by_pair(tmp_path):
    result = StereoResult(np.ones((2, 40, 50), np.float32), calibration=CALIBRATION)
    names = {path.name for path in result.save(tmp_path)}
    assert {"depth_000.npy", "cloud_001.ply", "calibration_001.json", "disparity_001.pfm"} <= names
    other = {path.name for path in result.pair(0).save(tmp_path, "glass")}
    assert {"glass.pfm", "glass_depth.npy", "glass_depth_color.png", "glass_cloud.ply"} <= other


def test_the_cloud_is_colored_and_without_far_and_flying_points(tmp_path):
    disparity = np.full((40, 50), 20, np.float32)
    disparity[:, 25:] = 1
    disparity[:, 24] = 10  # smeared
    disparity[:, 40:] = -5.4  # 70 m
    disparity[:5] = -6  # beyond infinity
    left = torch.rand(3, 40, 50)
    result = StereoResult(disparity, inputs=StereoInputs(left=left, right=left), calibration=CALIBRATION)
    kept = np.zeros((40, 50), bool)
    kept[5:, :40] = True
    kept[:, 24] = False
    for limit, expected in ((None, kept), (1, kept & (disparity > 1.5))):
        result.save(tmp_path, outputs=outputs_with(max_depth_m=limit))
        vertices = PlyData.read(tmp_path / "cloud.ply")["vertex"]
        points = np.stack([vertices[name] for name in "xyz"], -1)
        np.testing.assert_array_equal(points, result.points[expected])
        colors = np.stack([vertices[name] for name in ("red", "green", "blue")], -1)
        np.testing.assert_array_equal(colors, np.rint(255 * left.permute(1, 2, 0).numpy()[expected]))
    assert "cloud.ply" not in [path.name for path in result.save(tmp_path, outputs=outputs_with(cloud=False))]


def test_the_cloud_of_a_rendered_room_lies_on_its_surfaces(tmp_path):
    """Points of the true disparity against the renderer's rays: its distances, along directions made here."""
    record = next(record for record in read_index(sample_rooms()) if record.rig == "quad")
    scene = read_scene(sample_rooms(), record)
    with np.load(sample_rooms() / record.files["truth"]) as truth:
        depth = truth["depth_m"].astype(np.float64)
    StereoResult(scene.disparity, calibration=scene.calibration).save(tmp_path)
    vertices = PlyData.read(tmp_path / "cloud.ply")["vertex"]
    points = np.stack([vertices[name] for name in "xyz"], -1).astype(np.float64)
    assert 0.9 * depth.size < len(points) < depth.size
    camera = scene.calibration
    columns = np.rint(points[:, 0] / points[:, 2] * camera.fx + camera.cx_left).astype(int)
    rows = np.rint(points[:, 1] / points[:, 2] * camera.fy + camera.cy).astype(int)
    rays = np.stack([(columns - camera.cx_left) / camera.fx, (rows - camera.cy) / camera.fy, np.ones(len(points))], -1)
    apart = np.linalg.norm(points - rays * depth[rows, columns, None], axis=-1) / depth[rows, columns]
    assert np.median(apart) < 3e-4
