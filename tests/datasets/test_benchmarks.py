"""Readers of well-known data sets, on tiny copies of their layouts."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from crosspol.data.inputs import StereoInputs
from crosspol.data.truth import GroundTruth
from crosspol.datasets.benchmarks import (
    PlainPair,
    PlainPairs,
    booster,
    eth3d,
    instereo2k,
    kitti,
    middlebury,
    pair_folders,
    rps,
    sceneflow,
)
from crosspol.datasets.reader import Request
from crosspol.datasets.registry import KINDS, SOURCES
from crosspol.errors import MissingFileError, UsageError
from crosspol.io.disparity import write_disparity
from crosspol.io.images import write_image
from crosspol.rigs.frames import Frame

SIZE = (34, 42)
RNG = np.random.default_rng(0)
DISPARITY = RNG.uniform(1, 12, SIZE).astype(np.float32)
DISPARITY[4, 5] = np.nan
HIDDEN = RNG.random(SIZE) < 0.2
GLASS = RNG.random(SIZE) < 0.3
CALIBRATION = (
    "cam0=[100 0 21; 0 100 17; 0 0 1]\ncam1=[100 0 23; 0 100 17; 0 0 1]\nbaseline=193.0\nwidth=42\nheight=34\n"
)


def image(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.full((*SIZE, 3), value, np.uint8))


def disparity(path: Path, values: np.ndarray = DISPARITY) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_disparity(path, values)


def make_sceneflow(root: Path) -> None:
    for inner, value in (("TRAIN/A/0000", 10), ("TEST/B/0001", 20)):
        for name in ("0006", "0007"):
            base = root / "FlyingThings3D"
            image(base / f"frames_finalpass/{inner}/left/{name}.png", value)
            image(base / f"frames_finalpass/{inner}/right/{name}.png", value + 1)
            disparity(base / f"disparity/{inner}/left/{name}.pfm")
            disparity(base / f"disparity/{inner}/right/{name}.pfm")
    image(root / "Monkaa/frames_finalpass/a_rain/left/0001.png", 10)
    image(root / "Monkaa/frames_finalpass/a_rain/right/0001.png", 11)
    disparity(root / "Monkaa/disparity/a_rain/left/0001.pfm")
    image(root / "Monkaa/frames_cleanpass/a_rain/left/0001.png", 99)


def make_kitti(root: Path) -> None:
    for left, right, occ, noc, value in (
        ("image_2", "image_3", "disp_occ_0", "disp_noc_0", 10),
        ("colored_0", "colored_1", "disp_occ", "disp_noc", 20),
    ):
        for name in ("000000_10", "000000_11"):
            image(root / f"training/{left}/{name}.png", value)
            image(root / f"training/{right}/{name}.png", value + 1)
        disparity(root / f"training/{occ}/000000_10.png")
        disparity(root / f"training/{noc}/000000_10.png", np.where(HIDDEN, np.float32(np.nan), DISPARITY))


def make_two_view(root: Path, truth: str = "disp0.pfm") -> None:
    for name in ("Adirondack", "data/chess1"):
        image(root / name / "im0.png", 10)
        image(root / name / "im1.png", 11)
        disparity(root / name / truth)
        write_image(root / name / "mask0nocc.png", np.where(HIDDEN, 128, 255).astype(np.uint8))
        (root / name / "calib.txt").write_text(CALIBRATION)
    image(root / "test/im0.png", 10)  # no ground truth: not a pair


def make_eth3d(root: Path) -> None:
    make_two_view(root, "disp0GT.pfm")


def make_booster(root: Path) -> None:
    scene = root / "train/balanced/Bathroom"
    for name, value in (("im0", 10), ("im1", 20)):
        image(scene / f"camera_00/{name}.png", value)
        image(scene / f"camera_02/{name}.png", value + 1)
    image(scene / "camera_00/im2.png", 30)
    np.save(scene / "disp_00.npy", np.nan_to_num(DISPARITY, nan=0))
    write_image(scene / "mask_00.png", np.where(HIDDEN, 0, 255).astype(np.uint8))
    write_image(scene / "mask_cat.png", np.where(GLASS, 3, 1).astype(np.uint8))


def make_instereo2k(root: Path) -> None:
    for split in ("train", "test"):
        scene = root / split / "000000"
        image(scene / "left.png", 10)
        image(scene / "right.png", 11)
        write_image(scene / "left_disp.png", np.rint(100 * np.nan_to_num(DISPARITY, nan=0)).astype(np.uint16))


def make_pairs(root: Path) -> None:
    for name in ("a", "b"):
        image(root / name / "left.png", 10)
        image(root / name / "right.png", 11)
        np.save(root / name / "disparity.npy", np.nan_to_num(DISPARITY, nan=0))


DOLP = RNG.uniform(0.1, 0.9, SIZE)


def make_rps(root: Path) -> None:
    for place, number in (("Office1", 9), ("Office1", 10), ("Outdoor", 9)):
        folder = root / "RPS" / place
        image(folder / f"l_{number}.png", 10)
        image(folder / f"r_{number}.png", 11)
        for side, dolp in (("L", DOLP), ("R", 1 - DOLP)):
            # Blue is DoLP and green AoLP; red is something else.
            stored = np.stack([np.full(SIZE, 7), np.full(SIZE, 15_708), np.rint(10_000 * dolp)], axis=-1)
            stored[0, 0] = (7, 0, 0)
            stored[0, 1] = (7, 15_708, 10_001)
            stored[0, 2] = (7, 15_708, 0)
            write_image(folder / f"lp{side}_{number}.png", stored.astype(np.uint16))
        disparity(folder / f"disp_{number}.pfm", np.nan_to_num(DISPARITY, nan=3))
        write_image(folder / f"v_{number}.png", np.where(np.isnan(DISPARITY), 0, 255).astype(np.uint8))


EVERY: dict[str, tuple[Callable[[Path], None], Callable[[Path], PlainPairs], list[str]]] = {
    "sceneflow": (
        make_sceneflow,
        sceneflow,
        [
            f"FlyingThings3D/frames_finalpass/{p}/left/{n}"
            for p in ("TEST/B/0001", "TRAIN/A/0000")
            for n in ("0006", "0007")
        ]
        + ["Monkaa/frames_finalpass/a_rain/left/0001"],
    ),
    "kitti": (make_kitti, kitti, ["image_2/000000_10", "colored_0/000000_10"]),
    "middlebury": (make_two_view, middlebury, ["Adirondack", "data/chess1"]),
    "eth3d": (make_eth3d, eth3d, ["Adirondack", "data/chess1"]),
    "instereo2k": (make_instereo2k, instereo2k, ["test/000000", "train/000000"]),
    "pairs": (make_pairs, pair_folders, ["a", "b"]),
    "rps": (make_rps, partial(rps, rig="none"), ["RPS/Office1/10", "RPS/Office1/9", "RPS/Outdoor/9"]),
    "booster": (make_booster, booster, ["train/balanced/Bathroom/im0", "train/balanced/Bathroom/im1"]),
}

STEP = {"kitti": 1 / 256, "instereo2k": 1 / 100}
"""px between two disparities that the files can hold; the other readers' files hold floats."""


