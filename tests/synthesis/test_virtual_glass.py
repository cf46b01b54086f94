"""Panes put into plain pairs: Fresnel's values, truth that both views agree on, and nothing changed elsewhere."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from crosspol.data.noise import Noise
from crosspol.data.sample import StereoSample, stack
from crosspol.data.transforms import flip_vertical
from crosspol.light import decode_srgb
from crosspol.synthesis.virtual_glass import (
    BackgroundPolarization,
    VirtualPane,
    add_virtual_glass,
    draw_pane,
    insert_pane,
)
from tests.data.test_transforms import drawn

SIZE = (64, 96)
FOCAL = 96.0


def even(left: float = 0.4, right: float | None = None, disparity: float = 3.0) -> StereoSample:
    """A uniform gray pair."""
    one = torch.ones(1, *SIZE)
    images = [value * torch.ones(3, *SIZE) for value in (left, left if right is None else right)]
    return StereoSample(
        left=images[0],
        right=images[1],
        disparity=disparity * one,
        valid=one,
        glass=0 * one,
        occluded=0 * one,
        rig="none",
        name="even",
    )


def fresnel(cosine: float, n: float = 1.5) -> tuple[float, float]:
    """Reflectances of one surface, by the textbook's angles."""
    inside = math.sqrt(1 - (1 - cosine**2) / n**2)
    return ((cosine - n * inside) / (cosine + n * inside)) ** 2, ((n * cosine - inside) / (n * cosine + inside)) ** 2


@pytest.mark.parametrize("degrees", [30, 45, 56.3, 70])
@pytest.mark.parametrize("reflects", [True, False])
def test_a_pane_polarizes_as_fresnel_says(degrees, reflects):
    # A pane turned about the vertical has the normal (sin, 0, cos); its disparity changes by tan / focal a pixel.
    sample = even(0.4)
    disparity = 12.0
    slope = disparity / FOCAL * math.tan(math.radians(degrees))
    pane = VirtualPane((40, 20, 56, 44), disparity, slope, mirrored_disparity=0, brightness=1e4 if reflects else 0)
    result = insert_pane(sample, pane, pol_channels=3, focal=FOCAL)
    s1, s2, dolp = result.pol_left[:, 32, 48].tolist()  # half a pixel from the principal point
    x, y = 0.5 / FOCAL, 0.5 / FOCAL
    tan = math.tan(math.radians(degrees))
    cosine = (x * tan + 1) / math.sqrt(1 + tan**2) / math.sqrt(1 + x * x + y * y)
    r_s, r_p = fresnel(cosine)
    pane_s, pane_p = 2 * r_s / (1 + r_s), 2 * r_p / (1 + r_p)
    wanted = (pane_s - pane_p) / (pane_s + pane_p if reflects else 2 - pane_s - pane_p)
    assert dolp == pytest.approx(wanted, abs=1e-3)
    # s is vertical for a pane turned about the vertical: reflection polarizes along it, transmission across.
    assert s1 == pytest.approx(-wanted if reflects else wanted, abs=2e-3)
    assert abs(s2) < 0.02


def test_light_is_transmitted_and_reflected_in_linear_light():
    sample = even(0.5)
    result = insert_pane(sample, VirtualPane((20, 10, 80, 50), 10.0, mirrored_disparity=4, brightness=0.5), focal=FOCAL)
    cosine = 1 / math.sqrt(1 + 2 * (0.5 / FOCAL) ** 2)
    r = 2 * fresnel(cosine)[0] / (1 + fresnel(cosine)[0])
    light = float(decode_srgb(torch.tensor(0.5)))
    wanted = light * (1 - r) + 0.5 * light * r
    found = decode_srgb(result.left[:, 32, 48])
    torch.testing.assert_close(found, torch.full((3,), wanted), atol=3e-3, rtol=0)
    outside = result.glass[0] == 0
    outside[9:52, 5:82] = False
    torch.testing.assert_close(result.left[:, outside], sample.left[:, outside], atol=1 / 509, rtol=0)


@pytest.mark.parametrize("rig", ["quad", "quad-left", "crossed", "none"])
def test_truth_is_the_panes(rig):
    sample = drawn("none")
    rng = np.random.default_rng(3)
    pane = next(pane for _ in range(50) if (pane := draw_pane(sample, rng)) is not None)
    result = insert_pane(sample, pane, rig=rig, background=BackgroundPolarization())
    left, top, right, bottom = pane.box
    x, y = np.arange(128)[None, :], np.arange(96)[:, None]
    inside = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    np.testing.assert_array_equal(result.glass[0] > 0, inside)
    plane = pane.disparity + pane.slope_x * (x - 63.5) + pane.slope_y * (y - 47.5)
    np.testing.assert_allclose(result.disparity[0].numpy()[inside], plane[inside], atol=1e-4)
    assert bool((result.disparity >= sample.disparity).all())
    assert torch.equal(result.disparity[result.glass == 0], sample.disparity[result.glass == 0])
    assert torch.equal(result.disparity_background, sample.disparity_background)
    assert bool((result.occluded >= sample.occluded)[result.glass == 0].all())
    assert result.rig == rig
    stack([result, insert_pane(sample, pane, rig=rig)])


