"""The same by atheris: inputs that reach new code are kept and changed further.

libFuzzer ends the process that it runs in, so that it gets one of its own; what it counts comes back in a file.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from fuzz.readers import READERS, Reader
from fuzz.run import LONGEST_S, MEMORY_BYTES, Tally, alone, count, limit_memory, say, try_out

_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


def run_guided(reader: Reader, first: int, count: int, seed: int = 0) -> Tally:
    """Give a reader `count` inputs that coverage leads to; `first` makes them others than those before."""
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_MEMORY) as name:
        folder = Path(name)
        corpus, counts = folder / "corpus", folder / "counts.json"
        corpus.mkdir()
        for number, data in enumerate(reader.seeds()):
            (corpus / str(number)).write_bytes(data)
        command = [sys.executable, "-m", "fuzz.guided", reader.name, str(counts), str(corpus)]
        options = [
            f"-runs={count}",
            f"-seed={seed + first + 1}",
            "-max_len=65536",
            "-print_final_stats=1",
            "-timeout=60",
        ]
        ended = subprocess.run(
            [*command, *options, f"-rss_limit_mb={2048 + (MEMORY_BYTES >> 20)}", f"-artifact_prefix={folder}/"],
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        tally = _get(counts)
        if not tally.inputs:
            sys.exit(f"atheris: {ended.stderr.strip().splitlines()[-1:] or ended.returncode}")
        if ended.returncode:
            died = -ended.returncode
            said = re.search(r"ERROR: libFuzzer: (.*)", ended.stderr)
            kind = (
                said[1] if said else f"over {LONGEST_S:g} s" if died == signal.SIGPROF else f"exit {ended.returncode}"
            )
            for artifact in folder.glob("*-*"):
                say(f"{reader.name}: {artifact.name}: {artifact.read_bytes()[:2000].hex()}")
            say(ended.stderr[-3000:])
            tally.inputs += 1
            tally.note(kind, first + tally.inputs)
        return tally


def _guide(name: str, counts: Path, arguments: list[str]) -> None:
    import atheris

    reader = READERS[name]
    tally = Tally()
    # Beside the counts, so that whoever started this removes both.
    folder = counts.parent / "files"
    path = folder / reader.file
    path.parent.mkdir(parents=True, exist_ok=True)
    for file, data in reader.beside().items():
        (folder / file).write_bytes(data)
    # Readers import what they need when they read: whole files, so that all of it is watched.
    with atheris.instrument_imports(include=["crosspol", "yaml"], enable_loader_override=False):
        for data in reader.seeds():
            path.write_bytes(data)
            try_out(reader, path)
    alone()
    limit_memory()

    def one(data: bytes) -> None:
        path.write_bytes(data)
        count(tally, reader, path, tally.inputs + 1)
        # libFuzzer leaves past Python: what is not written by now is lost.
        _put(counts, tally)

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def _put(counts: Path, tally: Tally) -> None:
    """Write what was counted; a file in memory takes microseconds."""
    counts.write_text(json.dumps(vars(tally)) + "\n")


def _get(counts: Path) -> Tally:
    try:
        return Tally(**json.loads(counts.read_text()))
    except (OSError, ValueError):
        return Tally()


if __name__ == "__main__":
    _guide(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
