"""Fuzz the readers of CrossPol and count what comes of it.

    python -m fuzz --inputs 100000 --output fuzzing.json
    python -m fuzz --engine atheris --inputs 20000 --reader rig --reader pfm --output fuzzing.json

Every reader gets files that were whole and then damaged. It may take one or refuse it with the package's own error, in
a line. Everything else is a finding: another exception, a signal, more than a second of the CPU, more memory than the
stated limits explain. The file of results is added to, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import crosspol
from crosspol.io.atomic import write_bytes
from fuzz.guided import run_guided
from fuzz.readers import READERS
from fuzz.run import LONGEST_S, MEMORY_BYTES, Tally, alone, describe, run, say

_PACKAGES = ("numpy", "opencv-python-headless", "Pillow", "OpenEXR", "PyYAML", "safetensors", "torch", "atheris")
_ROUND_S = 4.0
"""CPU time that each reader gets in a round, about; results are written after each reader."""


def main(arguments: list[str] | None = None) -> int:
    """Fuzz; the exit status is 1 where something was found."""
    options = _options(arguments)
    alone()
    names = options.reader or list(READERS)
    results = _read(options.output, options.seed)
    done = 0
    rates = dict.fromkeys(names, 500.0)
    while done < options.inputs:
        for name in names:
            left = options.inputs - done
            count = min(left, max(1, options.inputs // len(names)))
            if options.engine == "mutate":
                # The other engine takes seconds to begin, and keeps what it found only while it runs.
                count = min(count, int(rates[name] * _ROUND_S) + 1)
            if not count:
                break
            entry = results["readers"].setdefault(name, {}).setdefault(options.engine, {})
            tally = Tally(**entry)
            engine = run if options.engine == "mutate" else run_guided
            part = engine(READERS[name], tally.inputs, count, options.seed)
            tally.add(part)
            done += max(1, part.inputs)
            rates[name] = min(20_000.0, part.inputs / max(part.cpu_s, 1e-3))
            results["readers"][name][options.engine] = describe(tally)
            _write(options.output, results)
            for kind, found in part.findings.items():
                say(f"{name}: {kind}, {found['count']} times, first input {found['first']}")
    found = sum(len(entry["findings"]) for reader in results["readers"].values() for entry in reader.values())
    say(f"{results['inputs']} inputs in all, {found} kinds of findings")
    return 1 if found else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", choices=("mutate", "atheris"), default="mutate", help="at random, or by coverage")
    parser.add_argument("--inputs", type=int, default=10_000, help="how many files, in all (default 10000)")
    parser.add_argument("--reader", action="append", choices=tuple(READERS), metavar="NAME", help=", ".join(READERS))
    parser.add_argument("--seed", type=int, default=0, help="of the generators (default 0)")
    parser.add_argument("--output", type=Path, help="JSON file of results, which is added to")
    options = parser.parse_args(arguments)
    if options.inputs < 1:
        parser.error(f"--inputs: got {options.inputs}, wanted at least 1")
    return options


def _read(path: Path | None, seed: int) -> dict[str, Any]:
    results: dict[str, Any] = {"readers": {}}
    if path is not None and path.exists():
        results = json.loads(path.read_text(encoding="utf-8"))
        if results["seed"] != seed:
            sys.exit(f"--seed: got {seed}, wanted {results['seed']} as in {path}, or another --output")
    commits = [*results.get("commits", []), _commit()]
    return {
        "what": "python -m fuzz: inputs by reader and engine; what a finding is, is in docs/robustness.md",
        "seed": seed,
        "limits": {"cpu_s": LONGEST_S, "memory_bytes": MEMORY_BYTES},
        "commits": list(dict.fromkeys(commits)),
        # What an earlier part of the run had and this one has not stays named.
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) or results.get("versions", {}).get(name) for name in _PACKAGES},
        },
        "inputs": 0,
        "inputs_by_engine": {},
        "readers": results["readers"],
    }


def _write(path: Path | None, results: dict[str, Any]) -> None:
    engines: dict[str, int] = {}
    for reader in results["readers"].values():
        for engine, entry in reader.items():
            engines[engine] = engines.get(engine, 0) + entry["inputs"]
    results |= {"inputs": sum(engines.values()), "inputs_by_engine": engines}
    if path is not None:
        write_bytes(path, (json.dumps(results, indent=1) + "\n").encode())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    folder = Path(crosspol.__file__).parent
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


if __name__ == "__main__":
    sys.exit(main())
