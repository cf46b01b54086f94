"""Files that are read otherwise than they were written: what gives it away, and which value mends it."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from crosspol.checks.report import Report
from crosspol.checks.rig import check_rig
from crosspol.rigs.rig import Camera, Rig, default_rig
from tests.rig_frames import HEIGHT, WIDTH, eight_bits, raw, room, views

SCENES = {"canvas": views, "room 9": lambda: room("1-000009-quad"), "room 19": lambda: room("1-000019-quad")}
scenes = pytest.mark.parametrize("scene", SCENES)


@functools.cache
def twelve_bits(scene: str) -> NDArray[np.uint16]:
    return np.rint(4095 * raw(SCENES[scene]()[0]).numpy()).astype(np.uint16)


def packed(values: NDArray[np.uint16], packing: str) -> bytes:
    first, second = values.reshape(-1)[::2].astype(int), values.reshape(-1)[1::2].astype(int)
    if packing == "p":
        stored = [first & 0xFF, first >> 8 | (second & 0xF) << 4, second >> 4]
    else:
        stored = [first >> 4, first & 0xF | (second & 0xF) << 4, second >> 4]
    return np.stack(stored, axis=1).astype(np.uint8).tobytes()


def check(path: Path, **camera: object) -> Report:
    return check_rig(Rig(kind="quad", camera=Camera(**camera)), [path])  # type: ignore[arg-type]


def texts(report: Report, topic: str) -> list[str]:
    return [finding.text for finding in report.wrong if finding.topic == topic]


@scenes
@pytest.mark.parametrize("packing", ["p", "Packed"])
def test_packed_bits_read_in_the_other_order(tmp_path: Path, scene: str, packing: str) -> None:
    path = tmp_path / "left.raw"
    path.write_bytes(packed(twelve_bits(scene), packing))
    right = check(path, pixel_format=f"Mono12{packing}", width=WIDTH, height=HEIGHT)
    assert right.wrong == []
    np.testing.assert_allclose(right.frames["left"].image.mean(), twelve_bits(scene).mean() / 4095, rtol=0.02)
    other = {"p": "Packed", "Packed": "p"}[packing]
    report = check(path, pixel_format=f"Mono12{other}", width=WIDTH, height=HEIGHT)
    assert [finding.topic for finding in report.wrong] == ["format"]
    assert report.wrong[0].text.endswith(f"set pixel_format: Mono12{packing}")
    assert [finding.topic for finding in report.unsure] == ["layout"]


@scenes
@pytest.mark.parametrize("pixel_format", ["Mono8", "Mono12"])
def test_width_and_height_exchanged(tmp_path: Path, scene: str, pixel_format: str) -> None:
    path = tmp_path / "left.raw"
    values = twelve_bits(scene)
    path.write_bytes((values >> 4).astype(np.uint8).tobytes() if pixel_format == "Mono8" else values.tobytes())
    assert check(path, pixel_format=pixel_format, width=WIDTH, height=HEIGHT).wrong == []
    report = check(path, pixel_format=pixel_format, width=HEIGHT, height=WIDTH)
    assert [finding.topic for finding in report.wrong] == ["format"]
    assert report.wrong[0].text.endswith(f"exchange them, width: {WIDTH}, height: {HEIGHT}")


def test_another_width_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "left.raw"
    path.write_bytes(twelve_bits("canvas").tobytes())
    report = check(path, pixel_format="Mono12", width=384, height=200)
    assert texts(report, "format")[0].endswith(f"width: {WIDTH}, height: {HEIGHT} fits")


def test_bytes_in_the_wrong_order_are_no_image(tmp_path: Path) -> None:
    path = tmp_path / "left.raw"
    path.write_bytes((twelve_bits("canvas") << 4).byteswap().tobytes())
    report = check(path, pixel_format="Mono16", width=WIDTH, height=HEIGHT)
    assert "neighboring pixels have nothing in common" in texts(report, "format")[0]


def test_an_even_frame_of_noise_may_be_right(tmp_path: Path) -> None:
    path = tmp_path / "left.raw"
    noise = 0.4 + 0.003 * torch.randn(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    path.write_bytes(eight_bits(noise).tobytes())
    assert check(path, pixel_format="Mono8", width=WIDTH, height=HEIGHT).wrong == []


@pytest.mark.parametrize("period", [3, 4, 8, 15.7, 40])
@pytest.mark.parametrize("down", [True, False])
def test_stripes_are_not_a_wrong_width(tmp_path: Path, period: float, down: bool) -> None:
    path = tmp_path / "left.raw"
    y, x = torch.arange(HEIGHT)[:, None], torch.arange(WIDTH)[None]
    rows = torch.sin((y if down else x) * (2 * torch.pi / period)).expand(HEIGHT, WIDTH)
    noise = 0.003 * torch.randn(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    path.write_bytes(eight_bits(0.4 + 0.2 * rows + noise).tobytes())
    assert texts(check(path, pixel_format="Mono8", width=WIDTH, height=HEIGHT), "format") == []


@scenes
@pytest.mark.parametrize("quality", [75, 90, 95])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_mosaic_that_was_a_jpeg(tmp_path: Path, scene: str, quality: int, suffix: str) -> None:
    stored = (twelve_bits(scene) >> 4).astype(np.uint8)
    assert cv2.imwrite(str(tmp_path / "left.jpg"), stored, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imread(str(tmp_path / "left.jpg"), cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    path = tmp_path / f"left{suffix}"
    if suffix == ".png":
        assert cv2.imwrite(str(path), decoded)
    report = check_rig(default_rig("quad"), [path])
    assert "JPEG mixes the angles" in texts(report, "compression")[0]
    assert cv2.imwrite(str(tmp_path / "raw.png"), stored)
    assert check_rig(default_rig("quad"), [tmp_path / "raw.png"]).wrong == []


def test_photographs_may_be_jpegs(tmp_path: Path) -> None:
    paths = [tmp_path / "left.jpg", tmp_path / "right.jpg"]
    for path, (s0, _, _) in zip(paths, views(), strict=True):
        assert cv2.imwrite(str(path), eight_bits(s0.clamp(0, 1) ** (1 / 2.2)))
    assert check_rig(default_rig("none"), paths).wrong == []
