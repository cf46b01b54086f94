"""Builds sdist and wheel as a release does, twice, and tries the wheel in clean environments.

    python -m scripts.check_wheels                                   # this interpreter, pinned versions
    python -m scripts.check_wheels --python 3.11 --versions pinned oldest --output wheels.json
    python -m scripts.check_wheels --python 3.12 3.13 --versions newest --without-torch 3.12 3.13
    python -m scripts.check_wheels --versions installed              # no network: what make wheel and CI run

Both builds have to give the same bytes. In each environment, which has none of the extras, `crosspol` has to say its
version and its help, predict a pair of 64x48 px and write its page, and say of each extra what to install. Where no
torch can be had for an interpreter without gigabytes of CUDA (`--without-torch`), everything else is installed, every
module is compiled, and what does without torch runs. Environments are made one at a time and removed. `installed` links
to those packages of this environment that the wheel asks for, and to nothing of its extras.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[1]
CONSTRAINTS = {"pinned": "constraints.txt", "oldest": "constraints-oldest.txt", "newest": None, "installed": None}
"""Versions of the dependencies, and the file that says them; the newest are those that pip finds, the installed ones
this environment's."""

SHIPPED = (
    "crosspol/py.typed",
    "crosspol/pretrained/blueprint/model.safetensors",
    "crosspol/pretrained/crosspol/model.safetensors",
    "crosspol/pretrained/crosspol/confidence.json",
    "crosspol/report/templates/pair.html",
    "crosspol/sample_rooms/scenes.jsonl",
    "crosspol/rigs/rig_template.yaml",
)
"""What a wheel has to have beside code."""

MISSING = {
    "train": ("train", "--output", "run", "--preset", "cpu-tiny"),
    "render": ("render", "--scenes", "1", "--output", "rooms"),
    "export": ("export", "--weights", "crosspol", "--rig", "none", "--size", "64x48", "--output", "a.onnx"),
    "view": ("view", "left.png", "right.png"),
    "openvino": ("predict", "left.png", "right.png", "--backend", "openvino", "--output", "out"),
    "onnxruntime": ("predict", "left.png", "right.png", "--backend", "onnxruntime", "--output", "out"),
}
"""An extra, and a command that asks for it."""


@dataclass(frozen=True)
class Outcome:
    """What was tried in an environment. passed: names of the checks; failed: the first one that did not, and why."""

    python: str
    versions: str
    torch: str | None
    passed: list[str]
    failed: str | None