def test_both_views_see_the_pane_in_the_same_place():
    # On an even scene, only the pane changes the light: where the left view has it and where, warped by its disparity,
    # the right view has it, must agree.
    from crosspol.data.warping import warp_to_left

    sample = even(0.5, disparity=2.0)
    for slope in (-0.1, 0.0, 0.1):
        pane = VirtualPane((30, 15, 70, 50), 14.0, slope, 0.02, mirrored_disparity=1, brightness=0)
        result = insert_pane(sample, pane, focal=FOCAL)
        warped, inside = warp_to_left(result.right.numpy(), result.disparity[0].numpy())
        seen = inside & (result.occluded[0].numpy() == 0)
        assert np.abs(warped - result.left.numpy())[:, seen].max() < 0.05
        assert np.abs(warped - result.left.numpy())[:, seen & (result.glass[0].numpy() > 0)].mean() < 0.004
        # What the pane hides from the right view is beside it, on the side away from the right camera.
        hidden = result.occluded[0].numpy() > 0
        assert hidden[30, 70 - 12 : 90].sum() == 0
        assert 8 < hidden[30, :30].sum() < 16


def test_the_scenes_own_polarization_is_consistent_and_a_mirror_turns_it():
    sample = drawn("none")
    pane = VirtualPane((5, 5, 9, 9), 40.0)
    result = insert_pane(sample, pane, pol_channels=3, background=BackgroundPolarization(0.2, 0.4, 0.5))
    dolp = result.pol_left[2][result.glass[0] == 0]
    assert 0.02 < float(dolp.mean()) < 0.2
    assert float(insert_pane(sample, pane).pol_left[result.glass == 0].max()) < 1e-6
    s1, s2 = result.pol_left[:2, 0]
    lit = torch.hypot(s1, s2) > 0.01
    torch.testing.assert_close(torch.atan2(s2, s1)[lit] / 2, torch.full_like(s1[lit], 0.4), atol=1e-3, rtol=0)
    assert torch.equal(flip_vertical(result).pol_left[1, -1], -result.pol_left[1, 0])
    assert bool((result.pol_left[2] <= 1).all())


@pytest.mark.parametrize("rig", ["quad", "quad-left", "crossed"])
def test_what_a_sensor_cannot_measure_is_not_valid(rig):
    dark = insert_pane(even(0.02), VirtualPane((20, 10, 80, 50), 10.0), rig=rig)
    assert not dark.valid_left.any()
    white = insert_pane(even(1.0), VirtualPane((20, 10, 80, 50), 10.0, brightness=0), rig=rig)
    assert not white.valid_left[white.glass == 0].any()
    gray = insert_pane(even(0.4), VirtualPane((20, 10, 80, 50), 10.0), rig=rig)
    assert gray.valid_left.all()


def test_each_view_of_a_crossed_pair_trusts_what_its_own_polarizer_lets_through():
    background = BackgroundPolarization(0.5, angle_rad=0.0, turn_rad=0.0)
    result = insert_pane(
        even(0.97), VirtualPane((20, 10, 80, 50), 10.0, brightness=0), rig="crossed", background=background
    )
    outside = result.glass == 0
    assert (result.intensity_left[outside] == 1).all()
    assert not result.valid_left[outside].any()
    assert result.valid_right.all()
    # One clipped color is enough, as of a camera's image.
    red = replace(even(0.4), left=torch.cat([torch.ones(1, *SIZE), torch.full((2, *SIZE), 0.2)]))
    assert not insert_pane(red, VirtualPane((90, 60, 95, 63), 10.0), rig="crossed").valid_left[..., :80].any()


