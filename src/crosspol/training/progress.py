"""What a run tells: its means by rig, how long steps take, which samples could not be read, and lines for people."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from crosspol.training.step import Run, gather
from crosspol.training.stream import Part


class UnreadableSamples:
    """Samples of the training split that could not be read and were stood in for; each is named once."""

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._named: set[str] = set()

    def add(self, parts: Sequence[Part]) -> None:
        """Note what this process's parts of a batch stand in for."""
        self._waiting += [line for part in parts for line in part.skipped]

    def read(self, run: Run) -> dict[str, Any]:
        """Return what no record has named yet, over all processes, and how many there are so far."""
        new = sorted(set(gather(run.fabric, self._waiting)) - self._named)
        self._waiting.clear()
        self._named.update(new)
        return {"unreadable": new, "unreadable_so_far": len(self._named)} if new else {}


class RigMeans:
    """Means over the batches of each rig since they were last read: a record's own batch is of one rig only."""

    _NAMES = ("loss", "epe", "glass_loss")

    def __init__(self) -> None:
        self._values: dict[str, dict[str, list[float]]] = {}

    def add(self, record: Mapping[str, Any]) -> None:
        """Count a step's record; what is not known or not finite is left out, and so are steps that were skipped.

        The loss of a batch without ground truth is 0, and that of one with a loss that is not finite only a part.
        """
        if "skipped" in record:
            return
        of_rig = self._values.setdefault(record["rig"], {})
        for name in self._NAMES:
            value = record.get(name)
            if value is not None and math.isfinite(value):
                of_rig.setdefault(name, []).append(value)

    def read(self) -> dict[str, dict[str, float]]:
        """Return the means by rig, then by name, and begin anew."""
        means = {
            rig: {name: sum(values) / len(values) for name, values in named.items()}
            for rig, named in self._values.items()
        }
        self._values.clear()
        return means


class Clock:
    """How long steps take, and how much of that is waiting for samples, since it was last read.

    What else a run does between steps, such as validating, does not count.
    """

    def __init__(self) -> None:
        self._restart()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time within as waiting."""
        started = time.monotonic()
        yield
        self._waited += time.monotonic() - started

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time within."""
        started = time.monotonic()
        yield
        self._since += time.monotonic() - started

    def step(self, samples: int) -> None:
        """Count a step on so many samples, over all processes."""
        self._steps += 1
        self._samples += samples

    def read(self) -> dict[str, float]:
        """Return the means since it was last read, and begin anew."""
        elapsed = max(time.monotonic() - self._since, 1e-9)
        read = {
            "seconds_per_step": elapsed / max(self._steps, 1),
            "samples_per_second": self._samples / elapsed,
            "waiting_share": self._waited / elapsed,
        }
        self._restart()
        return read

    def _restart(self) -> None:
        self._steps, self._samples, self._waited, self._since = 0, 0, 0.0, time.monotonic()


def describe_step(record: Mapping[str, Any]) -> str:
    """Return what the progress bar says of a step."""
    error = "-" if record["epe"] is None else f"{record['epe']:.2f} px"
    return f"loss {record['loss']:.2f}, EPE {error}, alpha {record['alpha']:.1e}, cap {record['alpha_cap']:.2f}"


def say(line: str) -> None:
    """Print a line where the progress bar is."""
    print(line, file=sys.stderr, flush=True)


def stay_silent(line: str) -> None:
    """Say nothing: of several processes one speaks."""
