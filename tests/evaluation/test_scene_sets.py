from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from crosspol.data.inputs import StereoInputs
from crosspol.datasets.sample_rooms import sample_rooms
from crosspol.datasets.scene_format import read_index, read_scene, write_index, write_scene
from crosspol.errors import MissingFileError, UsageError
from crosspol.evaluation.scenes import TEST_SEED, as_recorded, open_scenes, survey
from crosspol.io.disparity import write_disparity
from crosspol.io.images import write_image
from crosspol.synthesis.procedural import VALIDATION_SEED_OFFSET
from tests.datasets.stored_scenes import stored_scene
from tests.datasets.test_benchmarks import make_rps

SMALL = {"count": 3, "size": (32, 48)}


def test_procedural_scenes_are_test_scenes_unless_told_otherwise():
    scenes = open_scenes("procedural", **SMALL)
    samples = scenes.open(1)
    assert len(samples) == 3
    assert samples[0].name == f"procedural-{TEST_SEED}-0"
    assert TEST_SEED != VALIDATION_SEED_OFFSET
    assert open_scenes("procedural", seed=5, **SMALL).open(1)[2].name == "procedural-5-2"
    assert scenes.description == {"data": "procedural", "rig": "quad", "seed": TEST_SEED, "size": [32, 48]}


def test_images_and_truth_do_not_depend_on_the_channels_and_neither_does_the_hash():
    scenes = open_scenes("procedural", **SMALL)
    assert scenes.open(3)[0].pol_left.shape[0] == 3
    assert survey(scenes.open(1)) == survey(scenes.open(3))
    assert survey(scenes.open(1)).sha256 != survey(open_scenes("procedural", seed=1, **SMALL).open(1)).sha256
    fewer = open_scenes("procedural", count=2, size=(32, 48))
    assert survey(scenes.open(1)).sha256 != survey(fewer.open(1)).sha256


def test_a_survey_knows_the_median_and_the_largest_disparity():
    samples = open_scenes("procedural", **SMALL).open(1)
    known = np.concatenate([samples[index].disparity[samples[index].valid > 0].numpy() for index in range(3)])
    found = survey(samples)
    assert found.median_disparity == pytest.approx(np.median(known), abs=1 / 16)
    assert found.largest_disparity == pytest.approx(known.max(), abs=1 / 16)


def test_the_next_scene_of_the_same_size_lends_its_polarization():
    found = survey(open_scenes("procedural", **SMALL).open(1))
    assert [found.donor(index) for index in range(3)] == [1, 2, 0]
    assert survey(open_scenes("procedural", count=1, size=(32, 48)).open(1)).donor(0) is None


def test_a_scene_of_the_same_name_lends_nothing():
    """Two folders that were rendered with the same seed stand side by side in the held-out part of a run."""
    scenes = open_scenes("procedural", **SMALL).open(1)
    found = survey([scenes[0], scenes[0], scenes[1]])
    assert [found.donor(index) for index in range(3)] == [2, 2, 0]
    assert survey([scenes[0], scenes[0]]).donor(0) is None


def test_stored_scenes_pass_a_sensor_with_the_same_noise_every_time():
    seen = [open_scenes(str(sample_rooms()), rig="quad", count=1, sensor=sensor).open(1)[0] for sensor in (1, 1, 0)]
    assert torch.equal(seen[0].pol_left, seen[1].pol_left)
    assert not torch.equal(seen[0].pol_left, seen[2].pol_left)
    assert open_scenes(str(sample_rooms()), rig="crossed").description["rig"] == "crossed"


def test_of_several_rigs_that_of_most_scenes_is_taken_and_the_record_says_what_is_left_out():
    scenes = open_scenes(str(sample_rooms()))
    assert (scenes.description["rig"], scenes.description["omitted"]) == ("quad", "2 of rig crossed")
    assert len(scenes.open(1)) == 3
    asked = open_scenes(str(sample_rooms()), rig="crossed", count=1, split="test")
    assert asked.description["omitted"] == "3 of rig quad, 1 after the first 1"
    with pytest.raises(UsageError, match="got no scene of split 'validation', wanted one of test"):
        open_scenes(str(sample_rooms()), split="validation")


def test_a_folder_of_one_rig_is_left_whole(tmp_path):
    for rig, split in (("quad-left", "test"), ("quad-left", "test"), ("quad", "test"), ("crossed", "train")):
        number = len(list(tmp_path.iterdir()))
        write_scene(tmp_path, stored_scene(rig, name=f"s{number}", split=split))
    write_index(tmp_path)
    # A quad scene has what a quad-left rig records too.
    whole = open_scenes(str(tmp_path), split="test")
    assert (whole.description["rig"], len(whole.open(1))) == ("quad-left", 3)
    assert whole.description["omitted"] == "1 of other splits"


