"""A rig made ready: what is read once is read once, and what headers say is refused without pixels."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pytest
import torch

from crosspol.errors import MissingFileError, UsageError
from crosspol.io.images import write_image
from crosspol.rigs import frames, reader, recordings
from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.calibration_files import read_calibration, write_calibration
from crosspol.rigs.reader import RigReader
from crosspol.rigs.rectification import rectification, resample
from crosspol.rigs.rig import Camera, Rig, default_rig

HEIGHT, WIDTH = 40, 52


def write_raw(folder: Path, *names: str, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    for seed, name in enumerate(names):
        write_image(folder / name, np.random.default_rng(seed).integers(100, 60000, shape, dtype=np.uint16))


def write_stereo(folder: Path, roll: float = 0.05) -> None:
    matrix = np.array([[60.0, 0, 25.5], [0, 60, 19.5], [0, 0, 1]])
    turn = cv2.Rodrigues(np.array([0, 0, roll]))[0]
    storage = cv2.FileStorage(str(folder / "stereo.yml"), cv2.FileStorage_WRITE)
    for name, value in {"M1": matrix, "D1": np.zeros(5), "M2": matrix, "D2": np.zeros(5), "R": turn}.items():
        storage.write(name, value)
    storage.write("T", turn @ np.array([[-0.1], [0], [0]]))
    storage.write("image_width", WIDTH)
    storage.write("image_height", HEIGHT)
    storage.release()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often calibrations and files are read and maps are made."""
    counted: Counter[str] = Counter()
    for module, name in (
        (reader, "read_calibration"),
        (reader, "rectification"),
        (recordings, "read_image_file"),
        (frames, "read_stored"),
    ):

        def call(*arguments: object, _name: str = name, _own: object = getattr(module, name)) -> object:
            counted[_name] += 1
            return _own(*arguments)  # type: ignore[operator]

        monkeypatch.setattr(module, name, call)
    return counted


def test_every_file_is_read_once_and_maps_are_made_once_a_size(tmp_path: Path, calls: Counter[str]) -> None:
    write_stereo(tmp_path)
    replace(default_rig("quad"), calibration="stereo.yml").write(tmp_path / "rig.yaml")
    write_raw(tmp_path, "l0.png", "r0.png", "l1.png", "r1.png")
    rig = RigReader(tmp_path / "rig.yaml")
    for index in range(2):
        rig.check(tmp_path / f"l{index}.png", tmp_path / f"r{index}.png")
    assert calls == {"read_calibration": 1}
    pairs = [rig.read(tmp_path / f"l{index}.png", tmp_path / f"r{index}.png") for index in range(2)]
    assert calls == {"read_calibration": 1, "rectification": 1, "read_image_file": 4, "read_stored": 4}

    maps = rectification(read_calibration(tmp_path / "stereo.yml"), (HEIGHT, WIDTH), (HEIGHT, WIDTH))
    for index, pair in enumerate(pairs):
        raw = RigReader(rig.rig).frames(tmp_path / f"l{index}.png", tmp_path / f"r{index}.png")
        left, right = resample(raw[0], maps.left), resample(raw[1], maps.right)
        for found, expected in ((pair.left, left), (pair.right, right)):
            assert found.stokes is not None
            assert expected.stokes is not None
            torch.testing.assert_close(found.stokes, expected.stokes, rtol=0, atol=0)
            torch.testing.assert_close(found.valid, expected.valid, rtol=0, atol=0)
        assert pair.calibration is not None
        assert pair.calibration.baseline_m == maps.calibration.baseline_m
        assert pair.warnings == ()


def test_without_a_calibration_frames_pass_as_they_are(tmp_path: Path) -> None:
    write_raw(tmp_path, "l.png", "r.png")
    pair = RigReader(default_rig("quad")).read(tmp_path / "l.png", tmp_path / "r.png")
    left, _ = RigReader(default_rig("quad")).frames(tmp_path / "l.png", tmp_path / "r.png")
    assert pair.calibration is None
    assert left.stokes is not None
    assert pair.left.stokes is not None
    assert torch.equal(pair.left.stokes, left.stokes)


def test_warnings_come_with_the_pair(tmp_path: Path) -> None:
    write_stereo(tmp_path, roll=0.3)
    write_raw(tmp_path, "l.png", "r.png")
    rig = Rig(kind="crossed", camera=Camera(content="image"), calibration="stereo.yml", folder=tmp_path)
    turned = RigReader(rig).read(tmp_path / "l.png", tmp_path / "r.png").warnings
    assert [message.split(" by ")[0] for message in turned] == [
        "rectification turns the right image",
    ]
    millimeters = StereoCalibration.of_rectified(fx=60, fy=60, cx_left=25, cx_right=25, cy=19, baseline_m=120)
    write_calibration(tmp_path / "calibration.json", millimeters)
    (warning,) = (
        RigReader(replace(rig, calibration="calibration.json")).read(tmp_path / "l.png", tmp_path / "r.png").warnings
    )
    assert "mm" in warning


