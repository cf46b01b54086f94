"""What a run writes down: a JSON line a record, and the same for TensorBoard."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosspol.errors import MissingFileError, UsageError
from crosspol.io.atomic import write_bytes
from crosspol.io.reading import read_lines
from crosspol.io.structured import parse_json
from crosspol.training.run_folder import RunFolder

_STEPS = 1 << 53
"""Where steps end: a plot counts in doubles."""


class RunLog:
    """The records of one run, opened where its checkpoint stands.

    Args:
        folder: of the run; exists.
        step: steps taken; records of later steps are dropped, for the run makes them again.
        tensorboard: write ``tensorboard/`` as well.
        on_log: called with every record that is written; None: nobody.

    Raises:
        UsageError: tensorboard is wanted and not installed.
    """

    def __init__(
        self,
        folder: RunFolder,
        step: int,
        tensorboard: bool = True,
        on_log: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.path = folder.log
        if self.path.exists():
            kept = [record for record in read_log(self.path) if record["step"] <= step]
            write_bytes(self.path, "".join(_line(record) for record in kept).encode())
        self._on_log = on_log
        self._file = self.path.open("a", encoding="utf-8", buffering=1)
        self._board = _board(folder.tensorboard, step) if tensorboard else None

    def write(self, record: dict[str, Any]) -> None:
        """Add a record; it has a ``step``, and its numbers may be nested in dictionaries."""
        self._file.write(_line(record))
        if self._board is not None:
            for name, value in _numbers(record).items():
                if name != "step":
                    self._board.add_scalar(name, value, record["step"])
        if self._on_log is not None:
            self._on_log(record)

    def image(self, name: str, image: NDArray[np.uint8], step: int) -> None:
        """Show an image (H, W, 3) in TensorBoard."""
        if self._board is not None:
            self._board.add_image(name, image, step, dataformats="HWC")

    def flush(self) -> None:
        """Bring everything to the disk."""
        self._file.flush()
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Write what is left and close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the records of a run; a last line that was cut off or damaged is left out.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is no log of a run, or larger than is taken.
    """
    records = []
    broken = 0
    for number, line in enumerate(read_lines(path, what="the log of a run"), 1):
        if broken:
            raise UsageError(f"{path}: line {broken} is no record, wanted a JSON object with a step")
        record = _record(line, path)
        if record is None:
            broken = number
        else:
            records.append(record)
    return records


def _record(line: str, path: Path) -> dict[str, Any] | None:
    try:
        record = parse_json(line, path)
    except UsageError:
        return None
    step = record.get("step") if isinstance(record, dict) else None
    return record if isinstance(step, int) and 0 <= step < _STEPS else None


def read_runs(folders: Sequence[Path]) -> dict[str, list[dict[str, Any]]]:
    """Read the logs of runs, under the names of their folders, or their whole paths where two have the same name.

    Raises:
        MissingFileError: a folder has no log.
        UsageError: a log is damaged or empty, or a folder is named twice.
    """
    runs = {}
    for folder, name in zip(folders, _names(folders), strict=True):
        path = RunFolder(folder).log
        if not path.is_file():
            raise MissingFileError(f"{path}: no such file, wanted the folder of a training run")
        records = read_log(path)
        if not records:
            raise UsageError(f"{path}: no record yet, wanted a run that has logged a step")
        runs[name] = records
    return runs


def _line(record: dict[str, Any]) -> str:
    return json.dumps(_plain(record)) + "\n"


def _plain(value: Any) -> Any:
    """Replace what JSON has no word for: NaN and infinity."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(record: dict[str, Any], prefix: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            found |= _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            found[prefix + name] = value
    return found


def _board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError("tensorboard is not installed: pip install 'crosspol[train]', or --no-tensorboard") from error
    return SummaryWriter(str(folder), purge_step=step + 1)


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the last part of each path, or all of it where two runs share the last."""
    last = [folder.resolve().name for folder in folders]
    if len(set(last)) == len(last):
        return last
    whole = [str(folder) for folder in folders]
    if len(set(whole)) < len(whole):
        raise UsageError(f"the same run twice: {', '.join(whole)}; wanted each once")
    return whole
