"""Prediction at a smaller size: averages against loops, light and Stokes parameters, and disparity at full size."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from crosspol.data.inputs import StereoInputs
from crosspol.errors import UsageError
from crosspol.inference.backends import Backend, Refinement
from crosspol.inference.scaling import CoarseToFine, Scaled, enlarge_disparity, scaled_size, shrink
from crosspol.light import decode_srgb, encode_srgb
from crosspol.model import CrossPolConfig, StereoOutput


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def pair(height: int, width: int, channels: int = 3) -> StereoInputs:
    values = {side: rand(1, 3, height, width, seed=seed) for seed, side in enumerate(("left", "right"))}
    for seed, side in enumerate(("left", "right")):
        angle, degree = 3.2 * rand(1, 1, height, width, seed=seed + 2), rand(1, 1, height, width, seed=seed + 4)
        stokes = [degree * (2 * angle).cos(), degree * (2 * angle).sin(), degree]
        values[f"pol_{side}"] = torch.cat(stokes if channels == 3 else stokes[2:], dim=1)
        values[f"valid_{side}"] = (rand(1, 1, height, width, seed=seed + 6) > 0.1).float()
    return StereoInputs(**values)


class Plane:
    """An engine that knows the disparity: a plane, of the size that it is shown, and what it was given."""

    def __init__(self, width: int, slope: float = 0.05, offset: float = 9.0) -> None:
        self.config = CrossPolConfig()
        self.given: list[tuple[StereoInputs, Refinement]] = []
        self._full, self._slope, self._offset = width, slope, offset

    def at(self, height: int, width: int) -> Tensor:
        """Disparity at a size, of the points that its pixels show: px of that size."""
        ratio = self._full / width
        x = (torch.arange(width, dtype=torch.float32) + 0.5) * ratio - 0.5
        return ((self._slope * x + self._offset) / ratio).expand(1, 1, height, width).contiguous()

    def run(self, inputs: StereoInputs, refinement: Refinement) -> StereoOutput:
        self.given.append((inputs, refinement))
        disparity = self.at(*inputs.size)
        if refinement.watch is not None:
            refinement.watch(1, torch.full((1, 1, 4, 5), 1.5))
        return StereoOutput(
            disparity, (disparity,), torch.full_like(disparity, 0.25), torch.full_like(disparity, 0.5), disparity - 10
        )


def box_average(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """One pixel at a time, each source pixel by the share of it that lies in the area."""
    full_height, full_width = plane.shape
    out = np.zeros((height, width))
    for y, x in itertools.product(range(height), range(width)):
        total = share = 0.0
        top, bottom, left, right = (
            y * full_height / height,
            (y + 1) * full_height / height,
            x * full_width / width,
            (x + 1) * full_width / width,
        )
        for j in range(int(top), min(int(np.ceil(bottom)), full_height)):
            for i in range(int(left), min(int(np.ceil(right)), full_width)):
                weight = max(min(bottom, j + 1) - max(top, j), 0) * max(min(right, i + 1) - max(left, i), 0)
                total, share = total + weight * plane[j, i], share + weight
        out[y, x] = total / share
    return out


@pytest.mark.parametrize("size", [(40, 36), (33, 50), (64, 72)])
def test_light_and_stokes_parameters_are_averaged(size: tuple[int, int]) -> None:
    inputs = pair(64, 72)
    small = shrink(inputs, size)
    light = decode_srgb(inputs.left)[0].double().numpy()
    expected = encode_srgb(np.stack([box_average(plane, *size) for plane in light]))
    np.testing.assert_allclose(small.left[0].numpy(), expected, atol=2e-5)
    assert inputs.pol_left is not None
    assert inputs.valid_left is not None
    assert small.pol_left is not None
    assert small.valid_left is not None
    unknown = box_average(1 - inputs.valid_left[0, 0].numpy(), *size)
    np.testing.assert_array_equal(small.valid_left[0, 0].numpy(), unknown < 1e-9)
    s0 = light.mean(axis=0) + 1e-4
    s1, s2 = (
        box_average((channel * inputs.valid_left[0, 0]).numpy() * s0, *size) / box_average(s0, *size)
        for channel in inputs.pol_left[0, :2]
    )
    known = small.valid_left[0, 0].numpy() > 0
    assert known.any()
    for found, wanted in zip(small.pol_left[0].numpy(), (s1, s2, np.hypot(s1, s2)), strict=True):
        np.testing.assert_allclose(found[known], wanted[known], atol=2e-4)


def test_what_is_not_valid_may_be_anything() -> None:
    inputs = pair(64, 72)
    assert inputs.pol_left is not None
    assert inputs.valid_left is not None
    bad = torch.where(inputs.valid_left > 0, inputs.pol_left, torch.tensor(float("nan")))
    spoilt = StereoInputs(**(inputs.tensors() | {"pol_left": bad}))
    for name, tensor in shrink(inputs, (35, 40)).tensors().items():
        assert torch.equal(tensor, shrink(spoilt, (35, 40)).tensors()[name]), name


def test_intensities_of_a_crossed_pair_are_averaged_as_light() -> None:
    inputs = pair(64, 72, 1)
    crossed = StereoInputs(
        left=inputs.left, right=inputs.right, intensity_left=inputs.pol_left, intensity_right=inputs.pol_right
    )
    small = shrink(crossed, (32, 36))
    assert small.intensity_left is not None
    assert crossed.intensity_left is not None
    torch.testing.assert_close(small.intensity_left, F.avg_pool2d(crossed.intensity_left, 2))
    assert small.valid_left is None


def test_one_channel_is_averaged_by_light() -> None:
    inputs = pair(64, 72, 1)
    small = shrink(StereoInputs(**{**inputs.tensors(), "valid_left": torch.ones(1, 1, 64, 72)}), (32, 36))
    light = decode_srgb(inputs.left).mean(dim=1, keepdim=True) + 1e-4
    assert inputs.pol_left is not None
    assert small.pol_left is not None
    expected = F.avg_pool2d(inputs.pol_left * light, 2) / F.avg_pool2d(light, 2)
    torch.testing.assert_close(small.pol_left, expected, atol=1e-4, rtol=1e-3)


# the backend around another one


@given(scale=st.floats(0.3, 1.0))
def test_disparity_comes_back_in_pixels_of_the_full_size(scale: float) -> None:
    """Also where width and height are rounded: the true ratio of widths counts."""
    engine = Plane(150)
    scaled = Scaled(engine, scale)
    assert isinstance(scaled, Backend)
    output = scaled.run(pair(113, 150), Refinement(2))
    seen, _ = engine.given[0]
    assert seen.size == (round(113 * scale), round(150 * scale))
    inner = (..., slice(4, -4))  # at the border the plane ends
    torch.testing.assert_close(output.disparity[inner], engine.at(113, 150)[inner], atol=1e-3, rtol=1e-4)
    ratio = 150 / seen.size[1]
    assert (output.last_step == output.last_step[0, 0, 0, 0]).all()
    assert output.last_step[0, 0, 0, 0].item() == pytest.approx(0.5 * ratio)
    assert output.polarization_use.shape == output.disparity.shape == (1, 1, 113, 150)
    assert output.glass_logits is not None
    assert output.glass_logits.shape == (1, 1, 113, 150)


def test_a_start_and_a_watch_are_in_pixels_of_the_full_size() -> None:
    engine, told = Plane(128), []
    refinement = Refinement(3, engine.at(96, 128), lambda iteration, step: told.append((iteration, step)) is None)
    Scaled(engine, 0.5).run(pair(96, 128), refinement)
    given = engine.given[0][1]
    assert given.iters == 3
    assert given.initial_disparity is not None
    torch.testing.assert_close(given.initial_disparity, engine.at(48, 64), atol=0.05, rtol=0)
    ((iteration, step),) = told
    assert iteration == 1
    assert (step == 3).all()


def test_full_size_is_the_engine_itself() -> None:
    engine, inputs = Plane(72), pair(64, 72)
    Scaled(engine, 1).run(inputs, Refinement(1))
    assert engine.given[0][0] is inputs


@pytest.mark.parametrize("scale", [0, -1, 1.1, True, "half", float("nan")])
def test_scales_that_are_none_are_refused(scale: object) -> None:
    with pytest.raises(UsageError, match=r"^scale: got .*, wanted more than 0 and at most 1"):
        Scaled(Plane(72), scale)  # type: ignore[arg-type]


def test_a_scale_that_leaves_too_little_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^scale: got 0.1 with 72x64 px, wanted at least 0.5: "):
        Scaled(Plane(72), 0.1).run(pair(64, 72), Refinement(1))
    assert scaled_size((64, 72), 0.5) == (32, 36)


# full size


def test_at_a_jump_no_depth_is_invented() -> None:
    """Two surfaces, seen in the image: whatever the phase of the small pixels, every pixel has one of the two."""
    image = torch.full((1, 3, 64, 96), 0.2)
    image[..., 41:] = 0.8
    truth = torch.where(torch.arange(96) < 41, 20.0, 5.0).expand(1, 1, 64, 96)
    for size in ((16, 24), (21, 31), (32, 48)):
        small = F.interpolate(truth, size, mode="nearest-exact")
        enlarged = enlarge_disparity(small, image)
        assert set(enlarged.mul(1000).round().unique().tolist()) <= {20000.0, 5000.0}
        assert (enlarged - truth).abs().gt(0.1).float().mean() < 0.015
        assert F.interpolate(small, (64, 96), mode="bilinear").sub(truth).abs().gt(0.1).float().mean() > 0.015


def test_slopes_stay_slopes_and_batches_stay_apart() -> None:
    x = torch.arange(32.0)
    small = torch.stack([0.4 * x.expand(24, 32), torch.where(x < 16, 3.0, 30.0).expand(24, 32)])[:, None]
    image = rand(2, 3, 96, 128)
    enlarged = enlarge_disparity(small, image)
    expected = F.interpolate(small[:1], (96, 128), mode="bilinear", align_corners=False)
    torch.testing.assert_close(enlarged[:1], expected)
    for index in range(2):
        alone = enlarge_disparity(small[index : index + 1], image[index : index + 1])
        assert torch.equal(alone, enlarged[index : index + 1])


# coarse to fine


def test_each_size_begins_where_the_smaller_one_ended() -> None:
    engine = Plane(2000)
    output = CoarseToFine(engine).run(pair(64, 2000, 1), Refinement(2))
    # A height of 64 allows half the size at most; a larger image starts at 400 px.
    assert [seen.size for seen, _ in engine.given] == [(32, 1000), (64, 2000)]
    assert engine.given[0][1].initial_disparity is None
    start = engine.given[1][1].initial_disparity
    assert start is not None
    torch.testing.assert_close(start[..., 4:-4], engine.at(64, 2000)[..., 4:-4], atol=1e-2, rtol=1e-4)
    assert torch.equal(output.disparity, engine.at(64, 2000))


def test_a_small_image_and_a_given_start_need_no_smaller_one() -> None:
    engine = Plane(400)
    CoarseToFine(engine).run(pair(64, 400, 1), Refinement(2))
    CoarseToFine(engine).run(pair(64, 800, 1), Refinement(2, torch.zeros(1, 1, 64, 800)))
    assert [seen.size for seen, _ in engine.given] == [(64, 400), (64, 800)]
