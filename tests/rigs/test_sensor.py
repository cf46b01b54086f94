"""The sensor model against theory: Poisson and Gaussian statistics, Malus's law, and the numbers that are stored."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from crosspol.datasets.scene_folder import SceneFolder
from crosspol.datasets.scene_format import scene_frames, write_index, write_scene
from crosspol.rigs.frames import Frame
from crosspol.rigs.kinds import RIG_KINDS
from crosspol.rigs.sensor import SensorConfig, sense
from tests.datasets.stored_scenes import stored_scene

PERFECT = SensorConfig(
    exposure=(1.0, 1.0), full_well=(1e13, 1e13), read_noise=(0.0, 0.0), extinction_ratio=(math.inf, math.inf),
    black_level=0.0, bits=16, mosaic=False,
)  # fmt: skip
# 1e13 electrons: shot noise of 3e-7. A step of 16 bits is 1.5e-5.
STEP = 1 / (2**16 - 1)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def plain(value: float, size: tuple[int, int] = (200, 250)) -> Frame:
    light = torch.full((1, *size), value)
    return Frame(None, light, torch.ones(1, *size))


def polarized(s0: float, dolp: float, angle_rad: float, size: tuple[int, int] = (64, 80), colors: int = 1) -> Frame:
    one = torch.full(size, s0)
    stokes = torch.stack([one, one * dolp * math.cos(2 * angle_rad), one * dolp * math.sin(2 * angle_rad)])
    return Frame(stokes.expand(colors, 3, *size).contiguous(), None, torch.ones(1, *size))


def seen(frame: Frame, config: SensorConfig, seed: int = 0) -> Frame:
    return sense(frame, frame, generator(seed), config)[0]


@pytest.mark.parametrize("rig", RIG_KINDS)
@pytest.mark.parametrize("colors", [1, 3])
def test_a_perfect_sensor_changes_nothing_but_what_it_clips(rig, colors):
    frames = scene_frames(stored_scene(rig, colors=colors))
    for before, after in zip(frames, sense(*frames, generator(), PERFECT), strict=True):
        if before.stokes is None:
            torch.testing.assert_close(after.intensity, before.image, atol=STEP, rtol=0)
            assert torch.equal(after.valid, before.valid)
        else:
            trusted = before.valid[0] > 0
            assert trusted.float().mean() > 0.3
            torch.testing.assert_close(after.stokes[:, :, trusted], before.stokes[:, :, trusted], atol=STEP, rtol=0)
            assert torch.equal(after.valid, before.valid)


@pytest.mark.parametrize("electrons", [30, 900, 8000])
def test_shot_noise_is_poissons(electrons):
    well = 10_000.0
    # One number an electron: what is stored is the count itself.
    config = replace(PERFECT, full_well=(well, well), bits=14)
    counts = well * seen(plain(electrons / well), config).intensity.numpy().ravel().astype(np.float64)
    step = well / (2**14 - 1)
    number = counts.size
    mean_error = math.sqrt(electrons / number)
    assert abs(counts.mean() - electrons) < 4 * mean_error + 0.01 * step
    low, high = stats.chi2.ppf([1e-4, 1 - 1e-4], number - 1) / (number - 1) * (electrons + step**2 / 12)
    assert low < counts.var(ddof=1) < high
    rounded = np.rint(counts).astype(int)
    wanted = stats.poisson.cdf(np.arange(0, 2 * electrons), electrons)
    found = np.searchsorted(np.sort(rounded), np.arange(0, 2 * electrons), side="right") / number
    assert np.abs(found - wanted).max() < 0.012


def test_read_noise_is_gaussian_and_adds_to_shot_noise():
    well, read, electrons = 10_000.0, 20.0, 400.0
    config = replace(PERFECT, full_well=(well, well), read_noise=(read, read), black_level=0.05)
    counts = well * seen(plain(electrons / well), config).intensity.numpy().ravel().astype(np.float64)
    low, high = stats.chi2.ppf([1e-4, 1 - 1e-4], counts.size - 1) / (counts.size - 1) * (electrons + read**2)
    assert low < counts.var(ddof=1) < high
    assert counts.mean() == pytest.approx(electrons, abs=4 * math.sqrt((electrons + read**2) / counts.size) + 0.01)


def test_noise_of_stokes_parameters_follows_from_that_of_the_angles():
    # Angles are separate samples: var(S0) = var / 4 and var(S1) = var / 2 on a frame's scale, where S0 is their mean.
    well = 4000.0
    config = replace(PERFECT, full_well=(well, well), bits=14)
    frame = seen(polarized(0.5, 0.0, 0.0, (200, 200)), config)
    variance = 0.5 / well
    for order, share in ((0, 1 / 4), (1, 1 / 2), (2, 1 / 2)):
        found = float(frame.stokes[0, order].double().var())
        assert found == pytest.approx(share * variance, rel=0.05)


@pytest.mark.parametrize("ratio", [3.0, 100.0])
@pytest.mark.parametrize("mosaic", [False, True])
@pytest.mark.parametrize("colors", [1, 3])
def test_leaking_polarizers_attenuate_dolp_and_leave_the_angle(ratio, mosaic, colors):
    config = replace(PERFECT, extinction_ratio=(ratio, ratio), mosaic=mosaic)
    frame = seen(polarized(0.4, 0.6, 0.7, colors=colors), config)
    s0, s1, s2 = frame.stokes.mean(dim=(0, 2, 3)).tolist()
    assert s0 == pytest.approx(0.4, abs=1e-4)
    assert math.hypot(s1, s2) / s0 == pytest.approx(0.6 * (ratio - 1) / (ratio + 1), abs=2e-4)
    assert math.atan2(s2, s1) / 2 == pytest.approx(0.7, abs=2e-4)


@pytest.mark.parametrize("bits", [8, 12])
def test_stored_numbers_are_whole_and_above_the_black_level(bits):
    config = replace(PERFECT, bits=bits, black_level=0.1, full_well=(500.0, 500.0), read_noise=(30.0, 30.0))
    top = 2**bits - 1
    black = round(0.1 * top)
    dark = seen(plain(0.004), config)
    # Read noise reaches below zero electrons; a frame has no negative light, as of a real camera.
    assert float(dark.intensity.min()) == 0
    stored = black + dark.intensity.double().numpy() * (top - black)
    np.testing.assert_allclose(stored, np.rint(stored), atol=1e-3)
    assert len(np.unique(np.rint(stored))) > 5
    assert not dark.valid[dark.intensity <= 0.01].any()


def test_what_noise_carries_below_black_counts_as_black_whatever_the_black_level():
    config = replace(PERFECT, full_well=(1000.0, 1000.0), read_noise=(10.0, 10.0), bits=12)
    means = [float(seen(polarized(0.0, 0, 0), replace(config, black_level=b)).stokes[:, 0].mean()) for b in (0.0, 0.05)]
    # Half a Gaussian: its mean is sigma / sqrt(2 pi).
    assert means == pytest.approx([0.01 / math.sqrt(2 * math.pi)] * 2, rel=0.05)


@pytest.mark.parametrize("mosaic", [False, True])
def test_what_is_saturated_is_not_valid(mosaic):
    frame = polarized(0.4, 0.3, 0.0)
    frame.stokes[:, :, 20:30, 30:45] *= 4
    config = replace(PERFECT, mosaic=mosaic, full_well=(10_000.0, 10_000.0), read_noise=(2.0, 2.0))
    after = seen(frame, config)
    assert not after.valid[:, 20:30, 30:45].any()
    assert after.valid[:, 40:, :].all()
    assert float(after.stokes[0, 0].max()) <= (1.05 if mosaic else 1.0 + 1e-5)
    brighter = seen(polarized(0.4, 0.3, 0.0), replace(config, exposure=(2.5, 2.5)))
    assert not brighter.valid.any()
    darker = seen(frame, replace(config, exposure=(0.2, 0.2)))
    assert darker.valid[:, 20:30, 30:45].all()


@pytest.mark.parametrize("rig", ["quad-left", "crossed", "none"])
def test_a_short_exposure_measures_highlights_of_plain_cameras_as_well(rig):
    right = stored_scene(rig).right.copy()
    right[:, 4:8, 4:8] = 6
    frames = scene_frames(stored_scene(rig, right=right))
    light = frames[1].intensity[:, 4:8, 4:8]
    assert float(light.min()) > 2
    assert not frames[1].valid[:, 4:8, 4:8].any()
    short = sense(*frames, generator(), replace(PERFECT, exposure=(0.3, 0.3)))[1]
    torch.testing.assert_close(short.intensity[:, 4:8, 4:8], 0.3 * light, atol=STEP, rtol=0)
    assert short.valid[:, 4:8, 4:8].all()
    long = sense(*frames, generator(), PERFECT)[1]
    assert not long.valid[:, 4:8, 4:8].any()
    assert (long.intensity[:, 4:8, 4:8] == 1).all()


def test_without_a_sensor_light_is_clipped_at_white(tmp_path):
    left = stored_scene("crossed").left.copy()
    left[:, 4:8, 4:8] = 6
    write_scene(tmp_path, stored_scene("crossed", left=left))
    write_index(tmp_path)
    sample = SceneFolder(tmp_path)[0]
    assert (sample.intensity_left[:, 4:8, 4:8] == 1).all()
    assert not sample.valid_left[:, 4:8, 4:8].any()


def test_a_mono_sensor_sees_the_mean_of_the_colors():
    frame = polarized(0.4, 0.5, 0.3, colors=3)
    frame.stokes[0] *= 1.5
    frame.stokes[2] *= 0.5
    mono = seen(frame, replace(PERFECT, bayer=None))
    torch.testing.assert_close(mono.stokes, frame.stokes.mean(0, keepdim=True), atol=STEP, rtol=0)
    colors = torch.tensor([0.6, 0.4, 0.2])[:, None, None].expand(3, 8, 8)
    gray = seen(Frame(None, colors, torch.ones(1, 8, 8)), replace(PERFECT, bayer=None))
    torch.testing.assert_close(gray.intensity, torch.full((1, 8, 8), 0.4), atol=STEP, rtol=0)


@pytest.mark.parametrize("rig", RIG_KINDS)
def test_mono_sensors_of_a_scene_in_color_give_gray_images(tmp_path, rig):
    write_scene(tmp_path, stored_scene(rig, colors=3))
    write_index(tmp_path)
    sample = SceneFolder(tmp_path, camera=partial(sense, config=SensorConfig(bayer=None)))[0]
    for image in (sample.left, sample.right):
        assert torch.equal(image[0], image[1])
        assert torch.equal(image[1], image[2])


def test_every_pair_draws_a_sensor_of_its_own_within_the_ranges():
    config = replace(PERFECT, exposure=(0.5, 2.0))
    means = [float(seen(plain(0.3, (32, 32)), config, seed).intensity.mean()) for seed in range(200)]
    factors = np.log2(np.array(means) / 0.3)
    assert -1 <= factors.min() < -0.8
    assert 0.8 < factors.max() <= 1 + 1e-3
    assert stats.kstest(factors, stats.uniform(-1, 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("rig", RIG_KINDS)
def test_both_views_of_a_pair_have_one_sensor(rig):
    # A polarized surface that both views see: exposure and extinction can be read off what is recorded.
    def view(holds: str) -> Frame:
        return polarized(0.3, 0.8, 0.4, (32, 32)) if holds == "stokes" else plain(0.3, (32, 32))

    holds = {"quad": ("stokes", "stokes"), "quad-left": ("stokes", "plain")}.get(rig, ("plain", "plain"))
    config = replace(PERFECT, exposure=(0.5, 2.0), extinction_ratio=(2.0, 50.0))
    exposures, degrees = [], []
    for seed in range(10):
        frames = sense(view(holds[0]), view(holds[1]), generator(seed), config)
        means = [float(frame.image.mean()) / 0.3 for frame in frames]
        assert means[0] == pytest.approx(means[1], abs=1e-3)
        exposures.append(means[0])
        stokes = [frame.stokes.mean(dim=(0, 2, 3)) for frame in frames if frame.stokes is not None]
        found = [math.hypot(s[1], s[2]) / float(s[0]) for s in stokes]
        assert found == pytest.approx(found[:1] * len(found), abs=1e-3)
        degrees += found[:1]
    # Drawn for each pair, not once for all.
    assert np.std(exposures) > 0.1
    assert not degrees or np.std(degrees) > 0.05


@pytest.mark.parametrize("name", ["full_well", "read_noise"])
def test_both_views_of_a_pair_are_as_noisy(name):
    config = replace(PERFECT, **{name: (100.0, 10_000.0)}, bits=14)
    if name == "read_noise":
        config = replace(config, full_well=(1e6, 1e6))
    spreads = []
    for seed in range(10):
        frames = sense(plain(0.5), plain(0.5), generator(seed), config)
        one, other = (float(frame.intensity.double().std()) for frame in frames)
        assert one == pytest.approx(other, rel=0.02)
        spreads.append(one)
    assert max(spreads) > 1.5 * min(spreads)


@pytest.mark.parametrize("rig", RIG_KINDS)
def test_scenes_are_seen_by_the_sensor_the_same_way_every_time(tmp_path, rig):
    for name in ("a", "b"):
        write_scene(tmp_path, stored_scene(rig, name=name, colors=3))
    write_index(tmp_path)
    camera = partial(sense, config=SensorConfig())
    folder = SceneFolder(tmp_path, camera=camera, seed=3, repeats=2)
    assert len(folder) == 4
    assert [folder[index].name for index in range(4)] == ["a", "b", "a", "b"]
    again = SceneFolder(tmp_path, camera=camera, seed=3, repeats=2)
    assert torch.equal(folder[2].left, again[2].left)
    # Another seed, another time through the data set: other noise.
    assert not torch.equal(folder[0].left, folder[2].left)
    assert not torch.equal(folder[0].left, SceneFolder(tmp_path, camera=camera, seed=4)[0].left)
    sample = folder[1]
    for name in ("pol_left", "intensity_right"):
        if getattr(sample, name) is not None:
            assert torch.isfinite(getattr(sample, name)).all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"exposure": (0.0, 1.0)}, "exposure must be"),
        ({"full_well": (2.0, 1.0)}, "full_well must be"),
        ({"read_noise": (-1.0, 1.0)}, "read_noise must be"),
        ({"extinction_ratio": (0.5, 1.0)}, "extinction_ratio must be at least 1"),
        ({"black_level": 0.5}, "black_level must be in"),
        ({"bits": 17}, "bits must be in"),
        ({"exposure": (1.0, math.inf)}, r"exposure must be .* both in \(0, 1e\+06\], got \(1.0, inf\)"),
        ({"exposure": (1.0, math.nan)}, "exposure must be"),
        ({"full_well": (math.inf, math.inf)}, "full_well must be"),
        ({"full_well": (1e30, 1e30)}, r"full_well must be .* both in \(0, 1e\+15\]"),
        ({"read_noise": (1.0, math.inf)}, "read_noise must be .* both at least 0 and at most"),
        ({"read_noise": (math.nan, math.nan)}, "read_noise must be"),
        ({"extinction_ratio": (150.0, math.nan)}, "extinction_ratio must be"),
        ({"extinction_ratio": (150.0, math.inf)}, "extinction_ratio must be .* infinite throughout"),
        ({"black_level": math.nan}, "black_level must be in"),
    ],
)
def test_sensors_that_cannot_be(changes, says):
    with pytest.raises(ValueError, match=says):
        SensorConfig(**changes)


def test_the_brightest_sensors_that_can_be_count_light():
    config = replace(PERFECT, exposure=(1e6, 1e6), full_well=(1e15, 1e15), read_noise=(1e15, 1e15))
    assert seen(polarized(0.4, 0.3, 0.0), config).stokes.isfinite().all()
