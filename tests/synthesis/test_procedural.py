from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.stats import rankdata
from torch.nn.functional import avg_pool2d
from torch.utils.data import DataLoader

from crosspol.data.sample import StereoSample, stack
from crosspol.synthesis.compositing import render_view
from crosspol.synthesis.layout import Pane
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo

SMALL = ProceduralConfig(size=(48, 64), length=6)
CLEAN = ProceduralConfig(size=(96, 128), length=12, noise=0, camera_difference=0, misalignment=0)


def tensors(sample: Any) -> dict[str, torch.Tensor]:
    values = {field.name: getattr(sample, field.name) for field in dataclasses.fields(sample)}
    return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}


def warped(right: torch.Tensor, disparity: np.ndarray) -> np.ndarray:
    """The right image (C, H, W) at x - disparity (H, W), linearly interpolated: an estimate of the left one."""
    rows, columns = np.mgrid[: disparity.shape[0], : disparity.shape[1]].astype(float)
    where = [rows, columns - disparity]
    return np.stack([map_coordinates(channel, where, order=1, mode="nearest") for channel in right.numpy()])


@pytest.fixture(scope="module")
def clean() -> list[StereoSample]:
    dataset = ProceduralStereo(CLEAN)
    return [dataset[index] for index in range(len(dataset))]


def test_samples_do_not_depend_on_the_workers() -> None:
    dataset = ProceduralStereo(SMALL)
    here = list(DataLoader(dataset, batch_size=2, collate_fn=stack, num_workers=0))
    there = list(DataLoader(dataset, batch_size=2, collate_fn=stack, num_workers=2))
    assert [batch.names for batch in here] == [batch.names for batch in there]
    for one, other in zip(here, there, strict=True):
        for name, tensor in tensors(one).items():
            assert torch.equal(tensor, getattr(other, name)), name


def test_samples_depend_on_seed_and_index_only() -> None:
    one = ProceduralStereo(SMALL)[3]
    longer = ProceduralStereo(dataclasses.replace(SMALL, length=1000))[3]
    assert all(torch.equal(tensor, getattr(longer, name)) for name, tensor in tensors(one).items())
    for other in (ProceduralStereo(dataclasses.replace(SMALL, seed=1))[3], ProceduralStereo(SMALL)[4]):
        assert not torch.equal(one.left, other.left)
        assert not torch.equal(one.disparity, other.disparity)


@pytest.mark.parametrize(("rig", "channels"), [("quad", 1), ("quad", 3), ("quad-left", 1), ("crossed", 1), ("none", 1)])
def test_fields_are_in_range(rig: Any, channels: int) -> None:
    dataset = ProceduralStereo(dataclasses.replace(SMALL, rig=rig, pol_channels=channels, max_disparity=13.0))
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample.rig == rig
        for name, tensor in tensors(sample).items():
            assert torch.isfinite(tensor).all(), name
            if name in ("valid", "glass", "occluded", "valid_left", "valid_right"):
                assert set(tensor.unique().tolist()) <= {0.0, 1.0}, name
            elif name.startswith("disparity"):
                assert tensor.min() > 0, name
                assert tensor.max() <= 13.001, name
            else:
                signed = name.startswith("pol_") and channels == 3
                assert tensor.min() >= (-1 if signed else 0), name
                assert tensor.max() <= 1, name
        assert sample.valid.min() == 1
        assert sample.left.std() > 0.01
        if sample.pol_left is not None:
            assert sample.pol_left.shape == (channels, 48, 64)
            assert sample.pol_left[-1].min() >= 0
        if rig == "quad-left":
            assert sample.valid_left is not None
            assert sample.valid_left.max() == 1
            assert sample.pol_right is not None
            assert sample.valid_right is not None
            assert sample.pol_right.abs().max() == sample.valid_right.max() == 0


def test_warping_by_the_disparity_is_best_at_offset_zero(clean: list[StereoSample]) -> None:
    offsets = (-0.5, -0.25, 0.0, 0.25, 0.5)
    errors = []
    for sample in clean:
        seen = ((1 - sample.occluded) * (1 - sample.glass))[0].numpy() > 0
        disparity = sample.disparity[0].numpy()
        error = [np.abs(warped(sample.right, disparity + o) - sample.left.numpy())[:, seen].mean() for o in offsets]
        wrong_way = np.abs(warped(sample.right, -disparity) - sample.left.numpy())[:, seen].mean()
        assert error[2] < error[0], sample.name
        assert error[2] < error[4], sample.name
        assert wrong_way > 4 * error[2], sample.name
        errors.append(error)
    mean = np.mean(errors, axis=0)
    assert mean[2] < 0.6 * min(mean[0], mean[4])
    assert mean.argmin() == 2
    # The lowest point of a parabola through the three inner offsets: no half pixel is hidden in the convention.
    assert abs(0.25 * 0.5 * (mean[1] - mean[3]) / (mean[1] - 2 * mean[2] + mean[3])) < 0.03


