"""Files that others write: taken once, when they are whole."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from crosspol.io.growing import WholeFiles


def test_a_file_that_grows_is_left_alone_until_it_does_not(tmp_path: Path) -> None:
    path = tmp_path / "left.raw"
    watch = WholeFiles(lambda: list(tmp_path.iterdir()))
    assert watch.look() == []
    path.touch()
    assert [watch.look() for _ in range(3)] == [[], [], []]  # empty: not begun
    for _ in range(3):
        with path.open("ab") as file:
            file.write(b"piece")
        assert watch.look() == []
    assert watch.look() == [path]
    assert watch.look() == []


def test_what_is_gone_is_forgotten_and_may_come_again(tmp_path: Path) -> None:
    path = tmp_path / "left.raw"
    watch = WholeFiles(lambda: list(tmp_path.iterdir()))
    for _ in range(2):
        path.write_bytes(b"x")
        assert [watch.look(), watch.look(), watch.look()] == [[], [path], []]
        path.unlink()
        assert watch.look() == []
    assert watch._seen == {}
    assert watch._found == set()


def test_a_file_that_vanishes_between_listing_and_looking_is_no_error(tmp_path: Path) -> None:
    watch = WholeFiles(lambda: [tmp_path / "never.raw"])
    assert watch.look() == []


@given(st.lists(st.lists(st.integers(0, 4), max_size=5), max_size=8))
def test_each_file_comes_once_and_none_is_missed(tmp_path_factory, steps: list[list[int]]) -> None:
    """In each step some files are written to; afterwards two looks find the rest."""
    folder = tmp_path_factory.mktemp("growing")
    watch = WholeFiles(lambda: list(folder.iterdir()))
    found: list[Path] = []
    for step in steps:
        for number in step:
            with (folder / str(number)).open("ab") as file:
                file.write(b"x")
        found += watch.look()
    found += watch.look() + watch.look()
    assert len(found) == len(set(found))
    assert {path.name for path in found} == {str(number) for step in steps for number in step}
