"""What a folder of results holds, pair by pair, and by which settings it was made: so that a run can be taken up again.

The record is a text file beside the results, `predict.jsonl`. A line ``{"run": ID, "settings": {...}}`` says what the
settings of a run were, a line ``{"run": ID, "scales": {"640x480 1 left right 12": 0.6}}`` what `--scale auto` chose in
it by size, batch, tensors and iterations, and a line
``{"pair": STEM, "run": ID, "inputs": [...], "outputs": [...]}`` that a pair is complete. Of several lines of a pair the
last counts; one that was cut off, as a power failure may leave it, counts for nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from crosspol.errors import UsageError
from crosspol.inference.backends import Backend
from crosspol.inference.onnx_graph import tensors_hash
from crosspol.io.inside import inside
from crosspol.io.reading import read_lines
from crosspol.io.structured import parse_json

__all__ = ["RECORD", "Record", "engine_hash"]

RECORD = "predict.jsonl"

Settings = Mapping[str, Any]


class Record:
    """The record of a folder, for one run.

    Args:
        folder: of the results; need not exist yet.
        settings: what results depend on, apart from their files: values that JSON knows.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.path = folder / RECORD
        # As they are after a detour through the file.
        self.settings: dict[str, Any] = json.loads(json.dumps(dict(settings)))
        self.run = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:12]
        self._runs: dict[str, dict[str, Any]] = {}
        self._pairs: dict[str, dict[str, Any]] = {}
        self._scales: dict[str, float] = {}
        for line in _lines(self.path):
            if isinstance(line.get("pair"), str):
                self._pairs[line["pair"]] = line
            elif isinstance(line.get("settings"), dict):
                self._runs[line["run"]] = line["settings"]
            elif line["run"] == self.run:
                self._scales |= _known_scales(line.get("scales"))

    def check(self, stems: Iterable[str]) -> None:
        """Refuse to go on where a pair's results are of other settings.

        Raises:
            UsageError: they are; the message says which settings differ.
        """
        for stem in stems:
            run = self._pairs.get(stem, {}).get("run", self.run)
            if run != self.run:
                other = self._runs.get(run, {})
                names = sorted(name for name in {*other, *self.settings} if other.get(name) != self.settings.get(name))
                differ = ", ".join(f"{name} {_word(other, name)}, now {_word(self.settings, name)}" for name in names)
                raise UsageError(
                    f"--skip-existing: got results of other settings in {self.path} ({differ}), wanted the same "
                    "settings, another --output, or a run without --skip-existing, which replaces them"
                )

    def scales(self, known: bool) -> MutableMapping[str, float]:
        """Return the scales, by what decides them, that a run chooses; what is set in it is written to the record.

        A speed that is measured anew is another one: pairs of one folder would be of different scales.

        Args:
            known: whether to begin with those of the run that this one takes up.
        """
        return _Scales(self, self._scales if known else {})

    def note(self, line: Mapping[str, Any]) -> None:
        """Add a line of this run.

        Raises:
            OSError: the record cannot be written.
        """
        self._append([{"run": self.run, **line}])

    def holds(self, stem: str, inputs: Sequence[Path]) -> bool:
        """Whether a pair's results are all there, as they were written, by these settings and from these files."""
        line = self._pairs.get(stem)
        if line is None or line.get("run") != self.run or line.get("inputs") != _inputs(inputs):
            return False
        try:
            return bool(line["outputs"]) and all(
                _output(inside(self.path.parent, name, self.path)) == [name, size, crc]
                for name, size, crc in line["outputs"]
            )
        except (OSError, KeyError, TypeError, ValueError):
            return False

    def add(self, stem: str, inputs: Sequence[Path], outputs: Sequence[Path]) -> None:
        """Note that a pair is complete, after its files were written.

        Raises:
            OSError: the record cannot be written.
        """
        lines: list[dict[str, Any]] = []
        if self.run not in self._runs:
            self._runs[self.run] = self.settings
            lines.append({"run": self.run, "settings": self.settings})
        pair = {
            "pair": stem,
            "run": self.run,
            "inputs": _inputs(inputs),
            "outputs": [_output(path) for path in outputs],
        }
        self._pairs[stem] = pair
        self._append([*lines, pair])

    def _append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        # In one call and at the end of the file, so that runs beside each other do not cut each other's lines. The line
        # break in front ends a line that was cut off.
        text = "".join(f"\n{json.dumps(line)}" for line in lines)
        with self.path.open("ab", buffering=0) as file:
            file.write(f"{text}\n".encode())


class _Scales(dict[str, float]):
    """Notes what is set."""

    def __init__(self, record: Record, known: Mapping[str, float]) -> None:
        super().__init__(known)
        self._record = record

    def __setitem__(self, size: str, scale: float) -> None:
        super().__setitem__(size, scale)
        self._record.note({"scales": dict(self)})


def _known_scales(found: Any) -> dict[str, float]:
    """What a line says, without what is no scale."""
    if not isinstance(found, dict):
        return {}
    return {
        size: float(scale)
        for size, scale in found.items()
        if isinstance(scale, (int, float)) and not isinstance(scale, bool) and 0 < scale <= 1
    }


def engine_hash(engine: Backend) -> str:
    """Return what tells weights from others: a hash of their numbers and of the network's configuration."""
    found = hashlib.sha256(repr(engine.config).encode())
    network = getattr(engine, "network", None)
    if network is None:
        # An engine without tensors to look at.
        return f"{type(engine).__name__} {found.hexdigest()[:16]}"
    found.update(tensors_hash(network).encode())
    return found.hexdigest()[:16]


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    # Also a link that leads nowhere: what is noted makes the file.
    for text in read_lines(path, what="the record of a folder") if path.exists() else ():
        try:
            line = parse_json(text, path)
        except UsageError:
            continue
        if isinstance(line, dict) and isinstance(line.get("run"), str):
            found.append(line)
    return found


def _inputs(paths: Sequence[Path]) -> list[list[Any]]:
    """What tells files from others of the same names, without reading them."""
    states = [(path, os.stat(path)) for path in paths]
    return [[str(path.resolve()), state.st_size, state.st_mtime_ns] for path, state in states]


def _output(path: Path) -> list[Any]:
    data = path.read_bytes()
    return [path.name, len(data), zlib.crc32(data)]


def _word(settings: Settings, name: str) -> str:
    value = settings.get(name)
    return "none" if value is None else str(value)