def test_background_is_behind_glass_and_the_same_elsewhere(clean: list[StereoSample]) -> None:
    covered = 0
    for sample in clean:
        assert sample.disparity_background is not None
        glass = sample.glass > 0
        assert torch.equal(sample.disparity[~glass], sample.disparity_background[~glass])
        assert (sample.disparity_background[glass] < sample.disparity[glass]).all()
        covered += int(glass.sum())
    assert covered > 1000


def test_measured_polarization_is_that_of_the_light() -> None:
    dataset = ProceduralStereo(dataclasses.replace(CLEAN, pol_channels=3))
    errors = []
    for index in range(len(dataset)):
        sample, view = dataset[index], render_view(dataset.scene(index), CLEAN.size, "right")
        s0 = view.rgb.mean(axis=0)
        expected = np.stack([view.s1 / s0, view.s2 / s0, np.hypot(view.s1, view.s2) / s0])
        assert sample.pol_right is not None
        assert sample.valid_right is not None
        trusted = sample.valid_right[0].numpy() > 0
        assert trusted.mean() > 0.5
        errors.append(np.median(np.abs(sample.pol_right.numpy() - expected)[:, trusted]))
        assert np.hypot(view.s1, view.s2).max() > 0
        assert (np.hypot(view.s1, view.s2) <= s0 * 1.0001).all()
    # The lens blurs some scenes, the others are exact.
    assert np.median(errors) < 1e-5
    assert max(errors) < 0.01


def test_noise_biases_the_degree_of_polarization_upward() -> None:
    quiet, loud = (
        ProceduralStereo(dataclasses.replace(CLEAN, noise=noise, glass_probability=0.0)) for noise in (0.0, 2.0)
    )
    rises = []
    for index in range(4):
        one, other = quiet[index], loud[index]
        assert one.pol_left is not None
        assert other.pol_left is not None
        assert torch.equal(one.disparity, other.disparity)
        rises.append(float((other.pol_left - one.pol_left).mean()))
    assert np.mean(rises) > 0.002


def test_crossed_pair_is_one_scene_behind_two_polarizers() -> None:
    dataset = ProceduralStereo(dataclasses.replace(CLEAN, rig="crossed"))
    signs, errors, exposures, contrasts = [], [], [], []
    for index in range(4):
        sample, scene = dataset[index], dataset.scene(index)
        scales = []
        for side, sign, measured in (("left", 1, sample.intensity_left), ("right", -1, sample.intensity_right)):
            view = render_view(scene, CLEAN.size, side)  # type: ignore[arg-type]
            behind = view.rgb.mean(axis=0) + sign * view.s1
            assert measured is not None
            intensity = measured[0].numpy()
            usable = (intensity > 0.005) & (intensity < 0.99)
            ratio = intensity[usable] / behind[usable]
            errors.append(np.median(np.abs(ratio / np.median(ratio) - 1)))
            scales.append(np.median(ratio))
        exposures.append(abs(scales[0] / scales[1] - 1))
        assert sample.intensity_right is not None
        assert sample.intensity_left is not None
        other = warped(sample.intensity_right, sample.disparity[0].numpy())[0]
        one = sample.intensity_left[0].numpy()
        view = render_view(scene, CLEAN.size, "left")
        plain = ((sample.glass + sample.occluded)[0].numpy() == 0) & (one > 0.005) & (np.maximum(one, other) < 0.99)
        contrast = ((one - other) / (one + other))[plain]
        contrasts.append(np.median(np.abs(contrast - (view.s1 / view.rgb.mean(axis=0))[plain])))
        signs.append(np.mean(contrast < 0))
    # The lens blurs some scenes, the others are exact.
    assert np.median(errors) < 0.005
    assert np.median(exposures) < 1e-3
    assert np.median(contrasts) < 0.01
    assert max(contrasts) < 0.03
    # Neither polarizer always passes more.
    assert 0.02 < np.mean(signs) < 0.6


def test_intensities_of_a_crossed_pair_are_trusted_where_they_are_neither_dark_nor_clipped() -> None:
    dataset = ProceduralStereo(dataclasses.replace(SMALL, rig="crossed", length=40))
    clipped, dark = 0, 0
    for index in range(len(dataset)):
        sample = dataset[index]
        for light, valid in (
            (sample.intensity_left, sample.valid_left),
            (sample.intensity_right, sample.valid_right),
        ):
            assert light is not None
            assert valid is not None
            assert torch.equal(valid > 0, (light > 0.01) & (light < 0.99))
            clipped, dark = clipped + int((light == 1).sum()), dark + int((light == 0).sum())
    assert clipped > 0
    assert dark > 0


