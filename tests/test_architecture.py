"""The floors of the house: imports go down only, no file circles, no room too large, tests mirror the source.

`docs/architecture.md` draws what is checked here. Everything is read off the source text; nothing is imported.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = "crosspol"
SOURCE = REPOSITORY / "src" / PACKAGE
TESTS = REPOSITORY / "tests"

# From the roof to the ground. A room is a folder or a module at the top of the package (`crosspol` is its
# `__init__.py`); it imports from lower floors only, not from its neighbors on the same floor.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("crosspol", "cli"),
    ("commands",),
    ("report", "viewer"),
    ("evaluation",),
    ("training", "inference"),
    ("render", "visualization"),
    ("datasets",),
    ("synthesis",),
    ("data", "checks"),
    ("rigs", "weights"),
    ("io", "model"),
    ("polarimetry", "metrics", "geometry"),
    ("light", "limits", "signals"),
    ("errors",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# Two staircases go up side by side and meet where a network is trained or used: no camera, file or scene knows of a
# network, and no network knows of them (the second half follows from the floors).
WITHOUT_NETWORKS = {"io", "rigs", "checks", "data", "synthesis", "datasets", "render"}
NETWORKS = {"model", "weights"}

LARGEST_SHARE = 1 / 6
"""Of the code lines, in one room."""

TINY = 25
"""Code lines below which a module needs no test file of its own."""

# Modules (or, with a slash at the end, folders) that no test of their own room imports: where they are tested instead.
TESTED_IN: dict[str, str] = {
    "checks/values.py": "checks/test_images.py",
    "commands/flags.py": "commands/test_train.py",
    "commands/info.py": "test_cli.py",
    "commands/pairs.py": "test_cli.py",
    "commands/reports.py": "commands/test_doctor.py",
    "data/arguments.py": "io/test_images.py",
    "data/resilient.py": "datasets/test_check.py",
    "datasets/findings.py": "datasets/test_check.py",
    "datasets/pairs.py": "datasets/test_benchmarks.py",
    "datasets/scene_index.py": "datasets/test_scene_format.py",
    "datasets/sources.py": "datasets/test_samples.py",
    "model/backbones.py": "model/test_network.py",
    "model/compact.py": "model/test_sites.py",
    "model/official.py": "test_weights.py",
}


class Import(NamedTuple):
    """One module named by an import statement. late: inside a function, or for type checkers only."""

    file: Path
    line: int
    module: str
    late: bool


def modules(root: Path) -> dict[str, Path]:
    """Files of the package by the names that they are imported by."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = (PACKAGE, *path.relative_to(root).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path) -> list[Import]:
    """Every import of the package's own modules, wherever in a file it stands."""
    known = modules(root)
    found = []
    for name, path in known.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node, late in _statements(ast.parse(path.read_text()), late=False):
            for module in _named(node, package, known):
                found.append(Import(path, node.lineno, module, late))
    return found


def _statements(node: ast.AST, late: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom | ast.Attribute, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom | ast.Attribute):
            yield child, late
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        yield from _statements(child, late or inside or typing_only)


