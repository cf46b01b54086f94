"""Faults of the disk, injected call by call, as SQLite's tests do: until a run is through without meeting one.

A library that is loaded before the C library (`interpose.c`) counts the calls that change a file below a folder, and
makes the n-th fail or kills the process there. `python -m tests.faults.inject SCENARIO ...` runs in such a process; it
imports everything once and forks for every fault.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("interpose.c")
REPOSITORY = SOURCE.parents[2]


@dataclass(frozen=True)
class Kind:
    """A kind of fault. error: 0 kills the process. lasting: all later calls fail as well, as on a full disk."""

    error: int
    lasting: bool = False


KINDS = {
    "EIO": Kind(errno.EIO),
    "ENOSPC": Kind(errno.ENOSPC, lasting=True),
    "SIGKILL": Kind(0),
}


@dataclass(frozen=True)
class Scenario:
    """A command, and what has to be true of its folder whatever happened.

    prepare: fills the folder, before any fault.
    run: the command, with `out` in the folder; returns its status.
    again: what is run afterwards, without a fault, and has to bring the folder to where the whole run would have.
    volatile: of a file that differs from run to run: its content without what differs; an error where it is damaged.
    may_vanish: files that may be gone where the process was killed.
    passing: files that come and go within a run; they have to be whole.
    together: files that are all of before or all of afterwards, where the first of them is there.
    """

    prepare: Callable[[Path], None]
    run: Callable[[Path], int]
    again: Callable[[Path], int]
    volatile: dict[str, Callable[[Path], Any]] = field(default_factory=dict)
    may_vanish: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    passing: tuple[str, ...] = ()


@dataclass
class Attempt:
    """What a run with a fault came to. delivered: the call that failed; "" where the run met none."""

    status: int
    delivered: str
    calls: int
    said: str


@dataclass(frozen=True)
class Report:
    """What came of a scenario. calls: that could fail. points: faults that were met, by kind. wrong: in lines."""

    calls: int
    points: dict[str, int]
    wrong: list[str]


def compiled(folder: Path) -> Path:
    """Compile the library.

    Raises:
        FileNotFoundError: there is no C compiler.
    """
    library = folder / "interpose.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise FileNotFoundError("cc")
    flags = ["-shared", "-fPIC", "-O1", "-D_GNU_SOURCE"]
    subprocess.run([compiler, *flags, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


def inject(library: Path, folder: Path, plan: dict[str, dict[str, int]]) -> dict[str, Report]:
    """Run scenarios with faults in a process of its own.

    Args:
        library: as `compiled` makes it.
        folder: an empty one.
        plan: by scenario and by kind of fault, every how many calls there is one; 1: at every call.
    """
    live = folder / "live"
    environment = dict(os.environ, LD_PRELOAD=str(library), TMPDIR=str(live / "tmp"), PYTHONDONTWRITEBYTECODE="1")
    environment |= {"OMP_NUM_THREADS": "1", "CROSSPOL_CACHE": str(live / "cache"), "INTERPOSE": str(library)}
    # Before anything is imported there: Python looks for a place for temporary files once.
    (live / "tmp").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.faults.inject", str(folder), json.dumps(plan)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    return {name: Report(**found) for name, found in json.loads(done.stdout.splitlines()[-1]).items()}


class Injector:
    """Runs a scenario again and again in `folder`, each time with another fault."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self.scenario, self.folder = scenario, folder
        self.live, self.start = folder / "live", folder / "start"
        self._library = ctypes.CDLL(os.environ["INTERPOSE"])
        self._library.fault_delivered.restype = ctypes.c_char_p
        self._library.fault_count.restype = ctypes.c_long
        for leftover in (self.live, self.start):
            shutil.rmtree(leftover, ignore_errors=True)
        (self.live / "tmp").mkdir(parents=True)
        scenario.prepare(self.live)
        shutil.copytree(self.live, self.start, symlinks=True)
        self.before = self.contents()
        whole = self.attempt(scenario.run, 0, KINDS["EIO"])
        assert whole.status == 0, whole.said
        self.reference = self.contents()
        self.calls = whole.calls

    def restore(self) -> None:
        """Bring the folder to its start."""
        shutil.rmtree(self.live)
        shutil.copytree(self.start, self.live, symlinks=True)

    def attempt(self, run: Callable[[Path], int], nth: int, kind: Kind) -> Attempt:
        """Run in a process of its own, of which the n-th call fails; 0: none."""
        report, said = self.folder / "report.json", self.folder / "said"
        report.unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            _child(run, self.live, (report, said), lambda: self._arm(nth, kind), self._met)
        _, ended = os.waitpid(pid, 0)
        status = os.waitstatus_to_exitcode(ended)
        delivered, calls = json.loads(report.read_text()) if report.exists() else (f"killed by {-status}", 0)
        return Attempt(status, delivered, calls, said.read_text(errors="replace"))

    def _arm(self, nth: int, kind: Kind) -> None:
        below = str(self.live.resolve()).encode()
        self._library.fault_arm(below, ctypes.c_long(nth), kind.error, int(kind.lasting))

    def _met(self) -> tuple[str, int]:
        return self._library.fault_delivered().decode(errors="replace"), self._library.fault_count()

    def contents(self) -> dict[str, Any]:
        """What is in the output folder under names that count: hidden files are nobody's results."""
        found: dict[str, Any] = {}
        root = self.live / "out"
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.is_file() and not any(part[0] == "." or part.endswith(".part") for part in Path(name).parts):
                read = self.scenario.volatile.get(Path(name).name)
                found[name] = path.read_bytes() if read is None else read(path)
        return found

    def leftovers(self) -> list[str]:
        """What only a run that is under way may have in its folders."""
        found = [path for path in self.live.rglob("*") if path.name.endswith(".part") or ".part/" in str(path)]
        return sorted(path.relative_to(self.live).as_posix() for path in found)

    def complaints(self, nth: int, kind: Kind) -> Iterator[str]:
        """Run with one fault, run again without; yield what is wrong. The first is "" where the fault was met."""
        self.restore()
        met = self.attempt(self.scenario.run, nth, kind)
        if not met.delivered:
            return
        yield ""
        where = f"{met.delivered}: "
        yield from (where + line for line in self._look(met))
        if kind.error:
            # Who lives cleans up, unless it is the cleaning that fails.
            if "unlink" not in met.delivered and "rmdir" not in met.delivered:
                yield from (f"{where}left behind: {name}" for name in self.leftovers())
            return
        again = self.attempt(self.scenario.again, 0, kind)
        if again.status:
            yield f"{where}the same command afterwards: status {again.status}: {again.said.strip()[-500:]}"
        else:
            yield from (f"{where}afterwards: {line}" for line in self._differences(self.reference))
            yield from (f"{where}afterwards left behind: {name}" for name in self.leftovers())

    def _look(self, met: Attempt) -> Iterator[str]:
        if met.status == -9:
            found = list(self._differences(self.before, self.reference))
            yield from (line for line in found if line not in [f"{name} is gone" for name in self.scenario.may_vanish])
            return
        if met.status == 0:
            yield from (f"status 0, but {line}" for line in self._differences(self.reference))
        elif met.status not in (1, 2):
            yield f"status {met.status}: {met.said[-500:]}"
        else:
            yield from self._differences(self.before, self.reference)
        complaints = [
            line for line in met.said.splitlines() if line.startswith("crosspol ") and ": warning: " not in line
        ]
        if "Traceback" in met.said or (met.status and len(complaints) != 1):
            yield f"status {met.status}, said {met.said[-1500:]!r}"

    def _differences(self, *allowed: dict[str, Any]) -> Iterator[str]:
        """Compare with what may be there: every file as in one of the states, and none gone that is in all."""
        try:
            found = self.contents()
        except Exception as error:
            yield f"damaged: {type(error).__name__}: {error}"
            return
        for name, content in found.items():
            if name in self.scenario.passing and self.reference not in allowed[:1]:
                continue
            if not any(name in state and _fits(content, state[name]) for state in allowed):
                yield f"{name} is neither what was there nor what was to come"
        pair = self.scenario.together
        if (
            pair
            and pair[0] in found
            and not any(all(found.get(name) == state.get(name) for name in pair) for state in allowed)
        ):
            yield f"{', '.join(pair)} are of two runs"
        for name in set.intersection(*map(set, allowed)) - set(found):
            yield f"{name} is gone"