def test_polarization_alone_hints_at_glass_but_does_not_find_it() -> None:
    dataset = ProceduralStereo(ProceduralConfig(size=(72, 96), length=80))
    dolp, glass = [], []
    for index in range(len(dataset)):
        sample = dataset[index]
        if sample.glass.mean() < 0.02:
            continue
        assert sample.pol_left is not None
        assert sample.valid_left is not None
        trusted = sample.valid_left > 0
        dolp.append(sample.pol_left[trusted].numpy())
        glass.append(sample.glass[trusted].numpy() > 0)
    score, truth = np.concatenate(dolp), np.concatenate(glass)
    positives, ranks = truth.sum(), rankdata(score)
    area = (ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * (len(truth) - positives))
    assert 0.6 < area < 0.85


def test_averaged_polarization_finds_more_glass_but_not_all_of_it() -> None:
    """The figure of the set's card (benchmarks/procedural.py), on fewer scenes and by ranks."""
    dataset = ProceduralStereo(ProceduralConfig(size=(96, 128), length=120, pol_channels=3, glass_probability=1.0))
    strength, glass = [], []
    for index in range(len(dataset)):
        sample = dataset[index]
        if sample.glass.mean() < 0.02:
            continue
        assert sample.pol_left is not None
        assert sample.valid_left is not None
        share, mask = (avg_pool2d(plane, 8)[0] for plane in (sample.valid_left, sample.glass))
        means = avg_pool2d(sample.pol_left[:2] * sample.valid_left, 8) / share.clamp(min=1e-6)
        strength.append(means.norm(dim=0)[share >= 0.5].numpy())
        glass.append(mask[share >= 0.5].numpy() > 0.5)
    score, truth = np.concatenate(strength), np.concatenate(glass)
    positives, ranks = truth.sum(), rankdata(score)
    area = (ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * (len(truth) - positives))
    assert 0.7 < area < 0.85


def test_most_panes_show_what_is_far_behind_them() -> None:
    dataset = ProceduralStereo(dataclasses.replace(CLEAN, length=40, glass_probability=1.0))
    deceived, gaps = [], []
    for index in range(len(dataset)):
        sample = dataset[index]
        glass = sample.glass[0].numpy() > 0
        if glass.mean() < 0.02:
            continue
        assert sample.disparity_background is not None
        truth, behind = sample.disparity[0].numpy(), sample.disparity_background[0].numpy()
        errors = [np.abs(warped(sample.right, d) - sample.left.numpy()).mean(axis=0)[glass] for d in (truth, behind)]
        # The median: through an opening both views see no more than some of the same.
        deceived.append(np.median(errors[1]) < np.median(errors[0]))
        gaps.append((truth - behind)[glass].mean() / truth.max())
    assert len(deceived) > 25
    assert np.mean(deceived) > 0.7
    assert np.median(gaps) > 0.3


def test_glass_and_openings_come_as_often_as_asked_for() -> None:
    """Openings without glass leave no trace in the truth: they are found as the scenes that change without them."""
    count, base = 100, dataclasses.replace(SMALL, length=100, seed=3)
    scenes, bare = ProceduralStereo(base), ProceduralStereo(dataclasses.replace(base, opening_probability=0.0))
    glass = [any(isinstance(item, Pane) for item in scenes.scene(index).surfaces) for index in range(count)]
    opening = [len(scenes.scene(index).surfaces) != len(bare.scene(index).surfaces) for index in range(count)]
    assert 0.3 < np.mean(glass) < 0.5
    assert not any(one and other for one, other in zip(glass, opening, strict=True))
    assert 0.7 < np.sum(opening) / (count - np.sum(glass)) < 0.97
    none = ProceduralStereo(dataclasses.replace(base, glass_probability=0.0))
    assert not any(none[index].glass.any() for index in range(20))


def test_disparities_cover_the_range_from_few_px_to_the_largest() -> None:
    dataset = ProceduralStereo(ProceduralConfig(size=(64, 256), length=80, rig="none"))
    largest = np.array([float(dataset[index].disparity.max()) for index in range(len(dataset))])
    assert largest.max() <= 64.001
    assert np.quantile(largest, 0.9) > 45
    assert np.quantile(largest, 0.1) < 12