@pytest.mark.parametrize("name", EVERY)
def test_pairs_are_found_and_read(tmp_path, name):
    make, read, identities = EVERY[name]
    make(tmp_path)
    samples = read(tmp_path)
    assert [pair.name for pair in samples.pairs] == identities
    assert len(samples) == len(identities)
    for index in range(len(samples)):
        sample = samples[index]
        assert (sample.rig, sample.name) == ("none", identities[index])
        # The right view is one step brighter than the left one of the same pair.
        np.testing.assert_allclose(255 * (sample.right - sample.left), 1, atol=1e-4)
        known = sample.valid[0].numpy() > 0
        np.testing.assert_array_equal(known, np.isfinite(DISPARITY))
        # Half a step, and float32's rounding of the largest.
        away = np.abs(sample.disparity[0].numpy()[known] - DISPARITY[known]).max()
        assert away <= (0.5 * STEP[name] + 1e-6 if name in STEP else 0)
        if name not in ("sceneflow", "instereo2k", "pairs", "rps"):
            np.testing.assert_array_equal(sample.occluded[0], HIDDEN & known)
        np.testing.assert_array_equal(sample.glass[0], GLASS if name == "booster" else np.full(SIZE, np.nan))
    # Workers get a copy.
    assert pickle.loads(pickle.dumps(samples))[0].name == identities[0]
    with pytest.raises(IndexError, match=f"got {len(samples)}"):
        samples[len(samples)]


