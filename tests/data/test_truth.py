from __future__ import annotations

import numpy as np
import pytest
import torch

from crosspol.data.inputs import StereoInputs
from crosspol.data.truth import GroundTruth, make_sample, occlusion_of
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo


def test_occlusion_of_a_step():
    disparity = np.full((2, 20), 2.0, np.float32)
    disparity[0, 10:14] = 6.0
    disparity[1, 12] = np.nan
    wanted = np.zeros((2, 20), bool)
    wanted[:, :2] = True  # x - 2 < 0: out of the frame
    wanted[0, 6:10] = True  # columns 4 to 7 of the right view, where the step lands
    np.testing.assert_array_equal(occlusion_of(disparity), wanted)


def test_a_slanted_surface_hides_nothing_of_itself():
    slanted = np.broadcast_to(np.linspace(20, 4, 64, dtype=np.float32), (3, 64))
    assert not occlusion_of(slanted)[:, 20:].any()
    stretched = np.broadcast_to(np.linspace(4, 20, 64, dtype=np.float32), (3, 64))
    assert not occlusion_of(stretched)[:, 5:].any()


@pytest.mark.parametrize("index", range(3))
def test_occlusion_agrees_with_the_exact_one(index):
    # Near enough for several percent of the image to be hidden.
    sample = ProceduralStereo(ProceduralConfig(size=(96, 128), rig="none", nearest=(0.4, 1.0)))[index]
    found = occlusion_of(sample.disparity[0].numpy())
    wanted = sample.occluded[0].numpy() > 0
    # They differ at borders, where a pixel is both.
    assert (found != wanted).mean() < 0.04
    assert (found & wanted).sum() > 0.8 * wanted.sum() > 0


def test_what_is_not_known_is_0_and_not_valid():
    disparity = np.array([[1.5, np.nan], [2.0, 0.5]], np.float32)
    image = torch.rand(3, 2, 2)
    sample = make_sample(
        StereoInputs(left=image, right=image), "none", GroundTruth(disparity, disparity_background=disparity), "a"
    )
    assert sample.disparity.tolist() == sample.disparity_background.tolist() == [[[1.5, 0.0], [2.0, 0.5]]]
    assert sample.valid.tolist() == [[[1.0, 0.0], [1.0, 1.0]]]
    assert not sample.glass.any()
