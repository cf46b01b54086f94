"""What the documents say of the repository is true: links, anchors, file names, tests that are named."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from crosspol.model import CrossPol, preset
from tests.test_architecture import FLOORS

REPOSITORY = Path(__file__).parents[1]
SOURCE = REPOSITORY / "src" / "crosspol"


_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
# A path, a folder, or the bare name of a module or page; bare names of other files are often those of users' data.
_PATH = re.compile(r"(?:[\w.-]+/)+(?:[\w.-]+\.(?:py|md|yaml|json|toml))?|[\w.-]+\.(?:py|md)")
_ANCHORED = re.compile(r"docs/([\w-]+\.md)#([\w-]+)")
_TEST = re.compile(r"(tests/[\w/]+\.py)::(\w+)")


@cache
def tracked() -> tuple[str, ...]:
    """Files of the repository, those not yet added included; without git, all that is there."""
    command = ["git", "-C", str(REPOSITORY), "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        parts = ("src", "docs", "tests", "benchmarks", "examples", "plans")
        paths = [path for part in parts for path in (REPOSITORY / part).rglob("*")] + list(REPOSITORY.glob("*"))
        listed = [path.relative_to(REPOSITORY).as_posix() for path in paths if "__pycache__" not in path.parts]
    return tuple(name for name in listed if (REPOSITORY / name).is_file())


def documents() -> list[Path]:
    return [REPOSITORY / name for name in tracked() if name.endswith(".md")]


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a document outside of its code blocks."""
    inside = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside:
            yield number, line


def anchors(path: Path) -> set[str]:
    """Anchors of a document's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    for _, line in prose(path):
        heading = re.match(r"#{1,6} +(.+?) *#*$", line)
        if heading is None:
            continue
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        if count:
            found[f"{slug}-{count}"] = 1
    return set(found)


def refuse(found: list[str]) -> None:
    assert not found, "\n" + "\n".join(found)


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(REPOSITORY)}:{line}"


def broken_links(path: Path) -> list[str]:
    """Relative links of a document whose file or anchor is not there."""
    broken = []
    for number, line in prose(path):
        for groups in _LINK.findall(line):
            link = next(filter(None, groups))
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            if not target.exists():
                broken.append(f"{path.name}:{number}: got a link to {link}, wanted a file that exists")
            elif anchor and anchor not in anchors(target):
                broken.append(f"{path.name}:{number}: got a link to {link}, wanted a heading of {target.name}")
    return broken


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    refuse(broken_links(path))


def exists(name: str) -> bool:
    """Whether a path is there as it is written, in the package, or in one of its folders or of the tests'."""
    name = name.rstrip("/")
    if (REPOSITORY / name).exists() or (SOURCE / name).exists():
        return True
    return any(f"/{known}".endswith(f"/{name}") for known in tracked())


# Own documents of contributors: in the others, names of files are often those of users' data.
CONTRIBUTORS = ("docs/architecture.md", "docs/blueprint.md", "docs/model.md", "docs/pitfalls.md", "CONTRIBUTING.md")


def test_files_that_documents_name_exist() -> None:
    missing = []
    for name in CONTRIBUTORS:
        for number, line in prose(REPOSITORY / name):
            for code in _CODE.findall(line):
                if _PATH.fullmatch(code) and not exists(code):
                    missing.append(f"{name}:{number}: got {code}, wanted a file of the repository")
    refuse(missing)


def defined() -> set[str]:
    """Classes and constants of the package, and what classes have: `Name`, `NAME`, `Name.attribute`."""
    names = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names |= _named(node)
            if isinstance(node, ast.ClassDef):
                names |= {f"{node.name}.{name}" for child in node.body for name in _named(child)}
    return names


