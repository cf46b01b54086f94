"""Which graph a network is run as: inputs by rig, outputs by network, and what is refused."""

from __future__ import annotations

import pytest
import torch

from crosspol.data.inputs import StereoInputs
from crosspol.errors import UsageError
from crosspol.inference.graph import INPUTS, OUTPUTS, Graph, example_tensors, rig_of
from crosspol.model import FusionConfig, preset
from crosspol.rigs.kinds import RIG_KINDS, RigKind

CONFIG = preset("crosspol")


def test_a_rig_has_the_inputs_that_its_cameras_measure() -> None:
    names = {rig: Graph(rig, (64, 96), 1).inputs for rig in RIG_KINDS}
    assert names["none"] == ("left", "right")
    assert names["quad"] == ("left", "right", "pol_left", "pol_right", "valid_left", "valid_right")
    assert names["quad-left"] == ("left", "right", "pol_left", "valid_left")
    assert names["crossed"] == ("left", "right", "intensity_left", "intensity_right", "valid_left", "valid_right")
    assert Graph("none", (64, 96), 1, starts=True).inputs == ("left", "right", "initial_disparity")


def test_a_network_has_the_outputs_that_it_can_tell() -> None:
    graph = Graph("quad", (64, 96), 1)
    assert graph.outputs(CONFIG) == ("disparity", "last_step", "glass", "polarization_use")
    assert graph.outputs(preset("blueprint")) == ("disparity", "last_step", "polarization_use")
    assert Graph("none", (64, 96), 1).outputs(CONFIG) == ("disparity", "last_step", "glass")
    assert set(graph.outputs(CONFIG)) == set(OUTPUTS)


@pytest.mark.parametrize("rig", RIG_KINDS)
def test_examples_fit_the_graph_and_keep_to_their_ranges(rig: RigKind) -> None:
    graph = Graph(rig, (70, 90), 1, starts=True)
    found = example_tensors(graph, CONFIG)
    assert tuple(found) == graph.inputs
    for name, tensor in found.items():
        assert tensor.shape == (1, graph.channels(name, CONFIG), 70, 90)
        assert tensor.dtype == torch.float32
        if INPUTS[name].range == "[0, 1]":
            assert 0 <= tensor.min() <= tensor.max() <= 1
    assert all(torch.equal(tensor, example_tensors(graph, CONFIG)[name]) for name, tensor in found.items())
    assert not torch.equal(found["left"], example_tensors(graph, CONFIG, seed=1)["left"])


def test_inputs_tell_their_rig() -> None:
    image, map_, one = torch.rand(1, 3, 40, 52), torch.rand(1, 3, 40, 52), torch.ones(1, 1, 40, 52)
    views = {"left": image, "right": image}
    pol = views | {"pol_left": map_, "pol_right": map_}
    assert rig_of(StereoInputs(**views), CONFIG) == "none"
    assert rig_of(StereoInputs(**pol), CONFIG) == "quad"
    assert rig_of(StereoInputs(**pol, valid_left=one, valid_right=one), CONFIG) == "quad"
    assert rig_of(StereoInputs(**pol, valid_left=one, valid_right=0 * one), CONFIG) == "quad-left"
    crossed = StereoInputs(**views, intensity_left=one, intensity_right=one)
    assert rig_of(crossed, CONFIG) == "crossed"
    assert rig_of(crossed, preset("blueprint", fusion=FusionConfig(kind="none"))) == "none"


def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^rig: got 'quads', wanted one of quad, quad-left, crossed, none"):
        Graph("quads", (64, 96), 1)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"^iters: got 0, wanted a whole number from 1 up"):
        Graph("none", (64, 96), 0)
    with pytest.raises(UsageError, match=r"^size: got 96x31, wanted a width and a height from 32 px"):
        Graph("none", (31, 96), 1)
