from __future__ import annotations

import contextlib
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from crosspol.errors import UsageError
from crosspol.io.arrays import read_array, read_array_header, read_arrays

KINDS = st.one_of(
    npst.integer_dtypes(endianness="?"),
    npst.unsigned_integer_dtypes(endianness="?"),
    npst.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    npst.boolean_dtypes(),
)


def npy(header: str, numbers: bytes = b"", version: bytes = b"\1\0") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode() + numbers


@given(array=npst.arrays(KINDS, npst.array_shapes(max_dims=4, min_side=0)), fortran=st.booleans())
def test_numbers_come_back_whatever_their_order(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, fortran: bool
) -> None:
    path = tmp_path_factory.mktemp("arrays") / "a.npy"
    np.save(path, np.asfortranarray(array) if fortran else array)
    found = read_array(path)
    assert found.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, array)
    assert read_array_header(path) == (found.shape, found.dtype)
    np.savez(path.with_suffix(".npz"), one=array, two=np.array("word"))
    arrays = read_arrays(path.with_suffix(".npz"))
    np.testing.assert_array_equal(arrays["one"], array)
    assert arrays["two"] == "word"


def test_a_truth_value_for_a_number_of_rows(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npy("{'descr': '<f8', 'fortran_order': False, 'shape': (True,), }\n", bytes(8)))
    assert read_array(tmp_path / "a.npy").tolist() == [0]


BROKEN = {
    "more rows than bytes": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }\n", b"12345678"),
    "negative": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }\n", b"12345678"),
    "twice negative": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1), }\n", b"12345678"),
    "nothing times much": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 10000000000000000000000), }\n"),
    "hundred axes": npy(f"{{'descr': '<u1', 'fortran_order': False, 'shape': ({'1,' * 100}), }}\n", b"1"),
    "no shape": npy("{'descr': '<f8', 'fortran_order': False}\n", b"12345678"),
    "deep": npy("(" * 9000 + "\n"),
    "long": npy(" " * 20000 + "\n"),
    "code": npy("{'descr': __import__('os').getcwd(), 'fortran_order': False, 'shape': (1,), }\n", b"12345678"),
    "escape": npy("{'descr': '\\d', 'fortran_order': False, 'shape': (1,), }\n", b"12345678"),
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", b"cos\nsystem\n"),
    "fields": npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }\n", b"12345678"),
    "comma in type": npy("{'descr': 'f8,f8', 'fortran_order': False, 'shape': (1,), }\n", b"12345678" * 2),
    "bits": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }\n", b"1234567"),
    "version": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }\n", b"12345678", b"\7\0"),
    "cut": b"\x93NUMPY\1",
    "other": b"PK\3\4",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_no_array_of_numbers(tmp_path: Path, data: bytes, recwarn: pytest.WarningsRecorder) -> None:
    (tmp_path / "a.npy").write_bytes(data)
    for read in (read_array, read_array_header):
        with pytest.raises(UsageError, match=r"a\.npy: "):
            read(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("one.npy", data)
    with pytest.raises(UsageError, match=r"a\.npz: "):
        read_arrays(tmp_path / "a.npz")
    assert not recwarn.list


def test_an_archive_that_unpacks_to_much_is_not_unpacked(tmp_path: Path) -> None:
    stored = io.BytesIO()
    np.save(stored, np.zeros(1, np.uint8))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as entry:
        for _ in range(100):
            entry.write(bytes(1 << 20))
    with pytest.raises(UsageError, match=r"a\.npz: got \d+ bytes that claim to unpack to 104857600"):
        read_arrays(tmp_path / "a.npz")
    with pytest.raises(UsageError, match=r"got 104857600 bytes of arrays, wanted at most 1000000"):
        read_arrays(tmp_path / "a.npz", 1_000_000)


@given(place=st.integers(0, 500), value=st.integers(0, 255))
def test_a_damaged_archive_is_refused_or_the_same(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "a.npz"
    np.savez_compressed(path, disparity=np.arange(12.0))
    data = bytearray(path.read_bytes())
    data[place % len(data)] = value
    path.write_bytes(data)
    arrays = {}
    with contextlib.suppress(UsageError):
        arrays = read_arrays(path)
    for array in arrays.values():
        np.testing.assert_array_equal(array, np.arange(12.0))
