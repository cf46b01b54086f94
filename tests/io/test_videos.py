"""Videos as OpenCV writes and reads them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from crosspol.errors import MissingFileError, UsageError
from crosspol.io.videos import Video


@pytest.fixture
def film(tmp_path: Path) -> tuple[Path, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    frames = [cv2.resize(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8), (48, 32)) for _ in range(5)]
    path = tmp_path / "film.mkv"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 20, (48, 32))
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    return path, frames


def test_frames_come_in_rgb_with_their_times(film: tuple[Path, list[np.ndarray]]) -> None:
    path, frames = film
    with Video(path) as video:
        assert (video.width, video.height, video.count, video.fps) == (48, 32, 5, 20)
        assert video.time is None
        for index, frame in enumerate(frames):
            found = video.read()
            assert found is not None
            assert (found.dtype, found.shape) == (np.uint8, (32, 48, 3))
            assert np.abs(found.astype(int) - frame).mean() < 2
            assert video.time == pytest.approx(index / 20, abs=1e-3)
        assert video.read() is None
        assert not video.skip()


def test_frames_that_are_passed_over_count(film: tuple[Path, list[np.ndarray]]) -> None:
    path, frames = film
    with Video(path) as video:
        assert video.skip()
        assert video.skip()
        found = video.read()
        assert found is not None
        assert np.abs(found.astype(int) - frames[2]).mean() < 2
        assert video.time == pytest.approx(0.1, abs=1e-3)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"none\.mp4: no such file"):
        Video(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_bytes(b"text" * 100)
    with pytest.raises(UsageError, match=r"text\.mp4: got 400 bytes that are no video, wanted a video"):
        Video(tmp_path / "text.mp4")
