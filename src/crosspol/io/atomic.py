"""Files written whole: a file is complete, or as it was."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_bytes(path: str | os.PathLike[str], data: bytes | memoryview) -> Path:
    """Write a file completely or not at all: whoever looks, whenever, finds the old content or the new one.

    The content goes into a neighbor first, is flushed to the disk, and gets its name in one step.

    Raises:
        OSError: the folder is missing or cannot be written, or the disk is full; no partial file remains, and the old
            content is still there.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    return path
