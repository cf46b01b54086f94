"""Readers of well-known data sets, on tiny copies of their layouts."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from crosspol.datasets.benchmarks import PlainPairs, booster, eth3d, kitti, middlebury, sceneflow
from crosspol.errors import MissingFileError, UsageError
from crosspol.io.disparity import write_disparity
from crosspol.io.images import write_image

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
    "booster": (make_booster, booster, ["train/balanced/Bathroom/im0", "train/balanced/Bathroom/im1"]),
}


@pytest.mark.parametrize("name", EVERY)
def test_pairs_are_found_and_read(tmp_path, name):
    make, read, identities = EVERY[name]
    make(tmp_path)
    samples = read(tmp_path)
    assert [pair.name for pair in samples.pairs] == identities
    assert len(samples) == len(identities)
    for index in range(len(samples)):
        sample = samples[index]
        assert (sample.rig, sample.identity) == ("none", identities[index])
        # The right view is one step brighter than the left one of the same pair.
        np.testing.assert_allclose(255 * (sample.right - sample.left), 1, atol=1e-4)
        known = sample.valid[0].numpy() > 0
        np.testing.assert_array_equal(known, np.isfinite(DISPARITY))
        np.testing.assert_allclose(sample.disparity[0].numpy()[known], DISPARITY[known], atol=0.5 / 256)
        if name != "sceneflow":
            np.testing.assert_array_equal(sample.occluded[0], HIDDEN & known)
        np.testing.assert_array_equal(sample.glass[0], GLASS if name == "booster" else np.zeros(SIZE))
    # Workers get a copy.
    assert pickle.loads(pickle.dumps(samples))[0].identity == identities[0]
    with pytest.raises(IndexError, match=f"got {len(samples)}"):
        samples[len(samples)]


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
        assert not sample.glass.any()


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
