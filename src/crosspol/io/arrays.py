"""Arrays in NumPy's files, ``.npy`` and ``.npz``: numbers alone, and no more of them than the file holds."""

from __future__ import annotations

import io
import math
import os
import warnings
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosspol.errors import UsageError, one_line, refuse
from crosspol.io.reading import check_decoded, check_file, read_bytes
from crosspol.limits import MAXIMUM_FILE_BYTES

__all__ = ["read_array", "read_array_header", "read_arrays"]

_LONGEST_HEADER = 10_000
_MOST_AXES = 8
_NUMBERS = "buif"
"""Kinds of NumPy's types: bool, whole numbers, floating point."""
_WORDS = "US"
_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    # As 2.0, but for names of fields, which numbers do not have.
    (3, 0): np.lib.format.read_array_header_2_0,
}


def read_array(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Return the array in a ``.npy`` file, of whatever shape, in the machine's byte order; objects are refused.

    Raises:
        MissingFileError: there is no such file.
        UsageError: the file is no complete ``.npy`` file, or holds no numbers.
    """
    return _array_of(read_bytes(path), path)


def read_array_header(path: str | os.PathLike[str]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and type of the array in a ``.npy`` file, without its numbers; errors as `read_array`."""
    size = check_file(path)
    try:
        with open(path, "rb") as file:
            head = file.read(2 * _LONGEST_HEADER)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    shape, kind, _, _ = _layout(head, size, path)
    return shape, kind.newbyteorder("=")


def read_arrays(path: str | os.PathLike[str], limit: int = MAXIMUM_FILE_BYTES) -> dict[str, NDArray[Any]]:
    """Return the arrays of an ``.npz`` file, numbers or words, by their names; errors as `read_array`.

    Args:
        path: the file.
        limit: the largest size that is taken, packed and unpacked, bytes.
    """
    data = read_bytes(path, limit)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            unpacked = sum(entry.file_size for entry in entries)
            if unpacked > limit:
                raise refuse(path, f"{unpacked} bytes of arrays", f"at most {limit}")
            check_decoded(path, len(data), unpacked)
            # An entry unpacks to no more than what it was said to: the archive cuts it there.
            arrays = {}
            for entry in entries:
                where = f"{path}: {entry.filename!r:.80}"
                arrays[entry.filename.removesuffix(".npy")] = _array_of(archive.read(entry), where, _NUMBERS + _WORDS)
            return arrays
    except UsageError:
        raise
    except Exception as error:
        # What a damaged archive raises depends on where it is damaged.
        raise UsageError(f"{path}: not a complete .npz file of numbers ({one_line(error)})") from error


def _array_of(data: bytes, name: str | os.PathLike[str], kinds: str = _NUMBERS) -> NDArray[Any]:
    shape, kind, fortran, start = _layout(data, len(data), name, kinds)
    if not math.prod(shape) * kind.itemsize:
        return np.zeros(shape, kind.newbyteorder("="))
    array = np.frombuffer(data, kind, count=math.prod(shape), offset=start).astype(kind.newbyteorder("="))
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _layout(
    head: bytes, size: int, name: str | os.PathLike[str], kinds: str = _NUMBERS
) -> tuple[tuple[int, ...], np.dtype[Any], bool, int]:
    """Return shape, type, whether columns come first, and where the numbers begin; `size` is the whole file's."""
    stream = io.BytesIO(head)
    try:
        read_header = _HEADER_READERS[np.lib.format.read_magic(stream)]
        with warnings.catch_warnings():
            # Python's parser comments on what is odd in a header, such as an escape that is none.
            warnings.simplefilter("ignore")
            shape, fortran, kind = read_header(stream, max_header_size=_LONGEST_HEADER)
        # True counts as a whole number where NumPy looks at it.
        shape = tuple(map(int, shape))
    except Exception as error:
        # NumPy parses the header as Python: what a damaged one raises depends on where it is damaged.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{name}: not a complete .npy file of numbers ({reason:.200})") from error
    if kind.kind == "O":
        raise UsageError(f"{name}: not a complete .npy file of numbers (got Python objects, which are not loaded)")
    if kind.kind not in kinds:
        raise refuse(name, f"{kind} {shape}"[:200], "an array of numbers")
    wanted, found = math.prod(shape) * kind.itemsize, size - stream.tell()
    if any(side < 0 or side > size for side in shape) or len(shape) > _MOST_AXES or found < wanted:
        raise UsageError(
            f"{name}: not a complete .npy file of numbers (got {found} bytes of them, wanted {wanted} for {kind} "
            f"{shape!s:.100})"
        )
    return shape, kind, fortran, stream.tell()
