"""The record of a folder: what it holds, by which settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspol.commands.resuming import RECORD, Record
from crosspol.errors import UsageError

SETTINGS = {"iters": 4, "rig": None, "scale": 0.5, "precision": "float32"}


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=12), st.integers(0, 400))
def test_the_last_line_of_a_pair_counts_whatever_is_cut_off(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[int, int]], cut: int
) -> None:
    """Pairs are written by several settings, then the record loses its end: what it still says is true."""
    folder = tmp_path_factory.mktemp("out")
    picture = write(folder / "in.png", "in")
    last: dict[int, int] = {}
    ends: list[tuple[int, dict[int, int]]] = [(0, {})]
    for pair, iters in runs:
        output = write(folder / f"{pair}.npy", f"{pair} by {iters}")
        Record(folder, {**SETTINGS, "iters": iters}).add(str(pair), [picture], [output])
        last[pair] = iters
        ends.append(((folder / RECORD).stat().st_size, dict(last)))
    if (folder / RECORD).exists():
        data = (folder / RECORD).read_bytes()[: max(0, ends[-1][0] - cut)]
        (folder / RECORD).write_bytes(data)
        # A line without its line break is whole all the same.
        last = [pairs for size, pairs in ends if size - 1 <= len(data)][-1]
    for iters in range(3):
        record = Record(folder, {**SETTINGS, "iters": iters})
        for pair in range(4):
            there = folder / f"{pair}.npy"
            as_it_was = there.exists() and there.read_text() == f"{pair} by {iters}"
            assert record.holds(str(pair), [picture]) == (last.get(pair) == iters and as_it_was)


def test_settings_that_differ_are_named(tmp_path: Path) -> None:
    picture, output = write(tmp_path / "a.png", "a"), write(tmp_path / "a.npy", "b")
    Record(tmp_path, SETTINGS).add("a", [picture], [output])
    Record(tmp_path, SETTINGS).check(["a", "b"])
    other = Record(tmp_path, {**SETTINGS, "scale": None, "glass": True})
    other.check(["b"])
    with pytest.raises(UsageError, match=r"\(glass none, now True, scale 0\.5, now none\), wanted the same"):
        other.check(["a", "b"])


def test_what_is_no_record_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_bytes(
        b'\xff\xfe{"pair": 3}\n[1, 2]\n{"pair": "a", "run": "x"}\n{"run": {}}\n'
        b'{"run": "x", "settings": 3}\n{"pair": ["a"], "run": "x"}\n'
    )
    record = Record(tmp_path, SETTINGS)
    assert not record.holds("a", [])
    with pytest.raises(UsageError, match="results of other settings"):
        record.check(["a"])
    picture, output = write(tmp_path / "a.png", "a"), write(tmp_path / "a.npy", "b")
    record.add("a", [picture], [output])
    assert Record(tmp_path, SETTINGS).holds("a", [picture])