def test_without_differences_and_noise_the_cameras_agree(clean: list[StereoSample]) -> None:
    different = ProceduralStereo(dataclasses.replace(CLEAN, camera_difference=1.0))
    gaps = []
    for index, sample in enumerate(clean):
        other = different[index]
        assert torch.equal(other.disparity, sample.disparity)
        seen = ((1 - sample.occluded) * (1 - sample.glass))[0].numpy() > 0
        disparity = sample.disparity[0].numpy()
        gaps.append(
            [
                np.abs((warped(s.right, disparity) - s.left.numpy())[:, seen].mean(axis=1)).mean()
                for s in (sample, other)
            ]
        )
    same, apart = np.mean(gaps, axis=0)
    assert same < 0.003
    assert apart > 0.01


def test_rows_of_the_right_image_are_off_by_no_more_than_the_misalignment(clean: list[StereoSample]) -> None:
    loose = ProceduralStereo(dataclasses.replace(CLEAN, misalignment=2.0))
    found = []
    for index, sample in enumerate(clean):
        other = loose[index]
        for name in ("left", "disparity", "glass", "occluded"):
            assert torch.equal(getattr(other, name), getattr(sample, name)), name
        assert other.pol_right is not None
        # The offset of each block of columns that explains the other image best, in quarters of a px.
        offsets = np.arange(-12, 13) / 4
        rows, columns = np.mgrid[:96, :128].astype(float)
        moved = [
            np.stack([map_coordinates(c, [rows + o, columns], order=3, mode="nearest") for c in sample.right.numpy()])
            for o in offsets
        ]
        errors = np.abs(np.stack(moved) - other.right.numpy())[:, :, 4:-4].mean(axis=(1, 2))
        found.append([offsets[errors[:, at : at + 16].mean(axis=1).argmin()] for at in range(0, 128, 16)])
    most = np.abs(found).max(axis=1)
    assert most.max() <= 2.0
    assert most.max() > 0.5
    assert 3 <= np.sum(most == 0) <= 9
    assert any(len(set(offsets)) > 1 for offsets in found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (16, 64)}, "size must be (height, width), both at least 32, got (16, 64)"),
        ({"length": 0}, "length must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"rig": "both"}, "rig must be one of quad, quad-left, crossed, none, got 'both'"),
        ({"max_disparity": 60.0}, "max_disparity must be in [2, 32.0] for width 64, got 60.0"),
        ({"layers": (5, 2)}, "layers must be (fewest, most), got (5, 2)"),
        ({"glass_probability": 1.5}, "glass_probability must be in [0, 1], got 1.5"),
        ({"misalignment": -1.0}, "misalignment must be in [0, 10], got -1.0"),
        ({"opening_probability": -0.5}, "opening_probability must be in [0, 1], got -0.5"),
        ({"nearest": (0.5, 0.2)}, "nearest must be (smallest, largest) in [0.01, 1], got (0.5, 0.2)"),
        ({"farthest": (0.5, 1.0)}, "farthest must be (smallest, largest) in [0, 0.9], got (0.5, 1.0)"),
        ({"openings": (-0.1, 1.0)}, "openings must be (smallest, largest) in [0, 1], got (-0.1, 1.0)"),
        ({"focal": (float("nan"), 1.0)}, "focal must be (smallest, largest) in [0.2, 10], got (nan, 1.0)"),
        ({"pol_channels": 2}, "pol_channels must be 1 or 3, got 2"),
        ({"noise": -0.1}, "camera_difference and noise must be in [0, 10], got 1.0 and -0.1"),
        ({"camera_difference": float("nan")}, "camera_difference and noise must be in [0, 10], got nan and 1.0"),
        ({"noise": float("inf")}, "camera_difference and noise must be in [0, 10], got 1.0 and inf"),
    ],
)
def test_wrong_configurations_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        dataclasses.replace(SMALL, **change)


@pytest.mark.parametrize("index", [-1, 6])
def test_indices_outside_the_set_are_refused(index: int) -> None:
    with pytest.raises(IndexError, match=re.escape(f"index must be in [0, 6), got {index}")):
        ProceduralStereo(SMALL)[index]


def test_rooms_are_less_deep_and_panes_stand_anywhere() -> None:
    def behind(**changes: object) -> float:
        """How much less disparity than a pane that has which stands behind it, as a share: median over scenes."""
        shares = []
        scenes = ProceduralStereo(
            ProceduralConfig(size=(48, 64), length=40, seed=5, glass_probability=1.0, **changes)  # type: ignore[arg-type]
        )
        for index in range(len(scenes)):
            sample = scenes[index]
            glass = sample.glass > 0
            if glass.any() and sample.disparity_background is not None:
                share = 1 - sample.disparity_background[glass] / sample.disparity[glass]
                shares.append(float(share.median()))
        return float(np.median(shares))

    assert behind(farthest=(0.05, 0.8), openings=(0.1, 1.0)) < behind() - 0.1
