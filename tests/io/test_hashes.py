"""Hashes of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from crosspol.io.hashes import sha256_of


@pytest.mark.parametrize("size", [0, 5, (1 << 20) + 3])
def test_the_hash_is_that_of_the_content(tmp_path: Path, size: int) -> None:
    content = bytes(index % 251 for index in range(size))
    (tmp_path / "a.bin").write_bytes(content)
    assert sha256_of(tmp_path / "a.bin") == hashlib.sha256(content).hexdigest()


def test_what_is_not_there_has_none(tmp_path: Path) -> None:
    assert sha256_of(tmp_path / "a.bin") is None
    assert sha256_of(tmp_path) is None