@pytest.mark.parametrize("place", [0, 2])
def test_whoever_shows_one_scene_shows_what_is_measured(place):
    """Demo and report of a scene, and an evaluation of its folder: the same images, noise included."""
    records = read_index(sample_rooms())
    record = [record for record in records if record.rig == "quad"][place]
    frames = as_recorded(read_scene(sample_rooms(), record), records)
    shown = StereoInputs.from_frames(*frames, "quad", 1)
    measured = open_scenes(str(sample_rooms())).open(1)[place]
    assert measured.name == record.name
    assert torch.equal(shown.left, measured.left)
    assert torch.equal(shown.right, measured.right)


@pytest.fixture
def pairs(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("b", "a"):
        folder = tmp_path / "pairs" / name
        folder.mkdir(parents=True)
        for side in ("left", "right"):
            write_image(folder / f"{side}.png", rng.integers(0, 256, (40, 48, 3), np.uint8))
        disparity = np.full((40, 48), 5, np.float32)
        disparity[:4] = np.nan
        write_disparity(folder / ("disparity.npz" if name == "a" else "disparity.pfm"), disparity)
    return tmp_path / "pairs"


def test_a_folder_of_pairs(pairs):
    scenes = open_scenes(str(pairs))
    samples = scenes.open(1)
    assert [samples[index].name for index in range(2)] == ["a", "b"]
    assert samples[0].rig == scenes.description["rig"] == "none"
    assert samples[0].valid.mean() == pytest.approx(0.9)
    assert survey(samples).median_disparity == 5
    assert len(open_scenes(str(pairs), count=1).open(3)) == 1
    assert open_scenes(str(pairs / "b")).open(1)[0].name == "b"


def test_a_manifest(pairs):
    table = pairs / "pairs.csv"
    table.write_text("left,right,disparity\na/left.png,a/right.png,a/disparity.npz\n")
    scenes = open_scenes(str(table))
    assert scenes.open(1)[0].left.shape == (3, 40, 48)
    with pytest.raises(UsageError, match="--rig: got quad"):
        open_scenes(str(table), rig="quad")


def test_pairs_with_polarization_are_evaluated_with_it(tmp_path):
    make_rps(tmp_path)
    assert open_scenes(str(tmp_path)).description["rig"] == "quad"
    sample = open_scenes(str(tmp_path), count=1).open(1)[0]
    assert sample.rig == "quad"
    assert sample.valid_left.any()
    assert open_scenes(str(tmp_path), rig="none").open(1)[0].rig == "none"


def test_middlebury(tmp_path):
    scene = tmp_path / "Bikes"
    scene.mkdir()
    for name in ("im0.png", "im1.png"):
        write_image(scene / name, np.zeros((40, 48, 3), np.uint8))
    write_disparity(scene / "disp0.pfm", np.full((40, 48), 7, np.float32))
    assert open_scenes(str(tmp_path)).description["layout"] == "middlebury"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"data": "absent"}, "absent: no such file or folder"),
        ({"data": "procedural", "size": (16, 48)}, "both at least 32"),
        ({"data": "procedural", "split": "test"}, "--split: got test, which is for data that name splits"),
        ({"data": "procedural", "sensor": False}, "--no-sensor: got it, which is for folders of scenes"),
        ({"data": "procedural", "rig_file": Path("rig.yaml")}, "--rig-file: got rig.yaml, which is for a manifest"),
        ({"data": "PAIRS", "rig": "quad"}, "of which there is no recording; wanted none"),
        ({"data": "PAIRS", "split": "test"}, "--split: got test, which is for data that name splits"),
        ({"data": "PAIRS", "seed": 3}, "--seed: got 3, which is for procedural scenes and folders of scenes"),
        ({"data": "PAIRS", "sensor": False}, "--no-sensor: got it, which is for folders of scenes"),
        ({"data": "TABLE", "seed": 3}, "--seed: got 3, which is for"),
        ({"data": "TABLE", "sensor": False}, "--no-sensor: got it, which is for"),
        ({"data": "TABLE", "size": (64, 96)}, "--size: got 96x64, which is for procedural scenes, not for"),
        ({"data": "ROOMS", "rig_file": Path("rig.yaml")}, "--rig-file: got rig.yaml, which is for a manifest"),
        ({"data": "PAIRS", "size": (64, 96)}, "--size: got"),
        ({"data": "EMPTY"}, "got neither scenes.jsonl nor pairs"),
    ],
)
def test_wrong_requests_name_what_is_wrong(pairs, tmp_path, options, complaint):
    (tmp_path / "empty").mkdir()
    table = tmp_path / "pairs.csv"
    table.write_text("left,right,disparity\n")
    made = {"PAIRS": pairs, "EMPTY": tmp_path / "empty", "TABLE": table, "ROOMS": sample_rooms()}
    data = str(made.get(options["data"], options["data"]))
    with pytest.raises((UsageError, MissingFileError), match=complaint):
        open_scenes(**(options | {"data": data}))
