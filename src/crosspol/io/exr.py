"""OpenEXR files as planes by name."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosspol.errors import UsageError
from crosspol.io.atomic import placing
from crosspol.io.reading import check_decoded, check_file
from crosspol.limits import MAXIMUM_PIXELS

_HEAD_BYTES = 8
"""Of the magic number and the version."""


def read_exr_header(path: Path) -> tuple[int, int, list[str]]:
    """Return width and height, px, and the names of the channels, without reading pixels.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is no EXR of one part of scan lines, larger than `MAXIMUM_PIXELS`, or has channels of several
            sizes.
    """
    import OpenEXR

    stored = check_file(path)
    try:
        with _without_output(), OpenEXR.File(str(path), header_only=True) as file:
            header = file.header()
            (x0, y0), (x1, y1) = header["dataWindow"]
            names = [channel.name for channel in header["channels"]]
            samplings = {(channel.xSampling, channel.ySampling) for channel in header["channels"]}
            plain = len(file.parts) == 1 and header["type"] == OpenEXR.scanlineimage
    except Exception as error:
        # What a damaged header raises depends on where it is damaged.
        raise UsageError(f"{path}: not a complete EXR ({_reason(error)})") from error
    width, height = int(x1) - int(x0) + 1, int(y1) - int(y0) + 1
    if not plain:
        raise UsageError(f"{path}: got a tiled, deep or multi-part EXR, wanted one part of scan lines")
    if width < 1 or height < 1 or width * height > MAXIMUM_PIXELS:
        raise UsageError(f"{path}: the header claims {width}x{height} px, wanted at most {MAXIMUM_PIXELS} px")
    if len(samplings) != 1:
        raise UsageError(f"{path}: got channels of different sizes, wanted one size")
    check_decoded(path, stored, width * height * len(names) * np.dtype(np.float32).itemsize)
    return width, height, names


def read_exr_channels(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the channels (H, W) of an EXR by their names.

    Raises:
        MissingFileError: there is no such file.
        UsageError: as `read_exr_header`, or the file is cut off or damaged.
    """
    import OpenEXR

    width, height, names = read_exr_header(path)
    try:
        with _without_output(), OpenEXR.File(str(path), separate_channels=True) as file:
            found = {name: np.asarray(channel.pixels, np.float32) for name, channel in file.channels().items()}
    except Exception as error:
        raise UsageError(f"{path}: got a truncated EXR, or a damaged one, wanted a complete image") from error
    if found.keys() != set(names) or any(channel.shape != (height, width) for channel in found.values()):
        raise UsageError(f"{path}: got channels of different sizes, wanted one size")
    return found


def write_exr_channels(
    path: str | os.PathLike[str], channels: Mapping[str, NDArray[np.floating]], attributes: Mapping[str, str]
) -> Path:
    """Write planes (H, W), half floats or floats, by their names; the file appears complete or not at all.

    Args:
        path: of the file.
        channels: of one size.
        attributes: more entries of the header.

    Raises:
        OSError: it cannot be written.
    """
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, **attributes}
    planes = {name: np.ascontiguousarray(plane) for name, plane in channels.items()}
    with placing(path) as part:
        try:
            with _without_output():
                OpenEXR.File(header, planes).write(str(part))
        except RuntimeError as error:
            # The library has no type of its own for a disk that is full.
            reason = _reason(error).rpartition('". ')[2].rstrip(".")
            raise OSError(errno.EIO, reason, str(path)) from error
        # What fails while the library closes a file it passes over.
        if not _is_whole(part.read_bytes()):
            raise OSError(errno.EIO, "not all of it could be written", str(path))
    return Path(path)


def _is_whole(data: bytes) -> bool:
    """Whether an EXR of scan lines has the table of its chunks, which is written last, and all chunks up to its end."""
    try:
        table = _end_of_header(data)
    except ValueError:
        return False
    first = int.from_bytes(data[table : table + 8], "little")
    if not table < first <= len(data) or (first - table) % 8:
        return False
    starts = np.frombuffer(data[table:first], "<i8").tolist()
    # A chunk: its first row, its size, its bytes.
    ends = [start + 8 + int.from_bytes(data[start + 4 : start + 8], "little") for start in starts]
    return bool(starts[1:] == ends[:-1] and ends[-1] == len(data))


def _end_of_header(data: bytes) -> int:
    at = _HEAD_BYTES
    while data[at : at + 1] != b"\0":
        # An attribute: name, type, size, value.
        after_type = data.index(b"\0", data.index(b"\0", at) + 1) + 1
        at = after_type + 4 + int.from_bytes(data[after_type : after_type + 4], "little")
    return at + 1


@contextlib.contextmanager
def _without_output() -> Iterator[None]:
    """The library prints its complaints, to both outputs, before it raises; the one line the caller gets is ours."""
    with contextlib.ExitStack() as stack:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, nowhere)
        for number in (1, 2):
            try:
                copy = os.dup(number)
            except OSError:
                # Closed already: whatever has that number now is somebody's file.
                continue
            stack.callback(os.close, copy)
            stack.callback(os.dup2, copy, number)
            os.dup2(nowhere, number)
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        yield


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or ["damaged"])[0]
