"""Maps of polarization, and the images of them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from crosspol.data.inputs import StereoInputs
from crosspol.inference.polarization import PolarizationMaps
from crosspol.inference.predictor import StereoPredictor
from crosspol.io.images import read_image
from crosspol.rigs.frames import Frame
from crosspol.visualization.maps import UNKNOWN_GRAY
from crosspol.visualization.polarization import aolp_image
from tests.open_network import open_network

SIZE = (40, 48)


def frame(degree: float, angle_deg: float, colors: int = 1) -> Frame:
    turn = 2 * math.radians(angle_deg)
    one = torch.tensor([0.4, 0.4 * degree * math.cos(turn), 0.4 * degree * math.sin(turn)])
    valid = torch.ones(1, *SIZE)
    valid[:, :4] = 0
    return Frame(one[None, :, None, None].expand(colors, 3, *SIZE).clone(), None, valid)


@pytest.mark.parametrize("colors", [1, 3])
@pytest.mark.parametrize(("degree", "angle"), [(0.5, 30.0), (0.1, -60.0)])
def test_of_a_frame_and_of_what_the_network_gets(degree: float, angle: float, colors: int) -> None:
    """Both say what the light was made with."""
    made = frame(degree, angle, colors)
    inputs = StereoInputs.from_frames(made, made, "quad", 3).batched()
    for maps in (PolarizationMaps.of_frame(made), PolarizationMaps.of_inputs(inputs)):
        assert maps is not None
        assert maps.aolp is not None
        for values, expected in ((maps.dolp, degree), (maps.aolp, math.radians(angle))):
            assert values.shape == SIZE
            assert np.isnan(values[:4]).all()
            np.testing.assert_allclose(values[4:], expected, atol=1e-5)
    first = PolarizationMaps.of_frame(made)
    assert first is not None
    assert first.s0 is not None
    assert first.s0.shape == (*SIZE, 3)


def test_one_channel_knows_no_angle_and_no_map_nothing() -> None:
    made = frame(0.3, 10)
    maps = PolarizationMaps.of_inputs(StereoInputs.from_frames(made, made, "quad", 1))
    assert maps is not None
    assert maps.aolp is None
    assert maps.s0 is None
    np.testing.assert_allclose(maps.dolp[4:], 0.3, atol=1e-5)
    assert PolarizationMaps.of_inputs(StereoInputs.from_frames(made, made, "none")) is None
    assert PolarizationMaps.of_frame(Frame(None, torch.rand(1, *SIZE), torch.ones(1, *SIZE))) is None


def test_colors_of_the_angle() -> None:
    """Along the rows red, at right angles to it cyan; an angle and the opposite one are one; unknown is gray."""
    angles = np.zeros(SIZE, np.float32)
    angles[:, 12:24], angles[:, 24:36] = math.pi / 2, math.pi
    degree = np.full(SIZE, 0.5, np.float32)
    degree[:, 36:] = np.nan
    degree[:10] = 0
    image = aolp_image(angles, degree)
    assert image.shape[0] == SIZE[0]
    assert image.shape[1] > SIZE[1]
    red, green, blue = image[20, 2]
    assert red == 255
    assert green == blue < 64
    np.testing.assert_array_equal(image[20, 14], [green, 255, 255])
    np.testing.assert_array_equal(image[20, 26], image[20, 2])
    assert (image[10:, 36:48] == UNKNOWN_GRAY).all()
    assert (image[:10, :36] == 0).all()


def test_a_result_saves_what_it_has(tmp_path: Path) -> None:
    predictor = StereoPredictor(open_network(), device="cpu", iters=1)
    made = frame(0.3, 10)
    result = predictor.predict_frames(made, made, "quad")
    assert not [path for path in result.save(tmp_path / "a") if "olp" in path.name]
    written = replace(result, polarization=PolarizationMaps.of_frame(made)).save(tmp_path / "b")
    names = {path.name for path in written}
    assert {"dolp.png", "aolp.png", "s0.png"} <= names
    assert read_image(tmp_path / "b" / "s0.png").shape == (*SIZE, 3)