@pytest.mark.parametrize("rig", ["quad", "quad-left", "crossed"])
def test_sensor_noise_follows_from_the_seed_and_is_in_what_is_measured_only(rig):
    pane, noise = VirtualPane((20, 10, 80, 50), 10.0, brightness=0), Noise(shot=1e-4, read=0.002)
    clean, one, again, other = (
        insert_pane(even(0.5), pane, rig=rig, pol_channels=3, noise=given, seed=seed)
        for given, seed in ((None, 3), (noise, 3), (noise, 3), (noise, 4))
    )
    name = "intensity_left" if rig == "crossed" else "pol_left"
    assert torch.equal(getattr(one, name), getattr(again, name))
    assert not torch.equal(getattr(one, name), getattr(other, name))
    for same in ("left", "right", "disparity", "glass"):
        assert torch.equal(getattr(one, same), getattr(clean, same))
    # Variances of the counts: of one intensity, or of the difference of two angles, each half of the light.
    light = float(decode_srgb(torch.tensor(0.5)))
    wanted = math.sqrt(1e-4 * light + 0.002**2)
    if rig != "crossed":
        wanted = math.sqrt(2 * (1e-4 * light / 2 + 0.002**2)) / light
    plain = clean.glass[0] == 0
    added = (getattr(one, name) - getattr(clean, name))[0, plain]
    assert float(added.std()) == pytest.approx(wanted, rel=0.03)
    assert abs(float(added.mean())) < 0.05 * wanted
    if rig != "quad-left":
        right = name.replace("left", "right")
        pair = torch.stack([added, (getattr(one, right) - getattr(clean, right))[0, plain]])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.06


def test_panes_that_cannot_be():
    sample = even(disparity=12.0)
    with pytest.raises(ValueError, match="must be nearer than what is behind it, got 2 px less"):
        insert_pane(sample, VirtualPane((20, 10, 80, 50), 10.0))
    with pytest.raises(ValueError, match="mirrored_disparity must be at most the pane's, 15 px, got 20"):
        insert_pane(sample, VirtualPane((20, 10, 80, 50), 15.0, mirrored_disparity=20))
    with pytest.raises(ValueError, match="must be of rig 'none', got 'quad'"):
        insert_pane(drawn("quad"), VirtualPane((20, 10, 80, 50), 15.0))
    with pytest.raises(ValueError, match="box must be"):
        VirtualPane((20, 10, 10, 50), 15.0)
    with pytest.raises(ValueError, match="eta must be at least 1"):
        VirtualPane((20, 10, 30, 50), 15.0, eta=0.5)
    assert draw_pane(even(disparity=90.0), np.random.default_rng(0)) is None


def test_panes_depend_on_the_generator_only():
    panes = [draw_pane(even(), np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert panes[0] == panes[1] != panes[2]
    for seed in range(20):
        pane = draw_pane(even(), np.random.default_rng(seed))
        if pane is not None:
            insert_pane(even(), pane)


@pytest.mark.parametrize("rig", ["quad", "quad-left", "crossed", "none"])
def test_pairs_are_glazed_with_the_probability_that_is_asked_for(rig):
    sample = replace(even(), skipped=("a: no such file",))
    glazed = [add_virtual_glass(sample, np.random.default_rng(seed), rig=rig, probability=0.5) for seed in range(40)]
    assert 0.25 < np.mean([bool(pair.glass.any()) for pair in glazed]) < 0.75
    assert {pair.rig for pair in glazed} == {rig}
    assert {pair.skipped for pair in glazed} == {("a: no such file",)}
    again = add_virtual_glass(sample, np.random.default_rng(0), rig=rig, probability=0.5)
    assert all(torch.equal(again.inputs.kwargs()[name], tensor) for name, tensor in glazed[0].inputs.kwargs().items())
    stack(glazed)


def test_a_pair_without_a_pane_is_what_it_was_and_has_its_background():
    sample = even(0.4)
    plain = add_virtual_glass(sample, np.random.default_rng(2), probability=0.0, noise=0.0)
    for name in ("left", "right"):
        torch.testing.assert_close(getattr(plain, name), getattr(sample, name), atol=0.6 / 255, rtol=0)
    for name in ("disparity", "glass", "occluded"):
        assert torch.equal(getattr(plain, name), getattr(sample, name))
    assert 0 < plain.pol_left.min() <= plain.pol_left.max() < 0.12


def test_where_no_pane_fits_there_is_none():
    # Everything is nearer than any pane may be.
    assert not add_virtual_glass(even(disparity=60.0), np.random.default_rng(0)).glass.any()


def test_glass_of_the_scene_that_is_not_known_counts_as_none():
    sample = even(0.4)
    unknown = replace(sample, glass=torch.full_like(sample.glass, math.nan))
    for probability in (0.0, 1.0):
        one, other = (
            add_virtual_glass(pair, np.random.default_rng(3), probability=probability) for pair in (sample, unknown)
        )
        assert all(torch.equal(tensor, other.tensors()[name]) for name, tensor in one.tensors().items())
