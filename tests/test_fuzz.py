"""Damaged files of every kind are read or refused by the package's own error, in a line, in time and in memory.

`python -m fuzz` does the same for as long as one likes; docs/robustness.md says what it found.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
from fuzz.__main__ import main
from fuzz.mutations import mutate
from fuzz.readers import READERS, Reader
from fuzz.run import make_input, run, try_out

from crosspol.errors import UsageError

INPUTS = 15
"""Of each reader: 500 in all."""

UNUSUAL = {"configuration-yaml", "npy", "pnm", "raw", "safetensors", "checkpoint", "tiff", "png", "jpeg", "exr", "bmp"}
"""Readers among whose whole files are some that nobody takes, such as an array without rows."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    # A child process that is forked has none of its parent's threads.
    cv2.setNumThreads(0)


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(name: str) -> None:
    reader = READERS[name]
    tally = run(reader, len(reader.seeds()), INPUTS)
    assert tally.findings == {}
    assert tally.read + tally.refused == tally.inputs == INPUTS


@pytest.mark.extended
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_files_are_read_or_refused(name: str) -> None:
    tally = run(READERS[name], 0, 10_000 // len(READERS) + 1, seed=1)
    assert tally.findings == {}


@pytest.mark.parametrize("name", READERS)
def test_whole_files_are_read(name: str) -> None:
    """Else nothing behind the first check would be tested."""
    tally = run(READERS[name], 0, len(READERS[name].seeds()))
    assert tally.findings == {}
    assert tally.refused == 0 or (name in UNUSUAL and tally.read)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("make", [pipe, endless, Path.mkdir])
def test_nothing_but_files_is_opened(name: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    reader = READERS[name]
    path = tmp_path / reader.file
    path.parent.mkdir(exist_ok=True)
    for file, data in reader.beside().items():
        (tmp_path / file).write_bytes(data)
    make(path)
    # Whoever opens a pipe waits for ever.
    signal.alarm(20)
    try:
        found = try_out(reader, path)
    finally:
        signal.alarm(0)
    assert found == ("read" if name == "training-checkpoint" else "refused")


def test_inputs_are_functions_of_seed_and_number() -> None:
    reader = READERS["rig"]
    seeds = reader.seeds()
    assert [make_input(reader, seeds, 0, number) for number in range(len(seeds))] == seeds
    found = [make_input(reader, seeds, seed, number) for seed in (0, 1) for number in range(10, 20)]
    assert found == [make_input(reader, seeds, seed, number) for seed in (0, 1) for number in range(10, 20)]
    assert len(set(found)) > 15


def hanging(path: Path) -> None:
    while True:
        pass


def crashing(path: Path) -> None:
    import ctypes

    ctypes.string_at(0)


def hungry(path: Path) -> None:
    bytearray(3 << 30)


def foreign(path: Path) -> None:
    raise KeyError("a")


def wordy(path: Path) -> None:
    error = UsageError()
    error.args = ("a\nb",)
    raise error


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (hanging, "over 0.05 s"),
        (crashing, "SIGSEGV"),
        (hungry, "MemoryError: test_fuzz.py:hungry"),
        (foreign, "KeyError: test_fuzz.py:foreign"),
        (wordy, "several lines in a UsageError: test_fuzz.py:wordy"),
    ],
)
def test_what_is_wrong_is_found(read, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """And the inputs after it are tried all the same."""
    monkeypatch.setattr("fuzz.run.LONGEST_S", 0.05)
    reader = Reader("wrong", "a", lambda: [b"a", b"b"], lambda path: read(path) if path.read_bytes() == b"a" else None)
    tally = run(reader, 0, 2)
    assert tally.findings == {kind: {"count": 1, "first": 0}}
    assert (tally.inputs, tally.read) == (2, 1)


def test_results_add_up_over_runs(tmp_path: Path) -> None:
    path = tmp_path / "fuzzing.json"
    for inputs in (20, 40):
        arguments = ["--inputs", "20", "--reader", "pfm", "--reader", "rig", "--output", str(path)]
        assert main(arguments) == 0
        results = json.loads(path.read_text())
        assert results["inputs"] == inputs == results["inputs_by_engine"]["mutate"]
        assert results["readers"]["pfm"]["mutate"]["inputs"] == inputs // 2
    with pytest.raises(SystemExit, match="--seed: got 1, wanted 0 as in"):
        main(["--seed", "1", "--output", str(path)])


def test_changes_are_bounded() -> None:
    import random

    for name in ("scenes.jsonl", "npz", "png"):
        reader = READERS[name]
        seeds = reader.seeds()
        for number in range(50):
            assert len(mutate(seeds, reader.mutators, random.Random(number))) <= 1 << 21


def test_the_document_says_what_the_run_found() -> None:
    root = Path(__file__).parents[1]
    results = json.loads((root / "benchmarks" / "results" / "fuzzing.json").read_text())
    entries = [entry for reader in results["readers"].values() for entry in reader.values()]
    said = " ".join((root / "docs" / "robustness.md").read_text().split())
    assert results["inputs"] == sum(entry["inputs"] for entry in entries)
    assert f"{results['inputs']:,} inputs, {results['inputs_by_engine']['atheris']:,} of them by atheris" in said
    counts = [sum(entry[kind] for entry in entries) for kind in ("read", "refused")]
    found = sum(len(entry["findings"]) for entry in entries)
    assert "{:,} were read, {:,} refused, {} kinds of findings".format(*counts, found) in said
    assert f"more than {max(entry['slowest_s'] for entry in entries):.2f} s of the CPU" in said
