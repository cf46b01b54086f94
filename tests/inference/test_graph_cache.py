"""Graphs on disk: found again, never half, never changed, and not without end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspol.inference.graph_cache import GraphCache, default_folder

KEY = {"weights": "abc", "size": (480, 640)}


def test_what_is_stored_is_found_under_its_key_alone(tmp_path: Path) -> None:
    cache = GraphCache(tmp_path / "deep" / "folder")
    assert cache.load(KEY) is None
    cache.store(KEY, b"graph")
    assert GraphCache(cache.folder).load(dict(reversed(KEY.items()))) == b"graph"
    assert cache.load(KEY | {"size": (480, 641)}) is None
    cache.forget(KEY)
    assert cache.load(KEY) is None
    cache.forget(KEY)


@given(content=st.binary(max_size=64), place=st.integers(0, 200), change=st.sampled_from(["cut", "flip", "append"]))
def test_a_file_that_was_changed_is_not_used(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, place: int, change: str
) -> None:
    cache = GraphCache(tmp_path_factory.mktemp("cache"))
    cache.store(KEY, content)
    path = cache.path(KEY)
    stored = path.read_bytes()
    place %= len(stored)
    flipped = stored[:place] + bytes([stored[place] ^ 1]) + stored[place + 1 :]
    path.write_bytes({"cut": stored[:place], "flip": flipped, "append": stored + b"x"}[change])
    assert cache.load(KEY) is None
    cache.store(KEY, content)
    assert cache.load(KEY) == content


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    cache = GraphCache(tmp_path, limit_bytes=1000)
    for number in range(3):
        cache.store({"number": number}, bytes(250))
        os.utime(cache.path({"number": number}), (number, number))
    assert cache.load({"number": 0}) is not None  # used just now
    (tmp_path / "of somebody else").write_bytes(bytes(2000))
    cache.store({"number": 3}, bytes(250))
    assert [cache.load({"number": number}) is not None for number in range(4)] == [True, False, True, True]
    assert (tmp_path / "of somebody else").exists()


def test_what_is_larger_than_the_cache_is_not_kept(tmp_path: Path) -> None:
    cache = GraphCache(tmp_path, limit_bytes=100)
    cache.store(KEY, bytes(200))
    assert cache.load(KEY) is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = GraphCache(tmp_path / "file" / "cache")
    cache.store(KEY, b"graph")
    assert cache.load(KEY) is None


def test_the_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CROSSPOL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "crosspol"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_folder() == tmp_path / "xdg" / "crosspol"
    monkeypatch.setenv("CROSSPOL_CACHE", str(tmp_path / "own"))
    assert GraphCache().folder == tmp_path / "own"
