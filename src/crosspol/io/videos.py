"""Videos, frame by frame, each with its time: what OpenCV decodes."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from crosspol.errors import UsageError
from crosspol.io.reading import check_file
from crosspol.limits import MAXIMUM_PIXELS

__all__ = ["VIDEO_SUFFIXES", "Video"]

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
"""Files that are taken for videos."""


class Video:
    """A video that is read from its beginning to its end.

        with Video("left.mp4") as video:
            while (frame := video.read()) is not None:
                ...

    Args:
        path: the file.

    Attributes:
        path: the file.
        width, height: px.
        count: frames, as its header says, which may be a little wrong; None where it does not say.
        time: of the frame read last, s from the first one on; None before, and where the file does not say.
        fps: frames a second, as its header says; None where it does not.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is no video that can be decoded.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        import cv2

        self.path = Path(path)
        check_file(self.path, sys.maxsize)
        # FFmpeg prints what it stumbles over; OpenCV looks at this when it opens its first video.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        level = cv2.utils.logging.getLogLevel()
        # Decoders print their own complaints; the one line that the caller gets is ours.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            self._capture = cv2.VideoCapture(str(self.path))
            opened = self._capture.isOpened()
        finally:
            cv2.utils.logging.setLogLevel(level)
        self.width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)) if opened else 0
        self.height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) if opened else 0
        if self.width < 1 or self.height < 1:
            self._capture.release()
            raise UsageError(f"{self.path}: got {self.path.stat().st_size} bytes that are no video, wanted a video")
        if self.width * self.height > MAXIMUM_PIXELS:
            self._capture.release()
            found = f"{self.width}x{self.height} px"
            raise UsageError(f"{self.path}: the header claims {found}, wanted at most {MAXIMUM_PIXELS} px")
        count, fps = self._capture.get(cv2.CAP_PROP_FRAME_COUNT), self._capture.get(cv2.CAP_PROP_FPS)
        self.count = int(count) if math.isfinite(count) and count > 0 else None
        self.fps = float(fps) if math.isfinite(fps) and fps > 0 else None
        self.time: float | None = None
        self._begin: float | None = None

    def read(self) -> NDArray[np.uint8] | None:
        """Return the next frame, (H, W, 3) in RGB; None at the end.

        A frame that cannot be decoded is passed over by the decoder without a word. `time` then has a gap, or where a
        file has no times of its own, such as AVI, fewer frames come than `count`.
        """
        found, frame = self._capture.read()
        if not found:
            return None
        self._note_time()
        image = np.asarray(frame, np.uint8)
        if image.ndim == 2:
            image = image[..., None]
        return np.ascontiguousarray(np.broadcast_to(image[..., ::-1], (*image.shape[:2], 3)))

    def skip(self) -> bool:
        """Pass over the next frame without decoding its colors; False at the end."""
        found = self._capture.grab()
        if found:
            self._note_time()
        return found

    def _note_time(self) -> None:
        import cv2

        seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self._begin is None:
            self._begin = seconds
        elif seconds == self._begin:
            # Not one that moves: the file has no times.
            self.time = None
            return
        self.time = seconds - self._begin

    def close(self) -> None:
        """Release the file."""
        self._capture.release()

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