def build(folder: Path, epoch: int) -> dict[str, Path]:
    """Build both from what git has, in a folder of its own; return them by kind."""
    source, out = folder / "source", folder / "dist"
    source.mkdir(parents=True)
    out.mkdir()
    archive = subprocess.run(["git", "-C", str(REPOSITORY), "archive", "HEAD"], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(source, filter="data")
    # setuptools changes sys.argv.
    code = "import sys; to = sys.argv[1]; from setuptools import build_meta as b; b.build_sdist(to); b.build_wheel(to)"
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
    command = [sys.executable, "-c", code, str(out)]
    subprocess.run(command, cwd=source, env=environment, check=True, capture_output=True)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    normalize(sdist, epoch)
    return {"sdist": sdist, "wheel": wheel}


def normalize(sdist: Path, epoch: int) -> None:
    """Write an sdist anew without what differs from build to build: order, times, owners (setuptools keeps these)."""
    written = io.BytesIO()
    with tarfile.open(sdist) as files, tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as anew:
        for member in sorted(files.getmembers(), key=lambda entry: entry.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            anew.addfile(member, files.extractfile(member) if member.isfile() else None)
    sdist.write_bytes(gzip.compress(written.getvalue(), mtime=epoch))


def digest(path: Path) -> str:
    """Return a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lacking(wheel: Path) -> list[str]:
    """Return what a wheel lacks of what ships with it, and what it has too much."""
    with zipfile.ZipFile(wheel) as files:
        names = set(files.namelist())
    wrong = [f"{name} is missing" for name in SHIPPED if name not in names]
    return wrong + [f"{name} does not belong" for name in names if not re.match(r"crosspol[/-]", name)]


def minimum_versions(pyproject: str) -> dict[str, str]:
    """Return the lower bound of every dependency outside of the extras."""
    table = pyproject.partition("\ndependencies = [")[2].partition("]")[0]
    return dict(re.findall(r'"([\w-]+)>=([\w.]+)', table))


@contextmanager
def environment(python: str) -> Iterator[Path]:
    """Make a virtual environment, and remove it afterwards; gives its folder of programs."""
    with tempfile.TemporaryDirectory(prefix="crosspol-wheel-") as name:
        subprocess.run([python, "-m", "venv", name], check=True)
        yield Path(name) / "bin"


def core() -> Iterator[Distribution]:
    """Yield what is installed here of the packages that the core of crosspol needs, each with what it needs itself."""
    asked: set[tuple[str, frozenset[str]]] = set()
    open_ = [Requirement("crosspol")]
    while open_:
        requirement = open_.pop()
        wanted = (requirement.name, frozenset(requirement.extras))
        if wanted in asked:
            continue
        asked.add(wanted)
        found = distribution(requirement.name)
        if requirement.name != "crosspol":
            yield found
        for further in map(Requirement, found.requires or ()):
            if further.marker is None or any(further.marker.evaluate({"extra": name}) for name in ("", *wanted[1])):
                open_.append(further)


def link_core(site: Path) -> None:
    """Link a clean environment to the packages of `core`."""
    for package in core():
        for name in {Path(file).parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
            if not (site / name).exists():
                (site / name).symlink_to(Path(str(package.locate_file(name))).resolve())


def try_wheel(wheel: Path, python: str, versions: str, with_torch: bool) -> Outcome:
    """Install the wheel in a clean environment and use it."""
    passed: list[str] = []
    with environment(python) as programs, tempfile.TemporaryDirectory(prefix="crosspol-work-") as work:

        def run(*command: str, status: int = 0) -> str:
            done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False, env=_plain())
            if done.returncode != status:
                said = (done.stderr or done.stdout).strip()[-600:]
                raise AssertionError(f"{' '.join(command)}: got exit status {done.returncode}, wanted {status}: {said}")
            return done.stdout + done.stderr

        pip = (str(programs / "python"), "-m", "pip", "install", "--quiet", "--only-binary", ":all:")
        file = CONSTRAINTS[versions]
        limits = () if file is None else ("--constraint", str(REPOSITORY / file))
        crosspol, found = str(programs / "crosspol"), None
        try:
            if versions == "installed":
                link_core(_site(programs))
                run(*pip, "--no-index", str(wheel))
            elif with_torch:
                run(*pip, *limits, str(wheel))
            else:
                table = minimum_versions((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
                run(*pip, *limits, *(name for name in table if name != "torch"))
                run(*pip, "--no-deps", str(wheel))
            passed.append("install")
            run(str(programs / "python"), "-m", "compileall", "-q", str(_site(programs) / "crosspol"))
            passed.append("compile")
            assert run(crosspol, "--version").startswith("crosspol ")
            assert "commands:" in run(crosspol, "--help")
            passed.append("help")
            if not with_torch:
                return Outcome(_version(programs), versions, None, passed, None)
            found = run(str(programs / "python"), "-c", "import torch; print(torch.__version__)").strip()
            run(crosspol, "demo", "--raw", "raw")
            _pair(Path(work), programs)
            run(crosspol, "predict", "left.png", "right.png", "--weights", "crosspol", "--output", "out")
            assert (Path(work) / "out" / "left_disparity.pfm").is_file()
            passed.append("predict")
            run(crosspol, "report", "left.png", "right.png", "--output", "page.html")
            assert (Path(work) / "page.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
            passed.append("report")
            for extra, command in MISSING.items():
                said = run(crosspol, *command, status=2)
                assert f"crosspol[{extra}" in said or f",{extra}]" in said, f"{extra}: got {said.strip()}"
                assert "Traceback" not in said
                passed.append(f"without {extra}")
        except (AssertionError, subprocess.CalledProcessError) as error:
            return Outcome(_version(programs), versions, found, passed, str(error))
        return Outcome(_version(programs), versions, found, passed, None)


def _plain() -> dict[str, str]:
    """The environment without what would lead to other installations."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def _site(programs: Path) -> Path:
    (found,) = (programs.parent / "lib").glob("python*/site-packages")
    return found


def _version(programs: Path) -> str:
    command = [str(programs / "python"), "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _pair(folder: Path, programs: Path) -> None:
    """Write left.png and right.png, a random texture that is shifted by 3 px."""
    code = (
        "import numpy, PIL.Image as i; a = numpy.random.default_rng(0).integers(0, 256, (48, 67, 3), 'uint8'); "
        "i.fromarray(a[:, :64]).save('left.png'); i.fromarray(a[:, 3:]).save('right.png')"
    )
    subprocess.run([str(programs / "python"), "-c", code], cwd=folder, check=True, env=_plain())


def interpreter(wanted: str) -> str | None:
    """Return an interpreter of a version such as 3.12: on the path, or one of pyenv's."""
    if wanted == ".".join(map(str, sys.version_info[:2])):
        return sys.executable
    places = sorted((Path.home() / ".pyenv" / "versions").glob(f"{wanted}.*/bin/python"))
    return str(places[-1]) if places else shutil.which(f"python{wanted}")


def main() -> int:
    """Build, compare, try; print a line an environment; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="*", default=[".".join(map(str, sys.version_info[:2]))], metavar="3.N")
    parser.add_argument("--versions", nargs="+", default=["pinned"], choices=list(CONSTRAINTS))
    parser.add_argument("--without-torch", nargs="*", default=[], metavar="3.N", help="interpreters without a torch")
    parser.add_argument("--output", type=Path, metavar="FILE", help="keep what was found as JSON")
    parser.add_argument("--dist", type=Path, metavar="DIR", help="keep sdist and wheel")
    options = parser.parse_args()
    git = ["git", "-C", str(REPOSITORY), "log", "-1", "--format=%ct %H"]
    epoch, commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.split()
    with tempfile.TemporaryDirectory(prefix="crosspol-build-") as name:
        once, again = (build(Path(name) / part, int(epoch)) for part in ("once", "again"))
        hashes = {kind: digest(path) for kind, path in once.items()}
        same = hashes == {kind: digest(path) for kind, path in again.items()}
        problems = [] if same else ["two builds differ"]
        problems += lacking(once["wheel"])
        for kind, path in once.items():
            print(f"{kind}: {path.name}, {path.stat().st_size / 1e6:.1f} MB, SHA-256 {hashes[kind]}")
        print("; ".join(problems) or "both builds are the same, byte by byte", flush=True)
        outcomes = []
        for python in options.python:
            path = interpreter(python)
            for versions in options.versions if path else ():
                outcome = try_wheel(once["wheel"], path or "", versions, python not in options.without_torch)
                outcomes.append(outcome)
                print(
                    f"Python {outcome.python}, {versions}, torch {outcome.torch}: {outcome.failed or 'passed'}",
                    flush=True,
                )
            if path is None:
                problems.append(f"no Python {python}")
        if options.dist is not None:
            options.dist.mkdir(parents=True, exist_ok=True)
            for path in once.values():
                shutil.copy(path, options.dist)
    found = {
        "command": "python -m scripts.check_wheels " + " ".join(sys.argv[1:]),
        "commit": commit,
        "sha256": hashes,
        "reproducible": same,
        "problems": problems,
        "environments": [asdict(outcome) for outcome in outcomes],
    }
    if options.output is not None:
        options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 1 if problems or any(outcome.failed for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