@pytest.mark.parametrize("name", EVERY)
def test_every_reader_is_found_by_its_kind_and_recognizes_its_folder(tmp_path, name):
    make, _, names = EVERY[name]
    make(tmp_path)
    source = SOURCES[name].open(Request(str(tmp_path)))
    assert source.names == names
    assert (source.rig, len(source), set(source.splits)) == ("none", len(names), set())
    assert SOURCES[name].serves(Request(str(tmp_path)))
    assert SOURCES[name].serves(Request(str(tmp_path), rig="quad")) == (name == "rps")
    # ETH3D has Middlebury's names.
    first = next(kind for kind, reader in SOURCES.items() if reader.recognizes(tmp_path))
    assert first == ("middlebury" if name == "eth3d" else name)
    assert set(EVERY) | {"procedural", "scenes", "manifest"} == set(KINDS)


def test_sceneflow_under_other_names(tmp_path):
    """WebP, and the prefixes that many programs want."""
    for prefix, truth in (("monkaa_", "monkaa_disparity"), ("", "frames_disparity"), ("driving_", "driving_disparity")):
        for side in ("left", "right"):
            path = tmp_path / f"{prefix}frames_finalpass_webp/a/{side}/0001.webp"
            path.parent.mkdir(parents=True)
            cv2.imwrite(str(path), np.full((*SIZE, 3), 10, np.uint8))
        disparity(tmp_path / truth / "a/left/0001.pfm")
    samples = sceneflow(tmp_path)
    assert samples.names == [f"{prefix}frames_finalpass_webp/a/left/0001" for prefix in ("driving_", "", "monkaa_")]
    assert all(samples[index].valid.sum() == SIZE[0] * SIZE[1] - 1 for index in range(3))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_subset_for_dispnet_holds_x_right_minus_x_left(tmp_path, sign):
    values = sign * DISPARITY
    values[0, :3] = (-sign, 0, 42 * sign)
    for split in ("train", "val"):
        for side in ("left", "right"):
            image(tmp_path / split / "image_final" / side / "0000000.png", 10)
        disparity(tmp_path / split / "disparity/left/0000000.pfm", values)
    samples = sceneflow(tmp_path, split="val")
    assert samples.names == ["val/image_final/left/0000000"]
    sample = samples[0]
    # Unknown are the other sign, 0, what is as wide as the image, and what was.
    known = np.isfinite(DISPARITY)
    known[0, :3] = False
    np.testing.assert_array_equal(sample.valid[0] > 0, known)
    np.testing.assert_array_equal(sample.disparity[0].numpy()[known], DISPARITY[known])


def test_eth3d_in_two_folders(tmp_path):
    for name in ("delivery_area_1l", "forest_2s"):
        scene = tmp_path / "two_view_training" / name
        image(scene / "im0.png", 10)
        image(scene / "im1.png", 11)
        (scene / "calib.txt").write_text(CALIBRATION)
        disparity(tmp_path / "two_view_training_gt" / name / "disp0GT.pfm")
        mask = np.where(HIDDEN, 128, 255).astype(np.uint8)
        write_image(tmp_path / "two_view_training_gt" / name / "mask0nocc.png", mask)
    samples = eth3d(tmp_path)
    assert samples.names == ["two_view_training/delivery_area_1l", "two_view_training/forest_2s"]
    np.testing.assert_array_equal(samples[1].occluded[0], HIDDEN & np.isfinite(DISPARITY))
    assert samples.calibration(0).fx == 100


@pytest.mark.parametrize("place", ["training/calib_cam_to_cam", "calib_cam_to_cam", "training/calib"])
def test_kitti_calibrations_are_found_where_either_year_has_them(tmp_path, place):
    make_kitti(tmp_path)
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "000000.txt").touch()
    assert kitti(tmp_path).pairs[0].calibration == tmp_path / place / "000000.txt"


def test_wrong_disparities_of_a_benchmark_are_refused(tmp_path):
    make_kitti(tmp_path)
    for values, says in (
        (np.full(SIZE, np.nan, np.float32), "its disparity: got no disparity that is known"),
        (np.full(SIZE, 43, np.float32), "its disparity: got up to 43 px in 1428 of 1428 known pixels"),
    ):
        disparity(tmp_path / "training/disp_occ_0/000000_10.png", values)
        with pytest.raises(UsageError, match=says):
            kitti(tmp_path)[0]
    make_two_view(tmp_path / "m")
    disparity(tmp_path / "m/Adirondack/disp0.pfm", -DISPARITY)
    with pytest.raises(UsageError, match=r"got down to .* px \(1427 below 0\) \(all of them: is it x_right - x_left"):
        middlebury(tmp_path / "m")[0]


