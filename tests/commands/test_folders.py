"""Where a command writes is checked before its work starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from crosspol.commands.folders import check_output_folder, check_page, make_output_folder
from crosspol.errors import UsageError


def test_folders_are_made_and_left_empty(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    check_output_folder(folder)
    assert not folder.parent.exists()
    make_output_folder(folder)
    assert list(folder.iterdir()) == []


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for refuse in (check_output_folder, make_output_folder):
        with pytest.raises(UsageError, match="wanted a folder to write into"):
            refuse(tmp_path / "file" / "folder")
    with pytest.raises(UsageError, match="wanted a folder to write into"):
        check_page(tmp_path / "file" / "page.html", "--report")


def test_pages_end_in_html(tmp_path: Path) -> None:
    check_page(tmp_path / "new" / "page.HTML", "--report")
    (tmp_path / "folder.html").mkdir()
    for name, complaint in (("page.txt", "wanted a file that ends in .html"), ("folder.html", "which is a folder")):
        with pytest.raises(UsageError, match=f"--report: got .*{name}.*{complaint}"):
            check_page(tmp_path / name, "--report")
