from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspol.data.sample import StereoBatch, StereoSample, stack
from crosspol.rigs.kinds import RIG_KINDS

RECORDED = {
    "quad": ("pol_left", "pol_right", "valid_left", "valid_right"),
    "quad-left": ("pol_left", "pol_right", "valid_left", "valid_right"),
    "crossed": ("intensity_left", "intensity_right"),
    "none": (),
}


def fields(rig: str = "quad", size: tuple[int, int] = (4, 6), channels: int = 1, fill: float = 0.5) -> dict[str, Any]:
    one = torch.full((1, *size), fill)
    values: dict[str, Any] = {name: one.expand(3, *size).clone() for name in ("left", "right")}
    values |= {name: one.clone() for name in ("disparity", "valid", "glass", "occluded", *RECORDED[rig])}
    values |= {name: one.expand(channels, *size).clone() for name in RECORDED[rig] if name.startswith("pol")}
    return values | {"rig": rig, "name": f"{rig}-{fill}"}


@pytest.mark.parametrize("rig", RIG_KINDS)
def test_inputs_are_what_the_network_takes_and_no_truth(rig: str) -> None:
    sample = StereoSample(**fields(rig))
    assert set(sample.inputs.kwargs()) == {"left", "right", *RECORDED[rig]}
    batch = stack([sample, sample])
    assert set(batch.inputs.kwargs()) == set(sample.inputs.kwargs())
    assert batch.inputs.kwargs()["left"].shape == (2, 3, 4, 6)


@settings(deadline=None, max_examples=20)
@given(
    rig=st.sampled_from(RIG_KINDS),
    count=st.integers(1, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.sampled_from([1, 3]),
    background=st.booleans(),
)
def test_stack_keeps_every_field_of_every_sample(
    rig: str, count: int, height: int, width: int, channels: int, background: bool
) -> None:
    samples = []
    for index in range(count):
        values = fields(rig, (height, width), channels, fill=index / 8)
        extra = {"disparity_background": values["disparity"] + 1} if background else {}
        samples.append(StereoSample(**values, **extra))
    batch = stack(samples)
    assert isinstance(batch, StereoBatch)
    assert batch.rig == rig
    assert batch.names == tuple(sample.name for sample in samples)
    assert (batch.disparity_background is not None) == background
    for index, sample in enumerate(samples):
        for name in ("left", "disparity", *RECORDED[rig], *(["disparity_background"] if background else [])):
            assert torch.equal(getattr(batch, name)[index], getattr(sample, name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"left": torch.zeros(1, 4, 6)}, "left: got (1, 4, 6), wanted (3, H, W)"),
        ({"left": torch.zeros(2, 3, 4, 6)}, "left: got (2, 3, 4, 6), wanted (3, H, W)"),
        ({"right": torch.zeros(3, 4, 5)}, "right: got (3, 4, 5), wanted (3, 4, 6) to match left"),
        ({"disparity": torch.zeros(4, 6)}, "disparity: got (4, 6), wanted (1, 4, 6) to match left"),
        ({"glass": torch.zeros(1, 4, 6, dtype=torch.bool)}, "glass: got torch.bool, wanted float32"),
        ({"pol_left": torch.zeros(2, 4, 6)}, "pol_left: got (2, 4, 6), wanted (1, 4, 6) or (3, 4, 6) to match left"),
        ({"pol_right": torch.zeros(3, 4, 6)}, "pol_right: got (3, 4, 6), wanted (1, 4, 6) to match left"),
        ({"valid_right": None}, "valid_right: got None, wanted one with rig 'quad'"),
        (
            {"intensity_left": torch.zeros(1, 4, 6)},
            "intensity_left: got a tensor (1, 4, 6), wanted none with rig 'quad'",
        ),
        ({"rig": "quad-right"}, "rig: got 'quad-right', wanted one of quad, quad-left, crossed, none"),
    ],
)
def test_wrong_fields_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        StereoSample(**(fields() | change))


def test_stack_refuses_what_does_not_fit_together() -> None:
    quad = StereoSample(**fields("quad"))
    with pytest.raises(ValueError, match="samples: got none, wanted at least one"):
        stack([])
    with pytest.raises(ValueError, match="samples: got the rigs none, quad, wanted one rig"):
        stack([quad, StereoSample(**fields("none"))])
    with pytest.raises(
        ValueError, match=r"left of quad-0.5: got \(3, 5, 6\), wanted one size in a batch, \(3, 4, 6\) as quad-0.5"
    ):
        stack([quad, StereoSample(**fields("quad", size=(5, 6)))])
    with pytest.raises(ValueError, match="differ in disparity_background"):
        stack([quad, StereoSample(**fields("quad"), disparity_background=quad.disparity)])


def test_to_moves_every_tensor_and_keeps_the_rest() -> None:
    batch = stack([StereoSample(**fields("crossed"))]).to("meta")
    assert batch.left.is_meta
    assert batch.intensity_right is not None
    assert batch.intensity_right.is_meta
    assert batch.pol_left is None
    assert (batch.rig, batch.names) == ("crossed", ("crossed-0.5",))


def test_a_crossed_sample_may_say_where_its_intensities_are_trusted() -> None:
    values = fields("crossed")
    masks = {name: values["valid"].clone() for name in ("valid_left", "valid_right")}
    batch = stack([StereoSample(**values, **masks)] * 2)
    assert set(batch.inputs.kwargs()) == {"left", "right", *RECORDED["crossed"], *masks}
    with pytest.raises(ValueError, match=r"valid_left, valid_right: got a tensor .* and None, wanted both or neither"):
        StereoSample(**values, valid_left=masks["valid_left"])
    with pytest.raises(ValueError, match=r"valid_left: got a tensor .*, wanted none with rig 'none'"):
        StereoSample(**fields("none"), **masks)
