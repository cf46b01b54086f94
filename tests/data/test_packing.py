from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from crosspol.data.packing import PACKED_BYTES, half_floats, pack_batch, pack_tensor, unpack_tensor
from crosspol.data.sample import StereoBatch, stack
from crosspol.rigs.kinds import RIG_KINDS
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo


def drawn(rig: str = "quad", halves: bool = False) -> StereoBatch:
    config = ProceduralConfig(size=(32, 64), length=2, rig=rig, pol_channels=3, layers=(1, 2))
    samples = [replace(sample, disparity_background=None) for sample in ProceduralStereo(config)]
    if halves:
        samples = [replace(sample, **half_floats(sample.tensors())) for sample in samples]
    return stack(samples)


def assert_same(one: StereoBatch, other: StereoBatch) -> None:
    assert (one.rig, one.names, one.skipped) == (other.rig, other.names, other.skipped)
    ones, others = one.tensors(), other.tensors()
    assert ones.keys() == others.keys()
    for name, tensor in ones.items():
        torch.testing.assert_close(tensor, others[name], rtol=0, atol=0, equal_nan=True, msg=name)


def size(batch) -> int:
    tensors = batch.tensors if isinstance(batch.tensors, dict) else batch.tensors()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


@pytest.mark.parametrize("rig", RIG_KINDS)
def test_a_batch_comes_out_as_it_went_in_and_is_small_meanwhile(rig):
    batch = replace(drawn(rig, halves=True), skipped=("scene7: gone",))
    glass = batch.glass.clone()
    glass[:, :, :5] = torch.nan
    batch = replace(batch, glass=glass)
    packed = pack_batch(batch)
    assert_same(packed.to("cpu"), batch)
    assert torch.equal(packed.tensor("disparity", "cpu"), batch.disparity)
    pixels = batch.left[:, 0].numel()
    assert size(packed) <= PACKED_BYTES * pixels
    if rig == "quad":
        assert (size(packed), size(batch)) == (PACKED_BYTES * pixels, 72 * pixels)


@pytest.mark.parametrize(
    ("name", "value"),
    [("left", 0.3), ("left", 2.0), ("left", torch.nan), ("valid", 0.5), ("glass", torch.inf), ("valid", -1.0),
     ("pol_left", 1 / 3), ("pol_right", torch.nan), ("valid_right", 256.0)],
)  # fmt: skip
def test_what_would_be_rounded_stays_as_it_is(name, value):
    batch = drawn(halves=True)
    changed = getattr(batch, name).clone()
    changed[-1, 0, 3, 4] = value
    batch = replace(batch, **{name: changed})
    packed = pack_batch(batch)
    assert packed.tensors[name].dtype == torch.float32 or value != value
    assert_same(packed.to("cpu"), batch)


def test_every_value_of_eight_bits_is_that_value_again():
    levels = torch.arange(256).float() / 255
    assert torch.equal(unpack_tensor("left", pack_tensor("left", levels)), levels)


def test_polarization_is_rounded_by_no_more_than_said():
    values = torch.linspace(-1, 1, 20_001)
    for name in ("pol_left", "pol_right"):
        assert (unpack_tensor(name, pack_tensor(name, values)) - values).abs().max() <= 1 / 4096
    assert (half_floats({"pol_left": values})["pol_left"] - values).abs().max() > 1 / 5000