def _named(node: ast.Import | ast.ImportFrom | ast.Attribute, package: str, known: dict[str, Path]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        # `import crosspol` alone is no arrow: whoever imports a part has imported the whole. Its attributes are.
        yield from (alias.name for alias in node.names if alias.name.startswith(f"{PACKAGE}."))
    elif isinstance(node, ast.ImportFrom):
        # Relative names count their dots from the package of the file.
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        if base.split(".")[0] == PACKAGE:
            names = (f"{base}.{alias.name}" for alias in node.names)
            yield from dict.fromkeys(name if name in known else base for name in names)
    elif isinstance(node.value, ast.Name) and node.value.id == PACKAGE and not node.attr.startswith("__"):
        name = f"{PACKAGE}.{node.attr}"
        yield name if name in known else PACKAGE


def room_of(module: str) -> str:
    """The room that a module lies in."""
    return module.split(".")[1] if "." in module else module


def room_of_file(root: Path, path: Path) -> str:
    first = path.relative_to(root).parts[0].removesuffix(".py")
    return PACKAGE if first == "__init__" else first


def arrows_up(root: Path) -> dict[tuple[str, str], str]:
    """Imports from a floor that is not lower, and what to say of each."""
    found = {}
    for file, line, module, _ in imports(root):
        source, target = room_of_file(root, file), room_of(module)
        if source == target or target not in FLOOR or source not in FLOOR:
            continue
        if FLOOR[target] <= FLOOR[source]:
            where = file.relative_to(root).as_posix()
            found[where, module] = f"src/{PACKAGE}/{where}:{line}: {source} -> {target} ({module}) goes up"
    return found


def circles(root: Path) -> list[str]:
    """Circles among files: what is imported while a module is being imported must not need it."""
    arrows: dict[str, dict[str, int]] = {}
    names = {path: name for name, path in modules(root).items()}
    for file, line, module, late in imports(root):
        if not late and module in names.values() and module != names[file]:
            arrows.setdefault(names[file], {}).setdefault(module, line)
    found: dict[frozenset[str], str] = {}
    done = set()

    def walk(name: str, way: list[str]) -> None:
        if name in way:
            circle = [*way[way.index(name) :], name]
            steps = " -> ".join(f"{a}:{arrows[a][b]}" for a, b in pairwise(circle))
            found.setdefault(frozenset(circle), f"{steps} -> {name}")
        elif name not in done:
            for target in arrows.get(name, {}):
                walk(target, [*way, name])
            done.add(name)

    for name in sorted(arrows):
        walk(name, [])
    return list(found.values())


def code_lines(path: Path) -> int:
    """Lines of a file that hold code: no blank ones, no comments, no docstrings."""
    text = path.read_text()
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in blank:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def untested(source: Path, tests: Path) -> dict[str, str]:
    """Modules that have no test file of their name, and that no test of their room imports; and what to say of each.

    A folder within a room is tested as one where a test file is called after it, or imports it.
    """
    known = modules(source)
    imported = {
        (path.relative_to(tests).parts[0], module)
        for path in tests.rglob("*.py")
        for node, _ in _statements(ast.parse(path.read_text()), late=False)
        for module in _named(node, "", known)
    }
    missing = {}
    for name, path in known.items():
        where = path.relative_to(source)
        if path.name == "__init__.py" or code_lines(path) < TINY:
            continue
        names = [name]
        files = [where.with_name(f"test_{where.name}")]
        if len(where.parts) > 2:
            names.append(name.rpartition(".")[0])
            files.append(where.parents[1] / f"test_{where.parent.name}.py")
        found = any((tests / file).exists() for file in files)
        if not found and not any((where.parts[0], module) in imported for module in names):
            wanted = f"tests/{files[0]}, or where it is tested in TESTED_IN"
            missing[where.as_posix()] = f"src/{PACKAGE}/{where}: got no test, wanted {wanted}"
    return missing


def refuse(found: list[str]) -> None:
    """Fail with every line that was found: pytest shows the first item of a long list only."""
    assert not found, "\n" + "\n".join(found)


def test_every_room_has_a_floor() -> None:
    rooms = {room_of_file(SOURCE, path) for path in SOURCE.rglob("*.py")}
    assert sorted(rooms - set(FLOOR)) == [], "a new room needs a floor in FLOORS, and a line in docs/architecture.md"


def test_imports_go_down_only() -> None:
    up = arrows_up(SOURCE)
    refuse(list(up.values()))


def test_cameras_files_and_scenes_know_no_network() -> None:
    found = [
        f"src/{PACKAGE}/{file.relative_to(SOURCE)}:{line}: {room_of_file(SOURCE, file)} -> {module}"
        for file, line, module, _ in imports(SOURCE)
        if room_of_file(SOURCE, file) in WITHOUT_NETWORKS and room_of(module) in NETWORKS
    ]
    refuse(found)


def test_no_circles_among_files() -> None:
    refuse(circles(SOURCE))


def test_no_room_is_above_a_sixth_of_the_code() -> None:
    lines: Counter[str] = Counter()
    for path in SOURCE.rglob("*.py"):
        lines[room_of_file(SOURCE, path)] += code_lines(path)
    shares = {room: number / lines.total() for room, number in lines.most_common()}
    assert {room: f"{share:.1%}" for room, share in shares.items() if share > LARGEST_SHARE} == {}


def test_tests_mirror_the_source() -> None:
    found = untested(SOURCE, TESTS)
    refuse([line for name, line in found.items() if not any(_covers(entry, name) for entry in TESTED_IN)])
    stale = [entry for entry in TESTED_IN if not any(_covers(entry, name) for name in found)]
    stale += [test for test in TESTED_IN.values() if not (TESTS / test).exists()]
    assert stale == [], "moved, or tested in its own room by now: mend TESTED_IN"


def _covers(entry: str, name: str) -> bool:
    return name == entry or (entry.endswith("/") and name.startswith(entry))


def test_folders_of_tests_are_those_of_the_source() -> None:
    folders = {path.parent.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py") if path.parent != TESTS}
    assert sorted(folders - {path.name for path in SOURCE.iterdir() if path.is_dir()}) == []


def test_tests_of_commands_are_among_the_commands() -> None:
    """A file that is called after a command, and after no module of its own room, is one of the commands' tests."""
    commands = {path.stem for path in (SOURCE / "commands").glob("*.py")} | {"command"}
    strays = []
    for path in TESTS.rglob("test_*.py"):
        where, stem = path.relative_to(TESTS), path.stem.removeprefix("test_")
        of_its_room = (SOURCE / where).with_name(f"{stem}.py").exists()
        if where.parts[0] != "commands" and stem in commands and not of_its_room:
            strays.append(where.as_posix())
    assert strays == []


def build(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("line", "arrow"),
    [
        ("from crosspol.training.loop import train", "rigs -> training (crosspol.training.loop)"),
        ("from crosspol.training import loop", "rigs -> training (crosspol.training.loop)"),
        ("import crosspol.training.loop", "rigs -> training (crosspol.training.loop)"),
        ("from ..training import loop", "rigs -> training (crosspol.training.loop)"),
        ("from crosspol import train", "rigs -> crosspol (crosspol)"),
        ("import crosspol\ncrosspol.train()", "rigs -> crosspol (crosspol)"),
        ("def f():\n    from crosspol.data import inputs", "rigs -> data (crosspol.data.inputs)"),
        ("if TYPE_CHECKING:\n    from crosspol.data.inputs import X", "rigs -> data (crosspol.data.inputs)"),
        ("from crosspol.weights import load", "rigs -> weights (crosspol.weights)"),
    ],
)
def test_an_arrow_up_is_named_with_file_and_line(tmp_path: Path, line: str, arrow: str) -> None:
    files = {"__init__.py": "", "training/loop.py": "", "data/inputs.py": "", "weights.py": "", "rigs/rig.py": line}
    number = line.count("\n") + 1
    assert list(arrows_up(build(tmp_path, files)).values()) == [f"src/crosspol/rigs/rig.py:{number}: {arrow} goes up"]


def test_arrows_down_and_the_package_itself_are_fine(tmp_path: Path) -> None:
    line = "import crosspol\nfrom crosspol.io import images\nfrom . import kinds\nprint(crosspol.__file__)"
    files = {"__init__.py": "", "io/images.py": "", "rigs/kinds.py": "", "rigs/rig.py": line}
    assert arrows_up(build(tmp_path, files)) == {}


def test_a_circle_is_named_step_by_step(tmp_path: Path) -> None:
    files = {
        "io/a.py": "\nfrom crosspol.io.b import x",
        "io/b.py": "import crosspol.io.c",
        "io/c.py": "from crosspol.io import a",
        "io/d.py": "def f():\n    import crosspol.io.e",
        "io/e.py": "import crosspol.io.d\nif TYPE_CHECKING:\n    import crosspol.io.a",
    }
    expected = "crosspol.io.a:2 -> crosspol.io.b:1 -> crosspol.io.c:1 -> crosspol.io.a"
    assert circles(build(tmp_path, files)) == [expected]


def test_code_lines_are_code(tmp_path: Path) -> None:
    text = '"""Doc."""\n\n# why\nx = [\n    1,\n]  # what\n\n\ndef f():\n    """Doc\n    more."""\n    return x\n'
    assert code_lines(build(tmp_path, {"a.py": text}) / "a.py") == 5


def test_a_module_without_a_test_is_named(tmp_path: Path) -> None:
    code = "x = 1\n" * TINY
    source = build(
        tmp_path / "src",
        {"io/a.py": code, "io/b.py": "x = 1", "io/d.py": code, "io/e.py": code, "io/f.py": code}
        | {"rigs/contents/__init__.py": "", "rigs/contents/c.py": code, "rigs/own/g.py": code},
    )
    tests = build(
        tmp_path / "tests",
        {"io/test_other.py": "from crosspol.io import e", "rigs/test_x.py": "import crosspol.rigs.contents"}
        | {"rigs/test_own.py": "", "data/test_y.py": "import crosspol.io.a", "io/test_f.py": ""},
    )
    found = untested(source, tests)
    assert list(found) == ["io/a.py", "io/d.py"]
    assert found["io/a.py"] == (
        "src/crosspol/io/a.py: got no test, wanted tests/io/test_a.py, or where it is tested in TESTED_IN"
    )


def test_the_smallest_side_is_defined_once() -> None:
    """Files, scenes, runs and networks refuse the same sizes."""
    defining = [
        path.relative_to(SOURCE).as_posix()
        for path in sorted(SOURCE.rglob("*.py"))
        if re.search(r"^_?\w*(MINIMUM|SMALLEST|SIDE)\w*\s*=\s*32\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert defining == ["limits.py"]