def test_swapped_views_are_swapped(tmp_path: Path) -> None:
    write_raw(tmp_path, "l.png", "r.png")
    swapped = RigReader(replace(default_rig("quad"), swap_views=True))
    pair = swapped.read(tmp_path / "l.png", tmp_path / "r.png")
    straight = RigReader(default_rig("quad")).read(tmp_path / "r.png", tmp_path / "l.png")
    assert torch.equal(pair.left.image, straight.left.image)
    assert swapped.files(tmp_path / "l.png", tmp_path / "r.png") == [tmp_path / "r.png", tmp_path / "l.png"]


def no_pixels(*_: object) -> None:
    raise AssertionError("pixels were read")


def test_check_refuses_by_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_raw(tmp_path, "l.png", "r.png")
    write_raw(tmp_path, "small.png", shape=(HEIGHT - 2, WIDTH))
    write_image(tmp_path / "color.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    cv2.imwritemulti(str(tmp_path / "pages.tif"), [np.zeros((HEIGHT, WIDTH), np.uint8)] * 2)
    np.save(tmp_path / "words.npy", np.full((HEIGHT, WIDTH), "a"))
    (tmp_path / "cut.png").write_bytes((tmp_path / "l.png").read_bytes()[:-40])
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"Z": np.zeros((HEIGHT, WIDTH), np.float32)}).write(str(tmp_path / "depth.exr"))
    (tmp_path / "short.raw").write_bytes(b"\0" * 99)
    for name in ("read_image_file", "read_exr_channels", "unpack"):
        monkeypatch.setattr(recordings, name, no_pixels)
    plain = RigReader(default_rig("quad"))
    plain.check(tmp_path / "l.png", tmp_path / "r.png")
    for name, says in (
        ("none.png", "no such file"),
        ("small.png", "got 52x38 px, wanted 52x40 px as the left view, or a calibration"),
        ("pages.tif", r"got 2 images \(pages\) in one file"),
        ("words.npy", "wanted an array of numbers"),
        ("cut.png", "truncated or damaged PNG"),
        ("depth.exr", "got the channels Z, wanted R, G, B or Y"),
        ("short.raw", "needs pixel_format, width and height"),
    ):
        with pytest.raises(UsageError, match=rf"{name}: .*{says}"):
            plain.check(tmp_path / "l.png", tmp_path / name)
    raw = RigReader(Rig(kind="quad", camera=Camera(pixel_format="Mono12p", width=WIDTH, height=HEIGHT)))
    with pytest.raises(UsageError, match=r"short\.raw: got 99 bytes, wanted 3120"):
        raw.check(tmp_path / "short.raw", tmp_path / "short.raw")
    write_raw(tmp_path, "0.png", "45.png", "90.png", "135.png", "l_0.png")
    angles = RigReader(Rig(kind="quad", camera=Camera(content="angles")))
    with pytest.raises(MissingFileError, match=r"l_45\.png"):
        angles.check(str(tmp_path / "{angle}.png"), str(tmp_path / "l_{angle}.png"))


def test_check_refuses_another_size_than_calibrated(tmp_path: Path) -> None:
    write_stereo(tmp_path)
    write_raw(tmp_path, "l.png", "r.png", shape=(HEIGHT, WIDTH + 2))
    ready = RigReader(replace(default_rig("quad"), calibration="stereo.yml", folder=tmp_path))
    for read in (ready.check, ready.read):
        with pytest.raises(UsageError, match=r"stereo\.yml: left view: got 54x40 px, wanted 52x40 px as calibrated"):
            read(tmp_path / "l.png", tmp_path / "r.png")


@pytest.mark.parametrize("content", ["mosaic", "angles", "stokes", "image"])
def test_what_headers_pass_is_read(content: str, tmp_path: Path) -> None:
    planes = {"angles": 4, "stokes": 3}.get(content, 1)
    stored = np.random.default_rng(0).uniform(0, 0.5, (planes, HEIGHT, WIDTH)).astype(np.float32).squeeze()
    np.save(tmp_path / "a.npy", stored)
    kind = "none" if content == "image" else "quad"
    ready = RigReader(Rig(kind=kind, camera=Camera(content=content)))  # type: ignore[arg-type]
    ready.check(tmp_path / "a.npy", tmp_path / "a.npy")
    assert ready.read(tmp_path / "a.npy", tmp_path / "a.npy").left.size == (HEIGHT, WIDTH)


def test_only_a_few_sizes_are_kept(tmp_path: Path) -> None:
    write_stereo(tmp_path)
    text = (tmp_path / "stereo.yml").read_text()
    lines = [line for line in text.splitlines() if "image_" not in line]
    (tmp_path / "stereo.yml").write_text("\n".join(lines) + "\n")
    ready = RigReader(replace(default_rig("quad"), calibration="stereo.yml", folder=tmp_path))
    for extra in range(0, 14, 2):
        write_raw(tmp_path, "l.png", "r.png", shape=(HEIGHT, WIDTH + extra))
        assert ready.read(tmp_path / "l.png", tmp_path / "r.png").left.size == (HEIGHT, WIDTH + extra)
    assert len(ready._maps) == 4