def polarized(root: Path, rig: str, channels: int = 1) -> PlainPairs:
    """A reader for a set with polarization maps is its pairs, and no more."""
    image(root / "left.png", 10)
    image(root / "right.png", 20)
    for side, value in (("left", 0.25), ("right", 0.5)):
        shape = SIZE if channels == 1 else (*SIZE, 3)
        dolp = np.full(shape, value, np.float32)
        dolp[3, 4] = np.nan
        np.save(root / f"{side}_dolp.npy", dolp)
    maps = (root / "left_dolp.npy", root / "right_dolp.npy")
    pair = PlainPair("one", root / "left.png", root / "right.png", lambda: GroundTruth(DISPARITY), maps=maps)
    return PlainPairs([pair], rig, channels)


@pytest.mark.parametrize("channels", [1, 3])
def test_pairs_may_have_polarization_maps(tmp_path, channels):
    sample = polarized(tmp_path, "quad", channels)[0]
    assert (sample.rig, sample.pol_left.shape) == ("quad", (channels, *SIZE))
    assert (sample.pol_left[0, 0, 0], sample.pol_right[0, 0, 0], sample.pol_right[0, 3, 4]) == (0.25, 0.5, 0)
    assert sample.valid_left.sum() == sample.valid_right.sum() == SIZE[0] * SIZE[1] - 1
    plain = polarized(tmp_path, "none", channels)[0]
    assert (plain.rig, plain.pol_left) == ("none", None)
    half = polarized(tmp_path, "quad-left", channels)[0]
    assert (half.valid_left.sum(), half.valid_right.sum()) == (SIZE[0] * SIZE[1] - 1, 0)


def test_a_map_may_be_what_returns_it(tmp_path):
    plain = polarized(tmp_path, "quad")
    maps = tuple(partial(np.load, path) for path in plain.pairs[0].maps)
    samples = PlainPairs([replace(plain.pairs[0], maps=maps)], "quad")
    for name in ("pol_left", "pol_right", "valid_left"):
        assert torch.equal(getattr(samples[0], name), getattr(plain[0], name))
    broken = replace(plain.pairs[0], maps=(lambda: np.full(SIZE, 2.0), None))
    with pytest.raises(UsageError, match=r"left\.png: left map: got values from 2 to 2, wanted \[-1, 1\]"):
        PlainPairs([broken], "quad")[0]


def test_pairs_may_be_frames():
    light = torch.rand(1, 3, *SIZE, generator=torch.manual_seed(0)) * torch.tensor([1, 0.2, 0.2]).view(3, 1, 1) + 0.3
    frames = tuple(Frame(light + place, None, torch.ones(1, *SIZE)) for place in (0, 0.1))
    pair = PlainPair("one", Path("left"), Path("right"), lambda: GroundTruth(DISPARITY), frames=lambda: frames)
    sample = PlainPairs([pair], "quad")[0]
    for name, tensor in StereoInputs.from_frames(*frames, "quad").kwargs().items():
        assert torch.equal(sample.inputs.kwargs()[name], tensor)


def test_rps_has_the_dolp_that_its_files_hold(tmp_path):
    make_rps(tmp_path)
    sample = rps(tmp_path)[0]
    assert (sample.rig, sample.pol_left.shape) == ("quad", (1, *SIZE))
    # Not known: DoLP and AoLP 0, and DoLP above 1. A DoLP of 0 with an angle was measured.
    known = np.ones(SIZE, bool)
    known[0, :2] = False
    wanted = DOLP.copy()
    wanted[0, 2] = 0
    for valid in (sample.valid_left, sample.valid_right):
        np.testing.assert_array_equal(valid[0] > 0, known)
    np.testing.assert_allclose(sample.pol_left[0].numpy()[known], wanted[known], atol=1e-4)
    np.testing.assert_allclose(sample.pol_right[0].numpy()[1:], 1 - DOLP[1:], atol=1e-4)
    half = rps(tmp_path, "quad-left")[0]
    assert (half.rig, half.valid_left.sum(), half.valid_right.sum()) == ("quad-left", known.sum(), 0)
    assert pickle.loads(pickle.dumps(rps(tmp_path)))[2].name == "RPS/Outdoor/9"


