"""Every block of code in the documents runs here, or says in a comment why it does not: `<!-- not run: REASON -->`.

What takes long runs among the extended tests; of all others the commands are parsed and the imports resolved. A page's
blocks run in order, in one folder and one Python, on the files that `sample_files` lays there.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crosspol import cli
from crosspol.datasets.sample_rooms import sample_rooms
from crosspol.errors import UsageError
from crosspol.rigs.rig import read_rig
from crosspol.training.config_file import read_config
from tests.doc_code import Block, blocks
from tests.doc_files import PRELUDES, sample_files
from tests.test_docs import REPOSITORY, documents, refuse

PAGES = [path for path in documents() if list(blocks(path))]
LANGUAGES = ("bash", "python", "yaml", "csv", "text", "mermaid")
NOT_OURS = ("torchrun", "srun", "trtexec", "git", "cd", "twine")
"""Programs of others: only in blocks that do not run."""
QUICK = ("docs/tutorial.md",)
"""Pages that run in every test run."""


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    sample_files(folder)
    return folder


def test_every_block_says_what_it_is() -> None:
    found = []
    for path in PAGES:
        for block in blocks(path):
            wrong = None
            if block.language and block.language not in LANGUAGES:
                wrong = f"got the language {block.language!r}, wanted one of {', '.join(LANGUAGES)}"
            elif not block.language and "```" in path.read_text().splitlines()[block.line - 1]:
                wrong = f"got a fence without a language, wanted one of {', '.join(LANGUAGES)}"
            elif not block.language and re.match(r"(from|import) ", block.text):
                wrong = "got indented Python, wanted a fence with the language"
            elif not block.runs and not re.fullmatch(r"not run: \S.*", block.mark):
                wrong = "got no reason, wanted <!-- not run: REASON -->"
            if wrong:
                found.append(f"{block.name}: {wrong}")
    refuse(found)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_commands_are_understood(path: Path, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    for block in blocks(path):
        if block.file is not None:
            Path(block.file).write_text(block.text)
    refuse(
        [
            f"{block.name}: {wrong}"
            for block in blocks(path)
            for words in block.commands
            if (wrong := fault(words, block))
        ]
    )


def fault(words: list[str], block: Block) -> str | None:
    """What is wrong with a command, without running it; None: nothing."""
    program, given = words[0], words[1:]
    if program in NOT_OURS:
        if block.runs:
            return f"got {program} in a block that runs, wanted <!-- not run: REASON -->"
        for start in ("crosspol", "crosspol.cli"):
            if start in given:
                return fault(["crosspol", *given[given.index(start) + 1 :]], block)
        return None
    check = {"crosspol": _crosspol_fault, "python": _python_fault, "pip": _pip_fault, "make": _make_fault}.get(program)
    return f"got the program {program}, wanted one that the tests know" if check is None else check(given)


def _crosspol_fault(given: list[str]) -> str | None:
    if given[0] in ("--help", "--version"):
        return None
    if given[0] not in cli.COMMANDS:
        return f"got crosspol {given[0]}, wanted a command that exists"
    options, _ = cli.COMMANDS[given[0]].load(given[0])
    try:
        cli._parse(options, f"crosspol {given[0]}", [word for word in given[1:] if word != "..."])
    except UsageError as error:
        return f"{shlex.join(['crosspol', *given])}: {error}"
    return None


def _python_fault(given: list[str]) -> str | None:
    """A module of benchmarks/ or a script that exists, with flags that its source names."""
    name = f"{given[1].replace('.', '/')}.py" if given[0] == "-m" else given[0]
    if given[0] == "-m" and (REPOSITORY / given[1]).is_dir():
        name = f"{given[1]}/__main__.py"
    places = (REPOSITORY, REPOSITORY / "examples")
    file = next((place / name for place in places if (place / name).exists()), REPOSITORY / name)
    if not file.is_file():
        return f"got python {shlex.join(given)}, wanted a file of the repository"
    source = file.read_text()
    for word in given:
        flag = word[2:].replace("-", "_")
        if word.startswith("--") and flag not in source and word not in source:
            return f"got {word}, wanted a flag of {file.name}"
    return None


def _pip_fault(given: list[str]) -> str | None:
    known = extras()
    named = re.findall(r"\[([\w,]+)\]", " ".join(given))
    unknown = {extra for group in named for extra in group.split(",")} - known
    return f"got the extras {sorted(unknown)}, wanted some of {sorted(known)}" if unknown else None


def extras() -> set[str]:
    text = (REPOSITORY / "pyproject.toml").read_text()
    table = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    return set(re.findall(r"^(\w+) = \[", table, re.MULTILINE))


def _make_fault(given: list[str]) -> str | None:
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    unknown = set(given) - targets
    return f"got make {' '.join(sorted(unknown))}, wanted a target of the Makefile" if unknown else None


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_python_compiles_and_imports_what_exists(path: Path) -> None:
    found = []
    for block in blocks(path):
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse(block.text, block.name)):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("crosspol") or not block.runs:
                continue
            module = importlib.import_module(node.module or "")
            found += [
                f"{block.name}: got {node.module}.{alias.name}, wanted a name that exists"
                for alias in node.names
                if not hasattr(module, alias.name)
            ]
    refuse(found)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_settings_are_read(path: Path, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(path)):
        if block.language == "yaml" and block.runs:
            file = tmp_path / f"{number}.yaml"
            file.write_text(block.text)
            if re.search(r"^kind:", block.text, re.MULTILINE):
                read_rig(file)
            else:
                read_config(file)


def pages_that_run() -> list[object]:
    found = []
    for path in PAGES:
        if any(block.runs and (block.commands or block.language in ("python", "csv")) for block in blocks(path)):
            marks = [] if name_of(path) in QUICK else [pytest.mark.extended]
            found.append(pytest.param(path, id=name_of(path), marks=marks))
    return found


@pytest.mark.parametrize("path", pages_that_run())
def test_a_page_runs(path: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "page"
    shutil.copytree(files, folder) if name_of(path) not in QUICK else folder.mkdir()
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    exec(PRELUDES.get(name_of(path), ""), names)
    for block in blocks(path):
        if not block.runs:
            continue
        if name_of(path) not in QUICK:
            shutil.rmtree("out", ignore_errors=True)
        if block.file is not None:
            Path(block.file).write_text(block.text)
        for words in block.commands:
            run_command(words, block)
        if block.language == "python":
            run_python(block, names)
        if block.language == "csv":
            Path("pairs.csv").write_text(block.text)
            run_command(["crosspol", "data", "check", "pairs.csv"], block)
    if name_of(path) == "docs/tutorial.md":
        assert files_in_table(path, "left_raw_disparity.pfm") == {file.name for file in Path("out").iterdir()}


def files_in_table(path: Path, first: str) -> set[str]:
    """Names in the first column of the table that begins with a name; `.png` is the one before with another suffix."""
    text = path.read_text(encoding="utf-8")
    rows = text[text.index(f"| `{first}`") :].partition("\n\n")[0].splitlines()
    found: list[str] = []
    for name in (name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])):
        found.append(Path(found[-1]).with_suffix(name).name if name.startswith(".") else name)
    return set(found)


def run_command(words: list[str], block: Block) -> None:
    wanted = 1 if block.mark == "exit status 1" else 0
    if words[0] == "crosspol":
        try:
            status: object = cli.main(words[1:])
        except SystemExit as left:
            status = left.code
    else:
        assert words[0] == "python", f"{block.name}: got {words[0]} in a block that runs, wanted crosspol or python"
        file = REPOSITORY / "examples" / words[1]
        status = subprocess.run([sys.executable, str(file), *words[2:]], check=False).returncode
    assert status == wanted, f"{block.name}: {shlex.join(words)}: got exit status {status}, wanted {wanted}"


def run_python(block: Block, names: dict[str, object]) -> None:
    try:
        exec(compile(block.text, block.name, "exec"), names)
    except Exception as error:
        raise AssertionError(f"{block.name}: {type(error).__name__}: {error}") from error


def test_the_sample_room_of_the_tutorial_is_the_first() -> None:
    text = (REPOSITORY / "docs" / "tutorial.md").read_text()
    name = re.search(r'sample_rooms\(\) / "([\w-]+)"', text)
    assert name is not None
    assert (sample_rooms() / name[1]).is_dir()


def test_faults_are_named(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Text.\n\n    crosspol predict a.png b.png --outptu out\n    shown, not run\n\n"
        "<!-- not run: takes\nhours -->\n```bash\nX=1 crosspol train \\\n  --output runs/a  # a comment\n```\n\n"
        "```python\nimport crosspol\n```\n"
    )
    found = list(blocks(page))
    assert [(b.line, b.language, b.runs) for b in found] == [(3, "", True), (8, "bash", False), (13, "python", True)]
    assert found[0].commands == [["crosspol", "predict", "a.png", "b.png", "--outptu", "out"]]
    assert found[1].commands == [["crosspol", "train", "--output", "runs/a"]]
    assert found[2].commands == []
    assert "--outptu" in str(fault(found[0].commands[0], found[0]))
    for command, says in (
        ("crosspol predcit", "a command that exists"),
        ("python -m benchmarks.nothing", "a file of the repository"),
        ("python -m benchmarks.attention --unheard-of", "a flag of attention.py"),
        ("pip install '.[everything]'", "some of"),
        ("make nothing", "a target of the Makefile"),
        ("trtexec --onnx=a", "not run"),
        ("rm -rf a", "one that the tests know"),
    ):
        assert says in str(fault(shlex.split(command), found[0])), command
