"""What a release is checked by, where it needs no network; `python -m scripts.check_wheels` does the rest."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zipfile
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet
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


def test_pages_types_and_pinned_versions_take_the_oldest_python() -> None:
    (oldest,) = re.findall(r'^requires-python = ">=(3\.\d+)"$', PYPROJECT, re.MULTILINE)
    assert re.findall(r'^python_version = "(.*)"$', PYPROJECT, re.MULTILINE) == [oldest]
    assert re.findall(r"Python :: (3\.\d+)", PYPROJECT)[0] == oldest
    for page in ("README.md", "docs/tutorial.md"):
        text = (REPOSITORY / page).read_text(encoding="utf-8")
        assert re.findall(r"[Pp]ython (3\.\d+)(?:\+| or later)", text) == [oldest], page
    pinned = re.findall(r"^([\w.-]+)==", (REPOSITORY / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    wanted = {name: wants for name in pinned for wants in requires_python(name)}
    assert [name for name, wants in wanted.items() if not SpecifierSet(wants).contains(f"{oldest}.99")] == []


def requires_python(name: str) -> list[str]:
    """What an installed distribution says of Python; [] where it says nothing, or is not installed."""
    try:
        return metadata(name).get_all("Requires-Python") or []
    except PackageNotFoundError:
        return []


def test_every_extra_that_a_command_misses_is_asked_for() -> None:
    assert set(MISSING) <= extras()
    assert set(EXTRAS.values()) <= set(MISSING)
    for command in MISSING.values():
        assert command[0] in COMMANDS


def test_an_interpreter_is_found_or_is_not() -> None:
    assert interpreter("3.99") is None