def test_rps_has_the_splits_whose_lists_are_there(tmp_path):
    make_rps(tmp_path)
    reader, asked = SOURCES["rps"], Request(str(tmp_path), "quad")
    assert not set(reader.named_splits(asked))
    (tmp_path / "RPS_Dataset_TRAIN.list").write_text("RPS/Office1\t10\nRPS/Outdoor\t9\n")
    (tmp_path / "RPS_Dataset_VAL.list").write_text("RPS/Office1\t9\n")
    assert set(reader.named_splits(asked)) == {"train", "val"}
    assert rps(tmp_path, split="train").names == ["RPS/Office1/10", "RPS/Outdoor/9"]
    assert reader.open(replace(asked, split="val")).names == ["RPS/Office1/9"]
    with pytest.raises(UsageError, match=r"got split 'test', wanted RPS_Dataset_TEST\.list in it"):
        rps(tmp_path, split="test")
    (tmp_path / "RPS_Dataset_VAL.list").write_text("RPS/Office1\n")
    with pytest.raises(UsageError, match=r"VAL\.list: line 1: got 'RPS/Office1', wanted a folder and a number"):
        rps(tmp_path, split="val")


def test_rps_refuses_what_it_cannot_say(tmp_path):
    make_rps(tmp_path)
    asked = Request(str(tmp_path), "quad")
    with pytest.raises(UsageError, match="got a network of 3 polarization channels, wanted one of 1"):
        SOURCES["rps"].open(replace(asked, pol_channels=3))
    assert len(SOURCES["rps"].open(replace(asked, rig="none", pol_channels=3))) == 3
    with pytest.raises(UsageError, match="wanted pairs without polarization for virtual_glass"):
        SOURCES["rps"].open(replace(asked, plain=True))
    with pytest.raises(UsageError, match="got rig crossed, wanted one of quad, quad-left, none for RPS"):
        rps(tmp_path, "crossed")
    write_image(tmp_path / "RPS/Office1/lpL_10.png", np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(UsageError, match=r"lpL_10\.png: got uint8 of shape \(34, 42, 3\), wanted uint16 in color"):
        rps(tmp_path)[0]


def test_choices(tmp_path):
    make_sceneflow(tmp_path)
    make_booster(tmp_path / "b")
    assert len(sceneflow(tmp_path, split="TRAIN")) == 2
    assert len(sceneflow(tmp_path / "FlyingThings3D")) == 4
    with pytest.raises(UsageError, match="got no pair in it, wanted frames_cleanpass"):
        sceneflow(tmp_path, "cleanpass")
    assert len(booster(tmp_path / "b", "first")) == 1


def test_calibrations(tmp_path):
    make_two_view(tmp_path / "m")
    make_booster(tmp_path / "b")
    calibration = middlebury(tmp_path / "m").calibration(1)
    assert (calibration.fx, calibration.cx_right, round(calibration.baseline_m, 6)) == (100, 23, 0.193)
    assert booster(tmp_path / "b").calibration(0) is None
    alone = middlebury(tmp_path / "m/Adirondack")
    assert [pair.name for pair in alone.pairs] == ["Adirondack"]


def test_without_masks(tmp_path):
    for make in (make_kitti, make_two_view, make_booster):
        make(tmp_path / make.__name__)
    for path in tmp_path.rglob("*"):
        if path.name.startswith("mask") or path.parent.name.startswith("disp_noc"):
            path.unlink()
    for name, read in (("make_kitti", kitti), ("make_two_view", middlebury), ("make_booster", booster)):
        sample = read(tmp_path / name)[0]
        assert sample.occluded[0, :, 0].mean() > 0.9  # out of the right frame: disparities are above 1
        assert sample.glass.isnan().all()


@pytest.mark.parametrize("name", EVERY)
def test_a_folder_without_pairs(tmp_path, name):
    _, read, _ = EVERY[name]
    with pytest.raises(UsageError, match=f"{tmp_path.name}: got no pair in it, wanted"):
        read(tmp_path)
    with pytest.raises(MissingFileError, match="nothing: no such folder"):
        read(tmp_path / "nothing")


def test_damaged_files_are_named(tmp_path):
    make_two_view(tmp_path)
    samples = middlebury(tmp_path)
    cv2.imwrite(str(tmp_path / "Adirondack/mask0nocc.png"), np.zeros((33, 42), np.uint8))
    with pytest.raises(UsageError, match=r"Adirondack/mask0nocc\.png: got 42x33 px, wanted 42x34 px"):
        samples[0]
    (tmp_path / "data/chess1/im1.png").write_bytes(b"")
    with pytest.raises(UsageError, match=r"chess1/im1\.png: got an empty file"):
        samples[1]
    cv2.imwrite(str(tmp_path / "data/chess1/im1.png"), np.zeros((40, 42, 3), np.uint8))
    with pytest.raises(UsageError, match=r"chess1/im0\.png: got 42x34 px, wanted 42x40 px as its right view"):
        samples[1]
