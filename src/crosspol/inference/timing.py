"""How long a piece of work takes on this machine, and how much memory."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Timing", "Work", "measured", "peak_resident", "settle"]

Work = Callable[[], Any]

# Seconds: between two looks, and in all. Quiet is a process that computes in less than this share of a pause.
_PAUSE, _LONGEST_WAIT, _QUIET = 0.01, 1.0, 0.1


@dataclass
class Timing:
    """What rounds of one piece of work took.

    wall: seconds that passed, one entry a round. processor: seconds that this process computed meanwhile, in all its
    threads: on a machine where others compute too, less than the threads could have had.
    """

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Median of the time that passed."""
        return statistics.median(self.wall)

    @property
    def processor_seconds(self) -> float:
        """Median of the time that was computed."""
        return statistics.median(self.processor)

    @property
    def spread(self) -> tuple[float, float]:
        """The fastest and the slowest round, seconds."""
        return min(self.wall), max(self.wall)


def measured(work: Work, timing: Timing) -> None:
    """Do a piece of work once and add what it took.

    It begins when what ran before has come to rest (`settle`).
    """
    settle()
    begin, computed = time.perf_counter(), time.process_time()
    work()
    timing.wall.append(time.perf_counter() - begin)
    timing.processor.append(time.process_time() - computed)


def settle() -> None:
    """Wait until nothing in this process computes any more, a second at most.

    Threads of an engine, such as OpenMP's, may go on waiting busily when their work is done. What is measured next
    would share the processor with them.
    """
    until = time.monotonic() + _LONGEST_WAIT
    computed = time.process_time()
    while time.monotonic() < until:
        time.sleep(_PAUSE)
        before, computed = computed, time.process_time()
        if computed - before < _QUIET * _PAUSE:
            return


def peak_resident(work: Work) -> int:
    """Return how many bytes of memory the process held at most during a piece of work, above what it held before.

    Counts every engine's memory, unlike a framework's own books. On Linux the mark is set back first; elsewhere only
    what goes beyond the process's peak so far is seen.
    """
    marks = _Marks()
    before = marks.resident()
    work()
    return max(marks.peak() - before, 0)


class _Marks:
    """What the system says about this process's memory, bytes."""

    def __init__(self) -> None:
        self._status = Path("/proc/self/status")
        try:
            # 5: set the peak back to what is held now.
            Path("/proc/self/clear_refs").write_text("5")
            self._told = "VmHWM" in self._status.read_text()
        except OSError:
            self._told = False

    def resident(self) -> int:
        return self._kib("VmRSS") if self._told else self.peak()

    def peak(self) -> int:
        if self._told:
            return self._kib("VmHWM")
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most

    def _kib(self, name: str) -> int:
        line = next(line for line in self._status.read_text().splitlines() if line.startswith(f"{name}:"))
        return 1024 * int(line.split()[1])
