"""Frames that the sensor model recorded come back from their files as they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from crosspol.datasets.scene_format import scene_frames
from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.raw_files import write_raw_pair
from crosspol.rigs.reader import RigReader
from crosspol.rigs.sensor import SensorConfig, record, sense
from tests.datasets.stored_scenes import stored_scene

SIZE = (48, 64)


@pytest.mark.parametrize("rig", ["quad", "quad-left", "crossed", "none"])
@pytest.mark.parametrize("colors", [1, 3])
def test_raw_frames_are_read_as_the_sensor_recorded_them(tmp_path, rig, colors):
    frames = scene_frames(stored_scene(rig, SIZE, colors=colors))
    recorded = record(*frames, np.random.default_rng(5), SensorConfig())
    written = write_raw_pair(tmp_path, rig, *recorded, None)
    assert [path.name for path in written] == ["left_raw.png", "right_raw.png", "rig.yaml"]
    reader = RigReader(tmp_path / "rig.yaml")
    assert (reader.rig.kind, reader.rig.calibration) == (rig, None)
    read = reader.frames(tmp_path / "left_raw.png", tmp_path / "right_raw.png")
    for wanted, found in zip(sense(*frames, np.random.default_rng(5), SensorConfig()), read, strict=True):
        assert (wanted.stokes is None) == (found.stokes is None)
        same = (wanted.intensity, found.intensity) if wanted.stokes is None else (wanted.stokes, found.stokes)
        torch.testing.assert_close(*same, atol=1e-6, rtol=0)
        assert torch.equal(wanted.valid, found.valid)


def test_the_calibration_lies_beside_the_frames(tmp_path):
    scene = stored_scene("quad", SIZE)
    recorded = record(*scene_frames(scene), np.random.default_rng(0), SensorConfig())
    calibration = StereoCalibration.of_rectified(fx=80.0, fy=80.0, cx_left=31.5, cx_right=31.5, cy=23.5, baseline_m=0.1)
    write_raw_pair(tmp_path, "quad", *recorded, calibration)
    pair = RigReader(tmp_path / "rig.yaml").read(tmp_path / "left_raw.png", tmp_path / "right_raw.png")
    assert pair.calibration is not None
    assert (pair.calibration.fx, pair.calibration.baseline_m) == (80.0, 0.1)


def test_four_images_a_view_are_refused(tmp_path):
    recorded = record(
        *scene_frames(stored_scene("quad", SIZE)), np.random.default_rng(0), replace(SensorConfig(), mosaic=False)
    )
    with pytest.raises(ValueError, match=r"left_raw\.png: got several planes, wanted a mosaic or an image"):
        write_raw_pair(tmp_path, "quad", *recorded, None)
    assert list(tmp_path.iterdir()) == []
