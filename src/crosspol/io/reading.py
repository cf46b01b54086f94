"""The door that every file comes in by: a regular file, of a size that is taken, that unpacks to what may be unpacked.

Whoever gives a path to a library that opens it itself asks `check_file` first.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from crosspol.errors import MissingFileError, UsageError
from crosspol.limits import DECODED_BYTES, DECODED_RATIO, LINE_BYTES, MAXIMUM_FILE_BYTES, TABLE_BYTES

__all__ = ["check_decoded", "check_file", "read_bytes", "read_lines"]

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
# A pipe that takes a file's place between the look at it and the opening must not block; Windows has no such flag.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def check_file(
    path: str | os.PathLike[str], limit: int = MAXIMUM_FILE_BYTES, *, what: str = "a file", empty: bool = False
) -> int:
    """Look at a file without opening it, and return its size, bytes.

    Args:
        path: links are followed.
        limit: the largest size that is taken, bytes.
        what: what was wanted, for the errors.
        empty: whether it may be.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is a folder, a pipe, a device or a socket, empty or too large, or its name cannot be one.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"{path}: no such file") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        # A zero in the name, or letters that the system's encoding does not have.
        raise UsageError(f"{os.fspath(path)!r}: cannot be the name of a file, wanted {what}") from error
    return _check_status(path, status, limit, what, empty)


def read_bytes(
    path: str | os.PathLike[str], limit: int = MAXIMUM_FILE_BYTES, *, what: str = "a file", empty: bool = False
) -> bytes:
    """Return the contents of a file; arguments and errors as `check_file`.

    Raises:
        MissingFileError: there is no such file.
        UsageError: as `check_file`, or it may not be read.
    """
    check_file(path, limit, what=what, empty=empty)
    try:
        with open(os.open(path, _FLAGS), "rb") as file:
            # No more than was there: what is being written meanwhile is not read without end.
            return file.read(_check_status(path, os.fstat(file.fileno()), limit, what, empty))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error


def read_lines(path: str | os.PathLike[str], limit: int = TABLE_BYTES, *, what: str = "a log") -> Iterator[str]:
    r"""Yield the lines of a log, one at a time, without their ``\n``; it may be empty, and may grow meanwhile.

    Args:
        path: links are followed.
        limit: the largest size that is taken, bytes.
        what: what was wanted, for the errors.

    Yields:
        Lines of at most `LINE_BYTES`; what is no UTF-8 as U+FFFD. The last one may be cut off: that of a file that is
        being written, or whose writer was killed.

    Raises:
        MissingFileError: there is no such file.
        UsageError: as `check_file`, a line is longer, or the file may not be read.
    """
    check_file(path, limit, what=what, empty=True)
    try:
        with open(os.open(path, _FLAGS), "rb") as file:
            # What comes after it was opened is left to the next one who reads.
            left, number = _check_status(path, os.fstat(file.fileno()), limit, what, True), 0
            while line := file.readline(min(left, LINE_BYTES + 1)):
                left, number = left - len(line), number + 1
                if len(line) > LINE_BYTES:
                    raise UsageError(f"{path}: line {number}: got a longer one, wanted at most {LINE_BYTES} bytes")
                yield line.removesuffix(b"\n").decode(errors="replace")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error


def check_decoded(path: str | os.PathLike[str], stored: int, decoded: int) -> None:
    """Refuse a file that unpacks to more than its own size explains; to be asked before anything is unpacked.

    Args:
        path: for the error.
        stored: its size, bytes.
        decoded: what it says that it holds, bytes.

    Raises:
        UsageError: `decoded` is above `DECODED_BYTES` and `DECODED_RATIO` times `stored` together.
    """
    limit = DECODED_BYTES + DECODED_RATIO * stored
    if decoded > limit:
        raise UsageError(
            f"{path}: got {stored} bytes that claim to unpack to {decoded}, wanted at most {limit} of a file of this "
            "size"
        )


def _check_status(path: str | os.PathLike[str], status: os.stat_result, limit: int, what: str, empty: bool) -> int:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise UsageError(f"{path}: got {kind}, wanted {what}")
    if not status.st_size and not empty:
        raise UsageError(f"{path}: got an empty file (0 bytes)")
    if status.st_size > limit:
        raise UsageError(f"{path}: got {status.st_size} bytes, wanted {what} of at most {limit}")
    return status.st_size