def _named(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return {node.name}
    targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets if isinstance(node, ast.Assign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def test_classes_and_tables_that_the_architecture_names_exist() -> None:
    known, missing = defined(), []
    name = "docs/architecture.md"
    for number, line in prose(REPOSITORY / name):
        for code in _CODE.findall(line):
            if re.fullmatch(r"[A-Z]\w+(\.\w+)?", code) and code not in known:
                missing.append(f"{name}:{number}: got {code}, wanted a class or a table of the package")
    refuse(missing)


def test_tests_that_documents_name_exist() -> None:
    missing = []
    for path in documents():
        for number, line in prose(path):
            for name, test in _TEST.findall(line):
                file = REPOSITORY / name
                names = set()
                if file.exists():
                    tree = ast.walk(ast.parse(file.read_text()))
                    names = {node.name for node in tree if isinstance(node, ast.FunctionDef)}
                if test not in names:
                    missing.append(f"{where(path, number)}: got {name}::{test}, wanted a test that exists")
    refuse(missing)


def test_code_that_points_into_documents_finds_the_heading() -> None:
    lost, pointing = [], 0
    for name in tracked():
        if not name.endswith(".py"):
            continue
        for number, line in enumerate((REPOSITORY / name).read_text().splitlines(), 1):
            for document, anchor in _ANCHORED.findall(line):
                pointing += 1
                path = REPOSITORY / "docs" / document
                if not path.exists() or anchor not in anchors(path):
                    lost.append(f"{name}:{number}: got docs/{document}#{anchor}, wanted a heading that exists")
    refuse(lost)
    assert pointing >= 17


def test_nothing_refers_to_notes_that_are_not_in_the_repository() -> None:
    notes = re.compile(r"\b(?:FA" + r"CTS|HO" + r"USE\.md|DESI" + r"GN\.md|STY" + r"LE\.md)\b")
    found = []
    for name in tracked():
        path = REPOSITORY / name
        if path.suffix in (".py", ".md", ".yaml", ".toml", ".json", ".txt", "") and path.stat().st_size < 1_000_000:
            for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
                if notes.search(line):
                    found.append(f"{name}:{number}: {line.strip()}")
    refuse(found)


def test_every_room_is_on_the_page_of_the_architecture() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    rooms = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    assert sorted(room for room in rooms if f"{room}/" not in text) == []


def test_the_drawing_of_the_architecture_has_every_room_on_its_floor() -> None:
    drawn = (REPOSITORY / "docs" / "images" / "architecture.svg").read_text()
    placed = [(float(y), room) for y, room in re.findall(r'<text x="\S+" y="(\S+)"[^>]*>(\w+)</text>', drawn)]
    floors = [{room for height, room in placed if height == y} for y in sorted({y for y, _ in placed})]
    assert floors == [set(floor) for floor in FLOORS], "python -m scripts.architecture_drawing draws it anew"


def test_every_pitfall_names_the_test_that_holds_it() -> None:
    text = (REPOSITORY / "docs" / "pitfalls.md").read_text()
    pitfalls = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    assert len(pitfalls) >= 17
    for part in ("**What.**", "**How it shows.**", "**Here.**", "::test_"):
        assert [pitfall.partition("\n")[0] for pitfall in pitfalls if part not in pitfall] == []


def test_the_blueprints_page_says_where_the_parameters_are() -> None:
    net = CrossPol(preset("blueprint"))
    modules = {
        "feature encoder": net.encoders.features,
        "context encoder": net.encoders.context,
        "update block": net.update,
        "polarization encoder": net.polarization_encoder,
        "fusion": net.fusion,
    }
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
    total = sum(counts.values())
    text = (REPOSITORY / "docs" / "blueprint.md").read_text()
    for name, count in counts.items():
        assert f"| {name} | {count:,} | {100 * count / total:.1f} % |" in text
    assert f"{total:,}, as the specification says" in text
    parts = {name: sum(p.numel() for p in module.parameters()) for name, module in net.fusion.named_children()}
    assert f"`to_out` {parts['attention']:,}" in text
    assert f"projection {parts['projection']:,}" in text
    assert f"scale and bias {parts['merge'] + parts['pol_affine']:,}" in text


def test_broken_links_are_named(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# A `b`: c, d\n\n## Twice\n\n## Twice\n\n```\n# no heading\n```\n")
    assert anchors(tmp_path / "b.md") == {"a-b-c-d", "twice", "twice-1"}
    page = tmp_path / "a.md"
    page.write_text(
        "[b](b.md#twice-1) [c](https://x.y/z#w)\n[d](b.md#thrice) ![e](e.png)\n```\n[f](f.md)\n```\n[g](#g)\n"
    )
    assert broken_links(page) == [
        "a.md:2: got a link to b.md#thrice, wanted a heading of b.md",
        "a.md:2: got a link to e.png, wanted a file that exists",
        "a.md:6: got a link to #g, wanted a heading of a.md",
    ]
