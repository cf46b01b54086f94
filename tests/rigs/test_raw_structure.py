"""Raw frames are told from ordinary images, however fine the texture of these."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from crosspol.rigs.raw_structure import looks_like_mosaic
from tests.rig_frames import raw, views

MOSAICS = Path("/work/shared/data/real/mosaics")
RNG = np.random.default_rng(0)
NOISE = RNG.random((256, 320)).astype(np.float32)
Y, X = np.mgrid[:256, :320]


def jpeg(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    _, data = cv2.imencode(".jpg", (255 * image).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 50])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))


@pytest.mark.parametrize("dolp", [0.1, 0.5])
def test_a_mosaic_of_polarizers(dolp: float) -> None:
    frame = raw(views(dolp=dolp)[0]).numpy()
    assert looks_like_mosaic(frame)
    assert looks_like_mosaic(np.repeat(frame[..., None], 3, axis=-1))
    assert looks_like_mosaic((65535 * frame).astype(np.uint16))


def test_a_mosaic_of_colors() -> None:
    photo = np.stack([0.3 + 0.2 * NOISE, 0.4 + 0.2 * NOISE, 0.2 + 0.2 * NOISE])
    smooth = np.stack([cv2.GaussianBlur(plane, (0, 0), 2) for plane in photo])
    bayer = smooth[1].copy()
    bayer[::2, ::2], bayer[1::2, 1::2] = smooth[0, ::2, ::2], smooth[2, 1::2, 1::2]
    assert looks_like_mosaic(bayer)
    assert not looks_like_mosaic(np.moveaxis(smooth, 0, -1))


@pytest.mark.parametrize(
    "image",
    [
        views()[0][0].numpy(),
        NOISE,
        cv2.GaussianBlur(NOISE, (0, 0), 0.8),
        cv2.resize(NOISE, None, fx=2, fy=2),
        np.kron(NOISE, np.ones((2, 2), np.float32)),
        (X / 320).astype(np.float32),
        np.kron((X / 320)[::2, ::2], np.ones((2, 2))),
        (NOISE < X / 320).astype(np.uint8),
        0.5 + 0.4 * np.sin(2 * np.pi * X / 2.3),
        0.5 + 0.4 * np.sin(2 * np.pi * (X + Y) / 3),
        ((X // 2 + Y // 2) % 2).astype(np.uint8),
        jpeg(NOISE),
        np.zeros((64, 64), np.uint8),
        np.zeros((20, 20), np.uint8),
    ],
    ids=lambda image: str(image.shape),
)
def test_ordinary_images_pass(image: NDArray[np.float32]) -> None:
    assert not looks_like_mosaic(image)


@pytest.mark.skipif(not MOSAICS.is_dir(), reason=f"the real mosaics are not in {MOSAICS}")
def test_real_raw_frames() -> None:
    frames = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(MOSAICS.glob("*.png"))]
    assert frames
    assert all(looks_like_mosaic(frame) for frame in frames)
    # One angle of them is an ordinary image.
    assert not any(looks_like_mosaic(frame[::2, ::2]) for frame in frames)
