"""Changed samples stay consistent: the right view still matches the left one by the changed disparity."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crosspol.data import transforms
from crosspol.data.inputs import StereoInputs
from crosspol.data.noise import Noise
from crosspol.data.sample import StereoSample, stack
from crosspol.data.transforms import (
    AugmentConfig,
    Augmented,
    add_noise,
    augment,
    crop,
    exchange_views,
    flip_horizontal,
    flip_vertical,
    jitter,
    scale,
)
from crosspol.data.warping import seen_from_right, warp_to_left
from crosspol.light import decode_srgb, encode_srgb
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo

SIZE = (96, 128)


def drawn(rig: str = "quad", channels: int = 3, glass: float = 0.0) -> StereoSample:
    """A sample whose views differ by nothing but parallax."""
    config = ProceduralConfig(
        SIZE,
        rig=rig,
        pol_channels=channels,
        glass_probability=glass,
        noise=0,
        camera_difference=0,
        misalignment=0,
        layers=(2, 4),
    )
    return ProceduralStereo(config)[2]


def warp_error(sample: StereoSample, offset: float = 0.0, of: str = "") -> float:
    """Mean difference between a view and the other one warped to it, where both see the point."""
    left, right = (getattr(sample, f"{of}{side}").numpy() for side in ("left", "right"))
    warped, inside = warp_to_left(right, sample.disparity[0].numpy() + np.float32(offset))
    seen = inside & (sample.valid[0].numpy() > 0) & (sample.occluded[0].numpy() == 0)
    assert seen.mean() > 0.3
    return float(np.abs(warped - left)[:, seen].mean())


def assert_consistent(sample: StereoSample, of: str = "") -> None:
    here = warp_error(sample, of=of)
    assert here < 0.75 * min(warp_error(sample, offset, of) for offset in (-1, 1))


CHANGES = {
    "flip_horizontal": flip_horizontal,
    "flip_vertical": flip_vertical,
    "crop": lambda sample: crop(sample, 10, 30, 64, 80),
    "larger": lambda sample: scale(sample, 120, 200),
    "smaller": lambda sample: scale(sample, 90, 96),
    "jitter": lambda sample: jitter(sample, (1.1, 0.9, 1.0), 1.1),
    "all": lambda sample: augment(sample, AugmentConfig(view_gain=0), np.random.default_rng(4), (64, 96)),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("rig", ["quad", "quad-left", "none"])
def test_samples_stay_consistent(name, rig):
    if rig == "quad-left" and name == "flip_horizontal":
        return
    sample = drawn(rig)
    before = {field.name: getattr(sample, field.name) for field in fields(sample)}
    copies = {key: value.clone() for key, value in before.items() if isinstance(value, Tensor)}
    changed = CHANGES[name](sample)
    assert_consistent(changed)
    if rig == "quad":
        assert_consistent(changed, "pol_")
        s1, s2, dolp = changed.pol_left
        torch.testing.assert_close(torch.hypot(s1, s2), dolp, atol=2e-3, rtol=0)
    assert all(torch.equal(getattr(sample, key), copy) for key, copy in copies.items())
    assert changed.name == sample.name


def test_flips_negate_s2_only():
    sample = drawn()
    turned = flip_vertical(sample)
    sign = torch.tensor([1.0, -1.0, 1.0])[:, None, None]
    assert torch.equal(turned.pol_left, sign * sample.pol_left.flip(-2))
    mirrored = flip_horizontal(sample)
    assert torch.equal(mirrored.pol_left, sign * sample.pol_right.flip(-1))
    assert torch.equal(mirrored.right, sample.left.flip(-1))
    assert torch.equal(mirrored.valid_right, sample.valid_left.flip(-1))
    # One channel, DoLP, knows no direction.
    assert torch.equal(flip_vertical(drawn(channels=1)).pol_left, drawn(channels=1).pol_left.flip(-2))


def test_views_are_exchanged_where_they_are():
    image, polarization = torch.empty(1, 3, 32, 32, device="meta"), torch.empty(1, 3, 32, 32, device="meta")
    views = StereoInputs(left=image, right=image, pol_left=polarization, pol_right=polarization)
    exchanged = exchange_views(views)
    assert {tensor.device.type for tensor in exchanged.tensors().values()} == {"meta"}


def test_a_mirrored_view_has_the_right_views_truth():
    sample = drawn(glass=1.0)
    mirrored = flip_horizontal(sample)
    known = mirrored.valid[0] > 0
    assert 0.6 < float(known.float().mean()) < 1
    assert torch.equal(known, mirrored.occluded[0] == 0)
    # Mirrored again, the truth is that of the left view, where both views see it.
    again = flip_horizontal(mirrored)
    both = again.valid[0] > 0
    error = (again.disparity - sample.disparity)[0][both].abs()
    assert float((error < 0.05).float().mean()) > 0.97
    assert float((again.glass == sample.glass)[0][both].float().mean()) > 0.97
    assert torch.equal(again.left, sample.left)
    stack([sample, mirrored])


@pytest.mark.parametrize("rig", ["quad-left", "crossed"])
def test_cameras_that_differ_are_not_exchanged(rig):
    with pytest.raises(ValueError, match=f"one of quad, none to exchange the views, got '{rig}'"):
        flip_horizontal(drawn(rig, 1))


def test_the_right_views_disparity_of_a_plane_and_a_step():
    plane = np.float32(5 + 0.1 * np.arange(40) + 0.05 * np.arange(8)[:, None])
    (seen,) = seen_from_right(plane)
    # x_left = x_right + d(x_left), with d = 5 + 0.1 x_left + 0.05 y.
    right = np.arange(40)
    wanted = 5 + 0.1 * (right + 5 + 0.05 * np.arange(8)[:, None]) / 0.9 + 0.05 * np.arange(8)[:, None]
    known = np.isfinite(seen)
    np.testing.assert_allclose(seen[known], wanted[known], atol=1e-4)
    assert known[:, :30].all()
    step = np.full((1, 20), 2.0, np.float32)
    step[0, 10:14] = 6.0
    found, mask = seen_from_right(step, step > 3)
    nan = np.nan
    np.testing.assert_array_equal(found[0], [2, 2, 2, 2, 6, 6, 6, 6, nan, nan, nan, nan, 2, 2, 2, 2, 2, 2, nan, nan])
    np.testing.assert_array_equal(mask[0] > 0, np.nan_to_num(found[0]) == 6)


@settings(deadline=None, max_examples=15)
@given(top=st.integers(0, 30), left=st.integers(0, 40), height=st.integers(1, 60), width=st.integers(1, 80))
def test_crops(top, left, height, width):
    sample = drawn("crossed", 1)
    cut = crop(sample, top, left, height, width)
    window = (..., slice(top, top + height), slice(left, left + width))
    assert torch.equal(cut.left, sample.left[window])
    assert torch.equal(cut.intensity_right, sample.intensity_right[window])
    assert torch.equal(cut.disparity, sample.disparity[window])
    outside = torch.arange(width) - cut.disparity < -0.5
    assert bool(cut.occluded[outside].all())
    assert torch.equal(cut.occluded[~outside], sample.occluded[window][~outside])


def test_windows_lie_within_the_image():
    for window in ((0, 0, 97, 10), (-1, 0, 5, 5), (0, 120, 5, 9), (0, 0, 0, 5)):
        with pytest.raises(ValueError, match="the window must lie within 128x96 px"):
            crop(drawn("none"), *window)
    with pytest.raises(ValueError, match="at least 1"):
        scale(drawn("none"), 0, 5)


def test_disparity_grows_with_the_width_and_is_not_mixed_across_borders():
    sample = drawn("quad", 1)
    step = torch.full_like(sample.disparity, 3.0)
    step[..., 40:70] = 20.0
    slanted = (4 + 0.05 * torch.arange(128.0)).expand_as(step)
    invalid = torch.ones_like(step)
    invalid[..., 10:20, :] = 0
    for width in (64, 100, 256):
        scaled = scale(replace(sample, disparity=step), 50, width)
        found = np.unique(np.round(scaled.disparity.numpy(), 4))
        np.testing.assert_allclose(found, [3.0 * width / 128, 20.0 * width / 128], atol=1e-3)
        found = scale(replace(sample, disparity=slanted), 50, width).disparity[0, 0, 2:-2]
        where = (torch.arange(width) + 0.5) * 128 / width - 0.5
        torch.testing.assert_close(found, (width / 128 * (4 + 0.05 * where))[2:-2], atol=1e-4, rtol=0)
        # What polarization holds where it is not valid does not leak.
        dirty = torch.where(invalid > 0, sample.pol_left, torch.tensor(float("nan")))
        clean = torch.where(invalid > 0, sample.pol_left, torch.zeros(()))
        pair = [scale(replace(sample, pol_left=pol, valid_left=invalid), 50, width).pol_left for pol in (dirty, clean)]
        assert torch.equal(*pair)
        assert bool((pair[0] <= 1).all())


@settings(deadline=None, max_examples=15)
@given(gain=st.floats(0.3, 3.0), gamma=st.floats(0.7, 1.4))
def test_light_acts_on_linear_light_and_leaves_polarization(gain, gamma):
    sample = drawn("quad")
    changed = jitter(sample, (gain, gain, gain), gamma)
    linear = np.clip(gain * decode_srgb(sample.left).numpy(), 0, 1)
    np.testing.assert_allclose(decode_srgb(changed.left ** (1 / gamma)), linear, atol=1e-4)
    assert torch.equal(changed.pol_left, sample.pol_left)
    clipped = (decode_srgb(sample.left) * gain >= 1).any(0) & (sample.left < 1).all(0)
    assert torch.equal(changed.valid_left[0], sample.valid_left[0] * ~clipped)
    crossed = drawn("crossed", 1)
    changed = jitter(crossed, (gain, gain, gain), gamma)
    unclipped = (changed.intensity_left < 1) & (changed.intensity_right < 1) & (changed.intensity_right > 0.01)
    ratios = [(pair.intensity_left / pair.intensity_right)[unclipped] for pair in (crossed, changed)]
    torch.testing.assert_close(*ratios)
    everywhere = torch.ones_like(crossed.valid)
    masked = jitter(replace(crossed, valid_left=everywhere, valid_right=everywhere), (gain, gain, gain), gamma)
    saturated = (crossed.intensity_left * gain >= 1) & (crossed.intensity_left < 1)
    assert torch.equal(masked.valid_left, (~saturated).float())


def test_light_that_cannot_be():
    with pytest.raises(ValueError, match="right_gain must be 1 for a crossed pair"):
        jitter(drawn("crossed", 1), right_gain=1.1)
    with pytest.raises(ValueError, match="must be positive"):
        jitter(drawn("none"), (1, 0, 1))
    with pytest.raises(ValueError, match=r"must be positive and finite, got .*nan"):
        jitter(drawn("none"), gamma=math.nan)


def test_srgb_there_and_back():
    values = torch.linspace(0, 1, 1001)
    torch.testing.assert_close(decode_srgb(encode_srgb(values)), values, atol=1e-6, rtol=0)
    torch.testing.assert_close(decode_srgb(torch.tensor([0.5])), torch.tensor([0.21404114]))


@pytest.mark.parametrize("rig", ["quad", "crossed"])
def test_augmented_samples_depend_on_seed_and_index_only(rig):
    base = ProceduralStereo(ProceduralConfig((48, 64), length=3, rig=rig, layers=(1, 2)))
    change = _changed
    one, same, other = (Augmented(base, change, seed=seed, repeats=2) for seed in (0, 0, 1))
    assert len(one) == 6
    same[5]
    assert torch.equal(one[1].left, same[1].left)
    assert not torch.equal(one[1].left, other[1].left)
    assert not torch.equal(one[1].left, one[4].left)
    assert one[1].name == one[4].name
    stack([one[index] for index in range(6)])
    with pytest.raises(IndexError, match=r"\[0, 6\), got 6"):
        one[6]
    with pytest.raises(ValueError, match="repeats must be at least 1"):
        Augmented(base, change, repeats=0)


def _changed(sample: StereoSample, rng: np.random.Generator) -> StereoSample:
    return augment(sample, AugmentConfig(), rng, (40, 56))


def test_small_samples_are_scaled_up():
    sample = augment(drawn("none"), AugmentConfig(scale=(0.5, 0.6)), np.random.default_rng(0), (120, 130))
    assert sample.left.shape == (3, 120, 130)
    assert_consistent(sample)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"scale": (1.0, 0.5)}, "scale must be"),
        ({"flip_vertical": 1.5}, r"must be in \[0, 1\]"),
        ({"gain": -1}, r"must be in \[0, 5\]"),
        ({"gain": math.nan}, r"must be in \[0, 5\], got nan"),
        ({"gamma": math.inf}, r"must be in \[0, 5\]"),
        ({"scale": (0.8, math.inf)}, r"scale must be .* both in \(0, 10\]"),
        ({"scale": (math.nan, 1.0)}, "scale must be"),
        ({"flip_horizontal": math.nan}, r"must be in \[0, 1\]"),
    ],
)
def test_configurations_that_cannot_be(changes, says):
    with pytest.raises(ValueError, match=says):
        AugmentConfig(**changes)


@pytest.mark.parametrize("rig", ["quad", "quad-left", "crossed", "none"])
def test_noise_leaves_truth_and_validity_and_is_drawn_from_the_generator(rig):
    sample = drawn(rig)
    noisy = add_noise(sample, np.random.default_rng(1))
    again = add_noise(sample, np.random.default_rng(1))
    for name, tensor in sample.tensors().items():
        assert torch.equal(getattr(noisy, name), getattr(again, name))
        seen = name in ("left", "right") or name.startswith(("pol", "intensity"))
        assert torch.equal(getattr(noisy, name), tensor) != seen
    assert torch.equal((255 * noisy.left).round() / 255, noisy.left)
    assert all(
        tensor.min() >= -1 and tensor.max() <= 1 for name, tensor in noisy.tensors().items() if "disp" not in name
    )
    still = add_noise(sample, np.random.default_rng(1), 0.0)
    assert torch.equal(still.left, sample.left)
    with pytest.raises(ValueError, match="strength must be at least 0"):
        add_noise(sample, np.random.default_rng(1), -1.0)


def gray(light: float, channels: int) -> StereoSample:
    """A sample of one brightness (linear) and no polarization at all."""
    sample = drawn(channels=channels)
    display = encode_srgb(torch.full_like(sample.left, light))
    nothing = torch.zeros_like(sample.pol_left)
    return replace(sample, left=display, right=display, pol_left=nothing, pol_right=nothing)


@pytest.mark.parametrize("light", [0.05, 0.5])
def test_noise_of_polarization_is_that_of_four_noisy_angles(monkeypatch, light):
    """Against a simulation of the four intensities, S0 = light, each half of it and noisy by itself."""
    shot, read = 1e-4, 1e-3
    monkeypatch.setattr(transforms, "draw_noise", lambda rng, strength: Noise(shot, read))
    rng = np.random.default_rng(3)
    angles = light / 2 + np.sqrt(shot * light / 2 + read**2) * rng.standard_normal((4, *SIZE))
    expected = np.stack([angles[0] - angles[2], angles[1] - angles[3]]) / (angles.sum(0) / 2)
    noisy = add_noise(gray(light, 3), np.random.default_rng(5))
    assert float(noisy.pol_left[:2].std()) == pytest.approx(expected.std(), rel=0.03)
    torch.testing.assert_close(noisy.pol_left[2], noisy.pol_left[:2].norm(dim=0))
    # The magnitude of noise is biased away from 0, for one channel as for three.
    mean = np.hypot(*expected).mean()
    assert float(noisy.pol_right[2].mean()) == pytest.approx(mean, rel=0.03)
    assert float(add_noise(gray(light, 1), np.random.default_rng(6)).pol_left.mean()) == pytest.approx(mean, rel=0.03)
    linear = decode_srgb(noisy.left)
    assert float(linear.std()) == pytest.approx(math.sqrt(shot * light + read**2), rel=0.1)


def test_a_sample_is_checked_where_it_is_born_and_where_it_is_stacked(monkeypatch):
    """Changes trust each other: what they make has the right shapes by how it is made."""
    checked = []
    check = StereoSample.check_shapes
    monkeypatch.setattr(StereoSample, "check_shapes", lambda self, dims: (checked.append(1), check(self, dims)))
    rng = np.random.default_rng(3)
    sample = ProceduralStereo(ProceduralConfig((64, 80), pol_channels=3))[0]
    born = len(checked)
    config = AugmentConfig(flip_horizontal=1.0, flip_vertical=1.0)
    changed = add_noise(augment(sample, config, rng, (48, 64)), rng)
    assert (born, len(checked)) == (1, 1)
    # And it has them.
    replace(changed)
    assert stack([changed, changed]).left.shape == (2, 3, 48, 64)


@pytest.mark.parametrize("rig", ["quad", "quad-left", "none"])
def test_exchanged_inputs_are_those_of_the_mirrored_sample_and_come_back(rig: str) -> None:
    inputs = drawn(rig).inputs
    exchanged = exchange_views(inputs)
    if rig != "quad-left":
        expected = flip_horizontal(drawn(rig)).inputs.tensors()
        assert exchanged.tensors().keys() == expected.keys()
        assert all(torch.equal(exchanged.tensors()[name], tensor) for name, tensor in expected.items())
    back = exchange_views(exchanged).tensors()
    assert all(torch.equal(back[name], tensor) for name, tensor in inputs.tensors().items())
    batch = exchange_views(inputs.batched())
    assert all(torch.equal(batch.pair(0).tensors()[name], tensor) for name, tensor in exchanged.tensors().items())


def test_an_exchanged_crossed_pair_shows_no_polarization() -> None:
    exchanged = exchange_views(drawn("crossed").inputs)
    assert exchanged.tensors().keys() == {"left", "right"}


@pytest.mark.parametrize("change", [
    flip_vertical,
    flip_horizontal,
    lambda sample: crop(sample, 2, 3, 40, 50),
    lambda sample: scale(sample, 40, 50),
    lambda sample: jitter(sample, (1.1, 0.9, 1.0)),
    lambda sample: add_noise(sample, np.random.default_rng(1)),
    lambda sample: augment(sample, AugmentConfig(flip_horizontal=1), np.random.default_rng(1), (40, 50)),
])  # fmt: skip
def test_glass_that_is_not_known_stays_so(change):
    sample = drawn(glass=1.0)
    unknown = change(replace(sample, glass=torch.full_like(sample.glass, math.nan)))
    assert unknown.glass.isnan().all()
    known = change(sample)
    assert known.glass.isfinite().all()
    for name in known.tensors():
        if name != "glass":
            assert torch.equal(getattr(unknown, name), getattr(known, name))
    # Known in part: what is not known goes along, and what is known is as before.
    part = sample.glass.clone()
    part[:, torch.arange(part.shape[1]) // 8 % 2 == 0] = math.nan
    mixed = change(replace(sample, glass=part)).glass
    assert mixed.isnan().any()
    assert torch.equal(mixed[mixed.isfinite()], known.glass[mixed.isfinite()])
    assert mixed.isfinite().any()
