"""Gives readers damaged files, in child processes that a crash, a hang or too much memory ends, and counts."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crosspol.errors import UsageError
from fuzz.mutations import mutate
from fuzz.readers import Reader

LONGEST_S = 1.0
"""CPU time that a file may take."""

MEMORY_BYTES = 512 << 20
"""Address space that a reader may take beyond what the process has: files unpack to 64 MiB at most, in a few copies."""

_RECYCLED = 200_000
"""Inputs after which a child process ends, so that what grows slowly does not end it by chance."""


@dataclass
class Tally:
    """What came of the inputs of a reader.

    inputs: how many; read: were taken; refused: with the package's own error.
    findings: everything else by kind: an exception and where it came from, a signal, a hang. Each with its count and
        the number of the first input.
    cpu_s: of all; slowest_s: of one.
    largest_bytes: by which the resident memory of a child process grew at most.
    """

    inputs: int = 0
    read: int = 0
    refused: int = 0
    findings: dict[str, dict[str, int]] = field(default_factory=dict)
    cpu_s: float = 0.0
    slowest_s: float = 0.0
    largest_bytes: int = 0

    def note(self, kind: str, number: int) -> None:
        """Count a finding."""
        entry = self.findings.setdefault(kind, {"count": 0, "first": number})
        entry["count"] += 1

    def add(self, other: Tally) -> None:
        """Count what another tally has counted."""
        self.inputs += other.inputs
        self.read += other.read
        self.refused += other.refused
        self.cpu_s += other.cpu_s
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        self.largest_bytes = max(self.largest_bytes, other.largest_bytes)
        for kind, entry in other.findings.items():
            mine = self.findings.setdefault(kind, {"count": 0, "first": entry["first"]})
            mine["count"] += entry["count"]


def make_input(reader: Reader, seeds: Sequence[bytes], seed: int, number: int) -> bytes:
    """Return input `number` of a reader: a function of its seeds, `seed` and `number`. The first ones are whole."""
    if number < len(seeds):
        return seeds[number]
    return mutate(seeds, reader.mutators, random.Random(f"{seed} {reader.name} {number}"))


def run(reader: Reader, first: int, count: int, seed: int = 0) -> Tally:
    """Give a reader the inputs `first` to `first + count - 1`."""
    seeds = list(reader.seeds())
    total = Tally()
    at, end = first, first + count
    with _folder(reader) as folder, mmap.mmap(-1, 8) as place:
        while at < end:
            stop = min(end, at + _RECYCLED)
            part, died = _in_child(reader, seeds, seed, at, stop, folder / reader.file, place)
            at = stop
            if died is not None:
                (at,) = struct.unpack("q", place[:])
                part.inputs += 1
                part.note(died, at)
                at += 1
            total.add(part)
    return total


@contextlib.contextmanager
def _folder(reader: Reader) -> Iterator[Path]:
    """A folder in memory where there is one, with the files beside the reader's."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        (folder / reader.file).parent.mkdir(parents=True, exist_ok=True)
        for file, data in reader.beside().items():
            (folder / file).write_bytes(data)
        yield folder


def _in_child(
    reader: Reader, seeds: Sequence[bytes], seed: int, at: int, stop: int, path: Path, place: mmap.mmap
) -> tuple[Tally, str | None]:
    """Run inputs in a child process; what it counted, and what it died of."""
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(receiving)
            _be_child(reader, seeds, seed, at, stop, path, place, sending)
            status = 0
        finally:
            os._exit(status)
    os.close(sending)
    with os.fdopen(receiving, "rb") as stream:
        lines = stream.read().splitlines()
    _, status = os.waitpid(child, 0)
    tally = Tally()
    for line in lines:
        with contextlib.suppress(ValueError):
            tally.add(Tally(**json.loads(line)))
    if not status:
        return tally, None
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return tally, f"over {LONGEST_S:g} s" if number == signal.SIGPROF else signal.Signals(number).name
    return tally, f"exit status {os.WEXITSTATUS(status)}"


def _be_child(
    reader: Reader, seeds: Sequence[bytes], seed: int, at: int, stop: int, path: Path, place: mmap.mmap, sending: int
) -> None:
    # Where a test run asked for it, each crash would print its stack.
    faulthandler.disable()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    limit_memory()
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tally = Tally()

    def report() -> None:
        nonlocal tally
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun) * 1024
        tally.largest_bytes = grown
        os.write(sending, json.dumps(vars(tally)).encode() + b"\n")
        tally = Tally()

    for number in range(at, stop):
        place[:] = struct.pack("q", number)
        data = make_input(reader, seeds, seed, number)
        path.write_bytes(data)
        kind = count(tally, reader, path, number)
        report() if number % 50 == 0 or kind not in ("read", "refused") else None
    report()


def count(tally: Tally, reader: Reader, path: Path, number: int) -> str:
    """Try an input out within its time, add to the tally what came of it, and return that."""
    # The default action of the signal ends the process, wherever it is.
    signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
    begin = time.process_time()
    kind = try_out(reader, path)
    signal.setitimer(signal.ITIMER_PROF, 0)
    taken = time.process_time() - begin
    tally.inputs += 1
    tally.cpu_s += taken
    tally.slowest_s = max(tally.slowest_s, taken)
    if kind in ("read", "refused"):
        setattr(tally, kind, getattr(tally, kind) + 1)
    else:
        tally.note(kind, number)
    return kind


def alone() -> None:
    """Let the libraries have no threads: none is there after a fork, and each reserves memory."""
    import cv2
    import torch

    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def limit_memory() -> None:
    """Let this process have no more than `MEMORY_BYTES` of address space beyond what it has."""
    own = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (own + MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def try_out(reader: Reader, path: Path) -> str:
    """Read a file: "read", "refused", or what is wrong with how it was refused."""
    try:
        reader.read(path)
    except UsageError as error:
        text = str(error)
        if "\n" in text:
            return f"several lines in a {type(error).__name__}: {_where(error)}"
        if len(text.encode(errors="replace")) > 20_000:
            return f"a message of more than 20000 bytes: {_where(error)}"
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}: {_where(error)}"
    return "read"


def _where(error: BaseException) -> str:
    """The last place in the package that an error came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "crosspol" in frame.filename]
    frame = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.name}"


def describe(tally: Tally) -> dict[str, Any]:
    """A tally for a file of results."""
    return {**vars(tally), "cpu_s": round(tally.cpu_s, 2), "slowest_s": round(tally.slowest_s, 4)}


def say(text: str) -> None:
    """Print at once: a long run is watched."""
    print(text, file=sys.stderr, flush=True)
