"""What a release is checked by, where it needs no network; `python -m scripts.check_wheels` does the rest."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zipfile
from pathlib import Path

from scripts.check_wheels import MISSING, SHIPPED, interpreter, lacking, minimum_versions, normalize

from crosspol.cli import COMMANDS, EXTRAS
from tests.test_doc_code import extras
from tests.test_docs import REPOSITORY

PYPROJECT = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")


def sdist(path: Path, names: list[str], time: int) -> Path:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as files:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uid, member.uname = len(name), time, time, "somebody"
            files.addfile(member, io.BytesIO(name.encode()))
    path.write_bytes(gzip.compress(content.getvalue(), mtime=time))
    return path


def test_an_sdist_is_the_same_whoever_packs_it_and_when(tmp_path: Path) -> None:
    one = sdist(tmp_path / "one.tar.gz", ["a/b.py", "a/c.py"], 1)
    other = sdist(tmp_path / "other.tar.gz", ["a/c.py", "a/b.py"], 2)
    assert one.read_bytes() != other.read_bytes()
    for path in (one, other):
        normalize(path, 1_000_000)
    assert one.read_bytes() == other.read_bytes()
    with tarfile.open(one) as files:
        assert [(member.name, member.mtime, member.uid) for member in files] == [
            ("a/b.py", 1_000_000, 0),
            ("a/c.py", 1_000_000, 0),
        ]
        assert files.extractfile("a/c.py").read() == b"a/c.py"


def test_what_a_wheel_lacks_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as files:
        for name in (*SHIPPED[1:], "crosspol-1.dist-info/METADATA", "tests/a.py"):
            files.writestr(name, "")
    assert lacking(path) == [f"{SHIPPED[0]} is missing", "tests/a.py does not belong"]
    for name in SHIPPED:
        assert (REPOSITORY / "src" / name).is_file()


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    bounds = minimum_versions(PYPROJECT)
    text = (REPOSITORY / "constraints-oldest.txt").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w-]+)==([\w.]+)$", text, re.MULTILINE))
    assert set(pinned) == set(bounds)
    for name, version in bounds.items():
        assert f"{pinned[name]}.".startswith(f"{version}."), name


def test_every_extra_that_a_command_misses_is_asked_for() -> None:
    assert set(MISSING) <= extras()
    assert set(EXTRAS.values()) <= set(MISSING)
    for command in MISSING.values():
        assert command[0] in COMMANDS


def test_an_interpreter_is_found_or_is_not() -> None:
    assert interpreter("3.99") is None