def _fits(found: Any, wanted: Any) -> bool:
    """Whether a content is the wanted one; of a record that grows, a beginning is fine."""
    if isinstance(found, list) and isinstance(wanted, list):
        return all(entry in wanted for entry in found)
    return bool(found == wanted)


def _child(
    run: Callable[[Path], int],
    live: Path,
    files: tuple[Path, Path],
    arm: Callable[[], None],
    met: Callable[[], tuple[str, int]],
) -> None:
    report, said = files
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for number in (1, 2):
        os.dup2(output, number)
    status = 70
    try:
        arm()
        status = run(live)
    except SystemExit as exit_:
        status = exit_.code if isinstance(exit_.code, int) else 1
        if isinstance(exit_.code, str):
            print(exit_.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with report.open("w") as file:
            json.dump(met(), file)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main(folder: str, plan: str) -> None:
    """Inject faults into scenarios; the last line that is printed is what was found, as JSON."""
    from tests.faults.scenarios import SCENARIOS

    found: dict[str, dict[str, Any]] = {}
    for name, kinds in json.loads(plan).items():
        injector = Injector(SCENARIOS[name], Path(folder))
        points: Counter[str] = Counter()
        wrong: list[str] = []
        for kind, every in kinds.items():
            nth = every
            while said := list(injector.complaints(nth, KINDS[kind])):
                points[kind] += 1
                wrong += [f"{name}, {kind} at {nth}: {line}" for line in said if line]
                nth += every
        found[name] = {"calls": injector.calls, "points": points, "wrong": wrong}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
